"""One seed: the world is made, goes on under its faults, is healed, and must come to rest with everything in order."""

from __future__ import annotations

import errno
import hashlib
from collections import Counter, deque
from collections.abc import Callable
from decimal import Decimal
from random import Random
from types import ModuleType

import msgspec
import structlog

from core.kernel import kernel
from core.runtime import sequencer
from core.types.orders import OrderIntent
from tests.simulation import documents
from tests.simulation.checks import Checks
from tests.simulation.exchange import Exchange, Quote
from tests.simulation.feed import Feed
from tests.simulation.invariants import Broken, Invariant
from tests.simulation.loop import Scheduler
from tests.simulation.machine import Life, Machine
from tests.simulation.network import Network
from tests.simulation.plan import FIRST_FAULT_NS, MS, Plan, S, plan_of
from tests.simulation.workload import Workload

RESTART_NS = (50 * MS, 1_500 * MS)
REST_NS = 1 * S
"""How often the healed world is looked at."""
REST_LEAST_NS = 8 * S
REST_LIMIT_NS = 150 * S
"""Within this everything is resolved once the faults are over: five sweeps of the engine, one every 30 s."""
STEPS_LIMIT = 400_000
TOLD_KEPT = 60


class Outcome(msgspec.Struct, frozen=True):
    """What became of a seed. trace is a digest of everything that happened, in order."""

    seed: int
    broken: Broken | None
    trace: str
    steps: int
    events: int
    virtual_ns: int
    counts: dict[str, int]
    last: tuple[str, ...]

    def message(self) -> str:
        """For whoever looks into a failure."""
        assert self.broken is not None
        lines = "\n".join(f"    {line}" for line in self.last)
        return (
            f"seed {self.seed}, step {self.steps}: {self.broken.invariant}: {self.broken.detail}\n"
            f"  the last things that happened:\n{lines}\n"
            f"  again: make simulate SEEDS=1 SEED={self.seed}"
        )


