"""Until the venue has answered, an order that was asked to change rests as it is and as it may be: the worse counts."""

from __future__ import annotations

import msgspec
import pytest

from core.kernel import decide
from core.kernel.kernel import Kernel
from core.types.authority import SafetyAuthority
from core.types.codes import ReasonCode, Refusal
from core.types.events import OrderAmendRequested
from core.types.orders import Side
from tests.core.approvals import ACCOUNT, BTC, LIVE_MARKET, NOW_NS, decide_on, proposal, started_kernel

LOT = 10_000
"""A tenth of a BTC."""


@pytest.fixture
def resting() -> tuple[Kernel, str]:
    """A kernel with a BUY of 0.1 BTC at 60,000 that the venue has accepted, and the order's id."""
    kernel = started_kernel()
    decided = decide_on(kernel, proposal())
    kernel.apply(decided)
    assert decided.intent is not None
    order_id = decided.intent.client_order_id
    kernel.replay(decide.decide_accepted(kernel, order_id, "7", NOW_NS + 2))
    return kernel, order_id


def ask(kernel: Kernel, order_id: str, quantity: int, price: int) -> None:
    kernel.apply(
        OrderAmendRequested(
            ts_ns=NOW_NS + 3,
            client_order_id=order_id,
            quantity=quantity,
            price=price,
            authority=SafetyAuthority("test"),
            rules_version=1,
            market=LIVE_MARKET,
            checks=(),
        )
    )


def rests(kernel: Kernel) -> tuple[int, int | None]:
    """How much is bought at most, and at which price a sell would meet it."""
    own = kernel.exposure.resting(ACCOUNT, BTC.venue, BTC.symbol)
    return own.quantity(Side.BUY), own.opposite_price(Side.SELL)


@pytest.mark.parametrize(
    ("quantity", "price", "at_most"),
    [
        (2 * LOT, 6_000_000, (2 * LOT, 6_000_000)),
        (LOT // 2, 6_000_000, (LOT, 6_000_000)),
        (LOT, 6_000_100, (LOT, 6_000_100)),
        (LOT, 5_999_900, (LOT, 6_000_000)),
        (3 * LOT, 5_999_900, (3 * LOT, 6_000_000)),
    ],
)
def test_what_is_larger_or_nearer_to_meeting_us_counts_until_the_venue_has_answered(
    resting: tuple[Kernel, str], quantity: int, price: int, at_most: tuple[int, int]
) -> None:
    kernel, order_id = resting
    ask(kernel, order_id, quantity, price)
    assert rests(kernel) == at_most
    assert rests(Kernel.from_snapshot(kernel.snapshot())) == at_most


def test_then_it_counts_as_the_venue_says(resting: tuple[Kernel, str]) -> None:
    kernel, order_id = resting
    ask(kernel, order_id, 3 * LOT, 6_000_100)
    kernel.replay(decide.decide_amended(kernel, order_id, 3 * LOT, 6_000_100, NOW_NS + 4))
    assert rests(kernel) == (3 * LOT, 6_000_100)
    ask(kernel, order_id, 5 * LOT, 6_000_200)
    refusal = Refusal(ReasonCode.ORDER_REJECTED_BY_VENUE, "no")
    kernel.replay(decide.decide_amend_refused(kernel, order_id, refusal, NOW_NS + 5))
    assert rests(kernel) == (3 * LOT, 6_000_100)


def test_an_amendment_that_is_undone_counts_no_more(resting: tuple[Kernel, str]) -> None:
    kernel, order_id = resting
    kernel.begin()
    before = kernel.savepoint()
    ask(kernel, order_id, 2 * LOT, 6_000_100)
    kernel.rollback(before)
    kernel.commit()
    assert rests(kernel) == (LOT, 6_000_000)
    assert msgspec.structs.asdict(kernel.orders[order_id])["pending_amend"] is None
