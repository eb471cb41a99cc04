"""What the kernel keeps besides the types of its events."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from core.risk.kill_switch import KillSwitch
from core.types.events import RiskLimits, Roster
from core.types.instruments import Instrument

InstrumentKey = tuple[str, str]
PositionKey = tuple[str, str, str]
StrategyPositionKey = tuple[str, str, str, str]

SEPARATOR = "@venue:"
"""Between somebody else's clientOrderId that came again and the venue's own id, which tells the orders apart."""

NO_ROSTER = Roster(version=0, entries=(), two_approvals_above_quote="0")


class Head(msgspec.Struct, frozen=True):
    """What there is one of."""

    engine_id: str = ""
    environment: str = ""
    mode: str = ""
    epoch: int = 0
    listed: tuple[InstrumentKey, ...] = ()
    roster: Roster = NO_ROSTER
    roster_signature_hex: str = ""
    limits: RiskLimits | None = None
    rules_version: int = 0
    rules_digest_hex: str = ""
    kill_switch: KillSwitch = KillSwitch.NORMAL
    kill_switch_changed_ns: int = 0
    first_started_ns: int = 0


class RulesVersion(msgspec.Struct, frozen=True):
    version: int
    digest_hex: str
    document: str


class AccountSwitch(msgspec.Struct, frozen=True):
    state: KillSwitch
    changed_ns: int


class Consumed(msgspec.Struct, frozen=True):
    version: int
    expires_ns: int


class Voided(msgspec.Struct, frozen=True):
    """Versions up to this one can't be approved any more."""

    version: int
    expires_ns: int


class FundingTotal(msgspec.Struct, frozen=True):
    """amount is decimal text; last_ns the venue's time of the newest settlement in it."""

    amount: str
    last_ns: int


class Listing:
    """What can be traded now, and which of it lies between two assets."""

    def __init__(self, listed: tuple[InstrumentKey, ...], instruments: Mapping[InstrumentKey, Instrument]) -> None:
        self.listed = listed
        self.keys = frozenset(listed)
        self.between: dict[tuple[str, str], tuple[tuple[InstrumentKey, bool], ...]] = {}
        for key in listed:
            item = instruments[key]
            for pair, is_inverse in (
                ((item.base_asset, item.quote_asset), False),
                ((item.quote_asset, item.base_asset), True),
            ):
                self.between[pair] = (*self.between.get(pair, ()), (key, is_inverse))
