"""From clauses and the results so far to the next tool calls. Stateless: the same messages give the same plan."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any

import msgspec

from agent.planner.backtests import read_backtest
from agent.planner.changes import Request
from agent.planner.classifier import Intent
from agent.planner.indicators import USUAL
from agent.planner.reading import Clause
from agent.planner.recognising import (
    asks_for_course,
    asks_for_pending,
    code_of,
    days_of,
    group_of,
    order_id_of,
    price_move_bps,
)
from agent.planner.slots import PriceRule, Slots

BOOK_DEPTH_DEFAULT = 10
BOOK_DEPTH_LIMIT = 100
KLINES_DEFAULT = 60
KLINES_LIMIT = 500
ESTIMATES_LIMIT = 8
REVIEW_QUERY_LIMIT_CHARS = 200
INSTRUMENTS_NAMED_LIMIT = 10
BPS_PER_UNIT = 10_000
_INTERVAL_MIN = {"1m": 1, "5m": 5, "15m": 15, "1h": 60}
RATIONALE_LIMIT_CHARS = 500
SUGGEST_TOOL = "suggest_order"
SUGGEST_TOOLS = (
    SUGGEST_TOOL,
    "suggest_close",
    "suggest_hedge",
    "suggest_bracket",
    "suggest_cancel",
    "suggest_amend",
    "suggest_kill_switch",
    "suggest_strategy_change",
)
"""At most one of these is called for a question."""
SERIES_LIMIT = 4
POINTS_LIMIT = 100
TRADES_LIMIT = 200
FILLS_LIMIT = 200
BARS_MIN = 3
CORRELATED_MIN = 2
PNL_GROUPS = ("day", "symbol", "strategy")
FEE_GROUPS = ("asset", "symbol", "day")
LOOKS = {
    Intent.BALANCES: "get_balances",
    Intent.EXPOSURE: "get_exposure",
    Intent.WHAT_IF: "what_if",
    Intent.LIMIT_USE: "get_risk_limits",
    Intent.REJECTION: "explain_rejection",
    Intent.FILLS: "get_fills",
    Intent.PNL: "get_pnl",
    Intent.FEES: "get_fees",
    Intent.STRATEGIES: "list_strategies",
    Intent.SYSTEM_HEALTH: "get_system_health",
}
"""Tools that need no instrument."""


class Call(msgspec.Struct, frozen=True):
    tool: str
    arguments: dict[str, Any]


class Done(msgspec.Struct, frozen=True):
    """A call with what came back: data, or the refusal."""

    call: Call
    data: dict[str, Any]
    refusal: dict[str, Any] | None
    mode: str
    as_of_ns: int


Tools = dict[str, dict[str, Any]]
"""Tool name to its JSON Schema, as the request names them."""


class Results:
    """The calls of this run and what they returned."""

    def __init__(self, done: Iterable[Done]) -> None:
        self.all = list(done)

    def find(self, call: Call) -> Done | None:
        return next((done for done in self.all if done.call == call), None)

    def suggestion(self) -> Done | None:
        return next((done for done in self.all if done.call.tool in SUGGEST_TOOLS), None)


class Wanted(msgspec.Struct, frozen=True):
    """What one clause needs. calls are complete once next_calls is empty; ask is set when something is missing."""

    calls: tuple[Call, ...] = ()
    ask: str | None = None


def plan_clause(clause: Clause, results: Results, tools: Tools) -> Wanted:  # noqa: PLR0912 (one arm an intent)
    """The calls that the clause needs, as far as they can be known from the results so far."""
    slots = clause.slots
    assert not isinstance(clause.intent, Request), "planned elsewhere"
    match clause.intent:
        case Intent.TICKER:
            return _per_symbol("get_ticker", slots, {}, results, tools)
        case Intent.ORDER_BOOK:
            depth = min(slots.count or BOOK_DEPTH_DEFAULT, BOOK_DEPTH_LIMIT)
            return _per_symbol("get_order_book", slots, {"depth": depth}, results, tools)
        case Intent.KLINES:
            return _per_symbol("get_klines", slots, _window(slots), results, tools)
        case Intent.INDICATORS:
            wanted: dict[str, Any] = {
                "interval": slots.interval or "1m",
                "indicators": list(slots.indicators or USUAL),
            }
            if asks_for_course(clause.text):
                points = {"points": min(slots.count, POINTS_LIMIT)} if slots.count else {}
                wanted["indicators"] = wanted["indicators"][:SERIES_LIMIT]
                return _per_symbol("compute_indicators", slots, wanted | points, results, tools)
            return _per_symbol("get_indicators", slots, wanted, results, tools)
        case Intent.FEED_HEALTH:
            return _feed_health(slots, tools)
        case Intent.POSITIONS:
            return _account_tool("get_positions", slots, tools)
        case Intent.OPEN_ORDERS if order_id := order_id_of(clause.text):
            return _known(Call("get_order", {"client_order_id": order_id}), tools)
        case Intent.OPEN_ORDERS:
            return _account_tool("get_open_orders", slots, tools)
        case Intent.RISK_STATE:
            return _known(Call("get_risk_state", {}), tools)
        case Intent.INSTRUMENTS:
            return _known(Call("list_instruments", {}), tools)
        case Intent.REVIEWS:
            return _known(Call("search_reviews", {"query": clause.text[:REVIEW_QUERY_LIMIT_CHARS]}), tools)
        case Intent.ADVICE:
            return _advice(slots, tools)
        case Intent.SUGGESTION_STATUS:
            return _status(clause.text, slots, tools)
        case Intent.ESTIMATE_EXECUTION:
            return _estimate(slots, results, tools)
        case Intent.SUGGEST_ORDER:
            return _suggestion(clause, results, tools)
        case Intent.TRADES:
            count = {"limit": min(slots.count, TRADES_LIMIT)} if slots.count else {}
            return _per_symbol("get_trades", slots, count, results, tools)
        case Intent.VOLATILITY | Intent.CORRELATION:
            return _statistics(clause.intent, slots, results, tools)
        case Intent.BACKTEST:
            return _backtest(clause, results, tools)
        case _ if clause.intent in LOOKS:
            return _looks(clause, tools)
        case _:
            return Wanted()


def _looks(clause: Clause, tools: Tools) -> Wanted:
    """Of the account or the service, with what the clause narrows them to."""
    text, slots = clause.text, clause.slots
    assert isinstance(clause.intent, Intent)
    tool = LOOKS[clause.intent]
    arguments: dict[str, Any] = {}
    days, group = days_of(text), group_of(text)
    match clause.intent:
        case Intent.EXPOSURE | Intent.FILLS:
            if len(slots.symbols) == 1:
                arguments["symbol"] = slots.symbols[0]
            if clause.intent is Intent.FILLS and slots.count:
                arguments["limit"] = min(slots.count, FILLS_LIMIT)
        case Intent.PNL | Intent.FEES:
            allowed = PNL_GROUPS if clause.intent is Intent.PNL else FEE_GROUPS
            arguments |= {"days": days} if days else {}
            arguments |= {"group_by": group} if group in allowed else {}
        case Intent.REJECTION:
            reference = slots.suggestion_id or order_id_of(text)
            code = code_of(text)
            arguments = {"reference": reference} if reference else {"code": code} if code else {}
        case Intent.WHAT_IF:
            return _what_if(text, slots, tools)
    return _known(Call(tool, arguments), tools)


def _backtest(clause: Clause, results: Results, tools: Tools) -> Wanted:
    asked = read_backtest(clause.text, clause.slots)
    if asked.ask is not None:
        return Wanted(ask=asked.ask)
    if not asked.needs_symbol:
        return _known(Call(asked.tool, asked.arguments), tools)
    slots = msgspec.structs.replace(clause.slots, symbols=clause.slots.symbols[:1])
    return _per_symbol(asked.tool, slots, asked.arguments, results, tools)


def _what_if(text: str, slots: Slots, tools: Tools) -> Wanted:
    move = price_move_bps(text)
    arguments: dict[str, Any] = {}
    if len(slots.symbols) == 1:
        arguments["symbol"] = slots.symbols[0]
    if slots.side and slots.quantity is not None:
        if not slots.symbols:
            return Wanted(ask=which_instrument(slots))
        arguments |= {"symbol": slots.symbols[0], "side": slots.side, "quantity": format(slots.quantity, "f")}
        if slots.price is not None:
            arguments["price"] = format(slots.price, "f")
    if move is not None:
        arguments["price_move_bps"] = move
    if "side" not in arguments and move is None:
        return Wanted(
            ask="What shall I imagine? A price move, such as BTC falls five percent, or an order with its quantity."
        )
    return _known(Call("what_if", arguments), tools)


def _statistics(intent: Intent, slots: Slots, results: Results, tools: Tools) -> Wanted:
    tool = "compute_volatility" if intent is Intent.VOLATILITY else "compute_correlation"
    if intent is Intent.CORRELATION and len(slots.symbols) < CORRELATED_MIN:
        return Wanted(ask="Of which two instruments? Name them, for example BTC and ETH.")
    if not slots.symbols:
        slots, unsettled = _settled(slots, results, tools)
        if unsettled is not None:
            return unsettled
    window: dict[str, Any] = {"interval": slots.interval or "1m"}
    if slots.count or slots.span_min:
        window = _window(slots)
    if "limit" in window:
        window["bars"] = max(BARS_MIN, window.pop("limit"))
    return _known(Call(tool, {"symbols": list(slots.symbols), **window}), tools)


def _known(call: Call, tools: Tools) -> Wanted:
    if call.tool not in tools:
        return Wanted(ask=f"That needs the tool {call.tool}, which isn't open to you here.")
    return Wanted((call,))


def _per_symbol(tool: str, slots: Slots, arguments: dict[str, Any], results: Results, tools: Tools) -> Wanted:
    if not slots.symbols:
        slots, unsettled = _settled(slots, results, tools)
        if unsettled is not None:
            return unsettled
    if tool not in tools:
        return _known(Call(tool, {}), tools)
    return Wanted(tuple(Call(tool, {"symbol": symbol, **arguments}) for symbol in slots.symbols))


def _feed_health(slots: Slots, tools: Tools) -> Wanted:
    """Of each instrument that is named, else of all."""
    tool = "get_feed_health"
    if not slots.symbols and slots.unknown_symbol:
        return Wanted(ask=which_instrument(slots))
    if tool not in tools or not slots.symbols:
        return _known(Call(tool, {}), tools)
    return Wanted(tuple(Call(tool, {"symbol": symbol}) for symbol in slots.symbols))


def _settled(slots: Slots, results: Results, tools: Tools) -> tuple[Slots, Wanted | None]:
    """The instrument of a question that names none: the only one there is, else what is needed to ask for it."""
    listing = Call("list_instruments", {})
    if slots.unknown_symbol or listing.tool not in tools:
        return slots, Wanted(ask=which_instrument(slots))
    if (done := results.find(listing)) is None:
        return slots, Wanted((listing,))
    symbols = tuple(str(item["symbol"]) for item in done.data.get("instruments") or [])
    if len(symbols) != 1:
        return slots, Wanted((listing,), ask=which_instrument(slots, symbols))
    return msgspec.structs.replace(slots, symbols=symbols), None


def which_instrument(slots: Slots, known: tuple[str, ...] = ()) -> str:
    if slots.unknown_symbol:
        return f"I don't know an instrument called {slots.unknown_symbol}. Ask me which instruments there are."
    if known:
        return f"Which instrument do you mean? There are: {', '.join(known[:INSTRUMENTS_NAMED_LIMIT])}."
    return "Which instrument do you mean? Name it, for example BTCUSDT or ether."


def _window(slots: Slots) -> dict[str, Any]:
    interval = slots.interval or "1m"
    if slots.count is not None and slots.span_min is None:
        return {"interval": interval, "limit": min(slots.count, KLINES_LIMIT)}
    if slots.span_min is None:
        return {"interval": interval, "limit": KLINES_DEFAULT}
    if slots.interval is None:
        interval = next((name for name, m in _INTERVAL_MIN.items() if slots.span_min <= KLINES_LIMIT * m), "1h")
    step_min = _INTERVAL_MIN.get(interval, 1)
    return {"interval": interval, "limit": max(1, min(slots.span_min // step_min, KLINES_LIMIT))}


def _account_tool(tool: str, slots: Slots, tools: Tools) -> Wanted:
    if len(slots.symbols) == 1:
        return _known(Call(tool, {"symbol": slots.symbols[0]}), tools)
    return _known(Call(tool, {}), tools)


def _advice(slots: Slots, tools: Tools) -> Wanted:
    wanted = [Call("get_ticker", {"symbol": s}) for s in slots.symbols]
    wanted += [Call("get_klines", {"symbol": s, "interval": "1m", "limit": KLINES_DEFAULT}) for s in slots.symbols]
    return Wanted(tuple(call for call in wanted if call.tool in tools))


def _status(text: str, slots: Slots, tools: Tools) -> Wanted:
    if slots.suggestion_id is None:
        return _known(Call("list_suggestions", {"status": "pending"} if asks_for_pending(text) else {}), tools)
    return _known(Call("get_suggestion", {"suggestion_id": slots.suggestion_id}), tools)


def _estimate(slots: Slots, results: Results, tools: Tools) -> Wanted:
    if not slots.symbols:
        slots, unsettled = _settled(slots, results, tools)
        if unsettled is not None:
            return unsettled
    if slots.quantity is None and slots.notional is None:
        return Wanted(
            ask="For what quantity? Say it in the base asset, for example half a bitcoin, or as an amount in USDT."
        )
    if "estimate_execution" not in tools:
        return _known(Call("estimate_execution", {}), tools)
    sides = (slots.side,) if slots.side else ("BUY", "SELL")
    calls: list[Call] = []
    each = [msgspec.structs.replace(slots, quantity=q) for q in (slots.quantity, *slots.other_quantities)]
    for symbol, side, amount in [(s, d, a) for s in slots.symbols for d in sides for a in each][:ESTIMATES_LIMIT]:
        needed, quantity = quantity_of(symbol, side, amount, results)
        calls.extend(needed)
        if quantity is not None and quantity > 0:
            arguments = {"symbol": symbol, "side": side, "quantity": format(quantity, "f")}
            calls.append(Call("estimate_execution", arguments))
        elif quantity is not None:
            return Wanted(tuple(calls), ask="That amount is less than the smallest quantity step of the instrument.")
    return Wanted(unique(calls))


def unique(calls: Iterable[Call]) -> tuple[Call, ...]:
    out: list[Call] = []
    for call in calls:
        if call not in out:
            out.append(call)
    return tuple(out)


def quantity_of(symbol: str, side: str, slots: Slots, results: Results) -> tuple[list[Call], Decimal | None]:
    """(reads that it takes, the quantity in base units once they are there): an amount in quote is divided by the
    price that it would trade at first and cut to the lot."""
    if slots.quantity is not None or slots.notional is None:
        return [], slots.quantity
    ticker, listing = Call("get_ticker", {"symbol": symbol}), Call("list_instruments", {})
    price = slots.price
    if price is None:
        price = _decimal(_cell(results, ticker, "ask_price" if side == "BUY" else "bid_price"))
    lot = _instrument_decimal(results, listing, symbol, "lot_size")
    if price is None or lot is None or price <= 0 or lot <= 0:
        return [ticker, listing], None
    return [ticker, listing], (slots.notional / price / lot).to_integral_value(ROUND_DOWN) * lot


def part_of_position(symbol: str, ratio_bps: int, results: Results) -> tuple[list[Call], Decimal | None]:
    """(reads that it takes, that part of the position in base units once they are there), cut to the lot."""
    held, listing = Call("get_positions", {}), Call("list_instruments", {})
    done, lot = results.find(held), _instrument_decimal(results, listing, symbol, "lot_size")
    if done is None or done.refusal is not None or lot is None or lot <= 0:
        return [held, listing], None
    rows = [row for row in done.data.get("positions") or [] if row["symbol"] == symbol]
    size = abs(sum((Decimal(row["quantity"]) for row in rows), Decimal(0)))
    part = size * ratio_bps / BPS_PER_UNIT
    return [held, listing], (part / lot).to_integral_value(ROUND_DOWN) * lot


def _suggestion(clause: Clause, results: Results, tools: Tools) -> Wanted:
    slots = clause.slots
    if made := results.suggestion():
        return Wanted((made.call,))
    if missing := missing_of_order(clause, tools):
        return Wanted(ask=missing)
    symbol, side = slots.symbols[0], slots.side
    assert side is not None
    needed, quantity = quantity_of(symbol, side, slots, results)
    rule = slots.price_rule
    if rule is None and slots.price is None and slots.post_only:
        rule = PriceRule("bid" if side == "BUY" else "ask", Decimal(0), "tick")
    price = slots.price
    anchor = anchor_of(rule) if rule is not None else None
    if rule is not None and anchor is None:
        reads, price = price_of(symbol, side, rule, results)
        needed += [read for read in reads if read not in needed]
    if quantity is None or (rule is not None and price is None and anchor is None):
        return Wanted(tuple(needed))
    if quantity <= 0:
        return Wanted(tuple(needed), ask="That amount is less than the smallest quantity step of the instrument.")
    wanted: dict[str, Any] = {
        "symbol": symbol,
        "side": side,
        "order_type": "LIMIT" if rule is not None or price is not None else "MARKET",
        "quantity": format(quantity, "f"),
        "rationale": clause.text[:RATIONALE_LIMIT_CHARS],
        **(anchor or {}),
    }
    optional = {
        "price": None if price is None else format(price, "f"),
        "time_in_force": slots.time_in_force,
        "post_only": True if slots.post_only else None,
        "valid_for_s": slots.valid_for_s,
    }
    wanted |= {name: value for name, value in optional.items() if value is not None}
    return Wanted((*needed, Call(SUGGEST_TOOL, wanted)))


def anchor_of(rule: PriceRule) -> dict[str, Any] | None:
    """The rule in the tool's own terms, priced by it when the suggestion is made; None when it has none."""
    if rule.reference == "last" or (rule.offset != 0 and rule.unit not in {"bps", "percent"}):
        return None
    terms = {"price_anchor": rule.reference.upper()}
    if rule.offset:
        terms["offset_bps"] = format(rule.offset * (100 if rule.unit == "percent" else 1), "f")
    return terms


