"""The risk limits of one engine, read from risk.toml. Every limit is required: none defaults to no limit (I11)."""

from __future__ import annotations

import hashlib
import tomllib
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from core.types.events import RiskLimits
from core.types.money import decimal_text

RISK_SCHEMA = "veloz.risk-limits/1"
MONEY_KEYS = ("max_notional_per_order_quote",)
MAX_DECIMAL_LENGTH = 40
# Above these a value can't be meant: a collar of 100 % or a book of a minute is no protection.
WHOLE_NUMBER_MAXIMA = {"price_collar_bps": 10_000, "max_deviation_bps": 10_000, "book_stale_after_ms": 60_000}


class RiskLimitsError(Exception):
    """Limits that don't start: the message names the file, the key and the cure."""


def parse_risk_limits(text: str, file_name: str) -> RiskLimits:
    """Read risk.toml: `schema`, then one key a limit, money as text (`"250000"`), the rest as whole numbers.

    Raises RiskLimitsError.
    """
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RiskLimitsError(f"{file_name}: not valid TOML: {error}") from error
    known = {"schema", *MONEY_KEYS, *WHOLE_NUMBER_MAXIMA}
    for key in values:
        if key not in known:
            raise RiskLimitsError(f"{file_name}: key '{key}': no such limit; remove it or correct its name")
    for key in sorted(known):
        if key not in values:
            raise RiskLimitsError(f"{file_name}: key '{key}' is missing; every limit must be set, none has a default")
    if values["schema"] != RISK_SCHEMA:
        raise RiskLimitsError(
            f"{file_name}: key 'schema' is {values['schema']!r}, this engine reads {RISK_SCHEMA!r}; convert the file"
        )
    return RiskLimits(
        max_notional_per_order_quote=_money(file_name, "max_notional_per_order_quote", values),
        price_collar_bps=_whole(file_name, "price_collar_bps", values),
        max_deviation_bps=_whole(file_name, "max_deviation_bps", values),
        book_stale_after_ms=_whole(file_name, "book_stale_after_ms", values),
    )


def limits_digest(limits: RiskLimits) -> str:
    """Hex SHA-256 that tells two sets of limits apart."""
    canonical = msgspec.json.encode(limits, order="deterministic")
    return hashlib.sha256(b"veloz/risk-limits/v1\x00" + canonical).hexdigest()


def _money(file_name: str, key: str, values: dict[str, Any]) -> str:
    value = values[key]
    if not isinstance(value, str):
        raise RiskLimitsError(
            f"{file_name}: key '{key}' must be a decimal in quotes (like \"250000\"), is {value!r}; "
            "bare numbers lose digits"
        )
    try:
        amount = Decimal(value)
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or amount <= 0 or len(value) > MAX_DECIMAL_LENGTH:
        raise RiskLimitsError(f"{file_name}: key '{key}' must be a decimal above zero, is {value!r}")
    return decimal_text(amount)


def _whole(file_name: str, key: str, values: dict[str, Any]) -> int:
    value = values[key]
    maximum = WHOLE_NUMBER_MAXIMA[key]
    if not isinstance(value, int) or isinstance(value, bool):
        raise RiskLimitsError(f"{file_name}: key '{key}' must be a whole number from 1 to {maximum}, is {value!r}")
    if not 1 <= value <= maximum:
        raise RiskLimitsError(f"{file_name}: key '{key}' must be from 1 to {maximum}, is {value}")
    return value
