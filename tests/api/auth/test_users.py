"""What was taken from a human holds no longer than a second, and what only reduces waits for no database.

Invariant: nobody gets more than both the token and the rows say.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from api.auth.todays_gateway import TodaysGateway
from api.auth.users import REMEMBERED_FOR_S, CurrentUsers
from core.storage.database import DatabaseRole
from core.types.codes import ReasonCode, RefusalError, refuse
from tests.api.sql_doubles import Database, seeded
from tests.postgres import PostgresDatabase
from tests.tools.doubles import House
from tools.contracts import Principal, Role

TRADER = Principal("user-trader", "trader", Role.TRADER, ("acct-demo",))


class Watch:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Rows:
    """The users of one database, with how often they were asked for."""

    def __init__(self, database: Database, postgres: PostgresDatabase) -> None:
        self._transactions = database.transactions
        self._postgres = postgres
        self.asked = 0
        self.is_away = False
        self.watch = Watch()
        self.users = CurrentUsers(self._open, self.watch)

    def change(self, statement: str) -> None:
        with self._postgres.connect(DatabaseRole.OWNER) as connection:
            connection.execute(statement)

    @asynccontextmanager
    async def _open(self, account_ids: tuple[str, ...], /) -> AsyncIterator[Any]:
        self.asked += 1
        if self.is_away:
            raise refuse(ReasonCode.SERVICE_DATABASE_UNAVAILABLE, "The database doesn't answer.")
        async with self._transactions(account_ids) as connection:
            yield connection


@pytest.fixture
async def rows(postgres: PostgresDatabase, tmp_path: Path) -> AsyncIterator[Rows]:
    async with seeded(postgres, tmp_path) as database:
        yield Rows(database, postgres)


LOSES_THE_ACCOUNT = "DELETE FROM account_grants WHERE user_id = 'user-trader'"
LOSES_THE_ROLE = "UPDATE users SET role = 'approver' WHERE id = 'user-trader'"
IS_DISABLED = "UPDATE users SET disabled_at = clock_timestamp() WHERE id = 'user-trader'"


async def seen(rows: Rows) -> tuple[str, ...] | ReasonCode:
    """The accounts that a call has, or why there is none."""
    try:
        return (await rows.users.cut(TRADER)).account_ids
    except RefusalError as error:
        return error.refusal.code


@pytest.mark.parametrize(
    ("change", "after"),
    [
        (LOSES_THE_ACCOUNT, ()),
        (LOSES_THE_ROLE, ReasonCode.AUTH_TOKEN_INVALID),
        (IS_DISABLED, ReasonCode.AUTH_TOKEN_INVALID),
        ("UPDATE users SET display_name = 'T' WHERE id = 'user-trader'", ("acct-demo",)),
    ],
)
async def test_what_is_taken_away_counts_a_second_later(
    rows: Rows, change: str, after: tuple[str, ...] | ReasonCode
) -> None:
    assert await seen(rows) == ("acct-demo",)
    rows.change(change)
    rows.watch.now_s += REMEMBERED_FOR_S
    assert await seen(rows) == after


async def test_within_that_second_nobody_asks_again_and_those_who_ask_at_once_ask_together(rows: Rows) -> None:
    assert await asyncio.gather(*(seen(rows) for _ in range(20))) == [("acct-demo",)] * 20
    rows.watch.now_s += REMEMBERED_FOR_S - 0.01
    await seen(rows)
    assert rows.asked == 1


async def test_a_token_gets_no_account_that_was_granted_after_it(rows: Rows) -> None:
    rows.change(
        "INSERT INTO accounts (id, desk_id, name, venue, key_reference, mode) "
        "SELECT 'acct-new', desk_id, 'new', venue, key_reference, mode FROM accounts LIMIT 1"
    )
    rows.change("INSERT INTO account_grants VALUES ('user-trader', 'acct-new')")
    assert await seen(rows) == ("acct-demo",)


async def test_one_caller_that_leaves_doesnt_end_the_lookup_of_the_others(rows: Rows) -> None:
    first, second = (asyncio.create_task(seen(rows)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == ("acct-demo",)


async def test_without_the_database_nothing_is_granted_but_what_was_known_last_may_reduce(rows: Rows) -> None:
    rows.is_away = True
    assert await seen(rows) is ReasonCode.SERVICE_DATABASE_UNAVAILABLE
    assert rows.users.cut_to_last_known(TRADER) == TRADER
    rows.is_away = False
    rows.change(LOSES_THE_ACCOUNT)
    assert await seen(rows) == ()
    rows.is_away = True
    rows.watch.now_s += 60
    assert rows.users.cut_to_last_known(TRADER).account_ids == ()


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("SELECT 1", None),
        (LOSES_THE_ACCOUNT, ReasonCode.AUTH_ACCOUNT_OUT_OF_SCOPE),
        (IS_DISABLED, ReasonCode.AUTH_ACCOUNT_OUT_OF_SCOPE),
    ],
)
async def test_a_call_of_a_run_under_way_is_made_with_what_its_asker_may_now(
    rows: Rows, change: str, code: ReasonCode | None
) -> None:
    house = House()
    house.gateway = TodaysGateway(house.gateway, rows.users)  # type: ignore[assignment]
    assert (await house.ask("get_positions", TRADER, run_id="run-1", account_id="acct-demo")).refusal is None
    rows.change(change)
    rows.watch.now_s += REMEMBERED_FOR_S
    after = await house.ask("get_positions", TRADER, run_id="run-1", account_id="acct-demo")
    assert (after.refusal and after.refusal.code) == code
    assert house.trail.records[-1].outcome == (code or "ok")


async def test_a_call_of_a_run_under_way_is_made_in_the_role_of_now(rows: Rows) -> None:
    house = House()
    house.gateway = TodaysGateway(house.gateway, rows.users)  # type: ignore[assignment]
    order = {"account_id": "acct-demo", "symbol": "BTCUSDT", "side": "buy", "quantity": "0.01", "price": "64000"}
    rows.change(LOSES_THE_ROLE)
    refused = await house.ask("suggest_order", TRADER, run_id="run-1", **order)
    assert refused.refusal is not None
    assert refused.refusal.code is ReasonCode.TOOL_NOT_PERMITTED


async def test_a_call_of_a_run_gets_no_account_while_the_database_is_away(rows: Rows) -> None:
    house = House()
    house.gateway = TodaysGateway(house.gateway, rows.users)  # type: ignore[assignment]
    rows.is_away = True
    refused = await house.ask("get_positions", TRADER, run_id="run-1", account_id="acct-demo")
    assert refused.refusal is not None
    assert refused.refusal.code is ReasonCode.AUTH_ACCOUNT_OUT_OF_SCOPE
