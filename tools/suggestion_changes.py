"""suggest_amend, suggest_strategy_change and suggest_kill_switch: changes of what there is, for a human to decide on
(I1). What was shown is part of what is signed: the engine refuses the change of anything else."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, model_validator

from core.authority.proposal import (
    AMEND_PROPOSAL_SCHEMA,
    KILL_SWITCH_PROPOSAL_SCHEMA,
    STRATEGY_CHANGE_PROPOSAL_SCHEMA,
)
from core.authority.proposal_kinds import AmendProposal, KillSwitchProposal, StrategyChangeProposal
from core.types.codes import ReasonCode, refuse
from core.types.money import decimal_text
from core.types.orders import Side
from core.types.views import MandateView, OrderView
from tools.contracts import Role
from tools.registry import DataScope, Source, ToolContext, ToolDefinition
from tools.suggestion_common import (
    SUGGEST_COST,
    SUGGEST_SOURCES,
    SUGGEST_TIMEOUT_MS,
    MarketSuggestionOutput,
    SuggestionInput,
    SuggestionOutput,
    common_fields,
    crosses,
    held_quantity,
    look_around,
    on_lot,
    on_tick,
    propose,
    text_of,
)
from tools.values import Cells, DecimalInput, DecimalText, WholeInput, WholeText, parse_word_input

ID_LIMIT_CHARS = 128
REASON_LIMIT_CHARS = 300
OrderIdInput = Annotated[
    str,
    Field(min_length=1, max_length=ID_LIMIT_CHARS, description="The order's client_order_id, from get_open_orders."),
]
ReasonInput = Annotated[
    str,
    Field(min_length=1, max_length=REASON_LIMIT_CHARS, description="Why, in a sentence; it is part of what is signed."),
]


class SuggestAmendInput(SuggestionInput):
    client_order_id: OrderIdInput
    quantity: Annotated[
        DecimalInput | None, Field(gt=0, description="The new total quantity, what is filled already included.")
    ] = None
    price: Annotated[DecimalInput | None, Field(gt=0, description="The new limit price.")] = None

    @model_validator(mode="after")
    def _changes(self) -> Self:
        if self.quantity is None and self.price is None:
            raise ValueError("give quantity, price, or both")
        return self


class AmendWhatIfCells(Cells):
    """crosses: at its new price the order would take from the book at once."""

    crosses: bool
    position_before: DecimalText
    position_after: DecimalText
    notional_before_quote: Annotated[DecimalText, Field(description="What the order is worth as it is, in quote.")]
    notional_quote: DecimalText


class SuggestAmendOutput(MarketSuggestionOutput):
    what_if: AmendWhatIfCells


async def _suggest_amend(context: ToolContext, arguments: SuggestAmendInput) -> SuggestAmendOutput:
    order = await own_order(context, arguments.client_order_id)
    if order.price is None or order.order_type.is_conditional:
        raise refuse(
            ReasonCode.ORDER_AMEND_INVALID,
            f"A {order.order_type} order can't be amended. Suggest to cancel it, and another one.",
            actual=order.order_type.value,
        )
    around = await look_around(context, order.symbol)
    quantity, price = arguments.quantity or order.quantity, arguments.price or order.price
    if (quantity, price) == (order.quantity, order.price):
        raise refuse(
            ReasonCode.ORDER_AMEND_INVALID, "The order is so already: neither quantity nor price would change."
        )
    on_lot(around, quantity)
    on_tick(around, price=price)
    left = quantity - order.filled_quantity
    proposal = AmendProposal(
        schema=AMEND_PROPOSAL_SCHEMA,
        client_order_id=order.client_order_id,
        side=order.side.value,
        order_type=order.order_type.value,
        quantity=decimal_text(order.quantity),
        price=decimal_text(order.price),
        filled_quantity=decimal_text(order.filled_quantity),
        new_quantity=decimal_text(quantity),
        new_price=decimal_text(price),
        notional_quote=decimal_text(quantity * price),
        **common_fields(context, around.status, arguments),
        **around.proposal_fields(),
    )
    held = await held_quantity(context, order.symbol)
    what_if = AmendWhatIfCells(
        crosses=crosses(order.side, price, around.ticker),
        position_before=held,
        position_after=held + (left if order.side is Side.BUY else -left),
        notional_before_quote=order.quantity * order.price,
        notional_quote=quantity * price,
    )
    return SuggestAmendOutput(**await propose(context, proposal, arguments, around=around, what_if=what_if, notes=[]))


class Tighter(StrEnum):
    """What can be suggested: loosening the kill switch is administration, and never is."""

    REDUCE_ONLY = "REDUCE_ONLY"
    CANCEL_ONLY = "CANCEL_ONLY"
    HALTED = "HALTED"


class Scope(StrEnum):
    ACCOUNT = "ACCOUNT"
    ENGINE = "ENGINE"


class SuggestKillSwitchInput(SuggestionInput):
    state: Annotated[
        Tighter,
        BeforeValidator(parse_word_input),
        Field(
            description="REDUCE_ONLY lets only what reduces through, CANCEL_ONLY only cancels, HALTED also cancels "
            "every open order. A looser state can't be suggested."
        ),
    ]
    scope: Annotated[
        Scope, BeforeValidator(parse_word_input), Field(description="This account only, or the whole engine.")
    ] = Scope.ACCOUNT
    reason: ReasonInput


class KillSwitchWhatIfCells(Cells):
    """open_orders is how many the account has open, all of which HALTED cancels."""

    state_before: Annotated[str, Field(description="The kill switch as it is now, engine and account together.")]
    state_after: Annotated[str, Field(description="What is proposed.")]
    open_orders: Annotated[WholeText, Field(description="How many orders the account has open.")]


class SuggestKillSwitchOutput(SuggestionOutput):
    what_if: KillSwitchWhatIfCells


async def _suggest_kill_switch(context: ToolContext, arguments: SuggestKillSwitchInput) -> SuggestKillSwitchOutput:
    engine = context.ports.engine
    status = await engine.status()
    risk = await engine.risk_state(context.account_id)
    orders = await engine.open_orders(context.account_id)
    proposal = KillSwitchProposal(
        schema=KILL_SWITCH_PROPOSAL_SCHEMA,
        scope=arguments.scope.value.lower(),
        state=arguments.state.value,
        reason=arguments.reason,
        **common_fields(context, status, arguments),
    )
    what_if = KillSwitchWhatIfCells(
        state_before=risk.kill_switch, state_after=arguments.state.value, open_orders=len(orders)
    )
    notes = ["Anybody authenticated can tighten the switch at once, without an approval: veloz kill."]
    if risk.kill_switch == arguments.state.value:
        notes.append(f"The switch is {risk.kill_switch} already: this would change nothing.")
    return SuggestKillSwitchOutput(
        **await propose(context, proposal, arguments, around=None, what_if=what_if, notes=notes)
    )


class StrategyAction(StrEnum):
    REVOKE = "REVOKE"
    TIGHTEN = "TIGHTEN"


LimitInput = Annotated[DecimalInput | None, Field(gt=0, description="TIGHTEN only: the new limit; left out, it stays.")]


class SuggestStrategyChangeInput(SuggestionInput):
    mandate_id: Annotated[
        str, Field(min_length=1, max_length=ID_LIMIT_CHARS, description="The strategy's mandate, from list_strategies.")
    ]
    action: Annotated[
        StrategyAction,
        BeforeValidator(parse_word_input),
        Field(description="REVOKE ends the mandate; TIGHTEN lowers its limits. More than before needs a new mandate."),
    ]
    max_order_notional_quote: LimitInput = None
    max_position_notional_quote: LimitInput = None
    max_total_notional_quote: LimitInput = None
    max_open_orders: Annotated[
        WholeInput | None, Field(ge=1, description="TIGHTEN only: the new limit; left out, it stays.")
    ] = None
    reason: ReasonInput

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        wanted = [value for value in _limits(self).values() if value is not None]
        if (self.action is StrategyAction.TIGHTEN) is not bool(wanted):
            raise ValueError("TIGHTEN, and no other action, takes the limits that change")
        return self


class StrategyWhatIfCells(Cells):
    """What the mandate has used of its total by now, and how many orders it has asked for."""

    state: str
    notional_used_quote: DecimalText
    orders_used: WholeText


class SuggestStrategyChangeOutput(SuggestionOutput):
    what_if: StrategyWhatIfCells


async def _suggest_strategy_change(
    context: ToolContext, arguments: SuggestStrategyChangeInput
) -> SuggestStrategyChangeOutput:
    engine = context.ports.engine
    mandates = await engine.mandates(context.account_id, include_ended=True)
    mandate = next(
        (
            mandate
            for mandate in mandates
            if (mandate.mandate_id, mandate.account_id) == (arguments.mandate_id, context.account_id)
        ),
        None,
    )
    if mandate is None:
        raise refuse(
            ReasonCode.AUTHORITY_MANDATE_UNKNOWN,
            "There is no such mandate in this account. list_strategies names those that there are.",
            actual=arguments.mandate_id,
        )
    limits = _limits(mandate)
    wanted = {name: value if value is not None else limits[name] for name, value in _limits(arguments).items()}
    _refuse_more(limits, wanted)
    is_tightened = arguments.action is StrategyAction.TIGHTEN
    if is_tightened and wanted == limits:
        raise refuse(ReasonCode.REQUEST_INVALID, "The mandate's limits are so already: nothing would change.")
    proposal = StrategyChangeProposal(
        schema=STRATEGY_CHANGE_PROPOSAL_SCHEMA,
        mandate_id=mandate.mandate_id,
        strategy_id=mandate.strategy_id,
        action=arguments.action.value.lower(),
        reason=arguments.reason,
        **{name: text_of(value) for name, value in limits.items()},
        **{f"new_{name}": text_of(value) if is_tightened else "" for name, value in wanted.items()},
        **common_fields(context, await engine.status(), arguments),
    )
    what_if = StrategyWhatIfCells(
        state=mandate.state, notional_used_quote=mandate.notional_used_quote, orders_used=mandate.orders_used
    )
    notes = ["What the strategy has open stays open; suggest to cancel it, or to halt the account."]
    if not is_tightened:
        notes.append("A mandate can't be paused: to let the strategy go on later, approve another one.")
    return SuggestStrategyChangeOutput(
        **await propose(context, proposal, arguments, around=None, what_if=what_if, notes=notes)
    )


def _limits(source: MandateView | SuggestStrategyChangeInput) -> dict[str, Decimal | None]:
    orders = source.max_open_orders
    return {
        "max_order_notional_quote": source.max_order_notional_quote,
        "max_position_notional_quote": source.max_position_notional_quote,
        "max_total_notional_quote": source.max_total_notional_quote,
        "max_open_orders": None if orders is None else Decimal(orders),
    }


def _refuse_more(limits: dict[str, Decimal | None], wanted: dict[str, Decimal | None]) -> None:
    for name, value in wanted.items():
        before = limits[name]
        assert before is not None, "a mandate has all of its limits"
        assert value is not None, "what isn't given stays as it was"
        if value > before:
            raise refuse(
                ReasonCode.AUTHORITY_KIND_NOT_ACCEPTED,
                "More than before needs a mandate of its own, approved by itself: veloz mandates approve. Only less "
                "can be suggested.",
                limit=decimal_text(before),
                actual=decimal_text(value),
                unit=name,
            )


async def own_order(context: ToolContext, client_order_id: str) -> OrderView:
    """An open order of the call's account. Raises RefusalError."""
    order = await context.ports.engine.order(client_order_id)
    if order.account_id != context.account_id:
        # The same as for one that isn't there: an id tells nothing to who may not see it.
        raise refuse(ReasonCode.ORDER_UNKNOWN, "There is no such order in this account. Look at the open orders.")
    if order.status.is_final:
        raise refuse(
            ReasonCode.ORDER_ALREADY_FINAL,
            f"The order is {order.status}; there is nothing left to change.",
            actual=order.status.value,
        )
    return order


