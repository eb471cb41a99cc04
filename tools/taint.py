"""Taint: no argument of a suggestion may come from untrusted text alone.

Once a conversation has been shown text from outside, every argument of a suggest tool has to be vouched for, by value:
by the human's own words, or, where the human left it open, by a cell of a trusted result that is of the argument's
kind, or by a named calculation on those (an amount over a price, a share of a holding, an offset from a price). What
nobody vouches for is refused, also when it can't be found in the untrusted text: a model may have been told to decode
it. Callers whose conversation isn't visible here are held by value: what stands in untrusted text that they were
lately shown, and in no trusted result, is refused.

What a call was given doesn't vouch: an injected quantity that a read tool echoes is no more trusted for it.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any, Protocol

import msgspec

from core.text.figures import leaves
from core.types.codes import ReasonCode, RefusalError, refuse
from core.types.money import decimal_text
from core.types.views import InstrumentView
from tools._vocabulary import ACTIONS, BUY, SELL, SYNONYMS
from tools.arguments import plain_text
from tools.instruments import normalise_symbol
from tools.said import PERCENT, Said, every_number, fold, instruments_named, listen
from tools.untrusted import Marks, neutralised
from tools.values import ToolInput

TOLERANCE = Decimal("0.01")
"""How far a named calculation may be off for the rounding to a lot or a tick."""

RESULTS_LIMIT = 500
WINDOW_MINUTES = 30
VALUE_SHOWN_LIMIT_CHARS = 80

_BPS_PER_UNIT = Decimal(10_000)
_POSITION_TOOLS = frozenset({"get_positions", "get_balances"})
_FREE_TEXT = frozenset({"rationale", "reason", "note", "notes", "comment", "query"})
_SIDE_WORDS = {"BUY": BUY, "LONG": BUY, "SELL": SELL, "SHORT": SELL}
_OPPOSITE = {BUY: SELL, SELL: BUY}
_USUAL_WORDS = frozenset({"LIMIT", "GTC"})
ALL_UNLESS_GIVEN = {"suggest_close": "quantity", "suggest_hedge": "hedge_ratio_bps"}
"""What a tool takes all of where it isn't told how much."""
_ANCHORS = ("BID", "ASK", "MID")
_ENCODED = re.compile(r"[A-Za-z0-9+/_-]{4,}={0,2}")
_ID_END = re.compile(r"[^A-Za-z0-9_:-]")


class Kind(StrEnum):
    """What an argument says, told by its name and value; each kind is vouched for in its own way."""

    ACCOUNT = "account"
    SYMBOL = "symbol"
    SIDE = "side"
    IDENTIFIER = "identifier"
    PRICE = "price"
    QUANTITY = "quantity"
    AMOUNT = "amount"
    RATE = "rate"
    DURATION = "duration"
    NUMBER = "number"
    WORD = "word"


class SeenResult(msgspec.Struct, frozen=True):
    """A result that was released earlier in the conversation, and what its call was given. arguments is None where
    that isn't known: nothing in such a result vouches."""

    tool: str
    account_id: str | None
    data: Any
    arguments: Any


class Conversation(msgspec.Struct, frozen=True):
    """What the gateway knows of a conversation. said is newest first; None when the words of the one who asks aren't
    visible here. complete is False when there was more than could be read. foreign is what was sent as the assistant's
    earlier words and isn't: text from outside."""

    said: tuple[str, ...] | None
    seen: tuple[SeenResult, ...]
    complete: bool = True
    foreign: tuple[str, ...] = ()


class Conversations(Protocol):
    """Where the history of a conversation is read. Raises RefusalError(SERVICE_DATABASE_UNAVAILABLE)."""

    async def of_run(self, account_ids: tuple[str, ...], user_id: str, run_id: str) -> Conversation:
        """The run's whole thread, as far as that user asked. A run that isn't known has no words."""
        ...

    async def of_caller(self, account_ids: tuple[str, ...], user_id: str) -> Conversation:
        """What was released to that user outside of runs within WINDOW_MINUTES; said is None."""
        ...


class SeenTool(msgspec.Struct, frozen=True):
    """What taint needs to know of a tool: the marks of its output, and whether it reads an account."""

    marks: Marks
    of_account: bool


