"""What recorded frames say, decoded without the engine's own decoder: to catalog them, and as a truth to hold it to.

Knows depth, bookTicker, trade and aggTrade of Binance spot, USD-M and COIN-M, and REST depth snapshots; all else is
OTHER. Prices and quantities stay text until their scale is known.
"""

from __future__ import annotations

import re
from enum import StrEnum
from functools import lru_cache

import msgspec

from core.types.instruments import Product

Texts = list[tuple[str, str]]

SCALED_CACHE_NUMBERS = 1 << 16
"""Prices and sizes repeat: most of a recording's numbers have just been read."""
COINM_SYMBOL = re.compile(r"USD_(PERP|\d{6})$")
STABLE_QUOTE = re.compile(r"(USDT|USDC|BUSD|FDUSD)(_\d{6})?$")


class Kind(StrEnum):
    DEPTH = "depth"
    BOOK_TICKER = "bookTicker"
    TRADE = "trade"
    AGG_TRADE = "aggTrade"
    SNAPSHOT = "snapshot"
    KLINE = "kline"
    OTHER = "other"


KINDS_BY_NAME = {kind.value: kind for kind in (Kind.TRADE, Kind.AGG_TRADE)}
READ_NAMES = frozenset({"depthUpdate", "bookTicker", *KINDS_BY_NAME})


class Data(msgspec.Struct, gc=False):
    """A stream's payload. What b and a are depends on the kind, hence raw."""

    e: str = ""
    s: str = ""
    ps: str | None = None
    E: int = 0
    T: int = 0
    U: int = 0
    u: int = 0
    pu: int | None = None
    t: int = 0
    m: bool = False
    M: bool | None = None
    X: str = ""
    b: msgspec.Raw = msgspec.Raw()
    a: msgspec.Raw = msgspec.Raw()
    B: msgspec.Raw = msgspec.Raw()
    A: msgspec.Raw = msgspec.Raw()
    p: msgspec.Raw = msgspec.Raw()
    q: msgspec.Raw = msgspec.Raw()


class _Outer(msgspec.Struct, gc=False):
    stream: str = ""
    data: Data | None = None
    lastUpdateId: int | None = None


class SnapshotBody(msgspec.Struct, gc=False):
    """A REST depth answer. Futures state E and T; COIN-M alone states the symbol."""

    lastUpdateId: int
    bids: Texts
    asks: Texts
    symbol: str = ""
    E: int = 0
    T: int = 0


_OUTER = msgspec.json.Decoder(_Outer)
_DATA = msgspec.json.Decoder(Data)
_SNAPSHOT = msgspec.json.Decoder(SnapshotBody)
_TEXTS = msgspec.json.Decoder(Texts)
_TEXT = msgspec.json.Decoder(str)
_ANY = msgspec.json.Decoder()

Parsed = tuple[Kind, Data | SnapshotBody | None]


def parse(payload: bytes) -> Parsed:
    """The kind of a frame, and what it holds; None with OTHER.

    Raises ValueError for what is no JSON, or no sound message of a kind that is known here.
    """
    try:
        outer = _OUTER.decode(payload)
        if outer.data is not None:
            data = outer.data
        elif outer.lastUpdateId is not None:
            return Kind.SNAPSHOT, _SNAPSHOT.decode(payload)
        else:
            data = _DATA.decode(payload)
    except msgspec.ValidationError as error:
        return _other(payload, error)
    except msgspec.DecodeError as error:
        raise ValueError(f"not JSON: {error}") from error
    kind = _kind_of(data)
    return kind, None if kind is Kind.OTHER else data


def levels(raw: msgspec.Raw) -> Texts:
    """Raises ValueError."""
    try:
        return _TEXTS.decode(raw)
    except msgspec.DecodeError as error:
        raise ValueError(f"levels: {error}") from error


def text(raw: msgspec.Raw | bytes) -> str:
    """Raises ValueError."""
    try:
        return _TEXT.decode(raw)
    except msgspec.DecodeError as error:
        raise ValueError(f"price or quantity: {error}") from error


def is_futures(kind: Kind, body: Data | SnapshotBody) -> bool | None:
    """What the frame's own form says; None when it doesn't tell."""
    if isinstance(body, SnapshotBody):
        return bool(body.E or body.symbol)
    if kind is Kind.DEPTH:
        return body.pu is not None
    if kind is Kind.BOOK_TICKER:
        return body.e != ""
    if body.M is not None:
        return False
    return True if body.X else None


def product_of(symbol: str, pair: str | None, futures: bool) -> Product:
    """COIN-M symbols are those of a contract on a USD pair: BTCUSD_PERP, BTCUSD_250627."""
    if not futures:
        return Product.SPOT
    if COINM_SYMBOL.search(symbol) or (pair is not None and not STABLE_QUOTE.search(symbol)):
        return Product.COINM
    return Product.USDM


@lru_cache(maxsize=SCALED_CACHE_NUMBERS)
def places_of(number: str) -> int:
    """Decimal places without trailing zeros."""
    return len(number.partition(".")[2].rstrip("0"))


@lru_cache(maxsize=SCALED_CACHE_NUMBERS)
def scaled(number: str, scale: int) -> int:
    """Decimal text as an int at scale; places below the scale are cut off. Raises ValueError for other text."""
    whole, _, fraction = number.partition(".")
    digits = whole + fraction[:scale].ljust(scale, "0")
    if not digits.isascii() or not digits.isdigit():
        raise ValueError(f"{number[:40]!r} is not a decimal number")
    return int(digits)


def _kind_of(data: Data) -> Kind:
    if data.e == "depthUpdate":
        if not data.s or data.u <= 0 or data.u < data.U:
            raise ValueError(
                f"depthUpdate of {data.s or 'no symbol'} from {data.U} to {data.u}: not a range of updates"
            )
        return Kind.DEPTH
    if data.e == "bookTicker" or (not data.e and data.s and data.u and bytes(data.B)):
        return Kind.BOOK_TICKER
    return KINDS_BY_NAME.get(data.e, Kind.OTHER)


def _other(payload: bytes, error: Exception) -> Parsed:
    """Other streams may hold other types under the same keys: theirs is no error."""
    try:
        outer = _ANY.decode(payload)
    except msgspec.DecodeError as broken:
        raise ValueError(f"not JSON: {broken}") from broken
    data = outer.get("data", outer)
    kind = data.get("e", "") if isinstance(data, dict) else ""
    if kind in READ_NAMES or "lastUpdateId" in outer:
        raise ValueError(f"{kind or 'depth snapshot'}: {error}") from error
    return Kind.OTHER, None
