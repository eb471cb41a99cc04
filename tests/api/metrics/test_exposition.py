"""What a scrape shows, read back by Prometheus' own parser of the text format."""

from __future__ import annotations

import asyncio
import re
from types import SimpleNamespace
from typing import Any

import httpx2
import msgspec
import pytest
from fastapi import FastAPI
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from api import problems
from api.metrics import service as service_module
from api.metrics.endpoints import router
from api.metrics.exposition import OPEN_STATUSES
from api.metrics.gateway import MeasuredGateway
from api.metrics.service import MetricsService
from core.runtime.client import EngineClient
from core.types.clock import ManualClock
from core.types.codes import ReasonCode, refuse
from core.types.ids import new_trace
from core.types.views import EngineStatusView, FeedHealthView, RiskStateView
from tests.tools.doubles import House
from tests.tools.engine_double import MemoryEngine
from tests.tools.people import IDS, NOW_NS, TRADER
from tools.catalogue import build_registry
from tools.contracts import ToolCall

TOKEN = "a" * 64
ACCOUNT = "acct-demo"
TEXT = "text/plain; version=0.0.4"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"


def samples_of(body: bytes) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    families = text_string_to_metric_families(body.decode())
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


async def scrape(service: MetricsService) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    body, _ = await service.scrape(TEXT)
    return samples_of(body)


def of(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


@pytest.fixture
def engine() -> MemoryEngine:
    return MemoryEngine(ManualClock(NOW_NS))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("veloz_feed_book_age_seconds", 0.045),
        ("veloz_feed_ticker_age_seconds", 0.017),
        ("veloz_feed_clock_offset_seconds", -0.003),
        ("veloz_feed_message_rate", 31.4),
        ("veloz_feed_messages_total", 9876),
        ("veloz_feed_gaps_total", 2),
        ("veloz_feed_resyncs_total", 4),
        ("veloz_feed_transitions_total", 7),
        ("veloz_feed_stale_seconds_total", 1.35),
        ("veloz_feed_ticker_comparisons_total", 610),
        ("veloz_feed_ticker_mismatches_total", 0),
        ("veloz_feed_trades_missed_total", 1),
    ],
)
async def test_each_figure_of_a_feed_is_a_sample_in_base_units(engine: MemoryEngine, name: str, value: float) -> None:
    samples = await scrape(MetricsService(engine, ACCOUNT))
    assert samples[of(name, symbol="BTCUSDT")] == value


async def test_latency_is_told_by_percentile_and_left_out_where_it_is_unknown(engine: MemoryEngine) -> None:
    samples = await scrape(MetricsService(engine, ACCOUNT))
    name = "veloz_feed_exchange_latency_seconds"
    assert samples[of(name, symbol="BTCUSDT", percentile="50")] == 0.012345
    assert samples[of(name, symbol="BTCUSDT", percentile="99")] == 0.0812
    assert of(name, symbol="ETHUSDT", percentile="50") not in samples
    assert of("veloz_feed_ticker_age_seconds", symbol="ETHUSDT") not in samples


async def test_the_books_state_is_one_hot_and_a_state_of_a_newer_engine_shows_too(engine: MemoryEngine) -> None:
    samples = await scrape(MetricsService(engine, ACCOUNT))
    for symbol, actual in (("BTCUSDT", "LIVE"), ("ETHUSDT", "STALE")):
        shown = {s: samples[of("veloz_feed_book_state", symbol=symbol, state=s)] for s in ("LIVE", "SYNCING", "STALE")}
        assert {state for state, value in shown.items() if value == 1} == {actual}
        assert sum(shown.values()) == 1

    async def newer(symbol: str | None = None) -> list[FeedHealthView]:
        return [msgspec.structs.replace((await MemoryEngine.feed_health(engine, "BTCUSDT"))[0], book_state="PAUSED")]

    engine.feed_health = newer  # type: ignore[method-assign]
    samples = await scrape(MetricsService(engine, ACCOUNT))
    assert samples[of("veloz_feed_book_state", symbol="BTCUSDT", state="PAUSED")] == 1
    assert samples[of("veloz_feed_book_state", symbol="BTCUSDT", state="LIVE")] == 0


