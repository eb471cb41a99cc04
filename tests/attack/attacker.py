"""Who holds the database, NATS, the api process and the copilot: everything but approvers' keys, the root key and the
engine's host. Each forgery answers with what the engine said to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from core.authority.administration import (
    ADMINISTRATION_SCHEMA,
    AdministrationDocument,
    administration_bytes,
    sign_administration,
)
from core.authority.mandate import MANDATE_SCHEMA, mandate_bytes, sign_mandate
from core.authority.proposal import Proposal, proposal_bytes, proposal_digest
from core.authority.roster import sign_roster
from core.authority.session import SESSION_SCHEMA, grant_bytes, sign_session
from core.authority.signatures import public_key_hex, sign_bytes, sign_digest
from core.runtime.client import EngineClient, SignedRequest
from core.runtime.tickets import OrderTicket, ticket_bytes, ticket_message
from core.types.authority import Mandate, SessionGrant
from core.types.clock import NS_PER_S
from core.types.codes import ReasonCode, Refusal, RefusalError
from core.types.events import Roster
from core.types.ids import SystemIdSource, new_trace
from core.types.money import decimal_text
from tests.core.approvals import (
    ACCOUNT,
    APPROVER_SEED,
    ROSTER,
    SECOND_SEED,
    TRADER_SEED,
    entry,
    proposal,
    rules_document,
)
from tests.core.authority.authenticator import Authenticator

IDS = SystemIdSource()
SEED = "66" * 32
APPROVER, SECOND, TRADER = ("approver", APPROVER_SEED), ("second", SECOND_SEED), ("trader", TRADER_SEED)
SMALL, LARGE = "0.01", "0.9"
"""In BTC; above the roster's threshold two approvals are due."""

PASSKEY_SEED = 7
PASSKEY = Authenticator(seed=PASSKEY_SEED)
REAL_ROSTER = msgspec.structs.replace(
    ROSTER,
    entries=(*ROSTER.entries, PASSKEY.entry("passkey", "user-approver", (ACCOUNT,))),
    cli_only_above_quote="1000",
)
"""What the root key has signed."""

Signatures = list[tuple[str, bytes]]


class Attacker:
    """Speaks to the engine with the api's own token."""

    def __init__(self, client: EngineClient) -> None:
        self.client = client

    async def propose(self, quantity: str = SMALL, **changes: Any) -> Proposal:
        """What an honest suggestion tool would make at this moment: it would fill at once."""
        status, ticker = await self.client.status(), await self.client.ticker("BTCUSDT")
        price = decimal_text((ticker.ask_price + 10).quantize(ticker.ask_price))
        values = {
            "suggestion_id": IDS.new_ulid(),
            "quantity": quantity,
            "price": price,
            "reference_price": decimal_text((ticker.bid_price + ticker.ask_price) / 2),
            "max_deviation_bps": "100",
            "created_at_ns": str(status.now_ns),
            "expires_at_ns": str(status.now_ns + 60 * NS_PER_S),
        }
        return proposal(**(values | changes))

    async def send(self, what: Proposal, signatures: Signatures, digest_hex: str | None = None) -> ReasonCode | None:
        """The call that the approval flow makes; None when the engine took it."""
        canonical = proposal_bytes(what)
        outcome = await self.client.execute_approval(
            canonical, digest_hex or proposal_digest(canonical), signatures, new_trace(IDS), approvals_at_least=0
        )
        return code(outcome.refusal)

    async def administer(self, kind: str, body: dict[str, str], *signers: tuple[str, str]) -> ReasonCode | None:
        status = await self.client.status()
        document = AdministrationDocument(
            schema=ADMINISTRATION_SCHEMA,
            document_id=IDS.new_ulid(),
            engine_id=status.engine_id,
            kind=kind,
            body=body,
            issued_at_ns=str(status.now_ns),
            expires_at_ns=str(status.now_ns + 60 * NS_PER_S),
            requested_by="user-admin",
        )
        canonical = administration_bytes(document)
        signatures = [(key_id, sign_administration(seed, canonical)) for key_id, seed in signers]
        return code(await self.client.administer(canonical, signatures))

    async def install(self, roster: Roster, *signers: tuple[str, str]) -> ReasonCode | None:
        body = {
            "roster": msgspec.json.encode(roster).decode(),
            "signature_hex": sign_roster(SEED, roster).signature_hex,
        }
        return await self.administer("roster.install", body, *signers)


def code(refusal: Refusal | None) -> ReasonCode | None:
    return None if refusal is None else refusal.code


