"""Grounding: every figure in an answer traces to a cell of a tool result, or is marked as unsourced (I9).

A figure is a number (or a UTC time) that stands in the text for itself: not a part of a name such as BTCUSDT, 5m or
an id, and not the numbering of a list. It is sourced when some cell of the run's tool results holds exactly the same
value, so a rounded figure is an unsourced one. `bps` and `%` have to agree with the cell's unit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

import msgspec

from core.types.clock import NS_PER_S, format_utc_us

UNSOURCED_MARK = " [unsourced]"
CELLS_LIMIT = 50_000
WORD_LIMIT_CHARS = 512
CONTEXT_WORDS_BEFORE = 8
CONTEXT_WORDS_AFTER = 4
SIBLING_TEXT_LIMIT_CHARS = 24
EXPONENT_LIMIT = 40

_NUMBER = re.compile(
    r"(?P<digits>(?:\d{1,3}(?:,\d{3})++|\d++)(?:\.\d++)?|\.\d++)(?P<exponent>[eE][+-]?\d{1,2}(?![\w.]))?"
)
_TIME = re.compile(
    r"(?P<stamp>\d{4}-\d{2}-\d{2}T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)(?:Z|\+00:?00)?"
    r"|(?P<date>\d{4}-\d{2}-\d{2})"
    r"|(?P<clock>\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)(?:Z|UTC)?"
)
_CELL_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,2})?")
_CELL_STAMP = re.compile(r"\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:Z|\+00:?00))?")
_IDENTIFIER_BEFORE = re.compile(r"[A-Za-z_]$|[A-Za-z_)\]][-/.#]$|\d[.]$|#$")
_UNIT_AFTER = re.compile(r"%|bps?(?![a-z])|(?:k|K|M|B|bn|m?s)(?!\w)|[A-Z]{2,6}(?![\w-])")
_MINUS_SIGNS = "-\N{MINUS SIGN}"
_SIGNS = "+" + _MINUS_SIGNS
_MULTIPLIERS = {"k": 3, "K": 3, "M": 6, "B": 9, "bn": 9}
_WRITTEN_MULTIPLIERS = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9}
_MONTH_INTERVAL = "1M"
_LIST_NUMBER = re.compile(r"\d{1,3}[.)]$")
_NEXT_UNIT = re.compile(r"%|(?:bps?|basis|percent|pct)\b", re.IGNORECASE)
_LETTERS = re.compile(r"[A-Za-z]+")
_TOKEN = re.compile(r"\s+|\S+")
_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PATH_STEP = re.compile(r"\.([A-Za-z_][A-Za-z0-9_]*)|\[(\d+)\]|\['((?:[^'\\]|\\.)*)'\]")
_NAME_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")

_SAME_WORD = {
    "offer": "ask",
    "size": "quantity",
    "qty": "quantity",
    "amount": "quantity",
    "volume": "volume",
    "avg": "average",
    "mean": "average",
    "unrealized": "unrealised",
    "realized": "realised",
    "fee": "fee",
    "profit": "pnl",
    "loss": "pnl",
    "value": "notional",
    "midpoint": "mid",
    "maximum": "max",
    "minimum": "min",
    "low": "low",
    "position": "position",
}


class Figure(msgspec.Struct, frozen=True):
    """A figure of the answer. text is as printed; value is the source cell's own text, at path in the result of
    call_id. An unsourced figure has neither call_id nor path, and its value is its own text."""

    text: str
    value: str
    call_id: str | None
    path: str | None

    @property
    def sourced(self) -> bool:
        return self.path is not None


class Source(NamedTuple):
    """One tool result that figures may come from; data is JSON-able."""

    call_id: str
    tool: str
    data: Any


class Cell(NamedTuple):
    """A leaf of a tool result that a figure can equal."""

    call_index: int
    call_id: str
    path: str
    text: str
    words: frozenset[str]
    unit: str | None
    symbol: str | None = None


class _Token(NamedTuple):
    """A piece of text. number is set for a figure, stamp for a time; unit is bps or percent where it says so."""

    text: str
    number: Decimal | None = None
    stamp: str | None = None
    unit: str | None = None

    @property
    def is_figure(self) -> bool:
        return self.number is not None or self.stamp is not None


# --- paths -----------------------------------------------------------------------------------------------------------


class PathError(LookupError):
    """A JSON path that doesn't parse, or leads nowhere in the given data."""


