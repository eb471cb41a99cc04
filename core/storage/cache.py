"""Hot market data in Redis (or Valkey) for UIs: ticker, top of the book, recent trades. An extra: `veloz[cache]`.

Keys are `veloz:v1:<venue>:<symbol>:ticker|top|trades`, each a JSON document whose decimals are text. Every document
says its state and how old it is (`as_of_ns`); what isn't verified is written as what it is, never left looking fresh.
Every key expires after ttl_s, so a dead writer's data vanishes. Nothing depends on the cache, and nothing that is wrong
with it reaches the engine: it is written in a task of its own, the latest wins, failures are counted and logged once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Sequence
from decimal import Decimal
from random import SystemRandom
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
import structlog

from core.config import ConfigurationError, Settings
from core.config.settings import CacheSettings
from core.types.codes import RefusalError
from core.types.instruments import Instrument
from core.types.market import Trade
from core.types.money import decimal_text, from_scaled
from core.types.views import LevelView, OrderBookView, TickerView

if TYPE_CHECKING:
    from redis.asyncio import Redis

KEY_PREFIX = "veloz:v1"
"""The version of what lies under the keys: readers of another one see nothing instead of something else."""
PASSWORD_FILE = "redis.password"  # noqa: S105 (the file's name)
LIVE = "LIVE"
STALE = "STALE"
SYMBOLS_PER_BATCH = 8
"""Symbols that are read in one go, each in some hundred microseconds; the feed has its turn between batches."""
REFRESHES_PER_TTL = 3
PAUSE_PER_ROUND = 9
"""Rounds take at most a tenth of the time: with hundreds of symbols each is written less often, to spare the feed."""
CONNECT_TIMEOUT_S = 1.0
REPLY_TIMEOUT_S = 1.0
READ_TIMEOUT_S = 0.25
CLOSE_TIMEOUT_S = 0.5
RETRY_BASE_S = 0.1
RETRY_CAP_S = 5.0
CONNECTIONS_LIMIT = 8
ERROR_SHOWN_LIMIT_CHARS = 200

_log = structlog.get_logger("cache")


class HotTrade(msgspec.Struct, frozen=True):
    """A public trade. is_buyer_maker: the seller was the aggressor."""

    trade_id: int
    price: Decimal
    quantity: Decimal
    is_buyer_maker: bool
    ts_event_ns: int


class HotTicker(msgspec.Struct, frozen=True):
    """ticker is None, and the state STALE, when no best bid and offer was confirmed lately."""

    symbol: str
    state: str
    stale_reason: str | None
    as_of_ns: int
    ticker: TickerView | None


class HotTrades(msgspec.Struct, frozen=True):
    """The last trades that the engine saw, newest first; unless the state is LIVE, newer ones may be missing."""

    symbol: str
    state: str
    stale_reason: str | None
    as_of_ns: int
    trades: tuple[HotTrade, ...]


KINDS: dict[str, Any] = {"ticker": HotTicker, "top": OrderBookView, "trades": HotTrades}
"""Each kind of key with what lies there, in HotMarket's order."""


class HotMarket(msgspec.Struct, frozen=True):
    """What the cache holds of one symbol: None for what has expired."""

    ticker: HotTicker | None
    top: OrderBookView | None
    trades: HotTrades | None


class MarketSource(Protocol):
    """The market as the engine knows it; core.market.hub.MarketHub is one. Raises RefusalError for unknown symbols."""

    @property
    def symbols(self) -> tuple[str, ...]: ...
    def instrument(self, symbol: str) -> Instrument: ...
    def ticker(self, symbol: str) -> TickerView: ...
    def order_book(self, symbol: str, depth: int) -> OrderBookView: ...
    def last_trade(self, symbol: str) -> Trade | None: ...
    def book_states(self) -> dict[str, str]: ...


class CacheCounters(msgspec.Struct):
    """Since the start. failures are rounds that Redis didn't take; their data is written again, as it is then."""

    documents: int = 0
    failures: int = 0
    recoveries: int = 0


class _HeldTrade:
    """A trade and, once it has been written, its JSON: it is written many times."""

    __slots__ = ("_encoded", "trade")

    def __init__(self, trade: Trade) -> None:
        self.trade = trade
        self._encoded = b""

    def encoded(self, instrument: Instrument) -> bytes:
        if not self._encoded:
            self._encoded = msgspec.json.encode(_plain_fields(_hot_trade(self.trade, instrument)))
        return self._encoded


