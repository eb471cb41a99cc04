"""/metrics of a running api beside a running engine."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from tests.api.house import House, assert_problem


async def scraped(house: House) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    token = house.settings.read_secret("metrics.token")
    answer = await house.api.http.get("/metrics", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200, answer.text
    families = text_string_to_metric_families(answer.text)
    return {(s.name, frozenset(s.labels.items())): s.value for family in families for s in family.samples}


def of(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    return name, frozenset(labels.items())


async def test_a_scrape_shows_engine_feeds_and_the_tools_that_were_called(house: House) -> None:
    before = await scraped(house)
    _, events = await house.api.ask("is the data fresh, and what is the spread on BTCUSDT?")
    assert events[-1]["type"] == "RUN_FINISHED"
    earlier = (await house.engine.client.status()).journal_sequence
    after = await scraped(house)
    later = (await house.engine.client.status()).journal_sequence
    assert after[of("veloz_engine_up")] == 1
    # The engine notes balances and equity by itself meanwhile.
    assert earlier <= after[of("veloz_engine_journal_sequence")] <= later
    assert after[of("veloz_feed_book_state", symbol="BTCUSDT", state="LIVE")] == 1
    messages = of("veloz_feed_messages_total", symbol="BTCUSDT")
    assert after[messages] >= before[messages] > 0
    for tool in ("get_ticker", "get_feed_health"):
        called = of("veloz_gateway_calls_total", tool=tool, outcome="ok")
        assert after[called] == before.get(called, 0) + 1, tool


async def test_a_login_opens_no_metrics(house: House) -> None:
    assert_problem(await house.api.http.get("/metrics"), 401, "AUTH_TOKEN_INVALID")
    trader = await house.api.as_("trader")
    assert_problem(await house.api.http.get("/metrics", headers=trader), 401, "AUTH_TOKEN_INVALID")
