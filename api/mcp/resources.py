"""Instruments and reviews as MCP resources. Reading one is a tool call: the same checks, the same record."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from mcp_types import Resource, ResourceTemplate

from core.types.codes import ReasonCode, refuse
from tools.contracts import Principal

MEDIA_TYPE = "application/json"
URI_LIMIT_CHARS = 512
REVIEWS_SHOWN = 10
INSTRUMENTS_TOOL = "list_instruments"
REVIEWS_TOOL = "search_reviews"
_INSTRUMENTS = "veloz://instruments"
_ONE_INSTRUMENT = re.compile(r"veloz://instruments/([A-Za-z0-9]{1,32})")
_REVIEWS = re.compile(r"veloz://accounts/([A-Za-z0-9._-]{1,64})/reviews/([^/?#]{1,300})")


@dataclass(frozen=True, slots=True)
class Reading:
    """The tool call that a resource is, and what of its data is meant."""

    tool: str
    arguments: dict[str, Any]
    pick: Callable[[dict[str, Any]], Any]


TEMPLATES = (
    ResourceTemplate(
        name="instrument",
        uri_template="veloz://instruments/{symbol}",
        description="One instrument: venue, assets, tick, lot and smallest order.",
        mime_type=MEDIA_TYPE,
    ),
    ResourceTemplate(
        name="reviews",
        uri_template="veloz://accounts/{account_id}/reviews/{query}",
        description="Reviews of the account's closed positions that fit the query, in plain words.",
        mime_type=MEDIA_TYPE,
    ),
)


def listed(principal: Principal, tools: frozenset[str]) -> list[Resource]:
    """Those whose tool the principal may call, in the accounts that it has."""
    resources = []
    if INSTRUMENTS_TOOL in tools:
        resources.append(
            Resource(
                name="instruments",
                uri=_INSTRUMENTS,
                description="Every instrument that the engine trades.",
                mime_type=MEDIA_TYPE,
            )
        )
    if REVIEWS_TOOL in tools:
        resources += [
            Resource(
                name=f"reviews of {account_id}",
                uri=f"veloz://accounts/{account_id}/reviews/loss",
                description=f"Reviews of losing trades of {account_id}.",
                mime_type=MEDIA_TYPE,
            )
            for account_id in principal.account_ids
        ]
    return resources


def reading_of(uri: str) -> Reading:
    """Raises RefusalError(RESOURCE_NOT_FOUND)."""
    if len(uri) <= URI_LIMIT_CHARS:
        if uri == _INSTRUMENTS:
            return Reading(INSTRUMENTS_TOOL, {}, lambda data: data)
        if (found := _ONE_INSTRUMENT.fullmatch(uri)) is not None:
            symbol = found[1].upper()
            return Reading(INSTRUMENTS_TOOL, {}, lambda data: _instrument(data, symbol))
        if (found := _REVIEWS.fullmatch(uri)) is not None:
            arguments = {"account_id": found[1], "query": unquote(found[2]), "limit": REVIEWS_SHOWN}
            return Reading(REVIEWS_TOOL, arguments, lambda data: data)
    raise refuse(ReasonCode.RESOURCE_NOT_FOUND, "There is no such resource. List the resources and their templates.")


def _instrument(data: dict[str, Any], symbol: str) -> dict[str, Any]:
    for instrument in data["instruments"]:
        if instrument["symbol"] == symbol:
            return dict(instrument)
    raise refuse(
        ReasonCode.MARKET_INSTRUMENT_UNKNOWN, f"There is no instrument {symbol} here.", actual=symbol, unit="symbol"
    )