class MarketCacheWriter:
    """Writes what has changed, each symbol at most once in interval_ms, and everything at least REFRESHES_PER_TTL times
    within ttl_s.

    updated MUST be called after every ticker and trade; it only takes a note. run writes until it is cancelled.
    """

    def __init__(self, settings: CacheSettings, client: Redis, venue: str, source: Callable[[], MarketSource]) -> None:
        self.counters = CacheCounters()
        self._settings = settings
        self._client = client
        self._venue = venue
        self._source = source
        self._refresh_s = settings.ttl_s / REFRESHES_PER_TTL
        self._changed: set[str] = set()
        self._trades: dict[str, deque[_HeldTrade]] = {}
        self._written: dict[str, tuple[str, float]] = {}
        self._problem: str | None = None
        self._retry_ceiling_s = RETRY_BASE_S

    @property
    def available(self) -> bool:
        """Whether the last round was taken."""
        return self._problem is None

    def updated(self, symbol: str) -> None:
        """Note that a symbol has news."""
        self._changed.add(symbol)
        with contextlib.suppress(RefusalError):
            trade = self._source().last_trade(symbol)
            if trade is None:
                return
            held = self._trades.setdefault(symbol, deque(maxlen=self._settings.recent_trades))
            if not held or held[-1].trade.trade_id != trade.trade_id:
                held.append(_HeldTrade(trade))

    async def run(self) -> None:
        """Until cancelled. Raises nothing else."""
        try:
            while True:
                wait_s = await self.write_due()
                await asyncio.sleep(wait_s)
        finally:
            await _close(self._client)

    async def write_due(self) -> float:
        """One round; how long to wait until the next, in seconds."""
        clock = asyncio.get_running_loop().time
        started_s = clock()
        try:
            async with asyncio.timeout(self._settings.ttl_s):
                await self._write(self._due())
        except Exception as error:  # whatever it is, the engine goes on
            return self._failed(error)
        if self._problem is not None:
            self.counters.recoveries += 1
            self._problem = None
            _log.info("cache_available_again")
        self._retry_ceiling_s = RETRY_BASE_S
        pause_s = min((clock() - started_s) * PAUSE_PER_ROUND, self._refresh_s)
        return max(self._settings.interval_ms / 1_000, pause_s)

    def _due(self) -> list[str]:
        now_s = asyncio.get_running_loop().time()
        states = self._source().book_states()
        for held in (self._trades, self._written):
            for gone in held.keys() - states.keys():
                del held[gone]
        due = []
        for symbol, state in states.items():
            written_as, written_s = self._written.get(symbol, ("", 0.0))
            if symbol in self._changed or state != written_as or now_s - written_s >= self._refresh_s:
                due.append(symbol)
        self._changed.clear()
        return due

    async def _write(self, due: Sequence[str]) -> None:
        now_s = asyncio.get_running_loop().time()
        for start in range(0, len(due), SYMBOLS_PER_BATCH):
            pipeline = self._client.pipeline(transaction=False)
            states: dict[str, str] = {}
            for symbol in due[start : start + SYMBOLS_PER_BATCH]:
                with contextlib.suppress(RefusalError):  # no longer followed
                    states[symbol], documents = self._documents(symbol)
                    for kind, document in documents.items():
                        pipeline.set(_key(self._venue, symbol, kind), document, px=self._settings.ttl_s * 1_000)
            await pipeline.execute()
            self._written.update({symbol: (state, now_s) for symbol, state in states.items()})
            self.counters.documents += len(KINDS) * len(states)

    def _documents(self, symbol: str) -> tuple[str, dict[str, bytes]]:
        """The book's state, and each kind with its document."""
        source = self._source()
        top = source.order_book(symbol, self._settings.top_levels)
        instrument = source.instrument(symbol)
        trades = {
            "symbol": symbol,
            "state": top.state,
            "stale_reason": top.stale_reason,
            "as_of_ns": top.as_of_ns,
            "trades": [msgspec.Raw(held.encoded(instrument)) for held in reversed(self._trades.get(symbol, ()))],
        }
        return top.state, {
            "ticker": _encode_ticker(_hot_ticker(source, symbol, top.as_of_ns)),
            "top": _encode_top(top),
            "trades": msgspec.json.encode(trades),
        }

    def _failed(self, error: Exception) -> float:
        self.counters.failures += 1
        # All of it: what was held there may be gone when it is back.
        self._written.clear()
        if (problem := type(error).__name__) != self._problem:
            self._problem = problem
            _log.warning("cache_unavailable", problem=problem, error=str(error)[:ERROR_SHOWN_LIMIT_CHARS])
        wait_s = SystemRandom().uniform(self._retry_ceiling_s / 2, self._retry_ceiling_s)
        self._retry_ceiling_s = min(RETRY_CAP_S, self._retry_ceiling_s * 2)
        return wait_s


