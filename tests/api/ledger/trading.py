"""A journal with every kind of event: what a day of orders under all kinds of authority leaves."""

from __future__ import annotations

from typing import Any

import msgspec

from core.types.authority import (
    AdministrationAuthority,
    Authority,
    DerivedAuthority,
    ExternalAuthority,
    Mandate,
    MandateAuthority,
    SafetyAuthority,
    SessionAuthority,
    SessionGrant,
    SignatureRecord,
)
from core.types.codes import ReasonCode, Refusal
from core.types.events import (
    ApprovalVoided,
    BalancesObserved,
    CancelRequested,
    Difference,
    EquityObserved,
    FreezeChanged,
    FundingSettled,
    InstrumentsLoaded,
    JournalEvent,
    KillSwitchChanged,
    MandateInstalled,
    MandateRevoked,
    MandateTightened,
    OrderAccepted,
    OrderAdopted,
    OrderAmended,
    OrderAmendRefused,
    OrderAmendRequested,
    OrderArmed,
    OrderBecameUnknown,
    OrderClosed,
    OrderIntended,
    OrderRefused,
    OrderRejected,
    OrderTrailed,
    OrderTriggered,
    Reconciled,
    RiskCheckRecord,
    RiskLimits,
    RiskLimitsInstalled,
    RiskRulesInstalled,
    Roster,
    RosterInstalled,
    SessionClosed,
    SessionOpened,
    TriggerReached,
)
from core.types.orders import OrderIntent, OrderStatus, OrderType, Side, TimeInForce
from tests.api.ledger.journal import ENGINE_ID, MARKET, START_NS, approval, fill, started

ACCOUNT = "acct-demo"
SIGNED = SignatureRecord("demo-trader", "user-trader", "ab" * 64)
SESSION = SessionAuthority("session-1", "user-trader", "cd" * 32, "ef" * 64)
MANDATE = MandateAuthority("mandate-1", "grid-1")
DOCUMENT = AdministrationAuthority("document-1", "aa" * 32, (SIGNED,), START_NS + 10**12)
CHECKS = (RiskCheckRecord("RISK_SELF_TRADE", True, source="global"),)
REFUSAL = Refusal(ReasonCode.RISK_ORDER_RATE_EXCEEDED, "too fast", "10", "11", "orders")
ENTRY, TAKE_PROFIT, STOP, GRID, MAKER = "vz-entry", "vz-take-profit", "vz-stop", "vz-grid", "vz-maker"

GRANT = SessionGrant(
    schema="veloz.session-grant/1",
    session_id="session-1",
    engine_id=ENGINE_ID,
    environment="local",
    mode="PAPER",
    user_id="user-trader",
    public_key_hex="11" * 32,
    account_ids=(ACCOUNT,),
    max_order_notional_quote="50000",
    max_total_notional_quote="200000",
    max_orders="20",
    issued_at_ns=str(START_NS),
    expires_at_ns=str(START_NS + 10**12),
)
STRATEGY_MANDATE = Mandate(
    schema="veloz.mandate/1",
    mandate_id="mandate-1",
    engine_id=ENGINE_ID,
    environment="local",
    mode="PAPER",
    account_id=ACCOUNT,
    strategy_id="grid-1",
    strategy_digest_hex="22" * 32,
    public_key_hex="33" * 32,
    venue="paper",
    symbols=("BTCUSDT",),
    max_order_notional_quote="50000",
    max_position_notional_quote="100000",
    max_total_notional_quote="1000000",
    max_open_orders="10",
    issued_at_ns=str(START_NS),
    expires_at_ns=str(START_NS + 10**12),
    asker_id="user-trader",
)


def intent(order_id: str, **changes: Any) -> OrderIntent:
    """A limit order of 0.5 BTC at 64000.00."""
    terms: dict[str, Any] = {
        "account_id": ACCOUNT,
        "venue": "paper",
        "symbol": "BTCUSDT",
        "side": Side.BUY,
        "order_type": OrderType.LIMIT,
        "time_in_force": TimeInForce.GTC,
        "quantity": 50_000,
        "price": 6_400_000,
        "price_scale": 2,
        "quantity_scale": 5,
        "client_order_id": order_id,
    }
    return OrderIntent(**(terms | changes))


