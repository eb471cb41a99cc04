"""What the engine has decided or learnt: the records of its journal.

Events are facts. Replaying them rebuilds the kernel's state and decides nothing again, so each decision carries the
market inputs that it was made on. A new field gets a default; a field is never renamed or reused: journals of every
release are replayed. Numbers are ints at the instrument's scales, which intents and instruments carry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import msgspec

from core.types.authority import (
    AdministrationAuthority,
    Authority,
    Mandate,
    SafetyAuthority,
    SessionGrant,
    SignatureRecord,
)
from core.types.codes import Refusal
from core.types.instruments import Instrument
from core.types.orders import OrderIntent, OrderStatus, Side


class Event(msgspec.Struct, frozen=True, tag_field="kind", kw_only=True, omit_defaults=False, gc=False):
    """Common to all: the engine's clock, and the trace that caused it (None for the engine's own doing).

    Events hold nothing that holds them: the garbage collector needn't look through them.
    """

    ts_ns: int
    trace_id: str | None = None


class EngineStarted(Event, frozen=True, tag="engine_started"):
    """A new epoch: every start of the engine process opens one."""

    engine_id: str
    epoch: int
    environment: str
    mode: str
    software_version: str


class InstrumentsLoaded(Event, frozen=True, tag="instruments_loaded"):
    instruments: tuple[Instrument, ...]


class RosterEntry(msgspec.Struct, frozen=True):
    """An enrolled key: Ed25519 public key in hex, for which accounts, and whether for paper only. administers names the
    kinds of administration that it may sign. Without approves it signs its user's own sessions in, and approves
    neither proposals nor mandates.

    A passkey (kind webauthn) approves suggestions and nothing else: algorithm says what public_key_hex is of, rp_id and
    origins at which site it may be used; credential_id_hex is by what the browser finds it."""

    key_id: str
    user_id: str
    public_key_hex: str
    account_ids: tuple[str, ...]
    paper_only: bool
    administers: tuple[str, ...] = ()
    approves: bool = True
    kind: str = "ed25519"
    algorithm: str = ""
    rp_id: str = ""
    origins: tuple[str, ...] = ()
    credential_id_hex: str = ""


class Roster(msgspec.Struct, frozen=True):
    """Who may approve, above which notional two signatures are due, and above which passkeys don't count, where it is
    empty for nothing. Signed by the root key."""

    version: int
    entries: tuple[RosterEntry, ...]
    two_approvals_above_quote: str
    cli_only_above_quote: str = ""


class RosterInstalled(Event, frozen=True, tag="roster_installed"):
    """signature_hex is the root key's Ed25519 signature over the roster's canonical bytes."""

    roster: Roster
    signature_hex: str
    authority: AdministrationAuthority | None = None


class RiskLimits(msgspec.Struct, frozen=True):
    """The limits in force. Every one is required: none defaults to no limit (I11)."""

    max_notional_per_order_quote: str
    price_collar_bps: int
    max_deviation_bps: int
    book_stale_after_ms: int


class RiskLimitsInstalled(Event, frozen=True, tag="risk_limits_installed"):
    version: int
    digest_hex: str
    limits: RiskLimits


class RiskRulesInstalled(Event, frozen=True, tag="risk_rules_installed"):
    """The rules in force from here on: document is the whole risk.toml as it was validated.

    rolled_back_to names the earlier version whose document this is; authority is None for what the engine's own file
    held at its start.
    """

    version: int
    digest_hex: str
    document: str
    authority: AdministrationAuthority | None = None
    rolled_back_to: int | None = None


RULE_NOT_MET = "doesn't apply"
"""The `actual` of a custom rule that isn't met; of one that is, it is the rule's message."""


class RiskCheckRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One check as it was made: name is the ReasonCode that it refuses with, source the level whose limit was the
    tightest (`global`, `desk:<id>`, `account:<id>`, `strategy:<id>`, `symbol:<name>`, `rule:<name>`, `instrument`).

    In a record it is its values in this order, without their names: an order has two dozen of them.
    """

    name: str
    passed: bool
    limit: str | None = None
    actual: str | None = None
    unit: str | None = None
    source: str | None = None


