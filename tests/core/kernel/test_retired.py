"""An order that has ended and left memory: whatever is said of it afterwards changes nothing and breaks nothing."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from core.kernel import decide
from core.kernel import kernel as kernel_module
from core.kernel.decide import FillReport
from core.kernel.kernel import FINAL_ORDERS_KEPT_NS, Kernel
from core.types.codes import ReasonCode, Refusal
from core.types.events import EquityObserved
from core.types.orders import OrderStatus
from tests.core.approvals import NOW_NS, decide_on, equity, proposal, started_kernel

REFUSAL = Refusal(ReasonCode.ORDER_REJECTED_BY_VENUE, "no")


def later(after_ns: int) -> EquityObserved:
    """Something happens so long after the time for which an order is kept."""
    return msgspec.structs.replace(equity(), ts_ns=NOW_NS + after_ns + FINAL_ORDERS_KEPT_NS)


@pytest.fixture
def retired(monkeypatch: pytest.MonkeyPatch) -> tuple[Kernel, str]:
    """A kernel that keeps no final order, and the id of one that it knew."""
    monkeypatch.setattr(kernel_module, "FINAL_ORDERS_KEPT", 0)
    monkeypatch.setattr(kernel_module, "TIDY_INTERVAL_EVENTS", 1)
    kernel = started_kernel()
    decided = decide_on(kernel, proposal())
    kernel.apply(decided)
    assert decided.intent is not None
    order_id = decided.intent.client_order_id
    kernel.replay(decide.decide_rejected(kernel, order_id, REFUSAL, NOW_NS + 2))
    assert order_id in kernel.orders, "the venue may still have something to say of it"
    kernel.replay([later(1)])
    assert order_id in kernel.orders
    kernel.replay([later(2)])
    assert order_id not in kernel.orders
    assert kernel.knows_order(order_id)
    return kernel, order_id


LATE: dict[str, Callable[[Kernel, str], tuple[Any, ...]]] = {
    "accepted": lambda kernel, order_id: decide.decide_accepted(kernel, order_id, "7", NOW_NS),
    "rejected": lambda kernel, order_id: decide.decide_rejected(kernel, order_id, REFUSAL, NOW_NS),
    "unknown": lambda kernel, order_id: decide.decide_unknown(kernel, order_id, "time-out", NOW_NS),
    "closed": lambda kernel, order_id: decide.decide_closed(kernel, order_id, OrderStatus.CANCELED, "", NOW_NS),
    "amended": lambda kernel, order_id: decide.decide_amended(kernel, order_id, 5, None, NOW_NS),
    "amend refused": lambda kernel, order_id: decide.decide_amend_refused(kernel, order_id, REFUSAL, NOW_NS),
    "filled": lambda kernel, order_id: decide.decide_fill(
        kernel, FillReport(order_id, "7", 1, 6_000_000, 1, Decimal(0), "USDT", True, NOW_NS), NOW_NS
    ),
}


@pytest.mark.parametrize("what", LATE)
def test_what_is_said_of_an_order_that_has_left_memory_gives_no_event(retired: tuple[Kernel, str], what: str) -> None:
    assert LATE[what](*retired) == ()
