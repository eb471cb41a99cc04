"""suggest_close, suggest_hedge and suggest_bracket: orders that are about a position, for a human to decide on (I1)."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal, localcontext
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from core.authority.proposal import BRACKET_PROPOSAL_SCHEMA, CLOSE_PROPOSAL_SCHEMA, HEDGE_PROPOSAL_SCHEMA
from core.authority.proposal_kinds import BracketProposal, CloseProposal, HedgeProposal
from core.types.codes import ReasonCode, refuse
from core.types.money import decimal_text
from core.types.orders import OrderType, Side, TimeInForce
from tools.contracts import Role
from tools.market_tools import QuantityInput, SideInput, SymbolInput
from tools.registry import DataScope, Source, ToolContext, ToolDefinition
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
    propose,
    swept,
    text_of,
)
from tools.suggestion_orders import (
    TRAILING_LIMIT_BPS,
    AnchorInput,
    OffsetInput,
    PriceInput,
    WhatIfCells,
    anchored_price,
)
from tools.values import (
    BPS_PER_UNIT,
    CALCULATION_DIGITS,
    DecimalInput,
    DecimalText,
    WholeInput,
    WholeText,
    parse_word_input,
)

CLOSING_TYPES = frozenset({OrderType.LIMIT, OrderType.MARKET})


class PricedInput(SuggestionInput):
    """A LIMIT or MARKET order whose side and size follow from something else."""

    symbol: SymbolInput
    order_type: Annotated[
        OrderType, BeforeValidator(parse_word_input), Field(description="MARKET (the default) or LIMIT.")
    ] = OrderType.MARKET
    price: PriceInput = None
    price_anchor: AnchorInput = None
    offset_bps: OffsetInput = Decimal(0)

    @model_validator(mode="after")
    def _priced(self) -> Self:
        if self.order_type not in CLOSING_TYPES:
            raise ValueError("order_type is MARKET or LIMIT")
        given = (self.price is not None) + (self.price_anchor is not None)
        if given != (1 if self.order_type is OrderType.LIMIT else 0):
            raise ValueError("a LIMIT order needs exactly one of price and price_anchor, a MARKET order neither")
        if self.price_anchor is None and self.offset_bps:
            raise ValueError("offset_bps goes with price_anchor only")
        return self


class SuggestCloseInput(PricedInput):
    quantity: Annotated[
        DecimalInput | None, Field(gt=0, description="How much of the position to close; left out, all of it.")
    ] = None


class SuggestCloseOutput(MarketSuggestionOutput):
    what_if: WhatIfCells


async def _suggest_close(context: ToolContext, arguments: SuggestCloseInput) -> SuggestCloseOutput:
    around = await look_around(context, arguments.symbol)
    held = await _position(context, around)
    side = Side.SELL if held > 0 else Side.BUY
    quantity = arguments.quantity or abs(held)
    if quantity > abs(held):
        raise refuse(
            ReasonCode.ORDER_WOULD_INCREASE_POSITION,
            "That is more than the position. Leave out the quantity to close all of it.",
            limit=decimal_text(abs(held)),
            actual=decimal_text(quantity),
            unit=around.instrument.base_asset,
        )
    terms, what_if, notes = await _order_terms(context, arguments, around, side, quantity, held)
    proposal = CloseProposal(
        schema=CLOSE_PROPOSAL_SCHEMA,
        reduce_only=flag(True),
        position_quantity=decimal_text(held),
        **terms,
        **common_fields(context, around.status, arguments),
        **around.proposal_fields(),
    )
    return SuggestCloseOutput(
        **await propose(context, proposal, arguments, around=around, what_if=what_if, notes=notes)
    )


class SuggestHedgeInput(PricedInput):
    hedged_symbol: Annotated[
        str | None,
        Field(min_length=1, max_length=32, description="The position to hedge; left out, that in symbol itself."),
    ] = None
    hedge_ratio_bps: Annotated[
        WholeInput, Field(ge=1, le=BPS_PER_UNIT, description="How much of the exposure, in basis points: 10000 is all.")
    ] = BPS_PER_UNIT


class HedgeCells(WhatIfCells):
    """How the size was worked out: exposure_quote is |exposure_quantity| x exposure_price, wanted_quantity that times
    the ratio over the price, and the order's quantity what of it is whole lots."""

    exposure_quantity: Annotated[DecimalText, Field(description="The position that is hedged, negative when short.")]
    exposure_price: Annotated[DecimalText, Field(description="What one unit of it is valued at, in quote.")]
    exposure_quote: Annotated[DecimalText, Field(description="What the position is worth, in quote.")]
    hedge_ratio_bps: Annotated[WholeText, Field(description="How much of it is hedged, in basis points.")]
    wanted_quantity: Annotated[DecimalText, Field(description="What the calculation comes to, before whole lots.")]
    left_quote: Annotated[DecimalText, Field(description="What of the exposure stays, in quote.")]


