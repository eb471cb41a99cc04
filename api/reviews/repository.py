"""Trade reviews in SQL: pgvector beside full text, both inside the asker's account scope."""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from api.moments import from_ns, to_ns
from api.transactions import Transactions
from knowledge.reviews import EmbeddedReview, Review
from knowledge.search import ReviewRankings

_INSERT = text(
    """
    INSERT INTO reviews (id, position_id, account_id, symbol, facts, narrative, embedder, embedding, closed_at)
    VALUES (:id, :position_id, :account_id, :symbol, CAST(:facts AS jsonb), :narrative, :embedder,
            CAST(:embedding AS vector), :closed_at)
    ON CONFLICT (position_id) DO NOTHING
    """
)
_EXISTS = text("SELECT 1 FROM reviews WHERE position_id = :position_id")
_COLUMNS = "id, position_id, account_id, symbol, CAST(facts AS text) AS facts, narrative, closed_at"
# The scope filters after the index has chosen its candidates; iterating goes on until enough are in scope.
_ITERATE = text("SELECT set_config('hnsw.iterative_scan', 'strict_order', true)")
_BY_VECTOR = text(
    f"""
    SELECT {_COLUMNS} FROM reviews
    WHERE embedder = :embedder AND account_id = ANY (:account_ids)
    ORDER BY embedding <=> CAST(:embedding AS vector), id LIMIT :limit
    """  # noqa: S608 constants only
)
# Any of the words counts, not all: a question holds words that no review does.
_BY_TEXT = text(
    f"""
    WITH asked AS (
        SELECT CAST(replace(CAST(plainto_tsquery('english', :query) AS text), '&', '|') AS tsquery) AS words
    )
    SELECT {_COLUMNS} FROM reviews, asked
    WHERE search_text @@ asked.words AND account_id = ANY (:account_ids)
    ORDER BY ts_rank_cd(search_text, asked.words) DESC, id LIMIT :limit
    """  # noqa: S608 constants only
)


async def insert_review(connection: AsyncConnection, embedded: EmbeddedReview) -> bool:
    """Within the caller's transaction. False when the position has its review already."""
    review = embedded.review
    values = {
        "id": review.review_id,
        "position_id": review.position_id,
        "account_id": review.account_id,
        "symbol": review.symbol,
        "facts": msgspec.json.encode(review.facts).decode(),
        "narrative": review.narrative,
        "embedder": embedded.embedder,
        "embedding": _vector_text(embedded.embedding),
        "closed_at": from_ns(review.closed_ns),
    }
    return (await connection.execute(_INSERT, values)).rowcount == 1


async def review_exists(connection: AsyncConnection, position_id: str) -> bool:
    return (await connection.execute(_EXISTS, {"position_id": position_id})).first() is not None


class SqlReviewStore:
    """Implements knowledge.search.ReviewIndex."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def rank(
        self, account_ids: tuple[str, ...], embedder_name: str, vector: list[float], query: str, limit: int
    ) -> ReviewRankings:
        shared = {"account_ids": list(account_ids), "limit": limit}
        async with self._transactions(account_ids) as connection:
            by_vector: list[Row[Any]] = []
            if any(vector):  # the cosine distance to a zero vector is undefined
                await connection.execute(_ITERATE)
                near = shared | {"embedder": embedder_name, "embedding": _vector_text(vector)}
                by_vector = list((await connection.execute(_BY_VECTOR, near)).all())
            by_text = (await connection.execute(_BY_TEXT, shared | {"query": query})).all()
        reviews = {row.id: _review(row) for row in (*by_vector, *by_text)}
        return ReviewRankings(tuple(row.id for row in by_vector), tuple(row.id for row in by_text), reviews)


def _review(row: Row[Any]) -> Review:
    return Review(
        review_id=row.id,
        position_id=row.position_id,
        account_id=row.account_id,
        symbol=row.symbol,
        facts=msgspec.json.decode(row.facts, type=dict[str, str]),
        narrative=row.narrative,
        closed_ns=to_ns(row.closed_at),
    )


def _vector_text(vector: list[float] | tuple[float, ...]) -> str:
    return "[" + ",".join(repr(part) for part in vector) + "]"
