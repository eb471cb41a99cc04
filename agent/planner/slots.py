"""The slot grammar: instruments, quantities, sides, prices, validity and intervals in plain words. No guessing: what
isn't said stays None."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Literal, NamedTuple

import msgspec

from agent.planner.indicators import read_indicators

DEFAULT_QUOTE = "USDT"
ASSETS = {
    "BTC": ("btc", "btcs", "bitcoin", "bitcoins", "xbt"),
    "ETH": ("eth", "eths", "ether", "ethers", "ethereum"),
    "SOL": ("sol", "sols", "solana"),
    "BNB": ("bnb", "binancecoin"),
    "XRP": ("xrp", "ripple"),
    "ADA": ("ada", "cardano"),
    "DOGE": ("doge", "dogecoin"),
    "LTC": ("ltc", "litecoin"),
    "DOT": ("polkadot",),
    "AVAX": ("avax", "avalanche"),
    "LINK": ("chainlink",),
    "TRX": ("trx", "tron"),
}
QUOTES = ("USDT", "USDC", "FDUSD", "BUSD", "TUSD", "USD", "EUR")
_BASE_OF = {alias: asset for asset, aliases in ASSETS.items() for alias in aliases}
_BASES = "|".join(sorted(_BASE_OF, key=len, reverse=True))
_QUOTES = "|".join(QUOTES)
_QUOTE_WORDS = r"usdt|usdc|usd|tether|dollars?|bucks|quote"

# Words in capitals that are no instruments.
_NOT_SYMBOL_WORDS = """
A I AN AND OR THE TO AT IN ON OF IS IT MY ME WE DO IF BE GO UP NO SO BY US AM AS OK PLEASE BUY SELL LONG
SHORT BID ASK MID LIMIT MARKET PRICE NOW GTC IOC FOK PNL DOM OHLC OHLCV VWAP TWAP P L AI API UTC USD USDT
USDC EUR BPS BP ATH RSI MACD EMA SMA HELP HI HELLO HEY WHAT HOW WHY WHO WHERE WHEN WHICH SHOW GIVE TELL FOR
WITH FROM ORDER BOOK ORDERS SPREAD COST RISK ALL ANY ARE CAN WILL WOULD SHOULD NOT LAST TOP OPEN HIGH LOW
CLOSE VOLUME TICKER POSITION POSITIONS CANCEL APPROVE SUGGEST LIST QUOTE SIZE QTY ID IDS CEO NFT ETF FAQ TV
PDF JSON CSV STALE LIVE SYNCING FEED FEEDS LATENCY GAP GAPS FRESH
MA ATR ADX OBV STOCH STOCHASTIC BOLLINGER DONCHIAN
"""
_NOT_SYMBOLS = frozenset(_NOT_SYMBOL_WORDS.split())

_NUMBER = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+"
_WORD_NUMBERS = {
    "a": "1", "an": "1", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7",
    "eight": "8", "nine": "9", "ten": "10", "eleven": "11", "twelve": "12", "fifteen": "15", "twenty": "20",
    "thirty": "30", "forty": "40", "fifty": "50", "hundred": "100", "thousand": "1000",
}  # fmt: skip
_PAIR = re.compile(rf"\b([A-Za-z]{{2,10}})\s?[/_-]\s?({_QUOTES})\b|\b([A-Za-z]{{2,10}}?)({_QUOTES})\b", re.IGNORECASE)
_ALIAS = re.compile(rf"\b({_BASES})(?:'s)?\b", re.IGNORECASE)
_SUGGESTION_ID = re.compile(r"\b[0-7][0-9A-HJKMNP-TV-Z]{25}\b", re.IGNORECASE)

_FRACTIONS = (
    (re.compile(r"\b(?:a\s+)?half\s+(?:of\s+)?(?:an?\s+|one\s+)?(?=[a-z])", re.IGNORECASE), "0.5 "),
    (re.compile(r"\b(?:a\s+|one\s+)?quarter\s+(?:of\s+)?(?:an?\s+|one\s+)?(?=[a-z])", re.IGNORECASE), "0.25 "),
    (re.compile(r"\b(?:a\s+|one\s+)?third\s+of\s+(?:an?\s+|one\s+)?(?=[a-z])", re.IGNORECASE), "0.333 "),
    (re.compile(r"\b(?:a\s+|one\s+)?tenth\s+of\s+(?:an?\s+|one\s+)?(?=[a-z])", re.IGNORECASE), "0.1 "),
)
_AND_A_HALF = re.compile(rf"\b({'|'.join(_WORD_NUMBERS)}|\d+)\s+and\s+a\s+half\b", re.IGNORECASE)
_SHARE = re.compile(
    r"\b(half|all|whole|entire|everything|rest|most|quarter|third)\b(?:\s+(?:of|the))*\s*"
    r"(?:my|our|the position|position)"
    r"|\b(?:close|flatten|exit|liquidate)\b|\b(?:sell|dump|offload)\s+(?:it\s+)?(?:all|everything)\b",
    re.IGNORECASE,
)
_SCALED = re.compile(rf"(?<![\w.,])({_NUMBER})\s?(k|thousand|mio|million|m(?=\s+(?:{_QUOTE_WORDS})))\b", re.IGNORECASE)

_BUY = (
    r"buy(?:s|ing)?|bought|long|purchas(?:e|es|ed|ing)|acquir(?:e|ing)|get(?:ting)? me|grab(?:bing)?|"
    r"pick(?:ing)? up|bid for|go(?:ing)? long|get(?:ting)? long|scoop(?:ing)? up|accumulat(?:e|ing)|"
    r"add(?:ing)?|lift(?:ing)?"
)
_SELL = (
    r"sell(?:s|ing)?|sold|short(?:s|ing)?|offload(?:ing)?|dump(?:ing)?|unload(?:ing)?|get(?:ting)? rid of|"
    r"liquidat(?:e|ing)|exit(?:ing)?|get(?:ting)? out of|hit(?:ting)? the bid|trim(?:ming)?|unwind(?:ing)?"
)
_OPENING_QUOTE = re.compile(r"(?:please\s+)?(bid|offer)\s+(?:for\s+)?(?:\$|\d|half|a\b)", re.IGNORECASE)
_BUY_WORDS = re.compile(rf"\b(?:{_BUY})\b", re.IGNORECASE)
_SELL_WORDS = re.compile(rf"\b(?:{_SELL})\b", re.IGNORECASE)

_DURATION_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = (
    rf"({_NUMBER}|an?|one|two|five|ten|thirty)\s*(?:more\s+)?"
    r"(s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|days?)\b"
)
_VALIDITY = re.compile(
    r"\b(?:valid|good|expir(?:es?|ing|y)|live|open|working|keep it|lasts?|lasting|ttl|lapses?|alive)"
    rf"(?:\s+(?:open|for|in|after|within|of|the|next|only|at most|order))*\s+{_DURATION}"
    rf"|\bfor\s+(?:the\s+next\s+)?{_DURATION}"
    rf"|\b{_DURATION}\s+(?:validity|expiry|ttl)",
    re.IGNORECASE,
)
_INTERVAL = re.compile(
    r"(?<![\w.])(1m|3m|5m|15m|30m|1h|2h|4h|6h|8h|12h|1d|3d|1w|1M)\b(?!\w)|\b(1|3|5|15|30)[\s-]?(?:min|minutes?)[\s-]"
    r"(?:candles?|klines?|bars?|charts?|candlesticks?)|\b(minute|hourly|daily|1[\s-]?hour)\b(?:\s+\w+)?"
)
_OTHER_INTERVAL = re.compile(
    r"\bon\s+(?:the\s+|a\s+)?([1-9]\d{0,4}[smhdwM])\b"
    r"|(?<![\w.])([1-9]\d{0,4}[smhdwM])[\s-](?:candles?|klines?|bars?|charts?|candlesticks?)\b"
)
"""One that no venue has: the tool says which there are."""
_COUNT = re.compile(
    rf"\b(?:last|past|recent|latest|previous|top|first|best|show)\s+({_NUMBER}|five|ten|twenty)\b", re.I
)
_LEVELS = re.compile(
    rf"\b({_NUMBER}|five|ten|twenty)\s+(?:price\s+)?(?:levels?|deep|rows?|bids?|asks?)\b|depth\s+(?:of\s+)?({_NUMBER})",
    re.IGNORECASE,
)
_BARS = re.compile(
    rf"\b({_NUMBER}|five|ten|twenty|thirty)\s+(?:\d+m\s+)?(?:minute\s+)?(?:candles?|klines?|bars?|candlesticks?)",
    re.IGNORECASE,
)
_SPAN = re.compile(
    r"\b(?:last|past|previous|recent|over|in|within)\b[^.?!]*?\b"
    rf"(?:({_NUMBER}|an?|half an|one|two|five|ten|fifteen|twenty|thirty|few)\s+)?"
    r"(minutes?|mins?|hours?|hrs?|half[\s-]hour)\b",
    re.IGNORECASE,
)

_REFERENCE = (
    r"(?:the\s+|current\s+|best\s+|top\s+|prevailing\s+)*"
    r"(bids?|asks?|offers?|mid(?:-?point|-?price)?|market|touch|last(?:\s+price|\s+trade)?)\b"
)
_OFFSET = re.compile(
    rf"\b({_NUMBER}|an?|one|two|three|five|ten)\s*(bps|bp|basis\s+points?|%|percent|ticks?|{_QUOTE_WORDS})\s*"
    rf"(below|under|beneath|lower than|less than|above|over|higher than|inside|off|from)\s+{_REFERENCE}",
    re.IGNORECASE,
)
_NUDGED = re.compile(rf"\b(?:just|slightly|a tick|one tick)\s+(below|under|above|over|inside)\s+{_REFERENCE}", re.I)
_NEAR = re.compile(
    r"\b(?:near|at|on|around|about|by|join(?:ing)?|close to|next to|match(?:ing)?|pegged to|with|to|into|along)\s+"
    rf"{_REFERENCE}",
    re.IGNORECASE,
)
_PASSIVE = re.compile(r"\b(?:passive(?:ly)?|as a maker|maker only|post[\s-]?only)\b", re.IGNORECASE)
_MARKET_ORDER = re.compile(
    r"\bat\s+(?:the\s+)?(?:current\s+)?market(?:\s+price)?\b|\bmarket[\s-](?:order|buy|sell)\b|\bby market\b|"
    r"\bat (?:any|whatever) price\b|\bat best\b|\bmkt\b",
    re.IGNORECASE,
)
_LIMIT_WORD = re.compile(r"\blimit(?:\s+(?:order|price|buy|sell))?\b", re.IGNORECASE)
_UNIT_GUARD = (
    rf"(?!\s*(?:bps|bp|basis|%|percent|ticks?|s\b|secs?|seconds?|min|minutes?|hours?|h\b|{_BASES})\b)(?![\d.,]*\d)"
)
_PRICE_WORDS = (
    r"at|limit(?:ed)?(?:\s+(?:order|price|buy|sell))?(?:\s+(?:of|at|to|is|near|around|on))?|price(?:\s+(?:of|is|at))?|"
    r"no (?:more|less|higher|lower|worse) than|not (?:above|below|over|under)|(?:at\s+)?or (?:below|better)|"
    r"max(?:imum)?(?: price)?|min(?:imum)?(?: price)?|^bid|^offer|below|under|above|over|up to|around|near"
)
_PRICE = re.compile(rf"(?:@|\b(?:{_PRICE_WORDS}))\s*[:=]?\s*\$?\s?({_NUMBER})(?:\s*k\b)?{_UNIT_GUARD}", re.IGNORECASE)
_PRICE_BEFORE = re.compile(rf"(?<![\w.,])\$?({_NUMBER})\s+(?:{_QUOTE_WORDS}\s+)?limit\b", re.IGNORECASE)
_PRICE_FOR = re.compile(
    rf"\bfor\s+\$?({_NUMBER})(?:\s*(?:{_QUOTE_WORDS}))?\s*(?:each|apiece|per|a piece)", re.IGNORECASE
)

# A minus sign before an amount, or a range, is nothing to guess about: the amount stays unread.
_NOTIONAL = re.compile(
    rf"(?<!-)\$\s?({_NUMBER})|(?<![\w.,-])({_NUMBER})\s*(?:{_QUOTE_WORDS})\b(?!\s*(?:limit|below|above|under|over))",
    re.IGNORECASE,
)
_BASE_QUANTITY = re.compile(rf"(?<![\w.,$-])({_NUMBER})\s*(?:{_BASES}|coins?|tokens?|units?|lots?)\b", re.IGNORECASE)
_PLAIN_QUANTITY = re.compile(
    rf"\b(?:{_BUY}|{_SELL}|size|quantity|qty|amount|for|of|order)\s+(?:of\s+|is\s+|=\s*)?({_NUMBER})(?![\d.,]*\d)\b",
    re.IGNORECASE,
)
_PAYING = re.compile(r"\b(?:pay(?:ing)?|spend(?:ing)?|cost (?:me|us))\b", re.IGNORECASE)
_RECEIVING = re.compile(r"\b(?:receiv(?:e|ing)|proceeds|fetch|get (?:back |paid )?for)\b", re.IGNORECASE)
_TIME_IN_FORCE = (
    ("IOC", re.compile(r"\bioc\b|\bimmediate[\s-]or[\s-]cancel\b", re.IGNORECASE)),
    ("FOK", re.compile(r"\bfok\b|\bfill[\s-]or[\s-]kill\b|\ball[\s-]or[\s-](?:none|nothing)\b", re.IGNORECASE)),
    ("GTC", re.compile(r"\bgtc\b|\bgood[\s-](?:till?|until)[\s-]cancel\w*\b", re.IGNORECASE)),
)

Reference = Literal["bid", "ask", "mid", "last"]


class PriceRule(NamedTuple):
    """A limit price relative to the market: offset in unit (quote: of the quote asset), negative is below."""

    reference: Reference
    offset: Decimal
    unit: Literal["bps", "percent", "tick", "quote"]


class Slots(msgspec.Struct, frozen=True, kw_only=True):
    """What a clause says. quantity is in base units, notional in quote; share is a part of a position, in words.

    other_quantities are named beside quantity: "1, 5 or 20 BTC" holds two of them.
    """

    symbols: tuple[str, ...] = ()
    unknown_symbol: str | None = None
    side: Literal["BUY", "SELL"] | None = None
    quantity: Decimal | None = None
    other_quantities: tuple[Decimal, ...] = ()
    notional: Decimal | None = None
    share: str | None = None
    price: Decimal | None = None
    price_rule: PriceRule | None = None
    market: bool = False
    limit: bool = False
    post_only: bool = False
    time_in_force: str | None = None
    valid_for_s: int | None = None
    interval: str | None = None
    count: int | None = None
    span_min: int | None = None
    suggestion_id: str | None = None
    indicators: tuple[str, ...] = ()


def mask(text: str) -> str:
    """Instruments, numbers and ids replaced by marks, lower case: what the classifier sees."""
    text = _SUGGESTION_ID.sub(" idmark ", re.sub(r"\bp\s?[&/]\s?l\b", "pnl", text, flags=re.IGNORECASE))
    text = _PAIR.sub(_mask_pair, text)
    text = _ALIAS.sub(" symmark ", text)
    for pattern, number in _FRACTIONS:
        text = pattern.sub(number, text)
    text = re.sub(rf"\$?(?:{_NUMBER})\s?(?:k\b)?", " nummark ", text)
    return re.sub(r"\s+", " ", text.lower().replace("'", "").replace("\N{RIGHT SINGLE QUOTATION MARK}", "")).strip()


def _mask_pair(match: re.Match[str]) -> str:
    base = (match.group(1) or match.group(3)).upper()
    return match.group() if base in _NOT_SYMBOLS else " symmark "


def read_slots(clause: str) -> Slots:
    """Everything the grammar finds in one clause."""
    text = _normalise(clause)
    symbols, unknown = _symbols(text)
    share = _SHARE.search(text)
    found, rest = _prices(text)
    valid_for_s, rest = _validity(rest)
    quantity, notional = _amounts(rest)
    named = dict.fromkeys(_number(match.group(1)) for match in _BASE_QUANTITY.finditer(rest))
    tif = next((name for name, pattern in _TIME_IN_FORCE if pattern.search(text)), None)
    identifier = _SUGGESTION_ID.search(clause)
    return Slots(
        symbols=symbols,
        unknown_symbol=unknown,
        side=_side(text),
        quantity=quantity,
        other_quantities=tuple(other for other in named if other != quantity),
        notional=notional,
        share=share.group().strip() if share and quantity is None and notional is None else None,
        price=found.price,
        price_rule=found.rule,
        market=bool(_MARKET_ORDER.search(text)) and found.price is None and found.rule is None,
        limit=bool(_LIMIT_WORD.search(text)),
        post_only=bool(_PASSIVE.search(text)),
        time_in_force=tif,
        valid_for_s=valid_for_s,
        interval=_interval(text),
        count=_count(text),
        span_min=_span_min(text),
        suggestion_id=identifier.group().upper() if identifier else None,
        indicators=read_indicators(clause),
    )


def _normalise(clause: str) -> str:
    """Fractions and counted words become numbers, 5k becomes 5000."""
    text = _AND_A_HALF.sub(lambda m: f"{_WORD_NUMBERS.get(m.group(1).lower(), m.group(1))}.5", clause)
    text = re.sub(r"(?<![\d.])1/2(?![\d.])", "0.5", text)
    text = re.sub(r"(?<![\d.])1/4(?![\d.])", "0.25", text)
    if not _SHARE.search(text):
        for pattern, number in _FRACTIONS:
            text = pattern.sub(number, text)
    counted = "|".join(word for word in _WORD_NUMBERS if word not in {"hundred", "thousand"})
    text = re.sub(r"\b(?:a|one)\s+hundred\b", "100", text, flags=re.IGNORECASE)
    text = re.sub(r"\b(?:a|one)\s+thousand\b", "1000", text, flags=re.IGNORECASE)
    text = re.sub(
        rf"\b({counted})(?=\s+(?:single\s+|whole\s+)?(?:{_BASES}|coins?|{_QUOTE_WORDS})\b)",
        lambda m: _WORD_NUMBERS[m.group(1).lower()],
        text,
        flags=re.IGNORECASE,
    )
    return _SCALED.sub(_scaled, text)


def _scaled(match: re.Match[str]) -> str:
    factor = 1000 if match.group(2).lower() in {"k", "thousand"} else 1_000_000
    return format(_number(match.group(1)) * factor, "f")


def _number(text: str) -> Decimal:
    word = _WORD_NUMBERS.get(text.lower())
    return Decimal(word if word is not None else text.replace(",", ""))


def _symbols(text: str) -> tuple[tuple[str, ...], str | None]:
    """Symbols in the order they are named, and a name that looks like one but isn't known here."""
    found: dict[int, str] = {}
    covered = [False] * len(text)
    for match in _PAIR.finditer(text):
        base = (match.group(1) or match.group(3)).upper()
        quote = (match.group(2) or match.group(4)).upper()
        if base in _NOT_SYMBOLS:
            continue
        asset = _BASE_OF.get(base.lower(), base)
        found[match.start()] = asset + quote
        covered[match.start() : match.end()] = [True] * (match.end() - match.start())
    for match in _ALIAS.finditer(text):
        if not covered[match.start()]:
            found[match.start()] = _BASE_OF[match.group(1).lower()] + DEFAULT_QUOTE
            covered[match.start() : match.end()] = [True] * (match.end() - match.start())
    for match in re.finditer(r"\b[A-Z]{3,10}\b", text):
        word = match.group()
        if not covered[match.start()] and word not in _NOT_SYMBOLS and not text.isupper():
            found[match.start()] = word + DEFAULT_QUOTE
    symbols = tuple(dict.fromkeys(found[start] for start in sorted(found)))
    return symbols, None if symbols else _unknown(text)


