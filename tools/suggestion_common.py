"""What every suggestion tool does: look around, have the engine check the proposal, and add it as pending (I1)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext
from typing import Annotated, Any

from pydantic import Field

from core.authority.proposal import proposal_bytes, proposal_digest
from core.authority.proposal_kinds import Proposed
from core.text.redaction import redact_text
from core.types.clock import NS_PER_S
from core.types.codes import ReasonCode, RefusalError, refuse
from core.types.money import decimal_text
from core.types.orders import Side
from core.types.views import (
    EngineStatusView,
    ExecutionEstimateView,
    InstrumentView,
    RiskStateView,
    TickerView,
)
from tools.account_tools import AccountOnlyInput
from tools.market_tools import EstimateCells
from tools.registry import Source, ToolContext
from tools.suggestion_writer import checks_cells
from tools.suggestions import Suggestion, SuggestionStatus
from tools.values import (
    CALCULATION_DIGITS,
    Cells,
    DecimalText,
    ToolOutput,
    WholeInput,
    WholeText,
    mid_price,
    utc_text,
)

SUGGEST_TIMEOUT_MS = 8_000
SUGGEST_COST = 4
SUGGEST_SOURCES = (Source.ENGINE_MARKET, Source.ENGINE_RISK, Source.SQL_SUGGESTIONS)
RATIONALE_LIMIT_CHARS = 1_000
VALID_FOR_LIMIT_S = 86_400
FIRST_VERSION = 1


class SuggestionInput(AccountOnlyInput):
    rationale: Annotated[
        str, Field(max_length=RATIONALE_LIMIT_CHARS, description="Why, in a sentence or two, for the approver.")
    ] = ""
    valid_for_s: Annotated[
        WholeInput | None, Field(ge=1, le=VALID_FOR_LIMIT_S, description="Seconds until the suggestion expires.")
    ] = None


class CheckCells(Cells):
    name: str
    passed: bool
    limit: str | None
    actual: str | None
    unit: str | None


class MarketCells(Cells):
    bid_price: DecimalText
    ask_price: DecimalText
    mid_price: DecimalText
    as_of_ns: WholeText


class SuggestionOutput(ToolOutput):
    """proposal holds exactly the digested fields; checks are of risk's first run, empty where nothing is sent."""

    suggestion_id: str
    version: WholeText
    status: str
    approvals_due: WholeText | None
    digest: str
    expires_at: str
    valid_for_s: WholeText
    proposal: dict[str, str]
    checks: list[CheckCells]
    notes: list[str]


class MarketSuggestionOutput(SuggestionOutput):
    """Of a suggestion that is about one instrument."""

    base_asset: str
    quote_asset: str
    market: MarketCells


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a proposal is made on."""

    status: EngineStatusView
    instrument: InstrumentView
    ticker: TickerView
    risk: RiskStateView
    mid: Decimal

    def market_cells(self) -> MarketCells:
        ticker = self.ticker
        return MarketCells(
            bid_price=ticker.bid_price, ask_price=ticker.ask_price, mid_price=self.mid, as_of_ns=ticker.as_of_ns
        )

    def output_cells(self) -> dict[str, Any]:
        return {
            "base_asset": self.instrument.base_asset,
            "quote_asset": self.instrument.quote_asset,
            "market": self.market_cells(),
        }

    def proposal_fields(self) -> dict[str, str]:
        """What binds a proposal to the instrument and to the market that was shown."""
        return {
            "venue": self.instrument.venue,
            "symbol": self.instrument.symbol,
            "instrument_version": str(self.instrument.version),
            "reference_price": decimal_text(self.mid),
            "max_deviation_bps": _max_deviation_bps(self.risk),
        }


async def look_around(context: ToolContext, symbol: str) -> Surroundings:
    engine = context.ports.engine
    instrument = await context.ports.instruments.find(symbol)
    status = await engine.status()
    ticker = await engine.ticker(instrument.symbol)
    risk = await engine.risk_state(context.account_id)
    return Surroundings(status, instrument, ticker, risk, mid_price(ticker.bid_price, ticker.ask_price))


def common_fields(context: ToolContext, status: EngineStatusView, arguments: SuggestionInput) -> dict[str, str]:
    """The fields that proposals of all kinds have, but for the schema."""
    lifetime_s = arguments.valid_for_s or context.ports.suggestion_ttl_s
    return {
        "suggestion_id": context.ports.ids.new_ulid(),
        "version": str(FIRST_VERSION),
        "environment": status.environment,
        "mode": status.mode,
        "engine_id": status.engine_id,
        "account_id": context.account_id,
        "asker_id": context.principal.person_id,
        "run_id": context.run_id or "",
        "trace_id": context.trace.trace_id,
        "created_at_ns": str(status.now_ns),
        "expires_at_ns": str(status.now_ns + lifetime_s * NS_PER_S),
    }


async def propose(
    context: ToolContext,
    proposal: Proposed,
    arguments: SuggestionInput,
    *,
    around: Surroundings | None,
    what_if: Cells,
    notes: list[str],
) -> dict[str, Any]:
    """Have the engine check the proposal, and store it as pending with what was shown. The cells of SuggestionOutput,
    and of MarketSuggestionOutput where there is a market.

    Raises RefusalError with what the engine would refuse now, recorded; there is no suggestion then.
    """
    canonical = proposal_bytes(proposal)
    view = await context.ports.engine.check_proposal(canonical)
    created_at_ns = int(proposal.created_at_ns)
    suggestion = Suggestion(
        suggestion_id=proposal.suggestion_id,
        version=FIRST_VERSION,
        account_id=context.account_id,
        asker_id=context.principal.person_id,
        run_id=proposal.run_id,
        trace_id=context.trace.trace_id,
        status=SuggestionStatus.PENDING,
        proposal=canonical,
        digest_hex=proposal_digest(canonical),
        # What was shown at that time.
        pre_trade={
            "checks": checks_cells(view),
            "market": None if around is None else around.market_cells().model_dump(mode="json"),
            "what_if": what_if.model_dump(mode="json"),
            "notes": list(notes),
            "rules_version": None if around is None else str(around.risk.rules_version),
            "as_of_ns": str(view.as_of_ns),
        },
        rationale=redact_text(arguments.rationale).text,
        expires_at_ns=proposal.expires_ns,
        created_at_ns=created_at_ns,
        approvals_due=view.approvals_due,
    )
    if view.refusal is not None:
        await context.ports.suggestion_writer.record_refused_check(context.principal, suggestion, view, view.refusal)
        raise RefusalError(view.refusal)
    await context.ports.suggestion_writer.create(context.principal, suggestion)
    return {
        "as_of_ns": view.as_of_ns,
        "suggestion_id": suggestion.suggestion_id,
        "version": suggestion.version,
        "status": suggestion.status.value,
        "approvals_due": view.approvals_due,
        "digest": suggestion.digest_hex,
        "expires_at": utc_text(suggestion.expires_at_ns),
        "valid_for_s": (suggestion.expires_at_ns - created_at_ns) // NS_PER_S,
        "proposal": suggestion.order_fields(),
        "checks": [CheckCells(**cells) for cells in checks_cells(view)],
        "what_if": what_if,
        "notes": notes,
        **({} if around is None else around.output_cells()),
    }


def on_step(code: ReasonCode, what: str, value: Decimal, step: Decimal, step_name: str) -> None:
    """Raises RefusalError when value isn't a multiple of step."""
    with localcontext() as exact:
        exact.prec = CALCULATION_DIGITS
        if value % step == 0:
            return
    raise refuse(
        code,
        f"The {what} isn't a multiple of the {step_name} {decimal_text(step)}. It isn't rounded for you: choose one.",
        limit=decimal_text(step),
        actual=decimal_text(value),
    )


