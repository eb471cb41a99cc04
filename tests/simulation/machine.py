"""One machine with its disk and clock, and the engine's lives on it: the real start, the real recovery, the real parts.

What is in core.runtime.engine besides (settings, gRPC, NATS, files, signals) is what a process needs and a simulation
doesn't have. A life ends by a kill between any two steps, by a power cut, by a clean stop, or by an exception that
nobody took care of, which is a finding.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from core.kernel.kernel import Kernel
from core.market.hub import MarketHub
from core.risk.rules import parse_risk_rules
from core.runtime.epoch import Epoch, open_epoch
from core.runtime.follow import VenueFollower
from core.runtime.guard import Guard
from core.runtime.held import HeldOrders
from core.runtime.owed import OwedFile, record_owed
from core.runtime.recovery import SnapshotKeeper, recover
from core.runtime.reused_ids import ReusedIds
from core.runtime.service import EngineService
from core.storage.journal import Commit, Journal, JournalUnavailableError
from core.types.clock import MonotonicClock
from core.types.events import JournalEntry, JournalEvent
from core.types.orders import OrderIntent
from tests.core.storage.faults import MemoryDisk
from tests.simulation import documents
from tests.simulation.feed import Feed
from tests.simulation.loop import ProcessKilledError, Scheduler, SimLoop
from tests.simulation.network import Network, SimVenue
from tests.simulation.plan import MS, RECV_WINDOW_MS, Plan

SEGMENT_BYTES = 96 * 1024
ALLOCATION_BYTES = 32 * 1024
OWED_LOST = 0.5
"""How often a power cut takes the file of what is owed."""


class WallClock:
    """The machine's clock, which somebody may set."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.offset_ns = 0

    def now_ns(self) -> int:
        return documents.START_NS + self._scheduler.now_ns + self.offset_ns


