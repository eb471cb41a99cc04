"""From a command to its bytes on the socket, and durable orders a second, beside the raw fdatasync of the same bytes.

The real path: EngineService.submit_order under a mandate, risk, sequencer, journal on the disk of --folder, dispatcher,
BinanceSpot over a WebSocket on the loopback, to a venue in another process that acknowledges each order. It runs on
uvloop as the engine does, with live books, known balances and 1,000 open orders of five symbols.

p50_us and p99_us: with one order in flight and the order before it answered, from the call until its bytes are on the
socket, which they are at the latest when the send has returned or the venue's process has read them, whichever comes
first (woken by the send, the venue may run before it returns); arrived_p50_us: until it has read them. fsync_p50_us:
one write and one fdatasync of the same bytes into a file preallocated as the journal is, one before each order. ratio:
p50_us by fsync_p50_us.
orders_per_s: commands answered as durable and handed to the socket, with so many waiting at once; the venue's answers
are taken in and recorded meanwhile. flat: each before --history orders more, and after them. risk_p50_us: every check
on one order, its inputs gathered; risk_in_python_p50_us: the same by their oracle. session_adds_us: what a session's
signature costs. cpu_us_per_order: this process's.

Example: python bench/orders.py --json --orders 2000 --folder /var/lib/veloz
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sys
import tempfile
import time
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import httpx2
import structlog
import uvloop
from msgspec.structs import replace

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

from _order_engine import (  # noqa: E402
    BY_MANDATE,
    SESSION_ID,
    SESSION_SEED,
    USER,
    Engine,
    refresh,
    request,
    running_engine,
    venue_process,
)

from core.authority.documents import signed_message  # noqa: E402
from core.authority.session import REQUEST_DOMAIN_TAG  # noqa: E402
from core.authority.signatures import sign_bytes  # noqa: E402
from core.kernel.decide_risk import RiskSubject, run_risk, run_risk_in_python  # noqa: E402
from core.runtime.collector import collect_seldom  # noqa: E402
from core.runtime.tickets import ticket_digest  # noqa: E402
from core.storage.journal_files import JournalFile, PosixFolder  # noqa: E402
from core.storage.journal_format import GENESIS_HASH, encode_group  # noqa: E402
from core.types.authority import SessionAuthority  # noqa: E402
from core.types.events import JournalEvent, OrderAccepted, OrderClosed, OrderIntended, encode_event  # noqa: E402
from core.types.orders import OrderRequest, OrderStatus  # noqa: E402

OPEN_ORDERS = 1_000
ROUND = 50
WARM_UP_ROUNDS = 2
IN_FLIGHT = (1, 8, 64)
RATE_ROUNDS = 5
GROUPS_LEAST = 16
"""Of a round, each as large as what is in flight: of fewer, its beginning and its end would be measured."""
UNANSWERED_MOST = 512
"""How far the venue may fall behind: with twice as many the adapter would go by REST."""
BEHIND_S = 0.001
HISTORY_GROUP = 1_000
SESSION_ORDERS = 200
ORACLE_ORDERS = 200
NS_PER_US = 1_000


class TimedTransport:
    """The socket's transport, which notes when each send call has returned: the adapter has it hold nothing back."""

    def __init__(self, transport: asyncio.WriteTransport) -> None:
        self.sent_ns: list[int] = []
        self._transport = transport

    def write(self, data: bytes) -> None:
        self._transport.write(data)
        self.sent_ns.append(perf_counter_ns())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Load:
    """Orders one after the other, each of its own number."""

    def __init__(self, engine: Engine, port: int) -> None:
        self.engine = engine
        self.number = 0
        self._port = port
        self._updates = 2
        socket = engine.adapter.order_socket
        connection = None if socket is None else socket._connection
        assert connection is not None
        self.transport = TimedTransport(connection.transport)
        connection.transport = self.transport  # type: ignore[assignment]

    def command(self) -> OrderRequest:
        """The next one."""
        self.number += 1
        return request(self.number)

    async def submit(self, command: OrderRequest | None = None) -> str:
        """One order; its clientOrderId. Raises RuntimeError when it is refused."""
        outcome = await self.engine.service.submit_order(command or self.command(), BY_MANDATE)
        if outcome.client_order_id is None:
            raise RuntimeError(f"refused: {outcome.refusal}")
        return outcome.client_order_id

    async def timed(self) -> tuple[str, int, int]:
        """One order alone: its id, when it was asked for, and when its bytes were sent."""
        self.transport.sent_ns.clear()
        command = self.command()
        started_ns = perf_counter_ns()
        order_id = await self.submit(command)
        await self.engine.quiet()
        return order_id, started_ns, self.transport.sent_ns[0]

    async def closing(self, keep: int) -> None:
        """The venue cancels the oldest orders but for so many, as its reports would tell."""
        kernel = self.engine.kernel
        while len(kernel.open_order_ids) > keep:
            oldest = list(kernel.open_order_ids)[: min(HISTORY_GROUP, len(kernel.open_order_ids) - keep)]
            await self.engine.service.record(
                lambda now_ns, ids=oldest: tuple(
                    OrderClosed(ts_ns=now_ns, client_order_id=order_id, status=OrderStatus.CANCELED, reason="bench")
                    for order_id in ids
                )
            )

    async def refresh(self) -> None:
        """News from the markets and from the account."""
        self._updates += 1
        refresh(self.engine.hub, self.engine.clock, self._updates)
        self.engine.hold(self.engine.clock.now_ns())

    async def arrivals(self) -> dict[str, int]:
        async with httpx2.AsyncClient(trust_env=False) as client:
            answer = await client.get(f"http://127.0.0.1:{self._port}/bench/arrivals")
            found: dict[str, int] = answer.json()
            return found