async def test_the_engines_status_is_shown(engine: MemoryEngine) -> None:
    samples = await scrape(MetricsService(engine, ACCOUNT))
    assert samples[of("veloz_engine_up")] == 1
    assert samples[of("veloz_engine_journal_sequence")] == 7
    assert samples[of("veloz_engine_venue_connected")] == 1
    assert samples[of("veloz_engine_kill_switch", state="NORMAL")] == 1
    assert samples[of("veloz_engine_kill_switch", state="HALTED")] == 0
    assert samples[of("veloz_engine_info", engine_id="engine-1", environment="local", mode="PAPER")] == 1


async def test_the_account_is_shown_with_what_keeps_it_from_trading(
    engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = await scrape(MetricsService(engine, ACCOUNT))
    assert samples[of("veloz_engine_journal_writable")] == 1
    assert samples[of("veloz_account_kill_switch", account=ACCOUNT, state="NORMAL")] == 1
    assert samples[of("veloz_account_frozen", account=ACCOUNT)] == 0
    orders = await engine.open_orders(ACCOUNT)
    counted = [samples[of("veloz_account_open_orders", account=ACCOUNT, status=status)] for status in OPEN_STATUSES]
    assert sum(counted) == len(orders)
    assert samples[of("veloz_account_open_orders", account=ACCOUNT, status="UNKNOWN")] == 0
    assert samples[of("veloz_account_net_exposure", account=ACCOUNT, currency="USDT")] == 30_000
    assert not [
        name for name, _ in samples if name in {"veloz_account_leverage_ratio", "veloz_dead_mans_timer_left_seconds"}
    ]

    async def halted(account_id: str) -> RiskStateView:
        state = await MemoryEngine.risk_state(engine, account_id)
        return msgspec.structs.replace(
            state, kill_switch="HALTED", frozen_reason="order.filled", dead_mans_timer_s=60, dead_mans_timer_left_s=12
        )

    monkeypatch.setattr(engine, "risk_state", halted)
    samples = await scrape(MetricsService(engine, ACCOUNT))
    assert samples[of("veloz_account_kill_switch", account=ACCOUNT, state="HALTED")] == 1
    assert samples[of("veloz_account_kill_switch", account=ACCOUNT, state="NORMAL")] == 0
    assert samples[of("veloz_account_frozen", account=ACCOUNT)] == 1
    assert samples[of("veloz_dead_mans_timer_left_seconds")] == 12


async def test_an_engine_that_is_down_is_shown_as_down_beside_this_processs_own_metrics(tmp_path: Any) -> None:
    client = EngineClient(f"unix:{tmp_path}/nobody.sock", TOKEN)
    try:
        samples = await scrape(MetricsService(client, ACCOUNT))
    finally:
        await client.close()
    assert samples[of("veloz_engine_up")] == 0
    assert not [name for name, _ in samples if name.startswith(("veloz_feed", "veloz_engine_journal", "veloz_account"))]
    assert samples[of("veloz_engine_read_failures_total", read="status")] == 1
    assert [name for name, _ in samples if name.startswith("python_info")]


async def test_an_engine_that_hangs_holds_no_scrape_up(engine: MemoryEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "ENGINE_TIMEOUT_S", 0.05)

    async def hanging() -> EngineStatusView:
        await asyncio.Event().wait()
        raise AssertionError

    engine.status = hanging  # type: ignore[method-assign]
    async with asyncio.timeout(60):
        samples = await scrape(MetricsService(engine, ACCOUNT))
    assert samples[of("veloz_engine_up")] == 0
    assert samples[of("veloz_feed_gaps_total", symbol="BTCUSDT")] == 2, "what did answer is shown"


async def test_names_follow_prometheus_conventions(engine: MemoryEngine) -> None:
    """What `promtool check metrics` asks for: help, base units, counters and only they end in _total."""
    body, _ = await MetricsService(engine, ACCOUNT).scrape(TEXT)
    for family in text_string_to_metric_families(body.decode()):
        assert family.documentation, family.name
        if family.name.startswith("veloz_") and not family.name.endswith("_created"):
            assert re.fullmatch(r"[a-z][a-z0-9_]*", family.name)
            assert not re.search(r"_(ms|milliseconds|minutes|percent|ns)(_|$)", family.name), family.name
            for sample in family.samples:
                assert sample.name.endswith("_total") is (family.type == "counter"), sample.name


async def test_openmetrics_is_given_to_those_who_ask_for_it(engine: MemoryEngine) -> None:
    body, content_type = await MetricsService(engine, ACCOUNT).scrape(OPENMETRICS)
    assert content_type.startswith("application/openmetrics-text")
    names = {family.name for family in parse_openmetrics(body.decode())}
    assert {"veloz_engine_up", "veloz_feed_gaps", "veloz_feed_book_state"} <= names


async def test_gateway_calls_are_counted_by_tool_and_outcome(engine: MemoryEngine) -> None:
    service = MetricsService(engine, ACCOUNT)
    gateway = MeasuredGateway(House().gateway, build_registry(), service.registry)
    for tool, arguments in (
        ("get_ticker", {"symbol": "BTCUSDT"}),
        ("get_ticker", {"symbol": "DOGEUSDT"}),
        ("made_up_by_a_model", {}),
    ):
        await gateway.call(ToolCall(IDS.new_ulid(), tool, arguments, TRADER, new_trace(IDS)))
    assert {tool.name for tool in gateway.describe(TRADER)} == {tool.name for tool in House().gateway.describe(TRADER)}
    samples = await scrape(service)
    calls = {labels: value for (name, labels), value in samples.items() if name == "veloz_gateway_calls_total"}
    counted = {(dict(labels)["tool"], dict(labels)["outcome"]): value for labels, value in calls.items()}
    assert counted[("get_ticker", "ok")] == 1
    assert counted[("get_ticker", ReasonCode.MARKET_INSTRUMENT_UNKNOWN.value)] == 1
    assert {tool for tool, _ in counted} == {"get_ticker", "unknown"}
    assert samples[of("veloz_gateway_call_duration_seconds_count", tool="get_ticker")] == 2


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": f"Bearer {TOKEN[:-1]}b"}, 401),
        ({"Authorization": TOKEN}, 401),
        ({"Authorization": "Bearer "}, 401),
        ({"Authorization": f"Bearer {TOKEN}"}, 200),
    ],
)
async def test_metrics_are_for_those_with_the_token(engine: MemoryEngine, headers: dict[str, str], status: int) -> None:
    app = FastAPI()
    problems.install(app)
    app.include_router(router)
    app.state.services = SimpleNamespace(metrics=MetricsService(engine, ACCOUNT), metrics_token=TOKEN)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://api") as http:
        answer = await http.get("/metrics", headers=headers)
    assert answer.status_code == status
    if status == 200:
        assert samples_of(answer.content)[of("veloz_engine_up")] == 1
        assert answer.headers["content-type"].startswith("text/plain; version=")
    else:
        assert answer.json()["code"] == "AUTH_TOKEN_INVALID"
        assert "veloz_" not in answer.text


async def test_a_refused_read_of_the_feeds_leaves_the_engine_up(engine: MemoryEngine) -> None:
    async def refusing(symbol: str | None = None) -> list[FeedHealthView]:
        raise refuse(ReasonCode.SERVICE_INTERNAL_ERROR, "broken")

    engine.feed_health = refusing  # type: ignore[method-assign]
    samples = await scrape(MetricsService(engine, ACCOUNT))
    assert samples[of("veloz_engine_up")] == 1
    assert samples[of("veloz_engine_read_failures_total", read="feed_health")] == 1
