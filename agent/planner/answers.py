"""Answers, composed from tool results only: every figure is a cell, printed as it is."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from agent.planner.account_answers import ACCOUNT_TEXT
from agent.planner.account_answers import given as _given
from agent.planner.backtests import BACKTEST_TEXT
from agent.planner.changes import Request
from agent.planner.classifier import Intent
from agent.planner.planning import SUGGEST_TOOL, SUGGEST_TOOLS, Done
from agent.planner.reading import Clause
from core.text.figures import ground
from core.text.proposals import proposal_summary
from core.types.codes import ReasonCode

LEVELS_SHOWN = 10
ITEMS_SHOWN = 10
NARRATIVE_LIMIT_CHARS = 400

HELP = (
    "I can look at the market and at your account, and prepare orders for a human to approve. Ask for example: what is "
    "the spread on BTCUSDT; show the order book of ether; how did SOL move over the last hour; what are RSI and MACD "
    "of ETH; how volatile is SOL; is the data fresh; what would it cost to buy a bitcoin now; what are my positions, "
    "balances, fills, fees or open orders; what did I make this week by symbol; what if BTC falls five percent; how "
    "close am I to my limits; why was my order refused; how did my past trades go; "
    "backtest sma cross on BTCUSDT; or: suggest buying half a bitcoin "
    "with a limit near the bid. A suggestion does nothing until a human approves it with `veloz approve <id>`. "
    "I can't place, change, cancel or approve orders."
)
OUT_OF_SCOPE = (
    "That is outside what I can answer from market, account and trade data. Ask for help to see what I can look up."
)
UNSUPPORTED = (
    "I can't do that: I only look things up and prepare suggestions. Approving and rejecting is for an approver "
    "(`veloz approve <id>`, `veloz reject <id> --reason <why>`); limits, loosening and several orders at "
    "once are for people with that authority. I can suggest to cancel or amend one order, to close or hedge a "
    "position, or to halt trading. Nothing was changed."
)
NO_ADVICE = (
    "I don't advise whether to trade, and I can't foretell prices. What the data says is below; I can estimate what an "
    "order would cost, or suggest one if you tell me side, quantity and instrument."
)
ADVICE_WITHOUT_DATA = (
    "I don't advise whether to trade, and I can't foretell prices. Name an instrument and I show you its market, or "
    "what an order in it would cost."
)
NOT_UNDERSTOOD = "I'm not sure what you mean. Do you want {first}, or {second}? Nothing was looked up or suggested."
SUGGEST_UNCLEAR = (
    "If you want an order, tell me plainly, for example: suggest buying half a bitcoin at market. If you want to know "
    "what it would cost, ask for the cost. Nothing was suggested."
)

NOTHING_UNDERSTOOD = (
    "I didn't understand that. I look at the market, your account and past trades, and prepare orders; ask for help to "
    "see examples. Nothing was looked up or suggested."
)
_NO_TRADING_INTENT = frozenset({Intent.OUT_OF_SCOPE, Intent.HELP, Intent.UNSUPPORTED_ACTION})
_LIMIT_WORDS = {
    ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER: "Largest value of one order",
    ReasonCode.RISK_PRICE_OUTSIDE_COLLAR: "Largest distance of a limit price from mid",
    ReasonCode.RISK_PRICE_DRIFT_EXCEEDS_MAX: "Largest move between suggestion and sending",
    ReasonCode.MARKET_BOOK_STALE: "Oldest order book to trade on",
    ReasonCode.RISK_QUANTITY_EXCEEDS_MAX_PER_ORDER: "Largest quantity of one order",
    ReasonCode.RISK_PRICE_OUTSIDE_MARK_COLLAR: "Largest distance of a price from the mark",
    ReasonCode.RISK_DEPTH_SHARE_EXCEEDED: "Largest share of the visible book for one order",
    ReasonCode.RISK_POSITION_EXCEEDS_MAX: "Largest position in one market",
    ReasonCode.RISK_GROSS_EXPOSURE_EXCEEDS_MAX: "Largest gross exposure",
    ReasonCode.RISK_NET_EXPOSURE_EXCEEDS_MAX: "Largest net exposure",
    ReasonCode.RISK_LEVERAGE_EXCEEDS_MAX: "Largest leverage",
    ReasonCode.RISK_OPEN_ORDERS_EXCEED_MAX: "Most open orders",
    ReasonCode.RISK_DAILY_LOSS_EXCEEDED: "Largest loss in a day",
    ReasonCode.RISK_DRAWDOWN_EXCEEDED: "Largest fall from the peak",
    ReasonCode.RISK_ORDER_RATE_EXCEEDED: "Most new orders",
    ReasonCode.RISK_AMEND_RATE_EXCEEDED: "Most amendments",
    ReasonCode.RISK_CANCEL_RATE_EXCEEDED: "Most cancels before new orders wait",
    ReasonCode.RISK_INTENT_REPEATED: "How often the same order may come",
}
_KILL_SWITCH_WORDS = {
    "NORMAL": "off, trading is open",
    "REDUCE_ONLY": "on, positions can only be reduced",
    "CANCEL_ONLY": "on, orders can only be cancelled",
    "HALTED": "on, trading is halted",
}
_REVIEW_FACTS = (
    ("side", ""),
    ("max_quantity", ""),
    ("entry_average_price", "entry average price"),
    ("exit_average_price", "exit average price"),
    ("net_pnl_quote", "net pnl quote"),
    ("realised_pnl_quote", "realised pnl quote"),
    ("fees_quote", "fees quote"),
    ("holding_time_s", "holding time s"),
    ("entry_slippage_bps", "entry slippage bps"),
    ("exit_slippage_bps", "exit slippage bps"),
    ("max_adverse_excursion_bps", "max adverse excursion bps"),
    ("max_favourable_excursion_bps", "max favourable excursion bps"),
    ("suggested_by", "suggested by"),
    ("approved_by", "approved by"),
)

_INTENT_WORDS = {
    Intent.TICKER: "the current price and spread",
    Intent.ORDER_BOOK: "the order book",
    Intent.KLINES: "how the price moved",
    Intent.INDICATORS: "technical indicators",
    Intent.FEED_HEALTH: "how healthy the market data is",
    Intent.POSITIONS: "your positions",
    Intent.OPEN_ORDERS: "your open orders",
    Intent.RISK_STATE: "the risk limits",
    Intent.ESTIMATE_EXECUTION: "what an order would cost",
    Intent.SUGGEST_ORDER: "a suggested order",
    Intent.INSTRUMENTS: "the list of instruments",
    Intent.REVIEWS: "reviews of past trades",
    Intent.SUGGESTION_STATUS: "the status of a suggestion",
    Intent.TRADES: "the newest public trades",
    Intent.BALANCES: "your balances",
    Intent.EXPOSURE: "your exposure",
    Intent.WHAT_IF: "what an order or a price move would do to your account",
    Intent.LIMIT_USE: "how much of your limits is used",
    Intent.REJECTION: "why something was refused",
    Intent.FILLS: "your fills",
    Intent.PNL: "your profit and loss over time",
    Intent.FEES: "what you paid in fees",
    Intent.VOLATILITY: "how volatile the price is",
    Intent.CORRELATION: "how far prices move together",
    Intent.STRATEGIES: "your strategies",
    Intent.SYSTEM_HEALTH: "whether the service works",
    Intent.BACKTEST: "a backtest",
    Intent.UNSUPPORTED_ACTION: "to change or cancel something",
    Intent.ADVICE: "an opinion on the market",
    Intent.HELP: "to know what I can do",
    Intent.OUT_OF_SCOPE: "something outside trading",
}

_CODE_WORDS = {
    ReasonCode.MARKET_INSTRUMENT_UNKNOWN: "that instrument isn't known here",
    ReasonCode.MARKET_BOOK_STALE: "the order book isn't verified at the moment, so no figure from it would be safe",
    ReasonCode.MARKET_NO_DATA: "there is no data for it yet",
    ReasonCode.MARKET_DEPTH_INSUFFICIENT: "the book is too thin for that quantity",
    ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER: "the order is larger than risk allows for one order",
    ReasonCode.RISK_PRICE_OUTSIDE_COLLAR: "the price is too far from the market",
    ReasonCode.RISK_PRICE_DRIFT_EXCEEDS_MAX: "the market has moved too far",
    ReasonCode.RISK_KILL_SWITCH_ACTIVE: "the kill switch is on",
    ReasonCode.RISK_BALANCE_INSUFFICIENT: "the balance doesn't cover it",
    ReasonCode.RISK_VENUE_DISCONNECTED: "the venue isn't connected",
    ReasonCode.ORDER_TICK_SIZE_VIOLATED: "the price isn't on the instrument's tick",
    ReasonCode.ORDER_LOT_SIZE_VIOLATED: "the quantity isn't a multiple of the lot size",
    ReasonCode.ORDER_QUANTITY_BELOW_MIN: "the quantity is below the instrument's minimum",
    ReasonCode.ORDER_QUANTITY_ABOVE_MAX: "the quantity is above the instrument's maximum",
    ReasonCode.ORDER_NOTIONAL_BELOW_MIN: "the order is worth less than the instrument's minimum",
    ReasonCode.ORDER_RATE_LIMITED: "the venue's limit of orders is used up for the moment",
    ReasonCode.TOOL_ARGUMENTS_INVALID: "the request doesn't fit what can be asked there",
    ReasonCode.TOOL_NOT_PERMITTED: "your role doesn't allow it",
    ReasonCode.AUTH_ROLE_NOT_PERMITTED: "your role doesn't allow it",
    ReasonCode.AUTH_ACCOUNT_OUT_OF_SCOPE: "that account isn't yours to see",
    ReasonCode.TOOL_DEADLINE_EXCEEDED: "it took too long; ask again in a moment",
    ReasonCode.TOOL_RATE_EXCEEDED: "too many questions in a short time; ask again in a moment",
    ReasonCode.TOOL_BUDGET_EXCEEDED: "the budget for this run is used up",
    ReasonCode.RESOURCE_NOT_FOUND: "there is no such thing in your accounts",
}


def compose(clause: Clause, done: list[Done]) -> str:
    """The answer to one clause from its calls' results."""
    if clause.intent is None:
        return _unsure(clause)
    made = [item for item in done if item.call.tool in SUGGEST_TOOLS]
    if isinstance(clause.intent, Request) and made:
        # What was looked up to work it out isn't part of the answer.
        done = made
    refused = [explain(item) for item in done if item.refusal is not None]
    shown = [_TOOL_TEXT[item.call.tool](item.data) + _stamp(item) for item in done if _is_shown(clause, item)]
    body = "\n\n".join(shown + list(dict.fromkeys(refused)))
    match clause.intent:
        case Intent.ADVICE:
            return f"{NO_ADVICE}\n\n{body}" if body else ADVICE_WITHOUT_DATA
        case Intent.HELP:
            return HELP
        case Intent.UNSUPPORTED_ACTION:
            return UNSUPPORTED
        case Intent.OUT_OF_SCOPE:
            return OUT_OF_SCOPE
        case _:
            return body