def checks_by_name(checks: Sequence[RiskCheckRecord]) -> list[dict[str, Any]]:
    """For those who read them without this module: each value under its name."""
    return [msgspec.structs.asdict(check) for check in checks]


_CHECKS: msgspec.json.Decoder[tuple[RiskCheckRecord, ...]] = msgspec.json.Decoder(tuple[RiskCheckRecord, ...])


class RenderedChecks(Sequence[RiskCheckRecord]):
    """Checks as the JSON that they are written as. They become records when somebody looks, which the one who decides
    seldom does; equal to a tuple of the same records."""

    __slots__ = ("_records", "json")

    def __init__(self, json: bytes) -> None:
        self.json = json
        self._records: tuple[RiskCheckRecord, ...] | None = None

    def _made(self) -> tuple[RiskCheckRecord, ...]:
        if self._records is None:
            self._records = _CHECKS.decode(self.json)
        return self._records

    def __len__(self) -> int:
        return len(self._made())

    def __getitem__(self, index: Any) -> Any:
        return self._made()[index]

    def __iter__(self) -> Iterator[RiskCheckRecord]:
        return iter(self._made())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, RenderedChecks):
            return self.json == other.json
        return self._made() == other

    def __hash__(self) -> int:
        return hash(self._made())

    def __repr__(self) -> str:
        return repr(self._made())


def rendered_checks(json: bytes) -> tuple[RiskCheckRecord, ...]:
    """A sequence that is used as the tuple that it stands for. json: an array, as encode_event would write it."""
    return cast(tuple[RiskCheckRecord, ...], RenderedChecks(json))


class MarketInputs(msgspec.Struct, frozen=True, gc=False):
    """The market that a decision was made on, as decimal text; book_age_ms is how old the book was."""

    bid_price: str | None
    ask_price: str | None
    mid_price: str | None
    book_state: str
    book_update_id: int
    book_age_ms: int
    last_price: str | None = None
    mark_price: str | None = None


class OrderIntended(Event, frozen=True, tag="order_intended"):
    """An order under any authority but an approval, decided and durable before the wire (I4).

    is_held: it waits here (a trigger the engine watches, or a bracket child whose parent has not filled). group_id ties
    legs of which one cancels the other; role tells which it is (`entry`, `take_profit`, `stop`); replaces names
    the order whose amendment this is. notional_quote is what risk valued it at, as decimal text.
    """

    intent: OrderIntent
    authority: Authority
    notional_quote: str
    rules_version: int
    market: MarketInputs
    checks: tuple[RiskCheckRecord, ...]
    is_held: bool = False
    group_id: str | None = None
    role: str | None = None
    parent_id: str | None = None
    replaces: str | None = None


class OrderRefused(Event, frozen=True, tag="order_refused"):
    """Asked for under a session or a mandate and refused by risk: nothing was sent. request is the JSON of an
    OrderRequest or an AmendRequest."""

    account_id: str
    venue: str
    symbol: str
    request: str
    authority: Authority
    rules_version: int
    market: MarketInputs
    checks: tuple[RiskCheckRecord, ...]
    refusal: Refusal


class TriggerReached(Event, frozen=True, tag="trigger_reached"):
    """A held order's condition came true, at the last trade's price: it goes to the venue as soon as the orders that it
    takes the place of are off the book there, wherever the price goes meanwhile."""

    client_order_id: str
    trigger_price: int


class OrderTriggered(Event, frozen=True, tag="order_triggered"):
    """Risk let a held order through: it goes to the venue now, a STOP or TAKE_PROFIT as MARKET, the _LIMIT ones as
    LIMIT. trigger_price is the last trade's price at that moment, at price_scale."""

    client_order_id: str
    trigger_price: int
    market: MarketInputs
    checks: tuple[RiskCheckRecord, ...]
    rules_version: int = 0


class OrderTrailed(Event, frozen=True, tag="order_trailed"):
    """The best price that a held trailing stop has seen, at price_scale."""

    client_order_id: str
    extreme_price: int


class OrderArmed(Event, frozen=True, tag="order_armed"):
    """A held child may act from now on, for what its parent has filled; quantity at quantity_scale."""

    client_order_id: str
    quantity: int