class SuggestHedgeOutput(MarketSuggestionOutput):
    what_if: HedgeCells


async def _suggest_hedge(context: ToolContext, arguments: SuggestHedgeInput) -> SuggestHedgeOutput:
    around = await look_around(context, arguments.symbol)
    hedged = around if arguments.hedged_symbol is None else await look_around(context, arguments.hedged_symbol)
    exposure = await _position(context, hedged)
    side = Side.SELL if exposure > 0 else Side.BUY
    with localcontext() as exact:
        exact.prec = CALCULATION_DIGITS
        exposure_quote = abs(exposure) * hedged.mid
        wanted = exposure_quote * arguments.hedge_ratio_bps / BPS_PER_UNIT / around.mid
        lot = around.instrument.lot_size
        quantity = (wanted / lot).to_integral_value(rounding=ROUND_DOWN) * lot
        # Digits beyond what a figure may have say nothing.
        shown = wanted.quantize(Decimal(1).scaleb(-18), rounding=ROUND_DOWN).normalize()
    if quantity <= 0:
        raise refuse(
            ReasonCode.ORDER_QUANTITY_BELOW_MIN,
            "The exposure comes to less than one lot of that instrument. There is nothing to hedge with it.",
            limit=decimal_text(lot),
            actual=decimal_text(shown),
            unit=around.instrument.base_asset,
        )
    held = await held_quantity(context, around.instrument.symbol)
    terms, what_if, notes = await _order_terms(context, arguments, around, side, quantity, held)
    proposal = HedgeProposal(
        schema=HEDGE_PROPOSAL_SCHEMA,
        reduce_only=flag(False),
        hedged_symbol=hedged.instrument.symbol,
        exposure_quantity=decimal_text(exposure),
        exposure_price=decimal_text(hedged.mid),
        hedge_ratio_bps=str(arguments.hedge_ratio_bps),
        **terms,
        **common_fields(context, around.status, arguments),
        **around.proposal_fields(),
    )
    cells = HedgeCells(
        **what_if.model_dump(),
        exposure_quantity=exposure,
        exposure_price=hedged.mid,
        exposure_quote=exposure_quote,
        hedge_ratio_bps=arguments.hedge_ratio_bps,
        wanted_quantity=shown,
        left_quote=exposure_quote - quantity * around.mid,
    )
    if hedged is not around:
        notes.append(
            f"It holds as far as {around.instrument.symbol} moves as {hedged.instrument.symbol} does; nothing here "
            "says that it will."
        )
    return SuggestHedgeOutput(**await propose(context, proposal, arguments, around=around, what_if=cells, notes=notes))


async def _position(context: ToolContext, around: Surroundings) -> Decimal:
    held = await held_quantity(context, around.instrument.symbol)
    if held == 0:
        raise refuse(
            ReasonCode.ORDER_WOULD_INCREASE_POSITION,
            f"There is no position in {around.instrument.symbol}: nothing to close or to hedge.",
            limit="0",
            actual="0",
            unit=around.instrument.base_asset,
        )
    return held


async def _order_terms(
    context: ToolContext, arguments: PricedInput, around: Surroundings, side: Side, quantity: Decimal, held: Decimal
) -> tuple[dict[str, str], WhatIfCells, list[str]]:
    """The order's own fields, what it would do to the position held in its instrument, and what there is to say."""
    on_lot(around, quantity)
    on_tick(around, price=arguments.price)
    price, notes = arguments.price, []
    if arguments.price_anchor is not None:
        price, note = anchored_price(side, arguments.price_anchor, arguments.offset_bps, around)
        notes.append(note)
    is_taking = price is None or crosses(side, price, around.ticker)
    sweep = await swept(context, around, side, quantity) if price is None else None
    notional = quantity * price if price is not None else sweep.notional_quote if sweep is not None else Decimal(0)
    terms = {
        "side": side.value,
        "order_type": arguments.order_type.value,
        "time_in_force": (TimeInForce.IOC if price is None else TimeInForce.GTC).value,
        "quantity": decimal_text(quantity),
        "price": text_of(price),
        "stop_price": "",
        "trailing_offset_bps": "",
        "activation_price": "",
        "order_expires_at_ns": "",
        "post_only": flag(False),
        "notional_quote": decimal_text(notional),
    }
    return terms, WhatIfCells.of(side, quantity, held, notional, sweep, crosses=is_taking), notes


