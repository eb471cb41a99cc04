"""What of the safety commands that went ahead before a crash still has to be so: what reduces, isn't so already, and
can be. And when nothing of them was kept, an approval of one that is used again can only reduce again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest

from core.kernel.effects import CancelOrder
from core.kernel.kernel import Kernel
from core.kernel.owed import still_due
from core.types.events import (
    ApprovalDecided,
    ApprovalVoided,
    CancelRequested,
    JournalEvent,
    KillSwitchChanged,
    MandateRevoked,
    MandateTightened,
    OrderClosed,
    OrderIntended,
    SessionClosed,
)
from core.types.orders import OrderStatus, OrderType
from tests.core.approvals import NOW_NS, approve, proposal
from tests.core.kernel.desk import Desk, opened
from tests.core.kernel.test_proposed_changes import TIGHTER, cancel, kill, strategy
from tests.core.kernel.test_proposed_orders import PLAIN


def last(desk: Desk) -> JournalEvent:
    return desk.events[-1]


def held_stop(desk: Desk) -> str:
    desk.capabilities = PLAIN
    desk.market(last_price="60000")
    return cast(str, desk.order(order_type=OrderType.STOP, stop_price=6_100_000))


def session_closed() -> SessionClosed:
    return SessionClosed(ts_ns=NOW_NS, session_id="ses-1", requested_by="x", reason="")


def revoked() -> MandateRevoked:
    return MandateRevoked(ts_ns=NOW_NS, mandate_id="man-1", requested_by="x", reason="")


def tightened(**limits: str) -> MandateTightened:
    now = {
        "max_order_notional_quote": "1000000",
        "max_position_notional_quote": "1000000",
        "max_total_notional_quote": "100000000",
        "max_open_orders": "1000000",
    }
    return MandateTightened(ts_ns=NOW_NS, mandate_id="man-1", requested_by="x", reason="", **{**now, **limits})


def voided(version: int) -> ApprovalVoided:
    return ApprovalVoided(
        ts_ns=NOW_NS,
        suggestion_id="sug-9",
        version=version,
        account_id="acct-demo",
        requested_by="x",
        reason="",
        remembered_until_ns=NOW_NS * 2,
    )


def switch(state: str, account_id: str = "") -> KillSwitchChanged:
    return KillSwitchChanged(ts_ns=NOW_NS, state=state, requested_by="x", reason="", account_id=account_id)


def closed(order_id: str, status: OrderStatus = OrderStatus.CANCELED) -> OrderClosed:
    return OrderClosed(ts_ns=NOW_NS, client_order_id=order_id, status=status, reason="")


def asked(order_id: str) -> CancelRequested:
    return CancelRequested(ts_ns=NOW_NS, client_order_id=order_id, requested_by="x")


def after(desk: Desk, *events: JournalEvent) -> None:
    desk.kernel.replay(events)


def filled(desk: Desk) -> str:
    order_id = desk.resting()
    desk.filled(order_id)
    return cast(str, order_id)


CASES: dict[str, tuple[Callable[[Desk], JournalEvent], bool]] = {
    "a tighter switch": (lambda desk: switch("REDUCE_ONLY"), True),
    "an account's": (lambda desk: switch("HALTED", "acct-demo"), True),
    "the state that it is in": (lambda desk: (after(desk, switch("HALTED")), switch("HALTED"))[1], False),
    "a looser one": (lambda desk: (after(desk, switch("HALTED")), switch("NORMAL"))[1], False),
    "an account's looser one": (
        lambda desk: (after(desk, switch("HALTED", "acct-demo")), switch("REDUCE_ONLY", "acct-demo"))[1],
        False,
    ),
    "a cancel": (lambda desk: asked(desk.resting()), True),
    "a cancel of what has ended": (lambda desk: asked(filled(desk)), False),
    "a cancel of nothing": (lambda desk: asked("vz-none"), False),
    "the end of a held order": (lambda desk: closed(held_stop(desk)), True),
    "an end that only the venue can tell": (lambda desk: closed(desk.resting()), False),
    "an expiry": (lambda desk: closed(held_stop(desk), OrderStatus.EXPIRED), False),
    "a session's end": (lambda desk: session_closed(), True),
    "a second one": (lambda desk: (after(desk, session_closed()), session_closed())[1], False),
    "a mandate's end": (lambda desk: revoked(), True),
    "its second end": (lambda desk: (after(desk, revoked()), revoked())[1], False),
    "a tighter mandate": (lambda desk: tightened(max_open_orders="5"), True),
    "the same limits": (lambda desk: tightened(), False),
    "one limit looser": (lambda desk: tightened(max_open_orders="5", max_order_notional_quote="1000001"), False),
    "limits of a mandate that is over": (
        lambda desk: (after(desk, revoked()), tightened(max_open_orders="5"))[1],
        False,
    ),
    "a void version": (lambda desk: voided(2), True),
    "an older one": (lambda desk: (after(desk, voided(2)), voided(1))[1], False),
    "an order": (lambda desk: (desk.strategy_order(), last(desk))[1], False),
}


@pytest.mark.parametrize("case", CASES)
def test_only_what_reduces_and_isnt_so_already_is_due(case: str) -> None:
    desk = opened()
    make, is_due = CASES[case]
    event = make(desk)
    due = still_due(desk.kernel, event)
    assert due == ((event,) if is_due else ())
    for one in due:
        desk.kernel.apply(one)
        assert still_due(desk.kernel, one) == () or isinstance(one, CancelRequested)


@pytest.mark.parametrize(
    ("ask", "caused"),
    [
        (lambda desk: cancel(desk, desk.resting()), ["CancelRequested"]),
        (kill, ["KillSwitchChanged"]),
        (lambda desk: strategy(desk, action="revoke"), ["MandateRevoked"]),
    ],
    ids=["cancel", "halt", "revoke"],
)
def test_a_used_approval_is_used_with_what_it_caused_and_once(ask: Any, caused: list[str]) -> None:
    desk = opened()
    before = desk.kernel.snapshot()
    ask(desk)
    kernel = Kernel.from_snapshot(before)
    kernel.replay(desk.events[-3:-1] if caused == ["CancelRequested"] else [])
    decided = last(desk)
    (due,) = still_due(kernel, decided)
    assert isinstance(due, ApprovalDecided)
    assert [type(event).__name__ for event in due.caused] == caused
    kernel.apply(due)
    assert kernel.consumed == {"sug-1": 1}
    assert still_due(kernel, decided) == ()


def test_an_approval_that_made_an_order_is_none_of_these() -> None:
    desk = opened()
    kernel = Kernel.from_snapshot(desk.kernel.snapshot())
    assert desk.execute(*approve(proposal())) is not None
    decided = last(desk)
    assert isinstance(decided, ApprovalDecided)
    assert decided.intent is not None
    assert still_due(kernel, decided) == ()


def test_an_approval_cant_bring_along_what_does_more_than_reduce() -> None:
    """given a file that somebody wrote who may write the journal's folder."""
    desk = opened()
    kernel = Kernel.from_snapshot(desk.kernel.snapshot())
    desk.strategy_order()
    order = last(desk)
    assert isinstance(order, OrderIntended)
    kill(desk)
    halted = last(desk)
    assert isinstance(halted, ApprovalDecided)
    resting = msgspec.structs.replace(order, is_held=True)
    forged = msgspec.structs.replace(halted, caused=(switch("NORMAL"), resting, closed("vz-none")))
    kernel.apply(switch("HALTED"))
    (due,) = still_due(kernel, forged)
    assert cast(ApprovalDecided, due).caused == ()


