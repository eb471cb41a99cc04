"""The native checks against the Python ones, on whole kernels.

Invariants: the same decision, the same records to the letter and the same worth, whatever rests, is held, is known of
the market and is asked for, at values small and as large as they come, on either side of every limit; where 128 bits
don't do, nothing is said natively. What is kept up with each order equals a plain recount, also after an undo.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import _native
from core.kernel import decide_risk
from core.kernel.decide_risk import RiskSubject, available, run_risk, run_risk_in_python, walked
from core.kernel.inputs import Balances, DecisionInputs, MarginInputs
from core.kernel.kernel import Kernel
from core.kernel.records import AccountSwitch
from core.orders.machine import Order
from core.portfolio.positions import Position
from core.risk.activity import AMEND, CANCEL, ORDER, Activity, dump, fingerprint, load
from core.risk.checks import MESSAGES
from core.risk.kill_switch import KillSwitch
from core.types.authority import MandateAuthority
from core.types.clock import NS_PER_MS
from core.types.codes import ReasonCode
from core.types.events import (
    EquityObserved,
    MarketInputs,
    OrderIntended,
    RenderedChecks,
    RiskCheckRecord,
    decode_event,
    encode_event,
)
from core.types.instruments import Instrument, Product
from core.types.money import decimal_text
from core.types.orders import OrderIntent, OrderStatus, OrderType, Side, TimeInForce
from tests.core.approvals import NOW_NS, rules_document, started_kernel

ACCOUNT, STRATEGY = "acct-demo", "grid-1"
LARGEST = 2**63 - 1
LEAST = Decimal("1e-12")
ODD_TEXT = 'a "quoted" back\\slash, / and \b\f\n\r\t\x00\x07\x1f\x7f, \xe9 \u20ac \U0001f600'
SYMBOLS = ("BTCUSDT", "ETHUSDT", "ETHBTC")
LIMITS_OF_MONEY = {
    "max_notional_per_order_quote": ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER,
    "max_position_notional_quote": ReasonCode.RISK_POSITION_EXCEEDS_MAX,
    "max_gross_exposure_quote": ReasonCode.RISK_GROSS_EXPOSURE_EXCEEDS_MAX,
    "max_net_exposure_quote": ReasonCode.RISK_NET_EXPOSURE_EXCEEDS_MAX,
    "max_daily_loss_quote": ReasonCode.RISK_DAILY_LOSS_EXCEEDED,
    "max_quantity_per_order": ReasonCode.RISK_QUANTITY_EXCEEDS_MAX_PER_ORDER,
    "max_leverage": ReasonCode.RISK_LEVERAGE_EXCEEDS_MAX,
}


class Draw:
    """A kernel, an order and its surroundings, drawn from one source of chance."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.is_large = random.random() < 0.15
        product = Product.USDM if random.random() < 0.15 else Product.SPOT
        self.instruments = tuple(
            Instrument(
                "paper",
                symbol,
                symbol[:3],
                symbol[3:],
                random.choice((0, 2, 8)),
                random.choice((0, 3, 5)),
                random.choice((1, 1, 5)),
                random.choice((1, 1, 10)),
                random.randint(0, 20),
                random.choice((100, 1_000, LARGEST)),
                random.choice((0, 50, 5_000)),
                product=product,
            )
            for symbol in SYMBOLS
        )
        self.rules = self.draw_rules()
        self.kernel = started_kernel(rules=self.rules, instruments=self.instruments)
        self.numbers = iter(range(10**6))
        self.asked: list[OrderIntent] = []
        self.fill_kernel()

    def amount(self) -> int:
        return self.random.choice((LARGEST, LARGEST // 3, 10**17)) if self.is_large else self.random.randint(1, 60)

    def maybe(self, value: Any, chance: float = 0.2) -> Any:
        return None if self.random.random() < chance else value

    def draw_rules(self, **changes: str) -> str:
        random = self.random
        money = ("1", "50", "1000", "0.5", "20000.25", "1" + "0" * 30)
        values = {name: f'"{random.choice(money)}"' for name in LIMITS_OF_MONEY}
        for name in ("price_collar_bps", "mark_collar_bps", "max_deviation_bps", "max_depth_share_bps"):
            values[name] = str(random.choice((1, 100, 2_500, 10_000)))
        values["max_drawdown_bps"] = str(random.choice((1, 1_000, 10_000)))
        values["max_open_orders"] = str(random.choice((1, 3, 100)))
        values["book_stale_after_ms"] = str(random.choice((5, 10, 1_000)))
        for name in ("order_rate", "amend_rate", "cancel_rate", "repeated_intent"):
            values[name] = f"{{count = {random.randint(1, 4)}, window_ms = {random.choice((1, 10, 1_000))}}}"
        document = rules_document(**{**values, **changes})
        if random.random() < 0.5:
            document += (
                f'\n[desk.spot]\naccounts = ["{ACCOUNT}", "other"]\n'
                f'order_rate = {{count = {random.randint(1, 6)}, window_ms = 100}}\nmax_leverage = "2"\n'
                f'[symbol.BTCUSDT]\nmax_quantity_per_order = "{random.choice(("0.00003", "7"))}"\n'
                f"[strategy.{STRATEGY}]\ncancel_rate = {{count = 1, window_ms = 50}}\n"
            )
        return document

    def intent(self, account: str = ACCOUNT, kind: OrderType | None = None) -> OrderIntent:
        random = self.random
        instrument = random.choice(self.instruments)
        kind = kind or random.choice((OrderType.LIMIT,) * 4 + tuple(OrderType))
        return OrderIntent(
            account_id=account,
            venue="paper",
            symbol=instrument.symbol,
            side=random.choice(tuple(Side)),
            order_type=kind,
            time_in_force=TimeInForce.GTC,
            quantity=self.amount(),
            price=self.amount() if kind.has_limit_price else None,
            price_scale=instrument.price_scale,
            quantity_scale=instrument.quantity_scale,
            client_order_id=f"vz{next(self.numbers)}",
            reduce_only=random.random() < 0.2,
            stop_price=self.amount() if kind.is_conditional else None,
            activation_price=self.amount() if kind is OrderType.TRAILING_STOP and random.random() < 0.5 else None,
            strategy_id=random.choice(("", STRATEGY)),
        )

    def order(self, client_order_id: str = "") -> Order:
        random = self.random
        intent = self.intent(random.choice((ACCOUNT, ACCOUNT, "other")))
        if client_order_id:
            intent = msgspec.structs.replace(intent, client_order_id=client_order_id)
        status = random.choice((OrderStatus.ACCEPTED,) * 3 + tuple(OrderStatus))
        touched = {OrderStatus.PARTIALLY_FILLED, OrderStatus.FILLED, OrderStatus.CANCELED, OrderStatus.ACCEPTED}
        return Order(
            intent=intent,
            status=status,
            created_ns=NOW_NS - 50,
            updated_ns=NOW_NS + random.randint(-20, 20),
            suggestion_id=None,
            trace_id=None,
            notional_quote=decimal_text(Decimal(random.randint(1, 10**6)) / 1_000),
            filled_quantity=random.randint(0, intent.quantity) if status in touched else 0,
            authority=MandateAuthority("mandate-1", STRATEGY) if random.random() < 0.5 else None,
        )

    def fill_kernel(self) -> None:
        random, kernel = self.random, self.kernel
        put = kernel._state.put
        for _ in range(random.randint(0, 8)):
            order = self.order()
            put(kernel.orders, order.intent.client_order_id, order)
        for instrument in self.instruments:
            quantity = random.choice((0, 1, -1)) * self.amount()
            put(kernel.positions, (ACCOUNT, "paper", instrument.symbol), Position(quantity=quantity))
        for _ in range(random.randint(0, 4)):
            at_ns = NOW_NS - random.randint(0, 12) * NS_PER_MS
            self.asked.append(self.intent())
            for _ in range(random.randint(1, 3)):
                kernel.activity.order_intended(self.asked[-1], at_ns)
            kernel.activity.amend_requested(self.intent(), at_ns)
            kernel.activity.cancel_requested(self.intent(), at_ns)
        if random.random() < 0.2:
            put(kernel.frozen, ACCOUNT, random.choice(("it differs", "", ODD_TEXT)))
        if random.random() < 0.4:
            switch = AccountSwitch(random.choice(tuple(KillSwitch)), NOW_NS)
            put(kernel.account_switches, ACCOUNT, switch)
        equity = random.choice(("1000", "-5", "0", "33.3333", None))
        observed = None
        if equity is not None:
            start, peak = (random.choice(("1000", "1050.5", equity, "0", "3000")) for _ in range(2))
            day = random.choice(("2027-01-15", "2027-01-14"))
            observed = EquityObserved(
                ts_ns=NOW_NS, account_id=ACCOUNT, day=day, day_start_equity=start, peak_equity=peak, equity=equity
            )
        put(kernel.equity, ACCOUNT, observed)

    def market(self) -> MarketInputs:
        random = self.random
        price = random.choice((10, 20, 30))
        texts = {"bid_price": str(price), "ask_price": f"{price}.5", "mid_price": f"{price}.25"}
        return MarketInputs(
            **{name: self.maybe(text, 0.1) for name, text in texts.items()},
            book_state=random.choice(("LIVE",) * 5 + ("STALE",)),
            book_update_id=1,
            book_age_ms=random.choice((0, 5, 6, 10, 1_001)),
            last_price=random.choice((None, str(price), f"{price}.0001")),
            mark_price=random.choice((None, None, f"{price + 1}", "")),
        )

    def inputs(self) -> DecisionInputs:
        random = self.random
        rates = {"USDT": Decimal(1), "BTC": Decimal(random.choice(("60000", "1E+2", "0.00001")))}
        totals = {asset: Decimal(random.choice(("0", "55", "1e6", "0.125"))) for asset in ("BTC", "USDT", "ETH")}
        return DecisionInputs(
            self.market(),
            venue_connected=random.random() < 0.9,
            worst_price=self.maybe(Decimal("20.5"), 0.4),
            depth_quantity=self.maybe(Decimal(random.choice(("0.5", "40", "1e9"))), 0.3),
            balances=self.maybe(Balances(totals, NOW_NS + random.randint(-25, 25))),
            visible_quantity=self.maybe(Decimal(random.choice(("0", "100", "3")))),
            marks={("paper", symbol): random.randint(1, 60) for symbol in SYMBOLS if random.random() < 0.9},
            rates={asset: rate for asset, rate in rates.items() if random.random() < 0.95},
            margin=self.maybe(MarginInputs(Decimal(random.choice(("5", "100000"))), {"BTCUSDT": 20}, NOW_NS)),
        )

    def subject(self) -> RiskSubject:
        random, kernel = self.random, self.kernel
        if kernel.orders and random.random() < 0.3:
            replaced = random.choice(list(kernel.orders.values()))
            intent = msgspec.structs.replace(
                replaced.intent, quantity=max(1, replaced.remaining_quantity + random.choice((-1, 0, 1)))
            )
            return RiskSubject(intent, replaced.intent.client_order_id, is_amendment=random.random() < 0.7)
        return RiskSubject(
            random.choice(self.asked) if self.asked and random.random() < 0.2 else self.intent(),
            reference_price=self.maybe(Decimal(random.choice(("20", "20.25", "0.000001"))), 0.5),
            max_deviation_bps=self.maybe(Decimal(random.choice(("1", "123.4567"))), 0.5),
        )


def assert_same(kernel: Kernel, subject: RiskSubject, inputs: DecisionInputs) -> Counter[tuple[str, bool]]:
    """What was found natively, by code and whether it passed; nothing where 128 bits don't do."""
    native = decide_risk._run_natively(kernel, subject, inputs, NOW_NS)
    plain = run_risk_in_python(kernel, subject, inputs, NOW_NS)
    assert run_risk(kernel, subject, inputs, NOW_NS) == plain
    if native is None:
        return Counter()
    assert native.checks == plain.checks
    assert isinstance(native.checks, RenderedChecks)
    assert native.checks.json == msgspec.json.encode(plain.checks)
    assert native == plain
    return Counter((record.name, record.passed) for record in native.checks)


@given(st.integers(0, 2**64))
@settings(max_examples=300, deadline=None)
def test_the_same_is_decided_natively_and_in_python(seed: int) -> None:
    draw = Draw(Random(seed))
    for _ in range(3):
        assert_same(draw.kernel, draw.subject(), draw.inputs())


def test_checks_that_are_only_rendered_are_written_and_read_back_as_records() -> None:
    draw = Draw(Random(2))
    subject, inputs = draw.subject(), draw.inputs()
    native, plain = (
        run_risk(draw.kernel, subject, inputs, NOW_NS),
        run_risk_in_python(draw.kernel, subject, inputs, NOW_NS),
    )
    assert isinstance(native.checks, RenderedChecks)

    def intended(checks: tuple[RiskCheckRecord, ...]) -> OrderIntended:
        return OrderIntended(
            ts_ns=NOW_NS,
            intent=subject.intent,
            authority=MandateAuthority("mandate-1", STRATEGY),
            notional_quote="1",
            rules_version=1,
            market=inputs.market,
            checks=checks,
        )

    event = intended(native.checks)
    assert encode_event(event) == encode_event(intended(plain.checks))
    read_back = decode_event(encode_event(event))
    assert isinstance(read_back, OrderIntended)
    assert type(read_back.checks) is tuple
    assert read_back == event
    assert event == read_back
    assert native.checks[0] == plain.checks[0]
    assert len(native.checks) == len(plain.checks)
    assert list(native.checks) == list(plain.checks)
    assert hash(native.checks) == hash(plain.checks)
    assert native.checks != plain.checks[1:]


def test_every_check_is_seen_to_pass_and_to_fail_natively() -> None:
    seen: Counter[tuple[str, bool]] = Counter()
    native = 0
    for seed in range(400):
        draw = Draw(Random(seed))
        for _ in range(3):
            found = assert_same(draw.kernel, draw.subject(), draw.inputs())
            seen += found
            native += bool(found)
    missing = [(code, passed) for code in MESSAGES for passed in (True, False) if not seen[code, passed]]
    assert missing == []
    assert native > 800


@pytest.mark.parametrize(("name", "code"), LIMITS_OF_MONEY.items(), ids=list(LIMITS_OF_MONEY))
def test_a_limit_of_money_is_held_to_the_last_digit(name: str, code: ReasonCode) -> None:
    """given a limit that is what the order measures, the least more and the least less: both say the same of each."""
    flips = 0
    for seed in range(80):
        draw = Draw(Random(seed))
        kernel, subject, inputs = draw.kernel, draw.subject(), draw.inputs()
        actual = Decimal(measured(kernel, subject, inputs, code).actual or 0)
        if not LEAST < actual < Decimal(10) ** 20:
            continue
        outcomes = set()
        for limit in (actual, actual - LEAST, actual + LEAST):
            rules = decide_risk.decide_rules(kernel, rules_document(**{name: f'"{decimal_text(limit)}"'}), None, NOW_NS)
            assert isinstance(rules, tuple)
            kernel.replay(rules)
            assert_same(kernel, subject, inputs)
            outcomes.add(measured(kernel, subject, inputs, code).passed)
        flips += len(outcomes) > 1
    assert flips > 3


def measured(kernel: Kernel, subject: RiskSubject, inputs: DecisionInputs, code: ReasonCode) -> RiskCheckRecord:
    return next(record for record in run_risk(kernel, subject, inputs, NOW_NS).checks if record.name == code)


@given(st.integers(0, 2**64), st.integers(1, 30))
@settings(max_examples=150, deadline=None)
def test_what_is_available_equals_a_walk_over_all_orders_also_after_an_undo(seed: int, changes: int) -> None:
    draw = Draw(Random(seed))
    kernel, random = draw.kernel, draw.random

    def assert_available() -> None:
        balances = Balances({"USDT": Decimal(1_000)}, NOW_NS + random.randint(-25, 25))
        left, plain = available(kernel, balances), walked(kernel, balances)
        assert {asset: amount for asset, amount in left.items() if amount} == {
            asset: amount for asset, amount in plain.items() if amount
        }
        without = random.choice(list(kernel.orders.values())) if kernel.orders else None
        fewer, plain = available(kernel, balances, without), walked(kernel, balances, without)
        assert all(fewer.get(asset, Decimal(0)) == amount for asset, amount in plain.items())

    assert_available()
    kernel.begin()
    before, held = kernel.savepoint(), dict(kernel.orders)
    for _ in range(changes):
        known = random.choice(list(kernel.orders)) if kernel.orders and random.random() < 0.6 else ""
        order = draw.order(known)
        kernel._state.put(kernel.orders, order.intent.client_order_id, order)
        assert_available()
    kernel.rollback(before)
    kernel.commit()
    assert dict(kernel.orders) == held
    assert_available()


def test_an_order_that_was_filled_since_the_balances_were_told_takes_all_of_it() -> None:
    """given an order older than the balances, filled after them or at the same time of a clock that stands still: the
    venue's figure still held what it has spent."""
    kernel = started_kernel()
    intent = OrderIntent(
        ACCOUNT, "paper", "BTCUSDT", Side.BUY, OrderType.LIMIT, TimeInForce.GTC, 10_000, 6_000_000, 2, 5, "vz1"
    )
    order = Order(intent, OrderStatus.FILLED, NOW_NS, NOW_NS + 20, None, None, "6000", filled_quantity=10_000)
    kernel._state.put(kernel.orders, "vz1", order)
    for as_of_ns, left in ((NOW_NS + 10, 4_000), (NOW_NS + 20, 4_000), (NOW_NS + 21, 10_000), (NOW_NS + 20, 4_000)):
        balances = Balances({"USDT": Decimal(10_000)}, as_of_ns)
        assert available(kernel, balances)["USDT"] == walked(kernel, balances)["USDT"] == left


@given(st.lists(st.tuples(st.sampled_from(["order", "amend", "cancel"]), st.integers(0, 30), st.integers(0, 3))))
def test_windows_count_as_the_plain_ones_do(asked: list[tuple[str, int, int]]) -> None:
    native, plain = _native.Activity(), Activity()
    draw = Draw(Random(7))
    intents = [draw.intent() for _ in range(4)]
    for kind, offset_ms, which in asked:
        at_ns = NOW_NS + offset_ms * NS_PER_MS
        for activity in (native, plain):
            note = {"order": activity.order_intended, "amend": activity.amend_requested}.get(
                kind, activity.cancel_requested
            )
            note(intents[which], at_ns)
    restored = _native.Activity()
    load(restored, dump(native))
    assert dump(restored) == dump(native) == dump(plain)
    for window_ms in (1, 10, 30):
        now_ns = NOW_NS + 30 * NS_PER_MS
        for intent in intents:
            print_of = fingerprint(intent)
            assert native.repeats(print_of, window_ms, now_ns) == plain.repeats(print_of, window_ms, now_ns)
            for kind in (ORDER, AMEND, CANCEL):
                for key in ("global", f"account:{ACCOUNT}", f"symbol:{intent.symbol}", f"strategy:{STRATEGY}"):
                    assert native.count(kind, key, window_ms, now_ns) == plain.count(kind, key, window_ms, now_ns)


def test_a_strategys_open_orders_are_added_up() -> None:
    for seed in range(50):
        kernel = Draw(Random(seed)).kernel
        for symbol in SYMBOLS:
            own = [o for o in kernel.open_orders_of(ACCOUNT, "paper", symbol) if o.intent.strategy_id == STRATEGY]
            assert kernel.exposure.of_strategy(ACCOUNT, "paper", symbol, STRATEGY) == tuple(
                sum(order.remaining_quantity for order in own if order.intent.side is side) for side in Side
            )
        mandated = sum(isinstance(order.authority, MandateAuthority) for order in kernel.open_orders())
        assert kernel.exposure.orders_of_mandate("mandate-1") == mandated
