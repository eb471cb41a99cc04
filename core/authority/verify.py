"""Whether an approval gives the engine authority for one exact proposal (I2). Pure: the engine trusts no caller."""

from __future__ import annotations

import hmac
from collections.abc import Mapping, Sequence
from decimal import Context, Decimal

import msgspec

from core.authority.documents import CLOCK_SKEW_NS, EngineIdentity
from core.authority.proposal import parse_proposal, proposal_digest
from core.authority.proposal_kinds import AmendProposal, AnyProposal, BracketProposal, Proposal, Proposed
from core.authority.proposal_values import malformed
from core.authority.roster import cli_only_above, threshold_quote
from core.authority.signatures import verify_digest
from core.authority.webauthn import ED25519, WEBAUTHN, verify_assertion
from core.types.authority import SignatureRecord
from core.types.clock import NS_PER_S, format_utc_us
from core.types.codes import ReasonCode, Refusal, RefusalError
from core.types.events import Roster, RosterEntry
from core.types.money import decimal_text
from core.types.orders import Mode

SIGNATURES_LIMIT = 16
TWO_APPROVALS = 2
DECIMAL_LENGTH_LIMIT = 40
PROPOSAL_LONGEST_NS = 24 * 3600 * NS_PER_S
EXACT = Context(prec=4 * DECIMAL_LENGTH_LIMIT)


class Approved(msgspec.Struct, frozen=True):
    """An approval that holds: the proposal, its digest, and the signatures that count."""

    proposal: AnyProposal
    digest_hex: str
    signatures: tuple[SignatureRecord, ...]


def read_proposal(canonical: bytes) -> AnyProposal | Refusal:
    """parse_proposal as a value."""
    try:
        return parse_proposal(canonical)
    except RefusalError as error:
        return error.refusal
    except ValueError as error:
        return malformed(str(error)[:200])


def verify_approval(
    canonical: bytes,
    digest_hex: str,
    signatures: Sequence[tuple[str, bytes]],
    *,
    roster: Roster,
    identity: EngineIdentity,
    instrument_versions: Mapping[tuple[str, str], int],
    consumed: Mapping[str, int],
    now_ns: int,
    at_least: int = 1,
) -> Refusal | Approved:
    """Check an approval in a fixed order; the first failing check is the answer.

    signatures are (key id, Ed25519 signature or a passkey's assertion). instrument_versions is by (venue, symbol);
    consumed maps a suggestion to the version of it that was decided on; now_ns is the engine's clock, which never goes
    back; at_least is how many approvals the caller wants, where that is more than are due.
    """
    proposal = read_proposal(canonical)
    if isinstance(proposal, Refusal):
        return proposal
    actual_hex = proposal_digest(canonical)
    if not hmac.compare_digest(actual_hex.encode(), digest_hex.encode(errors="replace")):
        return Refusal(
            ReasonCode.APPROVAL_DIGEST_MISMATCH,
            "The digest isn't the one of these proposal bytes. Reload the suggestion and approve what it shows now.",
            limit=actual_hex,
            actual=digest_hex[:64],
            unit="sha256",
        )
    counted = check_identity(proposal, identity) or _check_signatures(
        proposal, digest_hex, signatures, roster, identity.mode
    )
    if isinstance(counted, Refusal):
        return counted
    return (
        approvals_due_problem(proposal, counted, roster, signed_notional_quote(proposal), at_least)
        or _check_single_use(proposal, consumed)
        or check_expiry(proposal, now_ns)
        or check_instrument(proposal, instrument_versions)
        or Approved(proposal, digest_hex, counted)
    )


def priced_terms(proposal: Proposed) -> tuple[Decimal, list[Decimal]] | None:
    """The quantity and the prices that are named for it; None where no order is asked for."""
    match proposal:
        case Proposal():
            quantity, named = proposal.quantity, [proposal.price, getattr(proposal, "stop_price", "")]
        case BracketProposal():
            quantity, named = proposal.quantity, [proposal.entry_limit_price, proposal.entry_trigger_price]
        case AmendProposal():
            quantity, named = proposal.new_quantity, [proposal.new_price]
        case _:
            return None
    return Decimal(quantity), [Decimal(text) for text in named if text]


def signed_notional_quote(proposal: Proposed) -> Decimal:
    """What the signed bytes put at stake, in the quote asset: the stated notional, or quantity x the highest price that
    they name where that is more. Nothing where no order is asked for."""
    terms = priced_terms(proposal)
    if terms is None or not isinstance(proposal, Proposal | BracketProposal | AmendProposal):
        return Decimal(0)
    quantity, named = terms
    price = max(named, default=Decimal(proposal.reference_price))
    return max(Decimal(proposal.notional_quote), EXACT.multiply(quantity, price))