class RawDisk:
    """A file beside the journal, preallocated as it is, that takes the bytes of an order and nothing else."""

    def __init__(self, folder: Path, data: bytes, writes: int) -> None:
        self._file: JournalFile = PosixFolder(folder).create(f"raw-{perf_counter_ns()}")
        self._file.allocate(len(data) * writes)
        self._data = data
        self._offset = 0

    def sync_ns(self) -> int:
        started_ns = perf_counter_ns()
        self._file.write(self._offset, self._data)
        self._file.sync()
        self._offset += len(self._data)
        return perf_counter_ns() - started_ns

    def close(self) -> None:
        self._file.close()


async def measure_latency(load: Load, folder: Path, orders: int) -> dict[str, float]:
    """One order in flight, beside the raw sync of its bytes."""
    rounds = max(1, orders // ROUND)
    payload = next(
        entry.payload
        for entry in reversed(list(load.engine.journal.entries(load.engine.journal.sequence - HISTORY_GROUP)))
        if isinstance(entry.event(), OrderIntended)
    )
    data, _ = encode_group(GENESIS_HASH, [payload])
    disk = RawDisk(folder, data, ROUND * (rounds + WARM_UP_ROUNDS))
    raw: list[int] = []
    begun: dict[str, tuple[int, int]] = {}
    await load.arrivals()
    try:
        for number in range(rounds + WARM_UP_ROUNDS):
            await load.refresh()
            for _ in range(ROUND):
                raw_ns = disk.sync_ns()
                order_id, started_ns, sent_ns = await load.timed()
                if number >= WARM_UP_ROUNDS:
                    raw.append(raw_ns)
                    begun[order_id] = started_ns, sent_ns
            await load.closing(OPEN_ORDERS)
    finally:
        disk.close()
    arrivals = await load.arrivals()
    arrived = [arrivals[order_id] - started_ns for order_id, (started_ns, _) in begun.items()]
    sent = [min(arrivals[order_id], sent_ns) - started_ns for order_id, (started_ns, sent_ns) in begun.items()]
    raw_p50_us, p50_us = percentile_us(raw, 50), percentile_us(sent, 50)
    return {
        "p50_us": p50_us,
        "p99_us": percentile_us(sent, 99),
        "fsync_p50_us": raw_p50_us,
        "fsync_p99_us": percentile_us(raw, 99),
        "ratio": round(p50_us / raw_p50_us, 2),
        "arrived_p50_us": percentile_us(arrived, 50),
        "record_bytes": len(data),
    }


async def measure_rate(load: Load, in_flight: int, orders: int) -> tuple[float, float]:
    """Orders a second with so many waiting at once, and this process's CPU time for each in microseconds."""
    await load.refresh()
    left = orders

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await load.submit()
            while load.engine.service.dispatcher.busy_count >= UNANSWERED_MOST:  # noqa: ASYNC110 it has no event for it
                await asyncio.sleep(BEHIND_S)

    started_ns, started_cpu_ns = perf_counter_ns(), time.process_time_ns()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    elapsed_ns, cpu_ns = perf_counter_ns() - started_ns, time.process_time_ns() - started_cpu_ns
    await load.engine.quiet()
    await load.closing(OPEN_ORDERS)
    return orders * 1e9 / elapsed_ns, cpu_ns / orders / NS_PER_US


async def measure_rates(load: Load, orders: int) -> dict[str, dict[str, float]]:
    rates: dict[int, list[float]] = {count: [] for count in IN_FLIGHT}
    costs: dict[int, list[float]] = {count: [] for count in IN_FLIGHT}
    for _ in range(RATE_ROUNDS):
        for count in IN_FLIGHT:
            rate, cost = await measure_rate(load, count, max(count * GROUPS_LEAST, orders // RATE_ROUNDS))
            rates[count].append(rate)
            costs[count].append(cost)
    return {
        "orders_per_s": {str(count): round(median(found)) for count, found in rates.items()},
        "cpu_us_per_order": {str(count): round(median(found), 1) for count, found in costs.items()},
    }


def measure_risk(load: Load, orders: int) -> dict[str, float]:
    """Every check on one order with OPEN_ORDERS open, its inputs gathered; beside it the look at the market."""
    engine = load.engine
    service, kernel = engine.service, engine.kernel
    gathered: list[int] = []
    checked: list[int] = []
    in_python: list[int] = []
    intents = [kernel.orders[order_id].intent for order_id in list(kernel.open_order_ids)[-ROUND:]]
    for number in range(orders):
        wanted, subject = request(number), RiskSubject(intents[number % len(intents)])
        now_ns = engine.clock.now_ns()
        started_ns = perf_counter_ns()
        inputs = service._inputs_of(wanted)
        looked_ns = perf_counter_ns()
        decision = run_risk(kernel, subject, inputs, now_ns)
        checked.append(perf_counter_ns() - looked_ns)
        gathered.append(looked_ns - started_ns)
        if decision.refusal is not None:
            raise RuntimeError(str(decision.refusal))
    # Apart: they would push each other out of the processor's caches.
    for _ in range(min(orders, ORACLE_ORDERS)):
        started_ns = perf_counter_ns()
        if run_risk_in_python(kernel, subject, inputs, now_ns) != decision:
            raise RuntimeError("the native checks and the Python ones differ")
        in_python.append(perf_counter_ns() - started_ns)
    return {
        "risk_p50_us": percentile_us(checked, 50),
        "risk_p99_us": percentile_us(checked, 99),
        "risk_in_python_p50_us": percentile_us(in_python, 50),
        "market_inputs_p50_us": percentile_us(gathered, 50),
        "checks": len(decision.checks),
        "open_orders": len(kernel.open_order_ids),
    }


async def measure_session(load: Load, orders: int) -> dict[str, float]:
    """The same order under a session: its key's signature is verified while the sequencer decides."""
    service = load.engine.service
    by_mandate: list[int] = []
    by_session: list[int] = []
    for _ in range(orders):
        _, started_ns, sent_ns = await load.timed()
        by_mandate.append(sent_ns - started_ns)
        load.number += 1
        signed = json.dumps({"request_id": f"r{load.number}"}).encode()
        signature = sign_bytes(SESSION_SEED, signed_message(REQUEST_DOMAIN_TAG, signed))
        authority = SessionAuthority(SESSION_ID, USER, ticket_digest(signed), signature.hex())
        load.transport.sent_ns.clear()
        started_ns = perf_counter_ns()
        outcome = await service.submit_order(request(load.number), authority, request_bytes=signed)
        if outcome.client_order_id is None:
            raise RuntimeError(f"refused: {outcome.refusal}")
        await load.engine.quiet()
        by_session.append(load.transport.sent_ns[0] - started_ns)
    await load.closing(OPEN_ORDERS)
    return {"session_adds_us": round(percentile_us(by_session, 50) - percentile_us(by_mandate, 50), 1)}


async def make_history(load: Load, orders: int) -> None:
    """Orders that were placed, acknowledged and cancelled: journaled and applied, not sent."""
    service = load.engine.service
    pattern = next(
        event
        for entry in load.engine.journal.entries(max(0, load.engine.journal.sequence - HISTORY_GROUP))
        if isinstance(event := entry.event(), OrderIntended)
    )
    journal, kernel = load.engine.journal, load.engine.kernel
    made = 0
    while made < orders:
        now_ns = load.engine.clock.now_ns()
        events: list[JournalEvent] = []
        for number in range(made, min(orders, made + HISTORY_GROUP)):
            events += _life(pattern, number, now_ns)
        made += HISTORY_GROUP
        # The sequencer would hand them to the dispatcher, and the dispatcher to the venue.
        commit = await service.sequencer.between_batches(
            lambda events=events: (
                kernel.replay(events),
                journal.begin([encode_event(event) for event in events]),
            )[1]
        )
        await asyncio.to_thread(commit.wait, 60.0)
        commit.result()


def _life(pattern: OrderIntended, number: int, now_ns: int) -> tuple[JournalEvent, ...]:
    order_id = f"vzhistory{number:023}"
    intent = replace(pattern.intent, client_order_id=order_id)
    return (
        replace(pattern, ts_ns=now_ns, intent=intent, checks=(), notional_quote="1"),
        OrderAccepted(ts_ns=now_ns, client_order_id=order_id, venue_order_id=f"h{number}"),
        OrderClosed(ts_ns=now_ns, client_order_id=order_id, status=OrderStatus.CANCELED, reason="bench"),
    )


def percentile_us(durations_ns: list[int], percent: int) -> float:
    ordered = sorted(durations_ns)
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] / NS_PER_US, 1)


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


async def measure(folder: Path, port: int, orders: int, history: int) -> dict[str, object]:
    async with running_engine(folder, port) as engine:
        load = Load(engine, port)
        while len(engine.kernel.open_order_ids) < OPEN_ORDERS:
            await asyncio.gather(*(load.submit() for _ in range(ROUND)))
            await engine.quiet()
        await load.refresh()
        result: dict[str, object] = {"benchmark": "orders", "orders": orders, "open_orders": OPEN_ORDERS}
        before = load.number
        first = await measure_latency(load, folder, orders)
        result |= first
        rates = await measure_rates(load, orders)
        risk = measure_risk(load, orders)
        result |= {**rates, **risk, **await measure_session(load, min(orders, SESSION_ORDERS))}
        if history:
            await make_history(load, history)
            later = await measure_latency(load, folder, orders)
            later_rates = await measure_rates(load, orders)
            later_risk = measure_risk(load, orders)
            most = str(IN_FLIGHT[-1])
            result["flat"] = {
                "orders_before": [before, load.number + history],
                "ratio": [first["ratio"], later["ratio"]],
                "risk_p50_us": [risk["risk_p50_us"], later_risk["risk_p50_us"]],
                "orders_per_s": [rates["orders_per_s"][most], later_rates["orders_per_s"][most]],
                "cpu_us_per_order": [rates["cpu_us_per_order"][most], later_rates["cpu_us_per_order"][most]],
            }
        result |= {"python": platform.python_version(), "machine": platform.machine()}
        return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="one JSON object on one line")
    parser.add_argument("--orders", type=int, default=2_000, help="measured at each number in flight, at least")
    parser.add_argument("--history", type=int, default=20_000, help="orders made before flat is measured; 0 skips it")
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="on the disk to measure")
    options = parser.parse_args()
    if options.orders < ROUND:
        parser.error(f"--orders must be at least {ROUND}")
    if options.history < 0:
        parser.error("--history must be 0 or more")
    if not options.folder.is_dir():
        parser.error(f"no such folder: {options.folder}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(40))
    collect_seldom()
    with (
        venue_process() as port,
        tempfile.TemporaryDirectory(prefix="orders-bench-", dir=options.folder) as folder,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        result = runner.run(measure(Path(folder), port, options.orders, options.history))
    print(json.dumps(result) if options.json else json.dumps(result, indent=2), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
