"""Requests to close, hedge, cancel, amend or stop: read by grammar alone, never guessed.

A request has to be an imperative that is about one thing. What isn't plain (which order, price or quantity, how much)
is left open here, for the plan to ask.
"""

from __future__ import annotations

import re
from decimal import Decimal
from enum import StrEnum

import msgspec

from agent.planner.classifier import Intent
from agent.planner.strategies import StrategyRequest


class Request(StrEnum):
    """What grammar alone reads; no classifier ever guesses one of these."""

    STOP_ORDER = "suggest_order"
    STRATEGY = "suggest_strategy_change"
    BRACKET = "suggest_bracket"
    CLOSE = "suggest_close"
    HEDGE = "suggest_hedge"
    CANCEL = "suggest_cancel"
    AMEND = "suggest_amend"
    KILL_SWITCH = "suggest_kill_switch"


SUGGESTING: frozenset[Intent | Request] = frozenset({Intent.SUGGEST_ORDER, *Request})
"""What asks for a suggestion."""

_NUMBER = r"\d[\d,]*(?:\.\d+)?"
_ORDER_ID = re.compile(r"\bvz[0-9a-f]{32}\b", re.IGNORECASE)
_ONE_ORDER = (
    r"(?:my|the|this|that|our)\s+(?:(?:open|resting|working|limit|stop|buy|sell|only|symmark|nummark)\s+)*"
    r"order\b(?!\s*book)"
)
_LED = r"^(?:(?:suggest|propose|prepare|draft|recommend)\s+(?:to\s+|an?\s+|that\s+(?:we|you)\s+)?)?"
_CANCEL = re.compile(
    _LED + r"(?:cancel(?:l?ing|l?ation\s+of)?|pull|kill|delete|remove|take\s+off|get\s+rid\s+of)\s+"
    rf"(?:{_ONE_ORDER}|order\s+\S+|idmark)"
)
_CANCEL_ALL = re.compile(
    _LED + r"(?:cancel(?:l?ing)?|pull|kill|delete|remove|take\s+off|get\s+rid\s+of)\s+"
    r"(?:everything|(?:(?:all|every|each|of|my|the|our|open|resting|working|single|symmark|and)\s+)*orders?"
    r"(?:\s+(?:in|on|for|of)\s+(?:symmark(?:\s+and\s+symmark)*|(?:my|the|this|our)\s+account))?)"
    r"(?:\s+(?:please|now|immediately|at\s+once))*"
)
_OF_ALL = re.compile(r"\b(?:everything|all|every|each|orders)\b")
_AMEND = re.compile(
    _LED + r"(?:move|amend(?:ing)?|chang(?:e|ing)|modify|reprice|lower|raise|reduce|increase|resize|update|set|adjust)"
    rf"\s+(?:the\s+(?:limit\s+)?(?:price|quantity|size|amount)\s+of\s+)?(?:{_ONE_ORDER}|order\s+\S+)"
)
_CLOSE = re.compile(
    _LED + r"(?:close|closing|exit|flatten|liquidate|unwind|get\s+(?:me\s+)?out\s+of)(?:\s+out)?(?:\s+of)?\s+"
    r"(?:(?:my|the|our|all|half|some|most|part|whole|entire|nummark|of|long|short|open)\s+)*"
    r"(?:symmark(?:\s+(?:position|long|short|holding)s?)?|position)\b"
)
_REDUCE = re.compile(
    _LED
    + r"(?:halve|halving|(?:cut|reduce|shrink|trim)(?=.*\b(?:(?:in|by|to)\s+half\b|by\s+nummark\s*(?:%|percent))))\s+"
    r"(?:(?:my|the|our|long|short|open|whole|entire)\s+)*"
    r"(?:symmark(?:\s+(?:position|long|short|holding)s?)?|position)\b(?!.*\b(?:orders?|limits?)\b)"
)
_HEDGE = re.compile(
    _LED + r"(?:hedge|hedging)\s+"
    r"(?:(?:my|the|our|all|half|of|nummark|percent|%|long|short)\s+|nummark\s?%\s+)*symmark"
)
_HALT = re.compile(
    _LED + r"(?:(?:halt|stop|shut\s+down|freeze)\s+(?:all\s+)?(?:the\s+|our\s+|my\s+)?(?:trading|account)\b"
    r"|(?:activate|throw|hit|trigger|press|engage)\s+the\s+kill\s?switch)"
)
_RESTRICT = re.compile(
    _LED + r"(?:go|set|switch|put)\s+(?:(?:the|my|our|account|trading|kill|switch|it|everything|in|into|to)\s+)*"
    r"(reduce|cancel)[\s-]only\b"
)
_ENGINE = re.compile(r"\b(?:engine|everything|every\s+account|all\s+accounts)\b")
_SEVERAL = re.compile(r"\b(?:all|every|both|each)\b|\borders\b|\bpositions\b")
_NOT_PLAIN = re.compile(
    r"\b(?:if|unless|once|when(?:ever)?|as soon as|in case|until|after|before|while|provided|what|how|should|would|"
    r"does|did|is it|why|where|which|who|whether|dont|do not|never|not|without|instead|rather|maybe|perhaps|might|"
    r"loosen|thaw|resume|suggestion|proposal)\b"
)
_TO = re.compile(rf"\bto\s+\$?({_NUMBER})\s*(\w+)?", re.IGNORECASE)
_PRICE_WORDS = re.compile(r"\b(?:price|reprice|move)\b")
_SIZE_WORDS = re.compile(r"\b(?:quantity|size|amount|resize)\b")
_QUOTES = frozenset({"usdt", "usd", "dollars", "dollar", "usdc"})
_STOP = re.compile(
    rf"\b(?:(?:with|and)\s+)?(?:an?\s+|my\s+)?(?:stop(?:[\s-]?loss)?|sl)\s*(?:price\s*)?(?:at|of|@|=)?\s*\$?({_NUMBER})",
    re.IGNORECASE,
)
_TARGET = re.compile(
    rf"\b(?:(?:with|and)\s+)?(?:an?\s+|my\s+)?(?:take[\s-]?profit|profit[\s-]target|target|tp)\s*(?:price\s*)?"
    rf"(?:at|of|@|=)?\s*\$?({_NUMBER})",
    re.IGNORECASE,
)
_GUARDED = re.compile(r"\b(?:stop|stops|stop-loss|sl|take[\s-]?profit|target|tp|trailing)\b", re.IGNORECASE)
_WITH = re.compile(
    r"\b(?:with|,)\s*(?:an?\s+|my\s+)?(?:stop|sl|take|profit|target|tp)\b|,\s*(?:stop|sl|take|target|tp)\b",
    re.IGNORECASE,
)
_FILLERS = frozenset({"please", "now", "on", "for", "in", "and", "at"})
_PERCENT = re.compile(rf"({_NUMBER})\s*(?:%|percent)")
_PARTIAL = re.compile(r"\b(?:third|quarter|part|some|most)\b")


