"""Looking back: one order, fills in pages, profit and fees by group, suggestions, and why something was refused."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from core.types.codes import ReasonCode, Refusal, refuse
from core.types.orders import OrderStatus, OrderType, Side, TimeInForce
from core.types.views import (
    EngineStatusView,
    OrderView,
    PositionView,
    RiskCheckView,
    RiskExplanationView,
    StrategyPositionView,
)
from tests.tools.doubles import House
from tests.tools.engine_double import MemoryEngine
from tests.tools.people import ACCOUNT, NOW_NS, TRADER
from tools.contracts import Principal
from tools.cures import CURES
from tools.days import DAYS_LIMIT, days_of
from tools.ports import FeeRow, FillRow, FundingRow, RefusalRow, ResultRow
from tools.result_tools import GROUPS_LIMIT, ROWS_LIMIT

OTHER = Principal("user-2", "other", TRADER.role, ("acct-2",))
D = Decimal


def order(order_id: str = "vz1", account_id: str = ACCOUNT, **changes: Any) -> OrderView:
    view = OrderView(
        account_id, "BTCUSDT", order_id, "77", Side.BUY, OrderType.LIMIT, TimeInForce.GTC, D("0.5"), D(59_000),
        D("0.2"), D("58999.5"), OrderStatus.PARTIALLY_FILLED, None, NOW_NS, NOW_NS, "paper",
    )  # fmt: skip
    return msgspec.structs.replace(view, **changes)


def fill(sequence: int, **changes: Any) -> FillRow:
    row = FillRow(
        sequence=sequence,
        venue="paper",
        symbol="BTCUSDT",
        trade_id=sequence * 10,
        client_order_id="vz1",
        strategy_id="",
        side="BUY",
        price=D(60_000),
        quantity=D("0.1"),
        fee=D("0.0001"),
        fee_asset="BTC",
        fee_quote=D(6),
        realised_pnl=D("12.5"),
        is_maker=True,
        inferred=False,
        traded_ns=NOW_NS,
    )
    return msgspec.structs.replace(row, **changes)


def result(day: str, symbol: str = "BTCUSDT", strategy: str = "", **changes: Any) -> ResultRow:
    row = ResultRow(
        day=day,
        symbol=symbol,
        strategy_id=strategy,
        fills=2,
        unmeasured=0,
        turnover=D(1_000),
        realised_pnl=D(10),
        strategy_realised_pnl=D(7),
        fees=D(1),
    )
    return msgspec.structs.replace(row, **changes)


async def test_an_order_is_the_engines_while_it_has_it_with_its_fills() -> None:
    house = House()
    house.engine.known_orders = [order(refusal=Refusal(ReasonCode.ORDER_REJECTED_BY_VENUE, "The venue said no."))]
    house.history.fill_rows = [fill(3), fill(2)]
    data = (await house.ask("get_order", client_order_id="vz1")).data
    assert (data["found_in"], data["order"]["status"], data["order"]["open_quantity"]) == (
        *("engine", "PARTIALLY_FILLED", "0.3"),
    )
    assert data["refusal"]["code"] == "ORDER_REJECTED_BY_VENUE"
    assert [f["trade_id"] for f in data["fills"]] == ["30", "20"]
    assert house.history.asked == [(ACCOUNT, None, None, "vz1", None, 101)]


async def test_an_order_that_left_the_engines_memory_is_found_in_sql() -> None:
    house = House()
    house.history.orders["vz1"] = order(status=OrderStatus.FILLED)
    data = (await house.ask("get_order", client_order_id="vz1")).data
    assert (data["found_in"], data["order"]["status"]) == ("sql", "FILLED")


@pytest.mark.parametrize("where", ["engine", "sql", "nowhere"])
async def test_somebody_elses_order_is_refused_as_one_that_there_is_not(where: str) -> None:
    house = House()
    foreign = order("vz9", "acct-2")
    house.engine.known_orders = [foreign] if where == "engine" else []
    house.history.orders = {"vz9": foreign} if where == "sql" else {}
    refusal = (await house.ask("get_order", client_order_id="vz9")).refusal
    assert (refusal.code, refusal.actual, refusal.unit) == (ReasonCode.RESOURCE_NOT_FOUND, "vz9", "order")
    assert refusal.message == f"There is no order vz9 in account {ACCOUNT}. Check the id."


async def test_without_the_engine_an_order_is_not_told_from_what_may_be_old() -> None:
    house = House()
    house.history.orders["vz1"] = order()
    house.engine.failing = refuse(ReasonCode.SERVICE_ENGINE_UNAVAILABLE, "Down.")
    assert (await house.ask("get_order", client_order_id="vz1")).refusal.code is ReasonCode.SERVICE_ENGINE_UNAVAILABLE


@pytest.mark.parametrize("order_id", ["", "x" * 65, "a b", "vz\n1", None, 7])
async def test_what_can_be_no_order_id_is_refused(order_id: object) -> None:
    refusal = (await House().ask("get_order", client_order_id=order_id)).refusal
    assert refusal.code is ReasonCode.TOOL_ARGUMENTS_INVALID


async def test_fills_come_in_pages_newest_first() -> None:
    house = House()
    house.history.fill_rows = [fill(sequence) for sequence in (9, 7, 5, 2)]
    first = (await house.ask("get_fills", symbol="btc/usdt", strategy_id="grid-1", limit=3)).data
    assert [f["trade_id"] for f in first["fills"]] == ["90", "70", "50"]
    assert (first["truncated"], first["next_before"], first["count"]) == (True, "5", "3")
    assert first["fills"][0]["notional_quote"] == "6000"
    second = (await house.ask("get_fills", before=first["next_before"], limit=3)).data
    assert ([f["trade_id"] for f in second["fills"]], second["truncated"], second["next_before"]) == (
        ["20"],
        False,
        None,
    )
    assert house.history.asked[0] == (ACCOUNT, "BTCUSDT", "grid-1", None, None, 4)


@pytest.mark.parametrize(
    ("group_by", "keys"),
    [
        ("day", [("2026-01-01", "13", "3"), ("2025-12-31", "20", "2")]),
        ("symbol", [("BTCUSDT", "20", "2"), ("ETHUSDT", "13", "3")]),
        ("strategy", [("(people)", "7", "2"), ("grid-1", "14", "3")]),
    ],
)
async def test_profit_is_added_up_by_group_less_fees_and_with_funding(
    group_by: str, keys: list[tuple[str, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryEngine, "positions", no_positions)
    house = House()
    house.history.result_rows = [
        result("2026-01-01", "ETHUSDT", "grid-1", realised_pnl=D(10)),
        result("2026-01-01", "ETHUSDT", "grid-1", realised_pnl=D(3), fees=D(2), fills=1),
        result("2025-12-31", "BTCUSDT", "", realised_pnl=D(20)),
    ]
    data = (await house.ask("get_pnl", group_by=group_by, days=2)).data
    assert [(g["key"], g["realised_pnl"], g["fill_count"]) for g in data["groups"]] == keys
    (total,) = data["totals"]
    whole = "21" if group_by == "strategy" else "33"
    assert (total["realised_pnl"], total["fees"], total["fill_count"], total["turnover_quote"]) == (
        whole,
        "4",
        "5",
        "3000",
    )
    assert Decimal(total["net_pnl"]) == Decimal(whole) - 4
    assert (data["from_day"], data["to_day"], data["time_zone"]) == ("2025-12-31", "2026-01-01", "UTC")


async def no_positions(_engine: MemoryEngine, account_id: str) -> list[PositionView]:
    return []


async def test_funding_counts_and_what_is_open_is_told_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    part = StrategyPositionView("grid-1", D("0.2"), D(59_000), D(0), D(200), D(0))

    async def positions(engine: MemoryEngine, account_id: str) -> list[PositionView]:
        (btc,) = await original(engine, account_id)
        flat = msgspec.structs.replace(btc, symbol="ETHUSDT", quantity=D(0), unrealised_pnl_quote=None)
        return [msgspec.structs.replace(btc, strategies=(part,)), flat]

    original = MemoryEngine.positions
    monkeypatch.setattr(MemoryEngine, "positions", positions)
    house = House()
    house.history.result_rows = [result("2026-01-01")]
    house.history.funding_rows = [FundingRow(day="2026-01-01", symbol="BTCUSDT", asset="USDT", amount=D("-2.5"))]
    by_symbol = (await house.ask("get_pnl", group_by="symbol", days=1)).data
    (group,) = by_symbol["groups"]
    assert (group["realised_pnl"], group["funding"], group["fees"], group["net_pnl"]) == ("10", "-2.5", "1", "6.5")
    assert (group["unrealised_pnl"], by_symbol["totals"][0]["unrealised_pnl"]) == ("1000", "1000")
    by_day = (await house.ask("get_pnl", days=1)).data
    assert (by_day["groups"][0]["unrealised_pnl"], by_day["totals"][0]["unrealised_pnl"]) == (None, "1000")
    by_strategy = (await house.ask("get_pnl", group_by="strategy", days=1)).data
    assert {g["key"]: g["unrealised_pnl"] for g in by_strategy["groups"]} == {"(people)": "0", "grid-1": "200"}


async def test_a_missing_mark_makes_the_open_profit_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    async def positions(engine: MemoryEngine, account_id: str) -> list[PositionView]:
        (btc,) = await original(engine, account_id)
        return [btc, msgspec.structs.replace(btc, symbol="ETHUSDT", unrealised_pnl_quote=None)]

    original = MemoryEngine.positions
    monkeypatch.setattr(MemoryEngine, "positions", positions)
    data = (await House().ask("get_pnl", group_by="symbol")).data
    assert {g["key"]: g["unrealised_pnl"] for g in data["groups"]} == {"BTCUSDT": "1000", "ETHUSDT": None}
    assert data["totals"][0]["unrealised_pnl"] is None


async def test_what_is_not_measured_or_has_no_value_is_said() -> None:
    house = House()
    house.history.result_rows = [result("2026-01-01", unmeasured=3)]
    house.history.fee_rows = [fees("2026-01-01", "BNB", fee_quote=None)]
    data = (await house.ask("get_pnl")).data
    assert (data["unmeasured_fills"], data["unvalued_fees"]) == ("3", True)
    clean = (await House().ask("get_pnl")).data
    assert (clean["unmeasured_fills"], clean["unvalued_fees"]) == ("0", False)


def fees(day: str, asset: str, symbol: str = "BTCUSDT", **changes: Any) -> FeeRow:
    row = FeeRow(day=day, symbol=symbol, asset=asset, fills=2, maker=D("0.25"), taker=D("0.5"), fee_quote=D(3))
    return msgspec.structs.replace(row, **changes)


@pytest.mark.parametrize(
    ("group_by", "groups"),
    [
        ("asset", [("BNB", "BNB", "0.75"), ("USDT", "USDT", "1.5")]),
        ("symbol", [("BTCUSDT", "BNB", "0.75"), ("BTCUSDT", "USDT", "0.75"), ("ETHUSDT", "USDT", "0.75")]),
        ("day", [("2026-01-01", "USDT", "0.75"), ("2025-12-31", "USDT", "0.75"), ("2025-12-31", "BNB", "0.75")]),
    ],
)
async def test_fees_are_added_up_in_the_assets_they_were_taken_in(
    group_by: str, groups: list[tuple[str, str, str]]
) -> None:
    house = House()
    house.history.fee_rows = [
        fees("2026-01-01", "USDT"),
        fees("2025-12-31", "USDT", "ETHUSDT"),
        fees("2025-12-31", "BNB", fee_quote=None),
    ]
    data = (await house.ask("get_fees", group_by=group_by)).data
    assert [(g["key"], g["asset"], g["amount"]) for g in data["groups"]] == groups
    bnb, usdt = data["totals"]
    assert (bnb["asset"], bnb["maker"], bnb["taker"], bnb["fill_count"]) == ("BNB", "0.25", "0.5", "2")
    assert (usdt["amount"], usdt["fill_count"]) == ("1.5", "4")
    assert data["valued"] == [{"quote_asset": "USDT", "amount": None}]
    house.history.fee_rows.pop()
    assert (await house.ask("get_fees")).data["valued"] == [{"quote_asset": "USDT", "amount": "6"}]


@pytest.mark.parametrize("tool", ["get_fills", "get_pnl", "get_fees"])
async def test_what_is_read_from_sql_says_how_far_that_is_behind_the_engine(tool: str) -> None:
    house = House()
    assert (await house.ask(tool)).data["records_behind"] == "2"  # the journal is at 7, SQL at 5
    house.health.projected = 7
    assert (await house.ask(tool)).data["records_behind"] == "0"
    house.health.projected = None
    assert (await house.ask(tool)).data["records_behind"] is None


async def test_without_the_engine_fees_and_fills_are_told_and_not_how_complete_they_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def down(_engine: MemoryEngine) -> EngineStatusView:
        raise refuse(ReasonCode.SERVICE_ENGINE_UNAVAILABLE, "Down.")

    monkeypatch.setattr(MemoryEngine, "status", down)
    house = House()
    house.history.fill_rows = [fill(3)]
    fills = (await house.ask("get_fills")).data
    assert (fills["count"], fills["records_behind"]) == ("1", None)


async def test_amounts_are_exact_however_long_they_are() -> None:
    """A sum of more than 28 digits, which is where Decimal rounds by itself."""
    house = House()
    price, quantity = D("123456789012.12345678"), D("98765432109.87654321")
    house.history.fill_rows = [fill(3, price=price, quantity=quantity)]
    house.history.result_rows = [
        result("2026-01-01", realised_pnl=D("123456789012345678901234567890.5"), fees=D("0.00000001"))
    ]
    house.history.fee_rows = [fees("2026-01-01", "USDT", maker=D("9" * 30), taker=D("0.00000001"))]
    (cell,) = (await house.ask("get_fills")).data["fills"]
    assert cell["notional_quote"] == "12193263113680231658668.4651727422374638"
    assert (await house.ask("get_pnl")).data["totals"][0]["net_pnl"] == "123456789012345678901234567890.49999999"
    assert (await house.ask("get_fees")).data["totals"][0]["amount"] == "9" * 30 + ".00000001"


async def test_sums_over_a_part_of_the_rows_are_refused() -> None:
    house = House()
    house.history.result_rows = [result("2026-01-01")] * (ROWS_LIMIT + 1)
    refusal = (await house.ask("get_pnl")).refusal
    assert (refusal.code, refusal.limit) == (ReasonCode.TOOL_ARGUMENTS_INVALID, str(ROWS_LIMIT))
    house.history.result_rows.pop()
    assert (await house.ask("get_pnl")).data["totals"][0]["fill_count"] == str(2 * ROWS_LIMIT)


async def test_more_groups_than_a_result_holds_are_cut_and_said_to_be() -> None:
    house = House()
    house.history.result_rows = [result("2026-01-01", f"S{n:04d}") for n in range(GROUPS_LIMIT + 1)]
    data = (await house.ask("get_pnl", group_by="strategy")).data
    assert data["truncated"] is False
    data = (await house.ask("get_pnl", group_by="symbol")).data
    assert (data["truncated"], data["count"]) == (True, str(GROUPS_LIMIT))


@pytest.mark.parametrize(
    ("zone", "arguments", "days"),
    [
        ("UTC", {}, ("2025-12-03", "2026-01-01")),
        ("UTC", {"days": 1}, ("2026-01-01", "2026-01-01")),
        ("America/New_York", {"days": 1}, ("2025-12-31", "2025-12-31")),
        ("UTC", {"from_day": "2025-01-05", "to_day": "2025-01-06"}, ("2025-01-05", "2025-01-06")),
        ("UTC", {"to_day": "2025-01-06", "days": 2}, ("2025-01-05", "2025-01-06")),
        ("UTC", {"from_day": "2025-12-31"}, ("2025-12-31", "2026-01-01")),
    ],
)
async def test_days_are_the_accounts_own(zone: str, arguments: dict[str, Any], days: tuple[str, str]) -> None:
    house = House()
    house.history.zone = zone
    data = (await house.ask("get_pnl", **arguments)).data
    assert (data["from_day"], data["to_day"]) == days
    assert house.history.asked == [(ACCOUNT, *days, ROWS_LIMIT)]


@pytest.mark.parametrize(
    "arguments",
    [
        {"days": 0},
        {"days": DAYS_LIMIT + 1},
        {"from_day": "2025-02-30"},
        {"from_day": "20250101"},
        {"to_day": 20250101},
        {"from_day": "2025-02-02", "to_day": "2025-02-01"},
        {"from_day": "2024-01-01", "to_day": "2025-06-01"},
        {"from_day": "2027-01-01"},
        {"group_by": "hour"},
    ],
)
async def test_days_that_make_no_sense_are_refused(arguments: dict[str, Any]) -> None:
    assert (await House().ask("get_pnl", **arguments)).refusal.code is ReasonCode.TOOL_ARGUMENTS_INVALID


def test_the_longest_range_is_exactly_the_limit() -> None:
    assert days_of("2026-01-01", DAYS_LIMIT, None, None) == ("2025-01-01", "2026-01-01")
    assert days_of("2026-01-01", 1, "2025-01-01", None) == ("2025-01-01", "2026-01-01")


async def test_suggestions_are_listed_newest_first_in_pages() -> None:
    house = House()
    made = [await house.suggest() for _ in range(3)]
    first = (await house.ask("list_suggestions", limit=2)).data
    ids = sorted((suggestion.suggestion_id for suggestion in made), reverse=True)
    assert [row["suggestion_id"] for row in first["suggestions"]] == ids[:2]
    assert (first["truncated"], first["next_before"], first["pending_count"]) == (True, ids[1], "2")
    row = first["suggestions"][0]
    assert (row["symbol"], row["side"], row["quantity"], row["price"]) == ("BTCUSDT", "BUY", "0.5", "59999.99")
    rest = (await house.ask("list_suggestions", before=first["next_before"].lower(), limit=2)).data
    assert ([row["suggestion_id"] for row in rest["suggestions"]], rest["truncated"]) == (ids[2:], False)
    assert (await house.ask("list_suggestions", status="rejected")).data["count"] == "0"
    assert (await house.ask("list_suggestions", OTHER)).data["count"] == "0"
    house.clock.advance_ns(301 * 10**9)
    assert (await house.ask("list_suggestions")).data["pending_count"] == "0"


def refused(reference: str = "req-1") -> RefusalRow:
    code = ReasonCode.RISK_POSITION_EXCEEDS_MAX
    return RefusalRow(
        kind="order",
        reference=reference,
        symbol="BTCUSDT",
        code=code.value,
        refusal=Refusal(code, "The position would be too large.", "40000", "45000", "quote"),
        checks=(
            RiskCheckView(ReasonCode.RISK_ORDER_RATE_EXCEEDED, True, "10", "1", "per 1000 ms", "global", D(10)),
            RiskCheckView(code, False, "40000", "45000", "quote", "global", D("112.5")),
        ),
        rules_version=2,
        decided_ns=NOW_NS,
    )


@pytest.mark.parametrize("reference", ["req-1", None])
async def test_a_refusal_is_explained_by_rule_limit_actual_and_cure(reference: str | None) -> None:
    house = House()
    house.history.refusals[reference] = refused()
    data = (await house.ask("explain_rejection", **({"reference": reference} if reference else {}))).data
    assert (data["refused"], data["kind"], data["code"]) == (True, "order", "RISK_POSITION_EXCEEDS_MAX")
    assert (data["limit"], data["actual"], data["unit"], data["rules_version"]) == ("40000", "45000", "quote", "2")
    assert (data["meaning"], data["cure"]) == CURES[ReasonCode.RISK_POSITION_EXCEEDS_MAX]
    assert [(check["passed"], check["window_ms"]) for check in data["checks"]] == [(False, None), (True, "1000")]


async def test_a_refused_approval_names_the_market_of_its_suggestion() -> None:
    house = House()
    suggestion = await house.suggest()
    row = msgspec.structs.replace(refused(suggestion.suggestion_id), kind="approval", symbol="")
    house.history.refusals[suggestion.suggestion_id] = row
    data = (await house.ask("explain_rejection", reference=suggestion.suggestion_id)).data
    assert (data["kind"], data["symbol"], data["limit"]) == ("approval", "BTCUSDT", "40000")


async def test_a_code_alone_is_explained() -> None:
    data = (await House().ask("explain_rejection", code="market_book_stale")).data
    assert (data["kind"], data["refused"], data["code"]) == ("code", False, "MARKET_BOOK_STALE")
    assert (data["meaning"], data["cure"]) == CURES[ReasonCode.MARKET_BOOK_STALE]


async def test_without_a_refusal_that_is_said() -> None:
    data = (await House().ask("explain_rejection")).data
    assert (data["refused"], data["kind"], data["code"]) == (False, "none", None)
    assert "Nothing was refused" in data["message"]


async def test_a_refused_call_is_explained_by_its_id() -> None:
    house = House()
    call = await house.ask("suggest_order", symbol="BTCUSDT", side="buy", quantity="100", price="59000")
    data = (await house.ask("explain_rejection", reference=call.call_id)).data
    assert (data["kind"], data["refused"], data["code"]) == ("call", True, "RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER")
    assert (data["limit"], data["actual"]) == ("250000", "5900000")
    fine = await house.ask("get_positions")
    told = (await house.ask("explain_rejection", reference=fine.call_id)).data
    assert (told["refused"], told["message"]) == (False, "The call of get_positions was not refused.")


async def test_a_call_of_somebody_else_is_not_there() -> None:
    house = House()
    theirs = await house.ask("get_ticker", OTHER, symbol="DOGEUSDT")
    assert theirs.refusal.code is ReasonCode.MARKET_INSTRUMENT_UNKNOWN
    refusal = (await house.ask("explain_rejection", reference=theirs.call_id)).refusal
    assert refusal.code is ReasonCode.RESOURCE_NOT_FOUND


async def test_a_suggestion_tells_where_it_stands_and_what_it_was_refused_for() -> None:
    house = House()
    suggestion = await house.suggest()
    data = (await house.ask("explain_rejection", reference=suggestion.suggestion_id)).data
    assert (data["kind"], data["refused"], data["message"]) == ("suggestion", False, "The suggestion is pending.")
    house.suggestions.change(suggestion, refusal_code="RISK_PRICE_DRIFT_EXCEEDS_MAX")
    data = (await house.ask("explain_rejection", reference=suggestion.suggestion_id.lower())).data
    assert (data["refused"], data["code"], data["symbol"]) == (True, "RISK_PRICE_DRIFT_EXCEEDS_MAX", "BTCUSDT")


def explanation(account_id: str = ACCOUNT, **changes: Any) -> RiskExplanationView:
    row = refused()
    view = RiskExplanationView(
        "vz5", account_id, "BTCUSDT", "session", "ses-1", 2, NOW_NS, row.checks, row.refusal, D(60_000), "LIVE", 5,
        D(45_000), NOW_NS,
    )  # fmt: skip
    return msgspec.structs.replace(view, **changes)


async def test_what_sql_does_not_know_yet_is_explained_by_the_engines_journal() -> None:
    house = House()
    house.engine.explanations = [explanation()]
    data = (await house.ask("explain_rejection", reference="vz5")).data
    assert (data["refused"], data["reference"], data["limit"]) == (True, "vz5", "40000")
    house.engine.explanations = [explanation(refusal=None)]
    data = (await house.ask("explain_rejection", reference="vz5")).data
    assert (data["refused"], data["message"]) == (False, "Risk let this order through.")


@pytest.mark.parametrize("known", [True, False])
async def test_an_order_of_another_account_is_explained_as_one_that_there_is_not(known: bool) -> None:
    house = House()
    house.engine.explanations = [explanation("acct-2")] if known else []
    refusal = (await house.ask("explain_rejection", reference="vz5")).refusal
    assert (refusal.code, refusal.actual) == (ReasonCode.RESOURCE_NOT_FOUND, "vz5")
    assert refusal.message == f"Nothing is known under vz5 in account {ACCOUNT}. Check the id."


@pytest.mark.parametrize(
    "arguments",
    [{"code": "NO_SUCH_CODE"}, {"reference": ""}, {"reference": "x" * 65}, {"reference": "a b"}, {"code": 5},
     {"reference": "vz1", "code": "MARKET_BOOK_STALE"}],
)  # fmt: skip
async def test_a_reference_or_code_that_can_not_be_is_refused(arguments: dict[str, Any]) -> None:
    assert (await House().ask("explain_rejection", **arguments)).refusal.code is ReasonCode.TOOL_ARGUMENTS_INVALID


def test_every_code_has_its_cure() -> None:
    assert set(CURES) == set(ReasonCode)
