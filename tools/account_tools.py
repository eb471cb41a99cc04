"""Tools that look at one account: what it holds, what is open, what risk allows, what was learnt from past trades."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated

import msgspec
from pydantic import Field

from core.types.codes import ReasonCode, refuse
from core.types.views import OrderView, PositionView, RiskCheckView
from knowledge.search import QUERY_LIMIT_CHARS, RESULTS_LIMIT, ReviewHit
from tools.market_tools import EVERYONE, READ_TIMEOUT_MS, SymbolInput
from tools.registry import DataScope, Source, ToolContext, ToolDefinition
from tools.suggestions import Suggestion, SuggestionStatus
from tools.untrusted import UntrustedText
from tools.values import Cells, DecimalText, ToolInput, ToolOutput, WholeInput, WholeText, utc_text

SEARCH_TIMEOUT_MS = 5_000
SUGGESTIONS_LIMIT = 100
_WINDOW = re.compile(r"per ([0-9]+) ms")

AccountInput = Annotated[
    str | None,
    Field(max_length=64, description="The account; leave it out when you have only one."),
]


class AccountOnlyInput(ToolInput):
    account_id: AccountInput = None


class AccountSymbolInput(AccountOnlyInput):
    symbol: SymbolInput | None = None


class PositionCells(Cells):
    symbol: str
    direction: str
    quantity: DecimalText
    average_price: DecimalText
    mark_price: DecimalText | None
    notional_quote: DecimalText | None
    unrealised_pnl_quote: DecimalText | None
    realised_pnl_quote: DecimalText
    fees_quote: DecimalText


class GetPositionsOutput(ToolOutput):
    """Totals are sums over the positions shown; unrealised_pnl_quote is None when one of them has no mark."""

    account_id: str
    count: WholeText
    realised_pnl_quote: DecimalText
    unrealised_pnl_quote: DecimalText | None
    fees_quote: DecimalText
    positions: list[PositionCells]


async def _get_positions(context: ToolContext, arguments: AccountSymbolInput) -> GetPositionsOutput:
    symbol = (await context.ports.instruments.find(arguments.symbol)).symbol if arguments.symbol else None
    positions = await context.ports.engine.positions(context.account_id)
    shown = [position for position in positions if symbol in {None, position.symbol}]
    unrealised = [position.unrealised_pnl_quote for position in shown]
    return GetPositionsOutput(
        as_of_ns=min((position.as_of_ns for position in shown), default=context.ports.clock.now_ns()),
        account_id=context.account_id,
        count=len(shown),
        realised_pnl_quote=sum((position.realised_pnl_quote for position in shown), Decimal(0)),
        unrealised_pnl_quote=_sum_if_all(unrealised),
        fees_quote=sum((position.fees_quote for position in shown), Decimal(0)),
        positions=[_position_cells(position) for position in shown],
    )


def _position_cells(position: PositionView) -> PositionCells:
    mark = position.mark_price
    return PositionCells(
        symbol=position.symbol,
        direction="long" if position.quantity > 0 else "short" if position.quantity < 0 else "flat",
        quantity=position.quantity,
        average_price=position.average_price,
        mark_price=mark,
        notional_quote=abs(position.quantity) * mark if mark is not None else None,
        unrealised_pnl_quote=position.unrealised_pnl_quote,
        realised_pnl_quote=position.realised_pnl_quote,
        fees_quote=position.fees_quote,
    )


def _sum_if_all(amounts: list[Decimal | None]) -> Decimal | None:
    known = [amount for amount in amounts if amount is not None]
    return sum(known, Decimal(0)) if len(known) == len(amounts) else None


class OrderCells(Cells):
    symbol: str
    client_order_id: str
    venue_order_id: str | None
    suggestion_id: str | None
    side: str
    order_type: str
    time_in_force: str
    quantity: DecimalText
    filled_quantity: DecimalText
    open_quantity: DecimalText
    price: DecimalText | None
    stop_price: DecimalText | None
    trailing_offset_bps: WholeText | None
    average_fill_price: DecimalText | None
    status: str
    authority: str
    created_at: str


class GetOpenOrdersOutput(ToolOutput):
    account_id: str
    count: WholeText
    orders: list[OrderCells]


async def _get_open_orders(context: ToolContext, arguments: AccountSymbolInput) -> GetOpenOrdersOutput:
    symbol = (await context.ports.instruments.find(arguments.symbol)).symbol if arguments.symbol else None
    orders = await context.ports.engine.open_orders(context.account_id)
    shown = [order for order in orders if symbol in {None, order.symbol}]
    return GetOpenOrdersOutput(
        as_of_ns=min((order.as_of_ns for order in shown), default=context.ports.clock.now_ns()),
        account_id=context.account_id,
        count=len(shown),
        orders=[order_cells(order) for order in shown],
    )


def order_cells(order: OrderView) -> OrderCells:
    return OrderCells(
        symbol=order.symbol,
        client_order_id=order.client_order_id,
        venue_order_id=order.venue_order_id,
        suggestion_id=order.suggestion_id,
        side=order.side.value,
        order_type=order.order_type.value,
        time_in_force=order.time_in_force.value,
        quantity=order.quantity,
        filled_quantity=order.filled_quantity,
        open_quantity=order.quantity - order.filled_quantity,
        price=order.price,
        stop_price=order.stop_price,
        trailing_offset_bps=order.trailing_offset_bps,
        average_fill_price=order.average_fill_price,
        status=order.status.value,
        authority=order.authority,
        created_at=utc_text(order.created_ns),
    )


class LimitCells(Cells):
    """window_ms is set for a rate: at most limit within it."""

    name: str
    limit: str | None
    actual: str | None
    unit: str | None
    window_ms: WholeText | None
    passed: bool


class GetRiskStateOutput(ToolOutput):
    account_id: str
    kill_switch: str
    venue_connected: bool
    rules_version: WholeText
    frozen_reason: UntrustedText | None
    limits: list[LimitCells]


async def _get_risk_state(context: ToolContext, arguments: AccountOnlyInput) -> GetRiskStateOutput:
    state = await context.ports.engine.risk_state(context.account_id)
    return GetRiskStateOutput(
        as_of_ns=state.as_of_ns,
        account_id=state.account_id,
        kill_switch=state.kill_switch,
        venue_connected=state.venue_connected,
        rules_version=state.rules_version,
        frozen_reason=state.frozen_reason,
        limits=[_limit_cells(check) for check in state.limits],
    )


def _limit_cells(check: RiskCheckView) -> LimitCells:
    # Of a rate the unit is `per 1000 ms`: a figure needs a cell of its own.
    window = _WINDOW.fullmatch(check.unit or "")
    return LimitCells(
        name=check.name,
        limit=check.limit,
        actual=check.actual,
        unit=None if window else check.unit,
        window_ms=int(window[1]) if window else None,
        passed=check.passed,
    )


class SearchReviewsInput(AccountOnlyInput):
    query: Annotated[
        str, Field(min_length=1, max_length=QUERY_LIMIT_CHARS, description="What to look for, in plain words.")
    ]
    limit: Annotated[WholeInput, Field(ge=1, le=RESULTS_LIMIT)] = 5


class ReviewCells(Cells):
    """The facts are those that the review has; times are UTC, amounts in quote currency."""

    review_id: str
    position_id: str
    symbol: str
    closed_at: str
    narrative: UntrustedText
    facts: dict[str, str]


class SearchReviewsOutput(ToolOutput):
    account_id: str
    query: str
    count: WholeText
    reviews: list[ReviewCells]


async def _search_reviews(context: ToolContext, arguments: SearchReviewsInput) -> SearchReviewsOutput:
    hits = await context.ports.reviews.search((context.account_id,), arguments.query, arguments.limit)
    return SearchReviewsOutput(
        as_of_ns=context.ports.clock.now_ns(),
        account_id=context.account_id,
        query=arguments.query,
        count=len(hits),
        reviews=[_review_cells(hit) for hit in hits],
    )


def _review_cells(hit: ReviewHit) -> ReviewCells:
    review = hit.review
    return ReviewCells(
        review_id=review.review_id,
        position_id=review.position_id,
        symbol=review.symbol,
        closed_at=utc_text(review.closed_ns),
        narrative=review.narrative,
        facts=review.facts,
    )


class GetSuggestionInput(AccountOnlyInput):
    suggestion_id: Annotated[str, Field(pattern=r"^[0-9A-Za-z]{26}$", description="The suggestion's 26-character id.")]


class LegCells(Cells):
    role: Annotated[str, Field(description="entry, take_profit or stop")]
    client_order_id: str
    status: Annotated[str, Field(description="The order's; HELD waits in the engine for its entry or its trigger.")]
    quantity: str
    filled_quantity: str


class GetSuggestionOutput(ToolOutput):
    """status is pending, approved, rejected, expired, superseded, consumed, executed, failed or needs_review. A bracket
    is executed once its entry has filled and its exits stand, and needs review when one of those failed."""

    suggestion_id: str
    version: WholeText
    account_id: str
    status: str
    digest: str
    proposal: dict[str, str]
    created_at: str
    expires_at: str
    decided_at: str | None
    decided_by: str | None
    decision_reason: UntrustedText | None
    refusal_code: str | None
    client_order_id: str | None
    legs: Annotated[list[LegCells], Field(description="An approved bracket's orders, the entry first; else empty.")]


async def _get_suggestion(context: ToolContext, arguments: GetSuggestionInput) -> GetSuggestionOutput:
    suggestion_id = arguments.suggestion_id.upper()
    suggestion = await context.ports.suggestions.get((context.account_id,), suggestion_id)
    if suggestion is None:
        raise refuse(
            ReasonCode.RESOURCE_NOT_FOUND,
            f"There is no suggestion {suggestion_id} in account {context.account_id}. Check the id.",
            actual=suggestion_id,
            unit="suggestion",
        )
    now_ns = context.ports.clock.now_ns()
    return GetSuggestionOutput(
        as_of_ns=now_ns,
        suggestion_id=suggestion.suggestion_id,
        version=suggestion.version,
        account_id=suggestion.account_id,
        status=suggestion.status_at(now_ns).value,
        digest=suggestion.digest_hex,
        proposal=suggestion.order_fields(),
        created_at=utc_text(suggestion.created_at_ns),
        expires_at=utc_text(suggestion.expires_at_ns),
        decided_at=utc_text(suggestion.decided_at_ns) if suggestion.decided_at_ns is not None else None,
        decided_by=suggestion.decided_by,
        decision_reason=suggestion.decision_reason,
        refusal_code=suggestion.refusal_code,
        client_order_id=suggestion.client_order_id,
        legs=[LegCells(**msgspec.structs.asdict(leg)) for leg in suggestion.legs],
    )


class ListSuggestionsInput(AccountOnlyInput):
    status: Annotated[SuggestionStatus | None, Field(description="Only those that stand there.")] = None
    before: Annotated[
        str | None, Field(pattern=r"^[0-9A-Za-z]{26}$", description="next_before of the page before, for older ones.")
    ] = None
    limit: Annotated[WholeInput, Field(ge=1, le=SUGGESTIONS_LIMIT, description="How many, the newest first.")] = 20


class SuggestionCells(Cells):
    suggestion_id: str
    version: WholeText
    kind: Annotated[str, Field(description="What is proposed: order, amend, cancel, bracket, kill_switch, ...")]
    status: str
    symbol: Annotated[str | None, Field(description="Of the proposed order; null where there is none.")]
    side: str | None
    quantity: Annotated[str | None, Field(description="Of the proposed order, in the base asset.")]
    price: Annotated[str | None, Field(description="Its limit price; null for a market order.")]
    order_type: str | None
    notional_quote: str | None
    asker_id: str
    created_at: str
    expires_at: str
    decided_at: str | None
    decided_by: str | None
    refusal_code: str | None
    client_order_id: str | None


class ListSuggestionsOutput(ToolOutput):
    account_id: str
    count: WholeText
    pending_count: Annotated[WholeText, Field(description="How many of those listed wait for a decision.")]
    suggestions: list[SuggestionCells]
    truncated: bool
    next_before: str | None


async def _list_suggestions(context: ToolContext, arguments: ListSuggestionsInput) -> ListSuggestionsOutput:
    rows = await context.ports.suggestions.list(
        (context.account_id,),
        status=arguments.status,
        before_id=arguments.before.upper() if arguments.before else None,
        limit=arguments.limit + 1,
    )
    now_ns = context.ports.clock.now_ns()
    shown = rows[: arguments.limit]
    truncated = len(rows) > len(shown)
    return ListSuggestionsOutput(
        as_of_ns=now_ns,
        account_id=context.account_id,
        count=len(shown),
        pending_count=sum(row.status_at(now_ns) is SuggestionStatus.PENDING for row in shown),
        suggestions=[_suggestion_cells(row, now_ns) for row in shown],
        truncated=truncated,
        next_before=shown[-1].suggestion_id if truncated else None,
    )


def _suggestion_cells(row: Suggestion, now_ns: int) -> SuggestionCells:
    fields = row.order_fields()
    return SuggestionCells(
        suggestion_id=row.suggestion_id,
        version=row.version,
        kind=row.kind,
        status=row.status_at(now_ns).value,
        **{
            name: fields.get(name) or None
            for name in ("symbol", "side", "quantity", "price", "order_type", "notional_quote")
        },
        asker_id=row.asker_id,
        created_at=utc_text(row.created_at_ns),
        expires_at=utc_text(row.expires_at_ns),
        decided_at=utc_text(row.decided_at_ns) if row.decided_at_ns is not None else None,
        decided_by=row.decided_by,
        refusal_code=row.refusal_code,
        client_order_id=row.client_order_id,
    )


ACCOUNT_TOOLS = (
    ToolDefinition(
        name="get_positions",
        version="1",
        kind="read",
        description=(
            "The account's positions: quantity (negative is short), average price, mark price, notional, realised "
            "and unrealised profit and loss and fees in quote currency, with totals. Give a symbol to see one "
            "instrument. Use it for what is held, at what price, and its profit now. Not for profit by day or "
            "strategy (get_pnl), nor for cash (get_balances)."
        ),
        input_model=AccountSymbolInput,
        output_model=GetPositionsOutput,
        run=_get_positions,
        roles=EVERYONE,
        scope=DataScope.ACCOUNT,
        sources=(Source.ENGINE_PORTFOLIO,),
        timeout_ms=READ_TIMEOUT_MS,
        example={"symbol": "BTCUSDT"},
    ),
    ToolDefinition(
        name="get_open_orders",
        version="1",
        kind="read",
        description=(
            "The account's orders that are not final: side, type, price, quantity, how much is filled, status. "
            "UNKNOWN means sent without an answer: it may be live. Give a symbol to see one instrument. Use it for "
            "what is working. Not for one order by its id or one that is over (get_order)."
        ),
        input_model=AccountSymbolInput,
        output_model=GetOpenOrdersOutput,
        run=_get_open_orders,
        roles=EVERYONE,
        scope=DataScope.ACCOUNT,
        sources=(Source.ENGINE_ORDERS,),
        timeout_ms=READ_TIMEOUT_MS,
        example={"symbol": "BTCUSDT"},
    ),
    ToolDefinition(
        name="get_risk_state",
        version="1",
        kind="read",
        description=(
            "The risk limits in force for the account (largest order, price collar, allowed drift, book age), "
            "whether the kill switch is on and whether the venue is connected. Use it for the rules themselves. Not "
            "for how much of each is used (get_risk_limits), nor for why an order was refused (explain_rejection)."
        ),
        input_model=AccountOnlyInput,
        output_model=GetRiskStateOutput,
        run=_get_risk_state,
        roles=EVERYONE,
        scope=DataScope.ACCOUNT,
        sources=(Source.ENGINE_RISK,),
        timeout_ms=READ_TIMEOUT_MS,
        example={},
    ),
    ToolDefinition(
        name="search_reviews",
        version="1",
        kind="read",
        description=(
            "Search the reviews of the account's closed positions by plain words (instrument, side, profit or loss, "
            "slippage, holding time). Each hit has a narrative and its facts as figures. Use it for past trades. Not "
            "for single fills (get_fills)."
        ),
        input_model=SearchReviewsInput,
        output_model=SearchReviewsOutput,
        run=_search_reviews,
        roles=EVERYONE,
        scope=DataScope.REVIEWS,
        sources=(Source.SQL_REVIEWS,),
        timeout_ms=SEARCH_TIMEOUT_MS,
        cost=2,
        example={"query": "losing trades with high slippage", "limit": 5},
    ),
    ToolDefinition(
        name="get_suggestion",
        version="1",
        kind="read",
        description=(
            "What became of a suggested order: pending, approved, rejected, expired, consumed, executed or failed, "
            "by whom and why, with the exact order that was proposed. Use it with the id of a suggestion. Not for "
            "finding one (list_suggestions), nor for an order (get_order)."
        ),
        input_model=GetSuggestionInput,
        output_model=GetSuggestionOutput,
        run=_get_suggestion,
        roles=EVERYONE,
        scope=DataScope.ACCOUNT,
        sources=(Source.SQL_SUGGESTIONS, Source.SQL_ORDERS),
        timeout_ms=READ_TIMEOUT_MS,
        example={"suggestion_id": "01KAXB7Z3M2N4P5Q6R7S8T9V0W"},
    ),
    ToolDefinition(
        name="list_suggestions",
        version="1",
        kind="read",
        description=(
            "The account's suggestions, newest first: what was proposed, by whom, where each stands (pending, "
            "approved, rejected, expired, consumed, executed, failed, ...) and when it expires; by status, in pages. "
            "Use it for what waits for approval and what became of earlier ones. Not for one by its id "
            "(get_suggestion), nor for orders at the venue (get_open_orders)."
        ),
        input_model=ListSuggestionsInput,
        output_model=ListSuggestionsOutput,
        run=_list_suggestions,
        roles=EVERYONE,
        scope=DataScope.ACCOUNT,
        sources=(Source.SQL_SUGGESTIONS,),
        timeout_ms=READ_TIMEOUT_MS,
        example={"status": "pending", "limit": 20},
    ),
)
