"""With the database, NATS, the api process and the copilot in an attacker's hands the engine refuses, whatever part is
forged: approvers' keys and the root key are all that counts. Real processes for engine and venue, a real PostgreSQL."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import nats
import pytest

from api.suggestions.repository import SqlSuggestionStore
from api.supervisor.nats import EmbeddedNats
from core.authority.proposal import proposal_bytes, proposal_digest
from core.authority.roster import render_signed_roster, sign_roster
from core.authority.signatures import sign_digest
from core.types.clock import SystemClock
from core.types.codes import ReasonCode
from core.types.events import ApprovalDecided, JournalEvent, OrderIntended, RiskRulesInstalled, RosterInstalled
from tests.api.sql_doubles import Database, seeded
from tests.attack.attacker import APPROVER, FORGERIES, LARGE, REAL_ROSTER, SEED, SMALL, Attacker, own_roster, signed
from tests.core.approvals import ACCOUNT, APPROVER_SEED, ROOT_SEED
from tests.core.venues.paper.support import Client
from tests.crash.processes import Session
from tests.crash.products import SPOT
from tests.invariants.support import credentials
from tests.postgres import PostgresDatabase, PostgresServer
from tests.tools.people import APPROVER as APPROVER_PRINCIPAL
from tests.tools.people import IDS
from tests.tools.stores import MemoryTrail
from tools.approvals import ApprovalOutcome, Approvals
from tools.suggestions import GivenSignature, Suggestion, SuggestionStatus

COMMANDS = ("trading.>", "trading.engine-1.orders", "engine.commands", "market.paper.BTCUSDT.ticker", "veloz.approve")


class Prey:
    """The house that was taken over."""

    def __init__(self, session: Session, database: PostgresDatabase, sql: Database, nats_url: str, token: str) -> None:
        self.session = session
        self.database = database
        self.sql = sql
        self.nats = (nats_url, token)
        self.attacker = Attacker(session.client)

    async def orders(self) -> list[dict[str, Any]]:
        """Every order that the venue ever took, over its own REST interface."""
        client = Client(self.session.rest_url, credentials(self.session.settings))
        answer = await client.signed("GET", "/api/v3/allOrders", symbol="BTCUSDT")
        await client.http.aclose()
        assert answer.status_code == 200, answer.text
        orders: list[dict[str, Any]] = answer.json()
        return orders

    async def journal(self) -> list[JournalEvent]:
        last = (await self.session.client.status()).journal_sequence
        events = []
        entries = self.session.client.stream_journal(0)
        async for entry in entries:
            events.append(entry.event())
            if entry.sequence >= last:
                break
        await entries.aclose()
        return events

    def approvals(self) -> Approvals:
        """The api's own approval flow, over the database that the attacker writes to."""
        clock = SystemClock()
        return Approvals(
            engine=self.session.client,
            suggestions=SqlSuggestionStore(self.sql.transactions),
            trail=MemoryTrail(clock),  # type: ignore[arg-type]
            clock=clock,
            ids=IDS,
        )


@pytest.fixture(scope="module")
async def prey(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Prey]:
    folder: Path = tmp_path_factory.mktemp("prey")
    broker = EmbeddedNats(folder / "nats", folder / "nats-secrets")
    broker.start()
    token = (folder / "nats-secrets" / "nats.token").read_text().strip()
    session = Session(folder / "home", SPOT, recv_window_ms=5_000, nats_url=broker.url)
    (folder / "home" / "secrets" / "nats.token").write_text(token)
    (folder / "home" / "roster.json").write_bytes(render_signed_roster(sign_roster(ROOT_SEED, REAL_ROSTER)))
    database = postgres_server.create_database()
    try:
        await session.start_venue()
        await session.engine.start()
        await session.engine_ready()
        async with seeded(database, folder / "sql") as sql:
            yield Prey(session, database, sql, broker.url, token)
    finally:
        await session.close()
        broker.stop()
        postgres_server.drop_database(database)


@pytest.mark.parametrize("name", FORGERIES)
async def test_what_is_forged_is_refused_and_leaves_no_trace_in_the_journal(prey: Prey, name: str) -> None:
    expected, attempt = FORGERIES[name]
    before = len([event for event in await prey.journal() if _gives_authority(event)])
    assert await attempt(prey.attacker) is expected
    assert len([event for event in await prey.journal() if _gives_authority(event)]) == before
    assert await prey.orders() == []


def _gives_authority(event: JournalEvent) -> bool:
    return isinstance(event, ApprovalDecided | OrderIntended | RosterInstalled | RiskRulesInstalled)


async def stored(prey: Prey, **changes: Any) -> Suggestion:
    """A row of the suggestions' table, as somebody with the database's owner's password writes it."""
    what = await prey.attacker.propose(changes.pop("quantity", SMALL))
    canonical = proposal_bytes(what)
    row = Suggestion(
        suggestion_id=what.suggestion_id,
        version=1,
        account_id=ACCOUNT,
        asker_id="user-trader",
        run_id="run-1",
        trace_id=what.trace_id,
        status=SuggestionStatus.PENDING,
        proposal=canonical,
        digest_hex=proposal_digest(canonical),
        pre_trade={},
        rationale="",
        expires_at_ns=what.expires_ns,
        created_at_ns=int(what.created_at_ns),
    )
    await SqlSuggestionStore(prey.sql.transactions).insert(msgspec.structs.replace(row, **changes))
    return row


