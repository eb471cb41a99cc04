"""The engine process: start-up is crash recovery, one path.

Lock and verify the journal, replay it, open an epoch, install roster and limits when they changed, serve, and follow
the venue: which resolves every order that was open when the engine last stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import msgspec
import structlog
from grpc_health.v1 import health_pb2

from core.authority.roster import RosterError, SignedRoster, parse_signed_roster
from core.authority.thaw import SignedThaw
from core.bus.nats import NatsBus
from core.config import ConfigurationError, Settings
from core.kernel import decide
from core.kernel.decide import InstrumentScaleChangedError
from core.kernel.kernel import Kernel
from core.market.hub import MarketHub
from core.market.sync import StateChanged
from core.portfolio.view import DEFAULT_MARGIN_ASSET
from core.risk.kill_switch import KillSwitch
from core.risk.rules import RiskRules, RiskRulesError, parse_risk_rules
from core.runtime.address import prepare_address
from core.runtime.backfill import KlineBackfill
from core.runtime.collector import collect_seldom
from core.runtime.epoch import Epoch, open_epoch
from core.runtime.follow import VenueFollower
from core.runtime.guard import Guard
from core.runtime.held import HeldOrders
from core.runtime.journal_choice import open_journal
from core.runtime.journal_keeper import JournalKeeper
from core.runtime.margin import MarginKeeper
from core.runtime.market import MarketPublisher
from core.runtime.owed import OwedFile, record_owed
from core.runtime.recovery import SnapshotKeeper, recover
from core.runtime.reused_ids import ReusedIds
from core.runtime.server import SERVICE_NAME, STOP_GRACE_S, build_server
from core.runtime.service import EngineService
from core.runtime.thaw import kill_file, thaw_file
from core.storage.cache import open_cache_writer
from core.storage.journal import JournalDamagedError, JournalUnavailableError
from core.storage.journal_errors import JournalDroppedError
from core.storage.journal_files import PosixFolder
from core.storage.journal_store import JournalStore
from core.types.clock import Clock, MonotonicClock, SystemClock
from core.types.codes import Refusal
from core.types.events import KillSwitchChanged
from core.venues.binance.feed import BinanceMarketFeed
from core.venues.binance.usdm import BinanceUsdm
from core.venues.connect import Venue, connect_venue

SAFETY_POLL_S = 0.2
OWED_WAIT_S = 1.0
"""At the end, for a file that only a failed disk makes."""
BOOKS_WAIT_S = 5.0
BOOKS_POLL_S = 0.02
ROSTER_NAME = "roster.json"
THAW_LIMIT_BYTES = 16_384
MIB = 2**20

_log = structlog.get_logger("engine")


async def main(settings: Settings, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    """Run the engine until stop is set; ready is called once it serves and its books are live, or after 5 s.

    Raises ConfigurationError for limits, roster, secrets, journal or address that don't start (I11).
    """
    collect_seldom()
    rules = _read_rules(settings)
    roster = _read_roster(settings)
    token = settings.read_secret("engine-control.token")
    folder = PosixFolder(settings.paths.journal)
    archive = _archive(settings)
    journal = open_journal(settings, folder, archive)
    try:
        kernel = _recover(folder, journal)
        _check_surroundings(settings, kernel)
        clock = MonotonicClock(SystemClock(), floor_ns=kernel.last_ts_ns)
        bus = NatsBus(settings.nats.url, settings.read_secret("nats.token"), f"engine-{settings.engine.engine_id}")
        venue = connect_venue(settings, clock)
        try:
            hub = _build_hub(kernel, rules, clock)
            service = EngineService(
                kernel,
                journal,
                ReusedIds(venue, kernel),
                hub,
                clock,
                bus,
                account_id=settings.engine.account_id,
                reporting_asset=settings.engine.reporting_asset,
                root_public_key_hex=settings.read_secret("root.pub"),
                figures_max_age_s=settings.approvals.figures_max_age_s,
            )
            keeper = SnapshotKeeper(kernel, journal, folder, service.sequencer)
            service.journal_keeper = JournalKeeper(journal, archive, settings.journal.keep_mb * MIB, keeper)
            owed = OwedFile(settings.paths.journal, settings.engine.engine_id)
            service.sequencer.keep_owed = owed.keep
            await _open_epoch(service, settings, roster, rules)
            await record_owed(service, owed)
            await _serve(settings, service, bus, venue, token, keeper, stop, ready)
            await keeper.take()
            await asyncio.to_thread(owed.wait, OWED_WAIT_S)
        except* InstrumentScaleChangedError as group:
            raise ConfigurationError(str(group.exceptions[0])) from group
        finally:
            await venue.aclose()
    finally:
        await journal.close()


async def _serve(
    settings: Settings,
    service: EngineService,
    bus: NatsBus,
    venue: Venue,
    token: str,
    keeper: SnapshotKeeper,
    stop: asyncio.Event,
    ready: Callable[[], None],
) -> None:
    safety = SafetyWatch(settings, service)
    await safety.look()
    server, health = build_server(service, prepare_address(settings), token)
    publisher = MarketPublisher(service, bus, settings.venue.kind)
    held = HeldOrders(service, settings.venue.kind)
    cache = open_cache_writer(settings, lambda: service.hub)

    def updated(symbol: str) -> None:
        publisher.updated(symbol)
        held.updated(symbol)
        if cache is not None:
            cache.updated(symbol)

    async def run_feed(hub: MarketHub, until: asyncio.Event) -> None:
        venue.rest.report_clock_offset(hub.set_clock_offset_ms)
        if not hub.symbols:
            return
        backfill = KlineBackfill(venue, hub, service.clock)
        feed = BinanceMarketFeed(
            settings.venue.websocket_url, venue.rest, hub, hub.symbols, service.clock, updated, backfill=backfill.begin
        )
        keeping = asyncio.create_task(backfill.keep())
        try:
            await feed.run(until)
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)

    def build_hub() -> MarketHub:
        assert service.kernel.rules is not None
        return _build_hub(service.kernel, service.kernel.rules, service.clock, publisher.state_changed)

    follower = VenueFollower(service, build_hub, run_feed, settings.venue.recv_window_ms)
    bus.start()
    await server.start()
    await health.set(SERVICE_NAME, health_pb2.HealthCheckResponse.SERVING)
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(follower.run(stop))
            background = [
                group.create_task(safety.run()),
                group.create_task(publisher.run()),
                group.create_task(venue.rest.keep_time()),
                group.create_task(_tell_ready(service, ready)),
                group.create_task(keeper.run()),
                *([group.create_task(service.journal_keeper.run())] if service.journal_keeper else []),
                group.create_task(Guard(service).run()),
                *(group.create_task(part.run()) for part in _margin_keepers(service, venue)),
                group.create_task(held.run()),
            ]
            if cache is not None:
                background.append(group.create_task(cache.run()))
            await stop.wait()
            for task in background:
                task.cancel()
    finally:
        safety.close()
        await server.stop(STOP_GRACE_S)
        await service.stop()
        await bus.stop()


class SafetyWatch:
    """The ways to stop the engine that need nothing else to work: a file, and a signal (I10)."""

    def __init__(self, settings: Settings, service: EngineService) -> None:
        self._kill_file = kill_file(settings)
        self._thaw_file = thaw_file(settings)
        self._root_public_key_hex = settings.read_secret("root.pub")
        self._service = service
        self._halting: asyncio.Task[None] | None = None
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self._signalled)

    def close(self) -> None:
        asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(SAFETY_POLL_S)
            try:
                await self.look()
            except Exception:
                # This watch must outlive whatever goes wrong once.
                _log.exception("safety_watch_failed")

    async def look(self) -> None:
        """Halt when the kill file is there; take a signed thaw when it isn't."""
        service = self._service
        if self._kill_file.exists():
            if service.kernel.kill_switch is not KillSwitch.HALTED:
                await service.set_kill_switch(KillSwitch.HALTED, "file:KILL", f"{self._kill_file} exists")
        elif self._thaw_file.exists():
            await self._thaw()

    async def _thaw(self) -> None:
        service = self._service
        try:
            content = self._thaw_file.read_bytes()[: THAW_LIMIT_BYTES + 1]
            self._thaw_file.unlink()
            signed = msgspec.json.decode(content, type=SignedThaw)
        except (OSError, msgspec.MsgspecError) as error:
            _log.error("thaw_unreadable", error=str(error))
            return
        refused: list[Refusal] = []

        def decision(now_ns: int) -> tuple[KillSwitchChanged, ...]:
            decided = decide.decide_thaw(service.kernel, signed, self._root_public_key_hex, now_ns)
            if isinstance(decided, Refusal):
                refused.append(decided)
                return ()
            return (decided,)

        try:
            await service.record(decision)
        except JournalUnavailableError as error:
            _log.error("thaw_not_recorded", error=str(error))
            return
        for refusal in refused:
            _log.error("thaw_refused", code=refusal.code, message=refusal.message)
        if not refused:
            _log.warning("kill_switch", state=service.kernel.kill_switch, requested_by=signed.thaw.requested_by)

    def _signalled(self) -> None:
        # A task of its own: a stop must not wait for a place among the engine's background tasks.
        self._halting = asyncio.create_task(self._halt(), name="halt by signal")

    async def _halt(self) -> None:
        await self._service.set_kill_switch(KillSwitch.HALTED, "signal:SIGUSR1", "SIGUSR1 was received")


