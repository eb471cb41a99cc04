"""From a request to close, hedge, cancel, amend, bracket or stop to the tool calls: what isn't plain is asked for."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal
from typing import Any

from agent.planner.changes import Change, Request
from agent.planner.planning import (
    RATIONALE_LIMIT_CHARS,
    Call,
    Results,
    Tools,
    Wanted,
    anchor_of,
    missing_of_order,
    part_of_position,
    price_of,
    quantity_of,
    unique,
    which_instrument,
)
from agent.planner.reading import Clause
from tools.untrusted import CLOSING, OPENING

REASON_LIMIT_CHARS = 300
ORDERS_NAMED_LIMIT = 10
ALL_BPS = 10_000

NOT_OPEN = "I can't suggest that here: your role doesn't allow it, or only the offline planner is answering now."
ONE_AT_A_TIME = "One at a time, please: which instrument do you mean?"
PRICE_OR_QUANTITY = (
    "Is that the new price, or the new total quantity? Say for example: change the price of my order to it, or change "
    "the quantity of my order to it."
)
WHICH_EXITS = (
    "Do you want an entry with a stop or a take-profit behind it? Then say: with a stop at a price, and take profit at "
    "a price. Or one order that waits for its price? I don't read that from words; `veloz orders place` takes it."
)
AT_WHICH_PRICE = "At what price shall it trigger? Say for example: stop sell 0.1 BTC at the price you mean."
AT_WHICH_PRICES = (
    "At what price shall it trigger, and at what limit? Say: stop limit sell, how much, at one, limit the other."
)
AT_WHICH_LIMIT = "At what limit price? Say a price, or for example at the bid, or some bps below mid."
WHICH_LIMIT = "Which limit? The order limit, the position limit, the total limit or the open orders limit."
NOT_IN_HALF = "Half of that limit is nothing. Say to how much, or end the strategy."
HOW_FAR = "By how much shall it follow the best price? Say one percentage, in whole basis points up to all of it."
HOW_MUCH = "How much of it? Say half of it, a percentage of it or the quantity, or close all of it."
TOO_LITTLE = "There is no such position, or that part of it is less than the smallest quantity step."
HOW_MUCH_HEDGE = "How much of it? Say all of it, half of it, or a percentage; the size follows from the exposure."


def plan_request(clause: Clause, results: Results, tools: Tools) -> Wanted:
    """The calls that a request needs, as far as they can be known from the results so far."""
    made = results.suggestion()
    if made is not None:
        return Wanted((made.call,))
    assert isinstance(clause.intent, Request)
    assert clause.change is not None
    if clause.intent.value not in tools:
        return Wanted(ask=NOT_OPEN)
    if len(clause.slots.symbols) > (2 if clause.intent is Request.HEDGE else 1):
        return Wanted(ask=ONE_AT_A_TIME)
    match clause.intent:
        case Request.KILL_SWITCH:
            wanted = {"state": clause.change.state, "scope": clause.change.scope}
            return _suggest(clause, {**wanted, "reason": clause.text[:REASON_LIMIT_CHARS]})
        case Request.CANCEL | Request.AMEND:
            return _of_order(clause, clause.change, results, tools)
        case Request.CLOSE:
            return _close(clause, clause.change, results, tools)
        case Request.HEDGE:
            return _hedge(clause, clause.change)
        case Request.STRATEGY:
            return _strategy(clause, clause.change, results, tools)
        case Request.STOP_ORDER:
            return _stop_order(clause, clause.change, results, tools)
        case Request.BRACKET:
            return _bracket(clause, clause.change, results, tools)


def _suggest(clause: Clause, wanted: dict[str, Any], needed: tuple[Call, ...] = ()) -> Wanted:
    assert isinstance(clause.intent, Request)
    return Wanted((*needed, Call(clause.intent.value, {**wanted, "rationale": clause.text[:RATIONALE_LIMIT_CHARS]})))


def _of_order(clause: Clause, change: Change, results: Results, tools: Tools) -> Wanted:
    terms: dict[str, Any] = {}
    if clause.intent is Request.AMEND:
        if change.new_price is None and change.new_quantity is None:
            unclear = "To what price, or to what quantity?" if change.unclear is None else PRICE_OR_QUANTITY
            return Wanted(ask=unclear)
        named = {"price": change.new_price, "quantity": change.new_quantity}
        terms = {name: format(value, "f") for name, value in named.items() if value is not None}
    if change.order_id is not None:
        return _suggest(clause, {"client_order_id": change.order_id, **terms})
    if change.all_orders:
        return _suggest(clause, _all_orders(clause))
    symbols = clause.slots.symbols
    listing = Call("get_open_orders", {"symbol": symbols[0]} if symbols else {})
    if listing.tool not in tools:
        return Wanted(ask=NOT_OPEN)
    done = results.find(listing)
    if done is None or done.refusal is not None:
        return Wanted((listing,))
    slots = clause.slots
    side = slots.side
    orders = [order for order in done.data.get("orders") or [] if side in {None, order["side"]}]
    if clause.intent is Request.CANCEL and slots.quantity is not None:
        orders = [order for order in orders if Decimal(order["quantity"]) == slots.quantity]
    if not orders:
        return Wanted((listing,), ask="I see no such open order, so nothing was suggested.")
    if len(orders) > 1:
        ids = ", ".join(str(order["client_order_id"]) for order in orders[:ORDERS_NAMED_LIMIT])
        return Wanted((listing,), ask=f"Which order do you mean? Name its id: {ids}. Nothing was suggested.")
    return _suggest(clause, {"client_order_id": orders[0]["client_order_id"], **terms}, (listing,))


def _all_orders(clause: Clause) -> dict[str, Any]:
    """One suggestion for all that is open, in the instrument that is named or in the account."""
    if clause.slots.symbols:
        return {"scope": "SYMBOL", "symbol": clause.slots.symbols[0]}
    return {"scope": "ACCOUNT"}


def _close(clause: Clause, change: Change, results: Results, tools: Tools) -> Wanted:
    slots = clause.slots
    if slots.notional is not None or slots.other_quantities or (slots.quantity is None and change.ratio_bps is None):
        return Wanted(ask=HOW_MUCH)
    terms = _limit_terms(clause)
    if terms is None:
        return Wanted(ask=AT_WHICH_LIMIT)
    needed: tuple[Call, ...] = ()
    symbol = slots.symbols[0] if slots.symbols else None
    if symbol is None:
        held = Call("get_positions", {})
        if slots.unknown_symbol or held.tool not in tools:
            return Wanted(ask=which_instrument(slots))
        done = results.find(held)
        if done is None or done.refusal is not None:
            return Wanted((held,))
        found = [str(item["symbol"]) for item in done.data.get("positions") or [] if Decimal(item["quantity"]) != 0]
        if len(found) != 1:
            return Wanted((held,), ask=which_instrument(slots, tuple(found)) if found else "I see no open position.")
        needed, symbol = (held,), found[0]
    wanted: dict[str, Any] = {"symbol": symbol}
    if slots.quantity is None and change.ratio_bps is not None and change.ratio_bps != ALL_BPS:
        reads, part = part_of_position(symbol, change.ratio_bps, results)
        needed = unique((*needed, *reads))
        unready = _unready_part(part, needed, tools)
        if unready is not None:
            return unready
        wanted["quantity"] = _text(part)
    if slots.quantity is not None:
        wanted["quantity"] = format(slots.quantity, "f")
    return _suggest(clause, wanted | terms, needed)


def _limit_terms(clause: Clause) -> dict[str, Any] | None:
    """Of an order with a limit price; nothing for one without, None where the price can't be told."""
    slots = clause.slots
    if slots.price is not None:
        return {"order_type": "LIMIT", "price": format(slots.price, "f")}
    if slots.price_rule is None:
        return None if slots.limit else {}
    anchor = anchor_of(slots.price_rule)
    return None if anchor is None else {"order_type": "LIMIT", **anchor}


