"""What the engine decides about sessions, mandates and administration. Pure; a Refusal means that nothing happened."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from core.authority.administration import Administration, verify_administration
from core.authority.documents import EngineIdentity, malformed, signed_message
from core.authority.mandate import mandate_approvals_problem, mandate_refusal, verify_mandate
from core.authority.roster import RosterError, parse_signed_roster, stands
from core.authority.session import (
    REQUEST_DOMAIN_TAG,
    session_limit_refusal,
    verify_session_grant,
    verify_session_request,
)
from core.kernel.decide_risk import decide_rollback, decide_rules
from core.kernel.kernel import Kernel
from core.orders.machine import Order
from core.portfolio.positions import Position
from core.risk.inputs import EXACT
from core.risk.kill_switch import KillSwitch
from core.risk.losses import loss_reason
from core.types.authority import MandateAuthority, SessionAuthority
from core.types.codes import ReasonCode, Refusal
from core.types.events import (
    EquityObserved,
    FreezeChanged,
    JournalEvent,
    KillSwitchChanged,
    MandateInstalled,
    MandateRevoked,
    Roster,
    RosterInstalled,
    SessionClosed,
    SessionOpened,
)
from core.types.orders import OrderIntent, Side

SESSIONS_LIMIT = 1_000
MANDATES_LIMIT = 1_000
"""In force at once."""
GRANTS_REMEMBERED_LIMIT = 20_000
"""Sessions, and mandates, that are remembered, so that their ids aren't used again: those that are over among them."""
VERSION_LENGTH_LIMIT = 18


def identity_of(kernel: Kernel) -> EngineIdentity:
    return EngineIdentity(kernel.engine_id, kernel.environment, kernel.mode)


def decide_session_open(
    kernel: Kernel, canonical: bytes, key_id: str, signature: bytes, now_ns: int
) -> Refusal | tuple[SessionOpened, ...]:
    """A session signed in by its user's enrolled key; a session id is used once."""
    verified = verify_session_grant(
        canonical, key_id, signature, roster=kernel.roster, identity=identity_of(kernel), now_ns=now_ns
    )
    if isinstance(verified, Refusal):
        return verified
    if verified.grant.session_id in kernel.sessions:
        return _replayed(verified.grant.session_id)
    in_force = sum(1 for known in kernel.sessions.values() if not known.closed and now_ns < known.expires_ns)
    full = _too_many("sessions", in_force, SESSIONS_LIMIT, len(kernel.sessions))
    if full is not None:
        return full
    return (SessionOpened(ts_ns=now_ns, grant=verified.grant, signature=verified.signature),)


def decide_session_close(
    kernel: Kernel, session_id: str, requested_by: str, reason: str, now_ns: int
) -> Refusal | tuple[SessionClosed, ...]:
    """Safety: anybody authenticated may close one. Its orders stay; cancel them apart."""
    session = kernel.sessions.get(session_id)
    if session is None:
        return Refusal(
            ReasonCode.AUTHORITY_SESSION_UNKNOWN, f"There is no session {session_id[:64]}.", actual=session_id[:64]
        )
    if session.closed:
        return ()
    return (SessionClosed(ts_ns=now_ns, session_id=session_id, requested_by=requested_by, reason=reason),)


def decide_mandate(
    kernel: Kernel, canonical: bytes, signatures: Sequence[tuple[str, bytes]], now_ns: int
) -> Refusal | tuple[MandateInstalled, ...]:
    """A mandate that its approvers have signed; a mandate id is used once."""
    verified = verify_mandate(
        canonical, list(signatures), roster=kernel.roster, identity=identity_of(kernel), now_ns=now_ns
    )
    if isinstance(verified, Refusal):
        return verified
    if verified.mandate.mandate_id in kernel.mandates:
        return _replayed(verified.mandate.mandate_id)
    in_force = sum(1 for known in kernel.mandates.values() if not known.revoked and now_ns < known.expires_ns)
    full = _too_many("mandates", in_force, MANDATES_LIMIT, len(kernel.mandates))
    if full is not None:
        return full
    return (
        MandateInstalled(
            ts_ns=now_ns,
            mandate=verified.mandate,
            digest_hex=verified.digest_hex,
            signatures=verified.signatures,
        ),
    )


