"""Runs every bench/*.py (or those named) with --json; each prints one JSON object a line. The commit stands first."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main(names: list[str]) -> int:
    """0 when all of them ran."""
    scripts = [Path(name) for name in names] or sorted((ROOT / "bench").glob("[!_]*.py"))
    if not scripts:
        print("bench/ holds no benchmark yet.", file=sys.stderr)
        return 0
    describe = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(describe, cwd=ROOT, capture_output=True, text=True, check=False)
    machine = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
    print(json.dumps({"commit": commit.stdout.strip() or None, **machine}), flush=True)
    codes = [
        subprocess.run([sys.executable, str(script), "--json"], cwd=ROOT, check=False).returncode for script in scripts
    ]
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
