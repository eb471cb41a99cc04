"""What the engine does by itself: tighten on losses, on a lost stream and on an absent operator; each at its limit."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal

import msgspec
import pytest

from core.authority.administration import AdministrationDocument, administration_bytes, sign_administration
from core.kernel import decide
from core.kernel.decide_risk import decide_rules
from core.kernel.inputs import MarginInputs
from core.risk.kill_switch import KillSwitch
from core.storage.journal import JournalUnavailableError
from core.types.clock import NS_PER_S
from core.types.codes import Refusal
from core.types.events import KillSwitchChanged
from core.types.instruments import Product
from core.types.orders import Side
from tests.core.approvals import ACCOUNT, BTC, ENGINE_ID, ROOT_SEED
from tests.core.kernel.desk import rules
from tests.core.runtime.guard_support import Watched

RULES = rules(
    max_daily_loss_quote='"50000"', max_drawdown_bps="2000", user_stream_lost_after_s="120", dead_mans_timer_s="30"
)
Start = Callable[..., Awaitable[Watched]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    running: list[Watched] = []

    async def started(document: str = RULES) -> Watched:
        watched = Watched(document)
        running.append(watched)
        await watched.start()
        return watched

    yield started
    for watched in running:
        await watched.close()


def reasons(watched: Watched) -> list[tuple[str, str, str]]:
    return [
        (event.account_id, event.state, event.reason)
        for event in (entry.event() for entry in watched.journal.entries())
        if isinstance(event, KillSwitchChanged)
    ]


async def renewed(watched: Watched, seconds: float) -> None:
    """Time passes, with somebody there."""
    watched.clock.pass_s(seconds)
    watched.service.renew_dead_mans_timer("operator")
    await watched.guard.look()


@pytest.mark.parametrize(("worth", "state"), [("950000.01", "NORMAL"), ("950000", "REDUCE_ONLY")])
async def test_a_days_loss_at_its_limit_leaves_only_what_reduces(start: Start, worth: str, state: str) -> None:
    watched = await start()
    watched.worth(worth)
    await renewed(watched, 0.25)
    assert watched.switch == state
    assert watched.kernel.kill_switch is KillSwitch.NORMAL  # the account's, not the engine's


@pytest.mark.parametrize(("worth", "state"), [("800000.01", "NORMAL"), ("800000", "REDUCE_ONLY")])
async def test_a_drawdown_over_days_at_its_limit_leaves_only_what_reduces(start: Start, worth: str, state: str) -> None:
    watched = await start(rules(max_daily_loss_quote='"1000000"', max_drawdown_bps="2000"))
    watched.worth("900000")
    await watched.look_after(24 * 3600)
    watched.worth(worth)
    await watched.look_after(24 * 3600)
    assert watched.switch == state


async def test_a_loss_of_yesterday_isnt_todays_and_a_switch_stays_thrown(start: Start) -> None:
    watched = await start(rules(max_daily_loss_quote='"50000"'))
    watched.worth("960000")
    await watched.look_after(10)
    watched.worth("920000")
    await watched.look_after(24 * 3600)
    assert watched.switch == "NORMAL"  # the day began with what there is
    watched.worth("870000")
    await watched.look_after(10)
    assert watched.switch == "REDUCE_ONLY"
    watched.worth("990000")
    await watched.look_after(24 * 3600)
    assert watched.switch == "REDUCE_ONLY"  # thawing is administration
    assert len(reasons(watched)) == 1


async def test_equity_is_told_to_the_journal_now_and_then_and_at_once_when_a_limit_is_reached(start: Start) -> None:
    watched = await start()
    told: list[str] = []
    for amount in ("999000", "998000", "940000", "939000", "938000"):
        watched.worth(amount)
        await renewed(watched, 3)
        told.append(watched.kernel.equity[ACCOUNT].equity)
    assert told == ["1000000", "1000000", "940000", "940000", "940000"]
    await renewed(watched, 4)
    assert watched.kernel.equity[ACCOUNT].equity == "938000"


async def test_a_wallet_that_doesnt_know_of_the_last_fill_isnt_valued(start: Start) -> None:
    watched = await start(rules(max_daily_loss_quote='"250000"', max_drawdown_bps="5000"))
    perpetual = msgspec.structs.replace(BTC, product=Product.USDM)
    await watched.record(*decide.decide_instruments(watched.kernel, (perpetual,), watched.clock.ns))
    await renewed(watched, 10)

    async def wallet(amount: str, seconds: float, *, is_new: bool = True) -> str:
        around = watched.service.surroundings
        as_of_ns = watched.clock.ns if is_new or around.margin is None else around.margin.as_of_ns
        around.margin = MarginInputs(Decimal(amount), {}, as_of_ns)
        await renewed(watched, seconds)
        return watched.kernel.equity[ACCOUNT].equity

    assert await wallet("900000", 10) == "900000"
    # Bought and sold at a profit within a moment: the wallet that was read before tells of neither.
    for side in Side:
        await watched.traded(side)
    assert await wallet("700000", 10, is_new=False) == "900000"
    assert watched.switch == "NORMAL"
    assert await wallet("910000", 10) == "900000"  # read just as it was seen: perhaps before
    assert await wallet("910000", 10) == "910000"


async def test_an_account_that_cant_be_valued_isnt_called_a_loss(start: Start) -> None:
    watched = await start()
    watched.service.surroundings.balances = None
    await renewed(watched, 10)
    assert watched.switch == "NORMAL"
    assert Decimal(watched.kernel.equity[ACCOUNT].equity) == 1_000_000


@pytest.mark.parametrize(("lost_s", "state"), [(119.999, "NORMAL"), (120, "CANCEL_ONLY")])
async def test_a_lost_user_stream_ends_with_only_cancels(start: Start, lost_s: float, state: str) -> None:
    watched = await start()
    watched.service.surroundings.lost_since_ns = watched.clock.ns
    await renewed(watched, lost_s)
    assert watched.switch == state


async def test_the_accounts_own_limit_on_a_lost_stream_holds_where_it_is_tighter(start: Start) -> None:
    watched = await start(rules(f"\n[account.{ACCOUNT}]\nuser_stream_lost_after_s = 5\n"))
    watched.service.surroundings.lost_since_ns = watched.clock.ns
    await watched.look_after(4.999)
    assert watched.switch == "NORMAL"
    await watched.look_after(0.001)
    assert watched.switch == "CANCEL_ONLY"


async def test_a_stream_that_is_back_in_time_changes_nothing(start: Start) -> None:
    watched = await start()
    watched.service.surroundings.lost_since_ns = watched.clock.ns
    await renewed(watched, 119)
    watched.service.surroundings.lost_since_ns = None
    await renewed(watched, 119)
    assert watched.switch == "NORMAL"


@pytest.mark.parametrize(("silent_s", "state"), [(29.999, "NORMAL"), (30, "HALTED")])
async def test_nobody_there_halts_the_engine_and_cancels_everything(start: Start, silent_s: float, state: str) -> None:
    watched = await start()
    await renewed(watched, 29)
    await watched.look_after(silent_s)
    assert watched.kernel.kill_switch == state


async def test_a_timer_that_is_off_halts_nobody(start: Start) -> None:
    watched = await start(rules())
    await watched.look_after(365 * 24 * 3600)
    assert watched.switch == "NORMAL"


async def reload(watched: Watched, document: str) -> None:
    decided = decide_rules(watched.kernel, document, None, watched.clock.ns)
    assert not isinstance(decided, Refusal), decided
    await watched.record(*decided)


async def test_a_timer_begins_when_it_is_reloaded(start: Start) -> None:
    watched = await start(rules())
    await watched.look_after(3600)
    await reload(watched, RULES)
    await watched.look_after(0)
    assert watched.switch == "NORMAL"
    await watched.look_after(29.999)
    assert watched.switch == "NORMAL"
    await watched.look_after(0.001)
    assert watched.switch == "HALTED"


async def test_books_go_by_the_age_that_was_reloaded(start: Start) -> None:
    watched = await start()
    asked: list[int] = []
    watched.service.hub.stale_after = asked.append  # type: ignore[method-assign]
    await reload(watched, rules(book_stale_after_ms="700"))
    await watched.look_after(0)
    assert asked == [700]


async def test_without_a_journal_the_timer_still_halts(start: Start) -> None:
    watched = await start()
    watched.disk.write_errors.extend(OSError(errno.ENOSPC, "No space left on device") for _ in range(100))
    watched.worth("999999")
    with pytest.raises(JournalUnavailableError):
        await watched.look_after(10)  # what must be recorded to count isn't so
    with pytest.raises(JournalUnavailableError):
        await watched.look_after(20)
    assert watched.kernel.kill_switch is KillSwitch.HALTED


async def test_an_account_that_was_thawed_after_a_loss_stays_thawed_until_it_loses_again(start: Start) -> None:
    watched = await start(rules(max_daily_loss_quote='"50000"'))
    watched.worth("950000")
    await watched.look_after(0.25)
    assert watched.switch == "REDUCE_ONLY"
    watched.clock.pass_s(1)
    document = administration_bytes(
        AdministrationDocument(
            document_id="doc-1",
            engine_id=ENGINE_ID,
            kind="thaw",
            body={"state": "NORMAL", "account_id": ACCOUNT, "reason": "looked at"},
            issued_at_ns=str(watched.clock.ns),
            expires_at_ns=str(watched.clock.ns + NS_PER_S),
            requested_by="operator",
        )
    )
    signature = sign_administration(ROOT_SEED, document)
    assert await watched.service.administer(document, [("root", signature)]) is None
    await watched.look_after(0.25)
    assert watched.switch == "NORMAL"
    watched.worth("900000.01")
    await watched.look_after(0.25)
    assert watched.switch == "NORMAL"
    watched.worth("900000")
    await watched.look_after(0.25)
    assert watched.switch == "REDUCE_ONLY"