class OrderAmendRequested(Event, frozen=True, tag="order_amend_requested"):
    """Decided and durable before the wire. quantity is the new total quantity, price the new limit price; added_quote
    what the order is worth more by it, and its authority may spend less."""

    client_order_id: str
    quantity: int
    price: int | None
    authority: Authority
    rules_version: int
    market: MarketInputs
    checks: tuple[RiskCheckRecord, ...]
    added_quote: str = "0"


class OrderAmended(Event, frozen=True, tag="order_amended"):
    """The venue shows the order with this total quantity and limit price."""

    client_order_id: str
    quantity: int
    price: int | None


class OrderAmendRefused(Event, frozen=True, tag="order_amend_refused"):
    """The amendment did not happen; the order stands as it was."""

    client_order_id: str
    refusal: Refusal


class OrderAdopted(Event, frozen=True, tag="order_adopted"):
    """Open at the venue and unknown here: it counts from now on, and can be cancelled. Its fills follow as fills."""

    intent: OrderIntent
    venue_order_id: str
    authority: Authority
    notional_quote: str


class OrderAccepted(Event, frozen=True, tag="order_accepted"):
    client_order_id: str
    venue_order_id: str


class OrderRejected(Event, frozen=True, tag="order_rejected"):
    """The venue said no, or proved that the order never reached it."""

    client_order_id: str
    refusal: Refusal


class OrderBecameUnknown(Event, frozen=True, tag="order_became_unknown"):
    """Sent without an answer (I5): its exposure stays reserved until the venue says what became of it."""

    client_order_id: str
    detail: str


class PositionSnapshot(msgspec.Struct, frozen=True):
    """A position after a fill. quantity at quantity_scale, average_price at price_scale (rounded half even, zero when
    flat), realised_pnl and fees at notional scale, over the position's whole life."""

    quantity: int
    average_price: int
    realised_pnl: int
    fees: int


class ClosedPosition(msgspec.Struct, frozen=True):
    """A position that went back to zero: what a trade review is about. Amounts at notional scale."""

    position_id: str
    side: Side
    max_quantity: int
    entry_average_price: int
    exit_average_price: int
    realised_pnl: int
    fees: int
    opened_ns: int
    closed_ns: int
    client_order_ids: tuple[str, ...]


class OrderFilled(Event, frozen=True, tag="order_filled"):
    """A fill as the venue reported it, idempotent by (symbol, trade_id), and the position after it.

    price at price_scale, quantity at quantity_scale; fee is decimal text in fee_asset, fee_quote at notional scale.
    inferred marks a fill that reconciliation derived because the venue no longer shows it.
    """

    account_id: str
    venue: str
    symbol: str
    client_order_id: str
    venue_order_id: str
    trade_id: int
    side: Side
    price: int
    quantity: int
    price_scale: int
    quantity_scale: int
    fee: str
    fee_asset: str
    fee_quote: int
    is_maker: bool
    venue_ts_ns: int
    status: OrderStatus
    position: PositionSnapshot
    closed: ClosedPosition | None = None
    inferred: bool = False


class OrderClosed(Event, frozen=True, tag="order_closed"):
    """Canceled or expired at the venue, with what remained unfilled."""

    client_order_id: str
    status: OrderStatus
    reason: str


class CancelRequested(Event, frozen=True, tag="cancel_requested"):
    """A safety command: authenticated, no approval; can only reduce."""

    client_order_id: str
    requested_by: str


class KillSwitchChanged(Event, frozen=True, tag="kill_switch_changed"):
    """account_id is empty for the whole engine. authority is that of a thaw; None for tightening."""

    state: str
    requested_by: str
    reason: str
    account_id: str = ""
    authority: AdministrationAuthority | SafetyAuthority | None = None


class FreezeChanged(Event, frozen=True, tag="freeze_changed"):
    """An account whose books don't agree with the venue takes no new orders until they do."""

    account_id: str
    frozen: bool
    reason: str
    authority: AdministrationAuthority | None = None


class SessionOpened(Event, frozen=True, tag="session_opened"):
    grant: SessionGrant
    signature: SignatureRecord


