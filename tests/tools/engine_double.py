"""An engine in memory, with switches for what can go wrong."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from core.authority.proposal import parse_proposal, proposal_digest
from core.types.clock import ManualClock
from core.types.codes import ReasonCode, Refusal, RefusalError, refuse
from core.types.ids import TraceContext
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
from tests.tools.people import ACCOUNT, MAX_NOTIONAL, NOW_NS


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
