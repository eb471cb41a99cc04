"""How fast raw depth frames become a verified order book, beside other software, and what the book weighs.

Every contestant gets the same bytes, as received and decompressed beforehand, and for each message decodes, checks the
sequence, applies all levels and says best bid and offer, in a process of its own on the same core. Times are processor
time, the median of interleaved rounds. The final books must be equal, else this fails.

levels_per_s: level updates applied a second of processor time. memory_bytes: what one whole book keeps resident.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RUNNER = ROOT / "bench" / "_depth_contestants.py"
DEFAULT_FOLDER = ROOT.parent / "shared" / "recordings"
DEFAULT_FILE = "usdm_btcusdt_20240808.gz"
PEERS = ("sortedcontainers", "ccxt", "nautilus_trader")
ROUNDS = 5
EXAMPLES = """examples:
  python bench/depth.py --json
  python bench/depth.py recordings/spot_btcusdt_20240808.gz recordings/spot_btcusdt_20240809.gz
  python bench/depth.py --rounds 9 --peers sortedcontainers,ccxt FILE

Several files are one recording, in this order. Without a file: usdm_btcusdt_20240808.gz in the folder that
VELOZ_RECORDINGS names, else in ../shared/recordings beside the checkout."""


class Worker:
    """One contestant's process."""

    def __init__(self, name: str, files: list[Path], core: int | None) -> None:
        self.name = name
        arguments = [sys.executable, str(RUNNER), name, "any" if core is None else str(core), *map(str, files)]
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ready = self.answer()
        self.rounds: list[dict[str, Any]] = []

    def ask(self, task: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(task + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name}: ended with {self.process.wait()} (its words are above)")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(files: list[Path], peers: list[str], rounds: int) -> dict[str, Any]:
    """Raises SystemExit when a contestant fails or their books differ."""
    core = max(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    workers = []
    try:
        workers += [Worker(name, files, core) for name in ("veloz", *peers)]
        memory = {worker.name: worker.ask("memory") for worker in workers}
        for _ in range(rounds):
            for worker in workers:
                worker.rounds.append(worker.ask("time"))
    finally:
        for worker in workers:
            worker.close()
    results = {(step["digest"], step["book_levels"]) for worker in workers for step in worker.rounds}
    if len(results) != 1:
        books = {
            worker.name: (worker.rounds[-1]["digest"][:12], worker.rounds[-1]["book_levels"]) for worker in workers
        }
        raise SystemExit(f"the final books differ (digest, levels): {books}")
    ready = workers[0].ready
    levels, frames = ready["levels"], ready["frames"]
    seconds = {worker.name: median(step["cpu_s"] for step in worker.rounds) for worker in workers}
    speeds = {name: round(levels / spent) for name, spent in seconds.items()}
    kept = {name: found["memory_bytes"] for name, found in memory.items()}
    ((_, book_levels),) = results
    return {
        "benchmark": "depth",
        "file": " ".join(file.name for file in files),
        "symbol": ready["symbol"],
        "frames": frames,
        "levels": levels,
        "book_levels": book_levels,
        "levels_per_s": speeds["veloz"],
        "messages_per_s": round(frames / seconds["veloz"]),
        "memory_bytes": kept["veloz"],
        "memory_bytes_per_level": round(kept["veloz"] / book_levels, 1),
        "peak_growth_bytes": memory["veloz"]["peak_growth_bytes"],
        "peers": {
            name: {
                "levels_per_s": speeds[name],
                "memory_bytes": kept[name],
                "peak_growth_bytes": memory[name]["peak_growth_bytes"],
            }
            for name in peers
        },
        "ratio_to_best_peer": round(speeds["veloz"] / max(speeds[name] for name in peers), 2) if peers else None,
        "memory_ratio_to_best_peer": round(kept["veloz"] / min(kept[name] for name in peers), 3) if peers else None,
        "rounds": rounds,
        "commit": commit(),
        "machine": {
            "processor": processor(),
            "cores": os.cpu_count(),
            "pinned_to": core,
            "load_1_min": round(os.getloadavg()[0], 1),
            "python": platform.python_version(),
            "system": platform.system(),
        },
    }


def commit() -> str | None:
    try:
        describe = ["git", "describe", "--always", "--dirty"]
        return subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def table(result: dict[str, Any]) -> str:
    rows = [("veloz", result), *result["peers"].items()]
    lines = [f"{result['file']}: {result['frames']} frames, {result['levels']} levels, {result['rounds']} rounds"]
    lines += [
        f"  {name:18}{values['levels_per_s']:>12,} levels/s {values['memory_bytes'] / 1024:>10,.0f} KiB a book"
        for name, values in rows
    ]
    if result["peers"]:
        lines.append(
            f"  {result['ratio_to_best_peer']} times the best peer, {result['memory_ratio_to_best_peer']} of its memory"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="recorded frames, .gz or plain")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.add_argument(
        "--rounds", type=int, default=ROUNDS, help=f"timed rounds of each contestant (default {ROUNDS})"
    )
    parser.add_argument("--peers", default=",".join(PEERS), help=f"of {', '.join(PEERS)}; empty: none")
    options = parser.parse_args()
    peers = [name for name in options.peers.split(",") if name]
    if unknown := sorted(set(peers) - set(PEERS)):
        parser.error(f"unknown peers {unknown}; there are {', '.join(PEERS)}")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    files = options.files or [Path(os.environ.get("VELOZ_RECORDINGS", DEFAULT_FOLDER)) / DEFAULT_FILE]
    if missing := [str(file) for file in files if not file.is_file()]:
        parser.error(f"no such file: {', '.join(missing)}. Name one, or set VELOZ_RECORDINGS")
    result = measure(files, peers, options.rounds)
    print(json.dumps(result) if options.json else table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