def unknown_mandate(mandate_id: str) -> Refusal:
    return Refusal(
        ReasonCode.AUTHORITY_MANDATE_UNKNOWN, f"There is no mandate {mandate_id[:64]}.", actual=mandate_id[:64]
    )


def decide_mandate_revoke(
    kernel: Kernel, mandate_id: str, requested_by: str, reason: str, now_ns: int
) -> Refusal | tuple[MandateRevoked, ...]:
    """Safety: taking a mandate away only reduces."""
    mandate = kernel.mandates.get(mandate_id)
    if mandate is None:
        return unknown_mandate(mandate_id)
    if mandate.revoked:
        return ()
    return (MandateRevoked(ts_ns=now_ns, mandate_id=mandate_id, requested_by=requested_by, reason=reason),)


def decide_administration(
    kernel: Kernel,
    canonical: bytes,
    signatures: Sequence[tuple[str, bytes]],
    root_public_key_hex: str,
    now_ns: int,
) -> Refusal | tuple[JournalEvent, ...]:
    """Carry out a signed document, once."""
    verified = verify_administration(
        canonical,
        signatures,
        roster=kernel.roster,
        root_public_key_hex=root_public_key_hex,
        engine_id=kernel.engine_id,
        mode=kernel.mode,
        used=kernel.documents,
        now_ns=now_ns,
    )
    if isinstance(verified, Refusal):
        return verified
    match verified.document.kind:
        case "rules.install":
            return decide_rules(kernel, verified.document.body["document"], verified.authority, now_ns)
        case "rules.rollback":
            return _rollback(kernel, verified, now_ns)
        case "thaw":
            return _thaw(kernel, verified, now_ns)
        case "unfreeze":
            return _unfreeze(kernel, verified, now_ns)
        case "mandate.revoke":
            return _revoke(kernel, verified, now_ns)
        case "roster.install":
            return _install_roster(kernel, verified, root_public_key_hex, now_ns)
        case kind:
            return malformed(f"kind {kind} can't be carried out by this release")


def session_refusal(
    kernel: Kernel,
    authority: SessionAuthority,
    request_bytes: bytes,
    account_id: str,
    notional_quote: Decimal | None,
    now_ns: int,
) -> Refusal | None:
    """Whether the session's key signed this request and may ask for it; notional_quote is None for what adds none."""
    session = kernel.sessions.get(authority.session_id)
    refusal = verify_session_request(
        session, authority, signed_message(REQUEST_DOMAIN_TAG, request_bytes), account_id, now_ns
    )
    if refusal is not None or notional_quote is None:
        return refusal
    assert session is not None
    return session_limit_refusal(session, notional_quote)


def mandate_order_refusal(
    kernel: Kernel,
    authority: MandateAuthority,
    intent: OrderIntent,
    notional_quote: Decimal,
    now_ns: int,
    *,
    added_quote: Decimal | None = None,
    amends: Order | None = None,
) -> Refusal | None:
    """Whether the strategy's mandate covers this order, of which intent.quantity may still fill. notional_quote is what
    the whole order is worth; added_quote what it adds to the mandate's total, all of it by default; amends the order as
    it rests, whose place this takes."""
    if authority.strategy_id != intent.strategy_id:
        return Refusal(
            ReasonCode.AUTHORITY_MANDATE_LIMIT_EXCEEDED,
            "The order names another strategy than the mandate's. Ask under the mandate of that strategy.",
            limit=authority.strategy_id[:64],
            actual=intent.strategy_id[:64],
        )
    key = (intent.account_id, intent.venue, intent.symbol, intent.strategy_id)
    held = kernel.strategy_positions.get(key, Position()).quantity
    buys, sells = kernel.exposure.of_strategy(*key)
    more = intent.quantity
    if amends is not None and not amends.status.is_final:
        # Where it rests it is counted already; an amendment is of the same side.
        more -= amends.remaining_quantity
    buys += more if intent.side is Side.BUY else 0
    sells += more if intent.side is Side.SELL else 0
    worst = max(abs(held + buys), abs(held - sells))
    whole = intent.quantity + (0 if amends is None else amends.filled_quantity)
    return mandate_refusal(
        kernel.mandates.get(authority.mandate_id),
        mandate_id=authority.mandate_id,
        strategy_id=intent.strategy_id,
        account_id=intent.account_id,
        venue=intent.venue,
        symbol=intent.symbol,
        notional_quote=notional_quote,
        added_quote=notional_quote if added_quote is None else added_quote,
        position_notional_quote=notional_quote
        if worst == whole
        else EXACT.divide(EXACT.multiply(notional_quote, Decimal(worst)), Decimal(whole)),
        open_orders=(0 if amends is not None else 1) + kernel.exposure.orders_of_mandate(authority.mandate_id),
        now_ns=now_ns,
    )


