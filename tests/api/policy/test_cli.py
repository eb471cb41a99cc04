"""`veloz policy ...`, against the running service where it needs one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from api.cli.app import app
from api.cli.policy import looser_thresholds
from core.types.codes import ReasonCode
from tests.api.house import PASSWORD, House
from tests.api.told import told as told_by
from tests.tools.policies import LAST_SECTION, TOOLS, condition, of_version_7, policy_with, quiet_hours, text_with
from tests.tools.test_policy import THRESHOLDS
from tools.catalogue import build_registry
from tools.contracts import Principal, Role
from tools.policy import default_document, default_policy, load_policy

Run = Callable[..., Any]
POLICY = "/api/v1/policy"


@pytest.fixture
def veloz(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """The command in a home of its own."""
    monkeypatch.setenv("VELOZ_HOME", str(tmp_path))
    return lambda *arguments: CliRunner().invoke(app, ["policy", *map(str, arguments)])


def written(folder: Path, content: str) -> Path:
    file = folder / "mine.toml"
    file.write_text(content)
    return file


def test_the_policy_that_comes_with_veloz_is_printed_to_the_byte(veloz: Run) -> None:
    assert veloz("show", "--default").output == default_document()


def test_a_whole_file_is_told_as_valid(veloz: Run, tmp_path: Path) -> None:
    told = veloz("check", written(tmp_path, text_with()), "--json")
    answer = json.loads(told.output)
    assert (told.exit_code, answer["valid"], answer["tools_that_nobody_may_call"]) == (0, True, [])


def test_tools_that_no_section_names_are_told(veloz: Run, tmp_path: Path) -> None:
    file = written(tmp_path, default_document().replace('tools = ["@suggestions"]', 'tools = ["get_positions"]'))
    assert "suggest_order" in json.loads(veloz("check", file, "--json").output)["tools_that_nobody_may_call"]


def test_a_file_from_before_a_tool_is_told_with_lines_that_open_it(veloz: Run, tmp_path: Path) -> None:
    answer = json.loads(veloz("check", written(tmp_path, of_version_7()), "--json").output)
    missing = ["get_backtest", "list_backtests", "run_backtest", "stop_backtest"]
    assert (answer["tools_that_nobody_may_call"], answer["tools_that_no_model_may_call"]) == (missing, [])
    shown = veloz("check", written(tmp_path, of_version_7())).output
    assert "nobody may call get_backtest, list_backtests, run_backtest, stop_backtest" in shown
    assert answer["lines_to_add"] in shown
    mended = of_version_7().replace(LAST_SECTION, f"{answer['lines_to_add']}\n{LAST_SECTION}")
    answer = json.loads(veloz("check", written(tmp_path, mended), "--json").output)
    assert (answer["valid"], answer["tools_that_nobody_may_call"], answer["lines_to_add"]) == (True, [], "")
    policy, whole = load_policy(mended, "mine.toml", TOOLS), default_policy()
    for tool in build_registry():
        for role in Role:
            asker = Principal("user", "user", role, ("a",))
            account = "a" if tool.scope.needs_account else None
            assert policy.decide(asker, tool, account) == whole.decide(asker, tool, account)


def test_tools_that_no_model_section_names_are_told(veloz: Run, tmp_path: Path) -> None:
    text = default_document().replace('models = ["*"]\ntools = ["*"]', 'models = ["*"]\ntools = ["@market_reads"]')
    answer = json.loads(veloz("check", written(tmp_path, text), "--json").output)
    assert "suggest_order" in answer["tools_that_no_model_may_call"]
    assert '"suggest_order"' in answer["lines_to_add"]
    mended = text.replace(LAST_SECTION, f"{answer['lines_to_add']}\n{LAST_SECTION}")
    assert json.loads(veloz("check", written(tmp_path, mended), "--json").output)["tools_that_no_model_may_call"] == []


def test_a_wrong_file_is_told_with_line_and_cure(veloz: Run, tmp_path: Path) -> None:
    told = veloz("check", written(tmp_path, text_with(version='version = "x"')), "--json")
    error = json.loads(told.output)["error"]
    assert (told.exit_code, error["code"]) == (1, ReasonCode.SERVICE_POLICY_INVALID.value)
    assert "mine.toml: line " in error["message"]


def test_a_threshold_beyond_the_engines_own_is_told_as_idle() -> None:
    policy = policy_with(THRESHOLDS)
    assert [line.split(":")[0] for line in looser_thresholds(policy, Decimal(5000))] == ["large orders"]
    assert looser_thresholds(policy, Decimal(5001)) == []


@pytest.mark.parametrize(
    ("arguments", "exit_code", "decision"),
    [
        (["suggest_order", "--account", "a", "--at", "2026-03-02T12:00:00Z"], 0, "allow"),
        (["suggest_order", "--account", "a", "--at", "2026-03-02T23:00:00Z"], 1, "deny"),
        (["suggest_order", "--account", "a", "--at", "2026-03-02T12:00:00Z", "--agent"], 1, "deny"),
        (["suggest_order", "--account", "a", "--role", "compliance"], 1, "deny"),
    ],
)
def test_a_decision_is_explained(
    veloz: Run, tmp_path: Path, arguments: list[str], exit_code: int, decision: str
) -> None:
    file = written(tmp_path, text_with(quiet_hours(), condition("principal.kind == 'agent'")))
    told = veloz("explain", *arguments, "--file", file, "--json")
    assert (told.exit_code, json.loads(told.output)["decision"]) == (exit_code, decision)
    plain = veloz("explain", *arguments, "--file", file).output
    assert f"{decision}, by version {default_policy().version}" in plain


@pytest.mark.parametrize(
    "arguments",
    [
        ["get_money"],
        ["get_ticker", "--role", "king"],
        ["get_ticker", "--at", "noon"],
        ["get_ticker", "--amount", "much"],
    ],
)
def test_what_cannot_be_explained_is_wrong_usage(veloz: Run, arguments: list[str]) -> None:
    assert veloz("explain", *arguments).exit_code == 2


def test_the_home_s_own_policy_is_the_one_explained(veloz: Run, tmp_path: Path) -> None:
    assert veloz("explain", "get_ticker").exit_code == 0
    (tmp_path / "policy.toml").write_text(text_with(condition("true", tools='["get_ticker"]')))
    assert veloz("explain", "get_ticker").exit_code == 1


def test_exported_records_are_tried_without_a_service(veloz: Run, tmp_path: Path) -> None:
    record = {
        "action": "tool.called",
        "occurred_at_ns": "1",
        "actor": "u",
        "outcome": "ok",
        "account_id": None,
        "payload": {"tool": "get_ticker", "call_id": "c", "role": "trader", "arguments": {"symbol": "BTCUSDT"}},
    }
    export = tmp_path / "records.jsonl"
    export.write_text(json.dumps(record) + "\n" + json.dumps({"action": "auth.login"}) + "\n")
    same = veloz("dry-run", written(tmp_path, text_with()), "--export", export, "--json")
    assert (same.exit_code, json.loads(same.output)["same"]) == (0, 1)
    denying = written(tmp_path, text_with(condition("true", tools='["get_ticker"]')))
    other = veloz("dry-run", denying, "--export", export)
    assert other.exit_code == 1
    assert "1 newly denied" in other.output


def last_line(result: Any) -> Any:
    """The command's JSON: the service logs to the same stream."""
    return told_by(result.output)


