"""What the venue says about the account, asked for as a whole: open orders, positions, and the fills since last time.

Fills are asked for by symbol, because venues tell them so: of all symbols where the account is active when its stream
was away, else of SYMBOLS_PER_TURN, which come in turn, so that an account with a thousand symbols doesn't use up its
request weight. Until when each symbol was asked for is remembered, and the earliest of them is in the journal with the
balances: what was filled while the engine was down, or while the venue couldn't be reached, is never passed over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from decimal import Decimal

import msgspec

from core.kernel.kernel import Kernel
from core.kernel.records import PositionKey
from core.orders.machine import Order
from core.portfolio.positions import Position
from core.types.clock import NS_PER_S, Clock
from core.venues.ports import VenueOrder, VenuePort, VenuePosition, VenueTrade

SYMBOLS_PER_TURN = 20
FILLS_OVERLAP_NS = 60 * NS_PER_S
"""Asked for again each time: the venue's clock isn't ours, and its answers may lag behind its book."""


class VenueTruth(msgspec.Struct, frozen=True):
    """What the venue said, and when it was asked (by the engine's clock, and in asked_s by the loop's, which nobody
    sets; venue_ns is the venue's own time of then, where it is known). trades are of the symbols named in asked.

    balances were asked for before the trades: a fill that changed them is among those.

    known_orders and known_positions are the engine's own of that moment: what has become another object since has
    changed meanwhile. The clock doesn't tell: it stands still for as long as somebody put it back.
    """

    asked_ns: int
    orders: list[VenueOrder]
    positions: list[VenuePosition]
    known_orders: Mapping[str, Order]
    known_positions: Mapping[PositionKey, Position]
    trades: list[VenueTrade] = []
    asked: tuple[str, ...] = ()
    balances: Mapping[str, Decimal] = {}
    asked_s: float = 0.0
    venue_ns: int | None = None


class _Through(msgspec.Struct, frozen=True):
    """Until when the fills of one symbol are here, and when that was known, by the loop's clock."""

    through_ns: int
    asked_s: float


class VenueReader:
    """Asks one venue for one account."""

    def __init__(self, kernel: Kernel, venue: VenuePort, clock: Clock, account_id: str) -> None:
        self._kernel = kernel
        self._venue = venue
        self._clock = clock
        self._account_id = account_id
        self._through: dict[str, _Through] = {}

    async def ask(
        self, venue_name: str, *, is_whole: bool = True, symbols: tuple[str, ...] | None = None
    ) -> VenueTruth:
        """is_whole: the fills of every symbol where the account is active, not of some of them; symbols: of these.

        Raises VenueUnavailableError. What it says counts as asked for only once `settled` is told.
        """
        asked_ns, asked_s = self._clock.now_ns(), asyncio.get_running_loop().time()
        known_orders, known_positions = dict(self._kernel.orders), dict(self._kernel.positions)
        if symbols is None:
            symbols = self._symbols_of_this_turn(venue_name, is_whole=is_whole)
        balances = await self._venue.balances()
        # Known by now: that was a signed request.
        venue_ns = self._venue.now_ns()
        if venue_ns is not None:
            venue_ns -= round((asyncio.get_running_loop().time() - asked_s) * NS_PER_S)
        orders, positions = await self._venue.all_open_orders(), await self._venue.positions()
        trades: list[VenueTrade] = []
        for symbol in symbols:
            trades += await self._venue.trades_since(symbol, self._since_ns(venue_name, symbol))
        return VenueTruth(
            asked_ns, orders, positions, known_orders, known_positions, trades, symbols, balances, asked_s, venue_ns
        )

    def settled(self, truth: VenueTruth) -> None:
        """Everything in it is in the journal.

        The time until when fills are here is the venue's; where that isn't known it moves on by no more than has
        passed: a clock that is set an hour ahead would leave out what is filled in the hour that follows.
        """
        for symbol in truth.asked:
            through_ns = truth.asked_ns if truth.venue_ns is None else truth.venue_ns
            before = self._through.get(symbol)
            if before is not None and truth.venue_ns is not None:
                through_ns = max(before.through_ns, through_ns)
            elif before is not None:
                passed_ns = round((truth.asked_s - before.asked_s) * NS_PER_S)
                through_ns = max(before.through_ns, min(through_ns, before.through_ns + passed_ns))
            self._through[symbol] = _Through(through_ns, truth.asked_s)

    def fills_through_ns(self, venue_name: str) -> int:
        """Every fill up to here, of every symbol, is in the journal."""
        symbols = [symbol for name, symbol in self._kernel.listed if name == venue_name]
        through = [self._of(symbol, venue_name) for symbol in symbols]
        return min(through, default=self._journaled_ns(venue_name))

    def _since_ns(self, venue_name: str, symbol: str) -> int:
        through_ns = self._of(symbol, venue_name)
        # What the account did before the engine's first start isn't the engine's.
        return max(through_ns - FILLS_OVERLAP_NS, self._kernel.head.first_started_ns)

    def _of(self, symbol: str, venue_name: str) -> int:
        known = self._through.get(symbol)
        return self._journaled_ns(venue_name) if known is None else known.through_ns

    def _journaled_ns(self, venue_name: str) -> int:
        observed = self._kernel.balances.get((self._account_id, venue_name))
        return self._kernel.head.first_started_ns if observed is None else observed.fills_through_ns

    def _symbols_of_this_turn(self, venue_name: str, *, is_whole: bool) -> tuple[str, ...]:
        """Those that weren't asked for longest. Of the active ones all, when the account's stream was away."""
        listed = [symbol for name, symbol in self._kernel.listed if name == venue_name]
        listed.sort(key=lambda symbol: self._of(symbol, venue_name))
        traded = {order.intent.symbol for order in self._kernel.orders.values()}
        traded |= {symbol for _, _, symbol in self._kernel.positions}
        active = [symbol for symbol in listed if symbol in traded]
        quiet = [symbol for symbol in listed if symbol not in traded]
        chosen = active if is_whole else active[: max(SYMBOLS_PER_TURN // 2, SYMBOLS_PER_TURN - len(quiet))]
        room = SYMBOLS_PER_TURN if is_whole else SYMBOLS_PER_TURN - len(chosen)
        return (*chosen, *quiet[:room])
