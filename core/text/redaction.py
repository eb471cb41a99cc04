"""Redaction, tier 1: on everything that leaves, always. Pure and bounded.

Field policy by key name first, then patterns with checksums over text. Trading text must survive: prices, quantities,
order ids, ULIDs, digests and symbols are what the rest of the house works with.

One value gets one pseudonym within its scope, so redacted records still join: `<EMAIL:3f2a90c1d4e7>`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any

import msgspec

from core._native import clean_json as clean_json_natively
from core._native import redacted as redacted_natively
from core.text._detectors import Kind, Span, find_spans, words

__all__ = ["Finding", "Kind", "Redacted", "RedactedValue", "Redactor", "Span", "redact_text", "redact_value"]

TEXT_LIMIT_CHARS = 65_536
CUT_TOKEN_LIMIT_CHARS = 512
DEPTH_LIMIT = 32
NODES_LIMIT = 20_000
PSEUDONYM_HEX_CHARS = 12
IDENTIFIER_LIMIT_CHARS = 160

# Too short, or of too few kinds of characters, for any detector; a test holds them to that.
_HARMLESS = re.compile(
    r"[A-Za-z_]{0,24}|-?[0-9]{1,11}(?:\.[0-9]{1,11})?|20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-9:]{8}\.[0-9]{6}Z"
)
# What our own ids, digests and times look like. Under an identifier's key only checksums could find something in them.
_OWN_IDENTIFIER = re.compile(r"[0-9a-f]{16}|[0-9a-f]{32}|[0-9a-f]{64}|[0-7][0-9A-HJKMNP-TV-Z]{25}|[0-9]{12,20}")
CLEAN_TEXTS_LIMIT = 8_192
CLEAN_TEXT_LIMIT_CHARS = 80
KEYS_LIMIT = 4_096

_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")
_PLACEHOLDER = re.compile(r"<[A-Z_]{2,20}(?::[0-9a-f]{12})?>")
_IDENTIFIER = re.compile(rf"[A-Za-z0-9:_.\-/]{{1,{IDENTIFIER_LIMIT_CHARS}}}")
_NOT_ALPHANUMERIC = re.compile(r"[^a-z0-9]")

# Keys are compared in lower case without separators: `X-MBX-APIKEY` is `xmbxapikey`.
_SECRET_KEYS = words(
    "password passwd passphrase passcode pwd secret token authorization proxyauthorization apikey apisecret privatekey "
    "privatekeyhex mnemonic seedphrase recoveryphrase cookie setcookie signature credentials credential sessionkey "
    "otp totp cvv cvc bearer jwt kek"
)
_SECRET_KEY_ENDINGS = (
    *("password", "secret", "apikey", "privatekey", "accesstoken", "refreshtoken", "authtoken", "idtoken"),
    *("secretkey", "accesskey", "signingkey", "sessiontoken", "bearertoken", "controltoken"),
)
_SEED_KEYS = frozenset({"seed", "seedhex", "keyseed"})
_PERSONAL_KEYS = {
    **dict.fromkeys(("email", "emailaddress", "mail"), Kind.EMAIL),
    **dict.fromkeys(("phone", "phonenumber", "mobile", "telephone"), Kind.PHONE),
    **dict.fromkeys(("username", "displayname", "fullname", "firstname", "lastname", "surname"), Kind.PERSON),
    **dict.fromkeys(("postaladdress", "streetaddress", "homeaddress"), Kind.ADDRESS),
    **dict.fromkeys(("iban",), Kind.IBAN),
    **dict.fromkeys(("cardnumber", "pan"), Kind.CARD),
    **dict.fromkeys(("accountnumber", "sortcode", "routingnumber"), Kind.ACCOUNT_NUMBER),
    **dict.fromkeys(("ssn", "nationalid", "passportnumber", "taxid"), Kind.NATIONAL_ID),
    **dict.fromkeys(("walletaddress", "depositaddress", "withdrawaladdress"), Kind.WALLET),
}
# Under these keys a value in an identifier's form is one of ours or the venue's, whatever number it resembles.
_IDENTIFIER_KEY_ENDINGS = (
    *("id", "ids", "hex", "hash", "digest", "digests", "ns", "ms", "sequence", "version", "symbol", "traceparent"),
    *("price", "quantity", "notional", "quote", "volume", "scale", "bps", "figure", "value"),
)
KINDS_OFF_IN_IDENTIFIERS = frozenset(
    {Kind.CARD, Kind.PHONE, Kind.NATIONAL_ID, Kind.ACCOUNT_NUMBER, Kind.IBAN, Kind.SEED_PHRASE}
)
_NONE_OFF: frozenset[Kind] = frozenset()
_RANK = {kind: rank for rank, kind in enumerate(Kind)}
# What the native walk is told of a key.
_IDENTIFIER_KEY, _FIELD_KEY, _RENAMED_KEY = 1, 2, 4


class Finding(msgspec.Struct, frozen=True):
    """Where something was found, never what. start and end count characters of the text that was given; path leads
    to the text inside a value (``$.orders[0].note``)."""

    kind: Kind
    start: int
    end: int
    path: str = "$"


class Redacted(msgspec.Struct, frozen=True):
    """text with placeholders. cut tells that the input was longer than TEXT_LIMIT_CHARS and its rest is gone."""

    text: str
    findings: tuple[Finding, ...]
    cut: bool = False


class RedactedValue(msgspec.Struct, frozen=True):
    value: Any
    findings: tuple[Finding, ...]


class Redactor:
    """Redaction within one scope. Equal values get equal pseudonyms under one scope_key and unrelated ones under
    another; without a key placeholders carry the kind only."""

    def __init__(self, scope_key: bytes | None = None) -> None:
        self._scope_key = scope_key

    def placeholder(self, kind: Kind, value: str) -> str:
        """What stands in for value."""
        if self._scope_key is None:
            return f"<{kind}>"
        message = f"{kind}\x00{_normalise(kind, value)}".encode("utf-8", "surrogatepass")
        return f"<{kind}:{hmac.new(self._scope_key, message, hashlib.sha256).hexdigest()[:PSEUDONYM_HEX_CHARS]}>"

    def text(self, text: str) -> Redacted:
        """Redact free text. Longer text than TEXT_LIMIT_CHARS is cut, which the result says."""
        return self._text(text, "$", _NONE_OFF)

    def replace(self, text: str, spans: list[Span], path: str = "$", cut: bool = False) -> Redacted:
        """Put placeholders for spans of text; overlapping ones become one, of the kind that ranks first."""
        merged: list[Span] = []
        for span in sorted(spans, key=lambda each: (each.start, -each.end)):
            if merged and span.start < merged[-1].end:
                last = merged[-1]
                kind = min(last.kind, span.kind, key=_RANK.__getitem__)
                merged[-1] = Span(last.start, max(last.end, span.end), kind)
            else:
                merged.append(span)
        pieces, position = [], 0
        for span in merged:
            pieces += [text[position : span.start], self.placeholder(span.kind, text[span.start : span.end])]
            position = span.end
        pieces.append(text[position:])
        findings = tuple(Finding(span.kind, span.start, span.end, path) for span in merged)
        return Redacted("".join(pieces), findings, cut)

    def value(self, value: Any) -> RedactedValue:
        """Redact dicts, lists and what is in them: by key name, then by pattern. Numbers, bools and None stay.

        What lies deeper than DEPTH_LIMIT or beyond NODES_LIMIT is dropped and said so; objects of other types
        become their redacted text.
        """
        findings: list[Finding] = []
        redacted = redacted_natively(
            value, _Walk(self, findings), _key_traits, _clean_texts, _clean_in_identifiers, DEPTH_LIMIT, NODES_LIMIT
        )
        return self.value_plainly(value) if redacted is NotImplemented else RedactedValue(redacted, tuple(findings))

    def clean_json(self, value: Any) -> bytes | None:
        """The RFC 8785 form of value where value() leaves all of it as it is; None where it doesn't, where that isn't
        known from texts and keys seen before, and where value holds more than text."""
        return clean_json_natively(value, _key_traits, _clean_texts, _clean_in_identifiers, DEPTH_LIMIT, NODES_LIMIT)

    def value_plainly(self, value: Any) -> RedactedValue:
        """The same without the native walk, whose oracle this is."""
        findings: list[Finding] = []
        return RedactedValue(_Walk(self, findings).visit(value, "$", "", 0), tuple(findings))

    def _text(self, text: str, path: str, off: frozenset[Kind]) -> Redacted:
        if text in _clean_texts or _HARMLESS.fullmatch(text) is not None or _is_clean(text, off):
            return Redacted(text, ())
        text = _INVISIBLE.sub("", text)
        removed = 0
        if len(text) > TEXT_LIMIT_CHARS:
            kept = _cut(text)
            removed, text = len(text) - len(kept), kept
        searched = text if text.isascii() else "".join(map(_plain_character, text))
        spans = [span for span in find_spans(searched) if span.kind not in off]
        redacted = self.replace(text, spans, path, cut=removed > 0)
        if removed:
            return msgspec.structs.replace(redacted, text=f"{redacted.text} <CUT: {removed} characters>")
        return redacted


class _Walk:
    """One pass over one value, or over the parts of one that the native walk doesn't know."""

    def __init__(self, redactor: Redactor, findings: list[Finding]) -> None:
        self._redactor = redactor
        self._findings = findings
        self._nodes = 0

    def visit(self, value: Any, path: str, key: str, depth: int) -> Any:
        self._nodes += 1
        if depth > DEPTH_LIMIT or self._nodes > NODES_LIMIT:
            return "<CUT: too deep or too large>"
        if value is None or isinstance(value, bool):
            return value
        kind = _field_kind(key)
        if kind is None and type(value) is str:
            return value if _HARMLESS.fullmatch(value) is not None else self.visit_text(value, path, key)
        if kind is not None and not (isinstance(value, int) and key in _SEED_KEYS):  # a random seed is a number
            return self._replace_field(value, kind, path)
        if isinstance(value, str) and not isinstance(value, Enum):
            return self.visit_text(value, path, key)
        if isinstance(value, int | float | Decimal | datetime | date | time | Enum):
            return value
        if isinstance(value, dict):
            return {
                (name if name in _clean_texts else self.visit_key(name)): self.visit(
                    item, f"{path}.{name}", str(name), depth + 1
                )
                for name, item in value.items()
            }
        if isinstance(value, list | tuple):
            items = [self.visit(item, f"{path}[{index}]", key, depth + 1) for index, item in enumerate(value)]
            return tuple(items) if type(value) is tuple else items
        if isinstance(value, msgspec.Struct):
            return self.visit({name: getattr(value, name) for name in value.__struct_fields__}, path, key, depth)
        if isinstance(value, bytes | bytearray | memoryview):
            return f"<BINARY: {len(value)} bytes>"
        return self.visit_text(str(value), path, key)

    def learn(self, name: str) -> int:
        """For the native walk."""
        return _learn_key(name)

    def visit_key(self, name: Any) -> Any:
        if not isinstance(name, str):
            return name
        return name if _is_clean(name, _NONE_OFF) else self._redactor.text(name).text

    def visit_text(self, text: str, path: str, key: str) -> str:
        is_identifier = _is_identifier_key(key) and _IDENTIFIER.fullmatch(text) is not None
        if is_identifier and _OWN_IDENTIFIER.fullmatch(text) is not None:
            return text
        off = KINDS_OFF_IN_IDENTIFIERS if is_identifier else _NONE_OFF
        redacted = self._redactor._text(text, path, off)
        self._findings.extend(redacted.findings)
        return redacted.text

    def _replace_field(self, value: Any, kind: Kind, path: str) -> Any:
        if isinstance(value, str):
            if not value or _PLACEHOLDER.fullmatch(value):
                return value
            text = value
        elif isinstance(value, bytes):
            text = value.hex()
        else:
            text = repr(value)
        self._findings.append(Finding(kind, 0, len(text), path))
        return self._redactor.placeholder(kind, text)


