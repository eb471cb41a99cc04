"""The tool that tells why something was refused: which rule, what its limit was, how far beyond, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Self

import msgspec
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from core.types.codes import ReasonCode, Refusal, RefusalError, refuse
from core.types.views import RiskCheckView
from tools.account_tools import AccountOnlyInput
from tools.cures import CURES
from tools.holdings_tools import RiskCheckCells, check_cells
from tools.market_tools import EVERYONE
from tools.ports import RefusalRow, StoredResult
from tools.registry import DataScope, Source, ToolContext, ToolDefinition
from tools.untrusted import UntrustedText
from tools.values import ToolOutput, WholeText, parse_word_input, utc_text

EXPLAIN_TIMEOUT_MS = 10_000
CHECKS_SHOWN_LIMIT = 60


def _known_code(text: str) -> str:
    if text not in ReasonCode.__members__:
        raise ValueError("is no reason code; it looks like RISK_POSITION_EXCEEDS_MAX")
    return text


class ExplainRejectionInput(AccountOnlyInput):
    reference: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=64,
            pattern=r"^[\x21-\x7e]+$",
            description="Id of an order, a request, a suggestion or a refused call, or a refusal's journal sequence; "
            "leave it out for the account's newest refusal.",
        ),
    ] = None
    code: Annotated[
        str | None,
        BeforeValidator(parse_word_input),
        AfterValidator(lambda text: None if text is None else _known_code(text)),
        Field(max_length=64, description="Instead of a reference: a reason code, to know what it means."),
    ] = None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.reference is not None and self.code is not None:
            raise ValueError("give reference or code, not both")
        return self


class ExplainRejectionOutput(ToolOutput):
    """kind says what the reference is of: order, amendment, approval, suggestion, call or venue, code for a bare code,
    none where nothing was refused."""

    account_id: str
    kind: str
    reference: str | None
    refused: bool
    code: str | None
    message: UntrustedText | None
    limit: str | None
    actual: str | None
    unit: str | None
    meaning: str | None
    cure: str | None
    symbol: str | None
    decided_at: str | None
    rules_version: WholeText | None
    checks: Annotated[list[RiskCheckCells], Field(description="What risk checked, what failed first.")]


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    reference: str | None = None
    refusal: Refusal | None = None
    symbol: str | None = None
    decided_ns: int | None = None
    rules_version: int | None = None
    checks: Sequence[RiskCheckView] = ()
    message: str | None = None


async def _explain_rejection(context: ToolContext, arguments: ExplainRejectionInput) -> ExplainRejectionOutput:
    if arguments.code is not None:
        code = ReasonCode(arguments.code)
        return _output(context, _Found(kind="code", refusal=Refusal(code, CURES[code].meaning)))
    row = await context.ports.history.refusal(context.account_id, arguments.reference)
    if row is not None:
        return _output(context, await _of_row(context, row))
    if arguments.reference is None:
        return _output(context, _Found(kind="none", message="Nothing was refused in this account."))
    return _output(context, await _elsewhere(context, arguments.reference))


async def _elsewhere(context: ToolContext, reference: str) -> _Found:
    """What isn't among the refusals in SQL: a suggestion, a refused call, or what the engine's journal alone knows.

    Raises RefusalError(RESOURCE_NOT_FOUND).
    """
    suggestion = await context.ports.suggestions.get((context.account_id,), reference.upper())
    if suggestion is not None:
        code = suggestion.refusal_code
        known = code if code in ReasonCode.__members__ else None
        return _Found(
            kind="suggestion",
            reference=suggestion.suggestion_id,
            refusal=Refusal(ReasonCode(known), CURES[ReasonCode(known)].meaning) if known else None,
            symbol=suggestion.order_fields().get("symbol"),
            decided_ns=suggestion.decided_at_ns,
            message=f"The suggestion is {suggestion.status_at(context.ports.clock.now_ns()).value}.",
        )
    stored = await context.ports.results.get((context.account_id,), reference)
    if stored is not None and _is_theirs(context, stored):
        refusal = _refusal_of(stored)
        return _Found(
            kind="call",
            reference=stored.call_id,
            refusal=refusal,
            decided_ns=stored.created_at_ns,
            message=None if refusal else f"The call of {stored.tool} was not refused.",
        )
    return await _of_engine(context, reference)


def _is_theirs(context: ToolContext, stored: StoredResult) -> bool:
    """A call without an account is its caller's own."""
    return stored.account_id == context.account_id or stored.user_id == context.principal.user_id


