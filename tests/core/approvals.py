"""Builders that the engine's tests share: keys, rosters, instruments, proposals and their signatures."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import msgspec

from core.authority.proposal import PROPOSAL_SCHEMA, Proposal, Proposed, proposal_bytes, proposal_digest
from core.authority.roster import SignedRoster, sign_roster
from core.authority.signatures import public_key_hex, sign_digest
from core.kernel import decide, decide_approvals
from core.kernel.decide_risk import decide_rules
from core.kernel.inputs import Balances, DecisionInputs
from core.kernel.kernel import Kernel
from core.portfolio.performance import account_day
from core.risk.rules import render_default_rules
from core.types.clock import NS_PER_S
from core.types.codes import Refusal
from core.types.events import ApprovalDecided, EquityObserved, JournalEvent, MarketInputs, Roster, RosterEntry
from core.types.instruments import Instrument
from core.types.money import decimal_text
from core.types.orders import OrderType, TimeInForce
from core.types.venues import VenueCapabilities

ROOT_SEED = "11" * 32
APPROVER_SEED = "22" * 32
SECOND_SEED = "33" * 32
TRADER_SEED = "44" * 32
ENGINE_ID = "engine-1"
ENVIRONMENT = "local"
ACCOUNT = "acct-demo"
NOW_NS = 1_800_000_000 * NS_PER_S

BTC = Instrument("paper", "BTCUSDT", "BTC", "USDT", 2, 5, 1, 1, 1, 900_000_000, 50_000_000)
ABLE = VenueCapabilities(frozenset(OrderType), frozenset(TimeInForce), can_amend_quantity=True, can_amend_price=True)
LIVE_MARKET = MarketInputs("59999.5", "60000.5", "60000", "LIVE", 7, 20)
MARKS = {("paper", "BTCUSDT"): 6_000_000}
RATES = {"USDT": Decimal(1), "BTC": Decimal(60_000)}
PLENTY = Balances({"USDT": Decimal(10**12), "BTC": Decimal(10**9)}, 0)
LIVE_INPUTS = DecisionInputs(
    LIVE_MARKET, venue_connected=True, visible_quantity=Decimal(100), balances=PLENTY, marks=MARKS, rates=RATES
)


def rules_document(**changes: str) -> str:
    """The rules of a first run with other values at [global], as they stand in TOML."""
    document = render_default_rules()
    for name, value in changes.items():
        document, count = re.subn(rf"(?m)^{name} = .*$", lambda _: f"{name} = {value}", document)  # noqa: B023
        assert count == 1, name
    return document


RULES = rules_document(
    max_notional_per_order_quote='"100000"', book_stale_after_ms="2000", repeated_intent="{count = 100, window_ms = 1}"
)


def equity(account_id: str = "acct-demo", **amounts: str) -> EquityObserved:
    """An account worth a million."""
    values = {"day_start_equity": "1000000", "peak_equity": "1000000", "equity": "1000000", **amounts}
    return EquityObserved(ts_ns=NOW_NS, account_id=account_id, day=account_day(NOW_NS, "UTC"), **values)


def entry(
    key_id: str,
    user_id: str,
    seed: str,
    *,
    accounts: tuple[str, ...] = (ACCOUNT,),
    paper_only: bool = True,
    approves: bool = True,
) -> RosterEntry:
    return RosterEntry(key_id, user_id, public_key_hex(seed), accounts, paper_only, approves=approves)


ROSTER = Roster(
    version=1,
    entries=(
        entry("approver", "user-approver", APPROVER_SEED),
        entry("second", "user-second", SECOND_SEED),
        entry("trader", "user-trader", TRADER_SEED),
    ),
    two_approvals_above_quote="50000",
)


def signed_roster(roster: Roster = ROSTER) -> SignedRoster:
    return sign_roster(ROOT_SEED, roster)


def proposal(**changes: Any) -> Proposal:
    """A LIMIT BUY of 0.1 BTC at 60000, asked for by user-trader; notional follows unless it is given."""
    values: dict[str, Any] = {
        "schema": PROPOSAL_SCHEMA,
        "suggestion_id": "sug-1",
        "version": "1",
        "environment": ENVIRONMENT,
        "mode": "PAPER",
        "engine_id": ENGINE_ID,
        "account_id": ACCOUNT,
        "venue": "paper",
        "symbol": "BTCUSDT",
        "instrument_version": "1",
        "side": "BUY",
        "order_type": "LIMIT",
        "time_in_force": "GTC",
        "quantity": "0.1",
        "price": "60000",
        "post_only": "false",
        "reduce_only": "false",
        "reference_price": "60000",
        "max_deviation_bps": "50",
        "asker_id": "user-trader",
        "run_id": "run-1",
        "trace_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV",
        "created_at_ns": str(NOW_NS),
        "expires_at_ns": str(NOW_NS + 300 * NS_PER_S),
    }
    values.update(changes)
    if "notional_quote" not in values:
        price = Decimal(values["price"] or values["reference_price"])
        values["notional_quote"] = decimal_text(Decimal(values["quantity"]) * price)
    return Proposal(**values)


def approve(what: Proposed, *signers: tuple[str, str]) -> tuple[bytes, str, list[tuple[str, bytes]]]:
    """The canonical bytes, digest and signatures; signers are (key id, seed), the approver by default."""
    canonical = proposal_bytes(what)
    digest = proposal_digest(canonical)
    chosen = signers or (("approver", APPROVER_SEED),)
    return canonical, digest, [(key_id, sign_digest(seed, digest)) for key_id, seed in chosen]


def started_kernel(
    *, rules: str = RULES, roster: Roster = ROSTER, instruments: tuple[Instrument, ...] = (BTC,)
) -> Kernel:
    """A kernel in its first epoch with instruments, roster and limits."""
    kernel = Kernel()
    kernel.replay(started_events(rules=rules, roster=roster, instruments=instruments))
    return kernel


def started_events(
    *, rules: str = RULES, roster: Roster = ROSTER, instruments: tuple[Instrument, ...] = (BTC,)
) -> tuple[JournalEvent, ...]:
    """The first records of an engine's journal."""
    kernel = Kernel()
    installed = decide_rules(kernel, rules, None, NOW_NS)
    assert not isinstance(installed, Refusal), installed
    return (
        decide.decide_started(
            engine_id=ENGINE_ID,
            epoch=1,
            environment=ENVIRONMENT,
            mode="PAPER",
            software_version="test",
            now_ns=NOW_NS,
        ),
        *decide.decide_roster(kernel, signed_roster(roster), NOW_NS),
        *installed,
        *decide.decide_instruments(kernel, instruments, NOW_NS),
        equity(),
    )


def decide_on(
    kernel: Kernel, what: Proposed, *, inputs: DecisionInputs = LIVE_INPUTS, now_ns: int = NOW_NS + 1
) -> ApprovalDecided:
    """The engine's decision on an approved proposal; a refusal of authority fails the test."""
    decided = decide_approvals.decide_approval(
        kernel, *approve(what), trace_id=None, inputs=inputs, capabilities=ABLE, now_ns=now_ns
    )
    assert isinstance(decided, ApprovalDecided), decided
    return decided


def with_market(**changes: Any) -> DecisionInputs:
    return msgspec.structs.replace(LIVE_INPUTS, market=msgspec.structs.replace(LIVE_MARKET, **changes))
