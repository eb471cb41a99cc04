"""A market made up from a seed: a simulated limit order book per symbol, fed by clustered order flow.

Arrivals are a Hawkes process (each event raises the rate of the next ones; Ogata's thinning, 1981), the fair price is
a random walk whose volatility itself wanders (so calm and wild stretches cluster), makers quote around it at a spread
they return to, and informed takers sweep quotes that have gone stale. The same seed and the same steps of the clock
give the same events. Floats decide what happens; prices and quantities are ints.
"""

from __future__ import annotations

import asyncio
import math
from decimal import Decimal
from random import Random
from typing import Any, Protocol

import msgspec

from core.types.clock import NS_PER_MS, NS_PER_S, Clock
from core.types.orders import Side
from core.venues.paper.book import LevelBook
from core.venues.paper.events import BookTicker, DepthDiff, MarketEvent, Publish, StartBook, Trade
from core.venues.paper.rules import RULES
from core.venues.paper.usdm.rules import CONTRACTS

DEPTH_INTERVAL_NS = 100 * NS_PER_MS
STEP_NS = 10 * NS_PER_MS
MAX_STEP_NS = NS_PER_S
"""A clock that jumps further than this (a suspended machine) skips the rest."""

BASE_RATE_PER_S = 40.0
EXCITATION_PER_S = 6.0
DECAY_PER_S = 10.0
MAX_RATE_PER_S = 300.0

MIN_LEVELS = 220
TARGET_LEVELS = 300
MAX_SWEEP_LEVELS = 12
WIDE_SPREADS = 4.0
"""Makers compete inside a spread that is wider than this many usual half spreads."""
VOLATILITY_PER_SQRT_S = 4.0e-5
VOLATILITY_REVERSION_PER_S = 0.02
VOLATILITY_OF_VOLATILITY = 0.25
MAX_LOG_VOLATILITY = 1.5


class Profile(msgspec.Struct, frozen=True):
    """What a symbol looks like. Prices in ticks, quantities in steps."""

    price_ticks: int
    spread_ticks: float
    depth_ticks: int
    typical_steps: float


PROFILES: dict[str, Profile] = {
    "BTCUSDT": Profile(6_000_000, 4.0, 30_000, 4_000.0),
    "ETHUSDT": Profile(300_000, 2.5, 2_500, 8_000.0),
    "SOLUSDT": Profile(15_000, 1.5, 700, 6_000.0),
}
PERPETUAL_PROFILES: dict[str, Profile] = {
    "BTCUSDT": Profile(600_000, 1.5, 3_000, 60.0),
    "ETHUSDT": Profile(300_000, 2.0, 2_500, 1_000.0),
    "SOLUSDT": Profile(15_000, 1.2, 700, 800.0),
}
BASIS_PER_SQRT_S = 2.0e-5
BASIS_REVERSION_PER_S = 0.02
MAX_BASIS = 1.0e-3
"""The perpetual's fair price stays this near to spot's."""


class MarketRules(Protocol):
    """What the flow needs to know of an instrument: of spot and of perpetuals alike."""

    @property
    def symbol(self) -> str: ...
    @property
    def tick(self) -> int: ...
    @property
    def step(self) -> int: ...


