"""suggest_order: a proposal that a human decides on. It can only add a pending suggestion (I1)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext
from enum import StrEnum
from typing import Annotated, Any, Self

import msgspec
from pydantic import BeforeValidator, Field, model_validator

from core.authority.proposal import PROPOSAL_SCHEMA, Proposal, proposal_bytes, proposal_digest
from core.text.redaction import redact_text
from core.types.clock import NS_PER_S
from core.types.codes import ReasonCode, RefusalError, refuse
from core.types.money import decimal_text
from core.types.orders import OrderType, Side, TimeInForce
from core.types.views import (
    EngineStatusView,
    ExecutionEstimateView,
    InstrumentView,
    PreTradeView,
    RiskStateView,
    TickerView,
)
from tools.account_tools import AccountOnlyInput
from tools.contracts import Role
from tools.market_tools import EstimateCells, QuantityInput, SideInput, SymbolInput
from tools.registry import DataScope, Source, ToolContext, ToolDefinition
from tools.suggestion_writer import checks_cells
from tools.suggestions import Suggestion, SuggestionStatus
from tools.values import (
    BPS_PER_UNIT,
    CALCULATION_DIGITS,
    Cells,
    DecimalInput,
    DecimalText,
    ToolOutput,
    WholeInput,
    WholeText,
    mid_price,
    parse_word_input,
    utc_text,
)

SUGGEST_TIMEOUT_MS = 8_000
RATIONALE_LIMIT_CHARS = 1_000
OFFSET_LIMIT_BPS = 1_000
VALID_FOR_LIMIT_S = 86_400
FIRST_VERSION = 1


class PriceAnchor(StrEnum):
    BID = "BID"
    ASK = "ASK"
    MID = "MID"


class SuggestOrderInput(AccountOnlyInput):
    symbol: SymbolInput
    side: SideInput
    quantity: QuantityInput
    order_type: Annotated[OrderType, BeforeValidator(parse_word_input)] = OrderType.LIMIT
    price: Annotated[
        DecimalInput | None, Field(gt=0, description="Limit price, a multiple of the tick size. Or give price_anchor.")
    ] = None
    price_anchor: Annotated[
        PriceAnchor | None,
        BeforeValidator(parse_word_input),
        Field(description="Derive the limit price from the best bid, the best ask or the mid, plus offset_bps."),
    ] = None
    offset_bps: Annotated[
        DecimalInput,
        Field(
            ge=-OFFSET_LIMIT_BPS,
            le=OFFSET_LIMIT_BPS,
            description="With price_anchor only: positive moves the price up, negative down, in basis points.",
        ),
    ] = Decimal(0)
    time_in_force: Annotated[
        TimeInForce | None,
        BeforeValidator(parse_word_input),
        Field(description="GTC (default for LIMIT), IOC (default for MARKET) or FOK."),
    ] = None
    post_only: Annotated[bool, Field(description="LIMIT GTC only: the venue refuses it if it would take.")] = False
    rationale: Annotated[
        str, Field(max_length=RATIONALE_LIMIT_CHARS, description="Why, in a sentence or two, for the approver.")
    ] = ""
    valid_for_s: Annotated[
        WholeInput | None, Field(ge=1, le=VALID_FOR_LIMIT_S, description="Seconds until the suggestion expires.")
    ] = None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if self.order_type is OrderType.MARKET:
            if self.price is not None or self.price_anchor is not None:
                raise ValueError("a MARKET order has no price: leave out price and price_anchor")
            if self.time_in_force is TimeInForce.GTC:
                raise ValueError("a MARKET order can't rest: time_in_force is IOC or FOK")
            if self.post_only:
                raise ValueError("a MARKET order can't be post_only")
        elif (self.price is None) == (self.price_anchor is None):
            raise ValueError("a LIMIT order needs exactly one of price and price_anchor")
        if self.price_anchor is None and self.offset_bps:
            raise ValueError("offset_bps goes with price_anchor only")
        if self.post_only and self.time_in_force not in {None, TimeInForce.GTC}:
            raise ValueError("a post_only order is GTC")
        return self


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


class WhatIfCells(Cells):
    """crosses: the order would take from the book at once; estimate is then the sweep of its whole quantity."""

    crosses: bool
    estimate: EstimateCells | None
    position_before: DecimalText
    position_after: DecimalText
    notional_quote: DecimalText


class SuggestOrderOutput(ToolOutput):
    """proposal holds exactly the digested fields."""

    suggestion_id: str
    version: WholeText
    status: str
    approvals_due: WholeText | None
    digest: str
    expires_at: str
    valid_for_s: WholeText
    proposal: dict[str, str]
    base_asset: str
    quote_asset: str
    market: MarketCells
    checks: list[CheckCells]
    what_if: WhatIfCells
    notes: list[str]


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What the proposal is made on."""

    status: EngineStatusView
    instrument: InstrumentView
    ticker: TickerView
    risk: RiskStateView
    mid: Decimal


