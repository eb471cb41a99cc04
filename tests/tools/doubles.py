"""Port doubles: small in-memory implementations of the gateway's ports, with switches for what can go wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from audit.record import Action, AuditRecord, record_bytes
from audit.trail import as_text
from core.authority.proposal import parse_proposal, proposal_digest
from core.types.clock import ManualClock
from core.types.codes import ReasonCode, Refusal, RefusalError, refuse
from core.types.ids import SystemIdSource, TraceContext, new_trace
from core.types.orders import OrderStatus, OrderType, Side, TimeInForce
from core.types.views import (
    AssetView,
    EngineStatusView,
    ExecutionEstimateView,
    ExecutionOutcomeView,
    ExposureLineView,
    ExposureView,
    FeedHealthView,
    InstrumentView,
    KlineView,
    LevelView,
    LimitUseLineView,
    LimitUseView,
    MandateView,
    OrderBookView,
    OrderView,
    PositionView,
    PreTradeView,
    RiskCheckView,
    RiskExplanationView,
    RiskStateView,
    RosterEntryView,
    RosterView,
    TickerView,
    TradeView,
    WhatIfView,
)
from knowledge.reviews import Review
from knowledge.search import ReviewHit
from tests.tools.backtest_doubles import MemoryBacktests
from tools.approvals import Approvals
from tools.composition import build_gateway
from tools.contracts import Principal, Role, ToolCall
from tools.limits import Limiter
from tools.pipeline import ToolGateway
from tools.policy import PolicySource
from tools.ports import FeeRow, FillRow, FundingRow, PartHealth, RefusalRow, ResultRow, StoredResult
from tools.registry import Registry
from tools.suggestions import GivenSignature, Suggestion, SuggestionStatus
from tools.taint import Conversation, SeenResult

NOW_NS = 1_767_225_600_000_000_000
ACCOUNT = "acct-demo"
MAX_NOTIONAL = Decimal(250_000)
IDS = SystemIdSource()

TRADER = Principal("user-trader", "trader", Role.TRADER, (ACCOUNT,))
APPROVER = Principal("user-approver", "approver", Role.APPROVER, (ACCOUNT,))
SECOND = Principal("user-second", "second", Role.APPROVER, (ACCOUNT,))
COMPLIANCE = Principal("user-compliance", "compliance", Role.COMPLIANCE, (ACCOUNT,))


def instrument(symbol: str = "BTCUSDT") -> InstrumentView:
    return InstrumentView(
        venue="paper",
        symbol=symbol,
        base_asset=symbol.removesuffix("USDT"),
        quote_asset="USDT",
        tick_size=Decimal("0.01"),
        lot_size=Decimal("0.00001"),
        min_quantity=Decimal("0.00001"),
        max_quantity=Decimal(9000),
        min_notional_quote=Decimal(5),
        price_scale=2,
        quantity_scale=5,
        version=3,
    )


OPEN_ORDER = OrderView(
    account_id=ACCOUNT,
    symbol="BTCUSDT",
    client_order_id="vz0123456789abcdef0123456789abcdef",
    venue_order_id="9001",
    side=Side.BUY,
    order_type=OrderType.LIMIT,
    time_in_force=TimeInForce.GTC,
    quantity=Decimal("0.5"),
    price=Decimal(58_000),
    filled_quantity=Decimal(0),
    average_fill_price=None,
    status=OrderStatus.ACCEPTED,
    suggestion_id=None,
    created_ns=NOW_NS,
    as_of_ns=NOW_NS,
    venue="paper",
)
"""The order that the examples of tools speak of."""


class MemoryEngine:
    """A market of BTCUSDT around 60,000 with three levels a side. `executed` counts what reached execution."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.failing: BaseException | None = None
        self.execution_failing: RefusalError | None = None
        self.execution_refusal: Refusal | None = None
        self.calls: list[str] = []
        self.resting: list[OrderView] = []
        self.known_orders: list[OrderView] = [OPEN_ORDER]
        self.explanations: list[RiskExplanationView] = []
        self.imagined: list[tuple[object, ...]] = []
        self.executed: list[tuple[bytes, str, list[tuple[str, bytes]], TraceContext]] = []
        self.consumed: set[str] = set()
        self.approvals_due = 1
        self.unknown_keys: set[str] = set()
        self.voided: dict[str, int] = {}
        self.key_owners: dict[str, str] = {}
        self.refuses_unconsumed = False
        self.void_refusal: Refusal | None = None
        self.asked_to_execute: list[list[str]] = []
        self.risk_limits: tuple[RiskCheckView, ...] = (
            RiskCheckView(ReasonCode.RISK_PRICE_DRIFT_EXCEEDS_MAX.value, True, "50", None, "bps"),
            RiskCheckView(ReasonCode.RISK_INTENT_REPEATED.value, True, "5", None, "per 10000 ms", "global"),
        )
        self.bids = (level("59999.99", "2"), level("59999.50", "3"), level("59990", "5"))
        self.asks = (level("60000.01", "1"), level("60001", "2"), level("60010", "4"))

    def _seen(self, name: str) -> None:
        self.calls.append(name)
        if self.failing is not None:
            raise self.failing

    async def status(self) -> EngineStatusView:
        self._seen("status")
        now_ns = self.clock.now_ns()
        return EngineStatusView("engine-1", 1, "local", "PAPER", 7, True, "NORMAL", 1, {"BTCUSDT": "LIVE"}, now_ns)

    async def instruments(self) -> list[InstrumentView]:
        self._seen("instruments")
        return [instrument("ETHUSDT"), instrument("BTCUSDT")]

    async def ticker(self, symbol: str) -> TickerView:
        self._seen("ticker")
        now_ns = self.clock.now_ns()
        bid, ask = self.bids[0], self.asks[0]
        return TickerView(
            symbol,
            bid.price,
            bid.quantity,
            ask.price,
            ask.quantity,
            4242,
            Decimal("60000.01"),
            Decimal("0.2"),
            now_ns,
            now_ns,
        )

    async def order_book(self, symbol: str, depth: int) -> OrderBookView:
        self._seen("order_book")
        return OrderBookView(symbol, "LIVE", None, 4242, self.bids[:depth], self.asks[:depth], self.clock.now_ns())

    async def klines(self, symbol: str, interval: str, limit: int) -> list[KlineView]:
        self._seen("klines")
        minute_ns = 60_000_000_000
        start = self.clock.now_ns() - 3 * minute_ns
        rows = [("100", "110", "95", "105"), ("105", "120", "104", "118"), ("118", "119", "90", "99")]
        return [
            KlineView(
                start + n * minute_ns,
                start + (n + 1) * minute_ns - 1,
                *(Decimal(price) for price in row),
                Decimal("1.5"),
                Decimal("150"),
                10,
                True,
            )
            for n, row in enumerate(rows)
        ][-limit:]

    async def feed_health(self, symbol: str | None = None) -> list[FeedHealthView]:
        """BTCUSDT is LIVE; ETHUSDT has just had a gap."""
        self._seen("feed_health")
        live = FeedHealthView(
            symbol="BTCUSDT",
            book_state="LIVE",
            stale_reason=None,
            book_age_ms=45,
            ticker_age_ms=17,
            exchange_latency_ms_p50=Decimal("12.345"),
            exchange_latency_ms_p99=Decimal("81.2"),
            clock_offset_ms=-3,
            message_rate_per_s=Decimal("31.4"),
            messages=9_876,
            gaps=2,
            resyncs=4,
            transitions=7,
            stale_time_ms=1_350,
            ticker_comparisons=610,
            ticker_mismatches=0,
            trades_missed=1,
            as_of_ns=self.clock.now_ns(),
        )
        stale = msgspec.structs.replace(
            live,
            symbol="ETHUSDT",
            book_state="STALE",
            stale_reason="GAP",
            ticker_age_ms=None,
            exchange_latency_ms_p50=None,
            exchange_latency_ms_p99=None,
            clock_offset_ms=None,
        )
        return [view for view in (live, stale) if symbol in {None, view.symbol}]

    async def estimate_execution(self, symbol: str, side: Side, quantity: Decimal) -> ExecutionEstimateView:
        self._seen("estimate_execution")
        left, notional, used = quantity, Decimal(0), 0
        worst = None
        for shown in self.asks if side is Side.BUY else self.bids:
            if left <= 0:
                break
            taken = min(left, shown.quantity)
            left, notional, worst, used = left - taken, notional + taken * shown.price, shown.price, used + 1
        filled = quantity - left
        mid = (self.bids[0].price + self.asks[0].price) / 2
        average = notional / filled if filled else None
        cost = (notional - mid * filled) * (1 if side is Side.BUY else -1) if filled else None
        return ExecutionEstimateView(
            symbol,
            side,
            quantity,
            filled,
            average,
            worst,
            notional,
            mid,
            Decimal("1.5"),
            cost,
            used,
            left == 0,
            self.clock.now_ns(),
        )

    async def positions(self, account_id: str) -> list[PositionView]:
        self._seen("positions")
        now_ns = self.clock.now_ns()
        money = (Decimal("58000"), Decimal("60000"), Decimal("1000"), Decimal("-12.5"), Decimal("3.25"))
        return [PositionView(account_id, "BTCUSDT", Decimal("0.5"), *money, now_ns)]

    async def open_orders(self, account_id: str) -> list[OrderView]:
        self._seen("open_orders")
        return [view for view in self.resting if view.account_id == account_id]

    async def risk_state(self, account_id: str) -> RiskStateView:
        self._seen("risk_state")
        return RiskStateView(account_id, "NORMAL", self.risk_limits, 1, True, self.clock.now_ns())

    async def orders(self, account_id: str) -> list[OrderView]:
        self._seen("orders")
        return await MemoryEngine.open_orders(self, account_id)

    async def order(self, client_order_id: str) -> OrderView:
        self._seen("order")
        for view in self.known_orders:
            if view.client_order_id == client_order_id:
                return view
        raise refuse(ReasonCode.ORDER_UNKNOWN, f"Order {client_order_id} is unknown to this engine.")

    async def exposure(self, account_id: str) -> ExposureView:
        """0.5 BTC long, a resting sell of 0.1, 70,000 USDT in all of which orders take 9,000."""
        self._seen("exposure")
        line = ExposureLineView(
            venue="paper",
            symbol="BTCUSDT",
            quantity=Decimal("0.5"),
            mark_price=Decimal(60_000),
            notional=Decimal(30_000),
            open_buy_quantity=Decimal(0),
            open_sell_quantity=Decimal("0.1"),
            worst_long_quantity=Decimal("0.5"),
            worst_short_quantity=Decimal("0.4"),
            unrealised_pnl=Decimal(1_000),
        )
        return ExposureView(
            account_id,
            "USDT",
            gross=Decimal(30_000),
            net=Decimal(30_000),
            equity=Decimal(100_000),
            leverage=None,
            margin_used=None,
            margin_available=None,
            lines=(line,),
            as_of_ns=self.clock.now_ns(),
            unrealised_pnl=Decimal(1_000),
            realised_pnl=Decimal("-12.5"),
            fees=Decimal("3.25"),
            funding=Decimal(0),
            balances=(
                AssetView("BTC", Decimal("0.5"), Decimal(30_000), Decimal("0.4")),
                AssetView("SHIB", Decimal(7), None, Decimal(7)),
                AssetView("USDT", Decimal(70_000), Decimal(70_000), Decimal(61_000)),
            ),
            unknown=("SHIB",),
            known_equity=Decimal(100_000),
        )

    async def what_if(
        self,
        account_id: str,
        symbol: str,
        *,
        side: Side | None = None,
        quantity: Decimal | None = None,
        price: Decimal | None = None,
        price_move_bps: int | None = None,
    ) -> WhatIfView:
        """A move changes the worth of the 0.5 BTC; an order beyond MAX_NOTIONAL is refused."""
        self._seen("what_if")
        self.imagined.append((symbol, side, quantity, price, price_move_bps))
        before = await MemoryEngine.exposure(self, account_id)
        change = Decimal(30_000) * (price_move_bps or 0) / 10_000
        after = msgspec.structs.replace(
            before,
            equity=Decimal(100_000) + change,
            known_equity=Decimal(100_000) + change,
            gross=Decimal(30_000) + change,
            net=Decimal(30_000) + change,
        )
        code, limit = ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER, str(MAX_NOTIONAL)
        worth = (quantity or 0) * (price or Decimal(60_000))
        refusal = Refusal(code, "Too large.", limit, str(worth), "quote") if worth > MAX_NOTIONAL else None
        checks = (
            RiskCheckView(code.value, refusal is None, limit, str(worth), "quote", "global", Decimal("12.5")),
            RiskCheckView(ReasonCode.RISK_ORDER_RATE_EXCEEDED.value, True, "10", "1", "per 1000 ms", "global"),
        )
        return WhatIfView(
            account_id, before, after, change, checks if quantity else (), refusal, self.clock.now_ns(), change
        )

    async def mandates(self, account_id: str = "", *, include_ended: bool = False) -> list[MandateView]:
        """One in force of this account and one of another, which isn't to be shown; a revoked one when asked for."""
        self._seen("mandates")
        grid = MandateView(
            mandate_id="man-1",
            account_id=ACCOUNT,
            strategy_id="grid-1",
            venue="paper",
            symbols=("BTCUSDT",),
            state="in force",
            orders_used=12,
            max_open_orders=4,
            notional_used_quote=Decimal(2_500),
            max_order_notional_quote=Decimal(1_000),
            max_position_notional_quote=Decimal(5_000),
            max_total_notional_quote=Decimal(10_000),
            asker_id="user-quant",
            digest_hex="ab" * 32,
            installed_ns=NOW_NS - 10**9,
            expires_ns=NOW_NS + 10**12,
            as_of_ns=self.clock.now_ns(),
        )
        views = [grid, msgspec.structs.replace(grid, mandate_id="man-2", account_id="acct-2")]
        ended = msgspec.structs.replace(grid, mandate_id="man-0", state="revoked")
        return views + ([ended] if include_ended else [])

    async def limit_use(self, account_id: str) -> LimitUseView:
        self._seen("limit_use")
        lines = (
            LimitUseLineView(
                ReasonCode.RISK_POSITION_EXCEEDS_MAX, "BTCUSDT", Decimal(40_000), Decimal(30_000), "quote", "global",
                Decimal(75),
            ),
            LimitUseLineView(
                ReasonCode.RISK_ORDER_RATE_EXCEEDED, "", Decimal(10), Decimal(1), "calls", "global", Decimal(10), 1_000
            ),
            LimitUseLineView(
                ReasonCode.RISK_PRICE_OUTSIDE_COLLAR, "", Decimal(500), None, "bps", "global", None
            ),
        )  # fmt: skip
        return LimitUseView(account_id, 1, lines, self.clock.now_ns())

    async def explain_risk(self, client_order_id: str) -> RiskExplanationView:
        self._seen("explain_risk")
        for view in self.explanations:
            if client_order_id in {view.client_order_id, view.authority_id}:
                return view
        raise refuse(ReasonCode.ORDER_UNKNOWN, f"No decision on an order {client_order_id} is in the engine's journal.")

    async def trades(self, symbol: str, limit: int) -> list[TradeView]:
        self._seen("trades")
        rows = [("60000", "0.5", Side.BUY), ("60002", "0.25", Side.SELL), ("59999", "0.25", Side.BUY)]
        return [
            TradeView(n + 1, Decimal(price), Decimal(quantity), side, NOW_NS + n)
            for n, (price, quantity, side) in enumerate(rows)
        ][-limit:]

    async def check_proposal(self, proposal: bytes) -> PreTradeView:
        self._seen("check_proposal")
        notional = Decimal(getattr(parse_proposal(proposal), "notional_quote", "0"))
        passed = notional <= MAX_NOTIONAL
        code = ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER
        check = RiskCheckView(code.value, passed, str(MAX_NOTIONAL), str(notional), "quote")
        refusal = None if passed else Refusal(code, "Too large.", str(MAX_NOTIONAL), str(notional), "quote")
        return PreTradeView((check,), refusal, Decimal("60000"), self.clock.now_ns())

    async def roster(self) -> RosterView:
        entries = tuple(
            RosterEntryView(key_id, user_id, "ab" * 32, (ACCOUNT,), True, (), True)
            for key_id, user_id in self.key_owners.items()
        )
        return RosterView(1, Decimal(50_000), entries, self.clock.now_ns())

    async def void_approval(
        self,
        suggestion_id: str,
        version: int,
        *,
        account_id: str,
        requested_by: str,
        reason: str,
        trace: TraceContext | None = None,
    ) -> Refusal | None:
        self._seen("void_approval")
        if self.void_refusal is None:
            self.voided[suggestion_id] = version
        return self.void_refusal

    async def execute_approval(
        self,
        proposal: bytes,
        digest_hex: str,
        signatures: list[tuple[str, bytes]],
        trace: TraceContext,
        approvals_at_least: int = 1,
    ) -> ExecutionOutcomeView:
        self.asked_to_execute.append([key_id for key_id, _ in signatures])
        if self.execution_failing is not None:
            raise self.execution_failing
        now_ns = self.clock.now_ns()
        if refused := [key_id for key_id, _ in signatures if key_id in self.unknown_keys]:
            unknown = Refusal(ReasonCode.AUTHORITY_SIGNER_UNKNOWN, "Unknown.", actual=refused[0])
            return ExecutionOutcomeView(False, None, None, unknown, (), now_ns)
        due = max(self.approvals_due, approvals_at_least)
        if len(signatures) < due:
            more = Refusal(ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT, "More.", str(due), str(len(signatures)))
            return ExecutionOutcomeView(False, None, None, more, (), now_ns)
        if digest_hex in self.consumed:
            used = Refusal(ReasonCode.APPROVAL_ALREADY_CONSUMED, "Used.")
            return ExecutionOutcomeView(False, None, None, used, (), now_ns)
        if self.execution_refusal is not None and (
            self.refuses_unconsumed or self.execution_refusal.code.startswith("AUTHORITY")
        ):
            return ExecutionOutcomeView(False, None, None, self.execution_refusal, (), now_ns)
        assert proposal_digest(proposal) == digest_hex
        self.consumed.add(digest_hex)
        if self.execution_refusal is not None:
            return ExecutionOutcomeView(True, 8, None, self.execution_refusal, (), now_ns)
        self.executed.append((proposal, digest_hex, signatures, trace))
        return ExecutionOutcomeView(True, 8, "vz-order", None, (), now_ns)


