"""What the doctor says of trading: the gravest thing that stands in its way, and the cure."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from api.supervisor.doctor import FindingError, collect, trading_finding
from core.config import load_settings
from core.types.orders import OrderStatus, OrderType, Side, TimeInForce
from core.types.views import OrderView, RiskStateView

NOW_NS = 1_764_000_000_123_456_789
TRADING = RiskStateView("acct-demo", "NORMAL", (), 3, True, NOW_NS, "NORMAL", "NORMAL")
ORDER = OrderView(
    "acct-demo", "BTCUSDT", "vz-1", None, Side.BUY, OrderType.LIMIT, TimeInForce.GTC, Decimal(1), Decimal(2),
    Decimal(0), None, OrderStatus.ACCEPTED, None, NOW_NS, NOW_NS,
)  # fmt: skip
HALTED = {"kill_switch": "HALTED", "engine_kill_switch": "HALTED"}
REDUCING = {"kill_switch": "REDUCE_ONLY", "account_kill_switch": "REDUCE_ONLY"}


@pytest.mark.parametrize(
    ("changes", "status", "kill_file", "detail", "cure"),
    [
        (HALTED, OrderStatus.ACCEPTED, True, "run/KILL halts", "remove it"),
        (HALTED, OrderStatus.UNKNOWN, False, "acct-demo is HALTED", "`veloz thaw --reason"),
        (REDUCING, OrderStatus.ACCEPTED, False, "acct-demo is REDUCE_ONLY", "`veloz thaw --account acct-demo --reason"),
        ({"frozen_reason": "order.filled"}, OrderStatus.UNKNOWN, False, "frozen: order.filled", "reconcile --dry-run"),
        ({}, OrderStatus.UNKNOWN, False, "what became of vz-1", "veloz orders list"),
    ],
)
def test_what_stands_in_the_way_of_trading_is_told_with_its_cure(
    changes: dict[str, Any], status: OrderStatus, kill_file: bool, detail: str, cure: str
) -> None:
    state = msgspec.structs.replace(TRADING, **changes)
    order = msgspec.structs.replace(ORDER, status=status)
    with pytest.raises(FindingError, match=detail) as found:
        trading_finding(state, [order], kill_file_exists=kill_file)
    assert cure in found.value.cure
    assert found.value.status == "warn"


def test_when_nothing_does_it_says_so_with_what_is_open() -> None:
    state = msgspec.structs.replace(TRADING, dead_mans_timer_s=60, dead_mans_timer_left_s=42)
    told = trading_finding(state, [ORDER], kill_file_exists=False)
    assert told == "acct-demo trades, 1 open orders, rules version 3, dead man's timer 42 s left"


@pytest.mark.parametrize(
    ("backend", "is_installed", "status", "detail"),
    [
        ("segments", False, "ok", "segments"),
        ("rocksdb", True, "ok", "rocksdb"),
        ("rocksdb", False, "fail", "the package rocksdict isn't installed"),
    ],
)
async def test_a_journal_whose_package_is_missing_is_told_with_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, is_installed: bool, status: str, detail: str
) -> None:
    if not is_installed:
        monkeypatch.setitem(sys.modules, "rocksdict", None)
    checks = await collect(load_settings(tmp_path, {"VELOZ_JOURNAL__BACKEND": backend}))
    (found,) = [check for check in checks if check.name == "journal backend"]
    assert found.status == status
    assert detail in found.detail
    assert ("veloz[rocksdb]" in found.cure) is (status == "fail")
