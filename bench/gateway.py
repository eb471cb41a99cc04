"""What the tool gateway adds to a call, and how many durable calls a second it takes, beside a bare fastmcp server.

The gateway as the api wires it: policy, validation, limits, deadline, redaction, audit record and sealed result in one
commit of a real PostgreSQL that syncs, under --folder. The tool is get_ticker; its engine answers at once.

overhead_p50_us, overhead_p99_us: a call through the gateway less the median call of the tool's own function.
commit_p50_us: one durable INSERT of as many bytes, by the same driver into the same server. calls_per_s: calls through
the gateway that were released, at 1, 8 and 64 in flight. beyond_commit_us: overhead_p50_us less commit_p50_us.
cpu_us_per_call: this process's, at 64 in flight. fastmcp_p50_us, fastmcp_calls_per_s: a bare server that checks and
records nothing, called by its own client in its own process; call_p50_us is ours to compare. Rounds take turns, and
each figure is the median of its rounds.

Example: python bench/gateway.py --json --rounds 9 --folder /var/lib/veloz
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any

import psycopg
import structlog
import uvloop

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]

from _gateway_house import House, open_house, running_postgres, written_bytes  # noqa: E402

from core.config import Settings  # noqa: E402
from core.storage.database import DatabaseRole, settings_url  # noqa: E402

IN_FLIGHT = (1, 8, 64)
CALLS_A_ROUND = 256
ALONE_A_ROUND = 60
WARM_UP_CALLS = 100
PEER = Path(__file__).resolve().with_name("_gateway_peer.py")


class Peer:
    """The fastmcp server's process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(PEER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answer()

    def ask(self, calls: int, in_flight: int) -> dict[str, float]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"calls": calls, "in_flight": in_flight}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answer(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the fastmcp server ended with {self._process.wait()}; is fastmcp installed?")
        answer: dict[str, float] = json.loads(line)
        return answer


class Rounds:
    """What was measured, round by round."""

    def __init__(self) -> None:
        self.direct: list[float] = []
        self.through: list[float] = []
        self.commit: list[float] = []
        self.overhead_p99: list[float] = []
        self.peer_alone: list[float] = []
        self.per_s: dict[int, list[float]] = {count: [] for count in IN_FLIGHT}
        self.peer_per_s: dict[int, list[float]] = {count: [] for count in IN_FLIGHT}
        self.cpu_us: list[float] = []

    def figures(self) -> dict[str, Any]:
        overhead_us, commit_us = median(self.through) - median(self.direct), median(self.commit)
        return {
            "overhead_p50_us": round(overhead_us, 1),
            "overhead_p99_us": round(median(self.overhead_p99), 1),
            "commit_p50_us": round(commit_us, 1),
            "calls_per_s": {str(count): round(median(each)) for count, each in self.per_s.items()},
            "beyond_commit_us": round(overhead_us - commit_us, 1),
            "call_p50_us": round(median(self.through), 1),
            "direct_p50_us": round(median(self.direct), 1),
            "cpu_us_per_call": round(median(self.cpu_us), 1),
            "fastmcp_p50_us": round(median(self.peer_alone), 1),
            "fastmcp_calls_per_s": {str(count): round(median(each)) for count, each in self.peer_per_s.items()},
            "rounds": len(self.commit),
        }


async def alone(house: House, commit: Any, into: Rounds) -> None:
    """One call at a time: directly, through the gateway, and one commit, in turn."""
    direct, through, commits = [], [], []
    for _ in range(ALONE_A_ROUND):
        direct.append(await timed(house.call_directly))
        through.append(await timed(house.call))
        commits.append(await timed(commit))
    into.direct.append(median(direct))
    into.through.append(median(through))
    into.commit.append(median(commits))
    into.overhead_p99.append(sorted(through)[len(through) * 99 // 100] - median(direct))


async def timed(call: Any) -> float:
    started_ns = perf_counter_ns()
    await call()
    return (perf_counter_ns() - started_ns) / 1_000


async def together(house: House, in_flight: int, into: Rounds) -> None:
    async def worker(calls: int) -> None:
        for _ in range(calls):
            await house.call()

    started_ns, cpu_s = perf_counter_ns(), time.process_time()
    await asyncio.gather(*(worker(CALLS_A_ROUND // in_flight) for _ in range(in_flight)))
    elapsed_s = (perf_counter_ns() - started_ns) / 1e9
    into.per_s[in_flight].append(CALLS_A_ROUND / elapsed_s)
    if in_flight == max(IN_FLIGHT):
        into.cpu_us.append((time.process_time() - cpu_s) / CALLS_A_ROUND * 1e6)


async def measure(settings: Settings, rounds: int) -> dict[str, Any]:
    into = Rounds()
    url = settings_url(settings, DatabaseRole.OWNER).set(drivername="postgresql")
    connection = await psycopg.AsyncConnection.connect(url.render_as_string(hide_password=False), autocommit=True)
    peer = Peer()
    try:
        async with open_house(settings) as house:
            for _ in range(WARM_UP_CALLS):
                await house.call()
            payload = bytes(await written_bytes(connection))
            await connection.execute(
                "CREATE TABLE bench_commits (n bigint GENERATED ALWAYS AS IDENTITY, payload bytea)"
            )

            async def commit() -> None:
                await connection.execute("INSERT INTO bench_commits (payload) VALUES (%s)", [payload], prepare=True)

            for _ in range(WARM_UP_CALLS):
                await commit()
            peer.ask(WARM_UP_CALLS, 1)
            for _ in range(rounds):
                await alone(house, commit, into)
                into.peer_alone.append(peer.ask(ALONE_A_ROUND, 1)["p50_us"])
                for in_flight in IN_FLIGHT:
                    await together(house, in_flight, into)
                    seconds = peer.ask(CALLS_A_ROUND, in_flight)["seconds"]
                    into.peer_per_s[in_flight].append(CALLS_A_ROUND / seconds)
    finally:
        peer.close()
        await connection.close()
    return into.figures()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="on the disk to measure")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with running_postgres(arguments.folder) as settings:
        figures = uvloop.run(measure(settings, arguments.rounds))
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, figure in figures.items():
            print(f"{name:20} {figure}")


if __name__ == "__main__":
    main()
