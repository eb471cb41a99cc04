"""The kill switch: four states from loose to tight. Commands here only tighten; thawing is administration."""

from __future__ import annotations

from enum import StrEnum


class KillSwitch(StrEnum):
    """REDUCE_ONLY lets through what brings a position nearer to zero; CANCEL_ONLY only cancels; HALTED also cancels
    every open order when it is entered."""

    NORMAL = "NORMAL"
    REDUCE_ONLY = "REDUCE_ONLY"
    CANCEL_ONLY = "CANCEL_ONLY"
    HALTED = "HALTED"

    @property
    def tightness(self) -> int:
        return _ORDER.index(self)


_ORDER = (KillSwitch.NORMAL, KillSwitch.REDUCE_ONLY, KillSwitch.CANCEL_ONLY, KillSwitch.HALTED)