def resolve(data: Any, path: str) -> Any:
    """The value at a JSON path of the form that `leaves` enumerates, e.g. ``$.bids[0].price``.

    Raises PathError.
    """
    if not path.startswith("$"):
        raise PathError(f"a path starts with $, this is {path!r}")
    position, value = 1, data
    while position < len(path):
        step = _PATH_STEP.match(path, position)
        if step is None:
            raise PathError(f"{path!r} can't be read from character {position}")
        key, index, quoted = step.groups()
        try:
            value = value[int(index)] if index is not None else value[key or _unquote(quoted)]
        except (KeyError, IndexError, TypeError) as error:
            raise PathError(f"{path!r} leads nowhere at {step.group()!r}") from error
        position = step.end()
    return value


def leaves(data: Any) -> Iterable[tuple[str, Any]]:
    """Every leaf of data with its JSON path, in document order. Inverse to `resolve`."""
    return ((path, value) for path, value, _ in _walk(data))


def _walk(data: Any) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Leaves with their path and the object that directly holds them."""
    stack: list[tuple[str, Any, dict[str, Any]]] = [("$", data, {})]
    while stack:
        path, value, holder = stack.pop()
        if isinstance(value, dict):
            stack.extend((path + _path_key(str(key)), item, value) for key, item in reversed(value.items()))
        elif isinstance(value, list | tuple):
            stack.extend((f"{path}[{index}]", value[index], {}) for index in reversed(range(len(value))))
        else:
            yield path, value, holder


def _path_key(key: str) -> str:
    if _PLAIN_KEY.fullmatch(key):
        return f".{key}"
    escaped = key.replace("\\", "\\\\").replace("'", "\\'")
    return f"['{escaped}']"


def _unquote(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)


# --- the text --------------------------------------------------------------------------------------------------------


def _decimal(digits: str) -> Decimal | None:
    try:
        value = Decimal(digits.replace(",", ""))
    except InvalidOperation:
        return None
    return value if value.is_finite() and abs(value.adjusted()) <= EXPONENT_LIMIT else None


def _sign_before(word: str, start: int) -> int:
    """Where the figure begins, with its sign and currency: a minus between two numbers is a range, not a sign."""
    begin = start
    if begin and word[begin - 1] in "$€£₿":
        begin -= 1
    if begin and word[begin - 1] in _SIGNS and (begin == 1 or word[begin - 2] in "([{\"'`*=:~≈<>|"):
        begin -= 1
    return begin


def _tokens_of_word(word: str) -> list[_Token]:
    """Split one whitespace-free word into plain text and figures."""
    tokens: list[_Token] = []
    plain_from = position = 0
    while position < len(word):
        stamp = _TIME.match(word, position)
        if stamp and _stands_alone(word, stamp.start(), stamp.end()):
            tokens.append(_Token(word[plain_from : stamp.start()]))
            tokens.append(_Token(stamp.group(), stamp=next(g for g in stamp.groups() if g)))
            plain_from = position = stamp.end()
            continue
        match = _NUMBER.match(word, position)
        if match is None:
            position += 1
            continue
        found = _number_token(word, match)
        if found is None:
            position = _end_of_name(word, match.end())
            continue
        begin, end, figure = found
        tokens.append(_Token(word[plain_from:begin]))
        tokens.append(figure)
        plain_from = position = end
    tokens.append(_Token(word[plain_from:]))
    return [token for token in tokens if token.text]


def _stands_alone(word: str, start: int, end: int) -> bool:
    return (start == 0 or not word[start - 1].isalnum()) and (end == len(word) or not word[end].isalnum())


def _end_of_name(word: str, position: int) -> int:
    while position < len(word) and (word[position].isalnum() or word[position] in "_."):
        position += 1
    return position


def _number_token(word: str, match: re.Match[str]) -> tuple[int, int, _Token] | None:
    """Where the figure at match begins and ends, and its token; None when the digits are part of a name."""
    if _IDENTIFIER_BEFORE.search(word, max(match.start() - 2, 0), match.start()):
        return None
    begin, end = _sign_before(word, match.start()), match.end()
    if re.match(r"\.\d", word[end:]):
        return None
    after = _UNIT_AFTER.match(word, end)
    suffix, unit, shift = after.group() if after else "", None, 0
    if not suffix and (word[end : end + 1].isalpha() or word[end : end + 1] == "_"):
        return None
    if suffix in _MULTIPLIERS:
        if word[match.start() : end + 1] == _MONTH_INTERVAL:
            return None
        end, shift = end + len(suffix), _MULTIPLIERS[suffix]
    elif suffix == "%":
        end, unit = end + 1, "percent"
    elif suffix in {"bp", "bps"}:
        unit = "bps"
    negative = any(mark in word[begin : match.start()] for mark in _MINUS_SIGNS)
    exponent = int((match.group("exponent") or "e0")[1:]) + shift
    number = _decimal(f"{'-' if negative else ''}{match.group('digits')}e{exponent}")
    if number is None:
        return None
    return begin, end, _Token(word[begin:end], number, unit=unit)


def _unit_word(word: str) -> str | None:
    match = _NEXT_UNIT.match(word)
    if match is None:
        return None
    return "bps" if match.group().lower() in {"bp", "bps", "basis"} else "percent"


def _times(number: Decimal | None, word: str) -> Decimal | None:
    """`1.5 million` states 1500000, whatever cell holds 1.5."""
    match = _LETTERS.match(word)
    power = _WRITTEN_MULTIPLIERS.get(match.group().lower().removesuffix("s")) if match else None
    return number if number is None or power is None else number.scaleb(power)


class _Scanner:
    """Cuts text into tokens. What comes out doesn't depend on how the text was cut going in."""

    def __init__(self) -> None:
        self._buffer = ""
        self._at_line_start = True

    def feed(self, text: str, *, final: bool = False) -> list[_Token]:
        """The tokens that are complete: a figure is once the word after it is, because that may be its unit."""
        self._buffer += text
        pieces = _cut_long_words(_TOKEN.findall(self._buffer))
        ready = len(pieces) if final else self._ready(pieces)
        out: list[_Token] = []
        for index in range(ready):
            following = next((p for p in pieces[index + 1 : index + 3] if not p.isspace()), "")
            out.extend(self._tokens(pieces[index], following, last=index + 1 == len(pieces)))
        self._buffer = "".join(pieces[ready:])
        return out

    @staticmethod
    def _ready(pieces: list[str]) -> int:
        """How many pieces are complete. The last one may still grow, and a figure before it may wait for its unit."""
        ready = max(len(pieces) - 1, 0)
        last_word = next((i for i in reversed(range(ready)) if not pieces[i].isspace()), None)
        if last_word is not None and any(token.is_figure for token in _tokens_of_word(pieces[last_word])):
            return last_word
        return ready

    def _tokens(self, piece: str, following: str, *, last: bool) -> list[_Token]:
        if piece.isspace():
            self._at_line_start = self._at_line_start or "\n" in piece
            return [_Token(piece)]
        line_start, self._at_line_start = self._at_line_start, False
        if line_start and not last and _LIST_NUMBER.match(piece):
            return [_Token(piece)]
        if line_start and piece in {"-", "*", ">", "#", "##", "###"}:
            self._at_line_start = True
        tokens = _tokens_of_word(piece)
        if tokens and tokens[-1].is_figure and tokens[-1].unit is None:
            tokens[-1] = tokens[-1]._replace(unit=_unit_word(following), number=_times(tokens[-1].number, following))
        return tokens