@dataclass(frozen=True, slots=True)
class _Terms:
    """The order's own terms, after its price was settled."""

    price: Decimal | None
    crosses: bool
    estimate: ExecutionEstimateView | None
    notional_quote: Decimal
    notes: list[str]


async def _suggest_order(context: ToolContext, arguments: SuggestOrderInput) -> SuggestOrderOutput:
    around = await _surroundings(context, arguments)
    terms = await _terms(context, arguments, around)
    proposal = _proposal(context, arguments, around, terms)
    canonical = proposal_bytes(proposal)
    what_if = await _what_if(context, arguments, around, terms)
    view = await context.ports.engine.check_proposal(canonical)
    pre_trade = _pre_trade(around, terms, what_if, view)
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
        pre_trade=pre_trade,
        rationale=redact_text(arguments.rationale).text,
        expires_at_ns=proposal.expires_ns,
        created_at_ns=around.status.now_ns,
        approvals_due=view.approvals_due,
    )
    if view.refusal is not None:
        await context.ports.suggestion_writer.record_refused_check(context.principal, suggestion, view, view.refusal)
        raise RefusalError(view.refusal)
    await context.ports.suggestion_writer.create(context.principal, suggestion)
    return SuggestOrderOutput(
        as_of_ns=view.as_of_ns,
        suggestion_id=suggestion.suggestion_id,
        version=suggestion.version,
        status=suggestion.status.value,
        approvals_due=suggestion.approvals_due,
        digest=suggestion.digest_hex,
        expires_at=utc_text(suggestion.expires_at_ns),
        valid_for_s=(suggestion.expires_at_ns - suggestion.created_at_ns) // NS_PER_S,
        proposal=suggestion.order_fields(),
        base_asset=around.instrument.base_asset,
        quote_asset=around.instrument.quote_asset,
        market=_market_cells(around),
        checks=[CheckCells(**cells) for cells in checks_cells(view)],
        what_if=what_if,
        notes=terms.notes,
    )


async def _surroundings(context: ToolContext, arguments: SuggestOrderInput) -> _Surroundings:
    engine = context.ports.engine
    instrument = await context.ports.instruments.find(arguments.symbol)
    status = await engine.status()
    ticker = await engine.ticker(instrument.symbol)
    risk = await engine.risk_state(context.account_id)
    return _Surroundings(status, instrument, ticker, risk, mid_price(ticker.bid_price, ticker.ask_price))


async def _terms(context: ToolContext, arguments: SuggestOrderInput, around: _Surroundings) -> _Terms:
    _on_step(ReasonCode.ORDER_LOT_SIZE_VIOLATED, "quantity", arguments.quantity, around.instrument.lot_size, "lot size")
    price, notes = _limit_price(arguments, around)
    crosses = _crosses(arguments.side, price, around.ticker)
    estimate = None
    if crosses:
        estimate = await context.ports.engine.estimate_execution(
            around.instrument.symbol, arguments.side, arguments.quantity
        )
    if arguments.post_only and crosses:
        notes.append(
            "At this price the order would take from the book, and the venue refuses a post-only order that does."
        )
    if price is not None:
        return _Terms(price, crosses, estimate, price * arguments.quantity, notes)
    assert estimate is not None, "a MARKET order always crosses"
    if not estimate.complete:
        raise refuse(
            ReasonCode.MARKET_DEPTH_INSUFFICIENT,
            "The book can't fill this quantity now. Lower it, or use a limit order.",
            limit=decimal_text(estimate.filled_quantity),
            actual=decimal_text(arguments.quantity),
            unit=around.instrument.base_asset,
        )
    return _Terms(None, crosses, estimate, estimate.notional_quote, notes)


def _limit_price(arguments: SuggestOrderInput, around: _Surroundings) -> tuple[Decimal | None, list[str]]:
    """The limit price and what has to be said about it. A given price isn't rounded; a derived one is, passively."""
    if arguments.order_type is OrderType.MARKET:
        return None, []
    tick = around.instrument.tick_size
    if arguments.price is not None:
        _on_step(ReasonCode.ORDER_TICK_SIZE_VIOLATED, "price", arguments.price, tick, "tick size")
        return arguments.price, []
    assert arguments.price_anchor is not None, "validated: a LIMIT order has a price or an anchor"
    base = {
        PriceAnchor.BID: around.ticker.bid_price,
        PriceAnchor.ASK: around.ticker.ask_price,
        PriceAnchor.MID: around.mid,
    }[arguments.price_anchor]
    rounding, direction = (ROUND_FLOOR, "down") if arguments.side is Side.BUY else (ROUND_CEILING, "up")
    with localcontext() as exact:
        exact.prec = CALCULATION_DIGITS
        wanted = base * (BPS_PER_UNIT + arguments.offset_bps) / BPS_PER_UNIT
        price = (wanted / tick).to_integral_value(rounding=rounding) * tick
    anchor = arguments.price_anchor.value.lower()
    note = f"The price was derived from the {anchor} of {decimal_text(base)} with an offset of "
    note += f"{decimal_text(arguments.offset_bps)} bps"
    if price != wanted:
        note += f", and rounded {direction} to a multiple of the tick size {decimal_text(tick)}"
    if price <= 0:
        raise refuse(
            ReasonCode.ORDER_TICK_SIZE_VIOLATED,
            "The derived price is below one tick. Choose another offset.",
            limit=decimal_text(tick),
            actual=decimal_text(price),
            unit=around.instrument.quote_asset,
        )
    return price, [note + "."]


