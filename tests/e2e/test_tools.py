"""Every tool that reads or computes, called on the running service by each role, after an order was filled there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import httpx2
import pytest
from jsonschema import Draft202012Validator

from core.text.figures import leaves
from core.types.clock import NS_PER_S, SystemClock
from core.types.codes import ReasonCode
from tests.core.backtest.recordings import stored
from tests.core.backtest.support import MINUTE_NS
from tests.e2e.service import RunningService
from tools.catalogue import build_registry

pytestmark = pytest.mark.e2e

ROLES = ("trader", "approver", "compliance")
ACCOUNT = "acct-demo"
FILL_TIMEOUT_S = 90
SMA_CROSS = ("backtest", "run", "sma_cross", "BTCUSDT", "--set", "fast=3", "--set", "slow=9", "--json")
ACT_KINDS = ("suggest",)
FRESH_WITHIN_NS = 3600 * NS_PER_S


class Traded:
    """What was suggested, approved and filled, what was refused, and a backtest over trades that were recorded."""

    def __init__(self, service: RunningService) -> None:
        outcome = service.veloz("ask", "buy 0.01 BTC at market", "--json").json
        self.suggestion_id: str = outcome["suggestion_id"]
        approved = service.veloz("approve", self.suggestion_id, "--json", "--wait", str(FILL_TIMEOUT_S))
        assert approved.json["status"] == "executed", approved.text
        self.client_order_id: str = approved.json["client_order_id"]
        refused = service.veloz("ask", "buy 500 BTC at market", "--json").json
        two_hours_ago_ns = (SystemClock().now_ns() // MINUTE_NS - 140) * MINUTE_NS
        trades = [(n, n * 20_000, f"{60_000 + n % 97}.00", "1.0") for n in range(1, 400)]
        stored(service.home, trades, start_ns=two_hours_ago_ns)
        ran = service.veloz(*SMA_CROSS)
        self.backtest: dict[str, Any] = ran.json
        self.backtest_id: str = ran.json["backtest"]["backtest_id"]
        self.refused_call_id: str = next(
            call["call_id"] for call in refused["tool_calls"] if call["tool"] == "suggest_order"
        )


@pytest.fixture(scope="module")
def traded(service: RunningService) -> Traded:
    return Traded(service)


@contextmanager
def client_of(service: RunningService, user: str) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=service.url, timeout=60, trust_env=False) as client:
        login = {"username": user, "password": service.password(user)}
        token = client.post("/api/v1/auth/login", json=login).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


def call(client: httpx2.Client, tool: str, arguments: dict[str, Any]) -> Any:
    answer = client.post(f"/api/v1/tools/{tool}/calls", json={"arguments": arguments})
    assert answer.status_code == 200, (tool, answer.text)
    return answer.json()


def arguments_of(tool: dict[str, Any], traded: Traded, symbols: list[str]) -> dict[str, Any]:
    """The tool's own example, about what there is on this service."""
    arguments = dict(build_registry().get(tool["name"]).example)
    own = {
        "symbol": symbols[0],
        "symbols": [symbols[0], symbols[-1]],
        "suggestion_id": traded.suggestion_id,
        "client_order_id": traded.client_order_id,
        "backtest_id": traded.backtest_id,
        "status": "executed",
    }
    return arguments | {name: value for name, value in own.items() if name in arguments}


@pytest.mark.parametrize("role", ROLES)
def test_every_read_and_every_computation_answers_each_role_with_its_stamps(
    service: RunningService, traded: Traded, role: str
) -> None:
    with client_of(service, role) as client:
        tools = client.get("/api/v1/tools").json()
        readable = [tool for tool in tools if tool["kind"] not in ACT_KINDS]
        expected = {tool.name for tool in build_registry() if tool.kind not in ACT_KINDS}
        assert {tool["name"] for tool in readable} == expected
        instruments = call(client, "list_instruments", {})["data"]["instruments"]
        symbols = [cell["symbol"] for cell in instruments]
        for tool in readable:
            Draft202012Validator.check_schema(tool["input_schema"])
            Draft202012Validator.check_schema(tool["output_schema"])
            arguments = arguments_of(tool, traded, symbols)
            Draft202012Validator(tool["input_schema"]).validate(arguments)
            answer = call(client, tool["name"], arguments)
            data = answer["data"]
            Draft202012Validator(tool["output_schema"]).validate(data)
            assert all(value is None or isinstance(value, str | bool) for _, value in leaves(data)), tool["name"]
            about_account = tool["scope"] in {"account", "reviews"}
            scope = f"{tool['scope']}:{ACCOUNT}" if about_account else tool["scope"]
            venue = ["venue:paper"] if any(part.startswith("engine:") for part in tool["source"]) else []
            assert (answer["mode"], answer["scope"], answer["source"]) == ("PAPER", [scope], tool["source"] + venue)
            assert answer["as_of_ns"] == data["as_of_ns"]
            age_ns = SystemClock().now_ns() - int(answer["as_of_ns"])
            assert -NS_PER_S < age_ns < FRESH_WITHIN_NS, (tool["name"], answer["as_of"])


