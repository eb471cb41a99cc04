"""The plain order natively against Python, on whole kernels.

Invariants: what the native side says yes to, Python says yes to with the same record, to the byte; an order or an
answer that it takes in leaves the state, the books beside it and what can be undone as Python does; what it leaves
alone it hasn't touched. Most of what is plain it decides.
"""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core._native import Moment
from core.kernel.decide import decide_accepted
from core.kernel.decide_orders import decide_any_order, decide_order
from core.kernel.decide_plain import decide_plain
from core.kernel.decide_risk import decide_rules
from core.kernel.effects import Effect
from core.kernel.inputs import DecisionInputs
from core.kernel.kernel import Kernel
from core.kernel.records import AccountSwitch
from core.orders.machine import ImpossibleTransitionError
from core.portfolio.performance import account_day
from core.risk import activity
from core.risk.kill_switch import KillSwitch
from core.types.authority import Mandate, MandateAuthority
from core.types.clock import NS_PER_S
from core.types.codes import ReasonCode, Refusal
from core.types.events import (
    EquityObserved,
    JournalEvent,
    KillSwitchChanged,
    MandateInstalled,
    MandateRevoked,
    OrderAccepted,
    OrderIntended,
    RiskRulesInstalled,
    encode_event,
)
from core.types.instruments import Product
from core.types.money import decimal_text
from core.types.orders import OrderRequest, OrderType, Side, TimeInForce
from core.types.venues import VenueCapabilities
from tests.core.approvals import ABLE, BTC, NOW_NS, rules_document
from tests.core.approvals import ACCOUNT as DESK_ACCOUNT
from tests.core.kernel.desk import STRATEGY as DESK_STRATEGY
from tests.core.kernel.desk import Desk, mandate
from tests.core.risk.test_native_equals_oracle import ACCOUNT, LARGEST, STRATEGY, SYMBOLS, Draw
from tests.simulation.planted import NothingIsPlain

MANDATE_ID = "mandate-1"
BY = MandateAuthority(MANDATE_ID, STRATEGY)
SELDOM = 0.03
PLENTY = "1" + "0" * 18
ASSETS = ("BTC", "USDT", "ETH")