async def _open_epoch(service: EngineService, settings: Settings, roster: SignedRoster, rules: RiskRules) -> None:
    epoch = Epoch(
        engine_id=settings.engine.engine_id,
        environment=settings.environment,
        mode=settings.mode,
        software_version=version("veloz"),
        roster=roster,
        rules=rules,
        rules_file=str(settings.paths.risk_file),
    )
    try:
        await open_epoch(service, epoch)
    except RosterError as error:
        raise ConfigurationError(f"{settings.home / ROSTER_NAME}: {error}") from error
    except JournalUnavailableError as error:
        raise ConfigurationError(f"the engine can't write its journal: {error}") from error


def _margin_keepers(service: EngineService, venue: Venue) -> tuple[MarginKeeper, ...]:
    if not isinstance(venue, BinanceUsdm):
        return ()
    return (MarginKeeper(service, venue, DEFAULT_MARGIN_ASSET),)


async def _tell_ready(service: EngineService, ready: Callable[[], None]) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(BOOKS_WAIT_S):
            while True:
                states = service.hub.book_states()
                live = bool(states) and all(state == "LIVE" for state in states.values())
                if live and service.surroundings.venue_connected and service.kernel.equity:
                    break
                await asyncio.sleep(BOOKS_POLL_S)
    _log.info("engine_ready", books=service.hub.book_states(), venue_connected=service.surroundings.venue_connected)
    ready()