def _unknown(text: str) -> str | None:
    match = re.search(r"\b([a-z]{2,12}coin|[a-z]{2,12}swap|[a-z]{2,10}inu)\b", text, re.IGNORECASE)
    return match.group(1) if match else None


def _side(text: str) -> Literal["BUY", "SELL"] | None:
    if match := _OPENING_QUOTE.match(text.strip()):
        return "BUY" if match.group(1).lower() == "bid" else "SELL"
    buy, sell = _BUY_WORDS.search(text), _SELL_WORDS.search(text)
    if buy and sell:
        return "BUY" if buy.start() < sell.start() else "SELL"
    if buy:
        return "BUY"
    return "SELL" if sell else None


def side_of_cash(text: str, slots: Slots) -> Literal["BUY", "SELL"] | None:
    """The side of an estimate that is told by who pays: what is paid for a quantity buys it, what is got for it sells
    it, and what is got for an amount of the quote asset is bought."""
    if slots.side is not None:
        return slots.side
    if _PAYING.search(text):
        return "BUY"
    if _RECEIVING.search(text):
        return "SELL" if slots.quantity is not None else "BUY"
    return None


class _Prices(NamedTuple):
    price: Decimal | None
    rule: PriceRule | None


def _prices(text: str) -> tuple[_Prices, str]:
    """The limit price or its rule, and the text without it."""
    if match := _OFFSET.search(text):
        below = match.group(3).lower() in {"below", "under", "beneath", "lower than", "less than", "off"}
        offset = _number(match.group(1)) * (-1 if below else 1)
        reference = _reference(match.group(4))
        if match.group(3).lower() in {"inside", "from"}:
            offset = offset if reference == "bid" else -offset
        return _Prices(None, PriceRule(reference, offset, _offset_unit(match.group(2)))), _without(text, match)
    if match := _NUDGED.search(text):
        reference = _reference(match.group(2))
        up = match.group(1).lower() in {"above", "over"} or (match.group(1).lower() == "inside" and reference == "bid")
        return _Prices(None, PriceRule(reference, Decimal(1 if up else -1), "tick")), _without(text, match)
    for pattern in (_PRICE_BEFORE, _PRICE_FOR, _PRICE):
        if match := pattern.search(text):
            return _Prices(_number(match.group(1)), None), _without(text, match)
    if (match := _NEAR.search(text)) and "market" not in match.group().lower():
        return _Prices(None, PriceRule(_reference(match.group(1)), Decimal(0), "tick")), _without(text, match)
    return _Prices(None, None), text


