"""What only a derivatives account has: its wallet, the leverage of each symbol, margin brackets, and funding."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Protocol

import structlog

from core.kernel.inputs import MarginInputs
from core.kernel.kernel import Kernel
from core.portfolio.margin import MarginBracket
from core.runtime.service import EngineService
from core.storage.journal import JournalUnavailableError
from core.types.clock import NS_PER_S
from core.types.events import FundingSettled
from core.types.money import decimal_text
from core.venues.ports import VenueFunding, VenueUnavailableError

MARGIN_INTERVAL_S = 2.0
BRACKETS_INTERVAL_NS = 3_600 * NS_PER_S
FUNDING_INTERVAL_NS = 60 * NS_PER_S
FUNDING_OVERLAP_NS = 3_600 * NS_PER_S
"""Asked for again behind the newest one known: a venue may tell of a settlement late."""

_log = structlog.get_logger("engine.margin")


class MarginVenue(Protocol):
    """What a derivatives venue tells of an account. Each raises VenueUnavailableError."""

    async def balances(self) -> dict[str, Decimal]:
        """Wallet balances by asset, without unrealised profit."""
        ...

    async def leverages(self) -> dict[str, int]: ...
    async def margin_brackets(self, symbol: str) -> tuple[MarginBracket, ...]: ...
    async def funding_since(self, since_ns: int) -> list[VenueFunding]: ...


class MarginKeeper:
    """Keeps the margin in the surroundings up to date and takes settled funding into the journal."""

    def __init__(self, service: EngineService, venue: MarginVenue, margin_asset: str) -> None:
        self._service = service
        self._venue = venue
        self._margin_asset = margin_asset
        self._brackets_ns = 0
        self._funding_ns = 0

    async def run(self) -> None:
        while True:
            try:
                await self.look()
            except VenueUnavailableError as error:
                self._service.surroundings.margin = None
                _log.warning("margin_unknown", error=str(error))
            except JournalUnavailableError as error:
                _log.error("funding_not_recorded", error=str(error))
            await asyncio.sleep(MARGIN_INTERVAL_S)

    async def look(self) -> None:
        """Once. Raises VenueUnavailableError, JournalUnavailableError."""
        service, around = self._service, self._service.surroundings
        as_of_ns = service.clock.now_ns()
        balances, leverages = await self._venue.balances(), await self._venue.leverages()
        around.margin = MarginInputs(balances.get(self._margin_asset, Decimal(0)), leverages, as_of_ns)
        listed = tuple(symbol for _, symbol in service.kernel.listed)
        if set(listed) - around.brackets.keys() or as_of_ns >= self._brackets_ns + BRACKETS_INTERVAL_NS:
            around.brackets = {symbol: await self._venue.margin_brackets(symbol) for symbol in listed}
            self._brackets_ns = as_of_ns
        if listed and as_of_ns >= self._funding_ns + FUNDING_INTERVAL_NS:
            await self._take_funding()
            self._funding_ns = as_of_ns

    async def _take_funding(self) -> None:
        service, account_id = self._service, self._service.surroundings.account_id
        venue = service.kernel.listed[0][0]
        settled = await self._venue.funding_since(funding_since_ns(service.kernel, account_id, venue))
        await service.record(lambda now_ns: new_funding(service.kernel, account_id, venue, settled, now_ns))


def funding_since_ns(kernel: Kernel, account_id: str, venue: str) -> int:
    """From when on to ask: shortly before the newest settlement that is here, else since the engine's first start."""
    known = [total.last_ns for key, total in kernel.funding.items() if key[:2] == (account_id, venue)]
    return max(0, max(known) - FUNDING_OVERLAP_NS) if known else kernel.head.first_started_ns


def new_funding(
    kernel: Kernel, account_id: str, venue: str, settled: Sequence[VenueFunding], now_ns: int
) -> tuple[FundingSettled, ...]:
    """Those that aren't in the journal. A symbol settles once at a time, so the newest one known tells them apart."""
    last_ns: dict[tuple[str, str], int] = {
        (key[2], key[3]): total.last_ns for key, total in kernel.funding.items() if key[:2] == (account_id, venue)
    }
    first_ns = kernel.head.first_started_ns
    return tuple(
        FundingSettled(
            ts_ns=now_ns,
            account_id=account_id,
            venue=venue,
            symbol=item.symbol,
            transaction_id=item.transaction_id,
            amount=decimal_text(item.amount),
            asset=item.asset,
            venue_ts_ns=item.ts_event_ns,
        )
        for item in sorted(settled, key=lambda item: (item.ts_event_ns, item.transaction_id))
        if item.ts_event_ns > _known_until(last_ns, item, first_ns)
    )


def _known_until(last_ns: Mapping[tuple[str, str], int], item: VenueFunding, first_ns: int) -> int:
    return last_ns.get((item.symbol, item.asset), first_ns)
