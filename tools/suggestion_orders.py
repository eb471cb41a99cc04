"""suggest_order: one exact order of any type that the engine has, for a human to decide on (I1)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, localcontext
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from core.authority.proposal import ORDER_PROPOSAL_SCHEMA
from core.authority.proposal_kinds import OrderProposal
from core.types.clock import NS_PER_S
from core.types.codes import ReasonCode, refuse
from core.types.money import decimal_text
from core.types.orders import OrderType, Side, TimeInForce
from core.types.views import ExecutionEstimateView
from tools.contracts import Role
from tools.market_tools import EstimateCells, QuantityInput, SideInput, SymbolInput
from tools.registry import DataScope, ToolContext, ToolDefinition
from tools.suggestion_common import (
    SUGGEST_COST,
    SUGGEST_SOURCES,
    SUGGEST_TIMEOUT_MS,
    MarketSuggestionOutput,
    SuggestionInput,
    Surroundings,
    common_fields,
    crosses,
    estimate_cells,
    flag,
    held_quantity,
    look_around,
    on_lot,
    on_tick,
    passive,
    propose,
    swept,
    text_of,
)
from tools.values import (
    BPS_PER_UNIT,
    CALCULATION_DIGITS,
    Cells,
    DecimalInput,
    DecimalText,
    WholeInput,
    parse_word_input,
)

OFFSET_LIMIT_BPS = 1_000
TRAILING_LIMIT_BPS = 10_000
GOOD_FOR_LIMIT_S = 365 * 86_400


class PriceAnchor(StrEnum):
    BID = "BID"
    ASK = "ASK"
    MID = "MID"


PriceInput = Annotated[
    DecimalInput | None, Field(gt=0, description="Limit price, a multiple of the tick size. Or give price_anchor.")
]
AnchorInput = Annotated[
    PriceAnchor | None,
    BeforeValidator(parse_word_input),
    Field(description="Derive the limit price from the best bid, the best ask or the mid, plus offset_bps."),
]
OffsetInput = Annotated[
    DecimalInput,
    Field(
        ge=-OFFSET_LIMIT_BPS,
        le=OFFSET_LIMIT_BPS,
        description="With price_anchor only: positive moves the price up, negative down, in basis points.",
    ),
]


class SuggestOrderInput(SuggestionInput):
    symbol: SymbolInput
    side: SideInput
    quantity: QuantityInput
    order_type: Annotated[
        OrderType,
        BeforeValidator(parse_word_input),
        Field(
            description="LIMIT, MARKET, or one that waits for the last trade to reach stop_price: STOP and TAKE_PROFIT "
            "become market orders, STOP_LIMIT and TAKE_PROFIT_LIMIT limit orders at price; TRAILING_STOP follows the "
            "best price at trailing_offset_bps."
        ),
    ] = OrderType.LIMIT
    price: PriceInput = None
    price_anchor: AnchorInput = None
    offset_bps: OffsetInput = Decimal(0)
    stop_price: Annotated[
        DecimalInput | None, Field(gt=0, description="Where a stop or a take-profit triggers, a multiple of the tick.")
    ] = None
    trailing_offset_bps: Annotated[
        WholeInput | None, Field(ge=1, le=TRAILING_LIMIT_BPS, description="TRAILING_STOP only: how far it follows.")
    ] = None
    activation_price: Annotated[
        DecimalInput | None, Field(gt=0, description="TRAILING_STOP only: it begins to follow once this is reached.")
    ] = None
    time_in_force: Annotated[
        TimeInForce | None,
        BeforeValidator(parse_word_input),
        Field(description="GTC (the default, but for MARKET), IOC (default for MARKET), FOK, or GTD with good_for_s."),
    ] = None
    good_for_s: Annotated[
        WholeInput | None,
        Field(ge=1, le=GOOD_FOR_LIMIT_S, description="GTD only: seconds from now until the order itself expires."),
    ] = None
    post_only: Annotated[bool, Field(description="LIMIT that rests only: the venue refuses it if it would take.")] = (
        False
    )
    reduce_only: Annotated[bool, Field(description="It may only bring a position nearer to zero.")] = False

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        problem = self._price_problem() or self._condition_problem() or self._life_problem()
        if problem is not None:
            raise ValueError(problem)
        return self

    def _price_problem(self) -> str | None:
        kind = self.order_type
        if not kind.has_limit_price and (self.price is not None or self.price_anchor is not None):
            return f"a {kind} order has no price: leave out price and price_anchor"
        if kind is OrderType.LIMIT and (self.price is None) == (self.price_anchor is None):
            return "a LIMIT order needs exactly one of price and price_anchor"
        if kind.has_limit_price and kind is not OrderType.LIMIT and self.price is None:
            return f"a {kind} order needs price, and takes no price_anchor"
        if kind.has_limit_price and kind is not OrderType.LIMIT and self.price_anchor is not None:
            return f"a {kind} order takes no price_anchor"
        if self.price_anchor is None and self.offset_bps:
            return "offset_bps goes with price_anchor only"
        return None

    def _condition_problem(self) -> str | None:
        kind = self.order_type
        is_trailing = kind is OrderType.TRAILING_STOP
        for name, value, belongs in (
            ("stop_price", self.stop_price, kind.is_conditional and not is_trailing),
            ("trailing_offset_bps", self.trailing_offset_bps, is_trailing),
        ):
            if belongs is not (value is not None):
                return f"a {kind} order needs {name}" if belongs else f"a {kind} order has no {name}"
        if self.activation_price is not None and not is_trailing:
            return f"a {kind} order has no activation_price"
        return None

    def _life_problem(self) -> str | None:
        rests = {None, TimeInForce.GTC, TimeInForce.GTD}
        if self.order_type is OrderType.MARKET and self.time_in_force in {TimeInForce.GTC, TimeInForce.GTD}:
            return "a MARKET order can't rest: time_in_force is IOC or FOK"
        if self.post_only and (self.order_type is not OrderType.LIMIT or self.time_in_force not in rests):
            return "post_only goes with a LIMIT order that is GTC or GTD"
        if (self.time_in_force is TimeInForce.GTD) is not (self.good_for_s is not None):
            return "good_for_s goes with time_in_force GTD, and GTD with good_for_s"
        return None


class WhatIfCells(Cells):
    """crosses: the order would take from the book at once; estimate is then the sweep of its whole quantity. An order
    that waits for its trigger does neither yet."""

    crosses: bool
    estimate: EstimateCells | None
    position_before: DecimalText
    position_after: DecimalText
    notional_quote: DecimalText

    @classmethod
    def of(
        cls,
        side: Side,
        quantity: Decimal,
        held: Decimal,
        notional_quote: Decimal,
        sweep: ExecutionEstimateView | None,
        *,
        crosses: bool,
    ) -> WhatIfCells:
        """What an order would do to a position of held in its instrument; sweep is None where nothing is swept."""
        return cls(
            crosses=crosses,
            estimate=None if sweep is None else estimate_cells(sweep),
            position_before=held,
            position_after=held + (quantity if side is Side.BUY else -quantity),
            notional_quote=notional_quote,
        )


class SuggestOrderOutput(MarketSuggestionOutput):
    what_if: WhatIfCells


@dataclass(frozen=True, slots=True)
class _Terms:
    """The order's own terms, after its price was settled."""

    price: Decimal | None
    crosses: bool
    estimate: ExecutionEstimateView | None
    notional_quote: Decimal
    notes: list[str]


