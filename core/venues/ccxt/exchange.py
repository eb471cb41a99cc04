"""A ccxt exchange as this house uses it: made with care, numbers read exactly, errors named.

ccxt gives prices as floats. They are read through their shortest decimal form, which is the venue's own text as long as
that has at most 15 significant digits, and have to lie on the instrument's steps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal, InvalidOperation
from importlib import import_module
from typing import Any, TypeVar

from core.types.instruments import Instrument
from core.types.money import MAX_SCALE
from core.venues.ports import VenueRateLimitedError, VenueUnavailableError

T = TypeVar("T")

TIMEOUT_MS = 10_000
NO_LIMIT_63_BITS = 2**63 - 1
"""The maximum of a venue that states none: what an order field can hold."""
INSTALL = "ccxt isn't installed; install the extra veloz[ccxt] (in a checkout: `make setup`)"


def ccxt_module() -> Any:
    """Raises VenueUnavailableError that names the extra."""
    try:
        return import_module("ccxt.pro")
    except ImportError as error:
        raise VenueUnavailableError(INSTALL) from error


def open_exchange(
    exchange_id: str,
    *,
    api_key: str = "",
    api_secret: str = "",
    password: str = "",
    sandbox: bool = False,
    urls: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """A ccxt.pro exchange object; close it with `await exchange.close()`.

    urls overrides entries of the exchange's `urls["api"]`, for a proxy or a paper venue. Raises VenueUnavailableError
    for an exchange that ccxt doesn't know, or without its sandbox where one is asked for.
    """
    ccxt = ccxt_module()
    if exchange_id not in ccxt.exchanges:
        known = ", ".join(ccxt.exchanges)
        raise VenueUnavailableError(f"ccxt:{exchange_id}: ccxt streams no such exchange; it knows {known}")
    exchange = getattr(ccxt, exchange_id)(
        {
            "apiKey": api_key,
            "secret": api_secret,
            "password": password,
            "enableRateLimit": True,
            "timeout": TIMEOUT_MS,
            # A submit is never repeated (I5): whether the first one arrived can't be known.
            "options": {**(options or {}), "maxRetriesOnFailure": 0},
        }
    )
    if sandbox:
        try:
            exchange.set_sandbox_mode(True)
        except ccxt.NotSupported as error:
            raise VenueUnavailableError(f"ccxt:{exchange_id} has no sandbox") from error
    if urls:
        _lay_over(exchange.urls["api"], urls)
    return exchange


async def ask(exchange: Any, call: str, answer: Callable[[], Awaitable[T]]) -> T:
    """A read. Raises VenueUnavailableError (VenueRateLimitedError where the venue asks to wait) naming the call."""
    ccxt = ccxt_module()
    try:
        return await answer()
    except (ccxt.RateLimitExceeded, ccxt.DDoSProtection) as error:
        raise VenueRateLimitedError(f"{exchange.id} {call}: {explain(error)}", nothing_sent=False) from error
    except (ccxt.BaseError, OSError, TimeoutError) as error:
        raise VenueUnavailableError(f"{exchange.id} {call}: {explain(error)}") from error


def explain(error: BaseException) -> str:
    """What went wrong, by ccxt's class and the venue's words, without the URL's signature."""
    text = str(error).partition("signature=")[0].strip()[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def exact(number: Any, scale: int) -> int:
    """A number of ccxt's as an int at scale. Raises ValueError when it has more places, or is none."""
    try:
        scaled = Decimal(str(number)).scaleb(scale)
        whole = int(scaled)
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise ValueError(f"{number!r} is no number") from error
    if whole != scaled:
        raise ValueError(f"{number} has more than {scale} decimal places")
    return whole


def rounded_down(number: Any, scale: int) -> int:
    """A number of ccxt's as an int at scale, without what lies below. Raises ValueError when it is none."""
    try:
        return int(Decimal(str(number)).scaleb(scale))
    except (InvalidOperation, ValueError, OverflowError) as error:
        raise ValueError(f"{number!r} is no number") from error


def whole_id(text: str) -> int:
    """A venue's trade id as a number: its own where it is one, else 63 bits of its SHA-256."""
    if text.isascii() and text.isdigit() and len(text) <= 18:
        return int(text)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


def instrument_of(exchange: Any, market: Mapping[str, Any]) -> Instrument:
    """A spot market of ccxt's. The symbol is ccxt's unified one (`BTC/USDT`).

    A venue that states no minimum is taken at one step. Raises ValueError for a market without steps.
    """
    tick, step = _step(exchange, market, "price"), _step(exchange, market, "amount")
    price_scale, quantity_scale = _scale(tick), _scale(step)
    limits = market.get("limits") or {}
    amount, cost = limits.get("amount") or {}, limits.get("cost") or {}
    lot = exact(step, quantity_scale)
    highest = amount.get("max")
    return Instrument(
        venue=f"ccxt:{exchange.id}",
        symbol=market["symbol"],
        base_asset=market["base"],
        quote_asset=market["quote"],
        price_scale=price_scale,
        quantity_scale=quantity_scale,
        tick_size=exact(tick, price_scale),
        lot_size=lot,
        min_quantity=max(lot, _rounded_up(amount.get("min"), quantity_scale)),
        max_quantity=min(int(Decimal(str(highest)).scaleb(quantity_scale)), NO_LIMIT_63_BITS)
        if highest
        else NO_LIMIT_63_BITS,
        min_notional=_rounded_up(cost.get("min"), price_scale + quantity_scale),
    )


def _step(exchange: Any, market: Mapping[str, Any], name: str) -> Decimal:
    value = (market.get("precision") or {}).get(name)
    if value is None:
        raise ValueError(f"{market.get('symbol')}: the venue states no {name} step")
    modes = import_module("ccxt.base.decimal_to_precision")
    if exchange.precisionMode == modes.TICK_SIZE:
        return Decimal(str(value))
    if exchange.precisionMode == modes.DECIMAL_PLACES:
        return Decimal(1).scaleb(-int(value))
    raise ValueError(f"{market.get('symbol')}: steps by significant digits change with the price; not supported")


def _scale(step: Decimal) -> int:
    exponent = step.normalize().as_tuple().exponent
    if not isinstance(exponent, int) or step <= 0:
        raise ValueError(f"step {step} must be positive")
    scale = max(0, -exponent)
    if scale > MAX_SCALE:
        raise ValueError(f"step {step} has more than {MAX_SCALE} decimal places")
    return scale


def _rounded_up(value: Any, scale: int) -> int:
    return 0 if value is None else -int(-Decimal(str(value)).scaleb(scale) // 1)


def _lay_over(target: dict[str, Any], values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(target.get(key), dict):
            _lay_over(target[key], value)
        else:
            target[key] = value
