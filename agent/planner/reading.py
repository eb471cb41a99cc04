"""From a question to what is asked for: clauses, each with an intent and its slots.

Whether a clause asks for an order suggestion is decided by grammar alone, never by the classifier: it has to be an
imperative, and anything that sounds like a question, a condition or a negation isn't one.
"""

from __future__ import annotations

import re
from functools import cache

import msgspec

from agent.planner.backtests import asks_for_backtest
from agent.planner.changes import SUGGESTING, Change, Request, is_unplain, read_change, read_exits
from agent.planner.classifier import Intent, IntentClassifier
from agent.planner.recognising import recognise
from agent.planner.slots import Slots, mask, read_slots, side_of_cash
from agent.planner.stops import read_stop
from agent.planner.strategies import read_strategy_request

CLAUSES_LIMIT = 6
SYMBOLS_LIMIT = 5
QUESTION_LIMIT_CHARS = 4_000

_CUES = (
    r"what(?:'s)?|how|show|give|tell|list|is|are|am|do|does|did|where|which|who|when|any|has|have|suggest|propose|buy|"
    r"sell|place|put|estimate|check|get me|recommend|prepare|draft|purchase|offload|short|go long|cancel|my|then|also|"
    r"spread|price|depth|positions?|holdings|pnl|open orders|orders|limits|risk|trend|volatility|candles|klines|"
    r"balances?|fees|fills|exposure|correlation|strategies|why|"
    r"slippage|cost|should|can|could|would|will|search|find|look"
)
_HARD_SPLIT = re.compile(r"[?;\n]+|(?<!\d)[.!]+(?=\s|$)|(?<=\d)[.!](?=\s+[A-Za-z]|\s*$)")
_SOFT_SPLIT = re.compile(
    r"\s*(?:,\s*(?:and|then|also|plus|but)?|\band\b(?:\s+(?:also|then))?|\bthen\b|\balso\b|\bplus\b|&)\s*"
    rf"(?=(?:the\s+|please\s+|just\s+)?(?:{_CUES})\b)",
    re.IGNORECASE,
)
_SUBORDINATE = re.compile(r"(?:if|before|when|once|unless|after|suppose|assuming|in case)\b", re.IGNORECASE)
_POLITE = re.compile(
    r"^(?:please|pls|kindly|ok(?:ay)?|hey|hi|hello|copilot|veloz|now|then|also|and|so|just|right|well|go ahead and|"
    r"let'?s|let us|(?:can|could|would|will) (?:you|u)(?: please| kindly)?(?: help me(?: to)?)?|"
    r"i(?:'d| would|d) like(?: you)? to|i want(?: you)? to|i wanna|i need(?: you)? to|i'd rather|help me(?: to)?|"
    r"we need to|time to|quickly|immediately)\b[\s,:]*",
    re.IGNORECASE,
)
_ASKED_POLITELY = re.compile(
    r"^\W*(?:\w+\W+){0,2}?(?:(?:can|could|will) (?:you|u)|would (?:you|u) (?:please|kindly))\b", re.IGNORECASE
)
_OPINION = re.compile(r"\bwould (?:you|u) (?!please|kindly)")
_LEADING_SYMBOL = re.compile(
    r"^(?:on |in |for )?symmark\s*[:,-]?\s*(?=buy|sell|long|short|market|limit)", re.IGNORECASE
)
_WHAT_IS_TRADED = (
    r"(?:(?:me|us|back|another|more|exactly|about|around|roughly|up to|just|only|a total of|the|at|by|market|limit|now|"
    r"for|or|size|in|an?|one|two|three|four|five|ten|twenty|fifty|hundred|whole|single)\s+)*(?:nummark|symmark|it\b|some\b|everything|all\b|half|my\b|our\b)"
)
_DIRECT = re.compile(
    r"^(?:buy|sell|long|short|purchase|acquire|offload|dump|unload|grab|get me|pick up|go (?:long|short)|liquidate|"
    r"scoop up|accumulate|trim|unwind|bid|offer|get (?:long|short|rid of|out of)|(?:market|limit)[ -](?:buy|sell)|"
    rf"close|exit|flatten|join the (?:bid|ask|offer) with)(?: of)? {_WHAT_IS_TRADED}"
)
_COMMAND = re.compile(
    r"^(?:suggest|propose|recommend|prepare|draft|set up|place|put|submit|enter|create|make|open a|work|send|post|"
    r"write|raise|give me an? (?:suggestion|proposal|order)|issue|arrange|queue|stage)\b"
)
_TRADE_WORDS = re.compile(
    r"\b(?:buy\w*|sell\w*|long|short\w*|purchas\w+|acquir\w+|offload\w*|order|bid|offer|dump\w*|unload\w*|sale|"
    r"market order|limit order)\b"
)
_NOT_A_TRADE = re.compile(
    r"\b(?:order ?book|open orders?|pizza|flight|film|movie|reviews?|reports?|table|list|"
    r"summary|history|explanation|alerts?|calculator|prices?(?= of)|chart|trend|journal|note)\b"
)
_CONDITION = re.compile(r"\b(?:if|unless|once|when(?:ever)?|as soon as|in case|until|after|before|while|provided)\b")
_QUESTIONING = re.compile(
    r"\b(?:what|how|should|would|does|do i|did|is it|why|where|which|who|whether|estimate\w*|simulat\w+|calculat\w+|"
    r"costs?|slippage|impact|expensive|tell me|hypothetical\w*|suppos\w+|assum\w+|imagin\w+|can i|could i|may i|am i|"
    r"might|maybe|perhaps|thinking|consider\w*|wonder\w*|compare|dont|do not|never|not|without|no need|worth|idea|"
    r"example|instead of|rather than|approve\w*|cancel\w*|amend\w*|status)\b"
)
_COST = re.compile(
    r"\b(?:cost\w*|slippage|impact|fill price|average price|how much (?:would|will|do i|does it)|what "
    r"(?:would|will|do) (?:i|we|it|symmark|nummark|half)|what nummark|estimat\w+|simulat\w+|if (?:i|we) (?:bought|"
    r"buy|sold|sell|were)|"
    r"price me|how expensive|would i (?:pay|get|receive|have)|(?:pay|receive|get) for|worst price|how many levels|"
    r"what happens|move the (?:price|market)|sweep|absorb|what if|to execute|execution of|execution price|"
    r"how (?:bad|cheap|much))\b"
)
_ADVICE = re.compile(
    r"\b(?:should (?:i|we)|ought (?:i|we)|(?:smart|wise|sensible|clever) to (?:buy|sell|trade|hold)|would you (?:buy|"
    r"sell|trade|recommend|go)|do you (?:think|recommend)|"
    r"(?:good|right|bad|best) (?:time|moment|idea|price|entry)|worth (?:buying|selling)|better off|which coin|"
    r"what to buy|what should i|predict|forecast|price target|your (?:view|opinion)|go up|going to (?:rise|fall|"
    r"crash|pump))\b"
)
_UNSUPPORTED = re.compile(
    r"^(?:cancel|withdraw|transfer|amend|modify|reject|approve|pull (?:my|all|every)|delete|deposit|"
    r"kill (?:all|my|every\w*|it|the orders?)|halt|activate|deactivate|disable|"
    r"raise my|increase (?:my|the)|move my|change (?:my|the)|turn (?:on|off)|stop (?:all )?trading|execute|sign|wire)\b"
)
_WORTH = re.compile(r"\b(?:how much|what) (?:is|are|s) (?:\w+ ){0,3}(?:worth|valued|priced|quoted|trading)\b")
_FORBIDDEN = re.compile(
    r"^(?:do not|dont|never|no need to|not to|without)\b(?: \w+){0,3}? "
    r"(?:buy\w*|sell\w*|trad(?:e|ing)|suggest\w*|propos\w+|plac(?:e|ing)|order\w*|send\w*|do(?:ing)?)\b"
)
_ELLIPSIS = re.compile(
    r"^(?:and|what about|how about|same for|same on|and for|and on|now|or|also)?\s*(?:for |on |in |with )?(?:the )?"
    r"(?:symmark)(?:\s*(?:,|and|or)\s*symmark)*\s*(?:then|too|as well|please)?$"
)


