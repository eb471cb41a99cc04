"""Answers about the account, the tape and the service, composed from tool results only: every figure is a cell."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

ITEMS_SHOWN = 10
DAYS_SHOWN = 31


def given(text: str, *values: Any) -> str:
    """The text when all its values are there."""
    return "" if any(value is None for value in values) else text


def _balances(d: dict[str, Any]) -> str:
    asset = d["reporting_asset"]
    if not d["balances"]:
        return "The account holds nothing at the venue, or the venue hasn't told yet."
    rows = [
        f"{b['asset']}: {b['quantity']}"
        + given(f", available {b['available']}, reserved by open orders {b['reserved']}", b["available"])
        + given(f", worth {b['value']} {asset}", b["value"])
        for b in d["balances"][:ITEMS_SHOWN]
    ]
    equity = given(f"Equity: {d['equity']} {asset}.", d["equity"])
    equity = equity or given(
        f"What has a price is worth {d['known_equity']} {asset}; nothing is known of the price of "
        f"{', '.join(d['unknown'][:ITEMS_SHOWN])}.",
        d["known_equity"],
    )
    equity = equity or "Equity isn't known: a price is missing."
    return "\n".join([equity, *rows])


def _exposure_line(line: dict[str, Any], asset: str) -> str:
    return (
        f"{line['symbol']}: {line['quantity']}"
        + given(f", worth {line['notional']} {asset}", line["notional"])
        + f"; open buys {line['open_buy_quantity']}, open sells {line['open_sell_quantity']}"
        + given(f", unrealised {line['unrealised_pnl']} {asset}", line["unrealised_pnl"])
    )


def _exposure(d: dict[str, Any]) -> str:
    asset = d["reporting_asset"]
    parts = [given(f"{name} {d[name]} {asset}", d[name]) for name in ("gross", "net", "equity")]
    parts.append(given(f"leverage {d['leverage']}", d["leverage"]))
    parts.append(given(f"free margin {d['margin_available']} {asset}", d["margin_available"]))
    told = ", ".join(filter(None, parts))
    head = f"Exposure: {told}." if told else "The exposure isn't known: prices are missing."
    return "\n".join([head, *(_exposure_line(line, asset) for line in d["lines"][:ITEMS_SHOWN])])


def _what_if(d: dict[str, Any]) -> str:
    asset, before, after = d["reporting_asset"], d["before"], d["after"]
    imagined = []
    if d["side"]:
        price = given(f" at {d['price']}", d["price"]) or " at market"
        imagined.append(f"{d['side']} {d['quantity']} {d['symbol']}{price}")
    if d["price_move_bps"] is not None:
        imagined.append(f"{d['symbol'] or 'all prices'} moving by {d['price_move_bps']} bps")
    text = f"Imagined: {', then '.join(imagined)}. Nothing was ordered."
    for name in ("equity", "gross", "net", "leverage"):
        unit = "" if name == "leverage" else f" {asset}"
        text += given(f"\n{name}: {before[name]}{unit} now, {after[name]}{unit} then.", before[name], after[name])
    if d["pnl_change"] is not None:
        text += f"\nThe change of equity would be {d['pnl_change']} {asset}."
    elif d["known_pnl_change"] is not None:
        text += f"\nThe change in worth of what has a price would be {d['known_pnl_change']} {asset}."
    if d["refusal"]:
        text += f"\nRisk would refuse the order now: {_refused(d['refusal'])}."
    elif d["side"]:
        text += "\nRisk would let the order through at this moment."
    return text


def _refused(r: dict[str, Any]) -> str:
    unit = f" {r['unit']}" if r["unit"] else ""
    return f"{r['code']}" + given(f", limit {r['limit']}{unit}, actual {r['actual']}{unit}", r["limit"], r["actual"])


def _limit_use(d: dict[str, Any]) -> str:
    head = (
        f"The nearest limit is {d['nearest']}, used to {d['nearest_used_percent']} percent."
        if d["nearest"]
        else "Nothing is used of any limit now."
    )
    used = [line for line in d["limits"] if line["used"] is not None][:ITEMS_SHOWN]
    rows = [
        f"{line['name']}{' ' + line['symbol'] if line['symbol'] else ''}: {line['used']} of {line['limit']} "
        f"{line['unit']}"
        + given(f" ({line['used_percent']} percent)", line["used_percent"])
        + given(f" within {line['window_ms']} ms", line["window_ms"])
        for line in used
    ]
    return "\n".join([head, *rows])


def _rejection(d: dict[str, Any]) -> str:
    if d["code"] is None:
        return d["message"] or "Nothing was refused."
    if not d["refused"]:
        return f"{d['code']}: {d['meaning']}. What to do: {d['cure']}."
    unit = f" {d['unit']}" if d["unit"] else ""
    what = f"The {d['kind']}" + given(f" {d['reference']}", d["reference"]) + given(f" in {d['symbol']}", d["symbol"])
    text = (
        f"{what} was refused" + given(f" at {d['decided_at']}", d["decided_at"]) + f" with {d['code']}: {d['meaning']}."
    )
    text += given(f" The limit was {d['limit']}{unit}.", d["limit"]) + given(
        f" Measured was {d['actual']}{unit}.", d["actual"]
    )
    return f"{text} What to do: {d['cure']}."


def _order(d: dict[str, Any]) -> str:
    o = d["order"]
    price = given(f" at {o['price']}", o["price"])
    text = (
        f"Order {o['client_order_id']} is {o['status']}: {o['side']} {o['quantity']} {o['symbol']} "
        f"{o['order_type']}{price}, filled {o['filled_quantity']}"
        + given(f" at an average of {o['average_fill_price']}", o["average_fill_price"])
    )
    text += f", by authority {o['authority']}, since {o['created_at']}."
    text += given(f" It came from suggestion {o['suggestion_id']}.", o["suggestion_id"])
    return text + (f" It was refused: {_refused(d['refusal'])}." if d["refusal"] else "")


def _behind(d: dict[str, Any]) -> list[str]:
    """What to know of sums and lists that are read from SQL."""
    if d["records_behind"] in {None, "0"}:
        return []
    return [f"SQL is behind the engine by {d['records_behind']} records: the newest may be missing here."]


def _fills(d: dict[str, Any]) -> str:
    if not d["fills"]:
        return "There are no fills that fit."
    rows = [
        f"{f['traded_at']}: {f['side']} {f['quantity']} {f['symbol']} at {f['price']}, fee {f['fee']} {f['fee_asset']}"
        + given(f", realised {f['realised_pnl']}", f["realised_pnl"])
        + f", order {f['client_order_id']}"
        for f in d["fills"][:ITEMS_SHOWN]
    ]
    return "\n".join([f"Fills, the newest first, by count: {d['count']}.", *rows, *_behind(d)])


def _pnl(d: dict[str, Any]) -> str:
    span = f"from {d['from_day']} to {d['to_day']} ({d['time_zone']})"
    if not d["totals"]:
        return f"No profit or loss {span}: nothing was traded and nothing is open."
    rows = [
        f"Total in {t['quote_asset'] or 'its quote currency'}: realised {t['realised_pnl']}, fees {t['fees']}, funding "
        f"{t['funding']}, net {t['net_pnl']}" + given(f"; unrealised now {t['unrealised_pnl']}", t["unrealised_pnl"])
        for t in d["totals"]
    ]
    rows += [
        f"{g['key']}: realised {g['realised_pnl']}, fees {g['fees']}, net {g['net_pnl']} {g['quote_asset']}, fills "
        f"{g['fill_count']}" + given(f"; unrealised now {g['unrealised_pnl']}", g["unrealised_pnl"])
        for g in d["groups"][:DAYS_SHOWN]
    ]
    if d["unmeasured_fills"] != "0":
        rows.append(f"Not measured, and not in these sums: fills {d['unmeasured_fills']}.")
    if d["unvalued_fees"]:
        rows.append("Fees in assets without a value are not in these sums; ask for the fees to see them.")
    return "\n".join([f"Profit and loss by {d['group_by']}, {span}.", *rows, *_behind(d)])


def _fees(d: dict[str, Any]) -> str:
    span = f"from {d['from_day']} to {d['to_day']} ({d['time_zone']})"
    if not d["totals"]:
        return f"No fees were paid {span}."
    rows = [
        f"Total: {t['amount']} {t['asset']} (maker {t['maker']}, taker {t['taker']}) on fills {t['fill_count']}."
        for t in d["totals"]
    ]
    rows += [
        f"Valued: {v['amount']} {v['quote_asset'] or 'in quote currency'}."
        for v in d["valued"]
        if v["amount"] is not None
    ]
    rows += [f"{g['key']}: {g['amount']} {g['asset']}." for g in d["groups"][:ITEMS_SHOWN]]
    return "\n".join([f"Fees by {d['group_by']}, {span}.", *rows, *_behind(d)])


def _strategies(d: dict[str, Any]) -> str:
    if not d["strategies"]:
        return "No strategy has a mandate in this account."
    rows = []
    for s in d["strategies"][:ITEMS_SHOWN]:
        held = "; ".join(
            f"holds {p['quantity']} {p['symbol']}, realised {p['realised_pnl_quote']}" for p in s["positions"]
        )
        rows.append(
            f"{s['strategy_id']} ({', '.join(s['symbols'])}): {s['state']} until {s['expires_at']}, orders placed "
            f"{s['orders_used']}, used {s['notional_used_quote']} of {s['max_total_notional_quote']} in quote currency "
            f"({s['used_percent']} percent){'; ' + held if held else ''}."
        )
    return "\n".join([f"Strategies with a mandate, by count: {d['count']}.", *rows])


def _trades(d: dict[str, Any]) -> str:
    s, base, quote = d["summary"], d["base_asset"], d["quote_asset"]
    head = (
        f"{d['symbol']}, the newest public trades by count {d['count']}, from {s['from_time']} to {s['to_time']}: "
        f"average price {s['average_price']} {quote}, high {s['high']}, low {s['low']}; buyers took "
        f"{s['bought_quantity']} {base}, sellers took {s['sold_quantity']} {base}."
    )
    rows = [f"{t['side']} {t['quantity']} at {t['price']}" for t in reversed(d["trades"][-ITEMS_SHOWN:])]
    return "\n".join([head, *rows])


def _volatility(d: dict[str, Any]) -> str:
    rows = []
    for v in d["volatilities"]:
        if v["annualised_volatility"] is None:
            rows.append(f"{v['symbol']}: not known, there are too few candles in a row.")
            continue
        rows.append(
            f"{v['symbol']}: annualised {v['annualised_percent']} percent, {v['stdev_per_bar']} a candle, over "
            f"{v['sample_count']} {d['return_type']} returns from {v['from_time']} to {v['to_time']}."
        )
    return "\n".join([f"Realised volatility on {d['interval']} candles.", *rows])


def _indicator_series(d: dict[str, Any]) -> str:
    rows = []
    for series in d["indicators"]:
        if not series["ready"]:
            rows.append(f"{series['name']}: not known yet, it needs more candles than there are.")
            continue
        shown = series["points"][-ITEMS_SHOWN:]
        for point in shown:
            values = ", ".join(f"{v['name']} {v['value']}" for v in point["values"])
            rows.append(f"{series['name']} at {point['close_time']}: {values}")
    head = f"{d['symbol']}, {d['interval']} candles, the newest last; closed candles in a row {d['bars']}."
    return "\n".join([head, *rows])


def _correlation(d: dict[str, Any]) -> str:
    rows = [
        f"{c['symbol_a']} and {c['symbol_b']}: "
        + (f"{c['correlation']}." if c["correlation"] is not None else "not known, one of them didn't move enough.")
        for c in d["correlations"]
    ]
    span = given(f", from {d['from_time']} to {d['to_time']}", d["from_time"])
    head = (
        f"Correlation of {d['return_type']} returns on {d['interval']} candles, over {d['sample_count']} returns{span}."
    )
    return "\n".join([head, *rows])


def _system_health(d: dict[str, Any]) -> str:
    bad = [part for part in d["parts"] if not part["healthy"]]
    head = "Every part of the service works." if d["healthy"] else "Not every part of the service works."
    rows = [f"{part['part']}: {part['detail'] or 'not well'}." for part in bad]
    books = given(f"Verified books: {d['books_live']} of {d['books']}.", d["books"])
    behind = given(f" SQL is behind the engine by {d['records_behind']} records.", d["records_behind"])
    switch = given(f" Kill switch: {d['kill_switch']}.", d["kill_switch"])
    return "\n".join(filter(None, [head, *rows, (books + behind + switch).strip()]))


def _suggestions(d: dict[str, Any]) -> str:
    if not d["suggestions"]:
        return "There are no suggestions in this account."
    rows = []
    for s in d["suggestions"][:ITEMS_SHOWN]:
        price = given(f" at {s['price']}", s["price"])
        order = given(f": {s['side']} {s['quantity']} {s['symbol']}{price}", s["side"], s["quantity"], s["symbol"])
        until = f", expires at {s['expires_at']}" if s["status"] == "pending" else ""
        why = given(f", refused with {s['refusal_code']}", s["refusal_code"])
        kind = str(s["kind"]).replace("_", " ")
        rows.append(f"Suggestion {s['suggestion_id']} ({kind}) is {s['status']}{order}{until}{why}.")
    return "\n".join([f"Suggestions, the newest first, by count: {d['count']}, pending {d['pending_count']}.", *rows])


ACCOUNT_TEXT: dict[str, Callable[[dict[str, Any]], str]] = {
    "get_balances": _balances,
    "get_exposure": _exposure,
    "what_if": _what_if,
    "get_risk_limits": _limit_use,
    "explain_rejection": _rejection,
    "get_order": _order,
    "get_fills": _fills,
    "get_pnl": _pnl,
    "get_fees": _fees,
    "list_strategies": _strategies,
    "get_trades": _trades,
    "compute_indicators": _indicator_series,
    "compute_volatility": _volatility,
    "compute_correlation": _correlation,
    "get_system_health": _system_health,
    "list_suggestions": _suggestions,
}