def _is_shown(clause: Clause, item: Done) -> bool:
    """A read that only served to work out an order isn't part of the answer."""
    if item.refusal is not None or item.call.tool not in _TOOL_TEXT:
        return False
    if item.call.tool == "list_instruments":
        return clause.intent is Intent.INSTRUMENTS
    helper = item.call.tool == "get_ticker"
    return not (helper and clause.intent in {Intent.SUGGEST_ORDER, Intent.ESTIMATE_EXECUTION})


def _unsure(clause: Clause) -> str:
    if Intent.SUGGEST_ORDER in clause.candidates[:1]:
        return SUGGEST_UNCLEAR
    if _NO_TRADING_INTENT.issuperset(clause.candidates):
        return NOTHING_UNDERSTOOD
    first, second = (_INTENT_WORDS[intent] for intent in clause.candidates)
    return NOT_UNDERSTOOD.format(first=first, second=second)


def explain(item: Done) -> str:
    """A refusal in words, with its code and its figures."""
    refusal = item.refusal or {}
    code = str(refusal.get("code", ReasonCode.TOOL_FAILED.value))
    known = _CODE_WORDS.get(ReasonCode(code)) if code in ReasonCode.__members__ else None
    words = known or "it was refused"
    message = str(refusal.get("message") or "")
    # A refusal's own message is better, as long as each figure in it is one of the refusal's cells.
    if message and all(figure.sourced for figure in ground(message, [("", item.call.tool, {"refusal": refusal})])):
        words = message.rstrip(".")
    unit = f" {refusal['unit']}" if refusal.get("unit") in {"bps", "ms", "s", "quote"} else ""
    parts = [code]
    parts += [f"{name} {refusal[name]}{unit}" for name in ("limit", "actual") if _is_figure(refusal.get(name))]
    what = "Nothing was suggested" if item.call.tool in SUGGEST_TOOLS else f"No answer from {item.call.tool}"
    what = "No order was suggested" if item.call.tool == SUGGEST_TOOL else what
    return f"{what}: {words} ({', '.join(parts)})."