def check_identity(proposal: Proposed, identity: EngineIdentity) -> Refusal | None:
    if (proposal.engine_id, proposal.environment) != (identity.engine_id, identity.environment):
        return Refusal(
            ReasonCode.AUTHORITY_WRONG_ENGINE,
            "The proposal is for another engine or environment. Ask for a new suggestion here.",
            limit=f"{identity.environment}/{identity.engine_id}",
            actual=f"{proposal.environment}/{proposal.engine_id}",
        )
    if proposal.mode != identity.mode:
        return Refusal(
            ReasonCode.AUTHORITY_WRONG_MODE,
            "The proposal is for another mode than this engine runs in. Ask for a new suggestion in this mode.",
            limit=identity.mode,
            actual=proposal.mode,
        )
    return None


def _check_signatures(
    proposal: Proposed, digest_hex: str, signatures: Sequence[tuple[str, bytes]], roster: Roster, mode: str
) -> Refusal | tuple[SignatureRecord, ...]:
    if len(signatures) > SIGNATURES_LIMIT:
        return malformed(f"{len(signatures)} signatures, the limit is {SIGNATURES_LIMIT}")
    entries = {entry.key_id: entry for entry in roster.entries}
    for key_id, _ in signatures:
        if key_id not in entries:
            return _signer(
                ReasonCode.AUTHORITY_SIGNER_UNKNOWN, key_id, "isn't in the engine's roster. Have it enrolled there"
            )
    for key_id, _ in signatures:
        if proposal.account_id not in entries[key_id].account_ids:
            return _signer(
                ReasonCode.AUTHORITY_SIGNER_NOT_PERMITTED,
                key_id,
                f"may not approve for account {proposal.account_id}. Ask an approver of that account",
            )
    for key_id, _ in signatures:
        if not entries[key_id].approves:
            return _signer(
                ReasonCode.AUTHORITY_SIGNER_NOT_PERMITTED,
                key_id,
                "signs sessions in and approves nothing. Ask an approver",
            )
    for key_id, _ in signatures:
        if entries[key_id].paper_only and mode != Mode.PAPER:
            return _signer(
                ReasonCode.AUTHORITY_KEY_PAPER_ONLY, key_id, "is accepted for paper only. Sign with an enrolled key"
            )
    for key_id, signature in signatures:
        if not _approves(entries[key_id], digest_hex, signature):
            return _signer(
                ReasonCode.AUTHORITY_SIGNATURE_INVALID, key_id, "didn't sign this digest. Sign the proposal shown again"
            )
    return tuple(_one_per_user(signatures, entries))


def _approves(entry: RosterEntry, digest_hex: str, signature: bytes) -> bool:
    if entry.kind == WEBAUTHN:
        return verify_assertion(entry, digest_hex, signature)
    return entry.kind == ED25519 and verify_digest(entry.public_key_hex, digest_hex, signature)


def _one_per_user(
    signatures: Sequence[tuple[str, bytes]], entries: Mapping[str, RosterEntry]
) -> tuple[SignatureRecord, ...]:
    """A person's key of the command line before their passkey: it counts for more."""
    records: dict[str, SignatureRecord] = {}
    for key_id, signature in sorted(signatures, key=lambda item: entries[item[0]].kind == WEBAUTHN):
        user_id = entries[key_id].user_id
        records.setdefault(user_id, SignatureRecord(key_id, user_id, signature.hex()))
    in_order = {entries[key_id].user_id: None for key_id, _ in signatures}
    return tuple(records[user_id] for user_id in in_order)


def _that_count(
    records: tuple[SignatureRecord, ...], roster: Roster, worth_quote: Decimal
) -> tuple[SignatureRecord, ...]:
    """Without passkeys, where the roster doesn't let them count: they sign a challenge, and not what is shown."""
    limit = cli_only_above(roster)
    if limit is not None and worth_quote <= limit:
        return records
    passkeys = {entry.key_id for entry in roster.entries if entry.kind == WEBAUTHN}
    return tuple(record for record in records if record.key_id not in passkeys)


def approvals_due(roster: Roster, worth_quote: Decimal, at_least: int = 1) -> int:
    """How many different people have to sign an order that is worth so much."""
    return max(at_least, TWO_APPROVALS if worth_quote > threshold_quote(roster) else 1)


def approvals_counted(proposal: Proposed, records: tuple[SignatureRecord, ...], roster: Roster) -> int:
    """How many people that is: beside another's, an author's own is nobody's, and a passkey where it doesn't count."""
    records = _that_count(records, roster, signed_notional_quote(proposal))
    others = sum(1 for record in records if record.user_id not in proposal.authors)
    return others if others else len(records)


