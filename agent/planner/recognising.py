"""What a clause asks for where its words leave no doubt: looks at the account, what-ifs, refusals. No guess."""

from __future__ import annotations

import re
from decimal import Decimal

from agent.planner.classifier import Intent
from agent.planner.slots import Slots
from core.types.codes import ReasonCode

DAYS_LIMIT = 366
BPS_PER_PERCENT = 100
MOVE_LIMIT_BPS = 10_000

_WORDS = {"one": 1, "two": 2, "three": 3, "five": 5, "ten": 10, "fifteen": 15, "twenty": 20, "thirty": 30, "fifty": 50}
_NUMBER = rf"\d{{1,5}}(?:\.\d{{1,4}})?|{'|'.join(_WORDS)}"
_DOWN = (
    r"drop\w*|fall\w*|fell|crash\w*|declin\w*|tank\w*|plung\w*|sink\w*|slump\w*|los[est]+|down|lower|correct\w*|dip\w*"
)
_UP = r"ris\w+|rose|rall\w+|gain\w*|climb\w*|jump\w*|pump\w*|surg\w+|up|higher|increas\w+"
_UNIT = r"(?P<unit>%|percent|per cent|bps|basis points?)"
_MOVES = (
    re.compile(
        rf"\b(?:(?P<down>{_DOWN})|(?P<up>{_UP})|mov\w+)\b(?:\s+(?:by|about|around|another|some))*\s+"
        rf"(?P<sign>[-+])?(?P<number>{_NUMBER})\s*{_UNIT}",
        re.IGNORECASE,
    ),
    re.compile(
        rf"(?P<sign>[-+])?(?P<number>{_NUMBER})\s*{_UNIT}[\s-]+(?:\w+[\s-]+)?(?:(?P<down>{_DOWN})|(?P<up>{_UP})|"
        r"(?:mov\w+|shock|change))\b",
        re.IGNORECASE,
    ),
)
_IMAGINED = re.compile(
    r"\b(?:if|suppos\w+|assum\w+|imagin\w+|scenario|stress\w*|shock\w*|happens?|would|hypothetical\w*)\b",
    re.IGNORECASE,
)
# "If BTC drops 5 %, buy 1 BTC" is an order under a condition, which isn't taken, and no what-if either.
_ORDER_AFTER_CONDITION = re.compile(
    r",\s*(?:then\s+)?(?:please\s+)?(?:buy|sell|go|close|short|purchase)\b[^?]*$", re.IGNORECASE
)
_ON_ACCOUNT = re.compile(
    r"\b(?:(?:my|the|our) (?:account|exposure|leverage|margin|equity|portfolio|limits|position|risk)|"
    r"(?:would|will|does) risk (?:allow|let|accept|reject|refuse|pass|take|block)\w*|pass(?:es)? (?:the )?risk)\b",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"\bwh(?:y|at)\b[^?]*\b(?:reject\w*|refus\w*|declin\w*|denied|deny|blocked|turned down|not (?:accepted|go through)|"
    r"didn'?t (?:go|pass)|fail\w*)\b|\b(?:last|latest|newest|recent) (?:rejection|refusal)s?\b|"
    r"\breasons? (?:for|of) (?:the |my )?(?:rejection|refusal)\b|"
    r"\bexplain (?:the |my |this |that )?(?:rejection|refusal)",
    re.IGNORECASE,
)
_CODE = re.compile(r"\b[A-Z]{4,10}(?:_[A-Z0-9]+){1,8}\b")
_ORDER_ID = re.compile(r"\bvz[0-9a-zA-Z]{2,60}\b")
_BALANCE = re.compile(
    r"\b(?:balances?|buying power|(?:available|free) (?:funds|cash)|equity|"
    r"how (?:much|many) (?:money|cash|funds|usdt|usdc|usd|dollars?)\b[^?]*\bhave)\b(?! made| earned| lost)",
    re.IGNORECASE,
)
_LIMIT_USE = re.compile(
    r"\b(?:close|near|headroom|room|used?|usage|utili[sz]\w+|left|reach\w*|away)\b[^?]*\blimits?\b|"
    r"\blimits?\b[^?]*\b(?:used|usage|left|utili[sz]\w+|headroom|reached)\b|\b(?:risk|limit) headroom\b",
    re.IGNORECASE,
)
_PROFIT = re.compile(
    r"\b(?:pnl|p\s?[&/]\s?l|profits?|loss(?:es)?|made|make|making|earn\w*|lost|losing|gains?|won|results?)\b",
    re.IGNORECASE,
)
_FEES = re.compile(r"\b(?:fees?|commissions?)\b", re.IGNORECASE)
_FEE_OF_PAST = re.compile(r"\b(?:trades?|reviews?|positions?) with\b", re.IGNORECASE)
_FILLS = re.compile(
    r"\b(?:my|our|recent|last|latest|the|show|list|today'?s) (?:\w+ ){0,3}(?:fills|executions)\b", re.IGNORECASE
)
_CORRELATION = re.compile(r"\b(?:correlat\w+|co-?move\w*|move together|diversif\w+)\b", re.IGNORECASE)
_COURSE = re.compile(
    r"\b(?:over time|history of|series|develop\w*|evolv\w*|evolution|course|candle by candle|each candle|"
    r"every candle|last \d+ values)\b",
    re.IGNORECASE,
)
_PENDING = re.compile(
    r"\b(?:pending|waiting|awaiting|unapproved|undecided|open proposals?|in the queue)\b", re.IGNORECASE
)
_PERIODS = (
    (re.compile(r"\b(?:today|this morning|since midnight|so far today)\b", re.IGNORECASE), 1),
    (re.compile(r"\b(?:yesterday|last two days)\b", re.IGNORECASE), 2),
    (re.compile(r"\b(?:(?:this|last|past) week|weekly)\b", re.IGNORECASE), 7),
    (re.compile(r"\b(?:(?:this|last|past) month|monthly)\b", re.IGNORECASE), 30),
    (re.compile(r"\b(?:(?:this|last|past) quarter)\b", re.IGNORECASE), 91),
    (re.compile(r"\b(?:(?:this|last|past) year|yearly)\b", re.IGNORECASE), 365),
)
_DAYS = re.compile(r"\b(?:last|past|previous|over)\s+(?:the\s+)?(?:last\s+)?(\d{1,3})\s+days?\b", re.IGNORECASE)
_GROUPS = (
    (
        "strategy",
        re.compile(r"\b(?:by|per|each|which|every) (?:strategy|strategies|bots?)\b|\bstrateg\w+\b", re.IGNORECASE),
    ),
    ("day", re.compile(r"\b(?:by|per|each|every|which|best|worst) days?\b|\bdaily\b|\bday by day\b", re.IGNORECASE)),
    (
        "symbol",
        re.compile(
            r"\b(?:by|per|each|which|every|what) (?:symbols?|instruments?|markets?|coins?|pairs?)\b", re.IGNORECASE
        ),
    ),
    ("asset", re.compile(r"\b(?:by|per|each|which|what|every) (?:assets?|currenc\w+|tokens?)\b", re.IGNORECASE)),
)


