"""The ports that tools reach the world by. None of them can place, amend or cancel an order (I1)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from typing import Any, Protocol

import msgspec

from audit.record import Action
from core.types.codes import Refusal
from core.types.orders import Side
from core.types.views import (
    EngineStatusView,
    ExecutionEstimateView,
    ExposureView,
    FeedHealthView,
    InstrumentView,
    KlineView,
    LimitUseView,
    MandateView,
    OrderBookView,
    OrderView,
    PositionView,
    PreTradeView,
    RiskCheckView,
    RiskExplanationView,
    RiskStateView,
    TickerView,
    TradeView,
    WhatIfView,
)
from tools.suggestions import Decision, Suggestion, SuggestionStatus


class EngineReads(Protocol):
    """The engine without execute_approval: all that a tool ever sees of it. check_proposal changes nothing."""

    async def status(self) -> EngineStatusView: ...
    async def instruments(self) -> list[InstrumentView]: ...
    async def ticker(self, symbol: str) -> TickerView: ...
    async def order_book(self, symbol: str, depth: int) -> OrderBookView: ...
    async def klines(self, symbol: str, interval: str, limit: int) -> list[KlineView]: ...
    async def trades(self, symbol: str, limit: int) -> list[TradeView]: ...
    async def feed_health(self, symbol: str | None = None) -> list[FeedHealthView]: ...
    async def estimate_execution(self, symbol: str, side: Side, quantity: Decimal) -> ExecutionEstimateView: ...
    async def positions(self, account_id: str) -> list[PositionView]: ...
    async def open_orders(self, account_id: str) -> list[OrderView]: ...
    async def order(self, client_order_id: str) -> OrderView: ...
    async def exposure(self, account_id: str) -> ExposureView: ...
    async def what_if(
        self,
        account_id: str,
        symbol: str,
        *,
        side: Side | None = None,
        quantity: Decimal | None = None,
        price: Decimal | None = None,
        price_move_bps: int | None = None,
    ) -> WhatIfView: ...
    async def mandates(self, account_id: str = "", *, include_ended: bool = False) -> list[MandateView]: ...
    async def risk_state(self, account_id: str) -> RiskStateView: ...
    async def limit_use(self, account_id: str) -> LimitUseView: ...
    async def explain_risk(self, client_order_id: str) -> RiskExplanationView: ...
    async def check_proposal(self, proposal: bytes) -> PreTradeView: ...


class ReadOnlyEngine:
    """Holds the read methods of an engine client and nothing else: the narrowing is there at run time too."""

    __slots__ = (
        "check_proposal",
        "estimate_execution",
        "explain_risk",
        "exposure",
        "feed_health",
        "instruments",
        "klines",
        "limit_use",
        "mandates",
        "open_orders",
        "order",
        "order_book",
        "positions",
        "risk_state",
        "status",
        "ticker",
        "trades",
        "what_if",
    )

    def __init__(self, engine: EngineReads) -> None:
        self.status = engine.status
        self.instruments = engine.instruments
        self.ticker = engine.ticker
        self.order_book = engine.order_book
        self.klines = engine.klines
        self.feed_health = engine.feed_health
        self.estimate_execution = engine.estimate_execution
        self.positions = engine.positions
        self.open_orders = engine.open_orders
        self.risk_state = engine.risk_state
        self.trades = engine.trades
        self.order = engine.order
        self.exposure = engine.exposure
        self.what_if = engine.what_if
        self.mandates = engine.mandates
        self.limit_use = engine.limit_use
        self.explain_risk = engine.explain_risk
        self.check_proposal = engine.check_proposal


class Trail(Protocol):
    """The audit trail as its writers here use it; audit.trail.AuditTrail is one.

    record MUST return only after the record is durable and raises RefusalError(SERVICE_AUDIT_UNAVAILABLE) otherwise.
    """

    async def record(
        self,
        *,
        action: Action,
        actor: str,
        resource: str,
        outcome: str,
        trace_id: str,
        actor_identity: str | None = None,
        on_behalf_of: str | None = None,
        account_id: str | None = None,
        run_id: str | None = None,
        suggestion_id: str | None = None,
        payload: Mapping[str, Any] | None = None,
    ) -> object: ...


class StoredResult(msgspec.Struct, frozen=True):
    """A released result: redacted data in RFC 8785 form, and whose it is. account_id is None for market data.
    arguments is what its call was given, redacted, in RFC 8785 form."""

    call_id: str
    run_id: str | None
    trace_id: str
    user_id: str
    account_id: str | None
    tool: str
    digest_hex: str
    canonical: bytes
    created_at_ns: int
    arguments: bytes = b"{}"


class Releases(Protocol):
    """Where the record of a call becomes durable together with its result: both, or neither (I7).

    release MUST return only after both are durable. Raises RefusalError: SERVICE_AUDIT_UNAVAILABLE, and
    REQUEST_INVALID for a call id that was used before. The other arguments are those of Trail.record.
    """

    async def release(
        self,
        result: StoredResult,
        *,
        action: Action,
        actor: str,
        resource: str,
        outcome: str,
        trace_id: str,
        actor_identity: str | None = None,
        on_behalf_of: str | None = None,
        account_id: str | None = None,
        run_id: str | None = None,
        payload: Mapping[str, Any] | None = None,
    ) -> None: ...


class ResultReads(Protocol):
    """Where figures resolve: results of the given accounts and those without an account; None for all else. Raises
    RefusalError(SERVICE_DATABASE_UNAVAILABLE)."""

    async def get(self, account_ids: tuple[str, ...], call_id: str) -> StoredResult | None: ...


class SuggestionReads(Protocol):
    """What tools may read of suggestions, in an account scope. Raises RefusalError(SERVICE_DATABASE_UNAVAILABLE)."""

    async def get(
        self, account_ids: tuple[str, ...], suggestion_id: str, version: int | None = None
    ) -> Suggestion | None:
        """The version, or the newest when none is given."""
        ...

    async def list(
        self,
        account_ids: tuple[str, ...],
        *,
        status: SuggestionStatus | None = None,
        before_id: str | None = None,
        limit: int = 50,
    ) -> list[Suggestion]:
        """Newest first; ids are ULIDs, so before_id is the cursor."""
        ...


class SuggestionStore(SuggestionReads, Protocol):
    """All of them. Raises as SuggestionReads does."""

    async def insert(self, suggestion: Suggestion) -> None: ...

    async def mark_viewed(
        self, account_ids: tuple[str, ...], suggestion_id: str, version: int, user_id: str, at_ns: int
    ) -> Suggestion | None:
        """Keeps this person's first look, and viewed_at when it is the first at all; returns the row as it now is."""
        ...

    def deciding(
        self, account_ids: tuple[str, ...], suggestion_id: str, version: int
    ) -> AbstractAsyncContextManager[Decision | None]:
        """The row, locked until the block ends: an approval and a rejection of one suggestion see each other.

        What Decision records is durable when the block ends without an exception; None when there is no such row.
        """
        ...


