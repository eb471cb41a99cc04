"""A clock that was set back holds every call up until it can be trusted again."""

from __future__ import annotations

import pytest

from core.types.clock import NS_PER_MS, NS_PER_S, ManualClock
from core.types.codes import ReasonCode, refuse
from tests.tools.doubles import House
from tests.tools.people import NOW_NS

ORDER = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.1", "price": "59000"}
HOUR_NS = 3_600 * NS_PER_S


def house_with_an_engine_at(now_ns: int) -> House:
    house = House()
    house.engine.clock = ManualClock(now_ns)
    return house


@pytest.mark.parametrize(("tool", "arguments"), [("suggest_order", ORDER), ("get_ticker", {"symbol": "BTCUSDT"})])
async def test_nothing_is_called_until_the_clock_has_caught_up(tool: str, arguments: dict[str, str]) -> None:
    house = house_with_an_engine_at(NOW_NS)
    house.clock.advance_ns(-HOUR_NS)
    for _ in range(2):
        result = await house.ask(tool, **arguments)
        assert result.refusal.code is ReasonCode.SERVICE_CLOCK_STEPPED_BACK
        assert (result.refusal.limit, result.refusal.actual) == ("1000", "3600000")
    assert set(house.engine.calls) == {"status"}
    assert house.suggestions.rows == {}
    assert [record.outcome for record in house.trail.records] == ["SERVICE_CLOCK_STEPPED_BACK"] * 2
    house.clock.advance_ns(HOUR_NS - NS_PER_S)
    assert (await house.ask(tool, **arguments)).refusal is None


async def test_a_clock_that_was_ahead_and_is_set_right_goes_on_at_once() -> None:
    house = house_with_an_engine_at(NOW_NS - HOUR_NS)
    house.clock.advance_ns(-HOUR_NS)
    assert (await house.ask("get_ticker", symbol="BTCUSDT")).refusal is None
    house.clock.advance_ns(-2 * NS_PER_S)
    assert (await house.ask("get_ticker", symbol="BTCUSDT")).refusal is None, "still within what the engine says"
    house.clock.advance_ns(-2 * NS_PER_S)
    result = await house.ask("get_ticker", symbol="BTCUSDT")
    assert result.refusal.code is ReasonCode.SERVICE_CLOCK_STEPPED_BACK


async def test_a_step_within_a_second_is_none() -> None:
    house = house_with_an_engine_at(NOW_NS + HOUR_NS)
    house.clock.advance_ns(-NS_PER_S)
    assert (await house.ask("get_ticker", symbol="BTCUSDT")).refusal is None
    house.clock.advance_ns(-NS_PER_MS)
    result = await house.ask("get_ticker", symbol="BTCUSDT")
    assert result.refusal.code is ReasonCode.SERVICE_CLOCK_STEPPED_BACK


async def test_with_the_engine_down_a_clock_that_was_set_back_stays_refused() -> None:
    house = house_with_an_engine_at(NOW_NS - HOUR_NS)
    house.engine.failing = refuse(ReasonCode.SERVICE_ENGINE_UNAVAILABLE, "The engine is down.")
    house.clock.advance_ns(-HOUR_NS)
    result = await house.ask("suggest_order", **ORDER)
    assert result.refusal.code is ReasonCode.SERVICE_CLOCK_STEPPED_BACK