def level(price: str, quantity: str) -> LevelView:
    return LevelView(Decimal(price), Decimal(quantity))


@dataclass
class MemoryTrail:
    """Keeps real audit records, built and encoded as the real trail does."""

    clock: ManualClock
    log: list[str] = field(default_factory=list)
    records: list[AuditRecord] = field(default_factory=list)
    failing_on: set[Action] = field(default_factory=set)
    breaking_on: set[Action] = field(default_factory=set)

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
    ) -> str:
        if action in self.failing_on:
            raise refuse(ReasonCode.SERVICE_AUDIT_UNAVAILABLE, "The audit trail can't be written.")
        if action in self.breaking_on:
            raise RuntimeError("postgres-audit_writer.password=hunter2")
        record = AuditRecord(
            record_id=IDS.new_ulid(),
            occurred_at="",
            occurred_at_ns=str(self.clock.now_ns()),
            clock_source="manual",
            actor=actor,
            action=action,
            resource=resource,
            outcome=outcome,
            trace_id=trace_id,
            on_behalf_of=on_behalf_of,
            account_id=account_id,
            run_id=run_id,
            suggestion_id=suggestion_id,
            payload=as_text(dict(payload or {})),
        )
        record_bytes(record)
        self.records.append(record)
        self.log.append(action.value)
        return record.record_id

    def actions(self) -> list[Action]:
        return [record.action for record in self.records]


