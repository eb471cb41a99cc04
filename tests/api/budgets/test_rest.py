"""`GET /api/v1/budget` and `veloz budget` on the running service."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from typer.testing import CliRunner

from api.cli.app import app
from tests.api.house import PASSWORD, House
from tests.api.told import told as told_by


async def budget(house: House, username: str) -> dict[tuple[str, str, str], dict[str, Any]]:
    answer = await house.api.http.get("/api/v1/budget", headers=await house.api.as_(username))
    return {(row["scope"], row["owner"], row["measure"]): row for row in answer.json()["budgets"]}


async def test_a_call_is_counted_for_its_user_and_for_everybody(house: House) -> None:
    before = await budget(house, "trader")
    headers = await house.api.as_("trader")
    for _ in range(3):
        url = "/api/v1/tools/get_ticker/calls"
        await house.api.http.post(url, json={"arguments": {"symbol": "BTCUSDT"}}, headers=headers)
    after = await budget(house, "trader")
    for key in (("user_day", "user-trader", "calls"), ("firm_day", "*", "calls")):
        assert int(after[key]["used"]) - int(before[key]["used"]) == 3
    assert after["user_day", "user-trader", "calls"]["limit"] == "20000"
    assert after["user_day", "user-trader", "money_usd"]["limit"] is None
    assert float(after["user_day", "user-trader", "seconds"]["used"]) >= 0


async def test_others_are_seen_by_compliance_only(house: House) -> None:
    owners = {owner for _, owner, _ in await budget(house, "approver")}
    assert owners == {"user-approver", "*"}
    assert {owner for _, owner, _ in await budget(house, "compliance")} == {"user-compliance", "user-trader", "*"}


async def test_the_command_shows_the_same(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VELOZ_HOME", str(house.settings.home))
    monkeypatch.setenv("VELOZ_URL", str(house.api.http.base_url))
    monkeypatch.setenv("VELOZ_PASSWORD", PASSWORD)
    plain = await asyncio.to_thread(CliRunner().invoke, app, ["budget"])
    assert (plain.exit_code, "everybody" in plain.output) == (0, True)
    told = await asyncio.to_thread(CliRunner().invoke, app, ["budget", "--json"])
    assert told_by(told.output)["time_zone"] == "UTC"
