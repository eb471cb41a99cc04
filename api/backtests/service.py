"""Runs backtests apart from the calls that ask for them: a worker process each, a few at a time, each with a deadline.

A job belongs to the api process that took it. While that lives it renews the job's lease; when it dies its worker ends
with it, and whoever looks at the job after its lease says that it was lost. Nothing is run twice by itself: asking
again is cheap, and gives the same report.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path

import msgspec
import structlog

from api.backtests.repository import LEASE_S, SqlBacktests
from api.transactions import Transactions
from core.backtest.job import Job, Line
from core.backtest.recorded import Recorded, recordings_of
from core.storage.catalog import Catalog, CatalogError
from core.types.codes import ReasonCode, Refusal, RefusalError, refuse
from core.types.ids import IdSource
from tools.backtests import Backtest

AT_ONCE = 1
"""In one api process. Trading shares the machine."""
WAITING_LIMIT = 8
EACH_LIMIT = 3
"""Of one person's, what runs included: the other places are left to others."""
DEADLINE_S = 120.0
"""Of a run, its waiting aside: some times what the largest takes (docs/backtests.md)."""
RENEW_INTERVAL_S = LEASE_S / 6
LINE_LIMIT_BYTES = 4 << 20
LOST = Refusal(
    ReasonCode.SERVICE_INTERNAL_ERROR,
    "The process that ran it ended before it was done. Nothing else was touched; run it again.",
)
FAILED = Refusal(
    ReasonCode.SERVICE_INTERNAL_ERROR, "The run ended without an answer; the api's log says why. Run it again."
)
COMMAND = (sys.executable, "-m", "core.backtest.worker")

_log = structlog.get_logger("api.backtests")


class _Running(msgspec.Struct):
    """One job of this process. under_way: its worker has told something."""

    backtest_id: str
    account_id: str
    person_id: str
    job: bytes
    stop: asyncio.Event
    under_way: asyncio.Event
    status: str = "queued"
    progress_percent: int = 0