def signed(what: Proposal, *signers: tuple[str, str]) -> Signatures:
    """What approvers sign when they are shown this."""
    digest = proposal_digest(proposal_bytes(what))
    return [(key_id, sign_digest(seed, digest)) for key_id, seed in signers]


def own_roster(threshold: str = "50000") -> Roster:
    """The real one with the attacker's key for the approver's person, and any threshold."""
    mine = entry("approver-2", "user-approver", SEED)
    return msgspec.structs.replace(
        REAL_ROSTER, version=99, entries=(*REAL_ROSTER.entries, mine), two_approvals_above_quote=threshold
    )


Forgery = Callable[[Attacker], Awaitable[ReasonCode | None]]
FORGERIES: dict[str, tuple[ReasonCode, Forgery]] = {}


def forgery(expected: ReasonCode) -> Callable[[Forgery], Forgery]:
    def register(attempt: Forgery) -> Forgery:
        FORGERIES[attempt.__name__] = (expected, attempt)
        return attempt

    return register


# an enrolled key


@forgery(ReasonCode.AUTHORITY_SIGNER_UNKNOWN)
async def a_key_that_only_the_database_has_enrolled(attacker: Attacker) -> ReasonCode | None:
    what = await attacker.propose()
    return await attacker.send(what, signed(what, ("attacker", SEED)))


@forgery(ReasonCode.AUTHORITY_SIGNATURE_INVALID)
async def an_enrolled_key_whose_public_half_was_changed_in_the_database(attacker: Attacker) -> ReasonCode | None:
    what = await attacker.propose()
    return await attacker.send(what, signed(what, ("approver", SEED)))


@forgery(ReasonCode.AUTHORITY_SIGNATURE_INVALID)
async def a_roster_under_a_root_key_of_ones_own(attacker: Attacker) -> ReasonCode | None:
    return await attacker.install(own_roster(), ("root", SEED))


@forgery(ReasonCode.AUTHORITY_SIGNER_NOT_PERMITTED)
async def a_roster_under_an_approvers_key(attacker: Attacker) -> ReasonCode | None:
    return await attacker.install(own_roster(), APPROVER)


@forgery(ReasonCode.AUTHORITY_SIGNER_NOT_PERMITTED)
async def a_roster_under_nobodys_key(attacker: Attacker) -> ReasonCode | None:
    return await attacker.install(own_roster())


# a threshold


@forgery(ReasonCode.AUTHORITY_SIGNATURE_INVALID)
async def a_higher_threshold(attacker: Attacker) -> ReasonCode | None:
    return await attacker.install(own_roster("1000000000"), ("root", SEED))


@forgery(ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT)
async def fewer_approvals_than_are_due(attacker: Attacker) -> ReasonCode | None:
    what = await attacker.propose(LARGE)
    return await attacker.send(what, signed(what, APPROVER))


@forgery(ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT)
async def a_smaller_stated_notional(attacker: Attacker) -> ReasonCode | None:
    what = await attacker.propose(LARGE, notional_quote="1")
    return await attacker.send(what, signed(what, APPROVER))


# one signature shown where two are due


@forgery(ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT)
async def one_signature_twice(attacker: Attacker) -> ReasonCode | None:
    what = await attacker.propose(LARGE)
    return await attacker.send(what, signed(what, APPROVER) * 2)


@forgery(ReasonCode.AUTHORITY_SIGNATURE_INVALID)
async def one_signature_under_two_names(attacker: Attacker) -> ReasonCode | None:
    what = await attacker.propose(LARGE)
    return await attacker.send(what, signed(what, APPROVER, ("second", APPROVER_SEED)))


@forgery(ReasonCode.APPROVAL_SELF_NOT_COUNTED)
async def the_askers_own_as_the_second(attacker: Attacker) -> ReasonCode | None:
    what = await attacker.propose(LARGE, asker_id="user-trader")
    return await attacker.send(what, signed(what, APPROVER, TRADER))


@forgery(ReasonCode.AUTHORITY_SIGNATURE_INVALID)
async def the_second_signature_of_another_proposal(attacker: Attacker) -> ReasonCode | None:
    what, other = await attacker.propose(LARGE), await attacker.propose(LARGE)
    return await attacker.send(what, [*signed(what, APPROVER), *signed(other, SECOND)])


# a loosened limit


