"""The gateway's benchmark measures what it says: a short run through the real parts, beside a real fastmcp server."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 240


def test_a_short_run_gives_every_figure(tmp_path: Path) -> None:
    command = [sys.executable, "bench/gateway.py", "--json", "--rounds", "1", "--folder", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures.keys() >= {"overhead_p50_us", "overhead_p99_us", "commit_p50_us", "calls_per_s"}
    assert figures["calls_per_s"].keys() == figures["fastmcp_calls_per_s"].keys() == {"1", "8", "64"}
    assert figures["overhead_p99_us"] >= figures["overhead_p50_us"] > figures["direct_p50_us"] > 0
    assert figures["calls_per_s"]["64"] > figures["calls_per_s"]["1"], "what waits together shares a commit"
    assert list(tmp_path.iterdir()) == [], "what it made is gone"
