"""What reading somebody else's JSON may raise."""

from __future__ import annotations

import msgspec

UNREADABLE: tuple[type[Exception], ...] = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""msgspec lets the last two through: for text that is no UTF-8, and for brackets without end in a field that nobody
asked for."""