def _is_figure(value: Any) -> bool:
    return value is not None and str(value).replace(".", "", 1).lstrip("-").isdigit()


def _stamp(item: Done) -> str:
    return f" ({item.mode}, as of {item.data['as_of']})" if "as_of" in item.data else ""


def _ticker(d: dict[str, Any]) -> str:
    base, quote = d["base_asset"], d["quote_asset"]
    text = (
        f"{d['symbol']}: bid {d['bid_price']} ({d['bid_quantity']} {base}), ask {d['ask_price']} ({d['ask_quantity']} "
        f"{base}), mid {d['mid_price']} {quote}. The spread is {d['spread']} {quote}, {d['spread_bps']} bps."
    )
    last = f" The last trade was {d['last_quantity']} {base} at {d['last_price']} {quote}."
    return text + _given(last, d["last_price"], d["last_quantity"])


def _order_book(d: dict[str, Any]) -> str:
    state = (
        ""
        if d["state"] == "LIVE"
        else f" Careful: the book is {d['state']} ({d['stale_reason'] or 'no reason given'})."
    )
    rows = [
        f"{side}: " + ", ".join(f"{level['quantity']} at {level['price']}" for level in d[key][:LEVELS_SHOWN])
        for side, key in (("Bids", "bids"), ("Asks", "asks"))
    ]
    shape = _given(
        f" Spread {d['spread']}, {d['spread_bps']} bps; mid {d['mid_price']}; imbalance {d['imbalance']}.",
        d["spread"],
        d["mid_price"],
        d["imbalance"],
    )
    total = (
        f"{d['symbol']} book, {d['bid_levels']} bid levels with {d['bid_quantity_shown']} and {d['ask_levels']} ask "
        f"levels with {d['ask_quantity_shown']} in quantity.{state}{shape}"
    )
    return "\n".join([total, *rows])