class BacktestService:
    """Implements tools.backtests.BacktestJobs."""

    def __init__(
        self,
        transactions: Transactions,
        data_folder: Path,
        ids: IdSource,
        *,
        deadline_s: float = DEADLINE_S,
        lease_s: float = LEASE_S,
        waiting_limit: int = WAITING_LIMIT,
        each_limit: int = EACH_LIMIT,
        command: tuple[str, ...] = COMMAND,
    ) -> None:
        self._repository = SqlBacktests(transactions, LOST, lease_s)
        self._data_folder = data_folder
        self._ids = ids
        self._deadline_s = deadline_s
        self._renew_interval_s = min(RENEW_INTERVAL_S, lease_s / 6)
        self._waiting_limit = waiting_limit
        self._each_limit = each_limit
        self._command = command
        self._places = asyncio.Semaphore(AT_ONCE)
        self._jobs: dict[str, tuple[_Running, asyncio.Task[None]]] = {}
        self._starting: list[str] = []
        """Whose: their rows aren't durable yet."""

    async def recorded(self, symbol: str) -> list[Recorded]:
        try:
            return await asyncio.to_thread(recordings_of, Catalog(self._data_folder), symbol)
        except (CatalogError, OSError) as error:
            raise refuse(
                ReasonCode.MARKET_NO_DATA, f"The recorded data can't be read: {error}. See `veloz data verify`."[:500]
            ) from error

    async def start(self, account_id: str, user_id: str, job: Job, *, person_id: str = "") -> Backtest:
        person_id = person_id or user_id
        self._refuse_too_many(person_id)
        if job.stored is not None:
            stored = msgspec.structs.replace(job.stored, root=str(self._data_folder))
            job = msgspec.structs.replace(job, stored=stored)
        content = msgspec.json.encode(job)
        running = _Running(self._ids.new_ulid(), account_id, person_id, content, asyncio.Event(), asyncio.Event())
        self._starting.append(person_id)
        try:
            row = await self._repository.insert(
                running.backtest_id,
                account_id,
                user_id,
                strategy=job.specification.strategy,
                symbol=job.instrument.symbol,
                interval=job.interval,
                specification=msgspec.json.encode(job.specification),
            )
        finally:
            self._starting.remove(person_id)
        task = asyncio.create_task(self._live(running), name=f"backtest {running.backtest_id}")
        self._jobs[running.backtest_id] = (running, task)
        return row

    async def get(self, account_id: str, backtest_id: str) -> Backtest | None:
        return await self._repository.get(account_id, backtest_id)

    async def list(self, account_id: str, before_id: str | None, limit: int) -> list[Backtest]:
        return list(await self._repository.list(account_id, before_id, limit))

    async def stop(self, account_id: str, backtest_id: str) -> Backtest | None:
        await self._repository.ask_to_stop(account_id, backtest_id)
        own = self._jobs.get(backtest_id)
        if own is not None and own[0].account_id == account_id:
            own[0].stop.set()
            await asyncio.wait({own[1]})
        return await self._repository.get(account_id, backtest_id)

    async def close(self) -> None:
        """End what runs; it is told as lost."""
        tasks = [task for _, task in self._jobs.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _refuse_too_many(self, person_id: str) -> None:
        """Raises RefusalError(SERVICE_OVERLOADED): of this person's, or of all."""
        owners = [running.person_id for running, _ in self._jobs.values()] + self._starting
        own = owners.count(person_id)
        if own >= self._each_limit:
            raise refuse(
                ReasonCode.SERVICE_OVERLOADED,
                "You have as many backtests queued or running here as one person may. Wait until one is done, or end "
                "one with stop_backtest; list_backtests names them.",
                limit=str(self._each_limit),
                actual=str(own),
                unit="backtests of one person",
                retry_after_ms=int(self._deadline_s * 1_000),
            )
        if len(owners) >= AT_ONCE + self._waiting_limit:
            raise refuse(
                ReasonCode.SERVICE_OVERLOADED,
                "Too many backtests wait here already. Try again when some are done.",
                limit=str(self._waiting_limit),
                actual=str(len(owners) - AT_ONCE),
                unit="backtests",
                retry_after_ms=int(self._deadline_s * 1_000),
            )

    async def _live(self, running: _Running) -> None:
        """From the queue to the end, with the lease renewed meanwhile."""
        work = asyncio.create_task(self._work(running))
        renewing = asyncio.create_task(self._renew(running))
        stopping = asyncio.create_task(running.stop.wait())
        try:
            await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                line = work.result()
            else:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
                line = None
            await self._finish(running, line)
        except asyncio.CancelledError:
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            await asyncio.shield(self._finish(running, Line(refusal=LOST)))
            raise
        finally:
            renewing.cancel()
            stopping.cancel()
            del self._jobs[running.backtest_id]

    async def _finish(self, running: _Running, line: Line | None) -> None:
        """None: it was stopped. A database that is away leaves the row to its lease."""
        status = "stopped" if line is None else "done" if line.report is not None else "failed"
        try:
            await self._repository.finish(
                running.account_id,
                running.backtest_id,
                status,
                report=None if line is None else line.report,
                digest_hex=None if line is None else line.digest or None,
                refusal=None if line is None else line.refusal,
            )
        except RefusalError as error:
            _log.warning("backtest_not_recorded", backtest_id=running.backtest_id, error=str(error))

    async def _renew(self, running: _Running) -> None:
        # That it runs is shown at once.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(running.under_way.wait(), self._renew_interval_s)
        while True:
            try:
                if not await self._repository.renew(
                    running.account_id, running.backtest_id, running.status, running.progress_percent
                ):
                    running.stop.set()
            except RefusalError as error:
                _log.warning("backtest_lease_not_renewed", backtest_id=running.backtest_id, error=str(error))
            await asyncio.sleep(self._renew_interval_s)

    async def _work(self, running: _Running) -> Line:
        async with self._places:
            running.status = "running"
            try:
                async with asyncio.timeout(self._deadline_s):
                    return await self._ask_worker(running)
            except TimeoutError:
                return Line(
                    refusal=Refusal(
                        ReasonCode.TOOL_DEADLINE_EXCEEDED,
                        "The backtest took too long and was ended. Choose a shorter time or a longer interval.",
                        limit=str(int(self._deadline_s)),
                        unit="s",
                    )
                )
            except (OSError, ValueError) as error:
                _log.error("backtest_worker_failed", backtest_id=running.backtest_id, exc_info=error)
                return Line(refusal=FAILED)

    async def _ask_worker(self, running: _Running) -> Line:
        """Raises OSError, ValueError for a worker that can't be started or understood."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=LINE_LIMIT_BYTES,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                process.stdin.write(running.job)
                await process.stdin.drain()
            process.stdin.close()
            async for text in process.stdout:
                line = msgspec.json.decode(text, type=Line)
                if line.progress is None:
                    return line
                running.progress_percent = line.progress
                running.under_way.set()
            return Line(refusal=FAILED)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            await process.wait()