class PatientCommit:
    """A commit as the sequencer sees it; waiting for it takes no real time."""

    def __init__(self, commit: Commit) -> None:
        self._commit = commit

    def wait(self, _timeout_s: float, _looking_s: float = 0.0) -> bool:
        return self._commit.is_over

    def confirm(self) -> None:
        self._commit.confirm()

    def result(self) -> tuple[JournalEntry, ...]:
        return self._commit.result()

    def notify(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._commit.notify(loop, callback)


class SimJournal(Journal):
    """The engine's journal; how long a sync takes is drawn by the disk's owner."""

    later: Callable[[Callable[[], None]], bool]

    def begin(self, payloads: Any, *, emergency: bool = False) -> Any:
        return PatientCommit(super().begin(payloads, emergency=emergency))

    def _execute(self, commit: Commit) -> None:
        def execute() -> None:
            super(SimJournal, self)._execute(commit)

        if not self.later(execute):
            execute()


class Bus:
    """Hears of every event that is durable, in order, for as long as the process lives."""

    def __init__(self, heard: Callable[[bytes], None], loop: SimLoop) -> None:
        self._heard = heard
        self._loop = loop

    def publish_trading(self, messages: Sequence[tuple[str, bytes, str]]) -> None:
        if not self._loop.is_dead:
            for _, payload, _ in messages:
                self._heard(payload)


class Owed(OwedFile):
    """As the real one, on the machine: there at once, and as good as there after a kill; a power cut may take it."""

    def __init__(self, machine: Machine, loop: SimLoop) -> None:
        self.path = Path("owed.json")
        self._machine = machine
        self._loop = loop

    def keep(self, after_sequence: int, events: Sequence[JournalEvent]) -> None:
        if not self._loop.is_dead:
            self._machine.owed = (after_sequence, tuple(events)) if events else None

    def read(self) -> tuple[int, tuple[JournalEvent, ...]] | None:
        return self._machine.owed


class Life:
    """One life of the engine process."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.loop = SimLoop(machine.scheduler, machine.crashed)
        self.journal: SimJournal
        self.kernel: Kernel
        self.service: EngineService
        self.clock: MonotonicClock
        self.keeper: SnapshotKeeper
        self._held: HeldOrders
        self.is_serving = False
        self.stop = asyncio.Event()
        self.main: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Open the journal and recover. Raises OSError, and what a damaged journal raises."""
        machine = self.machine
        folder = machine.disk.folder()
        self.journal = SimJournal.open(
            folder, documents.ENGINE_ID, SEGMENT_BYTES, inline=True, allocation_step_bytes=ALLOCATION_BYTES
        )  # type: ignore[assignment]
        self.journal.later = self._later
        self.kernel = recover(folder, self.journal)
        self.clock = MonotonicClock(machine.wall, floor_ns=self.kernel.last_ts_ns)
        venue = ReusedIds(SimVenue(machine.network, self.loop, machine.on_submit, machine.on_amend), self.kernel)
        self.service = EngineService(
            self.kernel,
            self.journal,
            venue,
            MarketHub([], self.clock, 2_000),
            self.clock,
            Bus(machine.on_event, self.loop),
            account_id=documents.ACCOUNT,
            reporting_asset=documents.REPORTING,
            root_public_key_hex=documents.ROOT_PUBLIC_KEY,
        )
        self.owed = Owed(machine, self.loop)
        self.service.sequencer.keep_owed = self.owed.keep
        self.keeper = SnapshotKeeper(self.kernel, self.journal, folder, self.service.sequencer)
        self.main = self.loop.create_task(self._main(), name="engine")
        self.main.add_done_callback(self._ended)

    def spawn(self, work: Any, name: str) -> None:
        self.loop.create_task(work, name=name)

    def _ended(self, main: asyncio.Task[None]) -> None:
        error = None if self.loop.is_dead or main.cancelled() else main.exception()
        if error is not None:
            self.machine.crashed(f"the engine ended: {error!r}")

    async def _main(self) -> None:
        """As core.runtime.engine.main, without what only a real process has."""
        try:
            await open_epoch(self.service, machine_epoch())
        except JournalUnavailableError:
            self.machine.counted("start without a disk")
            self.machine.over = True
            return
        if await record_owed(self.service, self.owed):
            self.machine.counted("owed recorded at a start")
        held = self._held = HeldOrders(self.service, documents.VENUE)
        follower = VenueFollower(self.service, self._build_hub, self._run_feed, RECV_WINDOW_MS)
        async with asyncio.TaskGroup() as group:
            group.create_task(follower.run(self.stop))
            work = (self.keeper.run(), Guard(self.service).run(), held.run())
            background = [group.create_task(part) for part in work]
            self.is_serving = True
            await self.stop.wait()
            self.is_serving = False
            for task in background:
                task.cancel()
        await self.service.stop()
        await self.keeper.take()
        await self.journal.close()
        self.machine.over = True

    def _build_hub(self) -> MarketHub:
        rules = self.kernel.rules
        assert rules is not None
        instruments = [self.kernel.instruments[key] for key in self.kernel.listed]
        return MarketHub(instruments, self.clock, rules.book_stale_after_ms)

    async def _run_feed(self, hub: MarketHub, until: asyncio.Event) -> None:
        self.machine.feed.attach(hub, self.loop, self.clock, self._held.updated)
        await until.wait()

    def _later(self, execute: Callable[[], None]) -> bool:
        """Whether this sync takes its time; then it happens in the scheduler."""
        machine = self.machine
        delay_ns = machine.sync_delay_ns()
        if not delay_ns:
            return False

        def run() -> None:
            if self.loop.is_dead:
                return
            try:
                execute()
            except ProcessKilledError:
                machine.counted("killed while the disk was at work")

        machine.scheduler.after(delay_ns, run)
        return True


def machine_epoch() -> Epoch:
    document = documents.rules_document()
    return Epoch(
        engine_id=documents.ENGINE_ID,
        environment=documents.ENVIRONMENT,
        mode=documents.MODE,
        software_version="simulated",
        roster=documents.signed_roster(),
        rules=parse_risk_rules(document, "risk.toml"),
        rules_file="risk.toml",
    )


class Machine:
    """The disk, the clock and the process on it. on_event, on_submit, on_amend and crashed are the observers'."""

    def __init__(self, plan: Plan, scheduler: Scheduler, network: Network, feed: Feed) -> None:
        self.plan = plan
        self.scheduler = scheduler
        self.network = network
        self.feed = feed
        self.disk = MemoryDisk()
        self.wall = WallClock(scheduler)
        self.random = Random(f"veloz simulation machine {plan.seed}")
        self.life: Life | None = None
        self.lives = 0
        self.over = False
        self.steps_left: int | None = None
        self.disk_steps_left: int | None = None
        self.cuts_power = False
        self.is_faulty = True
        self.owed: tuple[int, tuple[JournalEvent, ...]] | None = None
        self.owed_was_lost = False
        self.on_event: Callable[[bytes], None] = lambda _payload: None
        self.on_submit: Callable[[OrderIntent], None] = lambda _intent: None
        self.on_amend: Callable[[str, int, int | None], None] = lambda _order_id, _quantity, _price: None
        self.on_death: Callable[[Life], None] = lambda _life: None
        self.crashed: Callable[[str], None] = lambda _what: None
        self.counted: Callable[[str], None] = lambda _what: None
        self.disk.on_step = self._disk_step

    def start(self) -> None:
        """Begin a life. A disk that can't be written, or a kill, ends it at once."""
        assert self.life is None
        self.lives += 1
        self.over = False
        life = self.life = Life(self)
        try:
            life.begin()
        except OSError:
            self.counted("start without a disk")
            self.over = True
        except ProcessKilledError:
            self.counted("killed during recovery")

    def sync_delay_ns(self) -> int:
        if not self.is_faulty:
            return 0
        drawn = self.random.random()
        if drawn < self.plan.hung_sync:
            self.counted("sync hung")
            return self.random.randint(150 * MS, 1_500 * MS)
        if drawn < self.plan.hung_sync + self.plan.slow_sync:
            return self.random.randint(1, 40) * MS
        return 0

    def kill_after(self, steps: int, *, power: bool) -> None:
        """Kill the process that many steps from now."""
        self.steps_left, self.cuts_power = steps, power

    def kill_in_disk(self, steps: int, *, power: bool) -> None:
        """Kill the process before that many more changes of the disk."""
        self.disk_steps_left, self.cuts_power = steps, power

    def after_step(self) -> None:
        """Between two steps."""
        if self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left <= 0:
                self.counted("power cut between two steps" if self.cuts_power else "killed between two steps")
                self._die()
        if self.over:
            self.bury()

    def bury(self) -> None:
        """The life is over, however it ended."""
        life, self.life = self.life, None
        assert life is not None
        self.steps_left = self.disk_steps_left = None
        self.over = False
        if not life.loop.is_dead:
            self.disk.kill()
        life.loop.die()
        self.on_death(life)

    def _disk_step(self, _operation: str, _name: str) -> None:
        if self.disk_steps_left is None:
            return
        self.disk_steps_left -= 1
        if self.disk_steps_left <= 0:
            self.disk_steps_left = None
            self.counted("power cut at a step of the disk" if self.cuts_power else "killed at a step of the disk")
            self._die()
            raise ProcessKilledError

    def _die(self) -> None:
        """From here on nothing of the process reaches the world."""
        assert self.life is not None
        self.life.loop.is_dead = True
        self.over = True
        if self.cuts_power:
            self.disk.cut_power(self.random)
            if self.owed is not None and self.random.random() < OWED_LOST:
                self.owed, self.owed_was_lost = None, True
        else:
            self.disk.kill()
