"""The indicators that a clause names, in the form that get_indicators reads: ``SMA 20`` is sma(20)."""

from __future__ import annotations

import re

INDICATORS_LIMIT = 8
USUAL = ("rsi", "macd", "bollinger")
"""For a question about indicators that names none."""

_NAMES = {
    "rsi": r"rsi|relative strength(?: index)?",
    "macd": r"macd",
    "ema": r"ema|exponential(?:ly weighted)?(?: moving)? average",
    "sma": r"sma|(?:simple )?moving average",
    "bollinger": r"bollingers?(?: bands?)?",
    "atr": r"atr|average true range",
    "adx": r"adx|average directional(?: movement)? index",
    "stochastic": r"stoch(?:astics?)?(?: oscillator)?",
    "donchian": r"donchian(?: channels?)?",
    "obv": r"obv|on[\s-]balance[\s-]volume",
    "vwap": r"vwap|volume[\s-]weighted average price",
    "realised_volatility": r"(?:reali[sz]ed|historical) vol(?:atility)?",
}
_PERIOD = r"\d{1,5}(?:\.\d{1,4})?(?![\w.]|\s*(?:m|mins?|minutes?|h|hours?|hourly|d|days?|bars?|candles?)\b)"
_NAMED = re.compile(
    r"(?:(?<![\w.(])(?P<before>\d{1,5})[\s-]*(?:period|bar|candle)?s?[\s-]+)?\b(?:"
    + "|".join(f"(?P<{name}>{words})" for name, words in _NAMES.items())
    + rf")s?\b(?:\s*\((?P<inside>[^()]{{0,60}})\)|(?P<after>(?:\s*,?\s+{_PERIOD}){{1,3}}))?",
    re.IGNORECASE,
)


def read_indicators(text: str) -> tuple[str, ...]:
    """In the order they are named, each once. Whether their values can be is for the tool to say."""
    found: dict[str, None] = {}
    for match in _NAMED.finditer(text):
        name = next(name for name in _NAMES if match[name])
        values = match["inside"]
        if values is None:
            values = ", ".join(re.findall(r"[\d.]+", match["after"] or match["before"] or ""))
        found[f"{name}({values.strip()})" if values.strip() else name] = None
    return tuple(found)[:INDICATORS_LIMIT]