class World:
    """Everything of one seed."""

    def __init__(self, plan: Plan, told_kept: int | None = TOLD_KEPT) -> None:
        self.plan = plan
        self.random = Random(f"veloz simulation world {plan.seed}")
        self.scheduler = Scheduler()
        self.counts: Counter[str] = Counter()
        self.exchange = Exchange(
            documents.INSTRUMENTS,
            _quotes(),
            _totals(plan),
            Random(f"veloz simulation exchange {plan.seed}"),
            self._now_ns,
            amends_prices=plan.amends_prices,
        )
        self.network = Network(plan, self.scheduler, self.exchange, self.counted)
        self.network.told = self.told
        self.feed = Feed(self.exchange)
        self.machine = Machine(plan, self.scheduler, self.network, self.feed)
        self.checks = Checks(self.exchange, self.machine.disk, self.feed)
        self.steps = 0
        self._digest = hashlib.blake2b(digest_size=16)
        self._last: deque[str] = deque(maxlen=told_kept)
        self.checks.told, self.checks.counted = self.told, self.counted
        machine = self.machine
        machine.on_event, machine.on_submit = self.checks.on_published, self._submitting
        machine.on_amend = self.checks.on_amend
        machine.on_death, machine.crashed, machine.counted = self._died, self._crashed, self.counted
        self.workload = Workload(self)
        self._is_over = False
        self._deadly: bool | None = None

    def run(self) -> Outcome:
        self._schedule_faults()
        self._begin_life()
        self._tick()
        self._act()
        self._advance(self.plan.active_ns)
        self._heal()
        self._come_to_rest()
        self._verify_end()
        return Outcome(
            self.plan.seed,
            self.checks.broken,
            self._digest.hexdigest(),
            self.steps,
            self.checks.sequence,
            self.scheduler.now_ns,
            dict(self.counts),
            tuple(self._last),
        )

    # what the parts tell

    def counted(self, what: str) -> None:
        self.counts[what] += 1
        self.told(what)

    def told(self, what: str) -> None:
        line = f"{self.scheduler.now_ns / S:.6f} {what}"
        self._digest.update(line.encode())
        self._last.append(line)

    def logged(self, _logger: object, method: str, event: dict[str, object]) -> dict[str, object]:
        """A structlog processor: what the engine logs is part of the trace, and some of it is a finding."""
        name = str(event.get("event"))
        self.told(f"  log {name}")
        if name == "task_failed":
            self._crashed(f"{event.get('task')}: {event.get('error')}")
        self.counts[f"log {name}"] += 1
        raise structlog.DropEvent

    def with_engine(self, work: Callable[[Life], None]) -> None:
        """Do something to the engine once it is there."""
        life = self.machine.life
        if life is not None and life.is_serving:
            work(life)
        elif not self._is_over:
            self.scheduler.after(200 * MS, lambda: self.with_engine(work))

    # the course of things

    def _advance(self, until_ns: int) -> None:
        machine, scheduler, checks = self.machine, self.scheduler, self.checks
        while checks.broken is None:
            life = machine.life
            if life is not None:
                if life.loop.is_busy and not life.loop.is_dead:
                    life.loop.step()
                    self.steps += 1
                    if self.steps > STEPS_LIMIT:
                        checks.fail(Invariant.ALIVE, f"busy for more than {STEPS_LIMIT} steps")
                    self._after_step(life)
                    continue
                self._after_step(life)
            if not scheduler.run_next(until_ns):
                return

    def _after_step(self, life: Life) -> None:
        self.machine.after_step()
        if self.machine.life is life and not life.loop.is_dead:
            self.checks.on_idle(life)

    def _begin_life(self) -> None:
        if self._is_over or self.machine.life is not None:
            return
        self.told("a life begins")
        self.machine.start()
        life = self.machine.life
        assert life is not None
        if not self.machine.over:
            if life.journal.torn_tail is not None:
                self.counted("torn tail cut")
            self.checks.on_begun(life)
            self.with_engine(self.workload.introduce)

    def _died(self, life: Life) -> None:
        self.told("a life ends")
        self.counts["lives"] += 1
        self.checks.answered_switch = "NORMAL"
        self.scheduler.after(self.random.randint(*RESTART_NS), self._begin_life)

    def _crashed(self, what: str) -> None:
        if "ProcessKilledError" not in what:
            self.checks.fail(Invariant.ALIVE, what)

    def _submitting(self, intent: OrderIntent) -> None:
        life = self.machine.life
        assert life is not None
        self.told(f"submit {intent.client_order_id} leaves")
        self.counts["submits"] += 1
        position = life.kernel.positions.get((intent.account_id, intent.venue, intent.symbol))
        self.checks.on_submit(intent, 0 if position is None else position.quantity)

    def _tick(self) -> None:
        """The market moves."""
        symbol = self.random.choice(tuple(documents.FIRST_BIDS))
        most = self.plan.market_ticks
        self.exchange.move(symbol, self.random.randint(-most, most) * self.exchange.instruments[symbol].tick_size)
        self.feed.moved(symbol)
        if not self._is_over:
            self.scheduler.after(self.random.randint(40, 250) * MS, self._tick)

    def _act(self) -> None:
        if self.network.is_faulty:
            self.workload.act()
            self.scheduler.after(self.random.randint(1, 2 * self.plan.action_gap_ns), self._act)

    # faults

    def _schedule_faults(self) -> None:
        plan, machine = self.plan, self.machine
        for count, fault in (
            (plan.kills, lambda: self._kill(power=False)),
            (plan.power_cuts, lambda: self._kill(power=True)),
            (plan.disk_step_kills, self._kill_in_disk),
            (plan.clean_stops, self._stop),
            (plan.clock_jumps, self._jump),
            (plan.outages, self._outage),
            (plan.stream_breaks, self.network.break_stream),
            (plan.feed_silences, self._silence),
            (plan.write_errors, lambda: machine.disk.write_errors.append(OSError(errno.EIO, "Input/output error"))),
            (plan.sync_errors, self._sync_error),
            (plan.full_disks, self._fill_disk),
            (plan.kill_switches, lambda: self.with_engine(self.workload.tighten)),
            (plan.rule_changes, lambda: self.with_engine(self.workload.rules)),
        ):
            for _ in range(count):
                self.scheduler.at(self.random.randint(FIRST_FAULT_NS, plan.active_ns), fault)

    def _kill(self, *, power: bool) -> None:
        """At any step; or right after the next thing that is asked for, while its effects are on their way."""
        if self.machine.life is None:
            return
        if self.random.random() < 0.5:
            self.machine.kill_after(self.random.randint(1, 60), power=power)
        else:
            self._deadly = power

    def _restart(self) -> None:
        if self.machine.life is not None:
            self.machine.kill_after(1, power=False)

    def acted(self) -> None:
        """Somebody has just asked for something."""
        if self._deadly is not None and self.machine.life is not None:
            self.machine.kill_after(self.random.randint(1, 12), power=self._deadly)
            self._deadly = None

    def _kill_in_disk(self) -> None:
        if self.machine.life is not None:
            self.machine.kill_in_disk(self.random.randint(1, 12), power=self.random.random() < 0.5)

    def _stop(self) -> None:
        life = self.machine.life
        if life is not None and life.is_serving:
            self.counted("stopped cleanly")
            life.stop.set()

    def _jump(self) -> None:
        self.counted("clock jumped")
        size_ns = self.random.randint(MS, self.plan.clock_jump_ns)
        self.machine.wall.offset_ns += size_ns if self.random.random() < 0.5 else -size_ns

    def _outage(self) -> None:
        self.counted("outage")
        self.network.set_outage(True)
        self.scheduler.after(self.random.randint(300 * MS, 12 * S), lambda: self.network.set_outage(False))

    def _silence(self) -> None:
        self.counted("feed silent")
        self.feed.is_silent = True
        self.scheduler.after(self.random.randint(1, 5) * S, self._speak)

    def _speak(self) -> None:
        self.feed.is_silent = False

    def _sync_error(self) -> None:
        self.counted("sync error")
        self.machine.disk.sync_errors.append(OSError(errno.EIO, "Input/output error"))
        # Somebody looks, and restarts the engine as its message says.
        self.scheduler.after(self.random.randint(1, 4) * S, self._restart)

    def _fill_disk(self) -> None:
        self.counted("disk full")
        disk = self.machine.disk
        disk.capacity_bytes = 1
        self.scheduler.after(self.random.randint(1, 5) * S, lambda: setattr(disk, "capacity_bytes", None))

    # the end

    def _heal(self) -> None:
        """Every fault is over; nobody asks for anything more."""
        machine = self.machine
        self.told("all faults are over")
        self.network.is_faulty = machine.is_faulty = self.feed.is_silent = False
        self.network.set_outage(False)
        for errors in (machine.disk.write_errors, machine.disk.sync_errors):
            errors.clear()
        machine.disk.capacity_bytes = None
        machine.disk_steps_left = None
        life = machine.life
        if life is not None and not machine.over and life.journal.dead_reason is not None:
            self._restart()

    def _come_to_rest(self) -> None:
        begun_ns = self.scheduler.now_ns
        while self.checks.broken is None:
            self._advance(self.scheduler.now_ns + REST_NS)
            waited_ns = self.scheduler.now_ns - begun_ns
            if waited_ns < REST_LEAST_NS:
                continue
            left = self.checks.unsettled(self.machine.life)
            if left is None:
                self.counts["rest after s"] = waited_ns // S
                return
            if waited_ns >= REST_LIMIT_NS:
                self.checks.fail(left.invariant, f"after {waited_ns // S} s without faults: {left.detail}")

    def _verify_end(self) -> None:
        """One more death and one more start, to look at what is left."""
        self._is_over = True
        if self.machine.life is not None:
            self.machine.bury()
        if self.checks.broken is None:
            self.machine.start()
            life = self.machine.life
            assert life is not None
            self.checks.on_begun(life)
            self.machine.bury()

    def _now_ns(self) -> int:
        return documents.START_NS + self.scheduler.now_ns