def _klines(d: dict[str, Any]) -> str:
    summary = d["summary"]
    if summary is None:
        return f"There are no {d['interval']} candles for {d['symbol']} yet."
    change = str(summary["change"])
    way = "fell" if change.startswith("-") else "didn't move" if change == "0" else "rose"
    by = (
        ""
        if change == "0"
        else f" (change {change}" + _given(f", {summary['change_bps']} bps", summary["change_bps"]) + ")"
    )
    return (
        f"{d['symbol']} {way}{by} over {d['interval']} candles (count {d['count']}), from {summary['from_time']} to "
        f"{summary['to_time']}: open {summary['open']}, high {summary['high']}, low {summary['low']}, close "
        f"{summary['close']}; range {summary['range']}, volume {summary['volume']}, {summary['trades']} trades."
        f"{'' if d['klines'][-1]['closed'] else ' The last of them is still forming.'}"
    )


def _indicators(d: dict[str, Any]) -> str:
    if d["close"] is None:
        return f"There are no closed {d['interval']} candles for {d['symbol']} yet, so no indicator of them."
    head = (
        f"{d['symbol']}, {d['interval']}: closed candles in a row {d['bars']}, from {d['from_time']} to "
        f"{d['to_time']}, last close {d['close']}."
    )
    return "\n".join([head, *(_indicator(item) for item in d["indicators"])])