def _unready_part(part: Decimal | None, needed: tuple[Call, ...], tools: Tools) -> Wanted | None:
    """What is wanted first where a part of a position can't be told yet, or is nothing."""
    if any(read.tool not in tools for read in needed):
        return Wanted(ask=NOT_OPEN)
    if part is None:
        return Wanted(needed)
    return None if part > 0 else Wanted(needed, ask=TOO_LITTLE)


def _hedge(clause: Clause, change: Change) -> Wanted:
    slots = clause.slots
    if not slots.symbols:
        return Wanted(ask=which_instrument(slots))
    if change.ratio_bps is None or slots.quantity is not None or slots.notional is not None:
        return Wanted(ask=HOW_MUCH_HEDGE)
    wanted: dict[str, Any] = {"symbol": slots.symbols[-1], "hedge_ratio_bps": change.ratio_bps}
    if len(slots.symbols) > 1:
        wanted["hedged_symbol"] = slots.symbols[0]
    return _suggest(clause, wanted)


def _stop_order(clause: Clause, change: Change, results: Results, tools: Tools) -> Wanted:
    missing = missing_of_order(clause, tools)
    if missing is not None:
        return Wanted(ask=missing)
    levels: dict[str, Any]
    if change.order_type == "TRAILING_STOP":
        levels = {"trailing_offset_bps": change.trailing_offset_bps}
        unclear = HOW_FAR
    elif change.order_type == "STOP_LIMIT":
        levels = {"stop_price": _text(change.stop_price), "price": _text(change.new_price)}
        unclear = AT_WHICH_PRICES
    else:
        levels = {"stop_price": _text(change.stop_price)}
        unclear = AT_WHICH_PRICE
    if None in levels.values() or clause.slots.price is not None or clause.slots.price_rule is not None:
        return Wanted(ask=unclear)
    symbol, side = clause.slots.symbols[0], clause.slots.side
    assert side is not None
    needed, quantity = quantity_of(symbol, side, clause.slots, results)
    if quantity is None:
        return Wanted(tuple(needed))
    if quantity <= 0:
        return Wanted(tuple(needed), ask="That amount is less than the smallest quantity step of the instrument.")
    wanted = {"symbol": symbol, "side": side, "order_type": change.order_type, "quantity": format(quantity, "f")}
    return _suggest(clause, wanted | levels, tuple(needed))