@forgery(ReasonCode.AUTHORITY_SIGNATURE_INVALID)
async def rules_under_a_root_key_of_ones_own(attacker: Attacker) -> ReasonCode | None:
    body = {"document": rules_document(max_notional_per_order_quote='"1000000000"')}
    return await attacker.administer("rules.install", body, ("root", SEED))


@forgery(ReasonCode.AUTHORITY_SIGNER_NOT_PERMITTED)
async def rules_under_an_approvers_key(attacker: Attacker) -> ReasonCode | None:
    body = {"document": rules_document(max_notional_per_order_quote='"1000000000"')}
    return await attacker.administer("rules.install", body, APPROVER)


@forgery(ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT)
async def rules_under_nobodys_key(attacker: Attacker) -> ReasonCode | None:
    body = {"document": rules_document(max_notional_per_order_quote='"1000000000"')}
    return await attacker.administer("rules.install", body)


@forgery(ReasonCode.AUTHORITY_SIGNATURE_INVALID)
async def a_thaw_under_a_root_key_of_ones_own(attacker: Attacker) -> ReasonCode | None:
    body = {"state": "NORMAL", "account_id": "", "reason": "calm again"}
    return await attacker.administer("thaw", body, ("root", SEED))


# an approval from elsewhere


@forgery(ReasonCode.AUTHORITY_WRONG_MODE)
async def an_approval_of_another_mode(attacker: Attacker) -> ReasonCode | None:
    what = await attacker.propose(mode="LIVE")
    return await attacker.send(what, signed(what, APPROVER))


@forgery(ReasonCode.AUTHORITY_WRONG_ENGINE)
async def an_approval_of_another_environment(attacker: Attacker) -> ReasonCode | None:
    what = await attacker.propose(environment="staging")
    return await attacker.send(what, signed(what, APPROVER))


@forgery(ReasonCode.AUTHORITY_WRONG_ENGINE)
async def an_approval_of_another_engine(attacker: Attacker) -> ReasonCode | None:
    what = await attacker.propose(engine_id="engine-2")
    return await attacker.send(what, signed(what, APPROVER))


@forgery(ReasonCode.AUTHORITY_SIGNER_NOT_PERMITTED)
async def an_approval_for_another_account(attacker: Attacker) -> ReasonCode | None:
    what = await attacker.propose(account_id="acct-other")
    return await attacker.send(what, signed(what, APPROVER))


# an edited proposal


@forgery(ReasonCode.APPROVAL_DIGEST_MISMATCH)
async def other_terms_under_the_old_digest(attacker: Attacker) -> ReasonCode | None:
    shown = await attacker.propose()
    other = msgspec.structs.replace(shown, side="SELL")
    return await attacker.send(other, signed(shown, APPROVER), proposal_digest(proposal_bytes(shown)))


@forgery(ReasonCode.AUTHORITY_SIGNATURE_INVALID)
async def other_terms_under_the_old_signature(attacker: Attacker) -> ReasonCode | None:
    shown = await attacker.propose()
    return await attacker.send(msgspec.structs.replace(shown, side="SELL"), signed(shown, APPROVER))


@forgery(ReasonCode.APPROVAL_VERSION_SUPERSEDED)
async def a_version_that_was_edited_since(attacker: Attacker) -> ReasonCode | None:
    shown = await attacker.propose()
    refusal = await attacker.client.void_approval(
        shown.suggestion_id, 1, account_id=ACCOUNT, requested_by="user-trader", reason="edited"
    )
    assert refusal is None
    return await attacker.send(shown, signed(shown, APPROVER))


@forgery(ReasonCode.AUTHORITY_PROPOSAL_MALFORMED)
async def an_approval_that_never_expires(attacker: Attacker) -> ReasonCode | None:
    what = await attacker.propose(expires_at_ns=str(1 << 62))
    return await attacker.send(what, signed(what, APPROVER))


@forgery(ReasonCode.APPROVAL_EXPIRED)
async def an_approval_that_was_kept_back(attacker: Attacker) -> ReasonCode | None:
    now_ns = (await attacker.client.status()).now_ns
    what = await attacker.propose(created_at_ns=str(now_ns - 61 * NS_PER_S), expires_at_ns=str(now_ns - NS_PER_S))
    return await attacker.send(what, signed(what, APPROVER))


# a passkey


@forgery(ReasonCode.AUTHORITY_SIGNATURE_INVALID)
async def a_passkeys_answer_to_another_challenge(attacker: Attacker) -> ReasonCode | None:
    what, other = await attacker.propose(), await attacker.propose()
    return await attacker.send(what, [("passkey", PASSKEY.approve(proposal_digest(proposal_bytes(other))))])