def _indicator(item: dict[str, Any]) -> str:
    parameters = ", ".join(f"{cell['name']} {cell['value']}" for cell in item["parameters"])
    title = item["name"] + (f" ({parameters})" if parameters else "")
    if not item["ready"]:
        return f"- {title}: not known yet, it needs more candles than there are."
    values = [
        ("" if cell["name"] == "value" else f"{cell['name']} ")
        + f"{cell['value']}"
        + _given(f" (one candle before {cell['previous']})", cell["previous"])
        for cell in item["values"]
    ]
    return f"- {title}: {', '.join(values)}"


def _feed_health(d: dict[str, Any]) -> str:
    if not d["feeds"]:
        return "The engine follows no market data feed, so there is nothing here whose prices could be trusted."
    rows = [_feed(feed) for feed in d["feeds"][:ITEMS_SHOWN]]
    if len(d["feeds"]) == 1:
        return rows[0]
    state = "all of them LIVE" if d["live_count"] == d["count"] else f"of these LIVE {d['live_count']}"
    return "\n".join([f"Market data feeds, by count: {d['count']}, {state}.", *rows])


def _feed(f: dict[str, Any]) -> str:
    if f["book_state"] == "LIVE":
        state = "the data is fresh: the book is LIVE, verified message by message"
    else:
        reason = f" ({f['stale_reason']})" if f["stale_reason"] and f["stale_reason"] != f["book_state"] else ""
        state = f"careful, the book is {f['book_state']}{reason}: nothing from it is verified until it is resynced"
    ages = [
        _given(f"book age {f['book_age_ms']} ms", f["book_age_ms"]),
        _given(f"ticker age {f['ticker_age_ms']} ms", f["ticker_age_ms"]),
        _given(
            f"exchange latency p50 {f['exchange_latency_ms_p50']} ms and p99 {f['exchange_latency_ms_p99']} ms",
            f["exchange_latency_ms_p50"],
            f["exchange_latency_ms_p99"],
        ),
        _given(f"venue clock offset {f['clock_offset_ms']} ms", f["clock_offset_ms"]),
        f"message rate {f['message_rate_per_s']} per second",
    ]
    return (
        f"{f['symbol']}: {state}; {', '.join(filter(None, ages))}. Since the start: gaps {f['gaps']}, resyncs "
        f"{f['resyncs']}, state transitions {f['transitions']}, stale time {f['stale_time_ms']} ms, ticker mismatches "
        f"{f['ticker_mismatches']} in {f['ticker_comparisons']} comparisons, trades missed {f['trades_missed']}."
    )