class MarketCache:
    """Reads what the engine's writer left. Without Redis or a writer there is nothing: ask the engine then."""

    def __init__(self, client: Redis, venue: str) -> None:
        self._client = client
        self._venue = venue
        self._problem: str | None = None

    async def read(self, symbol: str) -> HotMarket | None:
        """What is held of a symbol; None when nothing is, or Redis doesn't answer within READ_TIMEOUT_S."""
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                found = await self._client.mget([_key(self._venue, symbol, kind) for kind in KINDS])
            held = [
                None if body is None else msgspec.json.decode(body, type=KINDS[kind])
                for kind, body in zip(KINDS, found, strict=True)
            ]
        except Exception as error:  # whatever it is, the reader has another way
            if (problem := type(error).__name__) != self._problem:
                self._problem = problem
                _log.warning("cache_unreadable", problem=problem, error=str(error)[:ERROR_SHOWN_LIMIT_CHARS])
            return None
        self._problem = None
        return HotMarket(*held) if any(document is not None for document in held) else None

    async def aclose(self) -> None:
        await _close(self._client)


def open_cache_writer(settings: Settings, source: Callable[[], MarketSource]) -> MarketCacheWriter | None:
    """The writer, None without cache.redis_url. It connects when it writes. Raises ConfigurationError."""
    client = _client(settings)
    return None if client is None else MarketCacheWriter(settings.cache, client, settings.venue.kind, source)


def open_cache(settings: Settings) -> MarketCache | None:
    """The reader, None without cache.redis_url. It connects when it reads. Raises ConfigurationError."""
    client = _client(settings)
    return None if client is None else MarketCache(client, settings.venue.kind)


def _client(settings: Settings) -> Redis | None:
    url = settings.cache.redis_url
    if not url:
        return None
    try:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError as error:
        raise ConfigurationError(
            "cache.redis_url is set, but the Redis client isn't installed: install the extra veloz[cache] (in a "
            "checkout: `make setup`), or remove the setting."
        ) from error
    password = settings.read_secret(PASSWORD_FILE) if settings.paths.secret(PASSWORD_FILE).exists() else None
    return Redis.from_url(
        url,
        password=password,
        client_name="veloz",
        socket_connect_timeout=CONNECT_TIMEOUT_S,
        socket_timeout=REPLY_TIMEOUT_S,
        max_connections=CONNECTIONS_LIMIT,
        retry=Retry(NoBackoff(), 0),  # the writer's own rounds are the retry, and write what is so then
    )


async def _close(client: Redis) -> None:
    with contextlib.suppress(Exception):
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await client.aclose()


def _key(venue: str, symbol: str, kind: str) -> str:
    return f"{KEY_PREFIX}:{venue}:{symbol}:{kind}"


def _hot_ticker(source: MarketSource, symbol: str, book_as_of_ns: int) -> HotTicker:
    try:
        ticker = source.ticker(symbol)
    except RefusalError as error:
        return HotTicker(symbol, STALE, error.refusal.code.value, book_as_of_ns, None)
    return HotTicker(symbol, LIVE, None, ticker.as_of_ns, ticker)


def _hot_trade(trade: Trade, instrument: Instrument) -> HotTrade:
    return HotTrade(
        trade_id=trade.trade_id,
        price=from_scaled(trade.price, instrument.price_scale),
        quantity=from_scaled(trade.quantity, instrument.quantity_scale),
        is_buyer_maker=trade.is_buyer_maker,
        ts_event_ns=trade.ts_event_ns,
    )


def _level(level: LevelView) -> dict[str, str]:
    return {"price": decimal_text(level.price), "quantity": decimal_text(level.quantity)}


def _encode_top(top: OrderBookView) -> bytes:
    fields = {name: getattr(top, name) for name in top.__struct_fields__}
    fields["bids"] = [_level(level) for level in top.bids]
    fields["asks"] = [_level(level) for level in top.asks]
    return msgspec.json.encode(fields)


def _encode_ticker(hot: HotTicker) -> bytes:
    fields = {name: getattr(hot, name) for name in hot.__struct_fields__}
    fields["ticker"] = None if hot.ticker is None else _plain_fields(hot.ticker)
    return msgspec.json.encode(fields)


def _plain_fields(view: msgspec.Struct) -> dict[str, Any]:
    """A flat struct with its decimals in plain notation: msgspec would write 1E-8 for one that prints so."""
    values = ((name, getattr(view, name)) for name in view.__struct_fields__)
    return {name: decimal_text(value) if isinstance(value, Decimal) else value for name, value in values}
