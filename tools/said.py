"""What a message in plain words says: numbers in their spellings, sides, instruments, shares. Pure and bounded.

Used to tell whether an argument of a suggestion stands in what the human said, so it reads widely: 70,000, 7e4, 70k,
full-width digits and number words are one number. What it can't read, the human is asked to say otherwise.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from itertools import islice

import msgspec

from core.types.views import InstrumentView
from tools import _vocabulary as vocabulary
from tools._vocabulary import BUY, SELL

TEXT_LIMIT_CHARS = 8_000
NUMBERS_LIMIT = 500
WORDS_LIMIT = 2_000
EXPONENT_LIMIT = 18
PERCENT = Decimal(100)
USUAL_QUOTE = "USDT"

_WORD = re.compile(r"[^\W_]+", re.UNICODE)
_LATIN_WORD = re.compile(r"[A-Za-z]+")
_TOKEN = re.compile(r"[A-Za-z0-9]+(?:[/:_\-][A-Za-z0-9]+)*")
_NEXT_WORD = re.compile(r"[\s-]+([A-Za-z0-9]+)")
_PART_PLACES = range(2, 9)
_CUE_WINDOW_CHARS = 48


class Said(msgspec.Struct, frozen=True):
    """What one message says. prices, quantities and amounts are those numbers that their surroundings name so
    (amounts are in quote currency); shares are parts of a holding, 1 is all of it; durations_s are in seconds,
    rates_bps in basis points; all are without sign."""

    numbers: frozenset[Decimal]
    prices: frozenset[Decimal]
    quantities: frozenset[Decimal]
    amounts: frozenset[Decimal]
    shares: frozenset[Decimal]
    says_part: bool
    rates_bps: frozenset[Decimal]
    durations_s: frozenset[Decimal]
    sides: frozenset[str]
    closes: bool
    is_relative: bool
    words: frozenset[str]
    folded: str


def fold(text: str) -> str:
    """text in one spelling: compatibility forms and look-alike letters as plain ones, invisible ones gone."""
    if text.isascii():
        return text
    plain = unicodedata.normalize("NFKC", text).translate(vocabulary.LOOKALIKES)
    out = []
    for character in plain:
        digit = unicodedata.decimal(character, None)
        if digit is not None:
            out.append(str(digit))
        elif unicodedata.category(character) not in {"Cf", "Cc", "Cn", "Co"} or character in "\n\t":
            out.append(character)
    return "".join(out)


def listen(text: str, assets: frozenset[str]) -> Said:
    """What a message says. assets are the base assets that there are, in lower case."""
    folded = fold(text[:TEXT_LIMIT_CHARS])
    lower = folded.lower()
    words = _WORD.findall(lower)
    found = _Numbers(folded, assets)
    sides = {BUY for word in words if word in vocabulary.BUY_WORDS} | {
        SELL for word in words if word in vocabulary.SELL_WORDS
    }
    sides |= {BUY} if vocabulary.BUY_PHRASES.search(lower) else set()
    sides |= {SELL} if vocabulary.SELL_PHRASES.search(lower) else set()
    is_relative = vocabulary.RELATIVE.search(lower) is not None
    parts = {vocabulary.PARTS[word] for word in words if word in vocabulary.PARTS}
    percents = {rate / (PERCENT * PERCENT) for rate in found.percents if rate <= PERCENT * PERCENT}
    # Beside a price a percentage may be how far it is off.
    says_part = bool(parts) or (bool(percents) and not is_relative)
    is_whole = any(word in vocabulary.WHOLE for word in words) or (
        not says_part and any(word in vocabulary.WHOLE_UNLESS_A_PART for word in words)
    )
    return Said(
        numbers=frozenset(found.numbers),
        prices=frozenset(found.prices),
        quantities=frozenset(found.quantities),
        amounts=frozenset(found.amounts),
        shares=frozenset(parts | percents | ({Decimal(1)} if is_whole else set())),
        says_part=says_part,
        rates_bps=frozenset(found.rates_bps),
        durations_s=frozenset(found.durations_s),
        sides=frozenset(sides),
        closes=any(word in vocabulary.CLOSING for word in words),
        is_relative=is_relative,
        words=frozenset(words),
        folded=folded,
    )


def instruments_named(folded: str, instruments: Iterable[InstrumentView]) -> frozenset[str]:
    """The symbols that a folded text names: by symbol in any spelling, or by base asset. A base alone means its pair
    with a quote that the text names, else with USDT, else any of its pairs."""
    tokens = _TOKEN.findall(folded)
    joined = {re.sub(r"[^A-Za-z0-9]", "", token).upper() for token in tokens}
    bases: set[str] = set()
    for token in tokens:
        for part in re.split(r"[/:_\-]", token):
            lower = part.lower()
            if lower not in vocabulary.WORDS_TOO or part.isupper():
                bases.add(vocabulary.ALIASES.get(lower, lower).upper())
    named: set[str] = set()
    pairs: dict[str, list[InstrumentView]] = {}
    for instrument in instruments:
        if instrument.symbol in joined:
            named.add(instrument.symbol)
        elif instrument.base_asset in bases:
            pairs.setdefault(instrument.base_asset, []).append(instrument)
    for base, options in pairs.items():
        if any(symbol.startswith(base) for symbol in named):
            continue
        chosen = [option for option in options if option.quote_asset in joined] or [
            option for option in options if option.quote_asset == USUAL_QUOTE
        ]
        named |= {option.symbol for option in chosen or options}
    return frozenset(named)


def readings(raw: str) -> frozenset[Decimal]:
    """Every number that the digits of raw can mean: 64,000 is 64000, and 64 for who writes commas for points."""
    text, _, exponent = raw.lower().partition("e")
    text = re.sub(r"[_'\u2019\u00a0\u202f ]", "", text)
    spellings: set[str] = set()
    if "," in text and "." in text:
        last = max(text.rfind(","), text.rfind("."))
        spellings.add(re.sub(r"[.,]", "", text[:last]) + "." + text[last + 1 :])
    elif text.count(",") == 1:
        spellings.add(text.replace(",", "."))
        if re.fullmatch(r"[1-9]\d{0,2},\d{3}", text):
            spellings.add(text.replace(",", ""))
    elif text.count(".") == 1:
        spellings.add(text)
        if re.fullmatch(r"[1-9]\d{0,2}\.\d{3}", text):
            spellings.add(text.replace(".", ""))
    else:
        spellings.add(re.sub(r"[.,]", "", text))
    out = set()
    for spelling in spellings:
        number = _decimal(spelling + (f"e{exponent}" if exponent else ""))
        if number is not None:
            out.add(number)
    return frozenset(out)


def plain_reading(raw: str) -> frozenset[Decimal]:
    """The number that raw means to who writes points for fractions: 64,000 is 64000 and 1.500 is one and a half."""
    found = readings(raw)
    if len(found) < 2:
        return found
    # The grouping comma is usual in English, the grouping point isn't.
    return frozenset({max(found)} if "," in raw else {min(found)})


def every_number(text: str) -> frozenset[Decimal]:
    """All numbers that a text can be read to hold, in every spelling."""
    found = _Numbers(fold(text), frozenset(), widely=True)
    return frozenset(found.numbers | found.durations_s | found.rates_bps)


class _Numbers:
    """One pass over a folded text."""

    def __init__(self, text: str, assets: frozenset[str], *, widely: bool = False) -> None:
        self.numbers: set[Decimal] = set()
        self.prices: set[Decimal] = set()
        self.quantities: set[Decimal] = set()
        self.amounts: set[Decimal] = set()
        self.rates_bps: set[Decimal] = set()
        self.percents: set[Decimal] = set()
        self.durations_s: set[Decimal] = set()
        self._text = text
        self._assets = assets
        self._read = readings if widely else plain_reading
        self._widely = widely
        for count, match in enumerate(vocabulary.RAW_NUMBER.finditer(text)):
            if count >= NUMBERS_LIMIT:
                break
            self._take(self._read(match.group()), match.start(), match.end())
        for match in vocabulary.SPACED_GROUPS.finditer(text):
            self._take(self._read(match.group()), match.start(), match.end())
        self._take_words(self._take_parts())

    def _take_parts(self) -> str:
        """`half a bitcoin`, `a tenth of a BTC`; the text without them."""

        def take(match: re.Match[str]) -> str:
            part = vocabulary.PARTS[match.group(1).lower()]
            if not self._is_asset(match.group(2)):
                return match.group()
            spelt = {part.quantize(Decimal(1).scaleb(-places)) for places in _PART_PLACES}
            self.numbers |= spelt
            self.quantities |= spelt
            return " " * len(match.group())

        return vocabulary.PART_OF.sub(take, self._text)

    def _is_asset(self, word: str) -> bool:
        lower = word.lower()
        return vocabulary.ALIASES.get(lower, lower) in self._assets or lower in vocabulary.THINGS

    def _take(self, values: frozenset[Decimal], start: int, end: int) -> None:
        unit_match = vocabulary.UNIT_AFTER.match(self._text, end)
        unit = unit_match.group(1).lower() if unit_match else ""
        scaled = values
        if unit in vocabulary.MULTIPLIERS:
            assert unit_match is not None
            scaled = frozenset(value.scaleb(vocabulary.MULTIPLIERS[unit]) for value in values)
            end = unit_match.end()
            unit_match = vocabulary.UNIT_AFTER.match(self._text, end)
            unit = unit_match.group(1).lower() if unit_match else ""
        self.numbers |= scaled | (values if self._widely else frozenset())
        if unit in vocabulary.SECONDS:
            self.durations_s |= {value * vocabulary.SECONDS[unit] for value in scaled}
        if unit in vocabulary.RATES:
            rates = {value * vocabulary.RATES[unit] for value in scaled}
            self.rates_bps |= rates
            if vocabulary.RATES[unit] == PERCENT:
                self.percents |= rates
            return
        self._sort(scaled, start, end, unit)

    def _sort(self, values: frozenset[Decimal], start: int, end: int, unit: str) -> None:
        before = self._text[max(0, start - _CUE_WINDOW_CHARS) : start]
        is_amount = vocabulary.QUOTE_AFTER.match(self._text, end) is not None or before.rstrip()[-1:] in {"$", "€"}
        if unit and self._is_asset(unit):
            self.quantities |= values
        elif vocabulary.PRICE_CUE.search(before):
            self.prices |= values
        elif is_amount:
            self.amounts |= values
        elif vocabulary.QUANTITY_CUE.search(before):
            self.quantities |= values

    def _take_words(self, text: str) -> None:
        """English number words: `two and a half`, `sixty four thousand`, `zero point one`."""
        spoken = _Spoken()
        for match in islice(_LATIN_WORD.finditer(text), WORDS_LIMIT):
            word = match.group().lower()
            if spoken.started and text[spoken.end : match.start()].strip() not in {"", "-"}:
                self._finish(spoken)
            if word in vocabulary.ARTICLES and not spoken.started:
                following = _NEXT_WORD.match(text, match.end())
                next_word = following.group(1).lower() if following else ""
                if next_word in vocabulary.SCALES or self._is_asset(next_word):
                    spoken.start(match.start(), match.end())
                    spoken.current = Decimal(1)
            elif not spoken.take(word, match.start(), match.end()):
                self._finish(spoken)
        self._finish(spoken)

    def _finish(self, spoken: _Spoken) -> None:
        if spoken.started:
            self._take(frozenset({spoken.value()}), spoken.begin, spoken.end)
        spoken.clear()


class _Spoken:
    """A number in words, as far as it was heard."""

    def __init__(self) -> None:
        self.begin = self.end = 0
        self.clear()

    def clear(self) -> None:
        self.started = False
        self.total = self.current = Decimal(0)
        self.fraction: str | None = None

    def start(self, begin: int, end: int) -> None:
        self.started = True
        self.begin, self.end = begin, end

    def value(self) -> Decimal:
        return self.total + self.current + (Decimal("0." + self.fraction) if self.fraction else 0)

    def take(self, word: str, begin: int, end: int) -> bool:
        """Whether the word belongs to the number."""
        number = vocabulary.NUMBER_WORDS.get(word)
        if number is not None and self.fraction is None:
            if not self.started:
                self.start(begin, end)
            self.current += number
        elif number is not None and number < 10:
            assert self.fraction is not None
            self.fraction += str(number)
        elif not self.started or not self._go_on(word):
            return False
        self.end = end
        return True

    def _go_on(self, word: str) -> bool:
        scale = vocabulary.SCALES.get(word)
        if scale == 100:
            self.current = (self.current or Decimal(1)) * scale
        elif scale is not None:
            self.total, self.current = self.total + (self.current or Decimal(1)) * scale, Decimal(0)
        elif word == "point" and self.fraction is None:
            self.fraction = ""
        elif word == "half":
            self.current += vocabulary.PARTS["half"]
        else:
            return word == "and" or word in vocabulary.ARTICLES
        return True


def _decimal(text: str) -> Decimal | None:
    try:
        value = abs(Decimal(text))
    except InvalidOperation:
        return None
    if not value.is_finite() or (value and abs(value.adjusted()) > EXPONENT_LIMIT):
        return None
    return value
