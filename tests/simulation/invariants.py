"""What must hold over every seed, and what is told of the first that doesn't."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Invariant(StrEnum):
    SUBMITTED_ONCE = "no order is sent twice"
    WRITTEN_AHEAD = "an intent is durable before its order leaves"
    INTENDED_ONCE = "one request, or one approval, makes one order"
    APPROVED = "an approval leads to what was signed, and to nothing else"
    VOIDED = "what was made void is never used"
    AMENDED_ONCE = "an amendment leaves once, as it was recorded"
    FILLS = "no fill is lost, doubled or changed"
    POSITIONS = "positions are the sum of the venue's fills"
    LIMITS = "no accepted order goes beyond a limit"
    SELF_TRADE = "no order can meet one of our own"
    RATES = "no rate window holds more than it may"
    AUTHORITY = "no order goes beyond its session or its mandate"
    KILL_SWITCH = "the kill switch is obeyed from its event on"
    FROZEN = "a frozen account takes no order"
    TRUTH = "the engine says of an order what the venue says"
    RESOLVED = "what is unknown is resolved to the venue's truth"
    CANCELLED = "what was to be cancelled doesn't stay open"
    DURABLE = "what was answered for is there after any crash"
    GROUPS = "orders that take each other's place never fill more than was meant"
    REPLAY = "replaying the journal gives the same state"
    ALIVE = "the engine crashes of nothing, and recovers from everything"


class Broken(msgspec.Struct, frozen=True):
    invariant: Invariant
    detail: str