def nothing(_kernel: Kernel, _order_id: str) -> None:
    """The venue, and people, did nothing since."""


def gone(kernel: Kernel, order_id: str) -> None:
    kernel.apply(closed(order_id))


def over(kernel: Kernel, _order_id: str) -> None:
    kernel.apply(revoked())


def thawed(kernel: Kernel, _order_id: str) -> None:
    kernel.replay((switch("HALTED"), switch("NORMAL")))


@pytest.mark.parametrize(
    ("ask", "since", "caused", "code"),
    [
        (cancel, nothing, [CancelRequested], None),
        (cancel, gone, [], "ORDER_ALREADY_FINAL"),
        (lambda desk, _order_id: strategy(desk, action="revoke"), nothing, [MandateRevoked], None),
        (lambda desk, _order_id: strategy(desk, action="revoke"), over, [], "AUTHORITY_MANDATE_REVOKED"),
        (lambda desk, _order_id: strategy(desk, **TIGHTER), nothing, [MandateTightened], None),
        (lambda desk, _order_id: kill(desk), nothing, [KillSwitchChanged], None),
        (lambda desk, _order_id: kill(desk), thawed, [KillSwitchChanged], None),
    ],
    ids=["cancel", "cancel of what is gone", "revoke", "revoke again", "tighten", "halt", "halt after a thaw"],
)
def test_an_approval_whose_use_was_lost_can_only_reduce_once_more(
    ask: Any, since: Any, caused: list[Any], code: str | None
) -> None:
    """given a crash that took the record and the file with it, and whatever happened since."""
    desk = opened()
    order_id = desk.resting()
    before = desk.kernel.snapshot()
    ask(desk, order_id)
    desk.kernel = Kernel.from_snapshot(before)
    since(desk.kernel, order_id)
    twin = Kernel.from_snapshot(desk.kernel.snapshot())
    ask(desk, order_id)
    again = last(desk)
    assert isinstance(again, ApprovalDecided)
    assert (again.intent, [type(event) for event in again.caused]) == (None, caused)
    assert (again.refusal and again.refusal.code.value) == code
    assert all(isinstance(effect, CancelOrder) for effect in twin.apply(again))
    assert all(still_due(Kernel.from_snapshot(before), event) == (event,) for event in again.caused), (
        "all of it reduces"
    )
    assert twin.consumed == {"sug-1": 1}