class Clause(msgspec.Struct, frozen=True):
    """One thing asked. intent is None when it wasn't understood; conditional marks an order with a condition."""

    text: str
    intent: Intent | Request | None
    slots: Slots
    candidates: tuple[Intent, ...] = ()
    conditional: bool = False
    change: Change | None = None


class Reader:
    """Reads questions with a trained classifier."""

    def __init__(self, classifier: IntentClassifier) -> None:
        self._classifier = classifier

    def read(self, question: str, earlier: tuple[str, ...] = ()) -> list[Clause]:
        """The clauses of a question; earlier user messages, oldest first, lend an instrument to one that names none.

        An order never takes anything from earlier messages.
        """
        clauses = [self._clause(text) for text in split_clauses(question[:QUESTION_LIMIT_CHARS])]
        clauses = _without_chatter(clauses)
        context = self._context(earlier) if earlier else None
        clauses = [_completed(clause, context) for clause in clauses]
        return _merged(_shared_amounts(_shared_symbols(clauses, context)))[:CLAUSES_LIMIT]

    def _context(self, earlier: tuple[str, ...]) -> Clause | None:
        """What the newest earlier message with an instrument asked for."""
        for message in reversed(earlier):
            for text in reversed(split_clauses(message[:QUESTION_LIMIT_CHARS])):
                clause = self._clause(text)
                if clause.slots.symbols:
                    return clause
        return None

    def _clause(self, text: str) -> Clause:
        if asks_for_backtest(text):
            # "Backtest buy and hold" orders nothing.
            return Clause(text, Intent.BACKTEST, read_slots(text))
        return self._clause_of_now(text)

    def _clause_of_now(self, text: str) -> Clause:
        slots = read_slots(text)
        masked = mask(text)
        if (request := _requested(text, masked, slots)) is not None:
            return request
        order, conditional = asks_for_order(masked, asked=text.rstrip().endswith("?"))
        exits = read_exits(text) if order else None
        if exits is not None:
            return Clause(text, Request.BRACKET, read_slots(exits[1]), change=exits[0])
        if order or conditional:
            return Clause(text, Intent.SUGGEST_ORDER, slots, conditional=conditional)
        if _ADVICE.search(masked):
            return Clause(text, Intent.ADVICE, slots)
        if _UNSUPPORTED.search(_strip_polite(masked)):
            return Clause(text, Intent.UNSUPPORTED_ACTION, slots)
        if slots.side is None and slots.indicators:
            return Clause(text, Intent.INDICATORS, slots)
        if (certain := recognise(text, slots)) is not None:
            return Clause(text, certain, slots)
        if slots.side is None and slots.symbols and _WORTH.search(masked):
            return Clause(text, Intent.TICKER, slots)
        if _COST.search(masked) and (slots.quantity is not None or slots.notional is not None or slots.side):
            return Clause(text, Intent.ESTIMATE_EXECUTION, _with_side(text, slots))
        guess = self._classifier.guess(text)
        if guess.intent is Intent.ESTIMATE_EXECUTION:
            slots = _with_side(text, slots)
        if guess.intent is Intent.SUGGEST_ORDER:
            return Clause(text, None, slots, guess.candidates)
        return Clause(text, guess.intent, slots, guess.candidates)


