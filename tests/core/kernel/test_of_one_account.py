"""What is asked of one account, at one moment, once: nothing of it reaches another account or happens twice."""

from __future__ import annotations

from decimal import Decimal

import pytest

from core.kernel import decide
from core.kernel.decide import FillReport
from core.kernel.decide_orders import decide_cancel_all, decide_expiry
from core.kernel.kernel import Kernel
from core.orders.machine import ImpossibleTransitionError
from core.risk.kill_switch import KillSwitch
from core.types.authority import DerivedAuthority
from core.types.codes import Refusal
from core.types.events import OrderIntended
from core.types.orders import OrderIntent, OrderStatus, OrderType, Side, TimeInForce
from tests.core.approvals import ACCOUNT, LIVE_MARKET, NOW_NS, started_kernel

OTHER = "acct-other"
HELD, SENT = True, False


def intended(account_id: str, order_id: str, *, is_held: bool, expires_ns: int | None = None) -> OrderIntended:
    intent = OrderIntent(
        account_id=account_id,
        venue="paper",
        symbol="BTCUSDT",
        side=Side.BUY,
        order_type=OrderType.LIMIT,
        time_in_force=TimeInForce.GTC,
        quantity=10_000,
        price=6_000_000,
        price_scale=2,
        quantity_scale=5,
        client_order_id=order_id,
        expires_ns=expires_ns,
    )
    return OrderIntended(
        ts_ns=NOW_NS,
        intent=intent,
        authority=DerivedAuthority("parent", "test"),
        notional_quote="6000",
        rules_version=1,
        market=LIVE_MARKET,
        checks=(),
        is_held=is_held,
    )


@pytest.fixture
def kernel() -> Kernel:
    """An order that is held and one that was sent, of each of two accounts."""
    kernel = started_kernel()
    for account_id in (ACCOUNT, OTHER):
        kernel.apply(intended(account_id, f"{account_id}-held", is_held=HELD))
        kernel.apply(intended(account_id, f"{account_id}-sent", is_held=SENT))
    return kernel


def touched(kernel: Kernel) -> set[str]:
    return {key for key, order in kernel.orders.items() if order.status.is_final or order.cancel_requested}


def test_a_halt_of_one_account_leaves_what_others_hold(kernel: Kernel) -> None:
    decided = decide.decide_kill_switch(kernel, KillSwitch.HALTED, "user", "", None, NOW_NS, account_id=ACCOUNT)
    assert not isinstance(decided, Refusal)
    for event in decided:
        kernel.apply(event)
    assert touched(kernel) == {f"{ACCOUNT}-held"}
    assert kernel.orders[f"{OTHER}-held"].status is OrderStatus.HELD


def test_cancel_all_of_one_account_leaves_the_others(kernel: Kernel) -> None:
    for event in decide_cancel_all(kernel, ACCOUNT, None, "user", NOW_NS):
        kernel.apply(event)
    assert touched(kernel) == {f"{ACCOUNT}-held", f"{ACCOUNT}-sent"}


@pytest.mark.parametrize(("early_ns", "is_over"), [(1, False), (0, True)])
def test_an_order_is_over_at_the_nanosecond_that_it_names(kernel: Kernel, early_ns: int, is_over: bool) -> None:
    kernel.apply(intended(ACCOUNT, "dated", is_held=HELD, expires_ns=NOW_NS + 1_000))
    assert bool(decide_expiry(kernel, NOW_NS + 1_000 - early_ns)) is is_over


def test_an_order_is_intended_once(kernel: Kernel) -> None:
    with pytest.raises(ImpossibleTransitionError, match="intended twice"):
        kernel.apply(intended(ACCOUNT, f"{ACCOUNT}-sent", is_held=SENT))


@pytest.mark.parametrize(
    ("fee", "asset", "quote", "base"),
    [("0.0001", "BTC", 6 * 10**7, "0.0001"), ("6", "USDT", 6 * 10**7, "0"), ("0.01", "BNB", 0, "0")],
)
def test_a_fee_is_worth_what_its_asset_is(kernel: Kernel, fee: str, asset: str, quote: int, base: str) -> None:
    order_id = f"{ACCOUNT}-sent"
    report = FillReport(order_id, "v1", 1, 6_000_000, 10_000, Decimal(fee), asset, False, NOW_NS)
    (event,) = decide.decide_fill(kernel, report, NOW_NS)
    kernel.apply(event)
    assert (event.fee_quote, kernel.orders[order_id].fees_base) == (quote, base)
