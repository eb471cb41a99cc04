"""Orders, positions and the kill switch over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import msgspec
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine
from typer.testing import CliRunner

from api.cli.app import app
from api.ledger.projection import Projection
from api.ledger.source import as_generator
from core.storage.database import create_engine
from core.text.redaction import Redactor
from core.types.events import KillSwitchChanged
from tests.api.house import House, assert_problem
from tests.api.ledger.journal import MemoryJournal
from tests.api.ledger.trading import ENTRY, GRID, MAKER, STOP, TAKE_PROFIT, whole_day

OTHER_ENGINE_ID = "engine-2"


async def get(house: House, path: str, username: str = "trader") -> Any:
    return await house.api.http.get(path, headers=await house.api.as_(username))


async def post(house: House, path: str, body: dict[str, Any], username: str = "trader") -> Any:
    return await house.api.http.post(path, json=body, headers=await house.api.as_(username))


@pytest.fixture(scope="module")
async def projected(house: House) -> None:
    """A journal's day in the house's database, of an engine that isn't the one that runs."""
    journal = MemoryJournal()
    await journal.append(*whole_day())
    engine: AsyncEngine = create_engine(house.settings, "ledger")
    projection = Projection(engine, OTHER_ENGINE_ID, Redactor(b"k" * 32))
    for entry in journal.entries:
        await projection.project(msgspec.structs.replace(entry, engine_id=OTHER_ENGINE_ID))
    await engine.dispose()


@pytest.mark.usefixtures("projected")
async def test_orders_are_listed_with_their_terms_and_authority(house: House) -> None:
    orders = {row["client_order_id"]: row for row in (await get(house, "/api/v1/orders?symbol=BTCUSDT")).json()}
    assert {ENTRY, TAKE_PROFIT, STOP, GRID, MAKER} <= orders.keys()
    entry = orders[ENTRY]
    assert (entry["authority"], entry["authority_id"]) == ("session", "session-1")
    assert (entry["quantity"], entry["price"], entry["time_in_force"]) == ("0.5", "64000", "GTD")
    assert orders[STOP]["trailing_offset_bps"] == 50
    still_open = {row["client_order_id"] for row in (await get(house, "/api/v1/orders?open=true")).json()}
    assert ENTRY in still_open
    assert not still_open & {TAKE_PROFIT, STOP}
    assert (await get(house, "/api/v1/orders?account_id=acct-other")).json() == []


@pytest.mark.usefixtures("projected")
async def test_an_order_is_shown_with_its_checks_and_fills(house: House) -> None:
    order = (await get(house, f"/api/v1/orders/{GRID}", "compliance")).json()
    assert order["authority_record"]["authority"] == "mandate"
    assert [check["name"] for check in order["checks"]] == ["RISK_SELF_TRADE"]
    assert [fill["quantity"] for fill in order["fills"]] == ["0.1", "0.05"]
    assert_problem(await get(house, "/api/v1/orders/vz-nothing"), 404, "RESOURCE_NOT_FOUND")


@pytest.mark.usefixtures("projected")
async def test_positions_are_shown_by_strategy_too(house: House) -> None:
    answer = (await get(house, "/api/v1/positions")).json()
    by_strategy = {row["strategy_id"]: row["quantity"] for row in answer["by_strategy"]}
    assert by_strategy == {"": "0.1", "grid-1": "0.15"}


@pytest.mark.parametrize(
    ("username", "body", "status", "code"),
    [
        ("compliance", {"reason": "x"}, 403, "AUTH_ROLE_NOT_PERMITTED"),
        ("trader", {"reason": "x", "account_id": "acct-other"}, 403, "AUTH_ACCOUNT_OUT_OF_SCOPE"),
        ("trader", {"reason": "x", "state": "NORMAL"}, 422, "REQUEST_INVALID"),
        ("trader", {"state": "HALTED"}, 422, "REQUEST_INVALID"),
    ],
)
async def test_a_wrong_kill_changes_nothing(
    house: House, username: str, body: dict[str, Any], status: int, code: str
) -> None:
    assert_problem(await post(house, "/api/v1/kill-switch", body, username), status, code)
    assert (await house.engine.client.status()).kill_switch == "NORMAL"


async def test_the_kill_switch_is_tightened_and_says_by_whom(house: House) -> None:
    answer = (await post(house, "/api/v1/kill-switch", {"state": "REDUCE_ONLY", "reason": "look"})).json()
    assert (answer["state"], answer["kill_switch"]) == ("REDUCE_ONLY", "REDUCE_ONLY")
    event = await house.engine.event(lambda event: isinstance(event, KillSwitchChanged))
    assert (event.state, event.requested_by, event.reason) == ("REDUCE_ONLY", "user-trader", "look")
    halted = await post(house, "/api/v1/kill-switch", {"reason": "stop", "account_id": None}, "approver")
    assert halted.json()["kill_switch"] == "HALTED"


async def project_journal_of(house: House, engine_id: str, sequence: int) -> None:
    """As the ledger does, up to this entry of the running engine's journal."""
    engine: AsyncEngine = create_engine(house.settings, "ledger")
    projection = Projection(engine, engine_id, Redactor(b"k" * 32))
    async with contextlib.aclosing(as_generator(house.engine.client.stream_journal(0))) as entries:
        async for entry in entries:
            await projection.project(entry)
            if entry.sequence == sequence:
                break
    await engine.dispose()


async def test_veloz_rebuild_makes_the_projections_of_the_running_engine_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VELOZ_HOME", str(house.settings.home))
    monkeypatch.setenv("VELOZ_DATABASE__URL", house.settings.database.url)

    async def rebuilt(*options: str) -> tuple[int, dict[str, Any]]:
        result = await asyncio.to_thread(lambda: CliRunner().invoke(app, ["rebuild", "--json", *options]))
        return result.exit_code, json.loads(result.stdout)

    exit_code, first = await rebuilt()
    assert (exit_code, first["compared_at"], first["equal"]) == (0, 0, True)
    assert first["sequence"] > 0
    await project_journal_of(house, first["engine_id"], first["sequence"])
    exit_code, again = await rebuilt("--check")
    assert (exit_code, again["equal"], again["rebuilt"]) == (0, True, False)
    assert again["compared_at"] == again["sequence"] == first["sequence"]
    with house.database.connect("owner") as connection:
        connection.execute("DELETE FROM kill_switch_changes WHERE engine_id = %s", (first["engine_id"],))
    exit_code, mended = await rebuilt()
    wrong = [table["table"] for table in mended["tables"] if not table["equal"]]
    assert (exit_code, wrong) == (1, ["kill_switch_changes"])
    assert (await rebuilt("--check"))[0] == 0
