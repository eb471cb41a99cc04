"""Four eyes with a real engine and PostgreSQL: a stored signature is a projection, and the engine verifies."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from core.authority.signatures import sign_digest
from core.storage.database import DatabaseRole
from core.types.codes import ReasonCode
from core.types.events import ApprovalDecided
from tests.api.gateway_support import GatewayService, open_gateway
from tests.core.approvals import APPROVER_SEED, SECOND_SEED
from tests.core.engine_support import RunningEngine, engine, home, settings, venue
from tests.postgres import PostgresDatabase
from tests.tools.people import APPROVER, SECOND
from tools.approvals import ApprovalOutcome
from tools.contracts import Principal
from tools.suggestions import Suggestion, SuggestionStatus

__all__ = ["engine", "home", "settings", "venue"]

KEYS = {"user-approver": ("approver", APPROVER_SEED), "user-second": ("second", SECOND_SEED)}


@pytest.fixture
async def service(engine: RunningEngine, postgres: PostgresDatabase, tmp_path: Path) -> AsyncIterator[GatewayService]:
    async with open_gateway(engine, postgres, tmp_path / "sql") as opened:
        yield opened


async def suggest(service: GatewayService, quantity: str) -> Suggestion:
    result = await service.ask(
        "suggest_order", symbol="BTCUSDT", side="buy", quantity=quantity, price_anchor="bid", offset_bps="-20"
    )
    assert result.refusal is None, result.refusal
    return await service.approvals.view(APPROVER, result.data["suggestion_id"])


async def sign(service: GatewayService, suggestion: Suggestion, principal: Principal) -> ApprovalOutcome:
    key_id, seed = KEYS[principal.user_id]
    return await service.approvals.approve(
        principal,
        suggestion.suggestion_id,
        suggestion.version,
        suggestion.digest_hex,
        key_id,
        sign_digest(seed, suggestion.digest_hex),
    )


async def test_above_the_rosters_threshold_two_people_sign_and_the_journal_names_both(
    service: GatewayService, engine: RunningEngine
) -> None:
    small, large = await suggest(service, "0.01"), await suggest(service, "0.9")
    assert (small.approvals_due, large.approvals_due) == (1, 2)
    first = await sign(service, large, APPROVER)
    assert (first.refusal, first.consumed, first.approvals_given, first.approvals_due) == (None, False, 1, 2)
    waiting = await service.approvals.view(SECOND, large.suggestion_id)
    assert waiting.status is SuggestionStatus.PENDING
    assert [item.user_id for item in waiting.signatures] == ["user-approver"]
    assert waiting.views.keys() == {"user-approver", "user-second"}

    second = await sign(service, large, SECOND)
    assert (second.refusal, second.consumed) == (None, True)
    decided = await engine.event(lambda event: isinstance(event, ApprovalDecided))
    assert [signature.user_id for signature in decided.signatures] == ["user-approver", "user-second"]
    assert decided.intent.client_order_id == second.client_order_id


@pytest.mark.parametrize(
    ("key_id", "seed"),
    [
        ("second", APPROVER_SEED),  # not that key's
        ("approver", APPROVER_SEED),  # the same person again, under another name
        ("nobody", SECOND_SEED),  # enrolled nowhere but in the row
    ],
)
async def test_a_row_that_somebody_forged_is_no_second_signature(
    service: GatewayService, engine: RunningEngine, postgres: PostgresDatabase, key_id: str, seed: str
) -> None:
    large = await suggest(service, "0.9")
    with postgres.connect(DatabaseRole.API) as connection:
        connection.execute("SELECT set_config('veloz.account_ids', 'acct-demo', false)")
        connection.execute(
            "INSERT INTO suggestion_signatures (suggestion_id, version, account_id, user_id, key_id, method, signature,"
            " signed_at) VALUES (%s, 1, 'acct-demo', 'user-second', %s, 'ed25519', %s, clock_timestamp())",
            [large.suggestion_id, key_id, sign_digest(seed, large.digest_hex)],
        )
    outcome = await sign(service, large, APPROVER)
    assert (outcome.refusal, outcome.consumed, outcome.approvals_given) == (None, False, 1)
    assert await engine.client.open_orders("acct-demo") == []
    assert (await sign(service, large, SECOND)).consumed


async def test_one_person_with_one_signature_sends_nothing_however_often(
    service: GatewayService, engine: RunningEngine
) -> None:
    large = await suggest(service, "0.9")
    await sign(service, large, APPROVER)
    again = await sign(service, large, APPROVER)
    assert again.refusal is not None
    assert again.refusal.code is ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT
    assert await engine.client.open_orders("acct-demo") == []


async def test_nobody_hands_in_anothers_signature_under_their_own_name(
    service: GatewayService, engine: RunningEngine
) -> None:
    """The engine would count its owner, and the trail would name somebody else."""
    large = await suggest(service, "0.9")
    outcome = await service.approvals.approve(
        SECOND, large.suggestion_id, 1, large.digest_hex, "approver", sign_digest(APPROVER_SEED, large.digest_hex)
    )
    assert outcome.refusal is not None
    assert outcome.refusal.code is ReasonCode.AUTHORITY_SIGNER_NOT_PERMITTED
    assert await engine.client.open_orders("acct-demo") == []
    assert (await service.approvals.view(SECOND, large.suggestion_id)).signatures == ()