def recognise(text: str, slots: Slots) -> Intent | None:
    """None where the words leave it open. An order was looked for before: nothing here makes one."""
    if code_of(text) or _REFUSED.search(text):
        return Intent.REJECTION
    if order_id_of(text):
        return Intent.OPEN_ORDERS
    if _CORRELATION.search(text):
        return Intent.CORRELATION
    if _ORDER_AFTER_CONDITION.search(text):
        return None
    if price_move_bps(text) is not None and _IMAGINED.search(text):
        return Intent.WHAT_IF
    if slots.side and slots.quantity is not None and _ON_ACCOUNT.search(text):
        return Intent.WHAT_IF
    if _LIMIT_USE.search(text):
        return Intent.LIMIT_USE
    if _BALANCE.search(text):
        return Intent.BALANCES
    if _FEES.search(text) and not _FEE_OF_PAST.search(text):
        return Intent.FEES
    if _FILLS.search(text):
        return Intent.FILLS
    if _PROFIT.search(text) and (days_of(text) is not None or group_of(text) is not None) and not slots.side:
        return Intent.PNL
    return None


def price_move_bps(text: str) -> int | None:
    """A move in percent or basis points, negative when it goes down; None where none is named or it is beyond 100 %."""
    for pattern in _MOVES:
        match = pattern.search(text)
        if match is None:
            continue
        factor = 1 if match["unit"].lower().startswith("b") else BPS_PER_PERCENT
        number = match["number"].lower()
        move = Decimal(_WORDS.get(number, number)) * factor * (-1 if match["down"] or match["sign"] == "-" else 1)
        if move == move.to_integral_value() and -MOVE_LIMIT_BPS < move <= MOVE_LIMIT_BPS:
            return int(move)
    return None


def days_of(text: str) -> int | None:
    """How many days are asked about, today included."""
    if match := _DAYS.search(text):
        return min(max(1, int(match.group(1))), DAYS_LIMIT)
    return next((days for pattern, days in _PERIODS if pattern.search(text)), None)


def group_of(text: str) -> str | None:
    """day, symbol, strategy or asset."""
    return next((name for name, pattern in _GROUPS if pattern.search(text)), None)


def asks_for_course(text: str) -> bool:
    """Whether values over time are meant, and not the newest one."""
    return _COURSE.search(text) is not None


def asks_for_pending(text: str) -> bool:
    """Whether only suggestions that wait for a decision are meant."""
    return _PENDING.search(text) is not None


def code_of(text: str) -> str | None:
    """A reason code that the text names."""
    return next((word for word in _CODE.findall(text) if word in ReasonCode.__members__), None)


def order_id_of(text: str) -> str | None:
    match = _ORDER_ID.search(text)
    return match.group() if match else None
