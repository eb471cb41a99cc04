"""suggest_cancel: the end of one open order, or of all that an account has open, in one market or in every, as one
suggestion that a human decides on once (I1). It is of the orders that were listed, and of no other."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from core.authority.listed_orders import LISTED_ORDERS_LIMIT, ListedOrder, orders_text
from core.authority.proposal import CANCEL_LISTED_PROPOSAL_SCHEMA, CANCEL_PROPOSAL_SCHEMA
from core.authority.proposal_kinds import CancelListedProposal, CancelProposal
from core.types.codes import ReasonCode, refuse
from core.types.money import decimal_text
from core.types.views import OrderView
from tools.contracts import Role
from tools.market_tools import SymbolInput
from tools.registry import DataScope, Source, ToolContext, ToolDefinition
from tools.suggestion_changes import OrderIdInput, own_order
from tools.suggestion_common import (
    SUGGEST_COST,
    SUGGEST_TIMEOUT_MS,
    SuggestionInput,
    SuggestionOutput,
    common_fields,
    propose,
    text_of,
)
from tools.values import Cells, DecimalText, WholeText, parse_word_input


class CancelScope(StrEnum):
    ORDER = "ORDER"
    SYMBOL = "SYMBOL"
    ACCOUNT = "ACCOUNT"


class SuggestCancelInput(SuggestionInput):
    scope: Annotated[
        CancelScope,
        BeforeValidator(parse_word_input),
        Field(
            description="ORDER cancels the one in client_order_id, SYMBOL every open order in symbol, ACCOUNT every "
            "open order of the account."
        ),
    ] = CancelScope.ORDER
    client_order_id: OrderIdInput | None = None
    symbol: SymbolInput | None = None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        given = (self.client_order_id is not None, self.symbol is not None)
        if given != (self.scope is CancelScope.ORDER, self.scope is CancelScope.SYMBOL):
            raise ValueError(
                "scope ORDER (the default) takes client_order_id and nothing else, SYMBOL takes symbol, ACCOUNT neither"
            )
        return self


class CancelledOrderCells(Cells):
    """open_quantity is what would fill no more."""

    client_order_id: str
    symbol: str
    side: str
    order_type: str
    quantity: DecimalText
    price: DecimalText | None
    stop_price: DecimalText | None
    open_quantity: DecimalText
    filled_quantity: DecimalText
    status: str


class CancelWhatIfCells(Cells):
    open_orders: Annotated[WholeText, Field(description="How many orders would be cancelled.")]
    orders: list[CancelledOrderCells]


class SuggestCancelOutput(SuggestionOutput):
    what_if: CancelWhatIfCells


async def _suggest_cancel(context: ToolContext, arguments: SuggestCancelInput) -> SuggestCancelOutput:
    if arguments.client_order_id is not None:
        orders = [await own_order(context, arguments.client_order_id)]
    else:
        orders = await _orders_in_scope(context, arguments)
    common: dict[str, Any] = common_fields(context, await context.ports.engine.status(), arguments)
    proposal: CancelProposal | CancelListedProposal
    if arguments.client_order_id is not None:
        (order,) = orders
        proposal = CancelProposal(schema=CANCEL_PROPOSAL_SCHEMA, venue=order.venue, **_terms(order), **common)
        notes = []
    else:
        proposal = CancelListedProposal(
            schema=CANCEL_LISTED_PROPOSAL_SCHEMA,
            venue=orders[0].venue,
            symbol=orders[0].symbol if arguments.scope is CancelScope.SYMBOL else "",
            orders=orders_text(ListedOrder(**_terms(order)) for order in orders),
            **common,
        )
        notes = ["It is of the orders that are listed: what is placed after this stays open."]
    what_if = CancelWhatIfCells(open_orders=len(orders), orders=[_cells(order) for order in orders])
    return SuggestCancelOutput(**await propose(context, proposal, arguments, around=None, what_if=what_if, notes=notes))


async def _orders_in_scope(context: ToolContext, arguments: SuggestCancelInput) -> list[OrderView]:
    symbol = None if arguments.symbol is None else (await context.ports.instruments.find(arguments.symbol)).symbol
    orders = [
        order
        for order in await context.ports.engine.open_orders(context.account_id)
        if symbol in {None, order.symbol} and not order.status.is_final
    ]
    if not orders:
        raise refuse(ReasonCode.ORDER_UNKNOWN, f"There is no open order{f' in {symbol}' if symbol else ''} to cancel.")
    if len(orders) > LISTED_ORDERS_LIMIT:
        raise refuse(
            ReasonCode.REQUEST_INVALID,
            "That is more orders than one suggestion lists. Name a symbol, or suggest to halt the account with "
            "suggest_kill_switch; veloz cancel --all needs no approval.",
            limit=str(LISTED_ORDERS_LIMIT),
            actual=str(len(orders)),
            unit="orders",
        )
    return sorted(orders, key=lambda order: (order.symbol, order.created_ns, order.client_order_id))


def _terms(order: OrderView) -> dict[str, str]:
    """As both kinds of proposal state them."""
    return {
        "client_order_id": order.client_order_id,
        "symbol": order.symbol,
        "side": order.side.value,
        "order_type": order.order_type.value,
        "quantity": decimal_text(order.quantity),
        "price": text_of(order.price),
        "stop_price": text_of(order.stop_price),
    }


def _cells(order: OrderView) -> CancelledOrderCells:
    return CancelledOrderCells(
        client_order_id=order.client_order_id,
        symbol=order.symbol,
        side=order.side.value,
        order_type=order.order_type.value,
        quantity=order.quantity,
        price=order.price,
        stop_price=order.stop_price,
        open_quantity=order.quantity - order.filled_quantity,
        filled_quantity=order.filled_quantity,
        status=order.status.value,
    )


SUGGEST_CANCEL = ToolDefinition(
    name="suggest_cancel",
    version="2",
    kind="suggest",
    description=(
        "Propose to cancel one open order, by its client_order_id from get_open_orders, or with scope SYMBOL or "
        "ACCOUNT all that are open, as one suggestion that lists them. This changes nothing by itself: the suggestion "
        "waits, pending, until a person approves or rejects it. Use it when somebody plainly asks for orders to be "
        "cancelled; to stop trading as well there is suggest_kill_switch."
    ),
    input_model=SuggestCancelInput,
    output_model=SuggestCancelOutput,
    run=_suggest_cancel,
    roles=frozenset({Role.TRADER}),
    scope=DataScope.ACCOUNT,
    sources=(Source.ENGINE_ORDERS, Source.SQL_SUGGESTIONS),
    timeout_ms=SUGGEST_TIMEOUT_MS,
    cost=SUGGEST_COST,
    example={"client_order_id": "vz0123456789abcdef0123456789abcdef"},
)