class FillRow(msgspec.Struct, frozen=True, kw_only=True):
    """A fill as SQL has it. fee_quote is None for a fee in an asset without a value in the quote asset; realised_pnl
    (before fees, of the account's position) where it wasn't measured."""

    sequence: int
    venue: str
    symbol: str
    trade_id: int
    client_order_id: str
    strategy_id: str
    side: str
    price: Decimal
    quantity: Decimal
    fee: Decimal
    fee_asset: str
    fee_quote: Decimal | None
    realised_pnl: Decimal | None
    is_maker: bool
    inferred: bool
    traded_ns: int


class ResultRow(msgspec.Struct, frozen=True, kw_only=True):
    """What the fills of one day, symbol and strategy made, in the symbol's quote asset. fees are those that have a
    value there; unmeasured counts the fills whose profit isn't known."""

    day: str
    symbol: str
    strategy_id: str
    fills: int
    unmeasured: int
    turnover: Decimal
    realised_pnl: Decimal
    strategy_realised_pnl: Decimal
    fees: Decimal


class FeeRow(msgspec.Struct, frozen=True, kw_only=True):
    """Fees of one day, symbol and asset, in that asset; fee_quote is None when a part has no value in quote."""

    day: str
    symbol: str
    asset: str
    fills: int
    maker: Decimal
    taker: Decimal
    fee_quote: Decimal | None


class FundingRow(msgspec.Struct, frozen=True, kw_only=True):
    """Funding of one day, symbol and asset, negative when it was paid."""

    day: str
    symbol: str
    asset: str
    amount: Decimal


class RefusalRow(msgspec.Struct, frozen=True, kw_only=True):
    """A refusal that the engine decided, or the venue's. kind is `order`, `amendment`, `approval` or `venue`."""

    kind: str
    reference: str
    symbol: str
    code: str
    refusal: Refusal
    checks: tuple[RiskCheckView, ...]
    rules_version: int | None
    decided_ns: int


class TradingHistory(Protocol):
    """The ledger's projections inside one account (row-level security). Days are calendar days of the account's time
    zone, both ends included. Raises RefusalError(SERVICE_DATABASE_UNAVAILABLE).

    results, fees and funding give at most limit rows, and one more when there are more.
    """

    async def time_zone(self, account_id: str) -> str: ...
    async def order(self, account_id: str, client_order_id: str) -> OrderView | None: ...
    async def fills(
        self,
        account_id: str,
        *,
        symbol: str | None = None,
        strategy_id: str | None = None,
        client_order_id: str | None = None,
        before: int | None = None,
        limit: int,
    ) -> list[FillRow]:
        """Newest first; before is the sequence of the last one seen."""
        ...

    async def results(self, account_id: str, from_day: str, to_day: str, limit: int) -> list[ResultRow]: ...
    async def fees(self, account_id: str, from_day: str, to_day: str, limit: int) -> list[FeeRow]: ...
    async def funding(self, account_id: str, from_day: str, to_day: str, limit: int) -> list[FundingRow]: ...
    async def refusal(self, account_id: str, reference: str | None) -> RefusalRow | None:
        """The newest of that order, request, suggestion or journal sequence; without one the account's newest."""
        ...


class PartHealth(msgspec.Struct, frozen=True):
    """One part of the service. detail says what is wrong, in words."""

    part: str
    healthy: bool
    detail: str | None = None


class HealthReads(Protocol):
    """How the service's own parts do, the engine aside. Raises nothing: what doesn't answer isn't healthy."""

    async def parts(self) -> list[PartHealth]: ...

    async def projected_sequence(self, engine_id: str) -> int | None:
        """Up to which record of that engine's journal SQL knows; None while that can't be asked."""
        ...