def amended_quote(order: Order, notional_quote: Decimal, amended: OrderIntent) -> Decimal:
    """By how much an amendment makes the order worth more; notional_quote is what all of it would be worth."""
    before = Decimal(order.intent.quantity * (order.intent.price or 0))
    after = Decimal(amended.quantity * (amended.price or 0))
    if after <= before:
        return Decimal(0)
    return EXACT.divide(EXACT.multiply(notional_quote, EXACT.subtract(after, before)), after)


def amend_limit_refusal(
    kernel: Kernel,
    order: Order,
    rest: OrderIntent,
    authority: SessionAuthority | MandateAuthority,
    notional_quote: Decimal,
    added_quote: Decimal,
    now_ns: int,
) -> Refusal | None:
    """Whether who asks may make the order so. A session may lower what it couldn't have asked for."""
    if isinstance(authority, MandateAuthority):
        return mandate_order_refusal(
            kernel, authority, rest, notional_quote, now_ns, added_quote=added_quote, amends=order
        )
    if not added_quote:
        return None
    return session_limit_refusal(kernel.sessions[authority.session_id], notional_quote, added_quote)


def ended_by_roster(kernel: Kernel, roster: Roster, now_ns: int) -> tuple[JournalEvent, ...]:
    """What a new roster takes away: sessions whose key is gone or may no longer sign for their accounts, and mandates
    that those who are left, under the threshold that holds now, wouldn't have given."""
    before, mode = kernel.roster, kernel.mode
    requested_by, reason = f"roster:{roster.version}", "who signed it in may no longer do so"
    closed = tuple(
        SessionClosed(ts_ns=now_ns, session_id=session_id, requested_by=requested_by, reason=reason)
        for session_id, session in kernel.sessions.items()
        if not session.closed and not stands(before, roster, session.key_id, session.grant.account_ids, mode)
    )
    approvers = {entry.key_id for entry in roster.entries if entry.approves}
    revoked: list[JournalEvent] = []
    for mandate_id, state in kernel.mandates.items():
        account_ids = (state.mandate.account_id,)
        left = tuple(
            record
            for record in state.signatures
            if record.key_id in approvers and stands(before, roster, record.key_id, account_ids, mode)
        )
        if not state.revoked and mandate_approvals_problem(state.mandate, left, roster) is not None:
            reason = "those who approved it and still may are too few"
            revoked.append(
                MandateRevoked(ts_ns=now_ns, mandate_id=mandate_id, requested_by=requested_by, reason=reason)
            )
    return (*closed, *revoked)


def _rollback(kernel: Kernel, verified: Administration, now_ns: int) -> Refusal | tuple[JournalEvent, ...]:
    version = verified.document.body["version"]
    if not version.isascii() or not version.isdigit() or len(version) > VERSION_LENGTH_LIMIT:
        return malformed("version must be a whole number; 0 is the one before this")
    return decide_rollback(kernel, int(version), verified.authority, now_ns)


def _measured_anew(kernel: Kernel, state: KillSwitch, account_id: str, now_ns: int) -> tuple[EquityObserved, ...]:
    """What the thaw of an account makes of a loss that is beyond its limit: whoever signed it has looked at that, and
    it is measured from here on. Else it would throw the switch again at once, a drawdown for ever."""
    known, rules = kernel.equity.get(account_id), kernel.rules
    if state is not KillSwitch.NORMAL or known is None or rules is None:
        return ()
    if loss_reason(known, rules.limits_for(account_id, "", "")) is None:
        return ()
    return (msgspec.structs.replace(known, ts_ns=now_ns, day_start_equity=known.equity, peak_equity=known.equity),)