def _strategy(clause: Clause, change: Change, results: Results, tools: Tools) -> Wanted:
    asked = change.strategy
    assert asked is not None, "read with the request"
    if asked.action == "TIGHTEN" and asked.limit is None:
        return Wanted(ask=WHICH_LIMIT)
    listing = Call("list_strategies", {})
    if listing.tool not in tools:
        return Wanted(ask=NOT_OPEN)
    done = results.find(listing)
    if done is None or done.refusal is not None:
        return Wanted((listing,))
    wanted = asked.name.lower()
    running = [row for row in done.data.get("strategies") or [] if row["state"] == "in force"]
    found = [row for row in running if wanted in {str(row["mandate_id"]).lower(), _name_of(row).lower()}]
    if len(found) != 1:
        ids = ", ".join(str(row["mandate_id"]) for row in (found or running)[:ORDERS_NAMED_LIMIT])
        return Wanted((listing,), ask=f"Which mandate do you mean? In force: {ids or 'none'}. Nothing was suggested.")
    terms: dict[str, Any] = {"mandate_id": found[0]["mandate_id"], "action": asked.action}
    if asked.limit is not None:
        value = asked.value if asked.value is not None else _half_of(found[0], asked.limit)
        if value is None:
            return Wanted((listing,), ask=NOT_IN_HALF)
        terms[asked.limit] = format(value, "f")
    return _suggest(clause, {**terms, "reason": clause.text[:REASON_LIMIT_CHARS]}, (listing,))


def _half_of(row: dict[str, Any], limit: str) -> Decimal | None:
    """Half of a limit, of a count the whole part; None where nothing is left."""
    half = Decimal(row[limit]) / 2
    half = half.to_integral_value(ROUND_DOWN) if limit == "max_open_orders" else half.normalize()
    return half if half > 0 else None


def _name_of(row: dict[str, Any]) -> str:
    """Without the delimiters that a strategy's name comes in: it is only compared."""
    return str(row["strategy_id"]).removeprefix(OPENING).removesuffix(CLOSING)


def _text(value: Decimal | None) -> str | None:
    return None if value is None else format(value, "f")


def _bracket(clause: Clause, change: Change, results: Results, tools: Tools) -> Wanted:
    if change.stop_price is None and change.target_price is None:
        return Wanted(ask=WHICH_EXITS)
    missing = missing_of_order(clause, tools)
    if missing is not None:
        return Wanted(ask=missing)
    slots = clause.slots
    symbol, side = slots.symbols[0], slots.side
    assert side is not None
    needed, quantity = quantity_of(symbol, side, slots, results)
    price = slots.price
    if slots.price_rule is not None:
        reads, price = price_of(symbol, side, slots.price_rule, results)
        needed = [*needed, *(read for read in reads if read not in needed)]
    if quantity is None or (slots.price_rule is not None and price is None):
        return Wanted(tuple(needed))
    if quantity <= 0:
        return Wanted(tuple(needed), ask="That amount is less than the smallest quantity step of the instrument.")
    if slots.post_only and price is None:
        return Wanted(tuple(needed), ask="At what limit price? A post-only entry needs one.")
    wanted = {
        "symbol": symbol,
        "side": side,
        "quantity": format(quantity, "f"),
        "entry_type": "MARKET" if price is None else "LIMIT",
    }
    levels = {
        "entry_limit_price": price,
        "take_profit_price": change.target_price,
        "stop_trigger_price": change.stop_price,
    }
    wanted |= {name: format(value, "f") for name, value in levels.items() if value is not None}
    return _suggest(clause, wanted | ({"entry_post_only": True} if slots.post_only else {}), tuple(needed))