@forgery(ReasonCode.AUTHORITY_SIGNATURE_INVALID)
async def a_passkeys_answer_to_another_site(attacker: Attacker) -> ReasonCode | None:
    what = await attacker.propose()
    elsewhere = Authenticator(seed=PASSKEY_SEED, origin="https://evil.example")
    return await attacker.send(what, [("passkey", elsewhere.approve(proposal_digest(proposal_bytes(what))))])


@forgery(ReasonCode.AUTHORITY_SIGNATURE_INVALID)
async def somebody_elses_passkey(attacker: Attacker) -> ReasonCode | None:
    what = await attacker.propose()
    own = Authenticator(seed=PASSKEY_SEED + 1)
    return await attacker.send(what, [("passkey", own.approve(proposal_digest(proposal_bytes(what))))])


@forgery(ReasonCode.APPROVAL_CLI_KEY_REQUIRED)
async def a_passkey_for_more_than_passkeys_count_for(attacker: Attacker) -> ReasonCode | None:
    """What the browser showed can have been something else."""
    what = await attacker.propose("0.1", notional_quote="1")
    return await attacker.send(what, [("passkey", PASSKEY.approve(proposal_digest(proposal_bytes(what))))])


# other ways to an order


def _ticket() -> bytes:
    return ticket_bytes(
        OrderTicket(
            request_id=IDS.new_ulid(),
            account_id=ACCOUNT,
            venue="paper",
            symbol="BTCUSDT",
            side="BUY",
            order_type="MARKET",
            time_in_force="IOC",
            quantity=SMALL,
            price="",
        )
    )


@forgery(ReasonCode.AUTHORITY_SESSION_UNKNOWN)
async def a_ticket_of_a_session_that_only_the_database_knows(attacker: Attacker) -> ReasonCode | None:
    ticket = _ticket()
    signature = sign_bytes(SEED, ticket_message(ticket))
    try:
        outcome = await attacker.client.submit_order(ticket, SignedRequest(signature, session_id="ses-1"))
    except RefusalError as error:
        return error.refusal.code
    return code(outcome.refusal)


@forgery(ReasonCode.AUTHORITY_SIGNATURE_INVALID)
async def a_session_that_its_user_never_signed_in(attacker: Attacker) -> ReasonCode | None:
    status = await attacker.client.status()
    grant = SessionGrant(
        schema=SESSION_SCHEMA,
        session_id=IDS.new_ulid(),
        engine_id=status.engine_id,
        environment=status.environment,
        mode=status.mode,
        user_id="user-trader",
        public_key_hex=public_key_hex(SEED),
        account_ids=(ACCOUNT,),
        max_order_notional_quote="1000",
        max_total_notional_quote="1000",
        max_orders="1",
        issued_at_ns=str(status.now_ns),
        expires_at_ns=str(status.now_ns + NS_PER_S),
    )
    return code(await attacker.client.open_session(grant_bytes(grant), "trader", sign_session(SEED, grant)))


@forgery(ReasonCode.AUTHORITY_SIGNATURE_INVALID)
async def a_mandate_that_no_approver_signed(attacker: Attacker) -> ReasonCode | None:
    status = await attacker.client.status()
    mandate = Mandate(
        schema=MANDATE_SCHEMA,
        mandate_id=IDS.new_ulid(),
        engine_id=status.engine_id,
        environment=status.environment,
        mode=status.mode,
        account_id=ACCOUNT,
        strategy_id="grid",
        strategy_digest_hex="ab" * 32,
        public_key_hex=public_key_hex(SEED),
        venue="paper",
        symbols=("BTCUSDT",),
        max_order_notional_quote="1000",
        max_position_notional_quote="1000",
        max_total_notional_quote="1000",
        max_open_orders="1",
        issued_at_ns=str(status.now_ns),
        expires_at_ns=str(status.now_ns + NS_PER_S),
        asker_id="user-quant",
    )
    signatures = [("approver", sign_mandate(SEED, mandate))]
    return code(await attacker.client.install_mandate(mandate_bytes(mandate), signatures))


@forgery(ReasonCode.AUTHORITY_SIGNATURE_INVALID)
async def an_approvers_signature_of_another_kind_of_document(attacker: Attacker) -> ReasonCode | None:
    what = await attacker.propose()
    other = sign_administration(APPROVER_SEED, proposal_bytes(what))
    return await attacker.send(what, [("approver", other)])