@pytest.mark.parametrize(
    ("ask", "since", "code"),
    [
        (cancel, gone, "ORDER_ALREADY_FINAL"),
        (lambda desk, _order_id: strategy(desk, action="revoke"), over, "AUTHORITY_MANDATE_REVOKED"),
        (lambda desk, _order_id: strategy(desk, **TIGHTER), over, "AUTHORITY_MANDATE_REVOKED"),
        (
            lambda desk, _order_id: strategy(desk, **TIGHTER),
            lambda kernel, _order_id: kernel.apply(tightened(max_open_orders="1")),
            "APPROVAL_SUBJECT_CHANGED",
        ),
        (
            lambda desk, _order_id: kill(desk),
            lambda kernel, _order_id: kernel.apply(switch("HALTED", "acct-demo")),
            None,
        ),
    ],
    ids=["cancel of what is gone", "revoke again", "tighten what is over", "tighten what is tighter", "halt again"],
)
def test_a_used_approval_that_can_do_nothing_any_more_is_used_and_says_why(ask: Any, since: Any, code: Any) -> None:
    """given that the journal turned out to hold what made it needless."""
    desk = opened()
    order_id = desk.resting()
    before = desk.kernel.snapshot()
    ask(desk, order_id)
    kernel = Kernel.from_snapshot(before)
    since(kernel, order_id)
    (due,) = still_due(kernel, last(desk))
    assert isinstance(due, ApprovalDecided)
    assert (due.caused, due.refusal and due.refusal.code.value) == ((), code)
    kernel.apply(due)
    assert kernel.consumed == {"sug-1": 1}
