"""Reviews on a real PostgreSQL with pgvector: written once by the ledger, found inside the asker's scope."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import text

from api.moments import from_ns
from api.reviews.repository import SqlReviewStore, insert_review
from api.reviews.service import review_writer
from api.suggestions.repository import SqlSuggestionStore
from core.storage.database import transaction
from core.types.events import ClosedPosition, JournalEntry, OrderFilled, PositionSnapshot, encode_event
from core.types.orders import OrderStatus, Side
from knowledge.embed import HashingEmbedder
from knowledge.reviews import ReviewBuilder, ReviewSource
from knowledge.search import HybridSearch
from tests.api.sql_doubles import ACCOUNT, OTHER_ACCOUNT, Database, seeded
from tests.postgres import PostgresDatabase
from tests.tools.doubles import House
from tests.tools.people import IDS, NOW_NS

EMBEDDER = HashingEmbedder()


@pytest.fixture
async def database(postgres: PostgresDatabase, tmp_path: Path) -> AsyncIterator[Database]:
    async with seeded(postgres, tmp_path) as database:
        yield database


@pytest.fixture
def search(database: Database) -> HybridSearch:
    return HybridSearch(SqlReviewStore(database.transactions), EMBEDDER)


def closed(position_id: str = "position-1", side: Side = Side.BUY, pnl: int = 300) -> ClosedPosition:
    return ClosedPosition(
        position_id=position_id,
        side=side,
        max_quantity=50_000,
        entry_average_price=6_000_000,
        exit_average_price=6_060_000,
        realised_pnl=pnl * 10**7,
        fees=5 * 10**7,
        opened_ns=NOW_NS,
        closed_ns=NOW_NS + 3_600 * 10**9,
        client_order_ids=("vz-1", "vz-2"),
    )


async def remember(database: Database, account_id: str, symbol: str, position: ClosedPosition) -> str:
    source = ReviewSource(account_id, "paper", symbol, symbol[:3], symbol[3:], 2, 5, position, ())
    embedded = ReviewBuilder(EMBEDDER).build(IDS.new_ulid(), source)
    async with transaction(database.ledger) as connection:
        assert await insert_review(connection, embedded)
    return embedded.review.review_id


def fill_event(position: ClosedPosition | None) -> OrderFilled:
    return OrderFilled(
        ts_ns=NOW_NS,
        account_id=ACCOUNT,
        venue="paper",
        symbol="BTCUSDT",
        client_order_id="vz-2",
        venue_order_id="2",
        trade_id=2,
        side=Side.SELL,
        price=6_060_000,
        quantity=50_000,
        price_scale=2,
        quantity_scale=5,
        fee="3",
        fee_asset="USDT",
        fee_quote=3 * 10**7,
        is_maker=False,
        venue_ts_ns=NOW_NS,
        status=OrderStatus.FILLED,
        position=PositionSnapshot(0, 0, 300 * 10**7, 5 * 10**7),
        closed=position,
    )


async def write(database: Database, event: OrderFilled) -> str | None:
    entry = JournalEntry("engine-1", 1, 9, "00", encode_event(event))
    async with transaction(database.ledger) as connection:
        return await review_writer(IDS)(connection, entry, event)


async def trade(database: Database) -> None:
    """A suggestion that was approved and filled as order vz-1, and the fill that closed it."""
    suggestion = await House().suggest()
    store = SqlSuggestionStore(database.transactions)
    await store.insert(suggestion)
    await database.as_ledger(
        "UPDATE suggestions SET status = 'executed', client_order_id = 'vz-1', decided_by = 'user-approver'"
    )
    for trade_id, (order, side, price) in enumerate([("vz-1", "BUY", "60006"), ("vz-2", "SELL", "60600")]):
        await database.as_ledger(
            "INSERT INTO fills (venue, symbol, trade_id, account_id, client_order_id, side, price, quantity, fee, "
            "fee_asset, is_maker, inferred, engine_id, sequence, traded_at) VALUES ('paper', 'BTCUSDT', :trade_id, "
            ":account, :order, :side, :price, 0.5, 1, 'USDT', false, false, 'engine-1', :trade_id, :at)",
            trade_id=trade_id,
            account=ACCOUNT,
            order=order,
            side=side,
            price=Decimal(price),
            at=from_ns(NOW_NS + trade_id),
        )


async def test_a_closed_position_is_reviewed_once_from_its_fills_and_suggestions(
    database: Database, search: HybridSearch
) -> None:
    await trade(database)
    review_id = await write(database, fill_event(closed()))
    assert review_id is not None
    assert await write(database, fill_event(closed())) is None
    [hit] = await search.search((ACCOUNT,), "profit on BTCUSDT", 5)
    facts = hit.review.facts
    assert hit.review.review_id == review_id
    assert (facts["entry_fills"], facts["exit_fills"], facts["net_pnl_quote"]) == ("1", "1", "295")
    assert (facts["suggested_by"], facts["approved_by"]) == ("user-trader", "user-approver")
    assert facts["entry_slippage_bps"] == "1"
    assert hit.review.closed_ns == closed().closed_ns


async def test_a_fill_that_closes_nothing_writes_no_review(database: Database) -> None:
    assert await write(database, fill_event(None)) is None


async def test_a_rolled_back_projection_leaves_no_review(database: Database, search: HybridSearch) -> None:
    event = fill_event(closed())

    async def projection_that_fails() -> None:
        async with transaction(database.ledger) as connection:
            entry = JournalEntry("engine-1", 1, 9, "00", encode_event(event))
            assert await review_writer(IDS)(connection, entry, event)
            raise RuntimeError("projection")

    with pytest.raises(RuntimeError, match="projection"):
        await projection_that_fails()
    assert await search.search((ACCOUNT,), "BTCUSDT", 5) == []


async def test_search_joins_words_and_vectors_and_ranks_the_fitting_review_first(
    database: Database, search: HybridSearch
) -> None:
    await remember(database, ACCOUNT, "BTCUSDT", closed("p-1", pnl=300))
    loss = await remember(database, ACCOUNT, "ETHUSDT", closed("p-2", Side.SELL, pnl=-300))
    hits = await search.search((ACCOUNT,), "which short ETHUSDT trades closed at a loss?", 5)
    assert hits[0].review.review_id == loss
    assert (hits[0].vector_rank, hits[0].text_rank) == (1, 1)
    assert len(await search.search((ACCOUNT,), "trades", 1)) == 1


@pytest.mark.parametrize("query", ["", "?!", "' OR 1=1 --", "the of and", "x" * 10_000, "a & b | !c <-> (d"])
async def test_any_query_is_answered(database: Database, search: HybridSearch, query: str) -> None:
    await remember(database, ACCOUNT, "BTCUSDT", closed())
    assert len(await search.search((ACCOUNT,), query, 5)) <= 1


async def test_reviews_of_other_accounts_are_never_found(database: Database, search: HybridSearch) -> None:
    for number in range(30):
        await remember(database, OTHER_ACCOUNT, "BTCUSDT", closed(f"other-{number}"))
    mine = await remember(database, ACCOUNT, "ETHUSDT", closed("mine", Side.SELL, pnl=-1))
    hits = await search.search((ACCOUNT,), "long BTCUSDT closed at a profit", 20)
    assert [hit.review.review_id for hit in hits] == [mine]
    assert await search.search((), "long BTCUSDT", 20) == []


async def test_row_level_security_holds_even_for_a_query_that_forgets_its_scope(database: Database) -> None:
    await remember(database, OTHER_ACCOUNT, "BTCUSDT", closed())
    async with database.transactions((ACCOUNT,)) as connection:
        assert (await connection.execute(text("SELECT id FROM reviews"))).all() == []


async def test_vectors_of_another_embedder_are_not_compared(database: Database) -> None:
    await remember(database, ACCOUNT, "BTCUSDT", closed())
    rankings = await SqlReviewStore(database.transactions).rank((ACCOUNT,), "other-384", [1.0] + [0.0] * 383, "x", 5)
    assert rankings.by_vector == ()
