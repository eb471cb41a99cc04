"""An order that has ended and left memory: whatever is said of it afterwards changes nothing and breaks nothing.

Invariants of leaving: so many orders at most between two events, however many ended at once; in the long run no more
are kept than are meant to be; an order on which an open one depends stays, and keeps no other; natively and in Python,
from the first record and from a snapshot, undone and not, the state is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from random import Random
from typing import Any

import msgspec
import pytest

from core.kernel import decide
from core.kernel import kernel as kernel_module
from core.kernel.decide import FillReport
from core.kernel.kernel import FINAL_ORDERS_KEPT_NS, Kernel
from core.types.authority import DerivedAuthority, ExternalAuthority, MandateAuthority
from core.types.codes import ReasonCode, Refusal
from core.types.events import EquityObserved, JournalEvent, OrderAdopted, OrderClosed, OrderIntended, OrderRejected
from core.types.orders import OrderIntent, OrderStatus, OrderType, Side, TimeInForce
from tests.core.approvals import ACCOUNT, LIVE_MARKET, NOW_NS, decide_on, equity, proposal, started_kernel
from tests.core.kernel.desk import STRATEGY, opened
from tests.simulation.planted import NothingIsPlain

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


KEPT, KEPT_NS, TIDY, AT_ONCE = 5, 40, 8, 4
INTENT = OrderIntent(
    ACCOUNT,
    "paper",
    "BTCUSDT",
    Side.BUY,
    OrderType.LIMIT,
    TimeInForce.GTC,
    100,
    6_000_000,
    2,
    5,
    "",
    strategy_id=STRATEGY,
)
BY = MandateAuthority("man-1", STRATEGY)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    for name, value in (
        ("FINAL_ORDERS_KEPT", KEPT),
        ("FINAL_ORDERS_KEPT_NS", KEPT_NS),
        ("TIDY_INTERVAL_EVENTS", TIDY),
        ("RETIRED_AT_ONCE", AT_ONCE),
    ):
        monkeypatch.setattr(kernel_module, name, value)
    return opened().kernel


def intended(order_id: str, now_ns: int, **changes: Any) -> OrderIntended:
    return OrderIntended(
        ts_ns=now_ns,
        intent=msgspec.structs.replace(INTENT, client_order_id=order_id),
        authority=changes.pop("authority", BY),
        notional_quote="6",
        rules_version=1,
        market=LIVE_MARKET,
        checks=(),
        **changes,
    )


def rejected(order_id: str, now_ns: int) -> OrderRejected:
    return OrderRejected(ts_ns=now_ns, client_order_id=order_id, refusal=REFUSAL)


def short(number: int, now_ns: int) -> tuple[JournalEvent, ...]:
    """A life of as few events as there can be."""
    return intended(f"vz-{number}", now_ns), rejected(f"vz-{number}", now_ns)


def bracket(number: int, now_ns: int) -> tuple[JournalEvent, ...]:
    """Its entry is over, its exit still held."""
    entry, group = f"vz-{number}", {"group_id": f"group-{number}"}
    exit_order = intended(
        f"{entry}-exit",
        now_ns,
        authority=DerivedAuthority(entry, "bracket.stop"),
        is_held=True,
        role="stop",
        parent_id=entry,
        **group,
    )
    return intended(entry, now_ns, role="entry", **group), exit_order, rejected(entry, now_ns)


def ended(order_id: str, now_ns: int) -> OrderClosed:
    return OrderClosed(ts_ns=now_ns, client_order_id=order_id, status=OrderStatus.CANCELED, reason="")


def test_a_burst_leaves_bit_by_bit_and_in_the_end_no_more_are_kept_than_are_meant_to_be(small: Kernel) -> None:
    for number in range(200):
        small.replay(short(number, NOW_NS))
    assert len(small.index.final) == 200
    now_ns, most = NOW_NS + KEPT_NS, len(small.index.final)
    while len(small.index.final) > KEPT:
        for _ in range(TIDY):
            now_ns += 1
            small.apply(msgspec.structs.replace(equity(), ts_ns=now_ns))
        left = len(small.index.final)
        assert most - AT_ONCE <= left < most
        most = left
    assert len(small.orders) == KEPT
    assert all(small.knows_order(f"vz-{number}") for number in range(200))


def test_however_fast_orders_come_and_go_no_more_are_kept_than_ended_lately(small: Kernel) -> None:
    for number in range(400):
        small.replay(short(number, NOW_NS + number))
        assert len(small.index.final) <= KEPT_NS + TIDY


def test_what_an_open_order_depends_on_stays_and_keeps_nothing_else(small: Kernel) -> None:
    for number in range(2 * AT_ONCE):
        small.replay(bracket(number, NOW_NS))
    for number in range(2 * AT_ONCE, 100):
        small.replay(short(number, NOW_NS + KEPT_NS))
    late_ns = NOW_NS + 3 * KEPT_NS
    for count in range(100 * TIDY):
        small.apply(msgspec.structs.replace(equity(), ts_ns=late_ns + count))
    assert set(small.index.final) == {f"vz-{number}" for number in range(2 * AT_ONCE)}
    for number in range(2 * AT_ONCE):
        small.apply(ended(f"vz-{number}-exit", late_ns))
    for count in range(100 * TIDY):
        small.apply(msgspec.structs.replace(equity(), ts_ns=late_ns + 2 * KEPT_NS + count))
    assert len(small.orders) == KEPT


def lives(random: Random) -> Iterator[JournalEvent]:
    """Orders of every kind, in groups of one time."""
    now_ns, open_ids = NOW_NS, list[str]()
    for number in range(300):
        now_ns += random.choice((0, 0, 1, 9))
        kind = random.randrange(6)
        if kind == 0:
            events = bracket(number, now_ns)
            open_ids.append(f"vz-{number}-exit")
        elif kind == 1:
            seen = msgspec.structs.replace(INTENT, client_order_id=f"web-{number}", strategy_id="")
            adopted = OrderAdopted(
                ts_ns=now_ns,
                intent=seen,
                venue_order_id=f"v{number}",
                authority=ExternalAuthority("x"),
                notional_quote="6",
            )
            events = (adopted, ended(f"web-{number}", now_ns))
        elif kind == 2 and open_ids:
            events = (ended(open_ids.pop(random.randrange(len(open_ids))), now_ns),)
        else:
            events = short(number, now_ns)
        yield from events


@pytest.mark.parametrize("seed", range(4))
def test_orders_leave_natively_as_in_python_undone_or_not_and_from_a_snapshot(small: Kernel, seed: int) -> None:
    random = Random(seed)
    oracle, resumed = Kernel.from_snapshot(small.snapshot()), Kernel.from_snapshot(small.snapshot())
    oracle.plain = NothingIsPlain()  # type: ignore[assignment]
    retired = 0
    for event in lives(random):
        if random.random() < 0.1:
            resumed = Kernel.from_snapshot(resumed.snapshot())
        if random.random() < 0.5:
            before, digest = len(small.orders), small.state_digest()
            small.begin()
            at = small.savepoint()
            small.apply(event)
            retired += len(small.orders) < before
            small.rollback(at)
            assert small.state_digest() == digest
            small.commit()
        for kernel in (small, oracle, resumed):
            kernel.apply(event)
        assert small.state_digest() == oracle.state_digest() == resumed.state_digest()
        assert set(small.index.final) == set(oracle.index.final) == set(resumed.index.final)
    assert retired, "some of what was undone had let an order go"
    assert len(small.retired) > 100
