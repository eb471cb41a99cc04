"""How a changed policy file comes into force, and that a broken one allows nothing until it is whole."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from api.policy.keeper import UNSETTLED_LOOKS_LIMIT, PolicyKeeper
from api.supervisor.doctor import collect
from audit.record import Action
from core.config import ConfigurationError, Settings, load_settings
from core.types.clock import ManualClock
from core.types.codes import ReasonCode, RefusalError
from tests.tools.doubles import House
from tests.tools.people import APPROVER, IDS, NOW_NS
from tests.tools.policies import TOOLS, condition, of_version_7, text_with
from tests.tools.stores import MemoryTrail
from tools.policy import Policy, default_policy
from tools.policy_document import PolicyFileError

NO_SUGGESTIONS = text_with(condition("true"), version="version = 99")


class Kept:
    def __init__(self, folder: Path, content: str | None = None, **options: Any) -> None:
        self.file = folder / "policy.toml"
        if content is not None:
            self.write(content)
        self.clock = ManualClock(NOW_NS)
        self.trail = MemoryTrail(self.clock)
        self.keeper = PolicyKeeper(self.file, TOOLS, self.trail, self.clock, IDS, **options)

    def write(self, content: str) -> None:
        """Replaced as a whole, as `veloz policy reload` does: a new inode each time."""
        beside = self.file.with_suffix(".new")
        beside.write_text(content)
        os.replace(beside, self.file)

    async def settle(self) -> None:
        for _ in range(2):
            await self.keeper.look()

    def code(self) -> ReasonCode | None:
        try:
            self.keeper.current()
        except RefusalError as error:
            return error.refusal.code
        return None

    def actions(self) -> list[tuple[Action, str]]:
        return [(record.action, record.payload["version"]) for record in self.trail.records]


def test_without_a_file_the_policy_that_comes_with_veloz_is_in_force(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    assert kept.keeper.current().digest_hex == default_policy().digest_hex
    assert kept.keeper.view().source == "default_policy.toml"


@pytest.mark.parametrize("content", ["", "schema = 1\n", text_with(version="version = -1")])
def test_a_file_that_is_wrong_does_not_start(tmp_path: Path, content: str) -> None:
    with pytest.raises(ConfigurationError, match=r"policy\.toml: "):
        Kept(tmp_path, content)


@pytest.mark.parametrize("content", [None, text_with(), of_version_7()], ids=["without a file", "whole", "older"])
def test_a_file_that_has_no_rule_for_a_tool_is_told_in_the_log(tmp_path: Path, content: str | None) -> None:
    with capture_logs() as told:
        kept = Kept(tmp_path, content)
    warned = [line for line in told if line["event"] == "policy_names_no_rule"]
    assert bool(warned) is (content == of_version_7())
    for line in warned:
        assert (line["log_level"], line["file"]) == ("warning", "policy.toml")
        assert line["tools"] == "nobody may call get_backtest, list_backtests, run_backtest, stop_backtest"
        assert line["cure"] == f"veloz policy check {kept.file}"


@pytest.mark.parametrize(("content", "status"), [(text_with(), "ok"), (of_version_7(), "warn")])
async def test_the_doctor_warns_of_tools_without_a_rule(tmp_path: Path, content: str, status: str) -> None:
    (tmp_path / "policy.toml").write_text(content)
    (found,) = [check for check in await collect(load_settings(tmp_path, {})) if check.name == "policy"]
    assert found.status == status
    assert ("nobody may call get_backtest" in found.detail) is (status == "warn")
    assert ("shows the lines to add" in found.cure) is (status == "warn")


async def test_whatever_breaks_while_a_file_is_read_the_one_before_is_not_in_force_any_more(tmp_path: Path) -> None:
    def breaks(policy: Policy) -> None:
        if policy.version == "99":
            raise MemoryError

    kept = Kept(tmp_path, text_with(), check=breaks)
    kept.write(NO_SUGGESTIONS)
    await kept.settle()
    assert kept.code() is ReasonCode.SERVICE_POLICY_INVALID
    assert (kept.actions()[-1][0], kept.keeper.view().problem) == (
        Action.POLICY_REFUSED,
        "policy.toml: it can't be read (MemoryError). Correct it",
    )
    kept.write(text_with(version="version = 100"))
    await kept.settle()
    assert kept.code() is None


async def test_a_changed_file_comes_into_force_once_it_has_settled(tmp_path: Path) -> None:
    kept = Kept(tmp_path, text_with())
    await kept.keeper.look()
    before = kept.keeper.current()
    kept.write(NO_SUGGESTIONS)
    await kept.keeper.look()
    assert kept.keeper.current() is before
    kept.clock.advance_ns(1)
    await kept.keeper.look()
    assert (kept.keeper.current().version, kept.keeper.view().in_force_since_ns) == ("99", NOW_NS + 1)
    assert kept.actions() == [(Action.POLICY_INSTALLED, before.version), (Action.POLICY_INSTALLED, "99")]
    assert kept.trail.records[-1].payload["digest"] == kept.keeper.current().digest_hex
    assert kept.trail.records[-1].payload["file_owner"]


async def test_a_file_that_did_not_change_is_left_alone(tmp_path: Path) -> None:
    kept = Kept(tmp_path, text_with())
    policy = kept.keeper.current()
    for _ in range(5):
        await kept.keeper.look()
    assert kept.keeper.current() is policy
    assert len(kept.trail.records) == 1


@pytest.mark.parametrize(
    "broken",
    [
        "",
        NO_SUGGESTIONS[:-300],
        NO_SUGGESTIONS.replace("trader", "tradr"),
        "\udcff",
        NO_SUGGESTIONS.replace("version = 99", f"version = {'9' * 5_000}"),
        NO_SUGGESTIONS.replace("version = 99", f"version = {'[' * 5_000}"),
    ],
    ids=["empty", "cut off", "a wrong role", "no UTF-8", "a number without end", "brackets without end"],
)
async def test_a_broken_file_allows_nothing_until_it_is_whole(tmp_path: Path, broken: str) -> None:
    kept = Kept(tmp_path, text_with())
    house = House(policy=kept.keeper)
    suggestion = await house.suggest()
    asked_before = len(house.engine.calls)
    kept.file.write_bytes(broken.encode(errors="surrogateescape"))
    await kept.settle()
    assert kept.code() is ReasonCode.SERVICE_POLICY_INVALID
    assert kept.keeper.view().problem is not None
    refused = await house.ask("get_ticker", symbol="BTCUSDT")
    assert refused.refusal.code is ReasonCode.SERVICE_POLICY_INVALID
    assert house.gateway.describe(APPROVER) == []
    outcome = await house.approvals.approve(APPROVER, suggestion.suggestion_id, 1, suggestion.digest_hex, "k", b"s")
    assert outcome.refusal is not None
    assert outcome.refusal.code is ReasonCode.SERVICE_POLICY_INVALID
    assert len(house.engine.calls) == asked_before
    assert house.trail.records[-2].payload["policy_version"] is None
    kept.write(NO_SUGGESTIONS)
    await kept.settle()
    assert (await house.ask("get_ticker", symbol="BTCUSDT")).refusal is None
    assert [action for action, _ in kept.actions()][-2:] == [Action.POLICY_REFUSED, Action.POLICY_INSTALLED]


async def test_a_file_that_goes_away_allows_nothing_rather_than_what_veloz_comes_with(tmp_path: Path) -> None:
    kept = Kept(tmp_path, NO_SUGGESTIONS)
    kept.file.unlink()
    await kept.settle()
    assert kept.code() is ReasonCode.SERVICE_POLICY_INVALID
    kept.write(NO_SUGGESTIONS)
    await kept.settle()
    assert kept.code() is None


async def test_an_editor_that_writes_for_a_while_is_waited_for_but_not_for_ever(tmp_path: Path) -> None:
    kept = Kept(tmp_path, text_with())
    for number in range(UNSETTLED_LOOKS_LIMIT):
        kept.write(NO_SUGGESTIONS[: 100 + number])
        await kept.keeper.look()
        assert kept.code() is None, number
    kept.write(NO_SUGGESTIONS[:200])
    await kept.keeper.look()
    assert kept.code() is ReasonCode.SERVICE_POLICY_INVALID


async def test_a_signal_that_the_file_is_ready_takes_it_at_the_next_look(tmp_path: Path) -> None:
    kept = Kept(tmp_path, text_with())
    kept.write(NO_SUGGESTIONS)
    kept.keeper.wake()
    await kept.keeper.look()
    assert kept.keeper.current().version == "99"


async def test_what_cannot_be_recorded_is_recorded_once_it_can(tmp_path: Path) -> None:
    kept = Kept(tmp_path, text_with())
    kept.trail.failing_on = {Action.POLICY_INSTALLED}
    await kept.keeper.look()
    assert kept.trail.records == []
    kept.trail.failing_on = set()
    for _ in range(3):
        await kept.keeper.look()
    assert kept.actions() == [(Action.POLICY_INSTALLED, kept.keeper.current().version)]


async def test_what_the_file_cannot_know_is_checked_as_well(tmp_path: Path) -> None:
    def no_such(policy: Policy) -> None:
        if policy.version == "99":
            raise PolicyFileError("policy.toml: not that one")

    kept = Kept(tmp_path, text_with(), check=no_such)
    kept.write(NO_SUGGESTIONS)
    await kept.settle()
    assert kept.keeper.view().problem == "policy.toml: not that one"


async def test_a_call_that_runs_while_the_policy_changes_keeps_the_one_it_began_with(tmp_path: Path) -> None:
    kept = Kept(tmp_path, text_with())
    house = House(policy=kept.keeper)
    inside, go_on = asyncio.Event(), asyncio.Event()
    check_proposal = house.engine.check_proposal

    async def waiting(proposal: bytes) -> Any:
        inside.set()
        await go_on.wait()
        return await check_proposal(proposal)

    house.gateway._ports.engine.check_proposal = waiting
    first = asyncio.create_task(house.suggest())
    await inside.wait()
    version = kept.keeper.current().version
    kept.write(NO_SUGGESTIONS)
    await kept.settle()
    refused = await house.ask("suggest_order", symbol="BTCUSDT", side="buy", quantity=1, price="59000")
    assert refused.refusal.code is ReasonCode.POLICY_CONDITION_DENIED
    go_on.set()
    suggestion = await first
    assert suggestion.pre_trade["policy"]["version"] == version
    by_version = {record.payload.get("policy_version") for record in house.trail.records}
    assert by_version == {version, "99", None}


async def test_the_doctor_tells_a_broken_policy_and_its_cure(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    found = []
    for content in (None, text_with(version="version = 99"), "schema = 1\n"):
        if content is not None:
            (tmp_path / "policy.toml").write_text(content)
        (check,) = [check for check in await collect(settings) if check.name == "policy"]
        found.append((check.status, check.detail.split(",")[0].split(":")[0]))
    assert found == [
        ("ok", "the one that VeloZ comes with"),
        ("ok", "policy.toml version 99"),
        ("fail", "policy.toml"),
    ]
    assert check.cure is not None
    assert "veloz policy check" in check.cure
