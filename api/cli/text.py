"""What the service tells, as it may be shown on a terminal."""

from __future__ import annotations

import unicodedata

_KEPT = "\n\t"
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def printable(text: str) -> str:
    """text without what moves the cursor, hides or reorders characters: those are shown as code points.

    Questions, reasons and names come from people and models; what a terminal shows of an order must be all there is.
    """
    return "".join(
        character
        if character in _KEPT or unicodedata.category(character) not in _HIDDEN_CATEGORIES
        else f"<U+{ord(character):04X}>"
        for character in text
    )