async def _suggest_order(context: ToolContext, arguments: SuggestOrderInput) -> SuggestOrderOutput:
    around = await look_around(context, arguments.symbol)
    terms = await _terms(context, arguments, around)
    proposal = _proposal(context, arguments, around, terms)
    held = await held_quantity(context, around.instrument.symbol)
    what_if = WhatIfCells.of(
        arguments.side, arguments.quantity, held, terms.notional_quote, terms.estimate, crosses=terms.crosses
    )
    return SuggestOrderOutput(
        **await propose(context, proposal, arguments, around=around, what_if=what_if, notes=terms.notes)
    )


async def _terms(context: ToolContext, arguments: SuggestOrderInput, around: Surroundings) -> _Terms:
    quantity = arguments.quantity
    on_lot(around, quantity)
    on_tick(around, price=arguments.price, stop_price=arguments.stop_price, activation_price=arguments.activation_price)
    if arguments.order_type.is_conditional:
        level = arguments.price or arguments.stop_price or around.mid
        return _Terms(arguments.price, False, None, quantity * level, [_condition_note(arguments)])
    price, notes = arguments.price, []
    if arguments.price_anchor is not None:
        price, note = anchored_price(arguments.side, arguments.price_anchor, arguments.offset_bps, around)
        notes.append(note)
    if price is None:
        estimate = await swept(context, around, arguments.side, quantity)
        return _Terms(None, True, estimate, estimate.notional_quote, notes)
    is_taking = crosses(arguments.side, price, around.ticker)
    sweep = None
    if is_taking:
        sweep = await context.ports.engine.estimate_execution(around.instrument.symbol, arguments.side, quantity)
    if arguments.post_only and is_taking:
        notes.append(
            "At this price the order would take from the book, and the venue refuses a post-only order that does."
        )
    return _Terms(price, is_taking, sweep, price * quantity, notes)