def approvals_due_problem(
    proposal: Proposed,
    records: tuple[SignatureRecord, ...],
    roster: Roster,
    worth_quote: Decimal,
    at_least: int = 1,
) -> Refusal | None:
    """Whether these signatures, all valid, are enough for an order that is worth so much."""
    due = approvals_due(roster, worth_quote, at_least)
    given, records = len(records), _that_count(records, roster, worth_quote)
    others = sum(1 for record in records if record.user_id not in proposal.authors)
    # Where two are due, an author's own never makes up the number: it would be one pair of eyes twice.
    counted = others if due > 1 else len(records)
    if counted >= due:
        return None
    if len(records) < given:
        limit = cli_only_above(roster)
        return Refusal(
            ReasonCode.APPROVAL_CLI_KEY_REQUIRED,
            "A passkey signs a challenge and not what is shown, so it doesn't count for this. Approve it with "
            "`veloz approve`, which shows the bytes that it signs.",
            limit="0" if limit is None else decimal_text(limit),
            actual=decimal_text(worth_quote),
            unit="quote",
        )
    detail = {"limit": str(due), "actual": str(counted), "unit": "approvals"}
    if len(records) >= due or (records and not others):
        return Refusal(
            ReasonCode.APPROVAL_SELF_NOT_COUNTED,
            "The asker's own approval doesn't count where two are due, nor that of who edited it. Another approver "
            "must sign.",
            **detail,
        )
    return Refusal(
        ReasonCode.APPROVAL_SIGNATURES_INSUFFICIENT,
        f"{due} approvals by different people are due, above {decimal_text(threshold_quote(roster))} quote or where "
        "the policy asks for them. Have another approver sign."
        if due > 1
        else "No approval that counts came with the proposal. An approver must sign it.",
        **detail,
    )


def _check_single_use(proposal: Proposed, consumed: Mapping[str, int]) -> Refusal | None:
    version = consumed.get(proposal.suggestion_id)
    if version is None:
        return None
    if version > int(proposal.version):
        return Refusal(
            ReasonCode.APPROVAL_VERSION_SUPERSEDED,
            "A later version of this suggestion was already used. Look at its order, or ask for a new suggestion.",
            limit=str(version),
            actual=proposal.version,
            unit="version",
        )
    return Refusal(
        ReasonCode.APPROVAL_ALREADY_CONSUMED,
        "This suggestion was already used, once and for all. Look at its order, or ask for a new suggestion.",
        limit=str(version),
        actual=proposal.version,
        unit="version",
    )


def check_expiry(proposal: Proposed, now_ns: int) -> Refusal | None:
    """A proposal holds from when it was made until it expires, and never for long: who keeps it back, signed, must not
    be able to wait for the market that suits them."""
    created_ns = int(proposal.created_at_ns)
    if created_ns > now_ns + CLOCK_SKEW_NS:
        return malformed(f"created_at_ns lies ahead of the engine's clock, {format_utc_us(now_ns)}")
    if not 0 < proposal.expires_ns - created_ns <= PROPOSAL_LONGEST_NS:
        return malformed(f"it must expire within {PROPOSAL_LONGEST_NS // NS_PER_S} s after it was made")
    if now_ns < proposal.expires_ns:
        return None
    return Refusal(
        ReasonCode.APPROVAL_EXPIRED,
        "The suggestion expired before its approval arrived. Ask for a new one.",
        limit=proposal.expires_at_ns,
        actual=str(now_ns),
        unit=f"ns, now {format_utc_us(now_ns)}",
    )


def check_figures(proposal: Proposed, now_ns: int, max_age_ns: int) -> Refusal | None:
    """What was shown is good for a while only, by this clock: who approves later approves figures that nobody saw. A
    safety command shows none, and can only reduce."""
    if not isinstance(proposal, Proposal | BracketProposal | AmendProposal):
        return None
    age_ns = now_ns - int(proposal.created_at_ns)
    if age_ns <= max_age_ns:
        return None
    return Refusal(
        ReasonCode.APPROVAL_FIGURES_STALE,
        "What was shown is too old to be approved. Nothing was done; look at a new version's figures, and sign that.",
        limit=str(max_age_ns // NS_PER_S),
        actual=str(age_ns // NS_PER_S),
        unit="s",
    )


def check_instrument(proposal: Proposed, versions: Mapping[tuple[str, str], int]) -> Refusal | None:
    if not isinstance(proposal, Proposal | BracketProposal | AmendProposal):
        return None
    version = versions.get((proposal.venue, proposal.symbol))
    if version is None:
        return Refusal(
            ReasonCode.MARKET_INSTRUMENT_UNKNOWN,
            f"This engine doesn't trade {proposal.symbol} at {proposal.venue}. Choose one of its instruments.",
            actual=f"{proposal.venue}/{proposal.symbol}",
        )
    if str(version) != proposal.instrument_version:
        return Refusal(
            ReasonCode.AUTHORITY_INSTRUMENT_VERSION_STALE,
            f"The rules of {proposal.symbol} changed since the proposal. Ask for a new suggestion.",
            limit=str(version),
            actual=proposal.instrument_version,
            unit="version",
        )
    return None


def _signer(code: ReasonCode, key_id: str, what: str) -> Refusal:
    return Refusal(code, f"Key {key_id[:64]!r} {what}.", actual=key_id[:64])
