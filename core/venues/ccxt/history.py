"""What a ccxt exchange tells of the past, read whole page by page."""

from __future__ import annotations

from functools import partial
from typing import Any

from core.types.clock import NS_PER_MS
from core.venues.ccxt.exchange import ask
from core.venues.ports import VenueUnavailableError

PAGE_TRADES = 500
PAGES_LIMIT = 200


async def own_trades_since(exchange: Any, symbol: str, since_ns: int) -> list[dict[str, Any]]:
    """Every own trade at or after a time, oldest first, as ccxt's dicts, each once.

    Raises VenueUnavailableError, also where the exchange can't tell, or more than PAGES_LIMIT pages would be needed.
    """
    if exchange.has.get("fetchMyTrades") is not True:
        raise VenueUnavailableError(f"{exchange.id}: ccxt can't list own trades of this exchange")
    found: dict[str, dict[str, Any]] = {}
    start_ms = max(0, -(-since_ns // NS_PER_MS))
    for _ in range(PAGES_LIMIT):
        page = await ask(exchange, "fetch_my_trades", partial(exchange.fetch_my_trades, symbol, start_ms, PAGE_TRADES))
        new = [body for body in page if str(body["id"]) not in found]
        found.update({str(body["id"]): body for body in new})
        if not new and len(page) >= PAGE_TRADES:
            raise VenueUnavailableError(
                f"{exchange.id} fetch_my_trades {symbol}: a page can't hold all trades of the millisecond {start_ms}"
            )
        if not new:
            # Exchanges cap a page below what was asked for, so only a page without news is the last.
            ordered = sorted(found.values(), key=lambda body: (int(body["timestamp"]), str(body["id"])))
            return [body for body in ordered if int(body["timestamp"]) * NS_PER_MS >= since_ns]
        # Once more from the same millisecond: more trades may share it than a page has held.
        start_ms = max(int(body["timestamp"]) for body in page)
    raise VenueUnavailableError(f"{exchange.id} fetch_my_trades {symbol}: no end after {PAGES_LIMIT} pages")
