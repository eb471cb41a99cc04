"""`veloz risk` against a running engine: a file is taken whole or not at all, told with its line and the cure, and put
back by one command; every order is explained, also one that was refused and after a restart."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from api.cli.app import app
from core.authority.session import grant_bytes, sign_session
from core.authority.signatures import sign_bytes
from core.config import Settings
from core.runtime.client import SignedRequest
from core.runtime.tickets import OrderTicket, ticket_bytes, ticket_message
from core.types.clock import NS_PER_S, SystemClock
from core.types.codes import ReasonCode, RefusalError
from core.types.events import OrderClosed, RiskRulesInstalled
from tests.api.told import told as told_by
from tests.core.approvals import ACCOUNT, TRADER_SEED
from tests.core.engine_support import RISK_TOML, RunningEngine, engine, home, settings, venue
from tests.core.kernel.desk import SESSION_SEED, grant
from tests.invariants.support import journal_of

__all__ = ["engine", "home", "settings", "venue"]
Veloz = Callable[..., Awaitable[Any]]
WARNS = """
[[rule]]
name = "small"
when = "order.quantity < 1.0"
action = "warn"
message = "smaller than one"
"""


@pytest.fixture
def veloz(home: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Veloz:
    monkeypatch.setenv("VELOZ_HOME", str(home))
    monkeypatch.setenv("VELOZ_VENUE__REST_URL", settings.venue.rest_url)

    async def run(*arguments: str) -> Any:
        return await asyncio.to_thread(lambda: CliRunner().invoke(app, [*arguments]))

    return run


def file_of(folder: Path, document: str) -> str:
    path = folder / "risk.new.toml"
    path.write_text(document)
    return str(path)


def told(answer: Any) -> Any:
    return told_by(answer.stdout)


def changed(**limits: str) -> str:
    document = RISK_TOML
    for name, value in limits.items():
        document, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", document)
        assert count == 1, name
    return document


async def in_force(engine: RunningEngine) -> tuple[int, str]:
    rules = await engine.client.rules()
    return rules.version, next(item.document for item in rules.history if item.version == rules.version)


async def place(engine: RunningEngine, request_id: str = "r-1", **terms: str) -> Any:
    """A buy of 0.01 BTC near the market, under a session."""
    ticker = await engine.client.ticker("BTCUSDT")
    values = {
        "request_id": request_id,
        "account_id": ACCOUNT,
        "venue": "paper",
        "symbol": "BTCUSDT",
        "side": "BUY",
        "order_type": "LIMIT",
        "time_in_force": "GTC",
        "quantity": "0.01",
        "price": str((ticker.bid_price * Decimal("0.99")).quantize(Decimal(1))),
    }
    ticket = ticket_bytes(OrderTicket(**{**values, **terms}))
    signature = sign_bytes(SESSION_SEED, ticket_message(ticket))
    return await engine.client.submit_order(ticket, SignedRequest(signature, session_id="ses-1"))


@pytest.fixture
async def desk(engine: RunningEngine) -> RunningEngine:
    now_ns = SystemClock().now_ns()
    given = grant(issued_at_ns=str(now_ns), expires_at_ns=str(now_ns + 3600 * NS_PER_S))
    assert await engine.client.open_session(grant_bytes(given), "trader", sign_session(TRADER_SEED, given)) is None
    return engine


async def test_a_reload_is_in_force_at_once_recorded_and_undone_by_one_command(
    desk: RunningEngine, veloz: Veloz, tmp_path: Path
) -> None:
    assert (await place(desk)).refusal is None
    tight = changed(max_quantity_per_order='"0.001"')

    answer = await veloz("risk", "reload", file_of(tmp_path, tight), "--json")
    assert answer.exit_code == 0, answer.output
    assert told(answer) == {"kind": "rules.install", "version": 2, "signed_by": "root"}
    refused = await place(desk, "r-2")
    assert refused.refusal.code is ReasonCode.RISK_QUANTITY_EXCEEDS_MAX_PER_ORDER

    answer = await veloz("risk", "rollback")
    assert answer.exit_code == 0, answer.output
    assert await in_force(desk) == (3, RISK_TOML)
    assert (await place(desk, "r-3")).refusal is None

    events = [event for event in await journal_of(desk) if isinstance(event, RiskRulesInstalled)]
    by = [event.authority and event.authority.signatures[0].key_id for event in events]
    assert [(event.version, event.rolled_back_to) for event in events] == [(1, None), (2, None), (3, 1)]
    assert by == [None, "root", "root"]
    shown = await veloz("risk", "history", "--json")
    assert [item["version"] for item in told(shown)] == [1, 2, 3]
    shown = await veloz("risk", "show", "--json")
    assert told(shown)["document"] == RISK_TOML


WRONG = [
    (changed(max_open_orders="-1"), "line", "key 'max_open_orders': must be a whole number from 1 to 100000"),
    (changed(price_collar_bps='"5%"'), "line", "key 'price_collar_bps': must be a whole number from 1 to 10000 (bps)"),
    (changed(max_leverage='"0"'), "line", "key 'max_leverage': must be a decimal above zero"),
    (RISK_TOML.replace("max_drawdown_bps", "max_drawdown_percent"), "line", "no such limit here; remove it"),
    (RISK_TOML.replace('time_zone = "UTC"\n', ""), "line", "key 'time_zone': is missing; every limit must be set"),
    (RISK_TOML + "\n[symbol.BTCUSDT]\nmax_quantity = '1'\n", "line", "[symbol.BTCUSDT] key 'max_quantity'"),
    (RISK_TOML + WARNS.replace("order.quantity <", "order.quantity <<"), "line", "[rule.1] key 'when': isn't CEL"),
    (RISK_TOML.replace("[global]", "[global"), "at line", "not valid TOML"),
]


@pytest.mark.parametrize(("document", "place_told", "says"), WRONG)
async def test_a_wrong_file_is_told_with_its_line_and_the_cure_and_changes_nothing(
    engine: RunningEngine, veloz: Veloz, tmp_path: Path, document: str, place_told: str, says: str
) -> None:
    path = file_of(tmp_path, document)
    for command in ("check", "reload"):
        answer = await veloz("risk", command, path, "--json")
        assert answer.exit_code == 1, answer.output
        error = told(answer)["error"]
        assert (error["code"], error["file"]) == ("RISK_RULES_INVALID", path)
        assert error["message"].startswith(path)
        assert re.search(rf"{place_told} \d+", error["message"])
        assert says in error["message"]
    assert await in_force(engine) == (1, RISK_TOML)


async def test_a_section_that_names_nothing_here_is_told(engine: RunningEngine, veloz: Veloz, tmp_path: Path) -> None:
    document = RISK_TOML + "\n[account.acct-dmeo]\nmax_open_orders = 5\n[symbol.BTCUSDT]\nmax_open_orders = 5\n"
    answer = await veloz("risk", "reload", file_of(tmp_path, document), "--json")
    assert answer.exit_code == 0, answer.output
    assert told(answer)["without_effect"] == [
        "[account.acct-dmeo] names no account of this engine; correct the name, or remove it"
    ]


async def test_the_engine_checks_for_itself_what_reaches_it(engine: RunningEngine) -> None:
    refusal = await engine.client.check_rules(changed(max_open_orders="0"))
    assert refusal is not None
    assert refusal.code is ReasonCode.RISK_RULES_INVALID
    assert await engine.client.check_rules(RISK_TOML) is None


async def test_only_a_key_that_administers_rules_reloads(engine: RunningEngine, veloz: Veloz, tmp_path: Path) -> None:
    key = tmp_path / "trader.key"
    key.write_text(TRADER_SEED)
    path = file_of(tmp_path, changed(max_open_orders="5"))
    answer = await veloz("risk", "reload", path, "--key", str(key), "--json")
    assert answer.exit_code == 1, answer.output
    assert told(answer)["error"]["code"] == "AUTHORITY_SIGNER_NOT_PERMITTED"
    assert await in_force(engine) == (1, RISK_TOML)


async def test_every_order_is_explained_also_a_refused_one_and_after_a_restart(
    desk: RunningEngine, veloz: Veloz, tmp_path: Path, settings: Settings
) -> None:
    assert (await veloz("risk", "reload", file_of(tmp_path, RISK_TOML + WARNS))).exit_code == 0
    taken = await place(desk)
    assert taken.client_order_id is not None, taken.refusal
    refused = await place(desk, "r-too-large", quantity="5", price="59000")
    assert refused.refusal is not None
    proposed = await desk.propose(price="1000")
    approved = await desk.execute(proposed)
    assert approved.refusal.code is ReasonCode.RISK_PRICE_OUTSIDE_COLLAR

    explained = (await veloz("risk", "explain", taken.client_order_id)).stdout
    assert re.search(r"! RISK_CUSTOM_RULE_REJECTED .*smaller than one.*rule:small", explained)
    assert re.search(r"✓ RISK_OPEN_ORDERS_EXCEED_MAX +1 of 200 orders +0\.5 %  global", explained)
    names = {
        taken.client_order_id: ("session", None),
        "r-too-large": ("session", refused.refusal.code),
        str(refused.journal_sequence): ("session", refused.refusal.code),
        proposed.suggestion_id: ("approval", approved.refusal.code),
        str(approved.journal_sequence): ("approval", approved.refusal.code),
    }
    await desk.close()
    again = RunningEngine(settings)
    await again.start()
    try:
        ids = set()
        for name, (authority, code) in names.items():
            view = await again.client.explain_risk(name)
            assert (view.authority, view.refusal and view.refusal.code) == (authority, code)
            assert view.checks
            assert view.checks[0].passed is (code is None)  # what refused it stands first
            ids.add(view.client_order_id)
            assert (await again.client.explain_risk(view.client_order_id)).decided_ns == view.decided_ns
        assert len(ids) == 3
        for unknown in ("vz-nothing", "1", "99999999", "9" * 40):
            with pytest.raises(RefusalError) as caught:
                await again.client.explain_risk(unknown)
            assert caught.value.refusal.code is ReasonCode.ORDER_UNKNOWN
    finally:
        await again.close()


@pytest.mark.parametrize("account", ["", ACCOUNT])
async def test_kill_needs_nothing_but_the_engine_and_cancels_what_rests(
    desk: RunningEngine, veloz: Veloz, account: str
) -> None:
    placed = await place(desk)
    assert placed.client_order_id is not None, placed.refusal
    scope = ["--account", account] if account else []
    answer = await veloz("kill", *scope, "--state", "REDUCE_ONLY", "--json")
    assert answer.exit_code == 0, answer.output
    assert (await desk.client.risk_state(ACCOUNT)).kill_switch == "REDUCE_ONLY"
    assert (await desk.client.status()).kill_switch == ("NORMAL" if account else "REDUCE_ONLY")
    refused = await place(desk, "r-2")
    assert refused.refusal.code is ReasonCode.RISK_KILL_SWITCH_ACTIVE

    assert (await veloz("kill", *scope, "--json")).exit_code == 0
    closed = await desk.event(lambda event: isinstance(event, OrderClosed))
    assert closed.client_order_id == placed.client_order_id
    assert (await veloz("kill", *scope, "--state", "CANCEL_ONLY", "--json")).exit_code == 1  # only tighter
    assert (await desk.client.risk_state(ACCOUNT)).kill_switch == "HALTED"
