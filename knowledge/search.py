"""Hybrid search over trade reviews: by vector and by words, joined by reciprocal rank fusion."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

import msgspec

from knowledge.embed import Embedder
from knowledge.reviews import Review

# The constant of Cormack, Clarke and Buettcher, "Reciprocal Rank Fusion" (SIGIR 2009).
RRF_CONSTANT = 60
CANDIDATES_PER_RANKING = 50
QUERY_LIMIT_CHARS = 500
RESULTS_LIMIT = 20


class ReviewHit(msgspec.Struct, frozen=True):
    """A review that was found. ranks say at which place each ranking had it, from 1; None where it hadn't."""

    review: Review
    vector_rank: int | None
    text_rank: int | None


class ReviewRankings(msgspec.Struct, frozen=True):
    """What a store found by each way, best first, as review ids, and the reviews themselves."""

    by_vector: tuple[str, ...]
    by_text: tuple[str, ...]
    reviews: dict[str, Review]


class ReviewIndex(Protocol):
    """A store that can rank. MUST show reviews of the given accounts only."""

    async def rank(
        self, account_ids: tuple[str, ...], embedder_name: str, vector: list[float], query: str, limit: int
    ) -> ReviewRankings: ...


class ReviewSearch(Protocol):
    """What tools see."""

    async def search(self, account_ids: tuple[str, ...], query: str, limit: int) -> list[ReviewHit]: ...


class HybridSearch:
    """Search inside the asker's account scope. Raises RefusalError(SERVICE_DATABASE_UNAVAILABLE)."""

    def __init__(self, index: ReviewIndex, embedder: Embedder) -> None:
        self._index = index
        self._embedder = embedder

    async def search(self, account_ids: tuple[str, ...], query: str, limit: int) -> list[ReviewHit]:
        """Best first, at most `limit` (bounded by RESULTS_LIMIT)."""
        text = query[:QUERY_LIMIT_CHARS]
        [vector] = await asyncio.to_thread(self._embedder.embed, [text])
        found = await self._index.rank(account_ids, self._embedder.name, vector, text, CANDIDATES_PER_RANKING)
        best = reciprocal_rank_fusion([found.by_vector, found.by_text])[: min(limit, RESULTS_LIMIT)]
        vector_ranks = {review_id: rank for rank, review_id in enumerate(found.by_vector, start=1)}
        text_ranks = {review_id: rank for rank, review_id in enumerate(found.by_text, start=1)}
        return [
            ReviewHit(found.reviews[review_id], vector_ranks.get(review_id), text_ranks.get(review_id))
            for review_id in best
        ]


def reciprocal_rank_fusion(rankings: Sequence[Sequence[str]]) -> list[str]:
    """Ids by the sum of 1 / (60 + rank) over the rankings, best first; equal sums in order of id."""
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, item in enumerate(ranking, start=1):
            scores[item] = scores.get(item, 0.0) + 1.0 / (RRF_CONSTANT + rank)
    return sorted(scores, key=lambda item: (-scores[item], item))