@dataclass
class MemoryResults:
    """Implements Releases over a MemoryTrail: record and result are there together or not at all."""

    trail: MemoryTrail
    stored: dict[str, StoredResult] = field(default_factory=dict)
    failing: Exception | None = None

    async def release(self, result: StoredResult, **record: Any) -> None:
        if self.failing is not None:
            raise self.failing
        if result.call_id in self.stored:
            raise refuse(ReasonCode.REQUEST_INVALID, "This call id was used before.")
        await self.trail.record(**record)
        self.stored[result.call_id] = result
        self.trail.log.append("store")

    async def get(self, account_ids: tuple[str, ...], call_id: str) -> StoredResult | None:
        result = self.stored.get(call_id)
        return result if result and result.account_id in {None, *account_ids} else None


@dataclass
class MemoryConversations:
    """What MemoryResults holds, by run or by caller. said is what the human said in every run, newest first."""

    results: MemoryResults
    said: tuple[str, ...] = ()
    failing: Exception | None = None

    async def of_run(self, account_ids: tuple[str, ...], user_id: str, run_id: str) -> Conversation:
        return self._of(self.said, account_ids, user_id, run_id)

    async def of_caller(self, account_ids: tuple[str, ...], user_id: str) -> Conversation:
        return self._of(None, account_ids, user_id, None)

    def _of(
        self, said: tuple[str, ...] | None, account_ids: tuple[str, ...], user_id: str, run_id: str | None
    ) -> Conversation:
        if self.failing is not None:
            raise self.failing
        seen = [
            SeenResult(row.tool, row.account_id, msgspec.json.decode(row.canonical), msgspec.json.decode(row.arguments))
            for row in self.results.stored.values()
            if (row.user_id, row.run_id) == (user_id, run_id) and row.account_id in {None, *account_ids}
        ]
        return Conversation(said, tuple(seen))


