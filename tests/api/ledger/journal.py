"""An engine's journal for the ledger's tests: real events in entries, handed out as the engine's stream does."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

from core.types.authority import SignatureRecord
from core.types.clock import SystemClock
from core.types.codes import ReasonCode, Refusal
from core.types.events import (
    ApprovalDecided,
    ClosedPosition,
    EngineStarted,
    JournalEntry,
    JournalEvent,
    MarketInputs,
    OrderFilled,
    PositionSnapshot,
    RiskCheckRecord,
    encode_event,
)
from core.types.orders import OrderIntent, OrderStatus, OrderType, Side, TimeInForce
from core.types.views import LedgerProgress

ENGINE_ID = "engine-1"
START_NS = 1_764_000_000_123_456_789
TRACE_ID = "01KAX8F0000000000000000001"
ORDER_ID = "vz0123456789abcdef0123456789abcdef"
NOTIONAL_CHECK = "RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER"

MARKET = MarketInputs(
    bid_price="63999.99",
    ask_price="64000.01",
    mid_price="64000",
    book_state="LIVE",
    book_update_id=77,
    book_age_ms=12,
)


class MemoryJournal:
    """stream_journal as the engine offers it. fail_next makes the next read raise in place of an entry."""

    def __init__(self) -> None:
        self.entries: list[JournalEntry] = []
        self.streams = 0
        self.fail_next: BaseException | None = None
        self.reports: list[LedgerProgress] = []
        self._grown = asyncio.Condition()

    async def append(self, *events: JournalEvent) -> None:
        async with self._grown:
            for event in events:
                payload = encode_event(event)
                sequence = len(self.entries) + 1
                digest = hashlib.sha256(payload).hexdigest()
                self.entries.append(JournalEntry(ENGINE_ID, 1, sequence, digest, payload))
            self._grown.notify_all()

    async def now_ns(self) -> int:
        return SystemClock().now_ns()

    async def report_ledger(self, progress: LedgerProgress) -> None:
        self.reports.append(progress)

    async def head(self) -> int:
        """The last entry's sequence."""
        return len(self.entries)

    async def stream_journal(self, after_sequence: int) -> AsyncIterator[JournalEntry]:
        self.streams += 1
        position = after_sequence
        while True:
            async with self._grown:
                while len(self.entries) <= position and self.fail_next is None:
                    await self._grown.wait()
            if self.fail_next is not None:
                error, self.fail_next = self.fail_next, None
                raise error
            yield self.entries[position]
            position += 1


def started(**fields: Any) -> EngineStarted:
    defaults: dict[str, Any] = {
        "ts_ns": START_NS,
        "engine_id": ENGINE_ID,
        "epoch": 1,
        "environment": "local",
        "mode": "PAPER",
        "software_version": "0.1.0",
    }
    return EngineStarted(**(defaults | fields))


def approval(*, refused: bool = False, suggestion_id: str = "sugg-1", order_id: str = ORDER_ID) -> ApprovalDecided:
    """A limit order of 0.5 BTC at 64000.00, approved by user-approver."""
    check = RiskCheckRecord(
        name=NOTIONAL_CHECK, passed=not refused, limit="20000" if refused else "50000", actual="32000", unit="quote"
    )
    intent = OrderIntent(
        account_id="acct-demo",
        venue="paper",
        symbol="BTCUSDT",
        side=Side.BUY,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.GTC,
        quantity=50_000,
        price=6_400_000,
        price_scale=2,
        quantity_scale=5,
        client_order_id=order_id,
    )
    code = ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER
    return ApprovalDecided(
        ts_ns=START_NS + 1,
        trace_id=TRACE_ID,
        suggestion_id=suggestion_id,
        version=1,
        digest_hex="ab" * 32,
        proposal='{"schema":"veloz.order-proposal/1"}',
        account_id="acct-demo",
        asker_id="user-trader",
        run_id="run-1",
        signatures=(SignatureRecord("demo-approver", "user-approver", "cd" * 64),),
        roster_version=1,
        rules_version=3,
        market=MARKET,
        checks=(check,),
        intent=None if refused else intent,
        refusal=Refusal(code, "too large", "20000", "32000", "quote") if refused else None,
    )


def fill(
    trade_id: int,
    quantity: int,
    status: OrderStatus,
    *,
    side: Side = Side.BUY,
    order_id: str = ORDER_ID,
    position: int = 0,
    closed: bool = False,
) -> OrderFilled:
    """A fill at 63999.50; quantity and position at scale 5."""
    return OrderFilled(
        ts_ns=START_NS + 10 + trade_id,
        trace_id=None,
        account_id="acct-demo",
        venue="paper",
        symbol="BTCUSDT",
        client_order_id=order_id,
        venue_order_id="9001",
        trade_id=trade_id,
        side=side,
        price=6_399_950,
        quantity=quantity,
        price_scale=2,
        quantity_scale=5,
        fee="0.00001",
        fee_asset="BTC",
        fee_quote=6_400_000,
        is_maker=True,
        venue_ts_ns=START_NS + 9 + trade_id,
        status=status,
        position=PositionSnapshot(
            quantity=position or quantity, average_price=6_399_950, realised_pnl=-1_234_567, fees=6_400_000
        ),
        closed=_closed(order_id) if closed else None,
    )


def _closed(order_id: str) -> ClosedPosition:
    return ClosedPosition(
        position_id="01KAX8F0000000000000000POS",
        side=Side.BUY,
        max_quantity=50_000,
        entry_average_price=6_399_950,
        exit_average_price=6_400_000,
        realised_pnl=2_500_000,
        fees=1_280_000,
        opened_ns=START_NS,
        closed_ns=START_NS + 20,
        client_order_ids=(order_id,),
    )
