"""Rates of one user, one tool, one account; places among the calls in flight, first come first served."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from core.types.codes import ReasonCode, RefusalError
from tests.tools.doubles import House
from tests.tools.people import ACCOUNT, TRADER
from tests.tools.policies import TOOLS, policy_with, text_with
from tools.limits import GatewayLimits, Places, limits_of
from tools.policy import default_policy, load_policy

ONE_AT_ONCE = GatewayLimits(1, in_flight_calls=1, queued_calls=2)


def rate(name: str, burst: int) -> dict[str, str]:
    return {name: f"{name} = {{ calls_per_s = 1, burst_calls = {burst} }}"}


@pytest.mark.parametrize(
    ("name", "calls", "told"),
    [
        ("principal", [("get_ticker", "a"), ("get_positions", "a"), ("get_ticker", "a")], "You call tools too often."),
        ("principal_tool", [("get_ticker", "a")] * 3, "You call get_ticker too often."),
        ("tool", [("get_ticker", "a"), ("get_ticker", "b"), ("get_ticker", "c")], "Everybody together"),
        ("account", [("get_positions", "a"), ("get_open_orders", "b"), ("get_positions", "c")], "about this account"),
    ],
)
async def test_each_rate_counts_what_it_is_named_after(name: str, calls: list[tuple[str, str]], told: str) -> None:
    house = House(policy=policy_with(**rate(name, 2)))
    results = []
    for tool, user in calls:
        principal = msgspec.structs.replace(TRADER, user_id=user)
        arguments: dict[str, Any] = {"symbol": "BTCUSDT"} if tool == "get_ticker" else {"account_id": ACCOUNT}
        results.append(await house.ask(tool, principal, **arguments))
    assert [result.refusal and result.refusal.code for result in results] == [None, None, ReasonCode.TOOL_RATE_EXCEEDED]
    assert told in results[2].refusal.message
    assert results[2].retry_after_ms == 1_001


@pytest.mark.parametrize(
    ("name", "calls"),
    [
        ("principal", [("get_ticker", "a"), ("get_ticker", "b"), ("get_ticker", "c")]),
        ("principal_tool", [("get_ticker", "a"), ("get_positions", "a"), ("get_ticker", "b")]),
        ("tool", [("get_ticker", "a"), ("get_positions", "a"), ("get_open_orders", "a")]),
        ("account", [("get_ticker", "a"), ("get_ticker", "a"), ("get_ticker", "a")]),
    ],
)
async def test_a_rate_leaves_alone_what_it_is_not_named_after(name: str, calls: list[tuple[str, str]]) -> None:
    house = House(policy=policy_with(**rate(name, 2)))
    for tool, user in calls:
        principal = msgspec.structs.replace(TRADER, user_id=user)
        arguments: dict[str, Any] = {"symbol": "BTCUSDT"} if tool == "get_ticker" else {"account_id": ACCOUNT}
        assert (await house.ask(tool, principal, **arguments)).refusal is None


async def test_a_call_that_one_rate_refuses_takes_from_no_other() -> None:
    house = House(policy=policy_with(**rate("account", 1), **rate("principal", 3)))
    assert (await house.ask("get_positions")).refusal is None
    for _ in range(5):
        assert "about this account" in (await house.ask("get_positions")).refusal.message
    assert (await house.ask("get_ticker", symbol="BTCUSDT")).refusal is None
    assert (await house.ask("get_ticker", symbol="BTCUSDT")).refusal is None


@pytest.mark.parametrize(
    ("policy_calls", "settings_calls", "limit"),
    [("calls = 3", 12, "3"), ("calls = 100", 2, "2"), ("calls = 2", 2, "2")],
)
async def test_of_the_policys_and_the_settings_bound_of_a_run_the_lower_one_holds(
    policy_calls: str, settings_calls: int, limit: str
) -> None:
    house = House(policy=policy_with(calls=policy_calls), max_calls_per_run=settings_calls)
    for _ in range(int(limit)):
        assert (await house.ask("get_ticker", run_id="r", symbol="BTCUSDT")).refusal is None
    refused = await house.ask("get_ticker", run_id="r", symbol="BTCUSDT")
    assert (refused.refusal.code, refused.refusal.limit) == (ReasonCode.TOOL_BUDGET_EXCEEDED, limit)


async def test_an_agents_calls_count_towards_its_owners_day() -> None:
    house = House(policy=load_policy(text_with().replace("calls = 20000", "calls = 2"), "policy.toml", TOOLS))
    agent = msgspec.structs.replace(TRADER, user_id="agent-1", kind="agent", on_behalf_of=TRADER.user_id)
    assert (await house.ask("get_ticker", symbol="BTCUSDT")).refusal is None
    assert (await house.ask("get_ticker", agent, symbol="BTCUSDT")).refusal is None
    assert (await house.ask("get_ticker", agent, symbol="BTCUSDT")).refusal.unit == "calls per user and day"


def test_the_default_policy_says_every_bound() -> None:
    limits = limits_of(default_policy().document)
    assert (limits.burst_tokens, limits.tokens_per_s, limits.in_flight_calls) == (40, 10, 64)
    assert None not in (limits.principal, limits.tool, limits.account, limits.budgets().user_day.calls)


async def waiting(places: Places, limits: GatewayLimits, count: int) -> list[asyncio.Task[None]]:
    tasks = [asyncio.create_task(places.enter(limits)) for _ in range(count)]
    await asyncio.sleep(0)
    return tasks


async def test_places_are_given_in_the_order_of_asking() -> None:
    places = Places()
    await places.enter(ONE_AT_ONCE)
    first, second = await waiting(places, ONE_AT_ONCE, 2)
    with pytest.raises(RefusalError) as caught:
        await places.enter(ONE_AT_ONCE)
    assert (caught.value.refusal.unit, caught.value.retry_after_ms) == ("calls waiting", 1_000)
    places.leave(ONE_AT_ONCE)
    await first
    assert not second.done()
    places.leave(ONE_AT_ONCE)
    await second


async def test_one_that_stops_waiting_leaves_its_turn_to_the_next() -> None:
    places = Places()
    await places.enter(ONE_AT_ONCE)
    first, second = await waiting(places, ONE_AT_ONCE, 2)
    first.cancel()
    await asyncio.wait({first})
    places.leave(ONE_AT_ONCE)
    await second


async def test_one_that_is_cancelled_just_as_its_place_comes_gives_it_back() -> None:
    places = Places()
    await places.enter(ONE_AT_ONCE)
    first, second = await waiting(places, ONE_AT_ONCE, 2)
    places.leave(ONE_AT_ONCE)
    first.cancel()
    await asyncio.wait({first})
    await second


async def test_a_wait_that_is_too_long_is_refused() -> None:
    places, limits = Places(), GatewayLimits(1, in_flight_calls=1, queue_wait_s=0.01)
    await places.enter(limits)
    with pytest.raises(RefusalError) as caught:
        await places.enter(limits)
    assert (caught.value.refusal.code, caught.value.refusal.unit) == (
        ReasonCode.TOOL_RATE_EXCEEDED,
        "calls in flight",
    )
    places.leave(limits)
    await places.enter(limits)


async def test_a_larger_number_of_places_holds_at_once() -> None:
    places = Places()
    await places.enter(ONE_AT_ONCE)
    first, second = await waiting(places, ONE_AT_ONCE, 2)
    places.leave(GatewayLimits(1, in_flight_calls=2))
    await asyncio.gather(first, second)
