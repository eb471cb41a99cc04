"""One approval over two api processes: 64 at once, replays, edits, expiry, an engine that dies. One order or none, and
the suggestion's state says which."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api.supervisor.nats import EmbeddedNats
from core.types.clock import NS_PER_MS
from tests.e2e.two_apis import SUGGESTIONS, TwoApis, approval
from tests.postgres import PostgresServer

pytestmark = pytest.mark.e2e

APPROVALS, RESUMES = 56, 8
SENT = frozenset({"consumed", "executed"})


@pytest.fixture(scope="module")
async def service(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[TwoApis]:
    folder: Path = tmp_path_factory.mktemp("two")
    broker = EmbeddedNats(folder / "nats", folder / "nats-secrets")
    broker.start()
    database = postgres_server.create_database()
    token = (folder / "nats-secrets" / "nats.token").read_text().strip()
    running = TwoApis(folder / "home", database, broker, token)
    try:
        await running.start()
        yield running
    finally:
        await running.close()
        broker.stop()
        postgres_server.drop_database(database)


def codes(answers: list[httpx2.Response]) -> Counter[str]:
    return Counter("taken" if answer.status_code == 200 else answer.json()["code"] for answer in answers)


async def orders_of(service: TwoApis, shown: dict[str, Any]) -> int:
    """How many orders the venue has of it; never more than the journal says were sent."""
    [*decided] = await service.decisions(shown["id"])
    ids = {event.intent.client_order_id for event in decided if event.intent is not None}
    assert len(decided) <= 1
    return len([order for order in await service.orders() if order["clientOrderId"] in ids])


async def test_64_approvals_and_resumes_at_once_make_one_order(service: TwoApis) -> None:
    shown = await service.suggest()
    path, body = f"{SUGGESTIONS}/{shown['id']}/approve", approval(shown)
    approvals = [service.post(number, path, body) for number in range(APPROVALS)]
    resumes = [service.resume(number, shown["id"]) for number in range(RESUMES)]
    done = await asyncio.gather(*approvals, *resumes)
    assert codes([answer for answer in done if isinstance(answer, httpx2.Response)]) == {
        "taken": 1,
        "APPROVAL_ALREADY_CONSUMED": APPROVALS - 1,
    }
    assert all(events > 1 for events in done if isinstance(events, int))
    assert await service.status(shown["id"], "executed") == "executed"
    for number in range(2):
        replay = await service.post(number, path, body)
        assert codes([replay]) == {"APPROVAL_ALREADY_CONSUMED": 1}
    assert await orders_of(service, shown) == 1


async def test_edits_in_flight_leave_one_order_of_the_newest_version_or_none(service: TwoApis) -> None:
    shown = await service.suggest()
    path, body = f"{SUGGESTIONS}/{shown['id']}", approval(shown)
    edit = {"version": 1, "changes": {"quantity": "0.003"}}
    answers = await asyncio.gather(
        *(service.post(number, f"{path}/approve", body) for number in range(12)),
        *(service.post(number, f"{path}/edit", edit, "trader") for number in range(12)),
    )
    counted = codes(answers)
    assert counted["taken"] == 1, counted
    assert counted.keys() <= {"taken", "APPROVAL_ALREADY_CONSUMED", "APPROVAL_VERSION_SUPERSEDED"}
    newest = await service.get(path)
    if newest["version"] == 1:
        assert await service.status(shown["id"], "executed") == "executed"
        assert await orders_of(service, shown) == 1
        return
    assert (newest["version"], newest["status"]) == (2, "pending")
    assert await orders_of(service, shown) == 0
    assert codes([await service.post(1, f"{path}/approve", approval(newest))]) == {"taken": 1}
    assert await service.status(shown["id"], "executed") == "executed"
    assert await orders_of(service, shown) == 1


async def test_approvals_around_the_expiry_make_one_order_or_none_and_the_state_says_which(service: TwoApis) -> None:
    shown = await service.suggest(valid_for_s="1")
    path, body = f"{SUGGESTIONS}/{shown['id']}/approve", approval(shown)
    await service.until(int(shown["proposal"]["expires_at_ns"]) - 15 * NS_PER_MS)
    counted = codes(await asyncio.gather(*(service.post(number, path, body) for number in range(16))))
    assert counted.keys() <= {"taken", "APPROVAL_ALREADY_CONSUMED", "APPROVAL_EXPIRED"}
    late = codes([await service.post(1, path, body)])
    if counted["taken"]:
        assert late == {"APPROVAL_ALREADY_CONSUMED": 1}
        assert await service.status(shown["id"], "executed") == "executed"
    else:
        assert late == {"APPROVAL_EXPIRED": 1}
        assert await service.status(shown["id"], "expired") == "expired"
    assert await orders_of(service, shown) == counted["taken"] <= 1


@pytest.mark.parametrize("reaches_venue", [True, False], ids=["the venue has it", "the venue never gets it"])
async def test_an_engine_killed_between_consumption_and_answer_leaves_one_order_or_none(
    service: TwoApis, reaches_venue: bool
) -> None:
    shown = await service.suggest()
    session = service.session
    path, body = f"{SUGGESTIONS}/{shown['id']}/approve", approval(shown)
    # The engine answers once the approval is consumed, durably, before it hears from the venue.
    session.venue.signal(signal.SIGSTOP)
    answers = await asyncio.gather(*(service.post(number, path, body) for number in range(8)))
    assert codes(answers) == {"taken": 1, "APPROVAL_ALREADY_CONSUMED": 7}
    await session.engine.kill()
    if reaches_venue:
        session.venue.signal(signal.SIGCONT)
    else:
        await session.venue.kill()
        await session.start_venue()
    await session.engine.start()
    await session.engine_ready()
    final = await service.status(shown["id"], "executed", "failed")
    made = await orders_of(service, shown)
    assert (final, made) in {("executed", 1), ("failed", 0)}
    assert reaches_venue or (final, made) == ("failed", 0)
    for number in range(2):
        assert codes([await service.post(number, path, body)]) == {"APPROVAL_ALREADY_CONSUMED": 1}
    assert await orders_of(service, shown) == made