class MemorySuggestions:
    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], Suggestion] = {}
        self.failing: Exception | None = None

    async def insert(self, suggestion: Suggestion) -> None:
        if self.failing is not None:
            raise self.failing
        self.rows[suggestion.suggestion_id, suggestion.version] = suggestion

    async def get(
        self, account_ids: tuple[str, ...], suggestion_id: str, version: int | None = None
    ) -> Suggestion | None:
        found = [
            row
            for (name, number), row in sorted(self.rows.items())
            if name == suggestion_id and version in {None, number} and row.account_id in account_ids
        ]
        return found[-1] if found else None

    async def list(
        self,
        account_ids: tuple[str, ...],
        *,
        status: SuggestionStatus | None = None,
        before_id: str | None = None,
        limit: int = 50,
    ) -> list[Suggestion]:
        newest = sorted(self.rows.values(), key=lambda row: (row.suggestion_id, row.version), reverse=True)
        return [
            row
            for row in newest
            if row.account_id in account_ids
            and status in {None, row.status}
            and (before_id is None or row.suggestion_id < before_id)
        ][:limit]

    async def mark_viewed(
        self, account_ids: tuple[str, ...], suggestion_id: str, version: int, user_id: str, at_ns: int
    ) -> Suggestion | None:
        row = self.rows[suggestion_id, version]
        self.change(row, viewed_at_ns=row.viewed_at_ns or at_ns, views={user_id: at_ns} | row.views)
        return self.rows[suggestion_id, version]

    @asynccontextmanager
    async def deciding(
        self, account_ids: tuple[str, ...], suggestion_id: str, version: int
    ) -> AsyncIterator[MemoryDecision | None]:
        row = await self.get(account_ids, suggestion_id, version)
        yield None if row is None else MemoryDecision(self, row)

    def change(self, suggestion: Suggestion, **changes: Any) -> Suggestion:
        changed = msgspec.structs.replace(suggestion, **changes)
        self.rows[suggestion.suggestion_id, suggestion.version] = changed
        return changed