async def approve(prey: Prey, shown: Suggestion, signature: bytes, digest_hex: str) -> ApprovalOutcome:
    return await prey.approvals().approve(APPROVER_PRINCIPAL, shown.suggestion_id, 1, digest_hex, "approver", signature)


async def test_a_row_that_was_altered_after_it_was_signed_is_refused(prey: Prey) -> None:
    shown = await stored(prey)
    signature = sign_digest(APPROVER_SEED, shown.digest_hex)
    other = proposal_bytes(msgspec.structs.replace(shown.order, side="SELL"))
    with prey.database.connect("owner") as connection:
        connection.execute(
            "UPDATE suggestions SET proposal = %s, digest = %s WHERE id = %s",
            [other, proposal_digest(other), shown.suggestion_id],
        )
    outcome = await approve(prey, shown, signature, proposal_digest(other))
    assert outcome.refusal is not None
    assert outcome.refusal.code is ReasonCode.AUTHORITY_SIGNATURE_INVALID
    assert await prey.orders() == []


async def test_rows_that_say_it_was_approved_or_add_a_signature_send_nothing_nor_does_a_key_of_no_roster(
    prey: Prey,
) -> None:
    enrolled = await stored(prey)
    outcome = await prey.approvals().approve(
        APPROVER_PRINCIPAL,
        enrolled.suggestion_id,
        1,
        enrolled.digest_hex,
        "attacker",
        sign_digest(SEED, enrolled.digest_hex),
    )
    assert outcome.refusal is not None
    assert outcome.refusal.code is ReasonCode.AUTHORITY_SIGNER_UNKNOWN

    await stored(prey, status=SuggestionStatus.APPROVED)
    large = await stored(prey, quantity=LARGE, approvals_due=1)
    store = SqlSuggestionStore(prey.sql.transactions)
    async with store.deciding((ACCOUNT,), large.suggestion_id, 1) as decision:
        assert decision is not None
        forged = GivenSignature(
            user_id="user-second",
            key_id="second",
            method="ed25519",
            signature=secrets.token_bytes(64),
            signed_at_ns=large.created_at_ns,
        )
        await decision.keep_signature(forged, 1)
    one = await approve(prey, large, sign_digest(APPROVER_SEED, large.digest_hex), large.digest_hex)
    assert (one.consumed, one.approvals_given, one.approvals_due) == (False, 1, 2)
    assert await prey.orders() == []


async def test_what_is_put_on_nats_commands_nothing(prey: Prey) -> None:
    what = await prey.attacker.propose()
    payload = msgspec.json.encode({"proposal": proposal_bytes(what).decode(), "approved": True, "state": "NORMAL"})
    before = await prey.journal()
    client = await nats.connect(prey.nats[0], token=prey.nats[1])
    for subject in COMMANDS:
        await client.publish(subject.replace(">", "approved"), payload)
    await client.flush()
    await client.close()
    assert await prey.journal() == before
    assert await prey.orders() == []


async def test_a_roster_file_that_the_root_key_didnt_sign_starts_no_engine_and_what_was_used_stays_used(
    prey: Prey,
) -> None:
    session, attacker = prey.session, prey.attacker
    # Above the limit of one order: risk refuses it at send, and the approval is used up without an order.
    used = await attacker.propose("0.9", price="200000")
    both = signed(used, APPROVER, ("second", "33" * 32))
    assert await attacker.send(used, both) is ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER
    await session.engine.kill()

    roster_file = session.settings.home / "roster.json"
    real = roster_file.read_bytes()
    roster_file.write_bytes(render_signed_roster(sign_roster(SEED, own_roster())))
    await session.engine.start()
    with pytest.raises(AssertionError, match="not the root key's over this roster"):
        await session.engine_ready()
    roster_file.write_bytes(real)

    await session.engine.start()
    await session.engine_ready()
    assert await attacker.send(used, both) is ReasonCode.APPROVAL_ALREADY_CONSUMED
    assert await prey.orders() == []


async def test_what_an_approver_did_sign_is_sent_once(prey: Prey) -> None:
    """So that all of the above wasn't refused for another reason."""
    shown = await stored(prey)
    outcome = await approve(prey, shown, sign_digest(APPROVER_SEED, shown.digest_hex), shown.digest_hex)
    assert (outcome.refusal, outcome.consumed) == (None, True)
    again = await prey.attacker.send(shown.order, signed(shown.order, APPROVER))  # type: ignore[arg-type]
    assert again is ReasonCode.APPROVAL_ALREADY_CONSUMED
    intended = [event for event in await prey.journal() if isinstance(event, ApprovalDecided) and event.intent]
    assert len(intended) == 1