def _on_step(code: ReasonCode, what: str, value: Decimal, step: Decimal, step_name: str) -> None:
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


def _crosses(side: Side, price: Decimal | None, ticker: TickerView) -> bool:
    if price is None:
        return True
    return price >= ticker.ask_price if side is Side.BUY else price <= ticker.bid_price


def _proposal(context: ToolContext, arguments: SuggestOrderInput, around: _Surroundings, terms: _Terms) -> Proposal:
    is_market = arguments.order_type is OrderType.MARKET
    now_ns = around.status.now_ns
    lifetime_s = arguments.valid_for_s or context.ports.suggestion_ttl_s
    return Proposal(
        schema=PROPOSAL_SCHEMA,
        suggestion_id=context.ports.ids.new_ulid(),
        version=str(FIRST_VERSION),
        environment=around.status.environment,
        mode=around.status.mode,
        engine_id=around.status.engine_id,
        account_id=context.account_id,
        venue=around.instrument.venue,
        symbol=around.instrument.symbol,
        instrument_version=str(around.instrument.version),
        side=arguments.side.value,
        order_type=arguments.order_type.value,
        time_in_force=(arguments.time_in_force or (TimeInForce.IOC if is_market else TimeInForce.GTC)).value,
        quantity=decimal_text(arguments.quantity),
        price="" if terms.price is None else decimal_text(terms.price),
        post_only="true" if arguments.post_only else "false",
        reduce_only="false",
        notional_quote=decimal_text(terms.notional_quote),
        reference_price=decimal_text(around.mid),
        max_deviation_bps=_max_deviation_bps(around.risk),
        asker_id=context.principal.person_id,
        run_id=context.run_id or "",
        trace_id=context.trace.trace_id,
        created_at_ns=str(now_ns),
        expires_at_ns=str(now_ns + lifetime_s * NS_PER_S),
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


async def _what_if(
    context: ToolContext, arguments: SuggestOrderInput, around: _Surroundings, terms: _Terms
) -> WhatIfCells:
    positions = await context.ports.engine.positions(context.account_id)
    held = sum((p.quantity for p in positions if p.symbol == around.instrument.symbol), Decimal(0))
    change = arguments.quantity if arguments.side is Side.BUY else -arguments.quantity
    return WhatIfCells(
        crosses=terms.crosses,
        estimate=None if terms.estimate is None else _estimate_cells(terms.estimate),
        position_before=held,
        position_after=held + change,
        notional_quote=terms.notional_quote,
    )


def _estimate_cells(view: ExecutionEstimateView) -> EstimateCells:
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


def _market_cells(around: _Surroundings) -> MarketCells:
    ticker = around.ticker
    return MarketCells(
        bid_price=ticker.bid_price, ask_price=ticker.ask_price, mid_price=around.mid, as_of_ns=ticker.as_of_ns
    )


def _pre_trade(around: _Surroundings, terms: _Terms, what_if: WhatIfCells, view: PreTradeView) -> dict[str, Any]:
    """What is kept with the suggestion: what was shown at that time."""
    return {
        "checks": checks_cells(view),
        "market": _market_cells(around).model_dump(mode="json"),
        "what_if": what_if.model_dump(mode="json"),
        "notes": msgspec.to_builtins(terms.notes),
        "rules_version": str(around.risk.rules_version),
        "as_of_ns": str(view.as_of_ns),
    }


SUGGESTION_TOOLS = (
    ToolDefinition(
        name="suggest_order",
        version="1",
        kind="suggest",
        description=(
            "Propose an order to a human approver. This sends nothing to the venue: the suggestion waits, pending, "
            "until a person approves or rejects it or it expires. Give symbol, side, quantity, and for a LIMIT order "
            "either price (a multiple of the tick size) or price_anchor (bid, ask or mid) with offset_bps; 'near the "
            "bid' is price_anchor bid with offset_bps 0. MARKET takes no price. The answer holds the exact order, "
            "its risk checks and what it would do to the position. Use it only when an order was plainly asked for, "
            "never for a question about cost (estimate_execution) or risk (what_if). A refusal says which limit was "
            "exceeded and by how much."
        ),
        input_model=SuggestOrderInput,
        output_model=SuggestOrderOutput,
        run=_suggest_order,
        roles=frozenset({Role.TRADER}),
        scope=DataScope.ACCOUNT,
        sources=(Source.ENGINE_MARKET, Source.ENGINE_RISK, Source.SQL_SUGGESTIONS),
        timeout_ms=SUGGEST_TIMEOUT_MS,
        cost=4,
        example={"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.5", "price_anchor": "BID"},
    ),
)
