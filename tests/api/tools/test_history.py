"""The ledger's projections as tools read them: real fills of a real journal, within one account and its own days."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from api.ledger.projection import Projection
from api.tools.history import SqlTradingHistory
from core.text.redaction import Redactor
from core.types.clock import NS_PER_S
from core.types.codes import ReasonCode
from core.types.events import FundingSettled, OrderFilled, OrderRefused, OrderRejected, PositionSnapshot
from core.types.orders import OrderStatus, Side
from core.types.views import RiskCheckView
from tests.api.ledger.journal import ENGINE_ID, ORDER_ID, START_NS, MemoryJournal, approval, fill, started
from tests.api.ledger.trading import CHECKS, GRID, MANDATE, MARKET, REFUSAL, SESSION, intended, intent
from tests.api.sql_doubles import ACCOUNT, OTHER_ACCOUNT, Database, seeded
from tests.postgres import PostgresDatabase

DAY_NS = 86_400 * NS_PER_S
FIRST_DAY, SECOND_DAY = "2025-11-24", "2025-11-25"
"""START_NS is 2025-11-24 16:00 UTC."""
PARTIAL = OrderStatus.PARTIALLY_FILLED
D = Decimal


def at(day: int, trade_id: int, quantity: int, price: int, realised: int, **changes: Any) -> OrderFilled:
    """A fill so many days later, and the account's realised profit after it, in whole USDT."""
    order_id = changes.pop("order_id", ORDER_ID)
    event = fill(trade_id, quantity, PARTIAL, order_id=order_id, side=changes.pop("side", Side.BUY))
    snapshot = PositionSnapshot(quantity=0, average_price=price, realised_pnl=realised * 10**7, fees=0)
    return msgspec.structs.replace(
        event, price=price, position=snapshot, venue_ts_ns=START_NS + day * DAY_NS, **changes
    )


EVENTS = [
    started(),
    approval(),
    intended(intent(GRID, strategy_id="grid-1"), MANDATE),
    at(0, 1, 20_000, 6_400_000, 0),
    at(0, 2, 10_000, 6_500_000, 100, side=Side.SELL, fee="1.5", fee_asset="USDT", fee_quote=15_000_000, is_maker=False),
    at(1, 3, 10_000, 6_300_000, 100, order_id=GRID, fee="0.01", fee_asset="BNB", fee_quote=0),
    at(1, 4, 10_000, 6_400_000, 150, order_id=GRID, side=Side.SELL, fee="0", fee_asset="USDT", fee_quote=0),
    FundingSettled(
        account_id=ACCOUNT,
        venue="paper",
        symbol="BTCUSDT",
        transaction_id="1",
        amount="-0.25",
        asset="USDT",
        venue_ts_ns=START_NS + DAY_NS,
        ts_ns=START_NS + DAY_NS,
    ),
]


@pytest.fixture
async def database(postgres: PostgresDatabase, tmp_path: Path) -> AsyncIterator[Database]:
    async with seeded(postgres, tmp_path) as found:
        yield found


@pytest.fixture
def history(database: Database) -> SqlTradingHistory:
    return SqlTradingHistory(database.transactions)


async def project(database: Database, *events: Any) -> None:
    journal = MemoryJournal()
    await journal.append(*events)
    projection = Projection(database.ledger, ENGINE_ID, Redactor(b"scope"))
    for entry in journal.entries:
        assert await projection.project(entry)


async def test_fills_carry_what_each_realised_and_cost_newest_first(
    database: Database, history: SqlTradingHistory
) -> None:
    await project(database, *EVENTS)
    rows = await history.fills(ACCOUNT, limit=10)
    assert [(row.trade_id, row.realised_pnl, row.fee_quote, row.strategy_id) for row in rows] == [
        (4, D(50), D(0), "grid-1"),
        (3, D(0), None, "grid-1"),
        (2, D(100), D("1.5"), ""),
        (1, D(0), D("0.64"), ""),
    ]
    assert rows[2].traded_ns // 1_000 == START_NS // 1_000
    assert [row.trade_id for row in await history.fills(ACCOUNT, before=rows[1].sequence, limit=1)] == [2]


@pytest.mark.parametrize(
    ("narrowed", "trades"),
    [
        ({"strategy_id": "grid-1"}, [4, 3]),
        ({"strategy_id": ""}, [2, 1]),
        ({"client_order_id": GRID}, [4, 3]),
        ({"symbol": "BTCUSDT"}, [4, 3, 2, 1]),
        ({"symbol": "ETHUSDT"}, []),
    ],
)
async def test_fills_can_be_narrowed(
    database: Database, history: SqlTradingHistory, narrowed: dict[str, str], trades: list[int]
) -> None:
    await project(database, *EVENTS)
    assert [row.trade_id for row in await history.fills(ACCOUNT, limit=10, **narrowed)] == trades  # type: ignore[arg-type]


async def test_results_are_by_day_symbol_and_strategy(database: Database, history: SqlTradingHistory) -> None:
    await project(database, *EVENTS)
    second, first = await history.results(ACCOUNT, FIRST_DAY, SECOND_DAY, 10)
    assert (second.day, second.symbol, second.strategy_id, second.fills) == (SECOND_DAY, "BTCUSDT", "grid-1", 2)
    assert (second.realised_pnl, second.strategy_realised_pnl, second.fees) == (D(50), D(100), D(0))
    assert (first.day, first.realised_pnl, first.strategy_realised_pnl) == (FIRST_DAY, D(100), D(100))
    assert (first.turnover, first.fees, first.unmeasured) == (D(19_300), D("2.14"), 0)
    only = await history.results(ACCOUNT, SECOND_DAY, SECOND_DAY, 10)
    assert [row.day for row in only] == [SECOND_DAY]
    assert len(await history.results(ACCOUNT, FIRST_DAY, SECOND_DAY, 1)) == 2  # one more than asked: there is more


