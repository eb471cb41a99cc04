"""A day of orders on the whole service, spot and USD-M: SQL says what the engine says, also when the ledger dies."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx2
import pytest

from core.types.ids import SystemIdSource
from tests.e2e.service import RunningService, eventually

pytestmark = pytest.mark.e2e

CAUGHT_UP_S = 60
LEDGER_KILLS = 3
PATIENCE_S = "60"
ANSWER_TIMEOUT_S = 60
TRIES = 3
EXIT_AWAY = 3
IDS = SystemIdSource()


@pytest.fixture(scope="module", params=["spot", "usdm"])
def desk(request: pytest.FixtureRequest) -> Iterator[RunningService]:
    """A service with an open session."""
    running = RunningService("--product", request.param)
    running.start()
    opened = running.veloz("session", "open", "--json")
    assert opened.exit_code == 0, opened.text
    yield running
    running.stop()
    running.remove()


def ordered(desk: RunningService, *words: str) -> dict[str, Any]:
    """Asked again, under the same id, where an engine on a busy machine couldn't be reached."""
    own = ("--wait", PATIENCE_S, "--request-id", IDS.new_ulid()) if words[0] in {"place", "bracket"} else ()
    for _ in range(TRIES):
        placed = desk.veloz("orders", *words, *own, "--json")
        if placed.exit_code != EXIT_AWAY:
            break
    assert placed.exit_code == 0, (words, placed.text, placed.errors)
    answer: dict[str, Any] = placed.json
    return answer


def kill_ledger(desk: RunningService) -> None:
    os.kill(desk.description["pids"]["ledger"], signal.SIGKILL)


def agrees(desk: RunningService) -> bool:
    """Whether `veloz rebuild --check` finds the projections whole, at the journal's end."""
    checked = desk.veloz("rebuild", "--check", "--json")
    if checked.exit_code == 3 or "error" in checked.json:
        return False
    assert checked.json["equal"], checked.json
    return bool(checked.json["compared_at"] == checked.json["sequence"])


def same_in_sql(desk: RunningService) -> bool:
    """Whether SQL tells of every order what the engine does."""
    token = httpx2.post(
        f"{desk.url}/api/v1/auth/login",
        json={"username": "trader", "password": desk.password("trader")},
        timeout=ANSWER_TIMEOUT_S,
    ).json()["access_token"]
    rows = httpx2.get(
        f"{desk.url}/api/v1/orders?limit=200",
        headers={"Authorization": f"Bearer {token}"},
        timeout=ANSWER_TIMEOUT_S,
    ).json()
    told = desk.veloz("orders", "list", "--all", "--limit", "200", "--json").json
    return _terms(rows) == _terms(told)