class SessionClosed(Event, frozen=True, tag="session_closed"):
    session_id: str
    requested_by: str
    reason: str


class MandateInstalled(Event, frozen=True, tag="mandate_installed"):
    mandate: Mandate
    digest_hex: str
    signatures: tuple[SignatureRecord, ...]


class MandateRevoked(Event, frozen=True, tag="mandate_revoked"):
    mandate_id: str
    requested_by: str
    reason: str
    authority: AdministrationAuthority | None = None


class BalancesObserved(Event, frozen=True, tag="balances_observed"):
    """What the venue said the account holds, free and locked together: asset to decimal text, at as_of_ns.

    fills_through_ns: every fill up to this time of the venue's is in the journal ahead of this record; 0 in journals of
    earlier releases.
    """

    account_id: str
    venue: str
    totals: dict[str, str]
    as_of_ns: int
    fills_through_ns: int = 0


class FundingSettled(Event, frozen=True, tag="funding_settled"):
    """Funding of a perpetual: amount is decimal text in asset, negative when it was paid."""

    account_id: str
    venue: str
    symbol: str
    transaction_id: str
    amount: str
    asset: str
    venue_ts_ns: int


class EquityObserved(Event, frozen=True, tag="equity_observed"):
    """What daily loss and drawdown are measured from, as decimal text in the reporting currency.

    day is the account's own calendar day (YYYY-MM-DD).
    """

    account_id: str
    day: str
    day_start_equity: str
    peak_equity: str
    equity: str


class Difference(msgspec.Struct, frozen=True):
    """One point in which the engine and the venue disagreed. kind is a closed word of core.orders.reconciliation."""

    kind: str
    subject: str
    engine: str
    venue: str
    action: str


class Reconciled(Event, frozen=True, tag="reconciled"):
    """The outcome of one comparison with the venue, when there was anything to tell."""

    account_id: str
    venue: str
    differences: tuple[Difference, ...]
    cause: str


class MandateTightened(Event, frozen=True, tag="mandate_tightened"):
    """Smaller limits of a mandate that stays in force, as decimal text. Its digest stays that of what was approved."""

    mandate_id: str
    max_order_notional_quote: str
    max_position_notional_quote: str
    max_total_notional_quote: str
    max_open_orders: str
    requested_by: str
    reason: str


CausedEvent = (
    OrderIntended
    | OrderAmendRequested
    | CancelRequested
    | OrderClosed
    | KillSwitchChanged
    | MandateRevoked
    | MandateTightened
)
"""What an approval can lead to, beside an order that goes to the venue at once."""


class ApprovalDecided(Event, frozen=True, tag="approval_decided"):
    """An approval was consumed: once, in this record, together with all that it led to (I2, I4).

    Either refusal is set (risk said no at send; the approval is used up all the same), or it led to something: intent
    is an order that goes to the venue now, caused is everything else, in order. proposal tells of which kind it is.
    """

    suggestion_id: str
    version: int
    digest_hex: str
    proposal: str
    account_id: str
    asker_id: str
    run_id: str
    signatures: tuple[SignatureRecord, ...]
    roster_version: int
    rules_version: int
    market: MarketInputs
    checks: tuple[RiskCheckRecord, ...]
    intent: OrderIntent | None
    refusal: Refusal | None
    caused: tuple[CausedEvent, ...] = ()


class ApprovalVoided(Event, frozen=True, tag="approval_voided"):
    """A suggestion's versions up to this one are good for nothing any more, whoever has signed them: it was edited,
    withdrawn or rejected. Safety: it only takes away. remembered_until_ns is when no proposal of that time can hold."""

    suggestion_id: str
    version: int
    account_id: str
    requested_by: str
    reason: str
    remembered_until_ns: int


GrantEvent = SessionOpened | SessionClosed | MandateInstalled | MandateRevoked | MandateTightened
"""Who may ask for orders by themselves."""

SettingEvent = (
    EngineStarted
    | InstrumentsLoaded
    | RosterInstalled
    | RiskLimitsInstalled
    | RiskRulesInstalled
    | FreezeChanged
    | GrantEvent
    | ApprovalVoided
)
"""What the engine goes by."""