class EntryType(StrEnum):
    LIMIT = "LIMIT"
    MARKET = "MARKET"
    STOP = "STOP"
    STOP_LIMIT = "STOP_LIMIT"


class SuggestBracketInput(SuggestionInput):
    symbol: SymbolInput
    side: SideInput
    quantity: QuantityInput
    entry_type: Annotated[
        EntryType, BeforeValidator(parse_word_input), Field(description="LIMIT, MARKET, STOP or STOP_LIMIT.")
    ] = EntryType.LIMIT
    entry_limit_price: Annotated[
        DecimalInput | None, Field(gt=0, description="Limit price of the entry, for LIMIT and STOP_LIMIT.")
    ] = None
    entry_trigger_price: Annotated[
        DecimalInput | None, Field(gt=0, description="Where the entry triggers, for STOP and STOP_LIMIT.")
    ] = None
    entry_post_only: Annotated[bool, Field(description="LIMIT only: the venue refuses an entry that would take.")] = (
        False
    )
    take_profit_price: Annotated[
        DecimalInput | None, Field(gt=0, description="Where a resting limit order takes the profit.")
    ] = None
    stop_trigger_price: Annotated[
        DecimalInput | None, Field(gt=0, description="Where the stop gets out at market, or at stop_limit_price.")
    ] = None
    stop_limit_price: Annotated[
        DecimalInput | None, Field(gt=0, description="With stop_trigger_price: the stop becomes a limit order here.")
    ] = None
    stop_trailing_offset_bps: Annotated[
        WholeInput | None,
        Field(ge=1, le=TRAILING_LIMIT_BPS, description="Instead of stop_trigger_price: a stop that follows the price."),
    ] = None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        kind = OrderType(self.entry_type)
        for name, value, belongs in (
            ("entry_limit_price", self.entry_limit_price, kind.has_limit_price),
            ("entry_trigger_price", self.entry_trigger_price, kind.is_conditional),
        ):
            if belongs is not (value is not None):
                raise ValueError(f"a {kind} entry {'needs' if belongs else 'has no'} {name}")
        if self.entry_post_only and kind is not OrderType.LIMIT:
            raise ValueError("entry_post_only goes with a LIMIT entry")
        stops = (self.stop_trigger_price is not None) + (self.stop_trailing_offset_bps is not None)
        if stops > 1 or (self.stop_limit_price is not None and self.stop_trigger_price is None):
            raise ValueError("a stop has stop_trigger_price, with or without stop_limit_price, or trails")
        if self.take_profit_price is None and not stops:
            raise ValueError("give take_profit_price, a stop, or both; without either it is suggest_order")
        return self

    @property
    def stop_type(self) -> str:
        if self.stop_trailing_offset_bps is not None:
            return OrderType.TRAILING_STOP.value
        if self.stop_trigger_price is None:
            return ""
        return (OrderType.STOP if self.stop_limit_price is None else OrderType.STOP_LIMIT).value


class BracketCells(WhatIfCells):
    """profit_quote and loss_quote are at the levels themselves, before fees and slippage; null where there is no fixed
    level."""

    entry_level: Annotated[DecimalText, Field(description="The price that profit and loss are told from.")]
    profit_quote: Annotated[DecimalText | None, Field(description="What reaching the take-profit brings, in quote.")]
    loss_quote: Annotated[DecimalText | None, Field(description="What reaching the stop costs, in quote.")]


class SuggestBracketOutput(MarketSuggestionOutput):
    what_if: BracketCells


