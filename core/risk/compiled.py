"""Limits made ready for the native checks: once for each account, strategy and symbol of each version of the rules."""

from __future__ import annotations

from collections.abc import Mapping

from core._native import RiskLimits
from core.risk.rules import RATE_LIMITS, EffectiveLimits, RateLimit

DESK = "desk:"


def compiled(limits: EffectiveLimits, desks: Mapping[str, str]) -> RiskLimits | None:
    """None when a limit needs more digits than they have. desks: of the rules that the limits come from."""
    if not limits.is_compiled:
        limits.is_compiled = True
        values = {name: (format(limit.value, "f"), limit.source) for name, limit in limits.limits.items()}
        rates = {name: [_rate(rate, desks) for rate in limits.rates[name]] for name in RATE_LIMITS}
        try:
            limits.compiled = RiskLimits(values, rates)
        except ValueError:
            limits.compiled = None
    return limits.compiled


def _rate(limit: RateLimit, desks: Mapping[str, str]) -> tuple[list[str], int, int, str]:
    """What is counted together, how much of it is allowed, in what window, and who says so."""
    keys = [limit.source]
    if limit.source.startswith(DESK):
        name = limit.source.removeprefix(DESK)
        keys = [f"account:{account}" for account, desk in desks.items() if desk == name]
    return keys, limit.rate.count, limit.rate.window_ms, limit.source
