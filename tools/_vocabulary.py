"""The words that tools.said and tools.taint read: assets, numbers, units, sides, cues."""

from __future__ import annotations

# ruff: noqa: RUF001 (the look-alikes are the point)
import re
from decimal import Decimal


def words(text: str) -> frozenset[str]:
    """The words of a list that is written as one text."""
    return frozenset(text.split())


BUY, SELL = "BUY", "SELL"

# Letters that look like Latin ones (Unicode TR 39 has the whole table; these are those of tickers and ids).
LOOKALIKES = str.maketrans(
    "АВЕКМНОРСТУХЅІЈавекмнорстухѕіјԁһԛԝΑΒΕΖΗΙΚΜΝΟΡΤΥΧαοριυν∕⁄–—−‐‑",
    "ABEKMHOPCTYXSIJabekmhopctyxsijdhqwABEZHIKMNOPTYXaopiuv//-----",
)
ALIASES = {
    **dict.fromkeys(("bitcoin", "bitcoins", "btcs", "xbt"), "btc"),
    **dict.fromkeys(("ether", "ethers", "ethereum", "eths"), "eth"),
    **dict.fromkeys(("solana", "sols"), "sol"),
    **dict.fromkeys(("binancecoin",), "bnb"),
    **dict.fromkeys(("ripple",), "xrp"),
    **dict.fromkeys(("cardano",), "ada"),
    **dict.fromkeys(("dogecoin",), "doge"),
    **dict.fromkeys(("litecoin",), "ltc"),
    **dict.fromkeys(("polkadot",), "dot"),
    **dict.fromkeys(("avalanche",), "avax"),
    **dict.fromkeys(("chainlink",), "link"),
    **dict.fromkeys(("tron",), "trx"),
}
# Bases that are words as well: only in capitals do they name an instrument.
WORDS_TOO = words(
    "one near gas mask sand link for the via fun key win hot all any dot sun super people id ta me cake ace ape magic "
    "move bond flow gala high idea jump lever lit mine note order price rare real rose safe sky stx time vote wing"
)
THINGS = words("coin coins unit units contract contracts")

MULTIPLIERS = {
    **dict.fromkeys(("k", "thousand", "grand"), 3),
    **dict.fromkeys(("mm", "mio", "mn", "million"), 6),
    **dict.fromkeys(("bn", "billion"), 9),
}
SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3_600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
}
# In basis points.
RATES = {
    **dict.fromkeys(("%", "percent", "pct"), Decimal(100)),
    **dict.fromkeys(("bps", "bp", "basis"), Decimal(1)),
}
_BELOW_TWENTY = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
NUMBER_WORDS = {
    **{name: Decimal(number) for number, name in enumerate(_BELOW_TWENTY.split(" "))},
    **{name: Decimal(10 * number) for number, name in enumerate(_TENS.split(" "), start=2)},
    "dozen": Decimal(12),
}
ARTICLES = words("a an")
SCALES = {"hundred": Decimal(100), "thousand": Decimal(1_000), "grand": Decimal(1_000), "million": Decimal(10**6)}
PARTS = {
    **dict.fromkeys(("half", "halve"), Decimal(1) / 2),
    **dict.fromkeys(("third", "thirds"), Decimal(1) / 3),
    **dict.fromkeys(("quarter", "quarters"), Decimal(1) / 4),
    **dict.fromkeys(("fifth", "fifths"), Decimal(1) / 5),
    **dict.fromkeys(("tenth", "tenths"), Decimal(1) / 10),
    **dict.fromkeys(("hundredth", "hundredths"), Decimal(1) / 100),
}

WHOLE = words("all everything whole entire entirely completely")
WHOLE_UNLESS_A_PART = words("close flatten exit liquidate")
CLOSING = words("close closing flatten flat exit hedge hedging cover unwind liquidate reduce")
BUY_WORDS = words(
    "buy buys buying bought long purchase purchasing acquire acquiring accumulate accumulating grab scoop kaufe kaufen "
    "comprar compra acheter achete"
)
SELL_WORDS = words(
    "sell sells selling sold short shorts shorting offload offloading dump dumping unload unloading liquidate trim "
    "trimming verkaufe verkaufen vender vende vendre vends"
)
BUY_PHRASES = re.compile(r"\b(?:bid for|get me|pick up|lift the|add (?:to|[\d.]))")
SELL_PHRASES = re.compile(r"\b(?:get rid of|get out of|hit the bid|take profits?)\b")
RELATIVE = re.compile(
    r"\b(?:below|under|beneath|above|over|off|away|less|more|lower|higher|discount|premium|offset|from)\b"
)