_UNSCOPED = Redactor()


def redact_text(text: str) -> Redacted:
    """Redact free text with placeholders that carry the kind only; use a Redactor where records must join."""
    return _UNSCOPED.text(text)


def redact_value(value: Any) -> RedactedValue:
    """Redact a JSON-like value; see Redactor.value."""
    return _UNSCOPED.value(value)


# Short texts without a finding come again and again: names of tools, digests of schemas, keys. None with one is kept.
_clean_texts: set[str] = set()
_clean_in_identifiers: set[str] = set()
"""Clean where KINDS_OFF_IN_IDENTIFIERS are off."""
_key_traits: dict[str, int] = {}


def _is_clean(text: str, off: frozenset[Kind]) -> bool:
    """Whether nothing in a short ASCII text is to be replaced; False also says that it isn't known here."""
    if len(text) > CLEAN_TEXT_LIMIT_CHARS or not text.isascii():
        return False
    known = _clean_in_identifiers if off else _clean_texts
    if text in known:
        return True
    if any(span.kind not in off for span in find_spans(text)):
        return False
    if len(known) >= CLEAN_TEXTS_LIMIT:
        known.clear()
    known.add(text)
    return True


def _learn_key(name: str) -> int:
    """What the native walk has to know of a key. One that isn't known to be clean is not kept."""
    traits = (_IDENTIFIER_KEY if _is_identifier_key(name) else 0) | (_FIELD_KEY if _field_kind(name) else 0)
    if not _is_clean(name, _NONE_OFF):
        return traits | _RENAMED_KEY
    if len(_key_traits) >= KEYS_LIMIT:
        _key_traits.clear()
    _key_traits[name] = traits
    return traits


