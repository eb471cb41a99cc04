"""Bugs to plant, one at a time: what the simulation must be able to find. Each is a patch of the real code, and none of
them exists outside of the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from core._native import ExposureBook
from core.authority.state import MandateState
from core.kernel import decide, decide_approvals, decide_changes, decide_held, decide_orders, decide_risk, holdings
from core.kernel.decide_void import void_problem
from core.kernel.effects import SubmitOrder
from core.kernel.kernel import Kernel
from core.kernel.state import State
from core.orders.machine import Order
from core.risk import checks
from core.risk.inputs import RiskInputs
from core.runtime import follow
from core.runtime.dispatch import Dispatcher
from core.runtime.follow import Unanswered, VenueFollower
from core.runtime.guard import Guard
from core.runtime.sequencer import Sequencer
from core.types.clock import NS_PER_S
from core.types.codes import ReasonCode, Refusal
from core.types.events import RiskCheckRecord
from core.types.orders import OrderStatus
from core.venues.ports import SubmitRefused, SubmitUnknown
from tests.core.storage.faults import MemoryFile
from tests.simulation.invariants import Invariant

Patch = pytest.MonkeyPatch


class Bug(msgspec.Struct, frozen=True):
    """What is planted, and the invariants of which one must catch it.

    first_seed: where the search begins. A bug that one seed in seventy shows can miss the first hundred by chance when
    something else changes what a seed does.
    """

    name: str
    plant: Callable[[Patch], None]
    caught_by: frozenset[Invariant]
    first_seed: int = 1


def send_before_journal(patch: Patch) -> None:
    """Orders leave as soon as they are decided; the journal follows."""
    decide_one = Sequencer._decide_one

    def decided(self: Sequencer, item: Any, now_ns: int) -> bool:
        if not decide_one(self, item, now_ns):
            return False
        for effects in item.effects:
            self._acting.send(effects)
        item.effects = tuple(
            tuple(effect for effect in effects if not isinstance(effect, SubmitOrder)) for effects in item.effects
        )
        return True

    patch.setattr(Sequencer, "_decide_one", decided)


def sync_left_out(patch: Patch) -> None:
    patch.setattr(MemoryFile, "sync", lambda _self: None)


def unknown_as_rejected(patch: Patch) -> None:
    """A submit without an answer counts as refused."""
    answered = Dispatcher._answered

    def rejected(self: Dispatcher, order_id: str, result: Any, now_ns: int) -> Any:
        if isinstance(result, SubmitUnknown):
            result = SubmitRefused(Refusal(ReasonCode.ORDER_REJECTED_BY_VENUE, result.detail))
        return answered(self, order_id, result, now_ns)

    patch.setattr(Dispatcher, "_answered", rejected)


def unknown_given_up_at_once(patch: Patch) -> None:
    """The first look that finds nothing settles it."""
    patch.setattr(Unanswered, "is_over", lambda _self, _waited_s: True)


class _Forgetful:
    """What rests, without what has no answer."""

    def __init__(self, *arguments: Any) -> None:
        self._book = ExposureBook(*arguments)

    def order_changed(self, old: Order | None, new: Order | None) -> None:
        self._book.order_changed(_unless_unknown(old), _unless_unknown(new))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._book, name)


def _unless_unknown(order: Order | None) -> Order | None:
    return None if order is None or order.status is OrderStatus.UNKNOWN else order


def unknown_reserves_nothing(patch: Patch) -> None:
    _by_the_oracle(patch)
    patch.setattr(holdings, "ExposureBook", _Forgetful)


class NothingIsPlain:
    """Leaves every order to Python."""

    def __init__(self, *_arguments: Any) -> None:
        pass

    def decide(self, *_arguments: Any) -> None:
        return None

    def apply(self, *_arguments: Any) -> bool:
        return False

    apply_accepted = apply

    def retire(self, order_ids: list[str], *_arguments: Any) -> list[str]:
        return order_ids


def _by_the_oracle(patch: Patch) -> None:
    """The checks as Python makes them, which is where they can be changed."""
    patch.setattr(decide_risk, "_run_natively", lambda *_: None)
    patch.setattr(holdings, "PlainOrders", NothingIsPlain)


def _without(patch: Patch, *left_out: str) -> None:
    _by_the_oracle(patch)
    kept = tuple(check for check in checks.CHECKS if check.__name__ not in left_out)
    assert len(kept) == len(checks.CHECKS) - len(left_out), left_out
    patch.setattr(checks, "CHECKS", kept)


def self_trade_unchecked(patch: Patch) -> None:
    _without(patch, "_self_trade")


def freeze_unchecked(patch: Patch) -> None:
    _without(patch, "frozen")


def balance_unchecked(patch: Patch) -> None:
    """It is looked at, and always found to be enough."""
    _by_the_oracle(patch)

    def enough(inputs: RiskInputs) -> RiskCheckRecord | None:
        record = checks._balance(inputs)
        return None if record is None else msgspec.structs.replace(record, passed=True)

    patch.setattr(checks, "CHECKS", tuple(enough if check is checks._balance else check for check in checks.CHECKS))


def switch_unchecked(patch: Patch) -> None:
    _without(patch, "_kill_switch")
    patch.setattr(Dispatcher, "_stopped", lambda _self, _intent: None)


def rate_window_off_by_one(patch: Patch) -> None:
    _by_the_oracle(patch)
    rate_count = decide_risk._rate_count

    def counted(*args: Any) -> Any:
        rate = rate_count(*args)
        return msgspec.structs.replace(rate, count=max(0, rate.count - 1))

    patch.setattr(decide_risk, "_rate_count", counted)


def open_orders_off_by_one(patch: Patch) -> None:
    _by_the_oracle(patch)
    account_inputs = decide_risk._account_inputs

    def counted(*args: Any) -> Any:
        inputs = account_inputs(*args)
        return msgspec.structs.replace(inputs, open_orders=max(0, inputs.open_orders - 1))

    patch.setattr(decide_risk, "_account_inputs", counted)


def sisters_not_looked_at(patch: Patch) -> None:
    """A leg whose trigger is reached is sent beside the one that rests at the venue."""
    patch.setattr(decide_held, "_sisters", lambda _kernel, _held: [])


def amendment_outrun_by_fills(patch: Patch) -> None:
    """Fills count against the quantity that was known before the amendment."""

    async def nothing(_self: VenueFollower, _seen: Any) -> None:
        pass

    patch.setattr(VenueFollower, "_take_over_more", nothing)


def fills_counted_again(patch: Patch) -> None:
    """A fill that is told twice counts twice."""
    decide_fill = decide.decide_fill

    def decided(kernel: Kernel, report: Any, now_ns: int) -> Any:
        order = kernel.orders[report.client_order_id]
        if report.trade_id in order.trade_ids and order.remaining_quantity >= report.quantity:
            report = msgspec.structs.replace(report, trade_id=1_000_000 + len(order.trade_ids))
        return decide_fill(kernel, report, now_ns)

    patch.setattr(follow.decide, "decide_fill", decided)


def cancel_not_asked_again(patch: Patch) -> None:
    patch.setattr(VenueFollower, "_cancel_again", lambda _self: None)


def requests_not_remembered(patch: Patch) -> None:
    """Asked for again, an order is another one."""
    _by_the_oracle(patch)
    named = decide_orders.requested_order_id
    asked: set[str] = set()

    def order_id(authority_id: str, request_id: str) -> str:
        first = named(authority_id, request_id)
        if first not in asked:
            asked.add(first)
            return first
        return named(authority_id, f"{request_id} {len(asked)}")

    patch.setattr(decide_orders, "requested_order_id", order_id)


def approvals_not_consumed(patch: Patch) -> None:
    verify, apply = decide_approvals.verify_approval, Kernel._apply_approval

    def verified(*args: Any, **kwargs: Any) -> Any:
        return verify(*args, **{**kwargs, "consumed": {}})

    def applied(self: Kernel, event: Any) -> Any:
        with pytest.MonkeyPatch.context() as within:
            within.setattr(Kernel, "knows_order", lambda _self, _order_id: False)
            return apply(self, event)

    patch.setattr(decide_approvals, "verify_approval", verified)
    patch.setattr(Kernel, "_apply_approval", applied)


def caused_not_consumed(patch: Patch) -> None:
    """Only an approval whose order goes out at once is remembered as used."""
    apply = Kernel._apply_approval

    def applied(self: Kernel, event: Any) -> Any:
        effects = apply(self, event)
        if event.caused:
            self._state.put(self.consumptions, event.suggestion_id, None)
        return effects

    patch.setattr(Kernel, "_apply_approval", applied)


def voids_not_looked_at(patch: Patch) -> None:
    patch.setattr(decide_approvals, "void_problem", lambda *_: None)


def void_of_one_version_only(patch: Patch) -> None:
    """The versions before the one that was made void stay good."""

    def problem(kernel: Kernel, suggestion_id: str, version: int) -> Any:
        known = kernel.voided.get(suggestion_id)
        return void_problem(kernel, suggestion_id, version) if known and known.version == version else None

    patch.setattr(decide_approvals, "void_problem", problem)


def shown_not_compared(patch: Patch) -> None:
    """An order is amended or cancelled whatever it was when it was shown."""
    patch.setattr(decide_changes, "_order_as_shown", lambda kernel, said: kernel.orders[said.client_order_id])


def tightening_forgotten(patch: Patch) -> None:
    patch.setattr(MandateState, "tighten", lambda self, _event: self)


def failed_write_not_undone(patch: Patch) -> None:
    """The state keeps what the disk refused."""

    def rollback(self: State, to: Any) -> None:
        del self._undo[to.undo_length :]
        self.sequence, self.last_ts_ns = to.sequence, to.last_ts_ns

    patch.setattr(State, "rollback", rollback)


def timer_out_early(patch: Patch) -> None:
    """The dead man's timer has a second less than its rule says."""
    watch_timer = Guard._watch_timer

    async def watch(self: Guard) -> None:
        service, renewed_ns = self._service, self._service.timer_renewed_ns
        service.timer_renewed_ns = early_ns = renewed_ns - NS_PER_S
        await watch_timer(self)
        if service.timer_renewed_ns == early_ns:
            service.timer_renewed_ns = renewed_ns

    patch.setattr(Guard, "_watch_timer", watch)