def intended(order: OrderIntent, authority: Authority = SESSION, **relations: Any) -> OrderIntended:
    return OrderIntended(
        ts_ns=START_NS + 1,
        trace_id="01KAX8F0000000000000000002",
        intent=order,
        authority=authority,
        notional_quote="32000",
        rules_version=3,
        market=MARKET,
        checks=CHECKS,
        **relations,
    )


def settings() -> list[JournalEvent]:
    """What isn't about one order."""
    at: dict[str, Any] = {"ts_ns": START_NS}
    return [
        started(),
        InstrumentsLoaded(instruments=(), **at),
        RosterInstalled(roster=Roster(1, (), "100000"), signature_hex="ee" * 64, **at),
        RiskLimitsInstalled(version=1, digest_hex="aa" * 32, limits=RiskLimits("50000", 500, 50, 2_000), **at),
        RiskRulesInstalled(version=2, digest_hex="bb" * 32, document='schema = "veloz.risk-limits/2"', **at),
        RiskRulesInstalled(
            version=3, digest_hex="aa" * 32, document="first", authority=DOCUMENT, rolled_back_to=1, **at
        ),
        SessionOpened(grant=GRANT, signature=SIGNED, **at),
        MandateInstalled(mandate=STRATEGY_MANDATE, digest_hex="44" * 32, signatures=(SIGNED,), **at),
        BalancesObserved(
            account_id=ACCOUNT, venue="paper", totals={"USDT": "1000.5", "BTC": "1"}, as_of_ns=START_NS, **at
        ),
        BalancesObserved(account_id=ACCOUNT, venue="paper", totals={"USDT": "900"}, as_of_ns=START_NS + 1, **at),
        FundingSettled(
            account_id=ACCOUNT,
            venue="paper",
            symbol="BTCUSDT",
            transaction_id="77",
            amount="-0.25",
            asset="USDT",
            venue_ts_ns=START_NS,
            **at,
        ),
        EquityObserved(
            account_id=ACCOUNT, day="2025-11-24", day_start_equity="1000", peak_equity="1100", equity="950", **at
        ),
        KillSwitchChanged(state="REDUCE_ONLY", requested_by="user-trader", reason="look", account_id=ACCOUNT, **at),
        KillSwitchChanged(
            state="NORMAL", requested_by="user-admin", reason="ok", account_id=ACCOUNT, authority=DOCUMENT, **at
        ),
        FreezeChanged(account_id=ACCOUNT, frozen=True, reason="drift", **at),
        FreezeChanged(account_id=ACCOUNT, frozen=False, reason="agreed again", authority=DOCUMENT, **at),
        Reconciled(
            account_id=ACCOUNT,
            venue="paper",
            differences=(Difference("order_unknown_here", "9009", "none", "open", "adopt"),),
            cause="start",
            **at,
        ),
    ]