class MemoryDecision:
    def __init__(self, store: MemorySuggestions, suggestion: Suggestion) -> None:
        self._store = store
        self.suggestion = suggestion

    async def record(
        self,
        *,
        status: SuggestionStatus,
        decided_by: str | None,
        decided_at_ns: int,
        reason: str | None = None,
        refusal_code: str | None = None,
        client_order_id: str | None = None,
    ) -> None:
        self._store.change(
            self.suggestion,
            status=status,
            decided_by=decided_by,
            decided_at_ns=decided_at_ns,
            decision_reason=reason,
            refusal_code=refusal_code,
            client_order_id=client_order_id,
        )

    async def replace(self, newer: Suggestion) -> None:
        self._store.change(self.suggestion, status=SuggestionStatus.SUPERSEDED)
        await self._store.insert(newer)

    async def keep_signature(self, signature: GivenSignature, approvals_due: int) -> None:
        kept = tuple(item for item in self._stored() if item.user_id != signature.user_id)
        self._store.change(self.suggestion, signatures=(*kept, signature), approvals_due=approvals_due)

    async def drop_signature(self, key_id: str) -> None:
        kept = tuple(item for item in self._stored() if item.key_id != key_id)
        self._store.change(self.suggestion, signatures=kept)

    def _stored(self) -> tuple[GivenSignature, ...]:
        return self._store.rows[self.suggestion.suggestion_id, self.suggestion.version].signatures