def missing_of_order(clause: Clause, tools: Tools) -> str | None:
    """What to ask before an order can be suggested; None when all is there."""
    slots = clause.slots
    if SUGGEST_TOOL not in tools:
        return (
            "I can't suggest an order here: your role doesn't allow it, or only the offline planner is answering now."
        )
    if clause.conditional:
        return "I can't wait for a condition. Ask me again when it holds, or ask for a limit order now."
    if not slots.symbols:
        return which_instrument(slots)
    if len(slots.symbols) > 1:
        return "One order at a time, please: which instrument, and how much of it?"
    if slots.side is None:
        return "Do you want to buy or to sell?"
    if slots.other_quantities:
        return "One order at a time, please: you name more than one quantity. Which one is it?"
    if slots.quantity is None and slots.notional is None:
        part = " I don't work out parts of a position:" if slots.share else ""
        return f"How much?{part} Say the quantity, for example half a bitcoin, or an amount in USDT."
    if slots.limit and slots.price is None and slots.price_rule is None and not slots.market and not slots.post_only:
        return "At what limit price? Say a price, or for example at the bid, or some bps below mid."
    return None


def price_of(symbol: str, side: str, rule: PriceRule, results: Results) -> tuple[list[Call], Decimal | None]:
    """(reads that it takes, the price once they are there): a reference as it is, or moved and put on a tick, rounded
    to the passive side."""
    ticker, listing = Call("get_ticker", {"symbol": symbol}), Call("list_instruments", {})
    key = {"bid": "bid_price", "ask": "ask_price", "mid": "mid_price", "last": "last_price"}[rule.reference]
    reference = _decimal(_cell(results, ticker, key))
    if rule.offset == 0 and rule.reference != "mid":
        return [ticker], reference
    tick = _instrument_decimal(results, listing, symbol, "tick_size")
    if reference is None or tick is None or tick <= 0:
        return [ticker, listing], None
    match rule.unit:
        case "bps":
            price = reference * (BPS_PER_UNIT + rule.offset) / BPS_PER_UNIT
        case "percent":
            price = reference * (100 + rule.offset) / 100
        case "tick":
            price = reference + rule.offset * tick
        case "quote":
            price = reference + rule.offset
    steps = (price / tick).to_integral_value(ROUND_DOWN)
    if side == "SELL" and steps * tick != price:
        steps += 1
    return [ticker, listing], (steps * tick).quantize(tick, ROUND_HALF_EVEN)


def _cell(results: Results, call: Call, key: str) -> Any:
    done = results.find(call)
    return None if done is None else done.data.get(key)


def _instrument_decimal(results: Results, call: Call, symbol: str, key: str) -> Decimal | None:
    instruments = _cell(results, call, "instruments") or []
    return next((_decimal(item.get(key)) for item in instruments if item.get("symbol") == symbol), None)


def _decimal(value: Any) -> Decimal | None:
    try:
        return None if value is None else Decimal(str(value))
    except InvalidOperation:
        return None
