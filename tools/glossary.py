"""What each name in a tool's arguments and results means: one word, one meaning, in every tool.

A field that says something of its own in its model keeps that; every other is described from here, so that a schema
explains itself to whoever reads nothing else.
"""

from __future__ import annotations

from typing import Any

DESCRIPTIONS = {
    # stamps
    "as_of": "When the data was last confirmed, UTC with six digits.",
    "as_of_ns": "When the data was last confirmed, nanoseconds since 1970 UTC.",
    "account_id": "The account that the result is about.",
    "count": "How many are listed.",
    "truncated": "Whether there is more than is listed.",
    "next_before": "Give this as `before` for the next, older page; null on the last one.",
    "from_time": "Start of what was looked at, UTC.",
    "to_time": "End of what was looked at, UTC.",
    "from_day": "First calendar day, YYYY-MM-DD in the account's time zone.",
    "to_day": "Last calendar day, YYYY-MM-DD in the account's time zone.",
    "time_zone": "The account's time zone, in which its days begin.",
    "day": "Calendar day, YYYY-MM-DD in the account's time zone.",
    "days": "How many calendar days, today included.",
    "venue": "Where it is traded.",
    "reporting_asset": "The currency that amounts are given in.",
    # instruments
    "symbol": "The instrument, such as BTCUSDT.",
    "symbols": "Instruments, such as BTCUSDT.",
    "base_asset": "What is bought and sold.",
    "quote_asset": "What prices and notionals are in.",
    "tick_size": "Smallest step of a price, in the quote asset.",
    "lot_size": "Smallest step of a quantity, in the base asset.",
    "min_quantity": "Smallest quantity of an order, in the base asset.",
    "max_quantity": "Largest quantity of an order, in the base asset.",
    "min_notional_quote": "Smallest value of an order, in the quote asset.",
    "instruments": "What can be looked at and traded.",
    "version": "Version; of an instrument it counts the changes of its rules.",
    # prices and quantities
    "price": "Price, in the quote asset for one of the base asset.",
    "quantity": "Quantity in the base asset; of a position negative when short.",
    "notional_quote": "Price times quantity, in the quote asset.",
    "side": "BUY or SELL; of a public trade the side that took.",
    "bid_price": "Best price that somebody buys at.",
    "bid_quantity": "Quantity at the best bid, in the base asset.",
    "ask_price": "Best price that somebody sells at.",
    "ask_quantity": "Quantity at the best ask, in the base asset.",
    "mid_price": "Halfway between best bid and best ask.",
    "mark_price": "Price that positions are valued at; null while there is none.",
    "spread": "Best ask less best bid, in the quote asset.",
    "spread_bps": "The spread in basis points of the mid price.",
    "last_price": "Price of the last trade; null before the first.",
    "last_quantity": "Quantity of the last trade, in the base asset.",
    "average_price": "Average price, weighted by quantity; of a position its entry price.",
    "worst_price": "Price of the last level that was needed.",
    "update_id": "The venue's number of this update.",
    "last_update_id": "The venue's number of the last update in the book.",
    "ts_event": "The venue's time of the event, UTC.",
    "ts_event_ns": "The venue's time of the event, nanoseconds since 1970 UTC.",
    # the book
    "state": "State; of a book LIVE when it is verified, else SYNCING or STALE.",
    "stale_reason": "Why the book isn't LIVE; null when it is.",
    "bids": "Levels of buyers, best first.",
    "asks": "Levels of sellers, best first.",
    "bid_levels": "How many bids are listed.",
    "ask_levels": "How many asks are listed.",
    "bid_quantity_shown": "Sum of the bids listed, in the base asset.",
    "ask_quantity_shown": "Sum of the asks listed, in the base asset.",
    "imbalance": "(bids - asks) / (bids + asks) of the quantities listed, from -1 to 1.",
    "levels": "Price levels that were needed.",
    "complete": "Whether the book holds enough for all of it.",
    "filled_quantity": "How much of it is, or would be, filled, in the base asset.",
    "slippage_bps": "Average price against the mid in basis points, positive when it costs.",
    "cost_quote": "What the slippage costs, in the quote asset.",
    # candles, indicators, statistics
    "interval": "Length of a candle: 1m, 5m, 15m or 1h.",
    "klines": "Candles, oldest first.",
    "summary": "Over all candles listed.",
    "open": "First price.",
    "high": "Highest price.",
    "low": "Lowest price.",
    "close": "Last price.",
    "change": "Last close less first open, in the quote asset.",
    "change_bps": "The change in basis points of the first open.",
    "range": "Highest less lowest price.",
    "volume": "Traded quantity, in the base asset.",
    "quote_volume": "Traded value, in the quote asset.",
    "trades": "Trades: listed, or how many there were.",
    "trade_id": "The venue's number of the trade.",
    "open_time": "Start of the candle, UTC.",
    "open_time_ns": "Start of the candle, nanoseconds since 1970 UTC.",
    "close_time": "End of the candle, UTC.",
    "close_time_ns": "End of the candle, nanoseconds since 1970 UTC.",
    "closed": "Whether the candle is complete.",
    "bars": "How many closed candles in a row were used.",
    "indicators": "The indicators with their values.",
    "indicator": "The indicator with all its parameters.",
    "name": "Its name; of a check or limit the code that it refuses with.",
    "parameters": "The indicator's parameters.",
    "ready": "Whether there were enough candles for a value.",
    "value": "Its value.",
    "values": "The values, by name.",
    "previous": "The value one candle earlier.",
    "points": "Values over time, oldest first.",
    "return_type": "How returns are measured: log is ln(close / previous close).",
    "sample_count": "How many returns were used.",
    "bars_per_year": "Candles of this interval in a year of 365 days: what annualises.",
    "stdev_per_bar": "Sample standard deviation (n - 1) of the returns of one candle, as a fraction.",
    "annualised_volatility": "stdev_per_bar times the square root of bars_per_year, as a fraction a year.",
    "mean_return_per_bar": "Mean return of one candle, as a fraction.",
    "volatilities": "One for each symbol.",
    "correlations": "One for each pair of symbols.",
    "symbol_a": "First of the pair.",
    "symbol_b": "Second of the pair.",
    "correlation": "Pearson's correlation of the returns, from -1 to 1; null when one of them didn't move.",
    # feeds and the system
    "feeds": "Market data feeds.",
    "live_count": "How many have a verified book at this moment.",
    "book_state": "LIVE when the book is verified, else SYNCING or STALE.",
    "book_age_ms": "Milliseconds since the last depth message.",
    "ticker_age_ms": "Milliseconds since best bid and ask were last confirmed.",
    "exchange_latency_ms_p50": "Median delay from the venue, ms.",
    "exchange_latency_ms_p99": "99th percentile of the delay from the venue, ms.",
    "clock_offset_ms": "The venue's clock less ours, ms; null while unknown.",
    "message_rate_per_s": "Messages a second, lately.",
    "messages": "Messages since the start.",
    "gaps": "Breaks of the sequence since the start.",
    "resyncs": "Fresh snapshots since the start.",
    "transitions": "Changes of the book's state since the start.",
    "stale_time_ms": "Time without a verified book since the start, ms.",
    "ticker_comparisons": "Comparisons of book and ticker since the start.",
    "ticker_mismatches": "Of those, how many disagreed.",
    "trades_missed": "Trade numbers that never came, since the start.",
    "parts": "The service's parts.",
    "part": "Name of the part.",
    "healthy": "Whether it does what it is there for.",
    "detail": "What is known of it, in words; null when there is nothing to add.",
    "environment": "Name of the deployment.",
    "journal_sequence": "Records in the engine's journal.",
    "projected_sequence": "Up to which record of the journal SQL knows; null while it can't be asked.",
    "records_behind": "How many records SQL is behind the engine's journal.",
    "books_live": "Books that are verified at this moment.",
    "books": "Books that are followed.",
    # the account
    "positions": "Positions.",
    "position_id": "The position's id.",
    "direction": "long, short or flat.",
    "unrealised_pnl_quote": "Profit or loss of what is open at the mark, in the quote asset; null without a mark.",
    "realised_pnl_quote": "Profit or loss of what was closed, before fees, in the quote asset.",
    "fees_quote": "Fees, valued in the quote asset when they were taken.",
    "balances": "What the account holds, by asset.",
    "asset": "The asset.",
    "available": "What our own open orders leave of it; null for a margin balance.",
    "reserved": "What our own open orders take of it; null for a margin balance.",
    "known_equity": "Worth of everything that has a price, in reporting_asset; without unknown it is the equity.",
    "equity": "Worth of everything, in reporting_asset; null while a price is missing.",
    "gross": "Sizes of all positions added up, in reporting_asset.",
    "net": "Long less short positions, in reporting_asset.",
    "leverage": "Gross exposure divided by equity.",
    "margin_used": "Initial margin in use, in reporting_asset; null on spot.",
    "margin_available": "Margin that is free, in reporting_asset; null on spot.",
    "margin_maintenance": "Margin below which positions are liquidated, in reporting_asset; null on spot.",
    "unrealised_pnl": "Profit or loss of what is open, in reporting_asset.",
    "realised_pnl": "Profit or loss of what was closed, before fees.",
    "fees": "Fees that were paid.",
    "funding": "Funding that was received, negative when paid.",
    "unknown": "What has no price or no rate, so that a total is missing.",
    "lines": "One for each market.",
    "notional": "Size of the position at the mark, in reporting_asset.",
    "open_buy_quantity": "Open buy orders' rest, in the base asset.",
    "open_sell_quantity": "Open sell orders' rest, in the base asset.",
    "worst_long_quantity": "The position if every buy fills and no sell.",
    "worst_short_quantity": "The position if every sell fills and no buy.",
    "liquidation_price": "Mark price at which the venue would close it; null on spot.",
    "before": "As it is.",
    "after": "As it would be.",
    "known_pnl_change": "What it would do to the worth of everything that has a price, in reporting_asset.",
    "pnl_change": "What it would do to equity, in reporting_asset.",
    "price_move_bps": "The move of the price that was imagined, in basis points; null without one.",
    # orders and fills
    "orders": "Orders.",
    "client_order_id": "Our id of the order.",
    "venue_order_id": "The venue's id of the order.",
    "order_type": "LIMIT, MARKET, ...",
    "time_in_force": "GTC rests, IOC takes what it can at once, FOK all or nothing, GTD until a time.",
    "open_quantity": "What isn't filled yet, in the base asset.",
    "stop_price": "Where a conditional order comes to life.",
    "trailing_offset_bps": "How far a trailing stop follows, in basis points.",
    "average_fill_price": "Average price of its fills; null before the first.",
    "status": "Where it stands.",
    "authority": "By what kind of authority it is there: approval, session, mandate, derived, external, ...",
    "authority_id": "What that authority rests on: a suggestion, a session, a mandate.",
    "created_at": "When it was made, UTC.",
    "updated_at": "When it last changed, UTC.",
    "strategy_id": "The strategy; empty for people's own orders.",
    "post_only": "Whether it may only rest, never take.",
    "reduce_only": "Whether it may only make a position smaller.",
    "fills": "Fills, newest first.",
    "fee": "Fee of the fill, in fee_asset.",
    "fee_asset": "What the fee was taken in.",
    "fee_quote": "The fee, valued in the quote asset; null where it was taken in another asset.",
    "is_maker": "Whether our order rested, and the other one took.",
    "inferred": "Whether reconciliation derived it, because the venue no longer shows it.",
    "traded_at": "When it was traded, UTC.",
    "found_in": "Where the order was found: engine while it is in memory, sql afterwards.",
    "group_by": "What the lines are grouped by.",
    "groups": "One line for each group and currency.",
    "key": "The group: a day, a symbol, a strategy or an asset.",
    "fill_count": "How many fills.",
    "turnover_quote": "Traded value, in the quote asset.",
    "net_pnl": "Realised profit or loss and funding, less fees.",
    "totals": "Over all groups, one for each currency.",
    "unvalued_fees": "Fees taken in an asset that has no value in the quote asset: not part of fees.",
    "amount": "The amount, in the asset of its line.",
    "maker": "Part of it from orders that rested.",
    "taker": "Part of it from orders that took.",
    # risk
    "limits": "The limits.",
    "limit": "What must not be passed.",
    "used": "How much of it is used; null for a limit that bounds one order, and where it can't be known now.",
    "used_percent": "Used as a percentage of the limit, rounded up.",
    "actual": "What was measured.",
    "unit": "Unit of limit and actual.",
    "window_ms": "Set for a rate: at most limit within so many milliseconds.",
    "level": "Whose limit it is: global, desk, account, strategy or symbol.",
    "passed": "Whether the check let it through.",
    "kill_switch": "NORMAL, REDUCE_ONLY, CANCEL_ONLY or HALTED.",
    "venue_connected": "Whether the engine is connected to the venue.",
    "rules_version": "Version of the risk rules.",
    "frozen_reason": "Why the account is frozen; null when it isn't.",
    "checks": "What risk checked.",
    "refusal": "Why it would be, or was, refused; null when it isn't.",
    "refused": "Whether it was refused.",
    "approvals_due": "How many approvals it needs; null while that isn't known.",
    "code": "The reason's code; it is the same everywhere.",
    "message": "What happened, in words.",
    "meaning": "What the code says.",
    "cure": "What to do about it.",
    "reference": "The id that was looked up.",
    "kind": "What it is.",
    "decided_at": "When it was decided on, UTC.",
    # suggestions and strategies
    "suggestion_id": "The suggestion's id.",
    "suggestions": "Suggestions, newest first.",
    "digest": "SHA-256 that an approval signs.",
    "proposal": "The exact fields of the proposed order, every number as text.",
    "expires_at": "When it ends by itself, UTC.",
    "decided_by": "Who decided; null while nobody has.",
    "decision_reason": "The reason given; text of a person.",
    "refusal_code": "Why the engine refused it; null when it didn't.",
    "valid_for_s": "Seconds until it expires.",
    "market": "The market when it was made.",
    "what_if": "What it would do.",
    "estimate": "A sweep of the book with it.",
    "crosses": "Whether it would trade at once.",
    "position_before": "The position now, in the base asset.",
    "position_after": "The position once it is filled, in the base asset.",
    "notes": "What to know about it.",
    "asker_id": "Who asked.",
    "strategies": "One for each mandate.",
    "mandate_id": "The mandate's id.",
    "orders_used": "Orders that were placed under it.",
    "max_open_orders": "Most open orders that it allows.",
    "notional_used_quote": "Value that was used of it, in quote currency.",
    "max_order_notional_quote": "Largest order that it allows, in quote currency.",
    "max_position_notional_quote": "Largest position that it allows, in quote currency.",
    "max_total_notional_quote": "Value that it allows in all, in quote currency.",
    "installed_at": "When it came into force, UTC.",
    # reviews
    "query": "What was looked for.",
    "reviews": "The reviews found, best first.",
    "review_id": "The review's id.",
    "closed_at": "When the position was closed, UTC.",
    "narrative": "The review in words.",
    "facts": "The review's facts, by name.",
}


_BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
"""What pydantic leaves under its own names behind a validator, and what JSON Schema calls it."""


def described(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with a description on every property, and its bounds in JSON Schema's words."""
    return _bounded({key: _described(key, value) for key, value in schema.items()})


def _bounded(schema: dict[str, Any]) -> dict[str, Any]:
    """A bound holds for numbers; text that stands for one is bounded by the tool itself."""
    bounds = {_BOUNDS[key]: _number(schema[key]) for key in _BOUNDS if key in schema}
    if not bounds:
        return schema
    rest = {key: value for key, value in schema.items() if key not in _BOUNDS}
    if "anyOf" not in rest:
        return rest | bounds
    branches = [part | bounds if part.get("type") in {"number", "integer"} else part for part in rest["anyOf"]]
    return rest | {"anyOf": branches}


def _number(bound: Any) -> int | float:
    return int(bound) if int(bound) == bound else float(bound)


def _described(key: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_described("", item) for item in value]
    if not isinstance(value, dict):
        return value
    if key == "properties":
        return {name: _property(name, described(item)) for name, item in value.items()}
    return described(value)


def _property(name: str, item: dict[str, Any]) -> dict[str, Any]:
    if "description" in item or name not in DESCRIPTIONS:
        return item
    return item | {"description": DESCRIPTIONS[name]}
