"""Which instruments there are, and what people call them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from core.types.clock import NS_PER_S, Clock
from core.types.codes import ReasonCode, refuse
from core.types.views import InstrumentView

FRESH_FOR_S = 5
SYMBOL_LENGTH_LIMIT = 32
NAMES_SHOWN_LIMIT = 50


class InstrumentDirectory:
    """The engine's instruments, kept for FRESH_FOR_S; a name that isn't among them is looked up afresh before it is
    refused."""

    def __init__(self, fetch: Callable[[], Awaitable[list[InstrumentView]]], clock: Clock) -> None:
        self._fetch = fetch
        self._clock = clock
        self._instruments: list[InstrumentView] = []
        self._fetched_ns: int | None = None

    async def all(self) -> list[InstrumentView]:
        """Sorted by symbol. Raises RefusalError(SERVICE_ENGINE_UNAVAILABLE)."""
        now_ns = self._clock.now_ns()
        if self._fetched_ns is None or not 0 <= now_ns - self._fetched_ns < FRESH_FOR_S * NS_PER_S:
            await self._refresh()
        return self._instruments

    async def find(self, name: str) -> InstrumentView:
        """By symbol in any usual spelling: ``btc/usdt``, ``BTC-USDT``, ``BTCUSDT``.

        Raises RefusalError(MARKET_INSTRUMENT_UNKNOWN), naming those that are known.
        """
        symbol = normalise_symbol(name)
        for instrument in await self.all():
            if instrument.symbol == symbol:
                return instrument
        await self._refresh()
        for instrument in self._instruments:
            if instrument.symbol == symbol:
                return instrument
        known = ", ".join(instrument.symbol for instrument in self._instruments[:NAMES_SHOWN_LIMIT])
        raise refuse(
            ReasonCode.MARKET_INSTRUMENT_UNKNOWN,
            f"There is no instrument {symbol or 'of that name'} here. Known: {known or 'none yet'}.",
            limit=known or None,
            actual=symbol or None,
            unit="symbol",
        )

    async def _refresh(self) -> None:
        self._instruments = sorted(await self._fetch(), key=lambda instrument: instrument.symbol)
        self._fetched_ns = self._clock.now_ns()


def normalise_symbol(name: str) -> str:
    """Letters and digits only, upper case, at most SYMBOL_LENGTH_LIMIT."""
    return "".join(letter for letter in name if letter.isascii() and letter.isalnum()).upper()[:SYMBOL_LENGTH_LIMIT]