@cache
def trained_reader() -> Reader:
    """The reader of this process: training takes about a second, so it is done once."""
    return Reader(IntentClassifier())


def split_clauses(question: str) -> list[str]:
    """Sentences, and the parts of a sentence that start anew with a cue word."""
    clauses: list[str] = []
    position = 0
    for match in [*_HARD_SPLIT.finditer(question), None]:
        sentence = question[position : match.start() if match else len(question)].strip()
        mark = "?" if match is not None and "?" in match.group() else ""
        position = match.end() if match else len(question)
        # "If I sold, what would ..." is one thing asked.
        whole = _SUBORDINATE.match(sentence) is not None
        parts = [part.strip(" ,") for part in ([sentence] if whole else _SOFT_SPLIT.split(sentence))]
        clauses.extend(part + mark for part in parts if re.search(r"\w", part))
    return clauses[: CLAUSES_LIMIT * 2]


def asks_for_order(masked: str, *, asked: bool) -> tuple[bool, bool]:
    """(asks for a suggestion now, asks for one under a condition) of a masked clause."""
    polite = _ASKED_POLITELY.search(masked) is not None
    text = _LEADING_SYMBOL.sub("", _strip_polite(masked))
    text = re.sub(r"\b(?:no|not) (?:more|less|higher|lower|worse|above|below|over|under)\b(?: than)?", "", text)
    text = re.sub(r"\bgood (?:till?|until) cancel\w*|\bimmediate or cancel|\bor cancel|\bbefore it expires", "", text)
    if text.endswith("?") or asked:
        text = text.rstrip("? ")
        if not polite:
            return False, False
    direct = _DIRECT.search(text) is not None
    command = _COMMAND.search(text) is not None and _TRADE_WORDS.search(text) is not None
    if _OPINION.search(masked) or not (direct or command) or _NOT_A_TRADE.search(text) or _QUESTIONING.search(text):
        return False, False
    if _CONDITION.search(text):
        return False, True
    return True, False


