"""Time bars of any interval from trades. Exact: ints at the instrument's scales throughout.

Time is the venue's (the trades' own). A closed bar is whole or it isn't there: the bar in which a series began, and any
during which trades were missed, are left out until `seed` brings them from the venue.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence

from core.market.bars import HISTORY_LIMIT_BARS, NO_BARS, NO_ID, FormingBar, Kline
from core.market.coverage import Gaps, Range, Ranges
from core.market.intervals import Interval


class TimeBars:
    """The bars of one symbol at one interval.

    fill_gaps: a bar without a trade repeats the last price with volume 0, as Binance's klines do; else there is none.

    Late trades: a bar closes when the venue's time is grace_ns past its end. A trade that comes before that amends its
    bar although a newer one has begun (amended_trades); one that comes after it is left out (late_trades).

    Trade ids, where they are given, are consecutive: a repeated one is left out (repeated_trades), a jump means trades
    missed (missed_trades), and the bars that they may belong to, give or take the grace, are not whole unless the
    missing ones still come before those close.

    Seeding: `seed` takes closed bars from the venue at any time and as often as `holes` names some. They stand in the
    place of what was counted here, so no trade counts twice: trades for a seeded bar are left out (seeded_trades).
    """

    def __init__(
        self,
        interval: Interval,
        *,
        fill_gaps: bool = True,
        grace_ns: int = 0,
        history_limit_bars: int = HISTORY_LIMIT_BARS,
    ) -> None:
        if grace_ns < 0 or history_limit_bars < 1:
            raise ValueError(
                f"grace_ns {grace_ns} must be 0 or more, history_limit_bars {history_limit_bars} 1 or more"
            )
        self.interval = interval
        self.fill_gaps = fill_gaps
        self.grace_ns = grace_ns
        self.late_trades = 0
        self.amended_trades = 0
        self.repeated_trades = 0
        self.missed_trades = 0
        self.seeded_trades = 0
        self.seed_differences = 0
        """Bars that were whole here and that the venue states otherwise."""
        self.history_limit_bars = history_limit_bars
        self._closed: deque[Kline] = deque()
        self._known = Ranges()
        self._gaps = Gaps()
        self._seeded: set[int] = set()
        self._open: dict[int, FormingBar] = {}
        self._newest: FormingBar | None = None
        self._front_ns: int | None = None
        """Where the oldest bar that isn't closed begins; None before the first trade or seed."""
        self._close_at_ns = 0
        """The venue's time at which that bar closes."""
        self._now_ns = 0
        self._last_trade_ns = 0
        self._last_id: int | None = None
        self._last_price: int | None = None
        self._is_interrupted = True

    # what the feed tells

    def on_trade(
        self,
        price: int,
        quantity: int,
        ts_event_ns: int,
        is_buyer_maker: bool | None = None,
        trade_id: int | None = None,
    ) -> Sequence[Kline]:
        """Count a trade; gives the bars that its time closes, oldest first."""
        if self._is_interrupted or (trade_id is not None and trade_id - 1 != self._last_id):
            if not self._follows(trade_id, ts_event_ns):
                self.repeated_trades += 1
                return NO_BARS
        elif trade_id is not None:
            self._last_id = trade_id
        closed: Sequence[Kline] = NO_BARS
        self._now_ns = max(self._now_ns, ts_event_ns)
        if self._now_ns >= self._close_at_ns:
            closed = self._close_until(self._now_ns - self.grace_ns)
        self._last_trade_ns = max(self._last_trade_ns, ts_event_ns)
        bar = self._newest
        if bar is None or not bar.open_time_ns <= ts_event_ns < bar.next_open_ns:
            bar = self._bar_of(price, ts_event_ns)
            if bar is None:
                return closed
        bar.add(price, quantity, ts_event_ns, is_buyer_maker, NO_ID if trade_id is None else trade_id)
        return closed

    def advance_to(self, ts_event_ns: int) -> Sequence[Kline]:
        """The venue's time has come this far: close the bars before it, also those without a trade.

        While the trades are interrupted nothing closes: what the next trade's id says decides what is whole.
        """
        if self._front_ns is None:
            return NO_BARS
        self._now_ns = max(self._now_ns, ts_event_ns)
        if self._is_interrupted or self._now_ns < self._close_at_ns:
            return NO_BARS
        return self._close_until(self._now_ns - self.grace_ns)

    def on_interrupted(self) -> None:
        """The stream of trades ended. Without trade ids, all between the last trade and the next counts as missed."""
        self._is_interrupted = True

    def seed(self, bars: Iterable[Kline]) -> None:
        """Take over the venue's own closed bars, oldest first; those that are still forming are passed over.

        Raises ValueError, and changes nothing, when a bar isn't one of this interval or isn't later than the one
        before it.
        """
        seeds = [bar for bar in bars if bar.closed]
        self._check_seeds(seeds)
        seeds = seeds[-self.history_limit_bars :]
        if not seeds:
            return
        if self._front_ns is None:
            self._move_front(seeds[0].open_time_ns)
        front_ns = self._front_ns or 0
        replaced = {bar.open_time_ns: bar for bar in self._closed}
        for bar in seeds:
            if bar.open_time_ns >= front_ns:
                break
            self._note_difference(replaced.get(bar.open_time_ns), bar)
            replaced[bar.open_time_ns] = bar
            self._accept_seed(bar)
        self._closed = deque(replaced[open_ns] for open_ns in sorted(replaced) if self._is_shown(replaced[open_ns]))
        for bar in seeds:
            if bar.open_time_ns >= front_ns:
                self._seed_at_front(bar)
        self._seeded = set(sorted(self._seeded)[-self.history_limit_bars :])
        self._trim()

    # what readers ask

    def bars(self, limit: int) -> list[Kline]:
        """The last `limit` bars, oldest first. Those at the end that can still change say closed False and hold what
        was seen of them."""
        return [*self._closed, *self._still_open()][-limit:]

    def holes(self) -> list[Range]:
        """The stretches (from_ns, until_ns) after the oldest bar known whose bars are closed and not known here: what
        to fetch from the venue and `seed`."""
        return [] if self._front_ns is None else self._known.holes(self._front_ns)

    def is_known(self, from_ns: int, until_ns: int) -> bool:
        """Whether every trade of this stretch is in closed bars that are held here."""
        return self._known.holds(from_ns, until_ns)

    @property
    def front_ns(self) -> int | None:
        """Where the oldest bar that isn't closed begins."""
        return self._front_ns

    # the trades' order

    def _follows(self, trade_id: int | None, ts_ns: int) -> bool:
        """Whether the trade is new; notes what was missed before it."""
        last_id = self._last_id
        if self._is_interrupted and trade_id is not None and last_id is not None and trade_id <= last_id:
            if ts_ns <= self._last_trade_ns:
                return False
            # A later trade with a lower id: the venue began to count anew, as Binance's testnet does each month.
            last_id = None
        if trade_id is not None and last_id is not None:
            if trade_id <= last_id:
                if not self._gaps.fill(trade_id):
                    return False
                self.missed_trades -= 1
                return True
            if trade_id > last_id + 1:
                self.missed_trades += trade_id - last_id - 1
                self._miss(ts_ns, range(last_id + 1, trade_id))
        elif self._is_interrupted:
            self._miss(ts_ns)
        if trade_id is not None:
            self._last_id = trade_id
        if self._is_interrupted:
            self._is_interrupted = False
            # Time went on without the trades; from here on they lead it again.
            self._now_ns = max(ts_ns, self._last_trade_ns)
        return True

    def _miss(self, until_ns: int, ids: range = range(0)) -> None:
        if self._front_ns is None:
            self._move_front(self.interval.open_time_ns(until_ns))
            self._last_trade_ns = self._front_ns or 0
        # Trades come out of order by up to the grace: so may the missing ones lie beyond those that enclose them.
        from_ns = max(0, min(self._last_trade_ns, until_ns) - self.grace_ns)
        until_ns = max(self._last_trade_ns, until_ns) + self.grace_ns
        self._gaps.open(from_ns, until_ns, ids)
        self._retract(self.interval.open_time_ns(from_ns))

    def _retract(self, from_ns: int) -> None:
        # Time alone closed these bars, and now it shows that trades of theirs may have been missed.
        front_ns = self._front_ns or 0
        if from_ns >= front_ns:
            return
        self._known.remove(from_ns, front_ns)
        kept: list[Kline] = []
        while self._closed and self._closed[-1].open_time_ns >= from_ns:
            bar = self._closed.pop()
            if bar.open_time_ns in self._seeded:
                kept.append(bar)
        self._closed.extend(reversed(kept))
        for open_ns in self._seeded:
            if open_ns >= from_ns:
                self._known.add(open_ns, self.interval.next_open_ns(open_ns))

    def _bar_of(self, price: int, ts_ns: int) -> FormingBar | None:
        """The open bar that a trade belongs to; None when that is closed."""
        open_ns = self.interval.open_time_ns(ts_ns)
        if open_ns < (self._front_ns or 0):
            if open_ns in self._seeded:
                self.seeded_trades += 1
            else:
                self.late_trades += 1
            return None
        bar = self._open.get(open_ns)
        if bar is None:
            bar = self._open[open_ns] = FormingBar(open_ns, self.interval.next_open_ns(open_ns), price)
        newest = self._newest
        if newest is None or open_ns > newest.open_time_ns:
            self._newest = bar
        else:
            self.amended_trades += 1
        return bar

    # closing

    def _move_front(self, open_time_ns: int) -> None:
        self._front_ns = open_time_ns
        self._close_at_ns = self.interval.next_open_ns(open_time_ns) + self.grace_ns

    def _close_until(self, horizon_ns: int) -> Sequence[Kline]:
        """Close every bar that ends at or before the horizon."""
        limit_ns = self.interval.open_time_ns(horizon_ns)
        closed: list[Kline] = []
        while self._front_ns is not None and self._front_ns < limit_ns:
            front_ns = self._front_ns
            bar = self._open.pop(front_ns, None)
            if bar is None:
                next_ns = min(limit_ns, min(self._open, default=limit_ns))
                closed += self._close_empty(front_ns, next_ns)
            else:
                next_ns = bar.next_open_ns
                closed += self._close_bar(bar)
            self._move_front(next_ns)
        self._gaps.forget_before(limit_ns)
        self._trim()
        return closed

    def _close_bar(self, bar: FormingBar) -> list[Kline]:
        if bar is self._newest:
            self._newest = None
        self._last_price = bar.close
        if self._is_interrupted or self._gaps.touch(bar.open_time_ns, bar.next_open_ns):
            return []
        self._known.add(bar.open_time_ns, bar.next_open_ns)
        kline = bar.kline(closed=True)
        self._closed.append(kline)
        return [kline]

    def _close_empty(self, from_ns: int, until_ns: int) -> list[Kline]:
        # All of them or none: a trade missed in the first sets the price of the others.
        if self._is_interrupted or self._gaps.touch(from_ns, until_ns):
            return []
        if not self.fill_gaps or self._last_price is None:
            self._known.add(from_ns, until_ns)
            return []
        filled = self._flat(self._last_price, from_ns, until_ns, closed=True)
        self._known.add(filled[0].open_time_ns, until_ns)
        self._closed.extend(filled)
        return filled

    def _flat(self, price: int, from_ns: int, until_ns: int, *, closed: bool) -> list[Kline]:
        # Only what the history can hold: a clock that jumps by years must not spin here.
        open_ns = max(from_ns, self.interval.shift(until_ns, -self.history_limit_bars))
        found = []
        while open_ns < until_ns:
            next_ns = self.interval.next_open_ns(open_ns)
            found.append(Kline(open_ns, next_ns - 1, price, price, price, price, 0, 0, 0, closed, 0, 0))
            open_ns = next_ns
        return found

    def _still_open(self) -> list[Kline]:
        front_ns = self._front_ns
        if front_ns is None:
            return []
        found: list[Kline] = []
        edge_ns, price = front_ns, self._last_price
        for open_ns in sorted(self._open):
            bar = self._open[open_ns]
            if self.fill_gaps and price is not None:
                found += self._flat(price, edge_ns, open_ns, closed=False)
            found.append(bar.kline(closed=False))
            edge_ns, price = bar.next_open_ns, bar.close
        if self.fill_gaps and price is not None and self._now_ns >= edge_ns:
            until_ns = self.interval.next_open_ns(self.interval.open_time_ns(self._now_ns))
            found += self._flat(price, edge_ns, until_ns, closed=False)
        return found

    def _trim(self) -> None:
        dropped: Kline | None = None
        while len(self._closed) > self.history_limit_bars:
            dropped = self._closed.popleft()
            self._seeded.discard(dropped.open_time_ns)
        if dropped is not None:
            self._known.forget_before(dropped.close_time_ns + 1)

    # seeding

    def _check_seeds(self, seeds: list[Kline]) -> None:
        before_ns = -1
        for bar in seeds:
            open_ns = bar.open_time_ns
            if self.interval.open_time_ns(open_ns) != open_ns or self.interval.next_open_ns(open_ns) != (
                bar.close_time_ns + 1
            ):
                raise ValueError(
                    f"a kline from {open_ns} to {bar.close_time_ns} ns isn't a bar of {self.interval}; "
                    f"seed with klines of {self.interval}"
                )
            if open_ns <= before_ns:
                raise ValueError(
                    f"the kline of {open_ns} ns follows that of {before_ns} ns; seed each once, oldest first"
                )
            before_ns = open_ns

    def _is_shown(self, bar: Kline) -> bool:
        return self.fill_gaps or bar.trades > 0

    def _note_difference(self, ours: Kline | None, venues: Kline) -> None:
        if ours is None or ours.open_time_ns in self._seeded:
            return
        figures = ("open", "high", "low", "close", "volume", "trades")
        self.seed_differences += any(getattr(ours, name) != getattr(venues, name) for name in figures)

    def _accept_seed(self, bar: Kline) -> None:
        self._known.add(bar.open_time_ns, bar.close_time_ns + 1)
        self._seeded.add(bar.open_time_ns)
        if bar.close_time_ns + 1 == self._front_ns:
            self._last_price = bar.close

    def _seed_at_front(self, bar: Kline) -> None:
        """The venue has closed a bar that is open here, or that lies ahead."""
        if self._now_ns < bar.open_time_ns != self._front_ns:
            self._gaps.open(self._now_ns, bar.open_time_ns)
        self._close_until(bar.open_time_ns)
        ours = self._open.pop(bar.open_time_ns, None)
        if ours is not None and ours is self._newest:
            self._newest = None
        end_ns = bar.close_time_ns + 1
        self._move_front(end_ns)
        self._accept_seed(bar)
        if self._is_shown(bar):
            self._closed.append(bar)
        self._gaps.forget_before(end_ns)
        self._now_ns = max(self._now_ns, bar.close_time_ns)
        if bar.last_trade_id is not None and (self._last_id is None or bar.last_trade_id > self._last_id):
            self._last_id = bar.last_trade_id
            self._last_trade_ns = max(self._last_trade_ns, end_ns)
