"""What a durable record costs: a group through the journal beside the raw write and fdatasync of the same bytes.

Both write to preallocated files in one folder, taking turns, so that a disk that is busy is busy for both. Prints
{fsync_p50_us, begin_p50_us, begin_p99_us, ratio, hop_us, records}: the raw sync, the journal's begin and wait, what the
journal takes of the raw sync, and the rest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
from pathlib import Path
from time import perf_counter_ns

from core.storage.journal import Journal
from core.storage.journal_files import JournalFile, PosixFolder
from core.storage.journal_format import GENESIS_HASH, encode_group

WAIT_S = 10.0
ROUND = 50
WARM_UP_ROUNDS = 2
RAW_NAME = "raw"


def raw_sync_ns(file: JournalFile, offset: int, data: bytes) -> int:
    """One write and one sync, nothing else."""
    started_ns = perf_counter_ns()
    file.write(offset, data)
    file.sync()
    return perf_counter_ns() - started_ns


def begin_ns(journal: Journal, payloads: list[bytes]) -> int:
    """One group until its caller knows that it is durable."""
    started_ns = perf_counter_ns()
    commit = journal.begin(payloads)
    if not commit.wait(WAIT_S):
        raise TimeoutError(f"the disk took more than {WAIT_S} s for one group")
    elapsed_ns = perf_counter_ns() - started_ns
    commit.result()
    return elapsed_ns


def measure(folder: Path, payloads: list[bytes], groups: int) -> tuple[list[int], list[int]]:
    """Sorted durations in nanoseconds: of the raw sync, and of the journal."""
    data, _ = encode_group(GENESIS_HASH, payloads)
    raw_file = PosixFolder(folder).create(RAW_NAME)
    raw_file.allocate(len(data) * (groups + ROUND * (WARM_UP_ROUNDS + 1)))
    journal = Journal.open(PosixFolder(folder / "journal"), "bench")
    raw: list[int] = []
    through: list[int] = []
    try:
        rounds = -(-groups // ROUND) + WARM_UP_ROUNDS
        for number in range(rounds):
            place = len(data) * ROUND * number
            raw_round = [raw_sync_ns(raw_file, place + index * len(data), data) for index in range(ROUND)]
            journal_round = [begin_ns(journal, payloads) for _ in range(ROUND)]
            if number >= WARM_UP_ROUNDS:
                raw += raw_round
                through += journal_round
    finally:
        asyncio.run(journal.close())
        raw_file.close()
    return sorted(raw), sorted(through)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1, help="records a group")
    parser.add_argument("--record-bytes", type=int, default=700)
    parser.add_argument("--groups", type=int, default=2_000)
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="on the disk to measure")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    payloads = [b"{" + b"x" * (arguments.record_bytes - 2) + b"}"] * arguments.records
    with tempfile.TemporaryDirectory(prefix="journal-bench-", dir=arguments.folder) as folder:
        raw, through = measure(Path(folder), payloads, arguments.groups)
    raw_p50_us, p50_us = raw[len(raw) // 2] / 1_000, through[len(through) // 2] / 1_000
    figures = {
        "fsync_p50_us": round(raw_p50_us, 1),
        "begin_p50_us": round(p50_us, 1),
        "begin_p99_us": round(through[len(through) * 99 // 100] / 1_000, 1),
        "ratio": round(p50_us / raw_p50_us, 2),
        "hop_us": round(p50_us - raw_p50_us, 1),
        "records": arguments.records,
    }
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, figure in figures.items():
            print(f"{name:14} {figure}")


if __name__ == "__main__":
    main()