async def in_the_house(house: House, monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> Any:
    monkeypatch.setenv("VELOZ_HOME", str(house.settings.home))
    monkeypatch.setenv("VELOZ_URL", str(house.api.http.base_url))
    monkeypatch.setenv("VELOZ_PASSWORD", PASSWORD)
    runner = CliRunner()
    return await asyncio.to_thread(runner.invoke, app, ["policy", *map(str, arguments)])


async def test_a_reload_is_done_when_the_service_decides_by_the_file(
    house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = await in_the_house(house, monkeypatch, "show", "--json")
    assert before.exit_code == 0, before.output
    assert last_line(before)["source"] == "default_policy.toml"
    denying = text_with(condition("true", tools='["get_ticker"]'), version="version = 77")
    told = await in_the_house(house, monkeypatch, "reload", written(tmp_path, denying), "--json")
    assert (told.exit_code, last_line(told)["version"]) == (0, "77")
    headers = await house.api.as_("trader")
    url = "/api/v1/tools/get_ticker/calls"
    refused = await house.api.http.post(url, json={"arguments": {"symbol": "BTCUSDT"}}, headers=headers)
    assert refused.json()["code"] == ReasonCode.POLICY_CONDITION_DENIED.value
    dry = await in_the_house(house, monkeypatch, "dry-run", written(tmp_path, text_with()), "--json")
    found = last_line(dry)
    assert (dry.exit_code, found["newly_allowed"], found["changes"][0]["tool"]) == (1, 1, "get_ticker")
    shown = await in_the_house(house, monkeypatch, "show")
    assert denying in shown.output


async def test_a_file_that_is_wrong_is_not_put_in_force(
    house: House, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = await in_the_house(house, monkeypatch, "reload", written(tmp_path, "schema = 1\n"), "--json")
    assert told.exit_code == 1
    shown = await in_the_house(house, monkeypatch, "show", "--json")
    assert (last_line(shown)["version"], last_line(shown)["problem"]) == ("77", None)


async def test_only_compliance_reads_recorded_calls(house: House) -> None:
    refused = await house.api.http.get("/api/v1/policy/calls", headers=await house.api.as_("trader"))
    assert (refused.status_code, refused.json()["code"]) == (403, ReasonCode.AUTH_ROLE_NOT_PERMITTED.value)


async def until(house: House, is_so: Callable[[dict[str, Any]], bool]) -> None:
    """The service looks at its file by itself, four times a second."""
    async with asyncio.timeout(60):
        while not is_so((await house.api.http.get(POLICY, headers=await house.api.as_("trader"))).json()):
            pass


async def test_a_file_that_breaks_allows_nothing_on_the_running_service_and_heals_without_a_restart(
    house: House,
) -> None:
    url, ask = "/api/v1/tools/get_ticker/calls", {"arguments": {"symbol": "BTCUSDT"}}
    headers = await house.api.as_("trader")
    file = house.settings.paths.policy_file
    file.write_text(default_document().replace("trader", "tradr"))
    await until(house, lambda shown: shown["problem"] is not None)
    refused = await house.api.http.post(url, json=ask, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (503, ReasonCode.SERVICE_POLICY_INVALID.value)
    assert "tradr" in refused.json()["detail"]
    file.write_text(default_document())
    await until(house, lambda shown: shown["problem"] is None)
    assert (await house.api.http.post(url, json=ask, headers=headers)).status_code == 200