AccountEvent = BalancesObserved | FundingSettled | EquityObserved
"""What an account holds and is worth."""

JournalEvent = (
    SettingEvent
    | AccountEvent
    | ApprovalDecided
    | OrderIntended
    | OrderRefused
    | TriggerReached
    | OrderTriggered
    | OrderTrailed
    | OrderArmed
    | OrderAmendRequested
    | OrderAmended
    | OrderAmendRefused
    | OrderAdopted
    | OrderAccepted
    | OrderRejected
    | OrderBecameUnknown
    | OrderFilled
    | OrderClosed
    | CancelRequested
    | KillSwitchChanged
    | Reconciled
)

_DECODER: msgspec.json.Decoder[JournalEvent] = msgspec.json.Decoder(JournalEvent)
_CHECKS_BY_NAME = b'"checks":[{'


def _as_rendered(value: object) -> msgspec.Raw:
    if isinstance(value, RenderedChecks):
        return msgspec.Raw(value.json)
    raise NotImplementedError(f"an event holds a {type(value).__name__}")


_ENCODER = msgspec.json.Encoder(order="deterministic", enc_hook=_as_rendered)


class JournalEntry(msgspec.Struct, frozen=True, gc=False):
    """A journal record as its readers get it. sequence counts from 1 over the engine's whole life."""

    engine_id: str
    epoch: int
    sequence: int
    hash_hex: str
    payload: bytes

    def event(self) -> JournalEvent:
        """Decode the payload. Raises msgspec.ValidationError when it isn't an event this release knows."""
        return decode_event(self.payload)


def encode_event(event: JournalEvent) -> bytes:
    """JSON with sorted keys: the bytes that the journal's hash chain covers."""
    return _ENCODER.encode(event)


def encode_events(events: Iterable[JournalEvent]) -> list[bytes]:
    """Each as encode_event does."""
    encode = _ENCODER.encode
    return [encode(event) for event in events]


def decode_event(payload: bytes) -> JournalEvent:
    """Raises msgspec.ValidationError when the payload isn't an event this release knows."""
    try:
        return _DECODER.decode(payload)
    except msgspec.ValidationError:
        if _CHECKS_BY_NAME not in payload:
            raise
    return _DECODER.decode(msgspec.json.encode(_with_checks_in_order(msgspec.json.decode(payload))))


def _with_checks_in_order(value: Any) -> Any:
    """Earlier releases wrote the values of each check under their names."""
    if isinstance(value, list):
        return [_with_checks_in_order(item) for item in value]
    if isinstance(value, dict):
        return {
            key: [_in_order(check) for check in item]
            if key == "checks" and isinstance(item, list)
            else _with_checks_in_order(item)
            for key, item in value.items()
        }
    return value


def _in_order(check: Any) -> Any:
    return [check.get(name) for name in RiskCheckRecord.__struct_fields__] if isinstance(check, dict) else check


def caused_order_id(event: ApprovalDecided) -> str | None:
    """The order that an approval is about: the one that it made, of several that on which the others wait, else the one
    that it changes. None where it is about no order in particular, or about several."""
    if event.intent is not None:
        return event.intent.client_order_id
    made = (caused.intent.client_order_id for caused in event.caused if isinstance(caused, OrderIntended))
    first = next(made, None)
    if first is not None or not event.caused:
        return first
    subject = event.caused[0]
    if not isinstance(subject, OrderAmendRequested | CancelRequested):
        return None
    return subject.client_order_id if len(cancelled_order_ids(event)) <= 1 else None


def cancelled_order_ids(event: ApprovalDecided) -> tuple[str, ...]:
    """The orders whose end an approval asks for."""
    return tuple(caused.client_order_id for caused in event.caused if isinstance(caused, CancelRequested))


def order_id_of(caused: CausedEvent) -> str | None:
    """The order that one of an approval's consequences is about."""
    match caused:
        case OrderIntended():
            return caused.intent.client_order_id
        case OrderAmendRequested() | CancelRequested() | OrderClosed():
            return caused.client_order_id
        case _:
            return None