_TRADERS = frozenset({Role.TRADER})

CHANGE_TOOLS = (
    ToolDefinition(
        name="suggest_amend",
        version="1",
        kind="suggest",
        description=(
            "Propose another total quantity or limit price for one resting LIMIT order, by its client_order_id. This "
            "changes nothing by itself: the suggestion waits, pending, until a person approves or rejects it. Use it "
            "when somebody asks to move or resize an order. It is bound to the order as it is now: when that fills or "
            "changes meanwhile, the engine refuses. Not for a stop (suggest_cancel, then suggest_order)."
        ),
        input_model=SuggestAmendInput,
        output_model=SuggestAmendOutput,
        run=_suggest_amend,
        roles=_TRADERS,
        scope=DataScope.ACCOUNT,
        sources=(Source.ENGINE_ORDERS, *SUGGEST_SOURCES),
        timeout_ms=SUGGEST_TIMEOUT_MS,
        cost=SUGGEST_COST,
        example={"client_order_id": "vz0123456789abcdef0123456789abcdef", "price": "58500"},
    ),
    ToolDefinition(
        name="suggest_kill_switch",
        version="1",
        kind="suggest",
        description=(
            "Propose to tighten the kill switch: REDUCE_ONLY, CANCEL_ONLY, or HALTED, which cancels every open order. "
            "This changes nothing by itself: the suggestion waits, pending, until a person approves or rejects it. Use "
            "it when trading has to stop; a person can also tighten it at once by themselves. Loosening it can't be "
            "suggested."
        ),
        input_model=SuggestKillSwitchInput,
        output_model=SuggestKillSwitchOutput,
        run=_suggest_kill_switch,
        roles=_TRADERS,
        scope=DataScope.ACCOUNT,
        sources=(Source.ENGINE_RISK, Source.ENGINE_ORDERS, Source.SQL_SUGGESTIONS),
        timeout_ms=SUGGEST_TIMEOUT_MS,
        cost=SUGGEST_COST,
        example={"state": "HALTED", "reason": "The feed looks wrong."},
    ),
    ToolDefinition(
        name="suggest_strategy_change",
        version="1",
        kind="suggest",
        description=(
            "Propose to end a strategy's mandate (REVOKE) or to lower its limits (TIGHTEN), by its mandate_id from "
            "list_strategies. This changes nothing by itself: the suggestion waits, pending, until a person approves "
            "or rejects it. Use it to stop or to rein in one strategy. Raising a limit isn't possible here: that is a "
            "new mandate with an approval of its own."
        ),
        input_model=SuggestStrategyChangeInput,
        output_model=SuggestStrategyChangeOutput,
        run=_suggest_strategy_change,
        roles=_TRADERS,
        scope=DataScope.ACCOUNT,
        sources=(Source.ENGINE_MANDATES, Source.SQL_SUGGESTIONS),
        timeout_ms=SUGGEST_TIMEOUT_MS,
        cost=SUGGEST_COST,
        example={"mandate_id": "man-1", "action": "REVOKE", "reason": "It trades against us."},
    ),
)
