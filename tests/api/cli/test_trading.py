"""`veloz kill`, `reconcile`, `risk` and `orders`: what they ask of the engine, what they print and how they end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from api.cli.app import app
from core.config import load_settings
from core.runtime.address import engine_address
from core.runtime.server import build_server
from core.types.codes import ReasonCode, Refusal
from core.types.views import DifferenceView, EngineStatusView, ReconciliationView, RiskCheckView, RiskExplanationView

TOKEN = "ab" * 32
NOW_NS = 1_764_000_000_123_456_789
STATUS = EngineStatusView("engine-1", 1, "local", "PAPER", 9, True, "HALTED", 1, {}, NOW_NS)
DIFFERENCE = DifferenceView("order_unknown_here", "9009", "none", "open", "adopt")
EXPLANATION = RiskExplanationView(
    "vz-1",
    "acct-demo",
    "BTCUSDT",
    "session",
    "session-1",
    3,
    NOW_NS,
    (
        RiskCheckView("RISK_DAILY_LOSS_EXCEEDED", True, "1000", "900", "quote", "account:acct-demo", Decimal(90)),
        RiskCheckView("RISK_SELF_TRADE", True, None, None, None, "global"),
    ),
    None,
    Decimal(64_000),
    "LIVE",
    12,
    Decimal(32_000),
    NOW_NS,
)

Veloz = Callable[..., Awaitable[Any]]


class Service:
    """The engine's answers, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.differences: tuple[DifferenceView, ...] = ()

    def status(self) -> EngineStatusView:
        return STATUS

    async def set_kill_switch(
        self, state: str, requested_by: str, reason: str, trace: object, account_id: str = ""
    ) -> Refusal | None:
        self.asked.append((state, requested_by, reason, account_id))
        if state == "REDUCE_ONLY":
            return Refusal(ReasonCode.AUTHORITY_KIND_NOT_ACCEPTED, "loosening needs a document")
        return None

    async def cancel_all(self, account_id: str, symbol: str | None, requested_by: str, trace: object) -> int:
        self.asked.append((account_id, symbol))
        return 2

    async def reconcile(self, dry_run: bool, requested_by: str) -> ReconciliationView:
        self.asked.append((dry_run,))
        return ReconciliationView("acct-demo", "paper", self.differences, not dry_run, NOW_NS)

    async def explain_risk(self, client_order_id: str) -> RiskExplanationView:
        return EXPLANATION


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VELOZ_HOME", str(tmp_path))
    for folder in ("secrets", "run"):
        (tmp_path / folder).mkdir(mode=0o700)
    (tmp_path / "secrets" / "engine-control.token").write_text(TOKEN)
    return tmp_path


@pytest.fixture
async def engine(home: Path) -> AsyncIterator[Service]:
    service = Service()
    address = engine_address(load_settings(home))
    server, _ = build_server(service, address, TOKEN)  # type: ignore[arg-type]
    await server.start()
    yield service
    await server.stop(None)


@pytest.fixture
def veloz(home: Path) -> Veloz:
    async def run(*arguments: str) -> Any:
        return await asyncio.to_thread(lambda: CliRunner().invoke(app, [*arguments]))

    return run


async def test_kill_needs_nothing_but_the_engine(engine: Service, veloz: Veloz) -> None:
    result = await veloz("kill", "--reason", "fat finger", "--account", "acct-demo", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {
        "engine": "engine-1",
        "state": "HALTED",
        "account": "acct-demo",
        "by": "engine",
    }
    [(state, requested_by, reason, account)] = engine.asked
    assert (state, reason, account) == ("HALTED", "fat finger", "acct-demo")
    assert requested_by.startswith("cli:")


async def test_kill_says_what_the_engine_refuses(engine: Service, veloz: Veloz) -> None:
    result = await veloz("kill", "--state", "reduce_only", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["error"]["code"] == "AUTHORITY_KIND_NOT_ACCEPTED"


async def test_kill_does_not_loosen(veloz: Veloz) -> None:
    result = await veloz("kill", "--state", "NORMAL")
    assert result.exit_code == 2
    assert "veloz thaw" in result.stderr


async def test_without_an_engine_kill_says_that_nothing_happened_and_what_to_do(home: Path, veloz: Veloz) -> None:
    result = await veloz("kill", "--json")
    assert result.exit_code == 3
    error = json.loads(result.stdout)["error"]
    assert error["code"] == "SERVICE_ENGINE_UNAVAILABLE"
    assert "veloz kill --venue" in error["message"]
    assert not (home / "run" / "KILL").exists()


async def test_without_an_engine_kill_at_the_venue_halts_durably(
    home: Path, veloz: Veloz, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No venue is configured: the canceller writes HALTED first and then says that it can't reach one.
    monkeypatch.delenv("VELOZ_VENUE__REST_URL", raising=False)
    result = await veloz("kill", "--venue", "--reason", "engine is gone")
    assert result.exit_code != 0
    assert "engine is gone" in (home / "run" / "KILL").read_text()


async def test_reconcile_shows_each_difference_and_what_follows(engine: Service, veloz: Veloz) -> None:
    agreed = await veloz("reconcile")
    assert (agreed.exit_code, "agree" in agreed.stdout) == (0, True)
    engine.differences = (DIFFERENCE,)
    dry = await veloz("reconcile", "--dry-run")
    assert dry.exit_code == 1
    heading, row, *_ = dry.stdout.splitlines()
    assert heading.split() == ["kind", "subject", "engine", "venue", "action"]
    assert row.split() == ["order_unknown_here", "9009", "none", "open", "adopt"]
    applied = await veloz("reconcile", "--json")
    assert applied.exit_code == 0
    answer = json.loads(applied.stdout)
    assert (answer["applied"], answer["dry_run"], len(answer["differences"])) == (True, False, 1)
    assert engine.asked == [(False,), (True,), (False,)]


async def test_risk_explain_shows_how_near_each_limit_was(engine: Service, veloz: Veloz) -> None:
    result = await veloz("risk", "explain", "vz-1")
    assert result.exit_code == 0, result.output
    [line] = [line for line in result.stdout.splitlines() if "DAILY_LOSS" in line]
    assert "900 of 1000 quote" in line
    assert "90.0 %" in line
    assert "account:acct-demo" in line


async def test_cancel_all_tells_how_many(engine: Service, veloz: Veloz) -> None:
    result = await veloz("orders", "cancel-all", "--symbol", "BTCUSDT", "--json")
    assert json.loads(result.stdout) == {"account": "acct-demo", "symbol": "BTCUSDT", "requested": 2}
    assert engine.asked == [("acct-demo", "BTCUSDT")]


@pytest.mark.parametrize(
    "command",
    [["reconcile"], ["risk", "history"], ["orders", "list"], ["risk", "explain", "vz-1"], ["orders", "cancel", "vz-1"]],
)
async def test_without_an_engine_a_command_ends_with_3(veloz: Veloz, command: list[str]) -> None:
    result = await veloz(*command, "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["error"]["code"] == "SERVICE_ENGINE_UNAVAILABLE"


async def test_rebuild_without_a_service_says_how_to_start_one(veloz: Veloz) -> None:
    result = await veloz("rebuild")
    assert result.exit_code == 2
    assert "veloz up" in result.stderr