class PlainDraw(Draw):
    """A kernel where little speaks against an order: limits are wide, and now and then one is near."""

    def __init__(self, random: Random) -> None:
        super().__init__(random)
        if self.is_wide:
            put = self.kernel._state.put
            for item in self.instruments:
                wide = msgspec.structs.replace(item, tick_size=1, max_quantity=LARGEST, min_quantity=0, min_notional=0)
                put(self.kernel.instruments, (item.venue, item.symbol), wide)
            put(self.kernel.frozen, ACCOUNT, None)
            put(self.kernel.account_switches, ACCOUNT, None)
            put(self.kernel.equity, ACCOUNT, None if random.random() < 0.1 else self.wide_equity())
        self.mandate = self.draw_mandate()
        self.kernel.apply(MandateInstalled(ts_ns=NOW_NS, mandate=self.mandate, digest_hex="00", signatures=()))

    def wide_equity(self) -> EquityObserved:
        whole = PLENTY
        return EquityObserved(
            ts_ns=NOW_NS,
            account_id=ACCOUNT,
            day=self.random.choice(("2027-01-15", "2027-01-14")),
            day_start_equity=whole,
            peak_equity=whole,
            equity=whole,
        )

    def draw_rules(self, **changes: str) -> str:
        self.is_wide = self.random.random() < 0.85
        if self.is_wide:
            wide = dict.fromkeys(
                (
                    "max_notional_per_order_quote",
                    "max_position_notional_quote",
                    "max_gross_exposure_quote",
                    "max_net_exposure_quote",
                    "max_daily_loss_quote",
                    "max_quantity_per_order",
                    "max_leverage",
                ),
                f'"{PLENTY}"',
            )
            counts = dict.fromkeys(
                ("order_rate", "amend_rate", "cancel_rate", "repeated_intent"), "{count = 100, window_ms = 10}"
            )
            bps = dict.fromkeys(("price_collar_bps", "mark_collar_bps", "max_depth_share_bps"), "10000")
            changes = {**wide, **counts, **bps, "max_open_orders": "100", "book_stale_after_ms": "1000", **changes}
            return rules_document(**changes, max_drawdown_bps="10000", max_deviation_bps="1")
        return super().draw_rules(**changes)

    def seldom(self, usual: Any, *odd: Any) -> Any:
        return self.random.choice(odd) if self.random.random() < SELDOM else usual

    def draw_mandate(self) -> Mandate:
        return mandate(
            mandate_id=MANDATE_ID,
            account_id=self.seldom(ACCOUNT, "other"),
            strategy_id=STRATEGY,
            symbols=self.seldom(SYMBOLS, SYMBOLS[:1]),
            max_order_notional_quote=self.seldom(PLENTY, "100", "0.5", "0"),
            max_position_notional_quote=self.seldom(PLENTY, "100", "0.5", "0"),
            max_total_notional_quote=self.seldom(PLENTY, "100", "0.5", "0"),
            max_open_orders=self.seldom("100", "1", "4"),
            expires_at_ns=str(NOW_NS + self.seldom(3600, 0) * NS_PER_S),
        )

    def request(self, number: int) -> OrderRequest:
        random, seldom = self.random, self.seldom
        instrument = random.choice(self.instruments)
        kind = seldom(OrderType.LIMIT, *OrderType)
        lot, unit = instrument.lot_size, 10**instrument.price_scale
        time = seldom(TimeInForce.GTC, *TimeInForce)
        return OrderRequest(
            request_id=seldom(f"r{number}", "r0", "", "x" * 128, "y" * 129, "\u20ac" * 128),
            account_id=seldom(ACCOUNT, "other"),
            venue=seldom("paper", "elsewhere"),
            symbol=seldom(instrument.symbol, "NOPE"),
            side=random.choice(tuple(Side)),
            order_type=kind,
            time_in_force=time,
            quantity=seldom(random.randint(20, 50) * lot, self.amount(), 0, -lot, LARGEST + 1),
            price=random.randint(15, 24) * unit if kind.has_limit_price else seldom(None, unit),
            post_only=seldom(False, True),
            reduce_only=seldom(False, True),
            stop_price=25 * unit if kind.is_conditional else seldom(None, unit),
            expires_ns=NOW_NS + 10 * NS_PER_S if time is TimeInForce.GTD else seldom(None, NOW_NS + NS_PER_S),
            strategy_id=seldom(STRATEGY, "", "another"),
        )

    def wide_inputs(self) -> DecisionInputs:
        inputs = self.inputs()
        if not self.is_wide:
            return inputs
        plenty = {asset: Decimal(PLENTY) for asset in ASSETS}
        balances = None if inputs.balances is None else msgspec.structs.replace(inputs.balances, total=plenty)
        market = msgspec.structs.replace(
            inputs.market,
            bid_price="19",
            ask_price="21",
            mid_price=self.seldom("20", None),
            book_state=self.seldom("LIVE", "STALE"),
            book_age_ms=1,
            last_price="20",
            mark_price=None,
        )
        return msgspec.structs.replace(
            inputs,
            market=market,
            venue_connected=self.seldom(True, False),
            balances=balances,
            visible_quantity=Decimal(PLENTY),
            account_id=self.seldom(None, ACCOUNT, "other"),
        )


def decide_both(
    draw: PlainDraw, request: OrderRequest, inputs: DecisionInputs, capabilities: VenueCapabilities = ABLE
) -> OrderIntended | None:
    """What the native side says yes to; both must agree on it."""
    kernel, trace_id = draw.kernel, draw.maybe("0" * 32, 0.5)
    native = decide_plain(kernel, request, BY, inputs, capabilities, NOW_NS, trace_id)
    oracle = decide_any_order(kernel, request, BY, inputs, capabilities, NOW_NS, trace_id=trace_id)
    assert decide_order(kernel, request, BY, inputs, capabilities, NOW_NS, trace_id=trace_id) == oracle
    if native is not None:
        assert isinstance(oracle, tuple)
        assert (native,) == oracle
        assert encode_event(native) == encode_event(oracle[0])
        assert type(native) is type(oracle[0])
    return native


def copy_of(kernel: Kernel) -> Kernel:
    """The same, and nothing of it done natively."""
    copied = Kernel.from_snapshot(kernel.snapshot())
    copied.plain = NothingIsPlain()  # type: ignore[assignment]
    return copied


def beside(kernel: Kernel) -> dict[str, Any]:
    """What is kept up with the orders, as far as it can be asked."""
    markets = sorted(kernel.exposure.markets(ACCOUNT))
    resting = [kernel.exposure.resting(*key) for key in markets]
    return {
        "open": list(kernel.index.open),
        "open_by_market": {key: list(found) for key, found in kernel.index.open_by_market.items() if found},
        "markets": markets,
        "resting": [
            (
                r.orders,
                r.buy_quantity,
                r.sell_quantity,
                r.unknown("BUY"),
                r.opposite_price("BUY"),
                r.opposite_price("SELL"),
            )
            for r in resting
        ],
        "open_orders": kernel.exposure.open_orders(ACCOUNT),
        "strategy": [kernel.exposure.of_strategy(*key, STRATEGY) for key in markets],
        "mandate": kernel.exposure.orders_of_mandate(MANDATE_ID),
        "reserved": [
            kernel.exposure.reserved(asset, at) for asset in ASSETS for at in (NOW_NS - 10, NOW_NS, NOW_NS + 5)
        ],
        "activity": activity.dump(kernel.activity),
    }