RAW_NUMBER = re.compile(r"(?:\d|(?<!\w)[.,](?=\d))(?:[\d.,_'\u2019\u00a0\u202f]*\d)?(?:[eE][+-]?\d{1,2}(?!\w))?")
SPACED_GROUPS = re.compile(r"(?<![\d.,])\d{1,3}(?: \d{3})+(?![\d])")
UNIT_AFTER = re.compile(r"\s?(%|[A-Za-z]+)")
QUOTE_AFTER = re.compile(r"\s?(?:usdt|usdc|fdusd|usd|eur|dollars?|bucks|tether)\b|\s?worth\b", re.IGNORECASE)
PRICE_CUE = re.compile(
    r"(?:\b(?:at|price|priced|limit|above|below|under|stop|loss|sl|tp|target|profit|trigger|entry|level)|@)"
    r"(?:\s+(?:of|is|at|a|an|the|price|limit|to|around|about|exactly|usd|usdt))*\s*[:=]?\s*[$€]?\s*$",
    re.IGNORECASE,
)
QUANTITY_CUE = re.compile(
    r"\b(?:buy|sell|buying|selling|long|short|purchase|acquire|offload|dump|unload|quantity|qty|size|amount|make it)"
    r"(?:\s+(?:of|is|me|us|up|to|about|around|exactly|another|only|just))*\s*[:=]?\s*$",
    re.IGNORECASE,
)
PART_OF = re.compile(
    rf"(?<!and a )(?<!and )\b({'|'.join(PARTS)})\s+(?:of\s+)?(?:(?:an?|one)\s+)?([a-z0-9]+)\b", re.IGNORECASE
)

# What a human may say for a value of a closed vocabulary.
SYNONYMS = {
    "MARKET": words("market now immediately asap instantly"),
    "IOC": words("ioc immediate immediately"),
    "FOK": words("fok kill"),
    "GTC": words("gtc cancelled canceled resting rest"),
    "post_only": words("post maker passive passively"),
    "reduce_only": words("reduce close closing exit flatten hedge only"),
    "BID": words("bid bids"),
    "ASK": words("ask asks offer offers"),
    "MID": words("mid midpoint middle"),
    "HALTED": words("halt halted kill stop freeze"),
    "STOP": words("stop sl"),
    "TAKE_PROFIT": words("profit tp target"),
    "TRAILING_STOP": words("trailing trail"),
    "REVOKE": words("revoke end stop withdraw pause suspend disable"),
    "TIGHTEN": words("tighten lower reduce less cap halve half cut"),
    "SYMBOL": words("all every each everything orders"),
    "ACCOUNT": words("all every each everything orders"),
    "ENGINE": words("engine everything everywhere all accounts"),
}

# What a human says who wants such a suggestion at all. For other tools: a word of their name.
ACTIONS = {
    "suggest_order": BUY_WORDS | SELL_WORDS | CLOSING | words("order trade bid offer grab get pick add take rid out"),
    "suggest_cancel": words("cancel cancels cancelled canceled withdraw remove pull delete kill drop"),
    "suggest_amend": words(
        "amend change move modify raise lower reprice replace update edit increase decrease reduce set make shift "
        "adjust"
    ),
    "suggest_close": CLOSING | SELL_WORDS | words("out rid halve halving half cut shrink"),
    "suggest_hedge": words("hedge hedging cover protect neutralise neutralize offset"),
    "suggest_bracket": BUY_WORDS | SELL_WORDS | words("bracket stop profit"),
    "suggest_kill_switch": words("kill halt halted stop freeze pause block emergency switch"),
    "suggest_strategy_change": words("strategy strategies mandate revoke tighten pause halve bot algo"),
}