def _thaw(kernel: Kernel, verified: Administration, now_ns: int) -> Refusal | tuple[JournalEvent, ...]:
    body = verified.document.body
    account_id = body["account_id"]
    try:
        state = KillSwitch(body["state"])
    except ValueError:
        return malformed(f"state must be one of {', '.join(KillSwitch)}")
    switch = kernel.account_switches.get(account_id) if account_id else None
    changed_ns = kernel.kill_switch_changed_ns if not account_id else switch.changed_ns if switch else 0
    if verified.issued_ns <= changed_ns:
        # A thaw made before the switch was thrown doesn't speak of what made somebody throw it.
        return Refusal(
            ReasonCode.AUTHORITY_DOCUMENT_REPLAYED,
            "The kill switch changed after this document was made. Make and sign a new one.",
            limit=str(changed_ns),
            actual=str(verified.issued_ns),
            unit="ns",
        )
    return (
        KillSwitchChanged(
            ts_ns=now_ns,
            state=state,
            requested_by=_requested_by(verified),
            reason=body["reason"],
            account_id=account_id,
            authority=verified.authority,
        ),
        *_measured_anew(kernel, state, account_id, now_ns),
    )


def _unfreeze(kernel: Kernel, verified: Administration, now_ns: int) -> Refusal | tuple[FreezeChanged, ...]:
    account_id = verified.document.body["account_id"]
    if account_id not in kernel.frozen:
        return malformed(f"account {account_id[:64]} isn't frozen")
    return (
        FreezeChanged(
            ts_ns=now_ns,
            account_id=account_id,
            frozen=False,
            reason=verified.document.body["reason"],
            authority=verified.authority,
        ),
    )


def _revoke(kernel: Kernel, verified: Administration, now_ns: int) -> Refusal | tuple[MandateRevoked, ...]:
    body = verified.document.body
    decided = decide_mandate_revoke(kernel, body["mandate_id"], _requested_by(verified), body["reason"], now_ns)
    if isinstance(decided, Refusal):
        return decided
    return tuple(msgspec.structs.replace(event, authority=verified.authority) for event in decided)


def _install_roster(
    kernel: Kernel, verified: Administration, root_public_key_hex: str, now_ns: int
) -> Refusal | tuple[JournalEvent, ...]:
    body = verified.document.body
    content = msgspec.json.encode(
        {"roster": msgspec.Raw(body["roster"].encode()), "signature_hex": body["signature_hex"]}
    )
    try:
        signed = parse_signed_roster(content, "roster.install", root_public_key_hex)
    except RosterError as error:
        return malformed(str(error)[:512])
    if signed.roster.version <= kernel.roster.version:
        return malformed(
            f"roster version {signed.roster.version} isn't above {kernel.roster.version}, which is in force"
        )
    return (
        RosterInstalled(
            ts_ns=now_ns,
            roster=signed.roster,
            signature_hex=signed.signature_hex,
            authority=verified.authority,
        ),
        *ended_by_roster(kernel, signed.roster, now_ns),
    )


def _requested_by(verified: Administration) -> str:
    signers = ",".join(record.user_id for record in verified.authority.signatures)
    return f"{signers}:{verified.document.requested_by}"


def _replayed(document_id: str) -> Refusal:
    return Refusal(
        ReasonCode.AUTHORITY_DOCUMENT_REPLAYED,
        "A document with this id was used already. Make and sign one with a new id.",
        actual=document_id[:64],
    )


def _too_many(what: str, in_force: int, limit: int, remembered: int) -> Refusal | None:
    """What is over doesn't count against what is in force; it only takes memory, until a day after it has expired."""
    if in_force >= limit:
        message = f"{limit} {what} are in force already; close one, or wait until one expires."
        return Refusal(
            ReasonCode.SERVICE_OVERLOADED, message, limit=str(limit), actual=str(in_force), unit=f"{what} in force"
        )
    if remembered >= GRANTS_REMEMBERED_LIMIT:
        message = f"{remembered} {what} are remembered; wait until some have been over for a day."
        return Refusal(
            ReasonCode.SERVICE_OVERLOADED,
            message,
            limit=str(GRANTS_REMEMBERED_LIMIT),
            actual=str(remembered),
            unit=f"{what} remembered",
        )
    return None