def _without(text: str, match: re.Match[str]) -> str:
    return f"{text[: match.start()]} ; {text[match.end() :]}"


def _reference(word: str) -> Reference:
    word = word.lower()
    if word.startswith(("bid", "touch")):
        return "bid"
    if word.startswith(("ask", "offer")):
        return "ask"
    return "last" if word.startswith("last") else "mid"


def _offset_unit(word: str) -> Literal["bps", "percent", "tick", "quote"]:
    word = word.lower()
    if word.startswith(("bp", "basis")):
        return "bps"
    if word.startswith(("%", "percent")):
        return "percent"
    return "tick" if word.startswith("tick") else "quote"


def _validity(text: str) -> tuple[int | None, str]:
    match = _VALIDITY.search(text)
    if match is None:
        return None, text
    amount, unit = next((a, u) for a, u in zip(match.groups()[::2], match.groups()[1::2], strict=True) if a and u)
    seconds = int(_number(amount) * _DURATION_UNITS[unit[0].lower()])
    return seconds, _without(text, match)


def _amounts(text: str) -> tuple[Decimal | None, Decimal | None]:
    """(quantity in base units, notional in quote): at most one is set."""
    if match := _BASE_QUANTITY.search(text):
        return _number(match.group(1)), None
    if match := _NOTIONAL.search(text):
        return None, _number(match.group(1) or match.group(2))
    if match := _PLAIN_QUANTITY.search(text):
        return _number(match.group(1)), None
    return None, None


def _interval(text: str) -> str | None:
    match = _INTERVAL.search(text)
    if match is None:
        other = _OTHER_INTERVAL.search(text)
        return (other[1] or other[2]) if other else None
    exact, minutes, word = match.groups()
    if exact:
        return exact
    if minutes:
        return f"{minutes}m"
    return {"minute": "1m", "daily": "1d"}.get(word, "1h")


def _count(text: str) -> int | None:
    for pattern in (_LEVELS, _BARS, _COUNT):
        if match := pattern.search(text):
            number = _number(next(group for group in match.groups() if group))
            return int(number) if number == number.to_integral_value() and 0 < number <= 10_000 else None
    return None


def _span_min(text: str) -> int | None:
    """Minutes looked back over: "the last half hour" is 30."""
    match = _SPAN.search(text)
    if match is None:
        return None
    amount, unit = (match.group(1) or "1").lower(), match.group(2).lower()
    if unit.startswith("half") or amount == "half an":
        return 30
    number = 5 if amount == "few" else int(_number(amount))
    return number * (60 if unit.startswith("h") else 1)