def _positions(d: dict[str, Any]) -> str:
    if not d["positions"]:
        return "You have no position."
    rows = []
    for p in d["positions"][:ITEMS_SHOWN]:
        if p["direction"] == "flat":
            rows.append(f"{p['symbol']}: no position now, realised {p['realised_pnl_quote']}, fees {p['fees_quote']}.")
            continue
        mark = _given(f", mark {p['mark_price']}", p["mark_price"])
        open_pnl = _given(f", unrealised {p['unrealised_pnl_quote']}", p["unrealised_pnl_quote"])
        rows.append(
            f"{p['symbol']}: {p['direction']} {p['quantity']} at an average price of {p['average_price']}"
            f"{mark}{open_pnl}"
            f", realised {p['realised_pnl_quote']}, fees {p['fees_quote']}."
        )
    unrealised = _given(f", unrealised {d['unrealised_pnl_quote']}", d["unrealised_pnl_quote"])
    total = f"In all, in quote currency: realised {d['realised_pnl_quote']}{unrealised}, fees {d['fees_quote']}."
    return "\n".join([*rows, total])


def _open_orders(d: dict[str, Any]) -> str:
    if not d["orders"]:
        return "You have no open orders."
    rows = []
    for o in d["orders"][:ITEMS_SHOWN]:
        price = _given(f" at {o['price']}", o["price"]) + _given(
            f" with its stop at {o['stop_price']}", o["stop_price"]
        )
        price += _given(f" trailing by {o['trailing_offset_bps']} bps", o["trailing_offset_bps"])
        rows.append(
            f"{o['side']} {o['quantity']} {o['symbol']} {o['order_type']}{price} {o['time_in_force']}: {o['status']}, "
            f"filled {o['filled_quantity']}, open {o['open_quantity']}, since {o['created_at']}."
        )
    return "\n".join([f"Open orders, by count: {d['count']}.", *rows])


def _risk_state(d: dict[str, Any]) -> str:
    venue = "connected" if d["venue_connected"] else "NOT connected"
    rows = [f"Kill switch: {d['kill_switch']}{_switch(d)}. Venue: {venue}. Rules version {d['rules_version']}."]
    if d["frozen_reason"]:
        rows.append("The account is FROZEN: nothing new is taken until engine and venue agree on it.")
    for limit in d["limits"]:
        code = str(limit["name"])
        words = _LIMIT_WORDS.get(ReasonCode(code)) if code in ReasonCode.__members__ else None
        name = f"{words} ({code})" if words else code
        unit = f" {limit['unit']}" if limit["unit"] else ""
        unit += _given(f" within {limit['window_ms']} ms", limit["window_ms"])
        actual = _given(f", now {limit['actual']}{unit}", limit["actual"])
        state = "" if limit["passed"] else " (breached)"
        rows.append(
            f"{name}: " + (_given(f"limit {limit['limit']}{unit}", limit["limit"]) or "in force") + actual + state
        )
    return "\n".join(rows)


def _switch(d: dict[str, Any]) -> str:
    words = _KILL_SWITCH_WORDS.get(str(d["kill_switch"]))
    return f" ({words})" if words else ""


def _estimate(d: dict[str, Any]) -> str:
    base, quote = d["base_asset"], d["quote_asset"]
    doing = "Buying" if d["side"] == "BUY" else "Selling"
    if d["average_price"] is None:
        return f"{doing} {d['quantity']} {base} now isn't possible: there is nothing to trade against in the book."
    text = (
        f"{doing} {d['quantity']} {base} at market now: average price {d['average_price']} {quote}, worst price "
        f"{d['worst_price']}, notional {d['notional_quote']} {quote}, over {d['levels']} level"
        f"{'' if str(d['levels']) == '1' else 's'}. Against the mid of "
        f"{d['mid_price']} that is a slippage of {d['slippage_bps']} bps, a cost of {d['cost_quote']} {quote} before "
        "fees."
    )
    if not d["complete"]:
        filled = d["filled_quantity"]
        text += f" The book is too thin for all of it: the figures are for a filled quantity of {filled} {base}."
    return text


def _instruments(d: dict[str, Any]) -> str:
    rows = [
        f"{i['symbol']}: tick size {i['tick_size']} {i['quote_asset']}, lot size {i['lot_size']} {i['base_asset']}, "
        f"minimum quantity {i['min_quantity']}, minimum notional {i['min_notional_quote']} {i['quote_asset']}."
        for i in d["instruments"][:ITEMS_SHOWN]
    ]
    return "\n".join([f"Instruments here, by count: {d['count']}.", *rows])