@dataclass(frozen=True, slots=True)
class _Cell:
    """A trusted value: whose symbol and side it is, which ids stand beside it, and whether it belongs to an account."""

    name: str
    text: str
    symbol: str | None
    side: str | None
    beside: frozenset[str]
    of_account: bool
    of_position: bool


@dataclass(slots=True)
class Evidence:
    """What the conversation holds: trusted cells, and untrusted texts with where they came from."""

    cells: list[_Cell] = field(default_factory=list)
    untrusted: list[tuple[str, str]] = field(default_factory=list)
    complete: bool = True

    @property
    def is_exposed(self) -> bool:
        """Whether text from outside was read, or may have been."""
        return bool(self.untrusted) or not self.complete

    def of_account(self) -> Iterator[_Cell]:
        return (cell for cell in self.cells if cell.of_account)

    def positions(self, symbol: str | None) -> Iterator[_Cell]:
        return (cell for cell in self.cells if cell.of_position and cell.symbol in {None, symbol})

    def numbers(self, kind: Kind, symbol: str | None) -> Iterator[_Cell]:
        for cell in self.cells:
            if _is_number(cell.text) and _kind(cell.name, cell.text) is kind and cell.symbol in {None, symbol}:
                yield cell


def evidence_of(conversation: Conversation, tools: Mapping[str, SeenTool]) -> Evidence:
    """A result of a tool that isn't known here (a replica of another release stored it) is untrusted as a whole."""
    out = Evidence(complete=conversation.complete)
    out.untrusted += [(text, "an earlier answer that isn't this service's") for text in conversation.foreign]
    for result in conversation.seen:
        tool = tools.get(result.tool)
        marks: Marks = True if tool is None or result.arguments is None else tool.marks
        _, paths = neutralised(result.data, marks)
        untrusted = frozenset(paths)
        is_refusal = isinstance(result.data, dict) and result.data.keys() == {"refusal"}
        given = {_spelt(value) for _, value in leaves(result.arguments)} if result.arguments else set()
        for path, value in leaves(result.data):
            if not isinstance(value, str):
                continue
            plain_path = path.replace("['", ".").replace("']", "")
            if plain_path in untrusted:
                out.untrusted.append((value, f"{result.tool} {path}"))
            elif tool is not None and not is_refusal and _spelt(value) not in given:
                parent = _parent(result.data, path)
                out.cells.append(
                    _Cell(
                        name=_name_of(path),
                        text=value,
                        symbol=_symbol_of(parent) or _symbol_of(result.data),
                        side=_side_of(parent),
                        beside=_ids_of(parent),
                        of_account=tool.of_account,
                        of_position=tool.of_account and result.tool in _POSITION_TOOLS,
                    )
                )
    return out