def _requested(text: str, masked: str, slots: Slots) -> Clause | None:
    """A plain request that grammar alone reads."""
    if text.rstrip().endswith("?") and _ASKED_POLITELY.search(masked) is None:
        return None
    plain = "" if is_unplain(masked) else _strip_polite(text)
    if (strategy := read_strategy_request(plain)) is not None:
        return Clause(text, Request.STRATEGY, Slots(), change=Change(strategy=strategy))
    if (change := read_change(text, _strip_polite(masked))) is not None:
        return Clause(text, change[0], slots, change=change[1])
    if (stop := read_stop(plain)) is not None:
        return Clause(text, Request.STOP_ORDER, read_slots(stop[1]), change=stop[0])
    return None


def _strip_polite(text: str) -> str:
    text = text.strip(" ,.!:-\"'")
    while (stripped := _POLITE.sub("", text, count=1)) != text:
        text = stripped
    return text


def _with_side(text: str, slots: Slots) -> Slots:
    return msgspec.structs.replace(slots, side=side_of_cash(text, slots))


def _without_chatter(clauses: list[Clause]) -> list[Clause]:
    """A greeting, or what shall not be done, beside a real question isn't one."""
    real = [clause for clause in clauses if clause.intent is not Intent.HELP and not _forbids(clause)]
    return real or clauses[:1]


def _forbids(clause: Clause) -> bool:
    return _FORBIDDEN.search(_strip_polite(mask(clause.text))) is not None


def _completed(clause: Clause, context: Clause | None) -> Clause:
    """ "and ETH?" asks for the same again, unless that was an order."""
    if context is None or context.intent in {None, *SUGGESTING} or not clause.slots.symbols:
        return clause
    if not _ELLIPSIS.match(mask(clause.text).rstrip("? ")):
        return clause
    return Clause(clause.text, context.intent, msgspec.structs.replace(context.slots, symbols=clause.slots.symbols))


def _shared_symbols(clauses: list[Clause], context: Clause | None) -> list[Clause]:
    """A clause without an instrument takes the one before it, else the one after it, else that of the conversation."""
    named = [clause.slots.symbols for clause in clauses]
    out: list[Clause] = []
    for index, clause in enumerate(clauses):
        symbols = clause.slots.symbols
        if not symbols and clause.slots.unknown_symbol is None and not isinstance(clause.intent, Request):
            before = next((s for s in reversed(named[:index]) if s), ())
            after = next((s for s in named[index + 1 :] if s), ())
            symbols = before or after
            if not symbols and context is not None and clause.intent not in SUGGESTING:
                symbols = context.slots.symbols
        slots = msgspec.structs.replace(clause.slots, symbols=symbols[:SYMBOLS_LIMIT])
        out.append(msgspec.structs.replace(clause, slots=slots))
    return out


def _shared_amounts(clauses: list[Clause]) -> list[Clause]:
    """ "I may buy 2 BTC, what would that cost?": an estimate without an amount takes that of the clause before it, else
    of the one after it."""

    def stated(clause: Clause) -> bool:
        return clause.slots.quantity is not None or clause.slots.notional is not None

    out: list[Clause] = []
    for index, clause in enumerate(clauses):
        near = next((c for c in [*reversed(clauses[:index]), *clauses[index + 1 :]] if stated(c)), None)
        if clause.intent is Intent.ESTIMATE_EXECUTION and not stated(clause) and near is not None:
            lent = near.slots
            slots = msgspec.structs.replace(
                clause.slots,
                quantity=lent.quantity,
                other_quantities=lent.other_quantities,
                notional=lent.notional,
                side=clause.slots.side or lent.side,
            )
            out.append(msgspec.structs.replace(clause, slots=slots))
        else:
            out.append(clause)
    return out


def _merged(clauses: list[Clause]) -> list[Clause]:
    """The same thing asked twice is answered once; two orders stay two."""
    out: list[Clause] = []
    for clause in clauses:
        same = any(
            other.intent is clause.intent and other.slots == clause.slots
            for other in out
            if clause.intent not in SUGGESTING
        )
        if not same:
            out.append(clause)
    return out