async def test_fees_are_by_asset_as_maker_and_as_taker(database: Database, history: SqlTradingHistory) -> None:
    await project(database, *EVENTS)
    rows = await history.fees(ACCOUNT, FIRST_DAY, SECOND_DAY, 10)
    assert [(row.day, row.asset, row.maker, row.taker, row.fee_quote) for row in rows] == [
        (SECOND_DAY, "BNB", D("0.01"), D(0), None),
        (SECOND_DAY, "USDT", D(0), D(0), D(0)),
        (FIRST_DAY, "BTC", D("0.00001"), D(0), D("0.64")),
        (FIRST_DAY, "USDT", D(0), D("1.5"), D("1.5")),
    ]


async def test_days_begin_at_the_accounts_own_midnight(database: Database, history: SqlTradingHistory) -> None:
    await project(database, *EVENTS)
    assert await history.time_zone(ACCOUNT) == "UTC"
    assert [row.day for row in await history.results(ACCOUNT, FIRST_DAY, FIRST_DAY, 10)] == [FIRST_DAY]
    assert [row.amount for row in await history.funding(ACCOUNT, SECOND_DAY, SECOND_DAY, 10)] == [D("-0.25")]
    database.as_owner("UPDATE accounts SET time_zone = 'Asia/Tokyo' WHERE id = 'acct-demo'")
    assert await history.time_zone(ACCOUNT) == "Asia/Tokyo"
    # 16:00 UTC is past midnight there.
    assert await history.results(ACCOUNT, FIRST_DAY, FIRST_DAY, 10) == []
    assert {row.day for row in await history.results(ACCOUNT, SECOND_DAY, "2025-11-26", 10)} == {
        *(SECOND_DAY, "2025-11-26"),
    }


async def test_fills_that_were_projected_before_are_counted_as_unmeasured(
    database: Database, history: SqlTradingHistory
) -> None:
    await project(database, *EVENTS)
    await database.as_ledger("UPDATE fills SET realised_pnl = NULL, fee_quote = NULL WHERE trade_id = 1")
    first = (await history.results(ACCOUNT, FIRST_DAY, FIRST_DAY, 10))[0]
    assert (first.unmeasured, first.realised_pnl) == (1, D(100))


async def test_nothing_of_another_account_is_seen(database: Database, history: SqlTradingHistory) -> None:
    await project(database, *EVENTS, refused_order())
    assert await history.fills(OTHER_ACCOUNT, limit=10) == []
    assert await history.results(OTHER_ACCOUNT, FIRST_DAY, SECOND_DAY, 10) == []
    assert await history.fees(OTHER_ACCOUNT, FIRST_DAY, SECOND_DAY, 10) == []
    assert await history.funding(OTHER_ACCOUNT, FIRST_DAY, SECOND_DAY, 10) == []
    assert await history.order(OTHER_ACCOUNT, ORDER_ID) is None
    assert await history.refusal(OTHER_ACCOUNT, None) is None
    assert await history.refusal(OTHER_ACCOUNT, "req-1") is None


async def test_an_order_is_read_with_its_terms_and_what_was_filled(
    database: Database, history: SqlTradingHistory
) -> None:
    await project(database, *EVENTS)
    order = await history.order(ACCOUNT, GRID)
    assert order is not None
    assert (order.side, order.status, order.strategy_id, order.authority) == (Side.BUY, PARTIAL, "grid-1", "mandate")
    assert (order.quantity, order.filled_quantity, order.average_fill_price) == (D("0.5"), D("0.2"), D(63_500))
    assert await history.order(ACCOUNT, "vz-other") is None


def refused_order(ts_ns: int = START_NS + 60_000, request: str = '{"request_id": "req-1"}') -> OrderRefused:
    return OrderRefused(
        ts_ns=ts_ns,
        account_id=ACCOUNT,
        venue="paper",
        symbol="BTCUSDT",
        request=request,
        authority=SESSION,
        rules_version=3,
        market=MARKET,
        checks=CHECKS,
        refusal=REFUSAL,
    )


@pytest.mark.parametrize(
    ("reference", "kind", "code"),
    [
        (None, "order", REFUSAL.code),
        ("req-1", "order", REFUSAL.code),
        ("5", "order", REFUSAL.code),
        ("vz-amended", "amendment", REFUSAL.code),
        ("sugg-2", "approval", ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER),
        (ORDER_ID, "venue", ReasonCode.RISK_ORDER_RATE_EXCEEDED),
    ],
)
async def test_a_refusal_is_found_by_request_sequence_order_or_suggestion(
    database: Database, history: SqlTradingHistory, reference: str | None, kind: str, code: ReasonCode
) -> None:
    await project(
        database,
        started(),
        approval(),
        approval(refused=True, suggestion_id="sugg-2"),
        refused_order(START_NS + 50_000, '{"request_id": "req-2", "client_order_id": "vz-amended"}'),
        refused_order(),
        OrderRejected(ts_ns=START_NS + 2, client_order_id=ORDER_ID, refusal=REFUSAL),
    )
    row = await history.refusal(ACCOUNT, reference)
    assert row is not None
    assert (row.kind, row.refusal.code, row.code) == (kind, code, code.value)
    assert all(isinstance(check, RiskCheckView) for check in row.checks)
    assert row.checks
    assert await history.refusal(ACCOUNT, "nothing") is None
