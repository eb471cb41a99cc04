"""What each tool answers, and what it refuses."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from audit.record import Action
from core.authority.proposal import parse_order_proposal, proposal_digest
from core.types.codes import ReasonCode, refuse
from core.types.views import KlineView, RiskCheckView
from tests.tools.doubles import House
from tests.tools.engine_double import MemoryEngine
from tests.tools.people import ACCOUNT, APPROVER, COMPLIANCE, NOW_NS, TRADER
from tools.catalogue import build_registry
from tools.contracts import Principal
from tools.policy import Policy, default_policy, tool_facts
from tools.policy_document import expand
from tools.suggestion_tools import SUGGESTION_TOOLS

BUY: dict[str, Any] = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.5"}


async def test_the_ticker_has_mid_and_spread_in_price_and_bps() -> None:
    data = (await House().ask("get_ticker", symbol="BTCUSDT")).data
    assert (data["bid_price"], data["ask_price"], data["mid_price"]) == ("59999.99", "60000.01", "60000")
    assert (data["spread"], data["spread_bps"]) == ("0.02", "0.0033")
    assert data["update_id"] == "4242"
    assert data["ts_event"] == "2026-01-01T00:00:00.000000Z"


@pytest.mark.parametrize("name", ["BTCUSDT", "btcusdt", "btc/usdt", "BTC-USDT", " Btc_Usdt "])
async def test_symbols_are_understood_in_any_usual_spelling(name: str) -> None:
    assert (await House().ask("get_ticker", symbol=name)).data["symbol"] == "BTCUSDT"


@pytest.mark.parametrize("name", ["DOGEUSDT", "BTC", "!!!"])
async def test_an_unknown_symbol_is_refused_with_the_known_ones(name: str) -> None:
    refusal = (await House().ask("get_ticker", symbol=name)).refusal
    assert refusal.code is ReasonCode.MARKET_INSTRUMENT_UNKNOWN
    assert refusal.limit == "BTCUSDT, ETHUSDT"


async def test_the_book_has_depth_spread_and_imbalance_of_what_is_shown() -> None:
    data = (await House().ask("get_order_book", symbol="BTCUSDT", depth=2)).data
    assert [level["price"] for level in data["bids"]] == ["59999.99", "59999.5"]
    assert (data["bid_quantity_shown"], data["ask_quantity_shown"], data["imbalance"]) == ("5", "3", "0.25")
    assert data["state"] == "LIVE"


@pytest.mark.parametrize("depth", [0, 101, -1, 1.5, True, "many", None])
async def test_a_depth_out_of_range_is_refused(depth: object) -> None:
    refusal = (await House().ask("get_order_book", symbol="BTCUSDT", depth=depth)).refusal
    assert refusal.code is ReasonCode.TOOL_ARGUMENTS_INVALID
    assert "depth" in refusal.message


async def test_klines_come_with_a_summary() -> None:
    data = (await House().ask("get_klines", symbol="BTCUSDT", interval="1m", limit=3)).data
    assert data["count"] == "3"
    summary = data["summary"]
    assert (summary["open"], summary["close"], summary["high"], summary["low"]) == ("100", "99", "120", "90")
    assert (summary["change"], summary["change_bps"], summary["range"]) == ("-1", "-100", "30")
    assert summary["trades"] == "30"


async def test_indicators_come_with_their_parameters_and_the_value_before() -> None:
    wanted = ["sma(2)", "donchian(2)", "rsi", "VWAP", "vwap(1d)", "realised_volatility(period=2)"]
    data = (await House().ask("get_indicators", symbol="BTCUSDT", indicators=wanted)).data
    assert (data["bars"], data["close"]) == ("3", "99")
    sma, donchian, rsi, vwap, session, volatility = data["indicators"]
    assert sma == {
        "indicator": "sma(period=2)",
        "name": "sma",
        "parameters": [{"name": "period", "value": "2"}],
        "ready": True,
        "values": [{"name": "value", "value": "108.5", "previous": "111.5"}],
    }
    assert [(cell["name"], cell["value"], cell["previous"]) for cell in donchian["values"]] == [
        ("upper", "120", "120"),
        ("middle", "105", "107.5"),
        ("lower", "90", "95"),
    ]
    assert (rsi["indicator"], rsi["ready"], rsi["values"]) == ("rsi(period=14)", False, [])
    assert vwap["values"] == [{"name": "value", "value": "100", "previous": "100"}]
    # Midnight lies before the first bar of the three.
    assert (session["indicator"], session["ready"], session["values"]) == ("vwap(session=1d)", False, [])
    assert volatility["indicator"] == "realised_volatility(bars_per_year=525600, period=2)"
    assert [cell["previous"] for cell in volatility["values"]] == [None]


async def test_indicators_leave_out_what_lies_before_a_hole_and_the_bar_that_forms(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second, third = await House().engine.klines("BTCUSDT", "1m", 3)
    minute_ns = third.open_time_ns - second.open_time_ns

    def moved(bar: KlineView, minutes: int, *, closed: bool = True) -> KlineView:
        open_ns = first.open_time_ns + minutes * minute_ns
        return msgspec.structs.replace(bar, open_time_ns=open_ns, close_time_ns=open_ns + minute_ns - 1, closed=closed)

    async def klines(_engine: MemoryEngine, symbol: str, interval: str, limit: int) -> list[KlineView]:
        return [moved(first, 0), moved(second, 2), moved(third, 3), moved(first, 4, closed=False)][-limit:]

    monkeypatch.setattr(MemoryEngine, "klines", klines)
    data = (await House().ask("get_indicators", symbol="BTCUSDT", indicators=["sma(2)", "sma(3)"])).data
    assert (data["bars"], data["close"]) == ("2", "99")
    assert [cell["ready"] for cell in data["indicators"]] == [True, False]


@pytest.mark.parametrize(
    ("indicators", "says"),
    [
        ([], "indicators"),
        (["sma"] * 9, "indicators"),
        (["smma(20)"], "known here; known are adx"),
        (["rsi(0)"], "rsi needs period as a whole number from 2"),
        (["rsi(14, 3)"], "it takes period"),
        (["buy low; sell high"], "is not an indicator such as"),
    ],
)
async def test_indicators_that_there_are_not_are_refused_with_those_there_are(indicators: list[str], says: str) -> None:
    refusal = (await House().ask("get_indicators", symbol="BTCUSDT", indicators=indicators)).refusal
    assert refusal.code is ReasonCode.TOOL_ARGUMENTS_INVALID
    assert says in refusal.message


async def test_feed_health_is_told_of_one_instrument_or_of_all() -> None:
    both = (await House().ask("get_feed_health")).data
    assert (both["count"], both["live_count"]) == ("2", "1")
    assert [(feed["symbol"], feed["book_state"], feed["stale_reason"]) for feed in both["feeds"]] == [
        ("BTCUSDT", "LIVE", None),
        ("ETHUSDT", "STALE", "GAP"),
    ]
    (btc,) = (await House().ask("get_feed_health", symbol="btc/usdt")).data["feeds"]
    assert (btc["book_age_ms"], btc["exchange_latency_ms_p50"], btc["clock_offset_ms"]) == ("45", "12.345", "-3")
    assert (btc["gaps"], btc["resyncs"], btc["stale_time_ms"], btc["message_rate_per_s"]) == ("2", "4", "1350", "31.4")
    assert (
        await House().ask("get_feed_health", symbol="DOGEUSDT")
    ).refusal.code is ReasonCode.MARKET_INSTRUMENT_UNKNOWN


async def test_an_estimate_says_what_a_sweep_costs() -> None:
    data = (await House().ask("estimate_execution", symbol="BTCUSDT", side="BUY", quantity="3")).data
    assert data["average_price"].startswith("60000.67")
    assert (data["worst_price"], data["levels"], data["complete"]) == ("60001", "2", True)
    thin = (await House().ask("estimate_execution", symbol="BTCUSDT", side="BUY", quantity="50")).data
    assert (thin["complete"], thin["filled_quantity"]) == (False, "7")


@pytest.mark.parametrize("quantity", [5, 5.0, "5", "5.000", " 5 "])
async def test_quantities_are_taken_as_text_or_number(quantity: object) -> None:
    data = (await House().ask("estimate_execution", symbol="BTCUSDT", side="sell", quantity=quantity)).data
    assert data["quantity"] == "5"


@pytest.mark.parametrize(
    "quantity", [0, -1, "1e3", "NaN", "Infinity", float("nan"), float("inf"), True, "", "1" * 19, None, [], 10**30]
)
async def test_a_quantity_that_is_no_positive_plain_decimal_is_refused(quantity: object) -> None:
    refusal = (await House().ask("estimate_execution", symbol="BTCUSDT", side="sell", quantity=quantity)).refusal
    assert refusal.code is ReasonCode.TOOL_ARGUMENTS_INVALID


async def test_positions_have_totals_and_can_be_narrowed() -> None:
    house = House()
    data = (await house.ask("get_positions")).data
    assert (data["count"], data["unrealised_pnl_quote"], data["positions"][0]["notional_quote"]) == (
        "1",
        "1000",
        "30000",
    )
    assert data["positions"][0]["direction"] == "long"
    assert (await house.ask("get_positions", symbol="ethusdt")).data["count"] == "0"


async def test_reviews_are_searched_in_the_askers_account_only() -> None:
    house = House()
    await house.ask("search_reviews", query="losing trades", limit=3)
    assert house.reviews.asked == [((ACCOUNT,), "losing trades", 3)]


async def test_a_suggestion_holds_exactly_what_was_asked_and_is_pending() -> None:
    house = House()
    result = await house.ask("suggest_order", **BUY, price="59000", rationale="Cheap.", run_id="01RUN")
    row = house.suggestions.rows[result.data["suggestion_id"], 1]
    proposal = parse_order_proposal(row.proposal)
    assert row.status.value == result.data["status"] == "pending"
    assert row.digest_hex == result.data["digest"] == proposal_digest(row.proposal)
    assert result.data["proposal"] == row.order_fields()
    assert (proposal.price, proposal.quantity, proposal.side, proposal.order_type) == ("59000", "0.5", "BUY", "LIMIT")
    assert (proposal.time_in_force, proposal.notional_quote, proposal.reference_price) == ("GTC", "29500", "60000")
    assert (proposal.engine_id, proposal.mode, proposal.environment) == ("engine-1", "PAPER", "local")
    assert (proposal.max_deviation_bps, proposal.instrument_version) == ("50", "3")
    assert (proposal.asker_id, proposal.account_id, proposal.run_id) == ("user-trader", ACCOUNT, "01RUN")
    assert row.expires_at_ns == NOW_NS + 300 * 10**9
    assert result.data["what_if"] == {
        "crosses": False,
        "estimate": None,
        "position_before": "0.5",
        "position_after": "1",
        "notional_quote": "29500",
    }
    assert result.data["notes"] == []


async def test_a_suggestion_is_recorded_with_its_proposal_and_checks() -> None:
    house = House()
    suggestion = await house.suggest()
    record = next(record for record in house.trail.records if record.action is Action.SUGGESTION_CREATED)
    assert record.suggestion_id == suggestion.suggestion_id
    assert record.trace_id == suggestion.trace_id
    assert record.payload["digest"] == suggestion.digest_hex
    assert record.payload["pre_trade"]["checks"][0]["name"] == "RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER"


@pytest.mark.parametrize(
    ("side", "anchor", "offset_bps", "price"),
    [
        ("buy", "bid", "0", "59999.99"),
        ("buy", "mid", "-0.1", "59999.4"),
        ("buy", "ask", "-1", "59994"),
        ("sell", "ask", "1.5", "60009.02"),
        ("sell", "bid", "0.001", "60000"),
        ("buy", "bid", "0.001", "59999.99"),
    ],
)
async def test_an_anchored_price_is_rounded_to_the_tick_passively_and_says_so(
    side: str, anchor: str, offset_bps: str, price: str
) -> None:
    house = House()
    wanted = BUY | {"side": side, "price_anchor": anchor, "offset_bps": offset_bps}
    data = (await house.ask("suggest_order", **wanted)).data
    assert data["proposal"]["price"] == price
    assert anchor in data["notes"][0]
    exact = Decimal({"bid": "59999.99", "ask": "60000.01", "mid": "60000"}[anchor]) * (1 + Decimal(offset_bps) / 10_000)
    assert ("rounded" in data["notes"][0]) == (exact != Decimal(price))


async def test_a_market_order_shows_what_it_would_sweep() -> None:
    data = (await House().ask("suggest_order", **BUY, order_type="market")).data
    assert (data["proposal"]["price"], data["proposal"]["time_in_force"]) == ("", "IOC")
    assert data["what_if"]["estimate"]["average_price"] == "60000.01"
    assert data["proposal"]["notional_quote"] == "30000.005"


SUGGESTIONS = {tool.name for tool in SUGGESTION_TOOLS}
STOP = {"order_type": "stop", "stop_price": "61000"}
TRAILING = {"order_type": "trailing_stop", "trailing_offset_bps": 100}


@pytest.mark.parametrize(
    ("arguments", "proposed"),
    [
        (STOP, {"order_type": "STOP", "stop_price": "61000", "price": "", "notional_quote": "30500"}),
        (STOP | {"order_type": "stop_limit", "price": "61010"}, {"price": "61010", "notional_quote": "30505"}),
        (STOP | {"order_type": "take_profit", "stop_price": "59000"}, {"order_type": "TAKE_PROFIT"}),
        (TRAILING, {"trailing_offset_bps": "100", "stop_price": "", "time_in_force": "GTC"}),
        (TRAILING | {"activation_price": "62000"}, {"activation_price": "62000"}),
        ({"price": "59000", "reduce_only": True}, {"reduce_only": "true"}),
        (
            {"price": "59000", "time_in_force": "gtd", "good_for_s": 60},
            {"time_in_force": "GTD", "order_expires_at_ns": str(NOW_NS + 60 * 10**9)},
        ),
        ({"price": "59000"}, {"schema": "veloz.order-proposal/2", "order_expires_at_ns": "", "stop_price": ""}),
    ],
)
async def test_an_order_of_any_type_is_proposed_with_all_that_makes_it(
    arguments: dict[str, Any], proposed: dict[str, str]
) -> None:
    data = (await House().ask("suggest_order", **(BUY | arguments))).data
    assert {name: data["proposal"][name] for name in proposed} == proposed
    assert bool(data["notes"]) is ("price" not in arguments or "stop_price" in arguments)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"order_type": "STOP"}, ReasonCode.TOOL_ARGUMENTS_INVALID),
        (STOP | {"price": "61000"}, ReasonCode.TOOL_ARGUMENTS_INVALID),
        (STOP | {"order_type": "STOP_LIMIT"}, ReasonCode.TOOL_ARGUMENTS_INVALID),
        (STOP | {"order_type": "STOP_LIMIT", "price_anchor": "bid"}, ReasonCode.TOOL_ARGUMENTS_INVALID),
        (STOP | {"trailing_offset_bps": 100}, ReasonCode.TOOL_ARGUMENTS_INVALID),
        (STOP | {"activation_price": "1"}, ReasonCode.TOOL_ARGUMENTS_INVALID),
        (STOP | {"post_only": True}, ReasonCode.TOOL_ARGUMENTS_INVALID),
        (STOP | {"stop_price": "61000.001"}, ReasonCode.ORDER_TICK_SIZE_VIOLATED),
        (TRAILING | {"activation_price": "61000.001"}, ReasonCode.ORDER_TICK_SIZE_VIOLATED),
        ({"order_type": "trailing_stop"}, ReasonCode.TOOL_ARGUMENTS_INVALID),
        ({"price": "59000", "time_in_force": "GTD"}, ReasonCode.TOOL_ARGUMENTS_INVALID),
        ({"price": "59000", "good_for_s": 60}, ReasonCode.TOOL_ARGUMENTS_INVALID),
        ({"order_type": "MARKET", "time_in_force": "GTD", "good_for_s": 60}, ReasonCode.TOOL_ARGUMENTS_INVALID),
        ({"price": "59000.001"}, ReasonCode.ORDER_TICK_SIZE_VIOLATED),
        ({"price": "59000", "quantity": "0.000001"}, ReasonCode.ORDER_LOT_SIZE_VIOLATED),
        ({"price": "59000", "quantity": "100"}, ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER),
        ({"order_type": "MARKET", "quantity": "8"}, ReasonCode.MARKET_DEPTH_INSUFFICIENT),
        ({"price": "59000", "symbol": "DOGEUSDT"}, ReasonCode.MARKET_INSTRUMENT_UNKNOWN),
        ({}, ReasonCode.TOOL_ARGUMENTS_INVALID),
        ({"price": "1", "price_anchor": "bid"}, ReasonCode.TOOL_ARGUMENTS_INVALID),
        ({"price": "1", "offset_bps": "3"}, ReasonCode.TOOL_ARGUMENTS_INVALID),
        ({"order_type": "MARKET", "price": "1"}, ReasonCode.TOOL_ARGUMENTS_INVALID),
        ({"order_type": "MARKET", "time_in_force": "GTC"}, ReasonCode.TOOL_ARGUMENTS_INVALID),
        ({"order_type": "MARKET", "post_only": True}, ReasonCode.TOOL_ARGUMENTS_INVALID),
        ({"price": "1", "post_only": True, "time_in_force": "IOC"}, ReasonCode.TOOL_ARGUMENTS_INVALID),
        ({"price": "59000", "valid_for_s": 86_401}, ReasonCode.TOOL_ARGUMENTS_INVALID),
        ({"price": "59000", "valid_for_s": 0}, ReasonCode.TOOL_ARGUMENTS_INVALID),
        ({"price": "59000", "recipient": "acct-2"}, ReasonCode.TOOL_ARGUMENTS_INVALID),
        ({"price": "59000", "rationale": "x" * 1_001}, ReasonCode.TOOL_ARGUMENTS_INVALID),
    ],
)
async def test_an_order_that_cannot_be_proposed_leaves_no_suggestion(
    arguments: dict[str, Any], code: ReasonCode
) -> None:
    house = House()
    result = await house.ask("suggest_order", **(BUY | arguments))
    assert result.refusal.code is code
    assert house.suggestions.rows == {}
    assert Action.SUGGESTION_CREATED not in house.trail.actions()


async def test_a_refusal_by_risk_passes_limit_and_actual_and_is_recorded_with_its_checks() -> None:
    house = House()
    refusal = (await house.ask("suggest_order", **(BUY | {"price": "59000", "quantity": "100"}))).refusal
    assert (refusal.limit, refusal.actual, refusal.unit) == ("250000", "5900000", "quote")
    assert house.trail.actions() == [Action.TOOL_INTENDED, Action.RISK_DECIDED, Action.TOOL_REFUSED]
    assert house.trail.records[1].payload["checks"][0]["passed"] is False


async def test_a_suggestion_that_cannot_be_recorded_is_not_made() -> None:
    house = House()
    house.trail.failing_on = {Action.SUGGESTION_CREATED}
    refusal = (await house.ask("suggest_order", **BUY, price="59000")).refusal
    assert refusal.code is ReasonCode.SERVICE_AUDIT_UNAVAILABLE
    assert house.suggestions.rows == {}


async def test_a_suggestion_that_cannot_be_stored_is_refused() -> None:
    house = House()
    house.suggestions.failing = refuse(ReasonCode.SERVICE_DATABASE_UNAVAILABLE, "Down.")
    refusal = (await house.ask("suggest_order", **BUY, price="59000")).refusal
    assert refusal.code is ReasonCode.SERVICE_DATABASE_UNAVAILABLE


async def test_without_a_drift_limit_no_order_is_proposed() -> None:
    house = House()
    house.engine.risk_limits = (RiskCheckView("RISK_PRICE_OUTSIDE_COLLAR", True, "500", None, "bps"),)
    refusal = (await house.ask("suggest_order", **BUY, price="59000")).refusal
    assert refusal.code is ReasonCode.SERVICE_INTERNAL_ERROR
    assert house.suggestions.rows == {}


async def test_expiry_counts_from_the_engines_clock() -> None:
    house = House()
    suggestion = await house.suggest(valid_for_s="60")
    assert suggestion.expires_at_ns == NOW_NS + 60 * 10**9


async def test_a_post_only_order_that_would_take_says_so() -> None:
    data = (await House().ask("suggest_order", **BUY, price="60010", post_only=True)).data
    assert data["what_if"]["crosses"] is True
    assert "post-only" in data["notes"][0]


async def test_get_suggestion_tells_what_became_of_it() -> None:
    house = House()
    suggestion = await house.suggest()
    data = (await house.ask("get_suggestion", suggestion_id=suggestion.suggestion_id.lower())).data
    assert (data["status"], data["proposal"]) == ("pending", suggestion.order_fields())
    house.clock.advance_ns(301 * 10**9)
    data = (await house.ask("get_suggestion", suggestion_id=suggestion.suggestion_id)).data
    assert data["status"] == "expired"


async def test_get_suggestion_of_another_account_finds_nothing() -> None:
    house = House()
    suggestion = await house.suggest()
    other = Principal("user-2", "other", TRADER.role, ("acct-2",))
    refusal = (await house.ask("get_suggestion", other, suggestion_id=suggestion.suggestion_id)).refusal
    assert refusal.code is ReasonCode.RESOURCE_NOT_FOUND


@pytest.mark.parametrize(
    ("principal", "missing"), [(TRADER, set()), (APPROVER, SUGGESTIONS), (COMPLIANCE, SUGGESTIONS)]
)
def test_each_role_is_shown_its_tools(principal: Principal, missing: set[str]) -> None:
    shown = {tool.name for tool in House().gateway.describe(principal)}
    assert shown == {tool.name for tool in build_registry()} - missing


def test_the_policy_names_every_tool_and_no_other() -> None:
    document = default_policy().document
    named = {tool for section in document.allow for tool in expand(document, section.tools, ())}
    assert named == {tool.name for tool in build_registry()}


def test_what_no_rule_allows_is_denied() -> None:
    document = msgspec.structs.replace(default_policy().document, allow=(), approver=())
    empty = Policy(document, "0", tool_facts(build_registry()))
    assert all(empty.decide(TRADER, tool, ACCOUNT) is not None for tool in build_registry())
    assert empty.decide_approval(APPROVER) is not None


def test_schema_digests_are_stable_and_differ() -> None:
    digests = [tool.schema_digest_hex for tool in build_registry()]
    assert digests == [tool.schema_digest_hex for tool in build_registry()]
    assert len(set(digests)) == len(digests)


def test_each_tool_says_where_its_data_comes_from_and_what_it_takes_to_call_it() -> None:
    assert [tool.name for tool in build_registry() if not tool.sources] == []
    described = {tool.name: tool for tool in House().gateway.describe(TRADER)}
    ticker, positions = described["get_ticker"], described["get_positions"]
    assert (ticker.permission, ticker.scope, ticker.source) == ("market:read", "market", ("engine:market",))
    assert (positions.permission, positions.timeout_ms, positions.cost) == ("account:read", 2_000, 1)
    assert described["suggest_order"].permission == "account:suggest"
    assert set(positions.output_schema["properties"]) >= {"as_of_ns", "as_of", "account_id", "positions"}


def test_no_schema_takes_unknown_arguments() -> None:
    for tool in build_registry():
        assert tool.input_schema["additionalProperties"] is False, tool.name
        assert len(tool.description) > 60, tool.name