def _cut_long_words(pieces: list[str]) -> list[str]:
    out: list[str] = []
    for piece in pieces:
        out.extend(piece[i : i + WORD_LIMIT_CHARS] for i in range(0, len(piece), WORD_LIMIT_CHARS))
    return out


# --- the cells -------------------------------------------------------------------------------------------------------


class CellIndex:
    """The cells of a run's tool results, by value. At most CELLS_LIMIT cells are held; later ones are unsourced."""

    def __init__(self, sources: Iterable[tuple[str, str, Any]] = ()) -> None:
        self._numbers: dict[Decimal, list[Cell]] = {}
        self._stamps: list[tuple[str, Cell]] = []
        self._symbols: set[str] = set()
        self._calls = 0
        self._cells = 0
        for source in sources:
            self.add(*source)

    def add(self, call_id: str, tool: str, data: Any) -> None:
        """Take in one more result; a later call wins over an earlier one."""
        self._calls += 1
        for path, value, holder in _walk(data):
            if isinstance(value, bool) or value is None or self._cells >= CELLS_LIMIT:
                continue
            text = str(value)
            is_number = _CELL_NUMBER.fullmatch(text) is not None
            if is_number or _CELL_STAMP.fullmatch(text):
                self._cells += 1
                self._keep(_cell((self._calls, call_id, tool), path, text, holder), is_number)

    def _keep(self, cell: Cell, is_number: bool) -> None:
        if cell.symbol is not None:
            self._symbols.add(cell.symbol)
        if not is_number:
            self._stamps.append((re.sub(r"(Z|\+00:?00)$", "", cell.text), cell))
            return
        number = _decimal(cell.text)
        if number is None:
            return
        self._numbers.setdefault(number, []).append(cell)
        if cell.path.endswith("_ns") and number == number.to_integral_value() and 0 < number < 10**19:
            self._stamps.append((_stamp_text(int(number)), cell))

    def match(self, token: _Token, context: Sequence[str], subject: str | None = None) -> Cell | None:
        """The cell that a figure comes from: same value and unit, not another symbol's than the subject's where there
        is a choice, its key's words nearest, latest call."""
        if token.number is not None:
            cells = [cell for cell in self._numbers.get(token.number, ()) if _units_agree(token.unit, cell.unit)]
        else:
            stamp = token.stamp or ""
            cells = [cell for text, cell in self._stamps if _stamp_agrees(stamp, text)]
        if not cells:
            return None
        return max(cells, key=lambda cell: _rank(cell, context, subject))

    def subject(self, tokens: Sequence[_Token]) -> str | None:
        """The symbol that was named last in the line that tokens end with."""
        for token in reversed(tokens):
            words: list[str] = re.findall(r"[A-Za-z]\w*", token.text.lower())
            for word in reversed(words):
                if word in self._symbols:
                    return word
            if "\n" in token.text:
                break
        return None


