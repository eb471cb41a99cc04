"""A real engine at a real paper venue, killed at random moments while a trader works it hard.

    python -m tests.crash.run --times 100 --seed 1

After each crash: start again, wait until the engine serves and is connected, settle, and compare with the venue by a
client that isn't ours (tests.crash.witness says what). The schedule and the trader's doings are drawn from the seed;
what the two processes make of them depends on the machine, so a seed repeats a schedule and not a race.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import msgspec
from binance.exceptions import BinanceAPIException
from requests import RequestException

from core.types.codes import RefusalError
from tests.crash.processes import Session
from tests.crash.products import PRODUCTS, SPOT, Product
from tests.crash.trader import Trader
from tests.crash.witness import JournalWitness, book_disagreement, disagreements, venue_witness

AGREE_WITHIN_S = 40.0
"""Absence proves nothing before recvWindow and a margin have passed, and a lookup waits up to 5 s for its next turn."""
ASK_AGAIN_S = 0.25
"""Then twice as long each time: a look costs 4 % of the request weight of a minute, which the engine shares."""
TOO_MUCH_WEIGHT = -1003
TRADE_S = (0.3, 3.0)
OUTAGE_S = (0.1, 2.0)
START_UP_S = (0.05, 1.5)
BURST_ORDERS = 12
BURST_SHARE = 0.7
BURST_S = (0.0, 0.1)
KINDS = {"engine": 62, "engine while it starts": 14, "venue": 10, "both": 10, "clean stop": 4}
FOREIGN_SHARE = 0.35
"""How often somebody trades past the engine, also while it is down."""

Tell = Callable[[str], None]


class Summary(msgspec.Struct):
    """What a run did, and what it found."""

    seed: int
    product: str
    crashes: int = 0
    kinds: dict[str, int] = {}
    orders_told: int = 0
    orders_at_venue: int = 0
    fills: int = 0
    unanswered: int = 0
    became_unknown: int = 0
    triggered: int = 0
    adopted: int = 0
    approvals: int = 0
    voided: int = 0
    caused: dict[str, int] = {}
    journal_records: int = 0
    ready_s_longest: float = 0.0
    agreed_s_longest: float = 0.0
    books_compared: int = 0
    answers: dict[str, int] = {}
    disagreements: list[str] = []

    @property
    def passed(self) -> bool:
        return not self.disagreements


class Crashes:
    """One run: a session, its trader, and the witnesses."""

    def __init__(
        self, home: Path, seed: int, tell: Tell, *, product: Product = SPOT, recv_window_ms: int = 5_000
    ) -> None:
        self._random = Random(seed)
        self._symbols = product.symbols
        self._tell = tell
        self._session = Session(home, product, recv_window_ms=recv_window_ms)
        self._trader = Trader(self._session.client, product, Random(seed + 1))
        self._venue = venue_witness(self._session, product)
        self._journal = JournalWitness()
        self._kinds: Counter[str] = Counter()
        self._ready_s = 0.0
        self.summary = Summary(seed, product.name)

    async def run(self, times: int) -> Summary:
        """Until so many crashes, or the first disagreement."""
        try:
            await self._session.start_venue()
            await self._session.engine.start()
            await self._settled()
            for number in range(1, times + 1):
                kind = self._random.choices(list(KINDS), list(KINDS.values()))[0]
                self._kinds[kind] += 1
                await self._crash(kind)
                await self._settled()
                self._note(number, kind)
                if self.summary.disagreements:
                    break
        finally:
            self._venue.close()
            await self._session.close()
        return self.summary

    async def _crash(self, kind: str) -> None:
        session, draw = self._session, self._random
        trading = asyncio.create_task(self._trader.trade())
        await asyncio.sleep(draw.uniform(*TRADE_S))
        await self._foreign()
        burst = asyncio.create_task(self._trader.burst(BURST_ORDERS if draw.random() < BURST_SHARE else 0))
        await asyncio.sleep(draw.uniform(*BURST_S))
        match kind:
            case "engine" | "engine while it starts":
                await session.engine.kill()
            case "clean stop":
                await session.engine.stop()
            case "venue":
                await session.venue.kill()
            case "both":
                await asyncio.gather(session.engine.kill(), session.venue.kill())
        if kind in {"venue", "both"}:
            await asyncio.sleep(draw.uniform(*OUTAGE_S))
            await session.start_venue()
        for task in (trading, burst):
            task.cancel()
        await asyncio.gather(trading, burst, return_exceptions=True)
        await self._foreign()
        if kind == "engine while it starts":
            await session.engine.start()
            await asyncio.sleep(draw.uniform(*START_UP_S))
            await session.engine.kill()
        if not session.engine.is_alive:
            await session.engine.start()

    async def _foreign(self) -> None:
        """Somebody else trades on the account."""
        if self._random.random() > FOREIGN_SHARE:
            return
        symbol, side = self._random.choice(list(self._symbols)), self._random.choice(["BUY", "SELL"])
        terms: dict[str, Any] = {"symbol": symbol, "side": side, "quantity": str(self._symbols[symbol].size)}
        if self._random.random() < 0.5:
            terms["type"] = "MARKET"
        else:
            book = await asyncio.to_thread(self._venue.book, symbol)
            best = book["bids" if side == "BUY" else "asks"][0][0]
            terms |= {"type": "LIMIT", "timeInForce": "GTC", "price": best}
        with contextlib.suppress(BinanceAPIException):
            await asyncio.to_thread(lambda: self._venue.place(**terms))

    async def _settled(self) -> None:
        """Wait until engine and venue agree, and see that their books do."""
        loop, summary = asyncio.get_running_loop(), self.summary
        started_s = loop.time()
        await self._session.engine_ready()
        self._ready_s = loop.time() - started_s
        summary.ready_s_longest = max(summary.ready_s_longest, round(self._ready_s, 2))
        summary.unanswered += len(self._trader.unanswered)
        with contextlib.suppress(RefusalError):
            await self._trader.ask_again()
        self._trader.unanswered.clear()
        found = ["never compared"]
        deadline_s, wait_s = loop.time() + AGREE_WITHIN_S, ASK_AGAIN_S
        started_s = loop.time()
        while found and loop.time() < deadline_s:
            try:
                found = await disagreements(
                    self._session.client, self._venue, self._journal, self._trader.told, self._trader.approver
                )
                if self._journal.tightened_by.startswith("approval:"):
                    await self._trader.approver.thaw()
            except (RequestException, BinanceAPIException, RefusalError) as error:
                found = [f"{type(error).__name__}: {error}"]
                if isinstance(error, BinanceAPIException) and error.code == TOO_MUCH_WEIGHT:
                    # A start costs the engine a sixth of a minute's weight; the window turns with the minute.
                    rest_s = 60 - time.time() % 60
                    deadline_s += rest_s
                    await asyncio.sleep(rest_s)
            if found:
                await asyncio.sleep(wait_s)
                wait_s *= 2
        summary.agreed_s_longest = max(summary.agreed_s_longest, round(loop.time() - started_s, 2))
        for symbol in self._symbols if not found else ():
            different = await book_disagreement(self._session.client, self._venue, symbol)
            found += [] if different is None else [different]
            summary.books_compared += different is None
        summary.disagreements = found

    def _note(self, number: int, kind: str) -> None:
        summary = self.summary
        summary.crashes = number
        summary.kinds = dict(self._kinds)
        summary.orders_told = len(self._trader.told)
        summary.orders_at_venue = len(self._venue.orders)
        summary.fills = len(self._venue.fills)
        summary.became_unknown = self._journal.became_unknown
        summary.triggered = self._journal.triggered
        summary.adopted = self._journal.adopted
        summary.approvals, summary.voided = len(self._journal.consumed), len(self._journal.voided)
        summary.caused = dict(self._journal.caused)
        summary.journal_records = self._journal.sequence
        summary.answers = dict(self._trader.answers)
        state = "agreed" if summary.passed else f"DISAGREED: {summary.disagreements[:5]}"
        self._tell(
            f"{number:4} {kind}: ready in {self._ready_s:.1f} s; {summary.orders_at_venue} orders, "
            f"{summary.fills} fills, {summary.became_unknown} were unknown, {summary.adopted} adopted; {state}"
        )


def main(arguments: list[str] | None = None) -> int:
    """Exit code 0: they agreed each time; 1: they didn't, and the home is kept."""
    parser = argparse.ArgumentParser(prog="python -m tests.crash.run", description=__doc__)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--product", choices=PRODUCTS, default=SPOT.name)
    parser.add_argument("--recv-window-ms", type=int, default=5_000)
    options = parser.parse_args(arguments)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    home = Path(tempfile.mkdtemp(prefix="veloz-crash-"))

    async def run() -> Summary:
        crashes = Crashes(
            home / "home",
            options.seed,
            _to_stderr,
            product=PRODUCTS[options.product],
            recv_window_ms=options.recv_window_ms,
        )
        return await crashes.run(options.times)

    summary = asyncio.run(run())
    print(json.dumps(msgspec.to_builtins(summary) | {"passed": summary.passed}))
    if summary.passed:
        shutil.rmtree(home)
        return 0
    print(f"FAILED with seed {options.seed}; everything is kept in {home}", file=sys.stderr)
    return 1


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