async def _suggest_bracket(context: ToolContext, arguments: SuggestBracketInput) -> SuggestBracketOutput:
    around = await look_around(context, arguments.symbol)
    on_lot(around, arguments.quantity)
    prices = ("entry_limit_price", "entry_trigger_price", "take_profit_price", "stop_trigger_price", "stop_limit_price")
    on_tick(around, **{name: getattr(arguments, name) for name in prices})
    what_if = await _bracket_cells(context, arguments, around)
    is_market = arguments.entry_type is EntryType.MARKET
    trailing = arguments.stop_trailing_offset_bps
    proposal = BracketProposal(
        schema=BRACKET_PROPOSAL_SCHEMA,
        side=arguments.side.value,
        quantity=decimal_text(arguments.quantity),
        entry_type=arguments.entry_type.value,
        entry_time_in_force=(TimeInForce.IOC if is_market else TimeInForce.GTC).value,
        entry_limit_price=text_of(arguments.entry_limit_price),
        entry_trigger_price=text_of(arguments.entry_trigger_price),
        entry_post_only=flag(arguments.entry_post_only),
        take_profit_type="" if arguments.take_profit_price is None else OrderType.LIMIT.value,
        take_profit_limit_price=text_of(arguments.take_profit_price),
        take_profit_trigger_price="",
        stop_type=arguments.stop_type,
        stop_limit_price=text_of(arguments.stop_limit_price),
        stop_trigger_price=text_of(arguments.stop_trigger_price),
        stop_trailing_offset_bps="" if trailing is None else str(trailing),
        notional_quote=decimal_text(what_if.notional_quote),
        **common_fields(context, around.status, arguments),
        **around.proposal_fields(),
    )
    notes = ["The exits wait in the engine for what the entry fills; each passes risk again when it is let go."]
    return SuggestBracketOutput(
        **await propose(context, proposal, arguments, around=around, what_if=what_if, notes=notes)
    )


async def _bracket_cells(context: ToolContext, arguments: SuggestBracketInput, around: Surroundings) -> BracketCells:
    side, quantity = arguments.side, arguments.quantity
    level = arguments.entry_limit_price or arguments.entry_trigger_price
    sweep = await swept(context, around, side, quantity) if level is None else None
    if level is None:
        level = around.ticker.ask_price if side is Side.BUY else around.ticker.bid_price
    sign = 1 if side is Side.BUY else -1
    held = await held_quantity(context, around.instrument.symbol)
    stop_level = arguments.stop_limit_price or arguments.stop_trigger_price
    profit = arguments.take_profit_price
    return BracketCells(
        crosses=arguments.entry_type is EntryType.MARKET
        or (arguments.entry_type is EntryType.LIMIT and crosses(side, level, around.ticker)),
        estimate=None if sweep is None else estimate_cells(sweep),
        position_before=held,
        position_after=held + sign * quantity,
        notional_quote=quantity * level if sweep is None else sweep.notional_quote,
        entry_level=level,
        profit_quote=None if profit is None else sign * (profit - level) * quantity,
        loss_quote=None if stop_level is None else sign * (level - stop_level) * quantity,
    )


def _definition(name: str, description: str, example: dict[str, Any], **models: Any) -> ToolDefinition:
    return ToolDefinition(
        name=name,
        version="1",
        kind="suggest",
        description=description,
        roles=frozenset({Role.TRADER}),
        scope=DataScope.ACCOUNT,
        sources=(Source.ENGINE_PORTFOLIO, *SUGGEST_SOURCES),
        timeout_ms=SUGGEST_TIMEOUT_MS,
        cost=SUGGEST_COST,
        example=example,
        **models,
    )


POSITION_TOOLS = (
    _definition(
        "suggest_close",
        "Propose to close the position in one instrument, or a part of it, with a reduce-only MARKET or LIMIT order; "
        "side and size follow from the position. This sends nothing to the venue: the suggestion waits, pending, until "
        "a person approves or rejects it. Use it when somebody plainly asks to close, exit or flatten a position. Not "
        "for open orders (suggest_cancel).",
        {"symbol": "BTCUSDT"},
        input_model=SuggestCloseInput,
        output_model=SuggestCloseOutput,
        run=_suggest_close,
    ),
    _definition(
        "suggest_hedge",
        "Propose an order against the exposure of a position, sized by it, with the calculation shown; in the same "
        "instrument, or in another one with hedged_symbol. This sends nothing to the venue: the suggestion waits, "
        "pending, until a person approves or rejects it. Use it when somebody plainly asks to hedge. To get out of a "
        "position use suggest_close.",
        {"symbol": "BTCUSDT", "hedge_ratio_bps": 5000},
        input_model=SuggestHedgeInput,
        output_model=SuggestHedgeOutput,
        run=_suggest_hedge,
    ),
    _definition(
        "suggest_bracket",
        "Propose an entry together with its take-profit, its stop, or both, under one approval. The exits wait for "
        "what the entry fills, and together never fill more. This sends nothing to the venue: the suggestion waits, "
        "pending, until a person approves or rejects it. Use it when somebody asks for an order with a stop or a "
        "target; without either it is suggest_order.",
        {
            "symbol": "BTCUSDT",
            "side": "BUY",
            "quantity": "0.5",
            "entry_limit_price": "59000",
            "take_profit_price": "62000",
            "stop_trigger_price": "58000",
        },
        input_model=SuggestBracketInput,
        output_model=SuggestBracketOutput,
        run=_suggest_bracket,
    ),
)