def test_what_was_traded_is_told_alike_by_order_fills_profit_fees_and_balances(
    service: RunningService, traded: Traded
) -> None:
    with client_of(service, "trader") as client:
        order = call(client, "get_order", {"client_order_id": traded.client_order_id})["data"]
        (own,) = order["fills"] if len(order["fills"]) == 1 else (order["fills"][0],)
        assert (order["order"]["status"], order["order"]["filled_quantity"]) == ("FILLED", "0.01")
        assert own["client_order_id"] == traded.client_order_id
        fills = call(client, "get_fills", {"client_order_id": traded.client_order_id})["data"]["fills"]
        assert [fill["trade_id"] for fill in fills] == [fill["trade_id"] for fill in order["fills"]]
        pnl = call(client, "get_pnl", {"group_by": "symbol", "days": 2})["data"]
        assert (pnl["unmeasured_fills"], [group["key"] for group in pnl["groups"]]) == ("0", ["BTCUSDT"])
        fees = call(client, "get_fees", {"group_by": "asset", "days": 2})["data"]
        assert fees["totals"][0]["fill_count"] != "0"
        held = {cell["asset"] for cell in call(client, "get_balances", {})["data"]["balances"]}
        assert {"BTC", "USDT"} <= held
        listed = call(client, "list_suggestions", {"status": "executed"})["data"]["suggestions"]
        assert traded.suggestion_id in {row["suggestion_id"] for row in listed}
        why = call(client, "explain_rejection", {"reference": traded.refused_call_id})["data"]
        assert (why["refused"], why["kind"]) == (True, "call")
        assert why["code"] in {"RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER", "MARKET_DEPTH_INSUFFICIENT"}
        health = call(client, "get_system_health", {})["data"]
        assert int(health["projected_sequence"]) > 0


def test_a_backtest_over_recorded_trades_is_run_shown_listed_and_charted(
    service: RunningService, traded: Traded
) -> None:
    report = traded.backtest["report"]
    assert (traded.backtest["backtest"]["status"], report["mode"]) == ("done", "BACKTEST")
    assert (report["data"]["source"], report["data"]["bars"]) == ("recorded:binance:trade", "132")
    assert int(report["metrics"]["fills"]) > 0
    assert report["metrics"]["orders_refused"] == "0"
    again = service.veloz(
        "backtest", "run", "sma_cross", "BTCUSDT", "--set", "fast=3", "--set", "slow=9", "--json"
    ).json
    assert again["backtest"]["report_digest"] == traded.backtest["backtest"]["report_digest"]
    assert int(again["backtest"]["tries"]) > int(traded.backtest["backtest"]["tries"])
    shown = service.veloz("backtest", "show", traded.backtest_id).text
    assert "BACKTEST  sma_cross (fast 3" in shown
    assert "! IN_SAMPLE_ONLY" in shown
    assert set("▁█") < set(shown)
    assert traded.backtest_id in service.veloz("backtest", "list").text
    too_few = service.veloz("backtest", "run", "sma_cross", "BTCUSDT", "--set", "slow=900", "--json")
    assert (too_few.exit_code, too_few.json["backtest"]["refusal"]["code"]) == (1, "MARKET_NO_DATA")


def test_what_a_price_move_or_an_order_would_do_is_told_by_the_engine(service: RunningService, traded: Traded) -> None:
    with client_of(service, "trader") as client:
        fall = call(client, "what_if", {"price_move_bps": -500})["data"]
        rise = call(client, "what_if", {"symbol": "BTCUSDT", "price_move_bps": 500})["data"]
        assert Decimal(fall["known_pnl_change"]) < 0 < Decimal(rise["known_pnl_change"])
        assert Decimal(fall["after"]["known_equity"]) < Decimal(fall["before"]["known_equity"])
        order = {"symbol": "BTCUSDT", "side": "BUY", "quantity": "500"}
        large = call(client, "what_if", order)["data"]
        assert (large["refused"], large["refusal"]["code"] in ReasonCode.__members__) == (True, True)
        assert [check["name"] for check in large["checks"] if not check["passed"]]
        small = call(client, "what_if", order | {"quantity": "0.001"})["data"]
        assert (small["refused"], small["refusal"]) == (False, None)
        used = call(client, "get_risk_limits", {})["data"]
        assert Decimal(used["nearest_used_percent"]) > 0


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("get_order", {"client_order_id": "vz-of-somebody-else"}),
        ("get_suggestion", {"suggestion_id": "01KAXB7Z3M2N4P5Q6R7S8T9V0W"}),
        ("explain_rejection", {"reference": "vz-of-somebody-else"}),
        ("get_balances", {"account_id": "acct-of-somebody-else"}),
    ],
)
def test_what_is_not_theirs_is_refused_without_saying_whether_it_is_there(
    service: RunningService, traded: Traded, tool: str, arguments: dict[str, Any]
) -> None:
    with client_of(service, "trader") as client:
        answer = client.post(f"/api/v1/tools/{tool}/calls", json={"arguments": arguments})
        code = answer.json()["code"]
    assert code == ("AUTH_ACCOUNT_OUT_OF_SCOPE" if "account_id" in arguments else "RESOURCE_NOT_FOUND")
