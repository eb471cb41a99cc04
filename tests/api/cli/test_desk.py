"""A trader's, an approver's and an administrator's day at the command line, against a real engine and its venue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from api.cli.app import app
from core.types.codes import ReasonCode
from tests.api.told import told
from tests.core.approvals import APPROVER_SEED, ROSTER, SECOND_SEED, TRADER_SEED, entry
from tests.core.engine_support import RunningEngine, engine, home, settings, venue

__all__ = ["engine", "home", "settings", "venue"]

Veloz = Callable[..., Awaitable[Any]]
STRANGER_SEED = "55" * 32
FAR_BELOW = "59000"
PATIENCE_S = "30"


@pytest.fixture
def veloz(home: Path, monkeypatch: pytest.MonkeyPatch) -> Veloz:
    """One command with --json: its answer, or (exit code, code of the error)."""
    monkeypatch.setenv("VELOZ_HOME", str(home))
    for name, seed in (("approver", APPROVER_SEED), ("second", SECOND_SEED), ("trader", TRADER_SEED)):
        (home / f"{name}.key").write_text(seed)
    (home / "stranger.key").write_text(STRANGER_SEED)

    async def run(*arguments: str) -> Any:
        # A busy machine takes its time; the command ends as soon as the order rests or is over.
        patience = ["--wait", PATIENCE_S] if arguments[:2] == ("orders", "place") else []
        result = await asyncio.to_thread(lambda: CliRunner().invoke(app, [*arguments, *patience, "--json"]))
        # The engine of this process logs to the same standard output.
        answer = told(result.stdout)
        if result.exit_code:
            return result.exit_code, answer["error"]["code"] if "error" in answer else answer
        return answer

    return run


@pytest.fixture
async def session(engine: RunningEngine, veloz: Veloz, home: Path) -> dict[str, Any]:
    opened: dict[str, Any] = await veloz("session", "open", "--key", str(home / "trader.key"), "--max-order", "30000")
    return opened


async def test_a_ticket_under_a_session_is_filled_and_names_its_authority(
    session: dict[str, Any], veloz: Veloz
) -> None:
    placed = await veloz("orders", "place", "buy", "0.0100", "btcusdt")
    order = placed["order"]
    assert (order["status"], order["quantity"], order["order_type"]) == ("FILLED", "0.01", "MARKET")
    assert (order["authority"], order["authority_id"]) == ("session", session["session_id"])
    (held,) = await veloz("positions")
    assert (held["quantity"], held["strategies"][0]["strategy_id"]) == ("0.01", "")
    (listed,) = await veloz("session", "list")
    assert (listed["orders_used"], listed["max_orders"]) == (1, 500)


async def test_asking_again_with_the_same_request_id_places_nothing_new(session: dict[str, Any], veloz: Veloz) -> None:
    words = ("orders", "place", "buy", "0.01", "BTCUSDT", "--limit", FAR_BELOW, "--request-id", "mine-1")
    first, second = await veloz(*words), await veloz(*words)
    assert first["client_order_id"] == second["client_order_id"]
    assert len(await veloz("orders", "list")) == 1


async def test_a_bracket_and_an_oco_are_taken_whole_and_cancelled_together(
    session: dict[str, Any], veloz: Veloz
) -> None:
    words = ("orders", "bracket", "buy", "0.01", "BTCUSDT", "--limit", FAR_BELOW)
    bracket = await veloz(*words, "--take-profit", "63000", "--stop", "58000", "--stop-limit", "57900")
    shown = [(order["role"], order["side"], order["order_type"], order["status"]) for order in bracket["orders"]]
    assert shown == [
        ("entry", "BUY", "LIMIT", "ACCEPTED"),
        ("take_profit", "SELL", "LIMIT", "HELD"),
        ("stop", "SELL", "STOP_LIMIT", "HELD"),
    ]
    assert {order["authority"] for order in bracket["orders"]} == {"session", "derived"}

    oco = (
        "orders",
        "oco",
        "sell",
        "0.02",
        "BTCUSDT",
        "--take-profit",
        "62500",
        "--trail-bps",
        "500",
        "--request-id",
        "o",
    )
    first, again = await veloz(*oco), await veloz(*oco)
    assert [order["status"] for order in first["orders"]] == ["ACCEPTED", "HELD"]
    assert again["client_order_id"] == first["client_order_id"]

    await veloz("orders", "cancel", first["orders"][1]["client_order_id"])
    await veloz("orders", "cancel", bracket["client_order_id"])
    while await veloz("orders", "list"):
        pass
    assert len(await veloz("orders", "list", "--all")) == 5


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("bracket", "buy", "0.01", "BTCUSDT", "--limit", "60000"), (2, "REQUEST_INVALID")),
        (("bracket", "hold", "0.01", "BTCUSDT", "--stop", "58000"), (2, "REQUEST_INVALID")),
        (("bracket", "buy", "0.01", "BTCUSDT", "--stop", "58000", "--trail-bps", "5"), (2, "REQUEST_INVALID")),
        (("bracket", "buy", "0.01", "BTCUSDT", "--trail-bps", "5", "--stop-limit", "1"), (2, "REQUEST_INVALID")),
        (("oco", "sell", "0.01", "BTCUSDT", "--stop", "58000"), (2, "REQUEST_INVALID")),
        (("oco", "sell", "0.01", "BTCUSDT", "--take-profit", "-1", "--stop", "58000"), (2, "REQUEST_INVALID")),
        (("oco", "sell", "0.01", "BTCUSDT", "--take-profit", "58000", "--stop", "59000"), (1, "ORDER_GROUP_INVALID")),
    ],
)
async def test_orders_that_make_no_sense_together_say_why(
    session: dict[str, Any], veloz: Veloz, words: tuple[str, ...], expected: tuple[int, str]
) -> None:
    assert await veloz("orders", *words) == expected
    assert await veloz("orders", "list") == []


async def test_each_kind_of_order_goes_out_as_it_was_typed(session: dict[str, Any], veloz: Veloz) -> None:
    # Where the venue has no GTD, the order rests there as GTC and the engine cancels it in time.
    for words, order_type, expires in (
        (("sell", "0.01", "BTCUSDT", "--limit", "62000", "--post-only"), "LIMIT", False),
        (("buy", "0.01", "BTCUSDT", "--limit", FAR_BELOW, "--expires", "2h"), "LIMIT", True),
        (("buy", "0.01", "BTCUSDT", "--stop", "61500"), "STOP", False),
        (("buy", "0.01", "BTCUSDT", "--stop", "61500", "--limit", "61600"), "STOP_LIMIT", False),
        (("sell", "0.1", "ETHUSDT", "--profit", "3100"), "TAKE_PROFIT", False),
        (("sell", "0.1", "ETHUSDT", "--trail-bps", "50"), "TRAILING_STOP", False),
    ):
        placed = await veloz("orders", "place", *words)
        assert isinstance(placed, dict), (words, placed)
        order = placed["order"]
        shown = (order["order_type"], order["expires_ns"] is not None, order["status"])
        assert shown == (order_type, expires, "ACCEPTED"), words


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("hold", "1", "BTCUSDT"), (2, "REQUEST_INVALID")),
        (("buy", "0", "BTCUSDT"), (2, "REQUEST_INVALID")),
        (("buy", "nan", "BTCUSDT"), (2, "REQUEST_INVALID")),
        (("buy", "1e999999", "BTCUSDT"), (2, "REQUEST_INVALID")),
        (("buy", "0.01", "BTCUSDT", "--limit", "-5"), (2, "REQUEST_INVALID")),
        (("buy", "0.01", "BTCUSDT", "--time-in-force", "GTD"), (2, "REQUEST_INVALID")),
        (("buy", "0.01", "BTCUSDT", "--time-in-force", "soon"), (2, "REQUEST_INVALID")),
        (("buy", "0.01", "BTCUSDT", "--limit", "1", "--expires", "tomorrow"), (2, "REQUEST_INVALID")),
        (("buy", "0.01", "BTCUSDT", "--stop", "61000", "--profit", "61000"), (2, "REQUEST_INVALID")),
        (("buy", "0.01", "NOPEUSDT"), (1, "MARKET_INSTRUMENT_UNKNOWN")),
        (("buy", "0.0000001", "BTCUSDT"), (1, "AUTHORITY_DOCUMENT_MALFORMED")),
        (("buy", "0.6", "BTCUSDT"), (1, "AUTHORITY_SESSION_LIMIT_EXCEEDED")),
        (("buy", "0.01", "BTCUSDT", "--stop", "100"), (1, "ORDER_STOP_PRICE_INVALID")),
        (("buy", "0.01", "BTCUSDT", "--account", "acct-other"), (1, "SESSION_NEEDED")),
    ],
)
async def test_what_is_wrong_is_said_and_nothing_is_placed(
    session: dict[str, Any], veloz: Veloz, words: tuple[str, ...], expected: tuple[int, str]
) -> None:
    assert await veloz("orders", "place", *words) == expected
    assert await veloz("orders", "list", "--all") == []


async def test_an_order_is_amended_under_the_session_and_cancelled_without_one(
    session: dict[str, Any], veloz: Veloz, engine: RunningEngine
) -> None:
    placed = await veloz("orders", "place", "buy", "0.02", "BTCUSDT", "--limit", FAR_BELOW)
    order_id = placed["client_order_id"]
    assert await veloz("orders", "amend", order_id) == (2, "REQUEST_INVALID")
    assert await veloz("orders", "amend", order_id, "--quantity", "0.01") == {
        "client_order_id": order_id,
        "requested": True,
    }
    await engine.event(lambda event: type(event).__name__ == "OrderAmended" and event.client_order_id == order_id)  # type: ignore[attr-defined]
    assert (await veloz("orders", "show", order_id))["quantity"] == "0.01"
    await veloz("session", "close")
    assert await veloz("orders", "amend", order_id, "--quantity", "0.005") == (1, "SESSION_NEEDED")
    assert (await veloz("orders", "cancel-all"))["requested"] == 1
    await engine.event(lambda event: type(event).__name__ == "OrderClosed" and event.client_order_id == order_id)  # type: ignore[attr-defined]
    assert await veloz("orders", "list") == []


async def test_cancel_all_counts_orders_held_ones_included(session: dict[str, Any], veloz: Veloz) -> None:
    placed = await veloz(
        "orders", "bracket", "buy", "0.01", "BTCUSDT", "--limit", FAR_BELOW, "--take-profit", "62000", "--stop", "58000"
    )
    assert isinstance(placed, dict), placed
    assert len(await veloz("orders", "list")) == 3
    assert (await veloz("orders", "cancel-all"))["requested"] == 3


async def test_a_closed_session_leaves_no_key_behind(session: dict[str, Any], veloz: Veloz, home: Path) -> None:
    (stored,) = (home / "secrets").glob("session-*.json")
    assert stored.stat().st_mode & 0o777 == 0o600
    assert await veloz("session", "close") == {"closed": [session["session_id"]]}
    assert list((home / "secrets").glob("session-*.json")) == []
    (ended,) = await veloz("session", "list", "--all")
    assert ended["state"] == "closed"
    assert await veloz("session", "list") == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--key", "stranger.key"), (1, "AUTHORITY_SIGNER_UNKNOWN")),
        (("--key", "missing.key"), (2, "KEY_UNREADABLE")),
        (("--key", "roster.json"), (2, "KEY_UNREADABLE")),
        (("--key", "trader.key", "--for", "13h"), (2, "REQUEST_INVALID")),
        (("--key", "trader.key", "--for", "8"), (2, "REQUEST_INVALID")),
        (("--key", "trader.key", "--max-total", "-1"), (2, "REQUEST_INVALID")),
        (("--key", "trader.key", "--account", "acct-other"), (1, "AUTHORITY_SIGNER_NOT_PERMITTED")),
    ],
)
async def test_a_session_that_may_not_be_is_not_opened(
    engine: RunningEngine, veloz: Veloz, home: Path, words: tuple[str, ...], expected: tuple[int, str]
) -> None:
    given = [str(home / word) if word.endswith((".key", ".json")) else word for word in words]
    assert await veloz("session", "open", *given) == expected
    assert list((home / "secrets").glob("session-*.json")) == []


async def test_what_if_sends_nothing_and_says_what_risk_would(session: dict[str, Any], veloz: Veloz) -> None:
    good = await veloz("what-if", "BTCUSDT", "--buy", "0.01", "--move-bps", "-100")
    assert good["refusal"] is None
    assert Decimal(good["pnl_change"]) < 0
    bad = await veloz("what-if", "BTCUSDT", "--buy", "5")
    assert bad["refusal"]["code"] == ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER
    assert await veloz("what-if", "NOPEUSDT", "--buy", "5") == (1, "MARKET_INSTRUMENT_UNKNOWN")
    assert await veloz("what-if", "BTCUSDT") == (2, "REQUEST_INVALID")
    assert await veloz("what-if", "BTCUSDT", "--buy", "1", "--sell", "1") == (2, "REQUEST_INVALID")
    assert await veloz("orders", "list", "--all") == []


async def test_a_mandate_is_drafted_signed_installed_and_revoked(
    engine: RunningEngine, veloz: Veloz, home: Path
) -> None:
    (home / "grid.py").write_text("strategy = 1\n")
    words = ("mandates", "draft", "grid-1", "--code", str(home / "grid.py"), "--symbols", "BTCUSDT")
    limits = ("--max-order", "1000", "--max-position", "5000", "--max-total", "60000", "--asker", "user-trader")
    drafted = await asyncio.to_thread(lambda: CliRunner().invoke(app, [*words, *limits]))
    file = home / "grid-1.json"
    # The engine of this process logs to the same standard output.
    document = drafted.stdout[drafted.stdout.index("{\n") : drafted.stdout.rindex("\n}") + 2]
    file.write_text(document)
    mandate_id = json.loads(document)["mandate_id"]

    signed = await veloz("mandates", "sign", str(file), "--key", str(home / "second.key"))
    signature = f"{signed['key_id']}:{signed['signature_hex']}"
    # Above 50,000 two approvals are due, and the asker's own doesn't count.
    asker = ("--key", str(home / "trader.key"))
    assert await veloz("mandates", "install", str(file), "--signature", signature, *asker) == (
        1,
        "APPROVAL_SELF_NOT_COUNTED",
    )
    approver = ("--key", str(home / "approver.key"))
    installed = await veloz("mandates", "install", str(file), "--signature", signature, *approver)
    assert installed == {"mandate_id": mandate_id, "strategy_id": "grid-1"}
    (listed,) = await veloz("mandates", "list")
    assert (listed["state"], listed["strategy_id"], listed["max_total_notional_quote"]) == (
        "in force",
        "grid-1",
        "60000",
    )
    assert await veloz("mandates", "revoke", mandate_id) == {"mandate_id": mandate_id, "revoked": True}
    assert await veloz("mandates", "list") == []
    assert (await veloz("mandates", "list", "--all"))[0]["state"] == "revoked"
    assert await veloz("mandates", "revoke", "nope") == (1, "AUTHORITY_MANDATE_UNKNOWN")


async def test_a_roster_is_signed_installed_and_kept_for_the_next_start(
    engine: RunningEngine, veloz: Veloz, home: Path
) -> None:
    wider = msgspec.structs.replace(
        ROSTER, version=2, entries=(*ROSTER.entries, entry("stranger", "user-new", STRANGER_SEED, approves=False))
    )
    file = home / "new-roster.json"
    file.write_bytes(msgspec.json.encode(wider))
    assert await veloz("roster", "install", str(file), "--key", str(home / "approver.key")) == (
        1,
        "AUTHORITY_SIGNATURE_INVALID",
    )
    assert (await veloz("roster", "install", str(file)))["version"] == 2
    assert [item["key_id"] for item in (await veloz("roster", "show"))["entries"]][-1] == "stranger"
    assert json.loads((home / "roster.json").read_bytes())["roster"]["version"] == 2
    assert (await veloz("session", "open", "--key", str(home / "stranger.key")))["user_id"] == "user-new"
    file.write_bytes(msgspec.json.encode(ROSTER))
    assert await veloz("roster", "install", str(file)) == (1, "AUTHORITY_DOCUMENT_MALFORMED")
    assert json.loads((home / "roster.json").read_bytes())["roster"]["version"] == 2


async def test_the_kill_switch_of_an_account_is_thrown_and_thawed(session: dict[str, Any], veloz: Veloz) -> None:
    await veloz("kill", "--account", "acct-demo", "--reason", "look")
    state = await veloz("risk", "state")
    assert (state["kill_switch"], state["engine_kill_switch"]) == ("HALTED", "NORMAL")
    assert await veloz("orders", "place", "buy", "0.01", "BTCUSDT") == (1, "RISK_KILL_SWITCH_ACTIVE")
    thaw = ("thaw", "--account", "acct-demo", "--reason", "looked")
    assert await veloz(*thaw, "--state", "HALTED") == (2, "REQUEST_INVALID")
    assert (await veloz(*thaw))["signed_by"] == "root"
    placed = await veloz("orders", "place", "buy", "0.01", "BTCUSDT")
    assert placed["order"]["status"] == "FILLED"


async def test_a_mistyped_account_is_neither_stopped_nor_cleared(engine: RunningEngine, veloz: Veloz) -> None:
    assert await veloz("kill", "--account", "acct-dmeo", "--reason", "typo") == (1, "RESOURCE_NOT_FOUND")
    assert await veloz("orders", "cancel-all", "--account", "acct-dmeo") == (1, "RESOURCE_NOT_FOUND")
    assert (await veloz("risk", "state"))["kill_switch"] == "NORMAL"


async def test_the_rules_that_are_shown_are_the_file_that_was_installed(
    engine: RunningEngine, veloz: Veloz, home: Path
) -> None:
    shown = await asyncio.to_thread(lambda: CliRunner().invoke(app, ["risk", "show"]))
    installed = (home / "risk.toml").read_text()
    assert shown.stdout.count(installed) == 1
    assert "# version 1, digest" not in shown.stdout
    assert "# version 1, digest" in shown.stderr
    assert (await veloz("risk", "show"))["document"] == installed


async def test_a_halt_by_file_is_thawed_only_when_the_file_is_gone(
    engine: RunningEngine, veloz: Veloz, home: Path
) -> None:
    (home / "run" / "KILL").write_text("fire drill")
    await engine.event(lambda event: type(event).__name__ == "KillSwitchChanged")
    assert await veloz("thaw", "--reason", "over") == (1, "KILL_FILE_EXISTS")
    (home / "run" / "KILL").unlink()
    assert (await veloz("thaw", "--reason", "over"))["state"] == "NORMAL"
    assert (await veloz("risk", "state"))["kill_switch"] == "NORMAL"


async def test_a_heartbeat_renews_the_timer(engine: RunningEngine, veloz: Veloz) -> None:
    assert await veloz("heartbeat") == {"renewed": True}


@pytest.mark.parametrize(
    "words",
    [
        ("session", "list"),
        ("positions",),
        ("exposure",),
        ("what-if", "BTCUSDT", "--buy", "1"),
        ("mandates", "list"),
        ("roster", "show"),
        ("heartbeat",),
        ("risk", "state"),
        ("unfreeze", "--reason", "x"),
        ("thaw", "--reason", "x"),
    ],
)
async def test_without_an_engine_each_says_so_with_exit_code_3(veloz: Veloz, words: tuple[str, ...]) -> None:
    assert await veloz(*words) == (3, "SERVICE_ENGINE_UNAVAILABLE")