def outcome(kernel: Kernel, event: JournalEvent) -> tuple[Effect, ...] | str:
    try:
        return kernel.apply(event)
    except ImpossibleTransitionError as error:
        return str(error)


def assert_applied_alike(kernel: Kernel, event: JournalEvent) -> None:
    """Applied, undone and applied again; digests before, between and after."""
    copied = copy_of(kernel)
    before, rests = kernel.state_digest(), beside(kernel)
    kernel.begin()
    at = kernel.savepoint()
    said = outcome(kernel, event)
    assert said == outcome(copied, event)
    assert kernel.state_digest() == copied.state_digest()
    kernel.rollback(at)
    assert kernel.state_digest() == before
    undone = beside(kernel)
    for name, value in rests.items():
        if name not in {"activity", "markets", "resting", "strategy"}:
            assert undone[name] == value, name
    kernel.commit()
    del rests
    assert outcome(kernel, event) == said
    assert kernel.state_digest() == copied.state_digest()
    kernel_beside, copied_beside = beside(kernel), beside(copied)
    # What was undone stays counted in the rate windows.
    kernel_beside.pop("activity")
    copied_beside.pop("activity")
    assert kernel_beside == copied_beside


@given(st.integers(0, 2**64))
@settings(max_examples=200, deadline=None)
def test_what_is_decided_and_applied_natively_is_what_python_decides_and_applies(seed: int) -> None:
    draw = PlainDraw(Random(seed))
    for number in range(4):
        event = decide_both(draw, draw.request(number), draw.wide_inputs())
        if event is None:
            continue
        assert_applied_alike(draw.kernel, event)
        order_id = event.intent.client_order_id
        assert_applied_alike(draw.kernel, event)
        for accepted in decide_accepted(draw.kernel, order_id, f"v{number}", NOW_NS + 7):
            assert_applied_alike(draw.kernel, accepted)
        later = OrderAccepted(
            ts_ns=NOW_NS + 8, client_order_id=order_id, venue_order_id=draw.random.choice(("v0", "w"))
        )
        assert_applied_alike(draw.kernel, later)


def test_most_plain_orders_are_decided_natively_and_many_are_left_to_python() -> None:
    native = python = 0
    for seed in range(300):
        draw = PlainDraw(Random(seed))
        request, inputs = draw.request(1), draw.wide_inputs()
        event = decide_both(draw, request, inputs)
        oracle = decide_any_order(draw.kernel, request, BY, inputs, ABLE, NOW_NS)
        native += event is not None
        is_spot = draw.instruments[0].product is Product.SPOT
        is_taken = isinstance(oracle, tuple) and isinstance(oracle[0], OrderIntended)
        is_plain = request.order_type is OrderType.LIMIT and request.time_in_force is not TimeInForce.GTD
        if is_taken and is_spot and is_plain and not draw.is_large:
            assert event is not None, seed
        python += event is None
    assert native > 50
    assert python > 60


def test_orders_decided_at_one_moment_are_decided_as_each_by_itself() -> None:
    """Inputs that carry their moment are read once; what changes between two orders is the kernel alone."""
    shared = 0
    for seed in range(60):
        draw = PlainDraw(Random(seed))
        inputs = draw.wide_inputs()
        carrying = msgspec.structs.replace(inputs, moment=Moment())
        for number in range(6):
            request = draw.request(number)
            alone = decide_plain(draw.kernel, request, BY, inputs, ABLE, NOW_NS, None)
            together = decide_plain(draw.kernel, request, BY, carrying, ABLE, NOW_NS, None)
            assert alone == together
            if together is not None:
                shared += 1
                draw.kernel.apply(together)
    assert shared > 40


LIMITS = ("max_order_notional_quote", "max_position_notional_quote", "max_total_notional_quote")