def trading() -> list[JournalEvent]:
    """A bracket under a session, a strategy's amended order, a self-trade, and all that can go wrong."""
    at: dict[str, Any] = {"ts_ns": START_NS + 5}
    group: dict[str, Any] = {"group_id": "group-1", "parent_id": ENTRY, "is_held": True}
    trailing: dict[str, Any] = {
        "order_type": OrderType.TRAILING_STOP,
        "price": None,
        "trailing_offset_bps": 50,
        "side": Side.SELL,
    }
    child = DerivedAuthority(ENTRY, "bracket")
    return [
        approval(),
        approval(refused=True, suggestion_id="sugg-2"),
        intended(intent(ENTRY, time_in_force=TimeInForce.GTD, expires_ns=START_NS + 10**12), role="entry"),
        intended(intent(TAKE_PROFIT, side=Side.SELL, price=6_600_000), child, role="take_profit", **group),
        intended(intent(STOP, **trailing), child, role="stop", **group),
        OrderAccepted(client_order_id=ENTRY, venue_order_id="9001", **at),
        fill(1, 20_000, OrderStatus.PARTIALLY_FILLED, order_id=ENTRY),
        OrderArmed(client_order_id=STOP, quantity=20_000, **at),
        OrderTrailed(client_order_id=STOP, extreme_price=6_450_000, **at),
        TriggerReached(client_order_id=STOP, trigger_price=6_417_750, **at),
        OrderTriggered(client_order_id=STOP, trigger_price=6_417_750, market=MARKET, checks=CHECKS, **at),
        OrderBecameUnknown(client_order_id=STOP, detail="timed out", **at),
        OrderRejected(client_order_id=STOP, refusal=REFUSAL, **at),
        CancelRequested(client_order_id=TAKE_PROFIT, requested_by="user-trader", **at),
        OrderClosed(client_order_id=TAKE_PROFIT, status=OrderStatus.CANCELED, reason="asked", **at),
        intended(intent(GRID, strategy_id="grid-1"), MANDATE),
        OrderAccepted(client_order_id=GRID, venue_order_id="9002", **at),
        OrderAmendRequested(
            client_order_id=GRID,
            quantity=40_000,
            price=6_399_950,
            authority=MANDATE,
            rules_version=3,
            market=MARKET,
            checks=CHECKS,
            **at,
        ),
        OrderAmended(client_order_id=GRID, quantity=40_000, price=6_399_950, **at),
        OrderAmendRequested(
            client_order_id=GRID,
            quantity=30_000,
            price=6_399_950,
            authority=MANDATE,
            rules_version=3,
            market=MARKET,
            checks=CHECKS,
            **at,
        ),
        OrderAmendRefused(client_order_id=GRID, refusal=REFUSAL, **at),
        OrderAdopted(
            intent=intent(MAKER, side=Side.SELL),
            venue_order_id="9009",
            authority=ExternalAuthority("reconciliation"),
            notional_quote="32000",
            **at,
        ),
        fill(2, 10_000, OrderStatus.PARTIALLY_FILLED, order_id=GRID, position=30_000),
        fill(2, 10_000, OrderStatus.PARTIALLY_FILLED, order_id=MAKER, side=Side.SELL, position=20_000),
        fill(3, 5_000, OrderStatus.PARTIALLY_FILLED, order_id=GRID, side=Side.BUY, position=25_000),
        OrderRefused(
            account_id=ACCOUNT,
            venue="paper",
            symbol="BTCUSDT",
            request="{}",
            authority=SESSION,
            rules_version=3,
            market=MARKET,
            checks=CHECKS,
            refusal=REFUSAL,
            **at,
        ),
        KillSwitchChanged(state="HALTED", requested_by="file", reason="KILL", authority=SafetyAuthority("file"), **at),
        SessionClosed(session_id="session-1", requested_by="user-trader", reason="done", **at),
        ApprovalVoided(
            suggestion_id="suggestion-edited",
            version=2,
            account_id=ACCOUNT,
            requested_by="user-trader",
            reason="edited",
            remembered_until_ns=1_900_000_000_000_000_000,
            **at,
        ),
        MandateTightened(
            mandate_id="mandate-1",
            max_order_notional_quote="10",
            max_position_notional_quote="10",
            max_total_notional_quote="10",
            max_open_orders="1",
            requested_by="approval:suggestion-1",
            reason="less",
            **at,
        ),
        MandateRevoked(mandate_id="mandate-1", requested_by="user-admin", reason="over", authority=DOCUMENT, **at),
    ]


def whole_day() -> list[JournalEvent]:
    """Every kind of event at least once."""
    events = settings() + trading()
    kinds = {type(event) for event in events}
    every = {info.cls for info in msgspec.inspect.type_info(JournalEvent).types}  # type: ignore[attr-defined]
    assert kinds == every, f"missing here: {sorted(kind.__name__ for kind in every - kinds)}"
    return events
