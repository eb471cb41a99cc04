"""Whether an account has lost what it may: the state of losses that throws its switch, and that a thaw looks at."""

from __future__ import annotations

from decimal import Decimal

from core.risk.rules import EffectiveLimits
from core.types.events import EquityObserved
from core.types.money import BPS_PER_UNIT, decimal_text


def loss_reason(observed: EquityObserved, limits: EffectiveLimits) -> str | None:
    """Why only what reduces may go on; None while no limit on losses is reached."""
    equity, peak = Decimal(observed.equity), Decimal(observed.peak_equity)
    loss = Decimal(observed.day_start_equity) - equity
    if loss >= limits["max_daily_loss_quote"].value:
        return f"lost {decimal_text(loss)} today, the limit is {limits['max_daily_loss_quote'].value}"
    if peak > 0 and (peak - equity) * BPS_PER_UNIT >= limits["max_drawdown_bps"].value * peak:
        return f"{decimal_text(peak - equity)} below the peak of {decimal_text(peak)}"
    return None
