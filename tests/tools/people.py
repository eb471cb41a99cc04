"""Who asks, when, and about which account: what the gateway's tests have in common."""

from __future__ import annotations

from decimal import Decimal

from core.types.ids import SystemIdSource
from tools.contracts import Principal, Role

NOW_NS = 1_767_225_600_000_000_000
ACCOUNT = "acct-demo"
MAX_NOTIONAL = Decimal(250_000)
IDS = SystemIdSource()

TRADER = Principal("user-trader", "trader", Role.TRADER, (ACCOUNT,))
APPROVER = Principal("user-approver", "approver", Role.APPROVER, (ACCOUNT,))
SECOND = Principal("user-second", "second", Role.APPROVER, (ACCOUNT,))
COMPLIANCE = Principal("user-compliance", "compliance", Role.COMPLIANCE, (ACCOUNT,))