BUGS = (
    Bug("orders leave before the journal holds them", send_before_journal, frozenset({Invariant.WRITTEN_AHEAD})),
    Bug("the journal isn't synced", sync_left_out, frozenset({Invariant.WRITTEN_AHEAD, Invariant.DURABLE})),
    Bug("unknown counts as rejected", unknown_as_rejected, frozenset({Invariant.RESOLVED})),
    Bug("unknown is given up at once", unknown_given_up_at_once, frozenset({Invariant.RESOLVED})),
    Bug(
        "unknown reserves nothing",
        unknown_reserves_nothing,
        frozenset({Invariant.RESOLVED, Invariant.LIMITS, Invariant.SELF_TRADE}),
    ),
    Bug("the self-trade check is left out", self_trade_unchecked, frozenset({Invariant.SELF_TRADE})),
    Bug("a frozen account may trade", freeze_unchecked, frozenset({Invariant.FROZEN})),
    Bug("a rate window holds one too many", rate_window_off_by_one, frozenset({Invariant.RATES})),
    Bug("a fill told twice counts twice", fills_counted_again, frozenset({Invariant.FILLS})),
    Bug("a lost cancel stays lost", cancel_not_asked_again, frozenset({Invariant.CANCELLED})),
    Bug("a request asked again is another order", requests_not_remembered, frozenset({Invariant.INTENDED_ONCE})),
    Bug("an approval can be used again", approvals_not_consumed, frozenset({Invariant.INTENDED_ONCE})),
    Bug("what an approval caused doesn't use it up", caused_not_consumed, frozenset({Invariant.INTENDED_ONCE})),
    Bug("a void version can be used", voids_not_looked_at, frozenset({Invariant.VOIDED})),
    Bug("a void leaves the versions before it", void_of_one_version_only, frozenset({Invariant.VOIDED}), 31),
    Bug("what was shown isn't compared", shown_not_compared, frozenset({Invariant.APPROVED})),
    Bug("a tightened mandate is as it was", tightening_forgotten, frozenset({Invariant.AUTHORITY}), 91),
    Bug("what the disk refused stays", failed_write_not_undone, frozenset({Invariant.REPLAY, Invariant.ALIVE})),
    Bug("the kill switch isn't looked at", switch_unchecked, frozenset({Invariant.KILL_SWITCH})),
    Bug("any balance is enough", balance_unchecked, frozenset({Invariant.LIMITS})),
    Bug("legs of one group are at the venue together", sisters_not_looked_at, frozenset({Invariant.GROUPS})),
    Bug("an enlarged order may be filled too early", amendment_outrun_by_fills, frozenset({Invariant.ALIVE}), 241),
    Bug("one open order too many", open_orders_off_by_one, frozenset({Invariant.LIMITS})),
    Bug("the dead man's timer runs out early", timer_out_early, frozenset({Invariant.ALIVE})),
)
