"""How often Python looks for garbage in the engine."""

from __future__ import annotations

import gc

OBJECTS_BETWEEN = 50_000
"""Orders and events hold nothing that holds them and aren't looked through; of what is, an order makes some dozens, and
nearly all of it goes by itself. With Python's own 700 the looking is a twenty-fifth of an order's cost."""
YOUNG_BETWEEN, MIDDLE_BETWEEN = 20, 100


def collect_seldom() -> None:
    """For the whole process, from here on."""
    gc.set_threshold(OBJECTS_BETWEEN, YOUNG_BETWEEN, MIDDLE_BETWEEN)
