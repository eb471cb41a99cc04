"""RFC 8785 bytes of JSON-like values, fast for those that hold text and no number."""

from __future__ import annotations

from typing import Any

import msgspec
import rfc8785

from core._native import is_text_only as is_text_only_natively

DEPTH_LIMIT = 32


def canonical_json(value: Any) -> bytes:
    """The RFC 8785 form, the same bytes as rfc8785.dumps gives. Raises ValueError for what JSON can't hold.

    Text, bools and None under ASCII keys go through msgspec, whose escapes are those of RFC 8785 section 3.2.2.2 and
    whose order of ASCII keys is that of section 3.2.3; anything else through rfc8785.
    """
    canonical = canonical_text(value)
    return bytes(rfc8785.dumps(value)) if canonical is None else canonical


def canonical_text(value: Any) -> bytes | None:
    """The RFC 8785 form of what is_text_only; None for anything else. Raises ValueError for invalid Unicode."""
    return encode_sorted(value) if is_text_only(value) else None


def encode_sorted(value: Any) -> bytes:
    """What is_text_only, or a msgspec.Struct of such, as JSON with names in order. Raises ValueError for invalid
    Unicode."""
    try:
        return msgspec.json.encode(value, order="sorted")
    except UnicodeEncodeError as error:
        raise ValueError("half of a surrogate pair isn't valid Unicode") from error


def is_text_only(value: Any) -> bool:
    """Whether value holds text, bools and None under ASCII keys and nothing else, to a depth of DEPTH_LIMIT."""
    return is_text_only_natively(value, DEPTH_LIMIT)


def is_text_only_plainly(value: Any) -> bool:
    """The same in Python, the oracle of the native walk."""
    return _is_text_only(value, 0)


def _is_text_only(value: Any, depth: int) -> bool:
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return True
    if depth >= DEPTH_LIMIT:
        return False
    if kind is dict:
        for name, item in value.items():
            if type(name) is not str or not name.isascii() or not _is_text_only(item, depth + 1):
                return False
        return True
    if kind is list or kind is tuple:
        return all(_is_text_only(item, depth + 1) for item in value)
    return False
