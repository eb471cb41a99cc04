"""Tools that look back at one order and at fills. They read the ledger's projections inside one account."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from core.types.codes import ReasonCode, RefusalError, refuse
from core.types.views import OrderView
from tools.account_tools import AccountOnlyInput, AccountSymbolInput, OrderCells, order_cells
from tools.holdings_tools import RefusalCells, refusal_cells
from tools.market_tools import EVERYONE, READ_TIMEOUT_MS
from tools.ports import FillRow
from tools.projection_lag import BehindText, records_behind
from tools.registry import DataScope, Source, ToolContext, ToolDefinition
from tools.values import Cells, DecimalText, ToolOutput, WholeInput, WholeText, utc_text

FILLS_LIMIT = 200
ORDER_FILLS_LIMIT = 100

OrderIdInput = Annotated[
    str,
    Field(
        min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$", description="The order's client_order_id, such as vz..."
    ),
]


class GetOrderInput(AccountOnlyInput):
    client_order_id: OrderIdInput


class FillCells(Cells):
    trade_id: WholeText
    symbol: str
    client_order_id: str
    strategy_id: str
    side: str
    price: DecimalText
    quantity: DecimalText
    notional_quote: DecimalText
    fee: DecimalText
    fee_asset: str
    fee_quote: DecimalText | None
    realised_pnl: Annotated[
        DecimalText | None, Field(description="What it realised in the quote asset, before fees; null if not measured.")
    ]
    is_maker: bool
    inferred: bool
    traded_at: str


class GetOrderOutput(ToolOutput):
    account_id: str
    found_in: str
    order: Annotated[OrderCells, Field(description="The order as it stands.")]
    venue: str
    strategy_id: str
    authority_id: str
    refusal: RefusalCells | None
    fills: list[FillCells]
    truncated: bool


async def _get_order(context: ToolContext, arguments: GetOrderInput) -> GetOrderOutput:
    order_id = arguments.client_order_id
    order, found_in = await _find_order(context, order_id)
    rows = await context.ports.history.fills(context.account_id, client_order_id=order_id, limit=ORDER_FILLS_LIMIT + 1)
    return GetOrderOutput(
        as_of_ns=order.as_of_ns,
        account_id=context.account_id,
        found_in=found_in,
        order=order_cells(order),
        venue=order.venue,
        strategy_id=order.strategy_id,
        authority_id=order.authority_id,
        refusal=None if order.refusal is None else refusal_cells(order.refusal),
        fills=[_fill_cells(row) for row in rows[:ORDER_FILLS_LIMIT]],
        truncated=len(rows) > ORDER_FILLS_LIMIT,
    )


async def _find_order(context: ToolContext, order_id: str) -> tuple[OrderView, str]:
    """Of the engine while it has it, which knows it first; else of SQL. Somebody else's order is no order."""
    try:
        order = await context.ports.engine.order(order_id)
    except RefusalError as error:
        if error.refusal.code is not ReasonCode.ORDER_UNKNOWN:
            raise
    else:
        if order.account_id == context.account_id:
            return order, "engine"
        raise _no_order(context, order_id)
    stored = await context.ports.history.order(context.account_id, order_id)
    if stored is None:
        raise _no_order(context, order_id)
    return stored, "sql"


def _no_order(context: ToolContext, order_id: str) -> RefusalError:
    return refuse(
        ReasonCode.RESOURCE_NOT_FOUND,
        f"There is no order {order_id} in account {context.account_id}. Check the id.",
        actual=order_id,
        unit="order",
    )


class GetFillsInput(AccountSymbolInput):
    strategy_id: Annotated[
        str | None, Field(max_length=64, description="Only this strategy's; empty text for people's own orders.")
    ] = None
    client_order_id: OrderIdInput | None = None
    before: Annotated[
        WholeInput | None, Field(gt=0, description="next_before of the page before, for older fills.")
    ] = None
    limit: Annotated[WholeInput, Field(ge=1, le=FILLS_LIMIT, description="How many, the newest first.")] = 20


class GetFillsOutput(ToolOutput):
    account_id: str
    count: WholeText
    fills: list[FillCells]
    truncated: bool
    next_before: WholeText | None
    records_behind: BehindText


async def _get_fills(context: ToolContext, arguments: GetFillsInput) -> GetFillsOutput:
    symbol = (await context.ports.instruments.find(arguments.symbol)).symbol if arguments.symbol else None
    rows = await context.ports.history.fills(
        context.account_id,
        symbol=symbol,
        strategy_id=arguments.strategy_id,
        client_order_id=arguments.client_order_id,
        before=arguments.before,
        limit=arguments.limit + 1,
    )
    shown = rows[: arguments.limit]
    truncated = len(rows) > len(shown)
    return GetFillsOutput(
        as_of_ns=context.ports.clock.now_ns(),
        account_id=context.account_id,
        count=len(shown),
        fills=[_fill_cells(row) for row in shown],
        truncated=truncated,
        next_before=shown[-1].sequence if truncated else None,
        records_behind=await records_behind(context),
    )


def _fill_cells(row: FillRow) -> FillCells:
    return FillCells(
        trade_id=row.trade_id,
        symbol=row.symbol,
        client_order_id=row.client_order_id,
        strategy_id=row.strategy_id,
        side=row.side,
        price=row.price,
        quantity=row.quantity,
        notional_quote=row.price * row.quantity,
        fee=row.fee,
        fee_asset=row.fee_asset,
        fee_quote=row.fee_quote,
        realised_pnl=row.realised_pnl,
        is_maker=row.is_maker,
        inferred=row.inferred,
        traded_at=utc_text(row.traded_ns),
    )


HISTORY_TOOLS = (
    ToolDefinition(
        name="get_order",
        version="1",
        kind="read",
        description=(
            "One order by its id, open or over: all terms, status, how much is filled at what price, by what "
            "authority it is there, why it was refused, and its fills. Use it for `what became of order vz...`. Not "
            "for the list of open orders (get_open_orders), nor for every risk check that it met "
            "(explain_rejection). Quantities are in the base asset, prices in the quote asset."
        ),
        input_model=GetOrderInput,
        output_model=GetOrderOutput,
        run=_get_order,
        roles=EVERYONE,
        scope=DataScope.ACCOUNT,
        sources=(Source.ENGINE_ORDERS, Source.SQL_ORDERS, Source.SQL_FILLS),
        timeout_ms=READ_TIMEOUT_MS,
        example={"client_order_id": "vz0123456789abcdef0123456789ab"},
    ),
    ToolDefinition(
        name="get_fills",
        version="1",
        kind="read",
        description=(
            "The account's fills, newest first: price, quantity, fee, what each realised, maker or taker, its order "
            "and strategy; by symbol, strategy or order, in pages (give next_before as before). Use it for "
            "executions and trade history. Not for sums (get_pnl, get_fees), nor for public trades (get_trades). fee "
            "is in fee_asset; amounts in the quote asset."
        ),
        input_model=GetFillsInput,
        output_model=GetFillsOutput,
        run=_get_fills,
        roles=EVERYONE,
        scope=DataScope.ACCOUNT,
        sources=(Source.SQL_FILLS, Source.SQL_PROJECTIONS, Source.ENGINE_STATUS),
        timeout_ms=READ_TIMEOUT_MS,
        example={"symbol": "BTCUSDT", "limit": 20},
    ),
)