class TaintGuard:
    """Checks the arguments of one suggestion against its conversation."""

    def __init__(
        self,
        conversation: Conversation,
        evidence: Evidence,
        instruments: list[InstrumentView],
        account_ids: tuple[str, ...],
    ) -> None:
        self._evidence = evidence
        self._visible = conversation.said is not None
        self._account_ids = account_ids
        self._symbols = frozenset(instrument.symbol for instrument in instruments)
        assets = frozenset(instrument.base_asset.lower() for instrument in instruments)
        self._said: list[Said] = [listen(text, assets) for text in conversation.said or ()]
        self._named = next(
            (named for said in self._said if (named := instruments_named(said.folded, instruments))), frozenset[str]()
        )
        self._named_last = instruments_named(self._said[0].folded, instruments) if self._said else frozenset[str]()
        self._symbol: str | None = None
        self._identifiers: frozenset[str] = frozenset()

    def check(self, tool: str, arguments: ToolInput) -> None:
        """Raises RefusalError(TOOL_ARGUMENT_TAINTED), naming the argument, its value and where the value came from."""
        given = list(_given(arguments))
        self._symbol = next((normalise_symbol(v) for name, v in given if _kind(name, v) is Kind.SYMBOL), None)
        self._identifiers = frozenset(str(v) for name, v in given if _kind(name, v) is Kind.IDENTIFIER)
        if self._symbol is None:
            orders = (cell for cell in self._evidence.of_account() if self._identifiers & cell.beside)
            self._symbol = next((cell.symbol for cell in orders if cell.symbol), None)
        if self._visible and not self._is_wanted(tool):
            raise self._refusal(tool, "tool", tool)
        for name, value in given:
            kind = _kind(name, value)
            if not (self._vouched(kind, name, value) if self._visible else self._clean_by_value(kind, value)):
                raise self._refusal(tool, name, value)
        left_out = ALL_UNLESS_GIVEN.get(tool)
        if left_out is not None and self._visible and left_out not in dict(given) and self._is_part_meant(tool):
            raise self._refusal(tool, left_out, "all of it")

    def _is_part_meant(self, tool: str) -> bool:
        """Whether the newest words that ask for it speak of a part, and not of all as well."""
        asked = next((said for said in self._said if said.words & ACTIONS[tool]), None)
        return asked is not None and asked.says_part and Decimal(1) not in asked.shares

    # --- a conversation that is visible: somebody has to vouch ---------------------------------------------------

    def _is_wanted(self, tool: str) -> bool:
        """Whether the human asked for such a suggestion at all: an instruction may also choose the tool."""
        wanted = ACTIONS.get(tool, frozenset(tool.split("_")[1:]))
        return any(said.words & wanted or (said.sides and tool == "suggest_order") for said in self._said)

    def _vouched(self, kind: Kind, name: str, value: Any) -> bool:
        match kind:
            case Kind.ACCOUNT:
                return len(self._account_ids) == 1 or self._is_named(str(value))
            case Kind.SYMBOL:
                return self._symbol_vouched(normalise_symbol(str(value)))
            case Kind.SIDE:
                return self._side_vouched(_SIDE_WORDS.get(str(value).upper(), ""))
            case Kind.IDENTIFIER:
                return self._identifier_vouched(str(value))
            case Kind.PRICE:
                return self._price_vouched(_number(value))
            case Kind.QUANTITY:
                return self._quantity_vouched(_number(value))
            case Kind.AMOUNT:
                said = self._all("amounts") | self._all("numbers")
                return _number(value) in said or self._is_part_of_limit(name, _number(value))
            case Kind.RATE:
                is_part = name == "hedge_ratio_bps" and _number(value) / _BPS_PER_UNIT in self._all("shares")
                return is_part or _number(value) in self._all("rates_bps")
            case Kind.DURATION:
                return _number(value) in self._all("durations_s")
            case Kind.NUMBER:
                return _number(value) in self._all("numbers") or self._is_part_of_limit(name, _number(value))
            case Kind.WORD:
                return self._word_vouched(name, value)

    def _all(self, what: str) -> frozenset[Decimal]:
        return frozenset().union(*(getattr(said, what) for said in self._said))

    def _is_named(self, value: str) -> bool:
        wanted = fold(value).lower()
        return any(wanted in _ID_END.split(said.folded.lower()) for said in self._said)

    def _symbol_vouched(self, symbol: str) -> bool:
        if self._named:
            return symbol in self._named
        held = {cell.symbol for cell in self._evidence.of_account()}
        return symbol in held or self._symbols == {symbol}

    def _side_vouched(self, side: str) -> bool:
        sides = next((said.sides for said in self._said if said.sides), frozenset[str]())
        if sides:
            return side in sides
        closing = {_OPPOSITE.get(cell.side or "") for cell in self._evidence.positions(self._symbol)}
        return any(said.closes for said in self._said) and side in closing

    def _identifier_vouched(self, value: str) -> bool:
        if self._is_named(value):
            return True
        known = [cell for cell in self._evidence.of_account() if _kind(cell.name, cell.text) is Kind.IDENTIFIER]
        if any(self._is_named(cell.text) for cell in known):
            return False
        return any(cell.text == value and (not self._named or cell.symbol in self._named) for cell in known)

    def _is_of_named_order(self, value: Decimal, kind: Kind) -> bool:
        """Whether the value stays what it is in the order that the arguments name."""
        return any(
            cell.of_account and self._identifiers & cell.beside and _number(cell.text) == value
            for cell in self._evidence.numbers(kind, self._symbol)
        )

    def _is_part_of_limit(self, name: str, value: Decimal) -> bool:
        """Named calculation: a part that the human said, of that limit of the mandate that the arguments name."""
        limits = (
            _number(cell.text)
            for cell in self._evidence.of_account()
            if cell.name == name and self._identifiers & cell.beside and _is_number(cell.text)
        )
        parts = self._all("shares") - {Decimal(1)}
        return any(value in {part * limit, part * limit // 1} for limit in limits for part in parts)

    def _price_vouched(self, price: Decimal) -> bool:
        spoken = self._all("prices") or self._all("numbers") - self._all("quantities") - self._all("amounts")
        if price in spoken or self._is_of_named_order(price, Kind.PRICE):
            return True
        quoted = frozenset(_number(cell.text) for cell in self._evidence.numbers(Kind.PRICE, self._symbol))
        if not self._all("prices") and price in quoted:
            return True
        if not any(said.is_relative for said in self._said):
            return False
        return any(_near(price, offset) for base in spoken | quoted for offset in self._offsets(base))

    def _offsets(self, base: Decimal) -> Iterator[Decimal]:
        """Named calculation: a price off another by a rate or a number that the human said."""
        for rate in self._all("rates_bps"):
            yield base * (1 + rate / _BPS_PER_UNIT)
            yield base * (1 - rate / _BPS_PER_UNIT)
        for number in self._all("numbers"):
            yield base + number
            yield base - number

    def _quantity_vouched(self, quantity: Decimal) -> bool:
        sized, amounts = self._all("quantities"), self._all("amounts")
        latest = self._said[0].numbers - self._said[0].prices - self._said[0].amounts if self._said else frozenset()
        spoken = sized | latest if sized else self._all("numbers") - self._all("prices") - amounts
        if quantity in spoken or self._is_of_named_order(quantity, Kind.QUANTITY):
            return True
        # Named calculation: an amount of quote currency over a price.
        prices = {_number(cell.text) for cell in self._evidence.numbers(Kind.PRICE, self._symbol)}
        if any(_rounds_to(quantity * price, a) for a in amounts for price in prices | self._all("prices")):
            return True
        shares = self._all("shares")
        if (sized or amounts) and not shares:
            return False
        # Named calculation: a share of a position; the whole of it where the human gave no size.
        held = {
            _number(cell.text)
            for cell in self._evidence.positions(self._symbol)
            if _is_number(cell.text) and _kind(cell.name, cell.text) is Kind.QUANTITY
        }
        return any(_rounds_to(quantity, share * size) for size in held for share in (shares or {Decimal(1)}))

    def _word_vouched(self, name: str, value: Any) -> bool:
        words = frozenset().union(*(said.words for said in self._said))
        spelling = name if isinstance(value, bool) else str(value)
        if (name, spelling) == ("scope", "ACCOUNT") and self._named_last:
            return False  # who names an instrument doesn't mean every other one
        synonyms, parts = SYNONYMS.get(spelling, frozenset()), frozenset(re.findall(r"[a-z0-9]+", spelling.lower()))
        if words & synonyms or parts <= words or spelling.upper() in _USUAL_WORDS:
            return True
        if spelling in _ANCHORS:
            named = [anchor for anchor in _ANCHORS if words & SYNONYMS[anchor]]
            return not named and not self._all("prices")
        return spelling == "MARKET" and not self._all("prices")

    # --- a caller whose words aren't visible: what was lately shown is held against it ----------------------------

    def _clean_by_value(self, kind: Kind, value: Any) -> bool:
        if kind in {Kind.WORD, Kind.SIDE}:
            return True
        spelt = _spelt(value)
        return any(_spelt(cell.text) == spelt for cell in self._evidence.cells) or self._source(value) is None

    # --- what is said about it -----------------------------------------------------------------------------------

    def _source(self, value: Any) -> str | None:
        """Which untrusted text holds the value; None when none does."""
        number = _number(value) if _is_number(value) else None
        wanted = _letters(value)
        for text, source in self._evidence.untrusted:
            for spelling in _spellings(text):
                if number is not None:
                    if number in every_number(spelling):
                        return source
                elif wanted and wanted in _letters(spelling):
                    return source
        return None

    def _refusal(self, tool: str, name: str, value: Any) -> RefusalError:
        shown = plain_text(_shown(value), VALUE_SHOWN_LIMIT_CHARS)
        source = self._source(value)
        if source is not None:
            why = f"comes from text of outside ({source}) and from nowhere else"
        else:
            first = self._evidence.untrusted[0][1] if self._evidence.untrusted else "a conversation too long to search"
            why = f"stands neither in what was asked nor in a trusted result, after text of outside was read ({first})"
        return refuse(
            ReasonCode.TOOL_ARGUMENT_TAINTED,
            f"{tool}: {name} {shown} {why}. If it is meant, say it in your own words.",
            limit="what the user said or a trusted result",
            actual=shown,
            unit=name,
        )


def _given(arguments: ToolInput) -> Iterator[tuple[str, Any]]:
    """The arguments that differ from their defaults, leaf by leaf, each under the name nearest to it."""
    yield from _named_leaves(arguments.model_dump(mode="python", exclude_unset=True, exclude_defaults=True), "")


def _named_leaves(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _named_leaves(item, str(key))
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _named_leaves(item, name)
    elif isinstance(value, Enum):
        yield from _named_leaves(value.value, name)
    elif value is not None and value is not False and name not in _FREE_TEXT:
        yield name, value


def _kind(name: str, value: Any) -> Kind:
    lower = name.lower()
    if lower == "account_id":
        return Kind.ACCOUNT
    if lower.endswith("symbol") or lower.endswith("symbols"):
        return Kind.SYMBOL
    if lower in {"side", "direction"}:
        return Kind.SIDE
    if lower.endswith(("_id", "_ids")) or lower == "id":
        return Kind.IDENTIFIER
    return _kind_of_number(lower) if _is_number(value) else Kind.WORD


def _kind_of_number(name: str) -> Kind:
    if name.endswith("_bps"):
        return Kind.RATE
    if name.endswith(("_s", "_ms", "_ns", "_minutes")):
        return Kind.DURATION
    if any(part in name for part in ("notional", "amount", "_quote")):
        return Kind.AMOUNT
    if "price" in name:
        return Kind.PRICE
    return Kind.QUANTITY if "quantity" in name or name.endswith("size") else Kind.NUMBER


def _is_number(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int | Decimal):
        return True
    return isinstance(value, str) and re.fullmatch(r"-?\d{1,20}(?:\.\d{1,20})?", value) is not None


def _number(value: Any) -> Decimal:
    """Without its sign: `10 bps below` is an offset of -10."""
    return abs(Decimal(str(value)))


def _near(value: Decimal, exact: Decimal) -> bool:
    return exact > 0 and abs(value - exact) <= exact / _BPS_PER_UNIT


def _rounds_to(value: Decimal, exact: Decimal) -> bool:
    return exact > 0 and exact * (1 - TOLERANCE) <= value <= exact * (1 + TOLERANCE / PERCENT)


def _spelt(value: Any) -> str:
    """One spelling for equal values."""
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, bool) or value is None:
        return str(value).lower()
    return decimal_text(_number(value).normalize()) if _is_number(value) else _letters(value)


def _shown(value: Any) -> str:
    return decimal_text(value) if isinstance(value, Decimal) else str(value)


def _letters(value: Any) -> str:
    """Letters and digits in one case: btc/usdt and BTC-USDT are one."""
    return re.sub(r"[\W_]", "", fold(str(value))).lower()


def _spellings(text: str) -> Iterable[str]:
    """The text, and what its parts decode to: an instruction may come in base64 or hex."""
    yield text
    for match in _ENCODED.finditer(text):
        for decode in (_from_base64, bytes.fromhex):
            try:
                decoded = decode(match.group()).decode()
            except (ValueError, binascii.Error):
                continue
            if decoded.isprintable():
                yield decoded


def _from_base64(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_" if "-" in text or "_" in text else None)


def _name_of(path: str) -> str:
    return re.sub(r"\[\d+\]$", "", path).rsplit(".", 1)[-1].rsplit("['", 1)[-1].removesuffix("']")


def _parent(data: Any, path: str) -> Any:
    steps = re.findall(r"\.([A-Za-z_][A-Za-z0-9_]*)|\[(\d+)\]|\['((?:[^'\\]|\\.)*)'\]", path)
    parent = None
    for name, index, quoted in steps:
        if isinstance(data, dict):
            parent, data = data, data.get(name or quoted)
        elif isinstance(data, list):
            data = data[int(index)]
    return parent


def _symbol_of(value: Any) -> str | None:
    symbol = value.get("symbol") if isinstance(value, dict) else None
    return normalise_symbol(symbol) if isinstance(symbol, str) else None


def _side_of(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    return _SIDE_WORDS.get(str(value.get("direction") or value.get("side") or "").upper())


def _ids_of(value: Any) -> frozenset[str]:
    if not isinstance(value, dict):
        return frozenset()
    return frozenset(item for name, item in value.items() if name.endswith("_id") and isinstance(item, str))
