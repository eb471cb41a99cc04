"""bench/orders.py: it sends real orders the real way, and says what they cost beside the disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "orders.py"
ORDERS = 50
CHECKS_OF_A_LIMIT_ORDER = 26


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("disk")
    done = run("--json", "--orders", str(ORDERS), "--history", "100", "--folder", str(folder))
    assert done.returncode == 0, done.stderr
    assert list(folder.iterdir()) == []
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_way_of_an_order_stands_beside_the_raw_sync_of_its_bytes(result: dict[str, Any]) -> None:
    assert 0 < result["fsync_p50_us"] <= result["fsync_p99_us"]
    assert 0 < result["p50_us"] <= result["p99_us"]
    assert result["ratio"] == pytest.approx(result["p50_us"] / result["fsync_p50_us"], abs=0.02)
    # What arrives elsewhere was sent here: the send can't be told to be over before the bytes have left.
    assert result["arrived_p50_us"] > 0
    assert result["record_bytes"] > 1_000


def test_durable_orders_a_second_are_told_at_each_number_in_flight(result: dict[str, Any]) -> None:
    assert result["orders_per_s"].keys() == {"1", "8", "64"}
    assert min(result["orders_per_s"].values()) > 0


def test_risk_is_measured_whole_with_a_thousand_open_orders(result: dict[str, Any]) -> None:
    assert (result["open_orders"], result["checks"]) == (1_000, CHECKS_OF_A_LIMIT_ORDER)
    assert 0 < result["risk_p50_us"] <= result["risk_p99_us"]


def test_the_same_is_measured_after_a_history_of_orders(result: dict[str, Any]) -> None:
    before, after = result["flat"]["orders_before"]
    assert after >= before + 100
    assert len(result["flat"]["ratio"]) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--orders", "1"), "--orders must be at least 50"),
        (("--history", "-1"), "--history must be 0 or more"),
        (("--folder", "no/such/folder"), "no such folder: no/such/folder"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple[str, ...], words: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