def on_tick(around: Surroundings, **prices: Decimal | None) -> None:
    """Raises RefusalError when one of the prices isn't a multiple of the tick size."""
    for name, price in prices.items():
        if price is not None:
            on_step(ReasonCode.ORDER_TICK_SIZE_VIOLATED, name, price, around.instrument.tick_size, "tick size")


def on_lot(around: Surroundings, quantity: Decimal) -> None:
    """Raises RefusalError when the quantity isn't a multiple of the lot size."""
    on_step(ReasonCode.ORDER_LOT_SIZE_VIOLATED, "quantity", quantity, around.instrument.lot_size, "lot size")


def passive(price: Decimal, tick_size: Decimal, side: Side) -> Decimal:
    """The tick at or beyond price on the side that doesn't take."""
    rounding = ROUND_FLOOR if side is Side.BUY else ROUND_CEILING
    with localcontext() as exact:
        exact.prec = CALCULATION_DIGITS
        return (price / tick_size).to_integral_value(rounding=rounding) * tick_size


def crosses(side: Side, price: Decimal, ticker: TickerView) -> bool:
    """Whether a limit order at this price would take from the book at once."""
    return price >= ticker.ask_price if side is Side.BUY else price <= ticker.bid_price


async def swept(context: ToolContext, around: Surroundings, side: Side, quantity: Decimal) -> ExecutionEstimateView:
    """What a market order of that size would meet now. Raises RefusalError when the book can't fill it."""
    estimate = await context.ports.engine.estimate_execution(around.instrument.symbol, side, quantity)
    if not estimate.complete:
        raise refuse(
            ReasonCode.MARKET_DEPTH_INSUFFICIENT,
            "The book can't fill this quantity now. Lower it, or use a limit order.",
            limit=decimal_text(estimate.filled_quantity),
            actual=decimal_text(quantity),
            unit=around.instrument.base_asset,
        )
    return estimate


async def held_quantity(context: ToolContext, symbol: str) -> Decimal:
    """The account's position in an instrument, negative for a short one."""
    positions = await context.ports.engine.positions(context.account_id)
    return sum((position.quantity for position in positions if position.symbol == symbol), Decimal(0))


def text_of(value: Decimal | None) -> str:
    """As it stands in a proposal: empty for none."""
    return "" if value is None else decimal_text(value)


def flag(value: bool) -> str:
    return "true" if value else "false"


def estimate_cells(view: ExecutionEstimateView) -> EstimateCells:
    return EstimateCells(
        side=view.side.value,
        quantity=view.quantity,
        filled_quantity=view.filled_quantity,
        complete=view.complete,
        average_price=view.average_price,
        worst_price=view.worst_price,
        mid_price=view.mid_price,
        slippage_bps=view.slippage_bps,
        cost_quote=view.cost_quote,
        notional_quote=view.notional_quote,
        levels=view.levels,
    )


def _max_deviation_bps(risk: RiskStateView) -> str:
    for check in risk.limits:
        if check.name == ReasonCode.RISK_PRICE_DRIFT_EXCEEDS_MAX and check.limit is not None:
            return decimal_text(Decimal(check.limit))
    # No limit ever defaults to none (I11).
    raise refuse(
        ReasonCode.SERVICE_INTERNAL_ERROR,
        "The engine names no limit for price drift, so no order can be proposed. Check the engine's risk.toml.",
        unit=ReasonCode.RISK_PRICE_DRIFT_EXCEEDS_MAX.value,
    )