def _reviews(d: dict[str, Any]) -> str:
    if not d["reviews"]:
        return "There is no review of a closed position that fits."
    rows = []
    for review in d["reviews"][:ITEMS_SHOWN]:
        facts = review["facts"]
        told = [f"{words} {facts[name]}".strip() for name, words in _REVIEW_FACTS if facts.get(name) is not None]
        rows.append(f"{review['symbol']}, closed {review['closed_at']}: {', '.join(told) or 'no facts stored'}.")
    return "\n".join([f"Reviews found, by count: {d['count']}.", *rows])


def _suggested(d: dict[str, Any]) -> str:
    p = d["proposal"]
    text = (
        f"Suggestion {d['suggestion_id']} is {d['status']}: it waits for a human's approval, and nothing has been sent "
        f"to the venue.\nProposed: {proposal_summary(p)}, account {p['account_id']}, {p['mode']}. "
    )
    if p.get("notional_quote"):
        text += (
            f"Notional {p['notional_quote']} {d['quote_asset']}, reference price {p['reference_price']}, allowed drift "
            f"until sending {p['max_deviation_bps']} bps."
        )
    text += (
        f"\nIt expires at {d['expires_at']}. Approve with `veloz approve {d['suggestion_id']}`; reject with "
        f"`veloz reject {d['suggestion_id']} --reason <why>`."
    )
    if d.get("approvals_due") not in {None, "1"}:
        text += f" Different people who have to approve it: {d['approvals_due']}."
    estimate = d["what_if"].get("estimate")
    if estimate and estimate.get("average_price") is not None:
        text += "\n" + _taken_at_once(p, estimate, d["quote_asset"])
    notes = [note for note in d.get("notes", []) if not ground(note, [])]
    return "\n".join([text, *notes])


def _taken_at_once(proposal: dict[str, Any], estimate: dict[str, Any], quote: str) -> str:
    """What a crossing order takes: the estimate is that of the whole quantity, without regard to its limit."""
    limit, worst = proposal.get("price"), estimate["worst_price"]
    if limit:
        beyond = Decimal(worst) - Decimal(limit)
        if beyond > 0 if proposal["side"] == "BUY" else beyond < 0:
            return (
                "It would take from the book at once, but only a part of its quantity is offered within its limit: all "
                f"of it would go to a worst price of {worst} {quote}."
            )
    return (
        f"It would take from the book at once: average price {estimate['average_price']}, slippage "
        f"{estimate['slippage_bps']} bps, cost {estimate['cost_quote']} {quote}."
    )


def _get_suggestion(d: dict[str, Any]) -> str:
    text = f"Suggestion {d['suggestion_id']} is {d['status']}: {proposal_summary(d['proposal'])}."
    if d["status"] == "pending":
        text += f" It expires at {d['expires_at']}; approve with `veloz approve {d['suggestion_id']}`."
    text += _given(f" Decided at {d['decided_at']}.", d["decided_at"])
    return text + _given(f" Refused with {d['refusal_code']}.", d["refusal_code"])


_TOOL_TEXT: dict[str, Callable[[dict[str, Any]], str]] = {
    "get_ticker": _ticker,
    "get_order_book": _order_book,
    "get_klines": _klines,
    "get_indicators": _indicators,
    "get_feed_health": _feed_health,
    "get_positions": _positions,
    "get_open_orders": _open_orders,
    "get_risk_state": _risk_state,
    "estimate_execution": _estimate,
    "list_instruments": _instruments,
    "search_reviews": _reviews,
    "get_suggestion": _get_suggestion,
    **dict.fromkeys(SUGGEST_TOOLS, _suggested),
    **ACCOUNT_TEXT,
    **BACKTEST_TEXT,
}