@lru_cache(KEYS_LIMIT)
def _field_kind(key: str) -> Kind | None:
    if not key:
        return None
    name = _NOT_ALPHANUMERIC.sub("", key.lower())
    if name in _SECRET_KEYS or name in _SEED_KEYS or name.endswith(_SECRET_KEY_ENDINGS):
        return Kind.SECRET
    return _PERSONAL_KEYS.get(name)


@lru_cache(KEYS_LIMIT)
def _is_identifier_key(key: str) -> bool:
    return _NOT_ALPHANUMERIC.sub("", key.lower()).endswith(_IDENTIFIER_KEY_ENDINGS)


def _cut(text: str) -> str:
    """The first TEXT_LIMIT_CHARS without a word cut in two: half a secret is no longer recognised as one."""
    head = text[:TEXT_LIMIT_CHARS]
    boundary = max(head.rfind(" "), head.rfind("\n"))
    return head[:boundary] if boundary >= TEXT_LIMIT_CHARS - CUT_TOKEN_LIMIT_CHARS else head[:-CUT_TOKEN_LIMIT_CHARS]


def _plain_character(character: str) -> str:
    """Full-width digits, letters and signs as their ASCII selves; positions stay."""
    plain = unicodedata.normalize("NFKC", character)
    return plain if len(plain) == 1 else character


def _normalise(kind: Kind, value: str) -> str:
    match kind:
        case Kind.PHONE | Kind.CARD | Kind.ACCOUNT_NUMBER | Kind.NATIONAL_ID:
            return "".join(character for character in value if character.isdigit())
        case Kind.IBAN:
            return re.sub(r"[ -]", "", value).upper()
        case Kind.EMAIL:
            return value.casefold().replace("%40", "@")
        case Kind.PERSON:
            return " ".join(value.casefold().split())
        case _:
            return value
