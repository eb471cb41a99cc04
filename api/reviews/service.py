"""Writes the review of a closed position, called by the ledger inside its transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from api.moments import to_ns
from api.reviews.repository import insert_review, review_exists
from core.authority.proposal import parse_order_proposal
from core.text.redaction import Redactor
from core.types.codes import RefusalError
from core.types.events import ClosedPosition, JournalEntry, OrderFilled
from core.types.ids import IdSource
from core.types.orders import Side
from knowledge.embed import Embedder, HashingEmbedder
from knowledge.reviews import FILLS_LIMIT, PriceRange, ReviewBuilder, ReviewFill, ReviewSource, split_symbol

StoreReview = Callable[[AsyncConnection, JournalEntry, OrderFilled], Awaitable[str | None]]
PriceRanges = Callable[[str, str, int, int], Awaitable[tuple[PriceRange, ...]]]
"""(venue, symbol, from_ns, to_ns) -> highs and lows of the 1m klines in between; empty when there are none."""

_FILLS = text(
    """
    SELECT client_order_id, side, price, quantity, traded_at, is_maker FROM fills
    WHERE account_id = :account_id AND client_order_id = ANY (:orders)
    ORDER BY traded_at, sequence LIMIT :limit
    """
)
_SUGGESTIONS = text(
    """
    SELECT client_order_id, asker_id, decided_by, proposal FROM suggestions
    WHERE client_order_id = ANY (:orders) ORDER BY created_at
    """
)


def review_writer(
    ids: IdSource,
    *,
    embedder: Embedder | None = None,
    redactor: Redactor | None = None,
    ranges: PriceRanges | None = None,
) -> StoreReview:
    """The callable for the ledger. It returns the new review's id, or None when the position has one already.

    connection is of a role that reads fills and suggestions of all accounts (veloz_ledger). MAE and MFE are in the
    review only when `ranges` is given.
    """
    builder = ReviewBuilder(embedder or HashingEmbedder(), redactor)

    async def store_review(connection: AsyncConnection, entry: JournalEntry, event: OrderFilled) -> str | None:
        closed = event.closed
        if closed is None or await review_exists(connection, closed.position_id):
            return None
        source = await _source(connection, event, closed, ranges)
        # In a thread: the first embedding loads its library, and the ledger has more to do meanwhile.
        embedded = await asyncio.to_thread(builder.build, ids.new_ulid(), source)
        return embedded.review.review_id if await insert_review(connection, embedded) else None

    return store_review


async def _source(
    connection: AsyncConnection, event: OrderFilled, closed: ClosedPosition, ranges: PriceRanges | None
) -> ReviewSource:
    orders = list(closed.client_order_ids)
    suggestions = (await connection.execute(_SUGGESTIONS, {"orders": orders})).all()
    wanted = {"account_id": event.account_id, "orders": orders, "limit": FILLS_LIMIT}
    fills = (await connection.execute(_FILLS, wanted)).all()
    mids = {row.client_order_id: _reference_price(row) for row in suggestions}
    base_asset, quote_asset = split_symbol(event.symbol)
    return ReviewSource(
        account_id=event.account_id,
        venue=event.venue,
        symbol=event.symbol,
        base_asset=base_asset,
        quote_asset=quote_asset,
        price_scale=event.price_scale,
        quantity_scale=event.quantity_scale,
        closed=closed,
        fills=tuple(_fill(row, mids) for row in fills),
        ranges=await ranges(event.venue, event.symbol, closed.opened_ns, closed.closed_ns) if ranges else (),
        suggested_by=tuple(dict.fromkeys(row.asker_id for row in suggestions)),
        approved_by=tuple(dict.fromkeys(row.decided_by for row in suggestions if row.decided_by)),
    )


def _fill(row: Row[Any], mids: dict[str, Decimal | None]) -> ReviewFill:
    return ReviewFill(
        client_order_id=row.client_order_id,
        side=Side(row.side),
        price=row.price,
        quantity=row.quantity,
        traded_ns=to_ns(row.traded_at),
        is_maker=row.is_maker,
        reference_price=mids.get(row.client_order_id),
    )


def _reference_price(row: Row[Any]) -> Decimal | None:
    """The mid that the order was proposed on; None when the stored proposal can't be read."""
    try:
        return Decimal(parse_order_proposal(bytes(row.proposal)).reference_price)
    except RefusalError:
        return None