class SymbolMarket:
    """The book of one symbol and the flow that moves it. Purely a function of the seed and of `advance`'s times."""

    def __init__(
        self, rules: MarketRules, profile: Profile, seed: int, start_ns: int, spot: SymbolMarket | None = None
    ) -> None:
        """With `spot`, a perpetual: own book and flow, its fair price that of spot plus a small, wandering basis."""
        self.rules = rules
        self.book = LevelBook()
        self._profile = profile
        name = f"{seed}:{rules.symbol}" if spot is None else f"{seed}:{rules.symbol}:perpetual"
        self._random = Random(name)  # noqa: S311 a market, not a key
        self._spot = spot
        self._basis = 0.0
        self._fair_ticks = float(profile.price_ticks)
        self._log_volatility = 0.0
        self._fair_ns = start_ns
        self._excitement = 0.0
        self._excited_ns = start_ns
        self._next_ns = start_ns
        self._next_depth_ns = start_ns + DEPTH_INTERVAL_NS
        # Ids start from the microsecond of the start: they grow slower than time does, so a restart never goes back.
        self._update_id = self._first_id = start_ns // 1_000
        self._trade_id = start_ns // 1_000
        self._changed: dict[Side, dict[int, int]] = {Side.BUY: {}, Side.SELL: {}}
        self._events: list[MarketEvent] = []
        for side in (Side.BUY, Side.SELL):
            while self._level_count(side) < TARGET_LEVELS:
                self._quote(side)
        self._changed = {Side.BUY: {}, Side.SELL: {}}
        self.book.last_id = self._first_id = self._update_id
        self._draw_next()

    def start_book(self) -> StartBook:
        return self.book.snapshot(self.rules.symbol)

    def advance(self, until_ns: int) -> list[MarketEvent]:
        """What happens up to until_ns, in order of time."""
        while True:
            due_ns = min(self._next_ns, self._next_depth_ns)
            if due_ns > until_ns:
                break
            if self._next_depth_ns <= self._next_ns:
                self._emit_depth(self._next_depth_ns)
                self._next_depth_ns += DEPTH_INTERVAL_NS
            else:
                self._happen(self._next_ns)
                self._draw_next()
        events, self._events = self._events, []
        return events

    # Arrivals

    def _rate(self, at_ns: int) -> float:
        elapsed_s = (at_ns - self._excited_ns) / NS_PER_S
        return BASE_RATE_PER_S + self._excitement * math.exp(-DECAY_PER_S * elapsed_s)

    def _draw_next(self) -> None:
        at_ns = max(self._next_ns, self._excited_ns)
        while True:
            bound = self._rate(at_ns)
            at_ns += max(1, int(self._random.expovariate(bound) * NS_PER_S))
            if self._random.random() * bound <= self._rate(at_ns):
                self._next_ns = at_ns
                return

    def _excite(self, at_ns: int) -> None:
        excitement = self._rate(at_ns) - BASE_RATE_PER_S + EXCITATION_PER_S
        self._excitement = min(excitement, MAX_RATE_PER_S - BASE_RATE_PER_S)
        self._excited_ns = at_ns

    # What happens

    def _happen(self, at_ns: int) -> None:
        self._excite(at_ns)
        self._move_fair_price(at_ns)
        before = self._best()
        bid, ask = before[0], before[2]
        draw = self._random.random()
        if self._fair_ticks > ask + self._profile.spread_ticks / 2:
            self._sweep(Side.BUY, int(self._fair_ticks), at_ns)
        elif self._fair_ticks < bid - self._profile.spread_ticks / 2:
            self._sweep(Side.SELL, int(self._fair_ticks) + 1, at_ns)
        elif draw < 0.12:
            self._sweep(Side.BUY if self._random.random() < 0.5 else Side.SELL, None, at_ns)
        else:
            side = Side.BUY if self._random.random() < 0.5 else Side.SELL
            crowding = (self._level_count(side) - TARGET_LEVELS) / TARGET_LEVELS
            if draw < 0.55 + crowding:
                self._cancel(side)
            else:
                self._quote(side)
        for side in (Side.BUY, Side.SELL):
            while self._level_count(side) < MIN_LEVELS:
                self._quote(side)
        after = self._best()
        if after != before:
            tick, step = self.rules.tick, self.rules.step
            self._events.append(
                BookTicker(
                    self.rules.symbol,
                    self._update_id,
                    after[0] * tick,
                    after[1] * step,
                    after[2] * tick,
                    after[3] * step,
                )
            )

    def _move_fair_price(self, at_ns: int) -> None:
        elapsed_s = (at_ns - self._fair_ns) / NS_PER_S
        self._fair_ns = at_ns
        root = math.sqrt(elapsed_s)
        if self._spot is not None:
            self._follow_spot(self._spot, elapsed_s, root)
            return
        drift = -VOLATILITY_REVERSION_PER_S * self._log_volatility * elapsed_s
        noise = VOLATILITY_OF_VOLATILITY * root * self._random.gauss(0.0, 1.0)
        self._log_volatility = max(-MAX_LOG_VOLATILITY, min(MAX_LOG_VOLATILITY, self._log_volatility + drift + noise))
        sigma = VOLATILITY_PER_SQRT_S * math.exp(self._log_volatility) * root
        # Pulled back very weakly, so that a market of weeks stays within an order of magnitude of where it began.
        home = math.log(self._profile.price_ticks / self._fair_ticks) * 1e-6 * elapsed_s
        self._fair_ticks *= math.exp(sigma * self._random.gauss(0.0, 1.0) + home)

    def _follow_spot(self, spot: SymbolMarket, elapsed_s: float, root: float) -> None:
        noise = BASIS_PER_SQRT_S * root * self._random.gauss(0.0, 1.0)
        self._basis += noise - BASIS_REVERSION_PER_S * self._basis * elapsed_s
        self._basis = max(-MAX_BASIS, min(MAX_BASIS, self._basis))
        self._log_volatility = spot._log_volatility
        self._fair_ticks = spot._fair_ticks * spot.rules.tick / self.rules.tick * (1.0 + self._basis)

    def _quote(self, side: Side) -> None:
        """A limit order around the fair price: near the touch at the usual spread, or deeper, ever thinner."""
        profile, draw = self._profile, self._random
        half_spread = profile.spread_ticks / 2 * math.exp(0.5 * self._log_volatility)
        is_wide = self._spread_ticks() > WIDE_SPREADS * half_spread
        if is_wide and draw.random() < 0.7:
            depth_ticks = 0.0
        else:
            depth_ticks = math.exp(draw.random() * math.log(profile.depth_ticks)) - 1.0
        distance = half_spread * draw.expovariate(1.0) + depth_ticks
        steps = max(1, int(profile.typical_steps * draw.lognormvariate(0.0, 1.1) * (1 + depth_ticks / 2_000)))
        tick = self.rules.tick
        if side is Side.BUY:
            price = int(self._fair_ticks - distance)
            if self.book.best_ask is not None:
                price = min(price, self.book.best_ask // tick - 1)
        else:
            price = math.ceil(self._fair_ticks + distance)
            if self.book.best_bid is not None:
                price = max(price, self.book.best_bid // tick + 1)
        price = max(1, price)
        levels = self._levels(side)
        self._set(side, price * tick, levels.get(price * tick, 0) + steps * self.rules.step)

    def _cancel(self, side: Side) -> None:
        """Part or the whole of a level, more often near the touch."""
        prices = self._prices(side)
        index = int(len(prices) * self._random.random() ** 1.5)
        price = prices[-1 - index] if side is Side.BUY else prices[index]
        quantity = self._levels(side)[price]
        if self._random.random() < 0.6 or quantity <= self.rules.step:
            self._set(side, price, 0)
        else:
            lots = int(quantity // self.rules.step * self._random.uniform(0.1, 0.9))
            self._set(side, price, max(1, lots) * self.rules.step)

    def _sweep(self, side: Side, limit_ticks: int | None, at_ns: int) -> None:
        """A taker: an informed one takes all up to its limit, another one a random size."""
        book_side = Side.SELL if side is Side.BUY else Side.BUY
        levels, tick = self._levels(book_side), self.rules.tick
        wanted = max(1, int(self._profile.typical_steps * self._random.lognormvariate(-1.0, 1.3))) * self.rules.step
        for _ in range(MAX_SWEEP_LEVELS):
            prices = self._prices(book_side)
            price = prices[0] if side is Side.BUY else prices[-1]
            if limit_ticks is not None:
                if (price > limit_ticks * tick) if side is Side.BUY else (price < limit_ticks * tick):
                    break
                taken = levels[price]
            else:
                taken = min(wanted, levels[price])
            self._trade_id += 1
            at_ms = at_ns // NS_PER_MS
            self._events.append(Trade(self.rules.symbol, at_ms, at_ms, self._trade_id, price, taken, side is Side.SELL))
            self._set(book_side, price, levels[price] - taken)
            wanted -= taken
            if (limit_ticks is None and wanted <= 0) or len(prices) <= MIN_LEVELS // 2:
                break

    # The book

    def _levels(self, side: Side) -> dict[int, int]:
        return self.book.bids if side is Side.BUY else self.book.asks

    def _prices(self, side: Side) -> list[int]:
        return self.book.bid_prices() if side is Side.BUY else self.book.ask_prices()

    def _level_count(self, side: Side) -> int:
        return len(self._levels(side))

    def _set(self, side: Side, price: int, quantity: int) -> None:
        if side is Side.BUY:
            self.book.set_bid(price, quantity)
        else:
            self.book.set_ask(price, quantity)
        self._update_id += 1
        self._changed[side][price] = quantity

    def _spread_ticks(self) -> float:
        bid, ask = self.book.best_bid, self.book.best_ask
        return math.inf if bid is None or ask is None else (ask - bid) / self.rules.tick

    def _best(self) -> tuple[int, int, int, int]:
        """Best bid, its quantity, best ask, its quantity: in ticks and steps."""
        bid, ask = self.book.best_bid, self.book.best_ask
        assert bid is not None
        assert ask is not None
        tick, step = self.rules.tick, self.rules.step
        return bid // tick, self.book.bids[bid] // step, ask // tick, self.book.asks[ask] // step

    def _emit_depth(self, at_ns: int) -> None:
        if self._update_id == self._first_id:
            return
        self._events.append(
            DepthDiff(
                symbol=self.rules.symbol,
                event_ms=at_ns // NS_PER_MS,
                first_id=self._first_id + 1,
                last_id=self._update_id,
                bids=tuple(sorted(self._changed[Side.BUY].items(), reverse=True)),
                asks=tuple(sorted(self._changed[Side.SELL].items())),
            )
        )
        self._first_id = self.book.last_id = self._update_id
        self._changed = {Side.BUY: {}, Side.SELL: {}}


class SyntheticMarket:
    """All symbols of the venue and a perpetual of each, each with its own seeded flow. `speed` makes the flow's time
    run faster."""

    def __init__(self, seed: int, speed: Decimal, clock: Clock) -> None:
        self._seed = seed
        self._clock = clock
        self._speed = speed
        self._numerator, self._denominator = speed.as_integer_ratio()
        self._markets: list[SymbolMarket] = []
        self._perpetuals: list[SymbolMarket] = []
        self._publish_usdm: Publish | None = None
        self._start_ns = 0
        self._flow_ns = 0
        self._events = 0

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(PROFILES)

    def open(self) -> tuple[StartBook, ...]:
        self._start_ns = self._flow_ns = self._clock.now_ns()
        self._markets = [
            SymbolMarket(RULES[symbol], profile, self._seed, self._start_ns) for symbol, profile in PROFILES.items()
        ]
        self._perpetuals = [
            SymbolMarket(CONTRACTS[spot.rules.symbol], profile, self._seed, self._start_ns, spot)
            for spot, profile in zip(self._markets, PERPETUAL_PROFILES.values(), strict=True)
        ]
        return tuple(market.start_book() for market in self._markets)

    def usdm_books(self) -> tuple[StartBook, ...]:
        """After `open`: a perpetual of each symbol."""
        return tuple(market.start_book() for market in self._perpetuals)

    def set_usdm_publish(self, publish: Publish) -> None:
        """Where the perpetuals' events go; nowhere until this is called."""
        self._publish_usdm = publish

    async def play(self, publish: Publish) -> None:
        last_ns = self._clock.now_ns()
        while True:
            await asyncio.sleep(STEP_NS / NS_PER_S)
            now_ns = self._clock.now_ns()
            elapsed_ns = max(0, min(now_ns - last_ns, MAX_STEP_NS))
            last_ns = now_ns
            self._flow_ns += elapsed_ns * self._numerator // self._denominator
            self._advance(self._markets, publish, now_ns // NS_PER_MS)
            if self._publish_usdm is not None:
                self._advance(self._perpetuals, self._publish_usdm, now_ns // NS_PER_MS)

    def _advance(self, markets: list[SymbolMarket], publish: Publish, now_ms: int) -> None:
        for market in markets:
            for event in market.advance(self._flow_ns):
                self._events += 1
                publish(_at_wall_time(event, now_ms))

    def describe(self) -> dict[str, Any]:
        return {
            "source": "synthetic",
            "symbols": list(self.symbols),
            "usdmSymbols": [market.rules.symbol for market in self._perpetuals],
            "seed": self._seed,
            "speed": str(self._speed),
            "pass": 0,
            "updateIdShift": 0,
            "recordedTimeNs": None,
            "framesPlayed": self._events,
        }


def _at_wall_time(event: MarketEvent, now_ms: int) -> MarketEvent:
    """Flow time differs from the wall's when speed isn't 1 or the machine slept: what clients see is the wall's."""
    if isinstance(event, BookTicker):
        return event
    if isinstance(event, Trade):
        return msgspec.structs.replace(event, event_ms=now_ms, trade_ms=now_ms)
    return msgspec.structs.replace(event, event_ms=now_ms)
