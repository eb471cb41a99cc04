"""An hour of recorded market through the live path, again and again the same files: is memory flat, is all of it right?

    python deploy/soak.py [options of `veloz data replay`]

Replays the perpetual's recording, the busiest there is, from VELOZ_RECORDINGS (or ../shared/recordings). Exit code 0:
passed; 1: failed; 2: nothing to replay.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RECORDING = "usdm_btcusdt_20240808.gz"
MARKET_S = 3_600
MAX_GROWTH_BYTES = 8 * 2**20
"""From the end of the first pass on. What the allocator rounds up to; one book more a pass would be seen."""


def main(arguments: list[str]) -> int:
    """Replay, judge, print one JSON object and a verdict."""
    folder = Path(os.environ.get("VELOZ_RECORDINGS") or ROOT.parent / "shared" / "recordings")  # noqa: TID251
    if not (folder / RECORDING).exists():
        print(f"{folder / RECORDING} isn't there; name the recordings' folder in VELOZ_RECORDINGS.", file=sys.stderr)
        return 2
    command = [str(Path(sys.executable).with_name("veloz")), "data", "replay", str(folder / RECORDING)]
    command += ["--duration-s", str(MARKET_S), "--verify", "--json", *arguments]
    run = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    try:
        figures = json.loads(run.stdout)
        growth_bytes = figures["rss_bytes_end"] - figures["rss_bytes_first_pass"]
    except (ValueError, KeyError):
        print(run.stdout or f"The replay ended with {run.returncode}.", file=sys.stderr)
        return 1
    failures = [
        *([f"memory grew by {growth_bytes:,} bytes"] if growth_bytes > MAX_GROWTH_BYTES else []),
        *([f"{figures['bbo_mismatches']} best prices differ"] if figures["bbo_mismatches"] else []),
        *([f"{figures['book_mismatches']} books differ"] if figures["book_mismatches"] else []),
        *([f"the replay ended with {run.returncode}"] if run.returncode else []),
    ]
    told = {key: value for key, value in figures.items() if key not in {"symbols", "warnings"}}
    print(json.dumps(told | {"rss_growth_bytes": growth_bytes, "passed": not failures}))
    span = f"{figures['market_time_ns'] / 3.6e12:.2f} h, {figures['frames']:,} frames"
    verdict = "; ".join(failures) or f"memory is flat ({growth_bytes / 2**20:+.1f} MiB), every book is the venue's"
    print(f"{'FAILED' if failures else 'PASSED'}: {span}: {verdict}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