class Change(msgspec.Struct, frozen=True):
    """What is asked for beside an instrument. unclear is the number of an amendment that could be price or quantity;
    ratio_bps is None where the part can't be told."""

    order_id: str | None = None
    new_price: Decimal | None = None
    new_quantity: Decimal | None = None
    unclear: Decimal | None = None
    state: str = "HALTED"
    scope: str = "ACCOUNT"
    ratio_bps: int | None = 10_000
    order_type: str = ""
    trailing_offset_bps: int | None = None
    stop_price: Decimal | None = None
    target_price: Decimal | None = None
    strategy: StrategyRequest | None = None
    all_orders: bool = False


def read_change(text: str, masked: str) -> tuple[Request, Change] | None:
    """What a plain request asks for; masked is the clause as mask makes it, without its politeness."""
    plain = re.sub(r"[?.!]+$", "", masked).strip()
    if _NOT_PLAIN.search(plain):
        return None
    found = _ORDER_ID.search(text)
    order_id = None if found is None else found.group().lower()
    if _HALT.search(plain):
        return Request.KILL_SWITCH, Change(scope=_scope(plain))
    if match := _RESTRICT.search(plain):
        state = f"{match.group(1).upper()}_ONLY"
        return Request.KILL_SWITCH, Change(state=state, scope=_scope(plain))
    if _CANCEL_ALL.fullmatch(plain) and _OF_ALL.search(plain):
        return Request.CANCEL, Change(all_orders=True)
    if _SEVERAL.search(plain) and not _CLOSE.search(plain):
        return None
    if _CANCEL.search(plain):
        return Request.CANCEL, Change(order_id=order_id)
    if _AMEND.search(plain):
        return Request.AMEND, _amendment(text, plain, order_id)
    if _HEDGE.search(plain):
        return Request.HEDGE, Change(ratio_bps=_ratio_bps(text, plain))
    if _CLOSE.search(plain) or _REDUCE.search(plain):
        return Request.CLOSE, Change(ratio_bps=_ratio_bps(text, plain))
    return None


def is_unplain(masked: str) -> bool:
    """Whether a masked clause sets a condition, asks or doubts, so that it is no plain request."""
    return _NOT_PLAIN.search(masked) is not None


def read_exits(text: str) -> tuple[Change, str] | None:
    """The exits that an order names, and the text without them; None for one that names none. Where they can't be read
    plainly, both levels are None."""
    if not _GUARDED.search(text):
        return None
    if not _WITH.search(text):
        return Change(), text
    stop, target = _STOP.search(text), _TARGET.search(text)
    rest = text
    for match in sorted((m for m in (stop, target) if m), key=lambda m: m.start(), reverse=True):
        rest = f"{rest[: match.start()]} ; {rest[match.end() :]}"
    if _GUARDED.search(rest):
        return Change(), text
    return Change(stop_price=_number(stop), target_price=_number(target)), rest


def _amendment(text: str, plain: str, order_id: str | None) -> Change:
    without_id = _ORDER_ID.sub(" ", text)
    matches = list(_TO.finditer(without_id))
    if len(matches) != 1:
        return Change(order_id=order_id)
    value, unit = Decimal(matches[0].group(1).replace(",", "")), (matches[0].group(2) or "").lower()
    says_price = bool(_PRICE_WORDS.search(plain)) or unit in _QUOTES
    names_asset = unit.isalpha() and unit not in _QUOTES | _FILLERS
    says_size = bool(_SIZE_WORDS.search(plain)) or names_asset
    if says_price is says_size:
        return Change(order_id=order_id, unclear=value)
    if says_price:
        return Change(order_id=order_id, new_price=value)
    return Change(order_id=order_id, new_quantity=value)


def _scope(plain: str) -> str:
    return "ENGINE" if _ENGINE.search(plain) else "ACCOUNT"


def _ratio_bps(text: str, plain: str) -> int | None:
    if _PARTIAL.search(f"{text} {plain}".lower()):
        return None
    if percent := _PERCENT.search(text):
        bps = Decimal(percent.group(1).replace(",", "")) * 100
        return int(bps) if bps == bps.to_integral_value() and 0 < bps <= 10_000 else None
    return 5_000 if re.search(r"\bhal(?:f|ve|ving)\b|\b0\.5\s+of\b", text, re.IGNORECASE) else 10_000


def _number(match: re.Match[str] | None) -> Decimal | None:
    return None if match is None else Decimal(match.group(1).replace(",", ""))