def simulate(seed: int, plan: Plan | None = None, told_kept: int | None = TOLD_KEPT) -> Outcome:
    """Run one seed. structlog's configuration is borrowed for as long as it takes.

    told_kept: how many of the last things that happened the outcome holds; None for all.
    """
    plan = plan or plan_of(seed)
    world = World(plan, told_kept)
    before = structlog.get_config()
    limits = _Limits(plan)
    structlog.configure(
        processors=[world.logged],
        wrapper_class=structlog.BoundLogger,
        logger_factory=structlog.PrintLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    try:
        limits.lower()
        return world.run()
    finally:
        limits.restore()
        structlog.configure(**before)


class _Limits:
    """The engine's named limits as the plan has them, for as long as a seed runs."""

    def __init__(self, plan: Plan) -> None:
        self._plan: tuple[tuple[ModuleType, str, int], ...] = (
            (kernel, "FINAL_ORDERS_KEPT", plan.final_orders_kept),
            (kernel, "FINAL_ORDERS_KEPT_NS", 0),
            (kernel, "TIDY_INTERVAL_EVENTS", plan.tidy_interval_events),
            (sequencer, "BATCH_LIMIT", plan.batch_limit),
            (sequencer, "UNRECORDED_LIMIT", plan.unrecorded_limit),
        )
        self._before = [getattr(module, name) for module, name, _ in self._plan]

    def lower(self) -> None:
        for module, name, value in self._plan:
            setattr(module, name, value)

    def restore(self) -> None:
        for (module, name, _), value in zip(self._plan, self._before, strict=True):
            setattr(module, name, value)


def _quotes() -> dict[str, Quote]:
    return {item.symbol: _quote(item.symbol, item.tick_size) for item in documents.INSTRUMENTS}


def _quote(symbol: str, tick: int) -> Quote:
    bid = documents.FIRST_BIDS[symbol]
    return Quote(bid, bid + tick)


def _totals(plan: Plan) -> dict[str, Decimal]:
    if plan.small_balances:
        return {"USDT": Decimal(1_500), "BTC": Decimal("0.02"), "ETH": Decimal("0.4")}
    return {"USDT": Decimal(100_000), "BTC": Decimal(1), "ETH": Decimal(20)}
