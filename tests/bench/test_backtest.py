"""bench/backtest.py: it measures each strategy and says what part of the deadline the slowest takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "backtest.py"


def test_it_states_speed_and_share_of_the_deadline_as_one_json_object() -> None:
    command = [sys.executable, str(SCRIPT), "--json", "--bars", "3000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    strategies = result["strategies"]
    assert result["bars"] == 3_000
    assert {"sma_cross", "breakout with exits", "buy_and_hold"} <= strategies.keys()
    assert all(figures["bars_per_s"] > 0 for figures in strategies.values())
    assert strategies["breakout with exits"]["fills"] > strategies["buy_and_hold"]["fills"] == 1
    slowest_s = max(figures["seconds"] for figures in strategies.values())
    assert result["slowest_share_of_deadline"] == round(slowest_s / result["deadline_s"], 3)