def _stamp_text(timestamp_ns: int) -> str:
    fraction_ns = timestamp_ns % NS_PER_S
    return f"{format_utc_us(timestamp_ns)[:20]}{fraction_ns:09d}"


def _stamp_agrees(printed: str, cell: str) -> bool:
    """A time is the cell's own at the precision it is printed in: UTC, cut and not rounded."""
    if "-" in printed:
        return cell.startswith(printed) or printed.rstrip("0").rstrip(".") == cell
    return cell[11:].startswith(printed)


def _units_agree(printed: str | None, cell: str | None) -> bool:
    return printed is None or printed == cell


def _cell(call: tuple[int, str, str], path: str, text: str, holder: dict[str, Any]) -> Cell:
    call_index, call_id, tool = call
    words = {_same(part) for step in re.findall(r"[A-Za-z_]\w*", path) for part in _NAME_PART.findall(step)}
    words |= {_same(part) for part in tool.split("_")} - {"get"}
    words |= {v.lower() for v in holder.values() if isinstance(v, str) and 0 < len(v) <= SIBLING_TEXT_LIMIT_CHARS}
    key, unit = path.rsplit(".", 1)[-1], holder.get("unit")
    if key == "bps" or key.endswith("_bps") or unit == "bps":
        unit = "bps"
    elif "pct" in key or "percent" in key or unit in {"%", "pct", "percent"}:
        unit = "percent"
    else:
        unit = None
    symbol = holder.get("symbol")
    return Cell(
        call_index, call_id, path, text, frozenset(words), unit, symbol.lower() if isinstance(symbol, str) else None
    )