def _terms(orders: list[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    names = ("status", "quantity", "filled_quantity", "price", "stop_price", "authority", "authority_id", "role")
    return {order["client_order_id"]: tuple(order[name] for name in names) for order in orders}


def touch(desk: RunningService) -> Decimal:
    bids = desk.veloz("ask", "what is the price of BTCUSDT?", "--json").json["tool_calls"]
    ticker = next(call["result"] for call in bids if call["tool"] == "get_ticker")
    return Decimal(str(ticker["bid_price"])).quantize(Decimal(1))


def test_the_projections_are_the_journals_however_often_the_ledger_is_killed(desk: RunningService) -> None:
    bid = touch(desk)
    for turn in range(LEDGER_KILLS):
        ordered(desk, "place", "buy", "0.02", "BTCUSDT")
        kill_ledger(desk)
        ordered(desk, "place", "sell", "0.005", "BTCUSDT")
        resting = ordered(desk, "place", "buy", "0.01", "BTCUSDT", "--limit", str(bid - 300 - turn))
        ordered(desk, "amend", resting["client_order_id"], "--quantity", "0.005")
        ordered(desk, "place", "sell", "0.004", "BTCUSDT", "--trail-bps", "300")
        ordered(
            desk, "bracket", "buy", "0.004", "BTCUSDT", "--limit", str(bid - 100), "--take-profit", str(bid + 900),
            "--stop", str(bid - 1_500),
        )  # fmt: skip
        desk.veloz("orders", "place", "buy", "5", "BTCUSDT")
        if turn % 2:
            ordered(desk, "cancel-all")
    eventually(lambda: agrees(desk), CAUGHT_UP_S, "the projections reach the journal's end")
    eventually(lambda: same_in_sql(desk), CAUGHT_UP_S, "SQL and the engine tell the same of every order")
    held = desk.veloz("positions", "--json").json
    exposure = desk.veloz("exposure", "--json").json
    assert exposure["unknown"] == []
    assert Decimal(held[0]["quantity"]) >= Decimal("0.015") * LEDGER_KILLS
    reconciled = desk.veloz("reconcile", "--dry-run", "--json")
    assert (reconciled.exit_code, reconciled.json["differences"]) == (0, [])


def test_an_orders_whole_story_can_be_read_by_its_id(desk: RunningService) -> None:
    order_id = ordered(desk, "place", "buy", "0.01", "BTCUSDT")["client_order_id"]

    def told() -> list[str]:
        trail = desk.veloz("audit", "trace", order_id, "--json")
        actions = [record["action"] for record in trail.json["records"]] if trail.exit_code == 0 else []
        return actions if "order.filled" in actions else []

    actions = eventually(told, CAUGHT_UP_S, "the trail reaches the fill")
    assert actions[:2] == ["risk.decided", "order.intended"]
    assert "order.accepted" in actions


def test_a_rebuild_mends_what_somebody_changed_in_sql(desk: RunningService) -> None:
    ordered(desk, "place", "buy", "0.01", "BTCUSDT")
    eventually(lambda: agrees(desk), CAUGHT_UP_S, "the projections reach the journal's end")
    again = desk.veloz("rebuild", "--json")
    assert (again.exit_code, again.json["equal"], again.json["rebuilt"]) == (0, True, True)
    assert all(table["rows_before"] == table["rows_after"] for table in again.json["tables"])


def test_without_its_engine_every_order_is_cancelled_and_the_engine_comes_back_halted(desk: RunningService) -> None:
    bid = touch(desk)
    for distance in (300, 400):
        ordered(desk, "place", "buy", "0.01", "BTCUSDT", "--limit", str(bid - distance))
    engine = desk.description["pids"]["engine"]
    os.kill(engine, signal.SIGSTOP)
    try:
        assert desk.veloz("kill", "--json").exit_code == 3
        killed = desk.veloz("kill", "--venue", "--reason", "fire drill", "--json")
        assert killed.exit_code == 0, (killed.text, killed.errors)
        assert "the engine's own key is used" not in killed.errors
    finally:
        os.kill(engine, signal.SIGCONT)

    def over() -> bool:
        listed = desk.veloz("orders", "list", "--json")
        if listed.exit_code or [order for order in listed.json if order["status"] != "HELD"]:
            return False
        return bool(desk.veloz("risk", "state", "--json").json["kill_switch"] == "HALTED")

    eventually(over, CAUGHT_UP_S, "the engine is halted and has no order at the venue")
    refused = desk.veloz("orders", "place", "buy", "0.01", "BTCUSDT", "--json")
    assert (refused.exit_code, refused.error_code) == (1, "RISK_KILL_SWITCH_ACTIVE")
    (desk.home / "run" / "KILL").unlink()
    assert desk.veloz("thaw", "--reason", "drill is over").exit_code == 0
    ordered(desk, "place", "buy", "0.01", "BTCUSDT")


def test_doctor_finds_nothing_wrong_after_a_day(desk: RunningService) -> None:
    checked = desk.veloz("doctor", "--json")
    wrong = [check for check in checked.json["checks"] if check["status"] == "fail"]
    assert (checked.exit_code, wrong) == (0, [])