class _StoredRefusal(msgspec.Struct):
    refusal: Refusal | None = None


def _refusal_of(stored: StoredResult) -> Refusal | None:
    try:
        return msgspec.json.decode(stored.canonical, type=_StoredRefusal).refusal
    except msgspec.MsgspecError:
        return None


async def _of_engine(context: ToolContext, reference: str) -> _Found:
    unknown = refuse(
        ReasonCode.RESOURCE_NOT_FOUND,
        f"Nothing is known under {reference} in account {context.account_id}. Check the id.",
        actual=reference,
        unit="reference",
    )
    try:
        view = await context.ports.engine.explain_risk(reference)
    except RefusalError as error:
        raise (unknown if error.refusal.code is ReasonCode.ORDER_UNKNOWN else error) from None
    if view.account_id != context.account_id:
        raise unknown
    return _Found(
        kind="order",
        reference=view.client_order_id,
        refusal=view.refusal,
        symbol=view.symbol,
        decided_ns=view.decided_ns,
        rules_version=view.rules_version,
        checks=view.checks,
        message=None if view.refusal else "Risk let this order through.",
    )


async def _of_row(context: ToolContext, row: RefusalRow) -> _Found:
    symbol = row.symbol or None
    if symbol is None and (made := await context.ports.suggestions.get((context.account_id,), row.reference)):
        # What was approved is told by its suggestion.
        symbol = made.order_fields().get("symbol")
    return _Found(
        kind=row.kind,
        reference=row.reference,
        refusal=row.refusal,
        symbol=symbol,
        decided_ns=row.decided_ns,
        rules_version=row.rules_version,
        checks=row.checks,
    )


def _output(context: ToolContext, found: _Found) -> ExplainRejectionOutput:
    refusal = found.refusal
    cure = None if refusal is None else CURES[refusal.code]
    checks = sorted(found.checks, key=lambda check: check.passed)[:CHECKS_SHOWN_LIMIT]
    return ExplainRejectionOutput(
        as_of_ns=context.ports.clock.now_ns(),
        account_id=context.account_id,
        kind=found.kind,
        reference=found.reference,
        refused=refusal is not None and found.kind != "code",
        code=None if refusal is None else refusal.code.value,
        message=found.message if refusal is None else refusal.message,
        limit=None if refusal is None else refusal.limit,
        actual=None if refusal is None else refusal.actual,
        unit=None if refusal is None else refusal.unit,
        meaning=None if cure is None else cure.meaning,
        cure=None if cure is None else cure.cure,
        symbol=found.symbol,
        decided_at=None if found.decided_ns is None else utc_text(found.decided_ns),
        rules_version=found.rules_version,
        checks=[check_cells(check) for check in checks],
    )


REJECTION_TOOLS = (
    ToolDefinition(
        name="explain_rejection",
        version="1",
        kind="read",
        description=(
            "Why something was refused: the rule's code, its limit, what was measured, what the code means and what "
            "to do about it, with every risk check. By the id of an order, a request, a suggestion or a refused call "
            "(reference), by a code alone, or without either the account's newest refusal. Use it for `why was my "
            "order rejected`. Not for how near limits are now (get_risk_limits), nor for an order that hasn't been "
            "asked for (what_if)."
        ),
        input_model=ExplainRejectionInput,
        output_model=ExplainRejectionOutput,
        run=_explain_rejection,
        roles=EVERYONE,
        scope=DataScope.ACCOUNT,
        sources=(Source.SQL_REFUSALS, Source.SQL_SUGGESTIONS, Source.SQL_RESULTS, Source.ENGINE_JOURNAL),
        timeout_ms=EXPLAIN_TIMEOUT_MS,
        cost=5,
        example={"code": "RISK_POSITION_EXCEEDS_MAX"},
    ),
)
