"""Rate limits as they are kept from this side, on clocks that the test moves."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.types.clock import NS_PER_MS, NS_PER_S, ManualClock
from core.types.instruments import Product
from core.venues.binance.clock import ClockSample, ServerClock
from core.venues.binance.endpoints import ENDPOINTS, PATHS, Endpoint, Priority, endpoint_of
from core.venues.binance.limits import (
    CEILING_PERCENT,
    DEFAULT_BAN_S,
    DEFAULT_RULES,
    MAX_BAN_S,
    WINDOW_MARGIN_MS,
    Denied,
    RateLimiter,
    RateRule,
    Reservation,
)

MINUTE_START_NS = 28_333_333 * 60 * NS_PER_S
WEIGHT = "REQUEST_WEIGHT"
RULES = (
    RateRule(WEIGHT, "MINUTE", 1, 100),
    RateRule("ORDERS", "SECOND", 10, 10),
    RateRule("ORDERS", "DAY", 1, 1_000),
)
READ = Endpoint(10, Priority.RECONCILE)
CANCEL = Endpoint(1, Priority.SAFETY)
ORDER = Endpoint(1, Priority.ORDER, orders=1)


class Bench:
    """A limiter on one clock of the test's, that is the venue's as well."""

    def __init__(self, rules: tuple[RateRule, ...] = RULES) -> None:
        self.time = ManualClock(MINUTE_START_NS)
        clock = ServerClock(self.time, self.time.now_ns)
        now_ns = self.time.now_ns()
        clock.adopt([ClockSample(now_ns // NS_PER_MS, now_ns, now_ns)])
        self.limiter = RateLimiter(clock, rules)

    def pass_s(self, seconds: float) -> None:
        self.time.advance_ns(int(seconds * NS_PER_S))

    def ask(self, endpoint: Endpoint, priority: Priority | None = None) -> Reservation | Denied:
        return self.limiter.acquire(endpoint, {}, endpoint.priority if priority is None else priority)

    def send(self, endpoint: Endpoint, headers: dict[str, str] | None = None, priority: Priority | None = None) -> None:
        got = self.ask(endpoint, priority)
        assert isinstance(got, Reservation), got
        self.limiter.settle(got, headers or {})

    def used(self, kind: str = WEIGHT, window_s: int = 60) -> int:
        return next(
            item.used for item in self.limiter.state().buckets if (item.kind, item.window_s) == (kind, window_s)
        )


@pytest.mark.parametrize("priority", list(Priority))
def test_each_priority_gives_way_at_its_share_and_the_more_urgent_go_on(priority: Priority) -> None:
    bench = Bench()
    one = Endpoint(1, priority)
    for _ in range(CEILING_PERCENT[priority]):
        bench.send(one)
    denied = bench.ask(one)
    assert isinstance(denied, Denied)
    assert denied.retry_after_s == pytest.approx(60 + WINDOW_MARGIN_MS / 1_000, abs=0.01)
    for other in Priority:
        got = bench.ask(Endpoint(1, other))
        assert isinstance(got, Reservation) is (other < priority), other
        if isinstance(got, Reservation):
            bench.limiter.release(got)


def test_a_window_that_turns_gives_everything_back_but_what_is_on_its_way() -> None:
    bench = Bench()
    bench.send(READ)
    on_its_way = bench.ask(READ)
    assert isinstance(on_its_way, Reservation)
    assert bench.used() == 20
    bench.pass_s(60)
    assert bench.used() == 10
    bench.limiter.settle(on_its_way, {"x-mbx-used-weight-1m": "95"})
    assert bench.used() == 10, "the count of the window that has ended says nothing of this one"


def test_the_venues_count_is_believed_over_our_own_and_never_undercut() -> None:
    bench = Bench()
    bench.send(CANCEL, {"x-mbx-used-weight-1m": "60", "x-mbx-order-count-10s": "3"})
    assert bench.used() == 60, "another client of this address has used the rest"
    bench.send(CANCEL, {"x-mbx-used-weight-1m": "40"})
    assert bench.used() == 60, "an answer that was overtaken by a later one"
    bench.send(READ)
    assert bench.used() == 70, "an answer without a count costs what the table says"
    assert isinstance(bench.ask(Endpoint(20, Priority.RECONCILE)), Denied)
    assert isinstance(bench.ask(Endpoint(20, Priority.ORDER)), Reservation)


def test_orders_are_counted_for_the_account_apart_from_weight() -> None:
    bench = Bench()
    for _ in range(9):
        bench.send(ORDER)
    denied = bench.ask(ORDER)
    assert isinstance(denied, Denied)
    assert "ORDERS in 10 s" in denied.reason
    assert denied.retry_after_s < 11
    bench.send(ORDER, priority=Priority.SAFETY)  # the last place is for what can only reduce
    bench.send(CANCEL)
    bench.pass_s(10.1)
    bench.send(ORDER, {"x-mbx-order-count-10s": "1", "x-mbx-order-count-1d": "940"})
    assert bench.used("ORDERS", 86_400) == 940
    for _ in range(8):
        bench.send(ORDER)
    bench.pass_s(10.1)
    bench.send(ORDER)
    bench.send(ORDER)
    denied = bench.ask(ORDER)
    assert isinstance(denied, Denied)
    assert "ORDERS in 86400 s" in denied.reason


def test_a_request_that_was_not_sent_is_given_back() -> None:
    bench = Bench()
    got = bench.ask(READ)
    assert isinstance(got, Reservation)
    assert bench.used() == 10
    bench.limiter.release(got)
    assert bench.used() == 0


@pytest.mark.parametrize("priority", list(Priority))
def test_after_a_429_nothing_goes_out_until_the_venue_allows_it(priority: Priority) -> None:
    bench = Bench()
    assert bench.limiter.on_refused(429, -1003, "Too much request weight used", 30.0) == 30.0
    denied = bench.ask(Endpoint(1, priority))
    assert isinstance(denied, Denied)
    assert (denied.is_blocked, denied.is_banned, denied.retry_after_s) == (True, False, 30.0)
    bench.pass_s(29)
    state = bench.limiter.state()
    assert (state.is_blocked, state.is_banned, state.blocked_for_s) == (True, False, 1.0)
    assert isinstance(bench.ask(Endpoint(1, priority)), Denied)
    bench.pass_s(1)
    assert isinstance(bench.ask(Endpoint(1, priority)), Reservation)
    assert bench.limiter.state().rate_exceeded_count == 1


@pytest.mark.parametrize(
    ("message", "retry_after_s", "expected_s"),
    [
        ("Way too much request weight used; IP banned until {until}.", None, 300.0),
        ("Way too much request weight used; IP banned until {until}.", 400.0, 400.0),
        ("banned", None, DEFAULT_BAN_S),
        ("banned", 10.0**9, MAX_BAN_S),
    ],
)
def test_a_ban_lasts_as_long_as_the_venue_says(message: str, retry_after_s: float | None, expected_s: float) -> None:
    bench = Bench()
    until_ms = bench.time.now_ns() // NS_PER_MS + 300_000
    waited_s = bench.limiter.on_refused(418, -1003, message.format(until=until_ms), retry_after_s)
    assert waited_s == pytest.approx(expected_s, abs=0.01)
    bench.pass_s(waited_s - 1)
    state = bench.limiter.state()
    assert (state.is_blocked, state.is_banned, state.banned_count) == (True, True, 1)
    assert isinstance(bench.ask(CANCEL), Denied)
    bench.pass_s(1.1)
    assert isinstance(bench.ask(CANCEL), Reservation)
    assert not bench.limiter.state().is_banned


def test_a_429_without_a_time_waits_for_the_window_to_turn() -> None:
    bench = Bench()
    bench.pass_s(20)
    assert bench.limiter.on_refused(429, -1003, "Too many requests", None) == pytest.approx(40, abs=0.1)


@pytest.mark.parametrize(("words", "waits_s"), [("10 orders per 10 SECOND", 10), ("1000 orders per 1 DAY", 27_600)])
def test_too_many_orders_stops_orders_and_lets_cancels_and_reads_through(words: str, waits_s: int) -> None:
    bench = Bench()
    told_s = bench.limiter.on_refused(429, -1015, f"Too many new orders; current limit is {words}.", None)
    day_left_s = 86_400 - MINUTE_START_NS // NS_PER_S % 86_400
    assert told_s == pytest.approx(waits_s if waits_s == 10 else day_left_s, abs=0.1)
    for priority in (Priority.ORDER, Priority.SAFETY):
        assert isinstance(bench.ask(ORDER, priority), Denied)
    assert isinstance(bench.ask(CANCEL), Reservation)
    assert isinstance(bench.ask(READ), Reservation)
    bench.pass_s(told_s)
    assert isinstance(bench.ask(ORDER), Reservation)


def test_what_exchange_info_tells_replaces_what_was_assumed_and_keeps_the_count() -> None:
    bench = Bench()
    bench.send(READ)
    bench.limiter.configure(
        (RateRule(WEIGHT, "MINUTE", 1, 40), RateRule(WEIGHT, "FORTNIGHT", 1, 5), RateRule("ORDERS", "SECOND", 10, 0))
    )
    assert isinstance(bench.ask(Endpoint(25, Priority.RECONCILE)), Denied)
    assert isinstance(bench.ask(Endpoint(24, Priority.RECONCILE)), Reservation)
    assert isinstance(bench.ask(ORDER), Reservation)


@given(
    st.lists(
        st.tuples(st.sampled_from(list(Priority)), st.integers(1, 30), st.booleans(), st.integers(0, 20)), max_size=60
    )
)
def test_a_venue_that_counts_in_fixed_windows_is_never_asked_for_more_than_its_limit(
    requests: list[tuple[Priority, int, bool, int]],
) -> None:
    bench = Bench()
    counted: dict[int, int] = {}
    for priority, weight, is_answered, pause_s in requests:
        bench.pass_s(pause_s)
        got = bench.ask(Endpoint(weight, priority))
        if isinstance(got, Denied):
            continue
        window = bench.time.now_ns() // (60 * NS_PER_S)
        counted[window] = counted.get(window, 0) + weight
        assert counted[window] <= 100
        bench.limiter.settle(got, {"x-mbx-used-weight-1m": str(counted[window])} if is_answered else {})
        assert bench.used() >= counted[window]


@pytest.mark.parametrize(
    ("method", "path", "parameters", "weight"),
    [
        ("GET", "/api/v3/depth", {}, 5),
        ("GET", "/api/v3/depth", {"limit": "100"}, 5),
        ("GET", "/api/v3/depth", {"limit": "101"}, 25),
        ("GET", "/api/v3/depth", {"limit": "1000"}, 50),
        ("GET", "/api/v3/depth", {"limit": "5000"}, 250),
        ("GET", "/api/v3/openOrders", {"symbol": "BTCUSDT"}, 6),
        ("GET", "/api/v3/openOrders", {}, 80),
        ("GET", "/api/v3/myTrades", {"orderId": "1"}, 5),
        ("GET", "/api/v3/myTrades", {}, 20),
        ("GET", "/api/v3/ticker/24hr", {"symbols": '["A","B"]'}, 2),
        ("GET", "/api/v3/ticker/24hr", {"symbols": "[" + ",".join(['"A"'] * 21) + "]"}, 40),
        ("GET", "/api/v3/ticker/24hr", {}, 80),
        ("GET", "/api/v3/account", {}, 20),
        ("GET", "/fapi/v1/depth", {}, 10),
        ("GET", "/fapi/v1/depth", {"limit": "50"}, 2),
        ("GET", "/fapi/v1/depth", {"limit": "1000"}, 20),
        ("GET", "/fapi/v1/klines", {"limit": "99"}, 1),
        ("GET", "/fapi/v1/klines", {"limit": "100"}, 2),
        ("GET", "/fapi/v1/klines", {"limit": "1000"}, 5),
        ("GET", "/fapi/v1/klines", {"limit": "1500"}, 10),
        ("GET", "/fapi/v1/openOrders", {}, 40),
        ("POST", "/fapi/v1/order", {}, 0),
    ],
)
def test_an_endpoints_weight_is_the_venues(method: str, path: str, parameters: dict[str, str], weight: int) -> None:
    assert endpoint_of(method, path).weight_of(parameters) == weight


@pytest.mark.parametrize("product", list(PATHS))
def test_every_path_that_is_called_is_in_the_table_and_cancels_come_first(product: Product) -> None:
    paths = PATHS[product]
    for name in paths.__struct_fields__:
        method = {"listen_key": "POST", "amend": "PUT"}.get(name, "GET")
        assert (method, getattr(paths, name)) in ENDPOINTS
    assert endpoint_of("DELETE", paths.order).priority is Priority.SAFETY
    assert endpoint_of("POST", paths.order).orders == 1
    renewed, made = endpoint_of("PUT", paths.listen_key), endpoint_of("POST", paths.listen_key)
    assert msgspec.structs.astuple(renewed) == msgspec.structs.astuple(made)
    assert DEFAULT_RULES[product]


def test_an_endpoint_with_a_pool_of_its_own_is_counted_there() -> None:
    bench = Bench(DEFAULT_RULES[Product.USDM])
    funding = endpoint_of("GET", "/fapi/v1/fundingRate")
    for _ in range(250):
        bench.send(funding)
    assert isinstance(bench.ask(funding), Denied)
    assert bench.used() == 0