def _condition_note(arguments: SuggestOrderInput) -> str:
    becomes = "a market order" if arguments.price is None else f"a limit order at {decimal_text(arguments.price)}"
    if arguments.stop_price is not None:
        return (
            f"It waits until the last trade reaches {decimal_text(arguments.stop_price)}, passes risk again, and then "
            f"becomes {becomes}."
        )
    return (
        f"It follows the best price at {arguments.trailing_offset_bps} bps, passes risk again when the last trade "
        f"comes back by so much, and then becomes {becomes}."
    )


def anchored_price(side: Side, anchor: PriceAnchor, offset_bps: Decimal, around: Surroundings) -> tuple[Decimal, str]:
    """The limit price and what has to be said about it. A given price isn't rounded; a derived one is, passively."""
    tick = around.instrument.tick_size
    base = {
        PriceAnchor.BID: around.ticker.bid_price,
        PriceAnchor.ASK: around.ticker.ask_price,
        PriceAnchor.MID: around.mid,
    }[anchor]
    with localcontext() as exact:
        exact.prec = CALCULATION_DIGITS
        wanted = base * (BPS_PER_UNIT + offset_bps) / BPS_PER_UNIT
    price = passive(wanted, tick, side)
    note = f"The price was derived from the {anchor.value.lower()} of {decimal_text(base)} with an offset of "
    note += f"{decimal_text(offset_bps)} bps"
    if price != wanted:
        direction = "down" if side is Side.BUY else "up"
        note += f", and rounded {direction} to a multiple of the tick size {decimal_text(tick)}"
    if price <= 0:
        raise refuse(
            ReasonCode.ORDER_TICK_SIZE_VIOLATED,
            "The derived price is below one tick. Choose another offset.",
            limit=decimal_text(tick),
            actual=decimal_text(price),
            unit=around.instrument.quote_asset,
        )
    return price, note + "."


def _proposal(context: ToolContext, arguments: SuggestOrderInput, around: Surroundings, terms: _Terms) -> OrderProposal:
    is_market = arguments.order_type is OrderType.MARKET
    until_ns = None if arguments.good_for_s is None else around.status.now_ns + arguments.good_for_s * NS_PER_S
    return OrderProposal(
        schema=ORDER_PROPOSAL_SCHEMA,
        side=arguments.side.value,
        order_type=arguments.order_type.value,
        time_in_force=(arguments.time_in_force or (TimeInForce.IOC if is_market else TimeInForce.GTC)).value,
        quantity=decimal_text(arguments.quantity),
        price=text_of(terms.price),
        stop_price=text_of(arguments.stop_price),
        trailing_offset_bps="" if arguments.trailing_offset_bps is None else str(arguments.trailing_offset_bps),
        activation_price=text_of(arguments.activation_price),
        order_expires_at_ns="" if until_ns is None else str(until_ns),
        post_only=flag(arguments.post_only),
        reduce_only=flag(arguments.reduce_only),
        notional_quote=decimal_text(terms.notional_quote),
        **common_fields(context, around.status, arguments),
        **around.proposal_fields(),
    )


SUGGEST_ORDER = ToolDefinition(
    name="suggest_order",
    version="2",
    kind="suggest",
    description=(
        "Propose an order to a human approver. This sends nothing to the venue: the suggestion waits, pending, "
        "until a person approves or rejects it or it expires. Give symbol, side, quantity, and for a LIMIT order "
        "either price (a multiple of the tick size) or price_anchor (bid, ask or mid) with offset_bps; 'near the "
        "bid' is price_anchor bid with offset_bps 0. MARKET takes no price. A stop or take-profit has stop_price, its "
        "_LIMIT form price as well, a TRAILING_STOP trailing_offset_bps. The answer holds the exact order, its "
        "risk checks and what it would do to the position. Use it only when an order was plainly asked for, never for "
        "a question about cost (estimate_execution) or risk (what_if). A refusal says which limit was exceeded and by "
        "how much."
    ),
    input_model=SuggestOrderInput,
    output_model=SuggestOrderOutput,
    run=_suggest_order,
    roles=frozenset({Role.TRADER}),
    scope=DataScope.ACCOUNT,
    sources=SUGGEST_SOURCES,
    timeout_ms=SUGGEST_TIMEOUT_MS,
    cost=SUGGEST_COST,
    example={"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.5", "price_anchor": "BID"},
)
