"""Cancelling until the venue shows no open order; needs the venue's REST interface and a key, nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from core.types.instruments import Product
from core.venues.binance.endpoints import Priority
from core.venues.binance.errors import CODE_CANCEL_REJECTED, BinanceApiError
from core.venues.binance.rest import BinanceRest
from core.venues.ports import VenueRateLimitedError, VenueUnavailableError

CLEAR_LOOKS = 2
"""So often in a row the venue must show none: an order may still have been on its way at the first look."""
LOOK_AGAIN_S = 1.0
RETRY_S = 0.5
RETRY_CAP_S = 5.0
MAX_ROUNDS = 1_000

LISTS: dict[Product, tuple[tuple[str, str], ...]] = {
    Product.SPOT: (("/api/v3/openOrders", "/api/v3/openOrders"),),
    # Conditional orders are another service's at USD-M.
    Product.USDM: (
        ("/fapi/v1/openOrders", "/fapi/v1/allOpenOrders"),
        ("/fapi/v1/openAlgoOrders", "/fapi/v1/algoOpenOrders"),
    ),
}
"""Where open orders are listed, and where all of a symbol's are cancelled."""


class OpenOrder(msgspec.Struct, rename="camel"):
    """One that the venue shows as open: an order, or a conditional one that has algoId instead."""

    symbol: str
    order_id: int = 0
    client_order_id: str = ""
    algo_id: int = 0
    client_algo_id: str = ""

    def describe(self) -> dict[str, str]:
        return {
            "symbol": self.symbol,
            "client_order_id": self.client_order_id or self.client_algo_id,
            "venue_order_id": str(self.order_id or self.algo_id),
        }


class Outcome(msgspec.Struct):
    """is_clear: the venue has shown no open order, CLEAR_LOOKS times. left: what it showed last, when it isn't clear;
    None when it never answered."""

    is_clear: bool = False
    seen: dict[str, dict[str, str]] = {}
    left: list[dict[str, str]] | None = None
    rounds: int = 0
    error: str = ""

    @property
    def canceled(self) -> list[dict[str, str]]:
        """What was open at some look and wasn't at the last: canceled, or filled meanwhile."""
        if self.left is None:
            return []
        left = {(order["symbol"], order["venue_order_id"]) for order in self.left}
        return [order for order in self.seen.values() if (order["symbol"], order["venue_order_id"]) not in left]


async def cancel_everything(
    rest: BinanceRest, deadline_s: float, stop: asyncio.Event, say: Callable[[str], None]
) -> Outcome:
    """Look, cancel by symbol, look again, until nothing is open, the deadline has passed or stop is set. Never raises
    for what the venue or the network does."""
    outcome, monotonic_s = Outcome(), asyncio.get_running_loop().time
    until_s, retry_s, clear_looks = monotonic_s() + deadline_s, RETRY_S, 0
    while outcome.rounds < MAX_ROUNDS and not stop.is_set() and monotonic_s() < until_s:
        outcome.rounds += 1
        wait_s = LOOK_AGAIN_S
        try:
            async with asyncio.timeout(max(0.0, until_s - monotonic_s())):
                left = await _round(rest, outcome, say)
            clear_looks = 0 if left else clear_looks + 1
            retry_s, outcome.error = RETRY_S, ""
            if clear_looks >= CLEAR_LOOKS:
                outcome.is_clear = True
                return outcome
            wait_s = RETRY_S if left else LOOK_AGAIN_S
        except VenueRateLimitedError as error:
            clear_looks, outcome.error, wait_s = 0, str(error), error.retry_after_s
        except VenueUnavailableError as error:
            clear_looks, outcome.error, wait_s = 0, str(error), retry_s
            retry_s = min(RETRY_CAP_S, retry_s * 2)
        except TimeoutError:
            outcome.error = outcome.error or "no answer before the deadline"
        if outcome.error:
            say(f"{outcome.error}; again in {wait_s:.1f} s")
        await _sleep(min(wait_s, max(0.0, until_s - monotonic_s())), stop)
    if not outcome.error:
        outcome.error = "stopped by a signal" if stop.is_set() else f"orders were still open after {deadline_s:.0f} s"
    return outcome


async def _round(rest: BinanceRest, outcome: Outcome, say: Callable[[str], None]) -> int:
    """One look at everything, and a cancel for each symbol that shows something. How many were open at the look."""
    looks = [(await _open(rest, listed_at), cancelled_at) for listed_at, cancelled_at in LISTS[rest.product]]
    found = [order.describe() for orders, _ in looks for order in orders]
    outcome.left = found
    outcome.seen.update({f"{order['symbol']} {order['venue_order_id']}": order for order in found})
    failure: VenueUnavailableError | None = None
    for orders, cancelled_at in looks:
        for symbol in sorted({order.symbol for order in orders}):
            say(f"cancelling {sum(order.symbol == symbol for order in orders)} open orders of {symbol}")
            try:
                await rest.once("DELETE", cancelled_at, {"symbol": symbol}, signed=True, answer=msgspec.Raw)
            except VenueRateLimitedError:
                raise
            except VenueUnavailableError as error:
                # One symbol's trouble must not keep the others' orders alive.
                if not (isinstance(error, BinanceApiError) and error.code == CODE_CANCEL_REJECTED):
                    say(f"{symbol}: {error}")
                    failure = error
    if failure is not None:
        raise failure
    return len(found)


async def _open(rest: BinanceRest, path: str) -> list[OpenOrder]:
    return await rest.read(path, signed=True, answer=list[OpenOrder], priority=Priority.SAFETY)


async def _sleep(duration_s: float, stop: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(duration_s):
            await stop.wait()
    except TimeoutError:
        return