class MemoryReviews:
    def __init__(self) -> None:
        self.hits: list[ReviewHit] = []
        self.asked: list[tuple[tuple[str, ...], str, int]] = []

    async def search(self, account_ids: tuple[str, ...], query: str, limit: int) -> list[ReviewHit]:
        self.asked.append((account_ids, query, limit))
        return self.hits[:limit]


class MemoryHealth:
    def __init__(self) -> None:
        self.projected: int | None = 5
        self.broken: tuple[PartHealth, ...] = ()

    async def parts(self) -> list[PartHealth]:
        return [PartHealth("database", True), PartHealth("event log", True), *self.broken]

    async def projected_sequence(self, engine_id: str) -> int | None:
        assert engine_id == "engine-1"
        return self.projected


class MemoryHistory:
    """Rows as they are given; each read is noted with its account and what it asked for."""

    def __init__(self) -> None:
        self.zone = "UTC"
        self.fill_rows: list[FillRow] = []
        self.result_rows: list[ResultRow] = []
        self.fee_rows: list[FeeRow] = []
        self.funding_rows: list[FundingRow] = []
        self.refusals: dict[str | None, RefusalRow] = {}
        self.orders: dict[str, OrderView] = {}
        self.asked: list[tuple[object, ...]] = []

    async def time_zone(self, account_id: str) -> str:
        return self.zone

    async def order(self, account_id: str, client_order_id: str) -> OrderView | None:
        found = self.orders.get(client_order_id)
        return found if found is not None and found.account_id == account_id else None

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
        self.asked.append((account_id, symbol, strategy_id, client_order_id, before, limit))
        return [row for row in self.fill_rows if before is None or row.sequence < before][:limit]

    async def results(self, account_id: str, from_day: str, to_day: str, limit: int) -> list[ResultRow]:
        self.asked.append((account_id, from_day, to_day, limit))
        return self.result_rows[: limit + 1]

    async def fees(self, account_id: str, from_day: str, to_day: str, limit: int) -> list[FeeRow]:
        return self.fee_rows[: limit + 1]

    async def funding(self, account_id: str, from_day: str, to_day: str, limit: int) -> list[FundingRow]:
        return self.funding_rows[: limit + 1]

    async def refusal(self, account_id: str, reference: str | None) -> RefusalRow | None:
        return self.refusals.get(reference)