@pytest.mark.parametrize("name", LIMITS)
def test_a_mandates_limit_is_held_to_the_last_digit(name: str) -> None:
    """given a limit that is what the order takes, the least less and the least more: yes, no and yes."""
    seen = 0
    for seed in range(40):
        draw = PlainDraw(Random(seed))
        request, inputs = draw.request(1), draw.wide_inputs()
        wide = mandate(
            mandate_id=MANDATE_ID,
            account_id=ACCOUNT,
            strategy_id=STRATEGY,
            symbols=SYMBOLS,
            **dict.fromkeys(LIMITS, PLENTY),
        )

        def under(terms: Mandate, draw: PlainDraw = draw) -> None:
            state = draw.kernel.mandates[MANDATE_ID]
            draw.kernel._state.put(draw.kernel.mandates, MANDATE_ID, msgspec.structs.replace(state, mandate=terms))

        under(wide)
        event = decide_both(draw, request, inputs)
        if event is None:
            continue
        notional = Decimal(event.notional_quote)
        buys, sells = draw.kernel.exposure.of_strategy(ACCOUNT, "paper", request.symbol, STRATEGY)
        if name == "max_position_notional_quote":
            worst = max(
                buys + request.quantity * (request.side is Side.BUY),
                sells + request.quantity * (request.side is Side.SELL),
            )
            scaled = notional * worst / request.quantity
            if scaled * request.quantity != notional * worst or max(-scaled.as_tuple().exponent, 0) > 18:  # type: ignore[operator]
                continue
            notional = scaled
        least = Decimal("1e-18")
        answers = []
        for limit in (notional, notional - least, notional + least):
            under(msgspec.structs.replace(wide, **{name: decimal_text(limit)}))
            answers.append(decide_both(draw, request, inputs) is not None)
        assert answers == [True, False, True]
        seen += 1
    assert seen > 5


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("kill switch", ReasonCode.RISK_KILL_SWITCH_ACTIVE),
        ("account's kill switch", ReasonCode.RISK_KILL_SWITCH_ACTIVE),
        ("freeze", ReasonCode.RISK_ACCOUNT_FROZEN),
        ("rules", ReasonCode.RISK_QUANTITY_EXCEEDS_MAX_PER_ORDER),
        ("custom rule", ReasonCode.RISK_CUSTOM_RULE_REJECTED),
        ("equity", ReasonCode.RISK_DAILY_LOSS_EXCEEDED),
        ("tick size", ReasonCode.ORDER_TICK_SIZE_VIOLATED),
        ("delisted", ReasonCode.MARKET_INSTRUMENT_UNKNOWN),
        ("revoked", ReasonCode.AUTHORITY_MANDATE_REVOKED),
    ],
)
def test_what_changes_between_two_orders_is_seen_by_the_next(change: str, code: ReasonCode) -> None:
    desk = Desk()
    desk.install_mandate()
    kernel, put = desk.kernel, desk.kernel._state.put
    assert desk.strategy_order() in kernel.orders
    assert list(kernel.plain_terms) == [(DESK_ACCOUNT, DESK_STRATEGY, "paper", "BTCUSDT")]
    match change:
        case "kill switch":
            kernel.apply(KillSwitchChanged(ts_ns=NOW_NS, state="HALTED", requested_by="x", reason="a drill"))
        case "account's kill switch":
            put(kernel.account_switches, DESK_ACCOUNT, AccountSwitch(KillSwitch.HALTED, NOW_NS))
        case "freeze":
            put(kernel.frozen, DESK_ACCOUNT, "it differs")
        case "rules":
            kernel.replay(_rules(desk, rules_document(max_quantity_per_order='"0.00001"')))
        case "custom rule":
            rule = '[[rule]]\nname = "none"\nwhen = "order.quantity > 0.0"\naction = "reject"\nmessage = "no"\n'
            kernel.replay(_rules(desk, rules_document() + rule))
        case "equity":
            lost = EquityObserved(
                ts_ns=NOW_NS,
                account_id=DESK_ACCOUNT,
                day=account_day(NOW_NS, "UTC"),
                day_start_equity="1000000000",
                peak_equity="1000000000",
                equity="900000000",
            )
            put(kernel.equity, DESK_ACCOUNT, lost)
        case "tick size":
            put(kernel.instruments, (BTC.venue, BTC.symbol), msgspec.structs.replace(BTC, tick_size=7_919))
        case "delisted":
            kernel._change_head(listed=())
        case "revoked":
            kernel.apply(MandateRevoked(ts_ns=NOW_NS, mandate_id="man-1", requested_by="x", reason="a drill"))
    assert desk.strategy_order() is code


def _rules(desk: Desk, document: str) -> tuple[RiskRulesInstalled, ...]:
    decided = decide_rules(desk.kernel, document, None, NOW_NS)
    assert not isinstance(decided, Refusal)
    return decided