def _read_rules(settings: Settings) -> RiskRules:
    path = settings.paths.risk_file
    try:
        return parse_risk_rules(path.read_text(), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: can't be read: {error}. The engine doesn't start without limits.") from error
    except RiskRulesError as error:
        raise ConfigurationError(str(error)) from error


def _read_roster(settings: Settings) -> SignedRoster:
    path = settings.home / ROSTER_NAME
    try:
        return parse_signed_roster(path.read_bytes(), str(path), settings.read_secret("root.pub"))
    except OSError as error:
        raise ConfigurationError(f"{path}: can't be read: {error}. The engine doesn't start without it.") from error
    except RosterError as error:
        raise ConfigurationError(str(error)) from error


def _recover(folder: PosixFolder, journal: JournalStore) -> Kernel:
    try:
        return recover(folder, journal)
    except (JournalDamagedError, JournalDroppedError) as error:
        raise ConfigurationError(str(error)) from error


def _archive(settings: Settings) -> PosixFolder | None:
    """A folder of this engine's own, because segments of another one may have the same names."""
    if not settings.journal.archive:
        return None
    archive, journal = Path(settings.journal.archive).resolve(), settings.paths.journal.resolve()
    if archive == journal or journal in archive.parents or archive in journal.parents:
        raise ConfigurationError(
            f"journal.archive: {archive} and the journal, {journal}, lie one in the other. Name a folder outside, at "
            "best on another disk."
        )
    if not archive.is_dir():
        raise ConfigurationError(f"journal.archive: {archive} isn't a folder. Create or mount it, or correct its name.")
    try:
        folder = PosixFolder(archive / settings.engine.engine_id)
        folder.lock()
        folder.unlock()
    except OSError as error:
        raise ConfigurationError(
            f"journal.archive: {archive} can't be written: {error}. Give the engine's user access to it."
        ) from error
    return folder


def _check_surroundings(settings: Settings, kernel: Kernel) -> None:
    was, now = (kernel.environment, kernel.mode), (settings.environment, settings.mode)
    if kernel.sequence and was != now:
        raise ConfigurationError(
            f"{settings.paths.journal}: this journal is of environment and mode {was}, the settings say {now}. Set "
            "them back, or use another VELOZ_HOME: positions and approvals of one can't go on in the other."
        )
    traded = {kernel.instruments[key].product.value.lower() for key in kernel.listed}
    if traded and traded != {settings.venue.product}:
        raise ConfigurationError(
            f"{settings.paths.journal}: this journal is of {', '.join(sorted(traded))}, venue.product says "
            f"{settings.venue.product}. Set it back, or use another VELOZ_HOME: positions of one aren't the other's."
        )


def _build_hub(
    kernel: Kernel, rules: RiskRules, clock: Clock, on_state_changed: Callable[[StateChanged], None] | None = None
) -> MarketHub:
    instruments = [kernel.instruments[key] for key in kernel.listed]
    return MarketHub(instruments, clock, rules.book_stale_after_ms, on_state_changed)