class House:
    """A gateway and an approval flow over the doubles."""

    def __init__(
        self,
        *,
        registry: Registry | None = None,
        max_calls_per_run: int = 12,
        limiter: Limiter | None = None,
        policy: PolicySource | None = None,
    ) -> None:
        self.clock = ManualClock(NOW_NS)
        self.engine = MemoryEngine(self.clock)
        self.trail = MemoryTrail(self.clock)
        self.results = MemoryResults(self.trail)
        self.conversations = MemoryConversations(self.results)
        self.suggestions = MemorySuggestions()
        self.reviews = MemoryReviews()
        self.health = MemoryHealth()
        self.history = MemoryHistory()
        self.backtests = MemoryBacktests(ACCOUNT, TRADER.user_id, NOW_NS, IDS)
        self.gateway: ToolGateway = build_gateway(
            engine=self.engine,
            suggestions=self.suggestions,
            releases=self.results,
            results=self.results,
            conversations=self.conversations,
            reviews=self.reviews,
            health=self.health,
            history=self.history,
            backtests=self.backtests,
            trail=self.trail,
            clock=self.clock,
            ids=IDS,
            suggestion_ttl_s=300,
            max_tool_calls_per_run=max_calls_per_run,
            mode="PAPER",
            venue="paper",
            limiter=limiter,
            registry=registry,
            policy=policy,
        )
        self.approvals = Approvals(
            engine=self.engine, suggestions=self.suggestions, trail=self.trail, clock=self.clock, ids=IDS, policy=policy
        )

    async def ask(
        self, tool: str, principal: Principal = TRADER, *, run_id: str | None = None, **arguments: Any
    ) -> Any:
        return await self.gateway.call(call(tool, arguments, principal, run_id))

    async def suggest(self, **arguments: Any) -> Suggestion:
        """A pending suggestion to buy near the bid."""
        wanted = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.5", "price_anchor": "bid"} | arguments
        result = await self.ask("suggest_order", **wanted)
        assert result.refusal is None, result.refusal
        return self.suggestions.rows[result.data["suggestion_id"], 1]


def review_hit(narrative: str, review_id: str = "review-1", facts: dict[str, str] | None = None) -> ReviewHit:
    review = Review(
        review_id=review_id,
        position_id="position-1",
        account_id=ACCOUNT,
        symbol="BTCUSDT",
        facts=facts or {"net_pnl_quote": "12.5"},
        narrative=narrative,
        closed_ns=1,
    )
    return ReviewHit(review, 1, 1)


def call(tool: Any, arguments: Any = None, principal: Principal = TRADER, run_id: str | None = None) -> ToolCall:
    return ToolCall(IDS.new_ulid(), tool, {} if arguments is None else arguments, principal, new_trace(IDS), run_id)