def _same(word: str) -> str:
    word = word.lower()
    if len(word) > 3 and word.endswith("s") and not word.endswith("ss"):
        word = word[:-1]
    return _SAME_WORD.get(word, word)


def _rank(cell: Cell, context: Sequence[str], subject: str | None) -> tuple[bool, float, int, int]:
    is_of_subject = subject is None or cell.symbol is None or cell.symbol == subject
    return is_of_subject, _nearness(cell.words, context), cell.call_index, -len(cell.path)


def _nearness(words: frozenset[str], context: Sequence[str]) -> float:
    """How near the key's words stand in the text: context runs outwards from the figure."""
    seen: set[str] = set()
    score = 0.0
    for distance, word in enumerate(context, start=1):
        if word in words and word not in seen:
            seen.add(word)
            score += 1.0 / distance
    return score


# --- grounding -------------------------------------------------------------------------------------------------------


def ground(answer: str, results: Iterable[tuple[str, str, Any]]) -> list[Figure]:
    """Each figure of the answer in order, with the cell that it comes from.

    results are (call_id, tool, data) in the order of the calls.
    """
    index = CellIndex(results)
    tokens = _Scanner().feed(answer, final=True)
    return [
        _figure(token, index.match(token, _context(tokens, position), index.subject(tokens[:position])))
        for position, token in enumerate(tokens)
        if token.is_figure
    ]


def _figure(token: _Token, cell: Cell | None) -> Figure:
    if cell is None:
        return Figure(token.text, token.text, None, None)
    return Figure(token.text, cell.text, cell.call_id, cell.path)


def _context(tokens: Sequence[_Token], position: int) -> list[str]:
    """Words around a figure, nearest first; of two at one distance the one before it counts as nearer."""
    before = _words(reversed(tokens[max(position - 4 * CONTEXT_WORDS_BEFORE, 0) : position]), reverse=True)
    after = _words(iter(tokens[position + 1 : position + 1 + 4 * CONTEXT_WORDS_AFTER]), reverse=False)
    out: list[str] = []
    for distance in range(CONTEXT_WORDS_BEFORE):
        out.extend(before[distance : distance + 1])
        if distance < CONTEXT_WORDS_AFTER:
            out.extend(after[distance : distance + 1])
    return out


def _words(tokens: Iterable[_Token], *, reverse: bool) -> list[str]:
    words: list[str] = []
    for token in tokens:
        if not token.is_figure:
            found = [_same(part) for part in re.findall(r"[A-Za-z]\w*", token.text)]
            words.extend(reversed(found) if reverse else found)
    return words


class GroundingFilter:
    """The streaming form: fed text as it comes, it lets out the same text with unsourced figures marked.

    A figure is held back until it is complete, a word at most. Results may be added while text runs; they count for
    what has not been let out yet.
    """

    def __init__(self, results: Iterable[tuple[str, str, Any]] = ()) -> None:
        self._index = CellIndex(results)
        self._scanner = _Scanner()
        self.unsourced = 0

    def add_result(self, call_id: str, tool: str, data: Any) -> None:
        self._index.add(call_id, tool, data)

    def feed(self, text: str) -> str:
        """The text that can go out now."""
        return self._marked(self._scanner.feed(text))

    def finish(self) -> str:
        """What was held back."""
        return self._marked(self._scanner.feed("", final=True))

    def _marked(self, tokens: list[_Token]) -> str:
        out: list[str] = []
        for token in tokens:
            out.append(token.text)
            if token.is_figure and self._index.match(token, ()) is None:
                self.unsourced += 1
                out.append(UNSOURCED_MARK)
        return "".join(out)
