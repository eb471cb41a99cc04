"""How near an account is to each of its limits: measured as risk measures them, before it adds an order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import ROUND_CEILING, Decimal
from typing import TYPE_CHECKING

from core.portfolio.performance import account_day
from core.portfolio.positions import EXACT, Position
from core.risk.activity import AMEND, CANCEL, ORDER
from core.risk.rules import Limit, RateLimit
from core.runtime.views import LIMITS_SHOWN
from core.types.codes import ReasonCode
from core.types.money import BPS_PER_UNIT
from core.types.orders import OrderStatus
from core.types.views import LimitUseLineView, LimitUseView

if TYPE_CHECKING:
    from core.kernel.inputs import InstrumentKey
    from core.kernel.kernel import Kernel

RATIO_PLACES = Decimal("0.0001")
PERCENT_PLACES = Decimal("0.01")
MARKETS_SHOWN_LIMIT = 200
"""Markets in which an account has something; those beyond it count, and aren't shown one by one."""
RATES = (
    (ReasonCode.RISK_ORDER_RATE_EXCEEDED, "order_rate", ORDER),
    (ReasonCode.RISK_AMEND_RATE_EXCEEDED, "amend_rate", AMEND),
    (ReasonCode.RISK_CANCEL_RATE_EXCEEDED, "cancel_rate", CANCEL),
)
MEASURED_AT_REST = frozenset(
    {
        ReasonCode.RISK_POSITION_EXCEEDS_MAX,
        ReasonCode.RISK_GROSS_EXPOSURE_EXCEEDS_MAX,
        ReasonCode.RISK_NET_EXPOSURE_EXCEEDS_MAX,
        ReasonCode.RISK_LEVERAGE_EXCEEDS_MAX,
        ReasonCode.RISK_OPEN_ORDERS_EXCEED_MAX,
        ReasonCode.RISK_DAILY_LOSS_EXCEEDED,
        ReasonCode.RISK_DRAWDOWN_EXCEEDED,
    }
)
"""The others bound one order: without one there is nothing to measure."""


class _Exposure:
    """Worst cases in the reporting currency: what is held, with all that rests on one side filled. None from the first
    market on whose worth isn't known."""

    def __init__(self) -> None:
        self.gross: Decimal | None = Decimal(0)
        self.high: Decimal | None = Decimal(0)
        self.low: Decimal | None = Decimal(0)
        self.markets: dict[str, Decimal | None] = {}

    def add(self, symbol: str, high: Decimal | None, low: Decimal | None) -> None:
        if high is None or low is None or self.gross is None or self.high is None or self.low is None:
            self.markets[symbol] = None if high is None or low is None else max(high.copy_abs(), low.copy_abs())
            self.gross = self.high = self.low = None
            return
        worst = self.markets[symbol] = max(high.copy_abs(), low.copy_abs())
        self.gross = EXACT.add(self.gross, worst)
        self.high, self.low = EXACT.add(self.high, high), EXACT.add(self.low, low)

    @property
    def net(self) -> Decimal | None:
        return None if self.high is None or self.low is None else max(self.high.copy_abs(), self.low.copy_abs())


def limit_use(
    kernel: Kernel,
    account_id: str,
    marks: Mapping[InstrumentKey, int],
    rates: Mapping[str, Decimal],
    now_ns: int,
) -> LimitUseView:
    """The nearest to its limit stands first, what can't be measured without an order last. marks and rates are as in
    core.kernel.inputs.DecisionInputs."""
    exposure = _exposure(kernel, account_id, marks, rates)
    lines = [
        *_account_lines(kernel, exposure, account_id, now_ns),
        *_rate_lines(kernel, account_id, now_ns),
        *_order_lines(kernel, account_id),
    ]
    return LimitUseView(account_id, kernel.rules_version, tuple(sorted(lines, key=_nearest_first)), now_ns)


def _nearest_first(line: LimitUseLineView) -> tuple[bool, Decimal]:
    return line.used is None, -(line.used_percent or Decimal(0))


def _account_lines(kernel: Kernel, exposure: _Exposure, account_id: str, now_ns: int) -> Iterator[LimitUseLineView]:
    rules = kernel.rules
    assert rules is not None, "the engine installs its rules before it serves"
    limits = rules.limits_for(account_id, "", "")
    for symbol, worst in sorted(exposure.markets.items())[:MARKETS_SHOWN_LIMIT]:
        limit = rules.limits_for(account_id, "", symbol)["max_position_notional_quote"]
        yield _line(ReasonCode.RISK_POSITION_EXCEEDS_MAX, symbol, limit, worst, "quote")
    observed = kernel.equity.get(account_id)
    equity = None if observed is None else Decimal(observed.equity)
    held = sum(
        order.status is OrderStatus.HELD and order.intent.account_id == account_id for order in kernel.open_orders()
    )
    measured: dict[str, Decimal | None] = {
        "max_gross_exposure_quote": exposure.gross,
        "max_net_exposure_quote": exposure.net,
        "max_leverage": _leverage(exposure.gross, equity),
        "max_open_orders": Decimal(kernel.exposure.open_orders(account_id) + held),
        "max_daily_loss_quote": None,
        "max_drawdown_bps": None,
    }
    if observed is not None and equity is not None:
        # A new day begins with what there was last.
        is_today = observed.day == account_day(now_ns, rules.time_zone)
        start = Decimal(observed.day_start_equity) if is_today else equity
        measured["max_daily_loss_quote"] = max(EXACT.subtract(start, equity), Decimal(0))
        measured["max_drawdown_bps"] = _fall_bps(Decimal(observed.peak_equity), equity)
    for code, name, unit in LIMITS_SHOWN:
        if name in measured:
            yield _line(code, "", limits[name], measured[name], unit)


def _exposure(
    kernel: Kernel, account_id: str, marks: Mapping[InstrumentKey, int], rates: Mapping[str, Decimal]
) -> _Exposure:
    positions = (key for key, position in kernel.positions.items() if key[0] == account_id and position.quantity)
    exposure = _Exposure()
    for market in dict.fromkeys((*kernel.exposure.markets(account_id), *positions)):
        resting, held = kernel.exposure.resting(*market), kernel.positions.get(market, Position()).quantity
        buys, sells = resting.buy_quantity, resting.sell_quantity
        if held == buys == sells == 0:
            continue
        instrument, mark = kernel.instruments[market[1:]], marks.get(market[1:])
        rate = rates.get(instrument.quote_asset)
        if mark is None or rate is None:
            exposure.add(market[2], None, None)
            continue
        unit = EXACT.multiply(Decimal(mark).scaleb(-instrument.notional_scale), rate)
        exposure.add(market[2], EXACT.multiply(Decimal(held + buys), unit), EXACT.multiply(Decimal(held - sells), unit))
    return exposure


def _rate_lines(kernel: Kernel, account_id: str, now_ns: int) -> Iterator[LimitUseLineView]:
    assert kernel.rules is not None
    limits = kernel.rules.limits_for(account_id, "", "")
    for code, name, kind in RATES:
        for rate in limits.rates[name]:
            window_ms, limit = rate.rate.window_ms, Limit(Decimal(rate.rate.count), rate.source)
            used = Decimal(_counted(kernel, kind, rate, window_ms, now_ns))
            yield _line(code, "", limit, used, "calls", window_ms)


def _counted(kernel: Kernel, kind: str, rate: RateLimit, window_ms: int, now_ns: int) -> int:
    assert kernel.rules is not None
    if not rate.source.startswith("desk:"):
        return int(kernel.activity.count(kind, rate.source, window_ms, now_ns))
    desk = rate.source.removeprefix("desk:")
    accounts = [account for account, name in kernel.rules.desks.items() if name == desk]
    return sum(kernel.activity.count(kind, f"account:{account}", window_ms, now_ns) for account in accounts)


def _order_lines(kernel: Kernel, account_id: str) -> Iterator[LimitUseLineView]:
    assert kernel.rules is not None
    limits = kernel.rules.limits_for(account_id, "", "")
    for code, name, unit in LIMITS_SHOWN:
        if code not in MEASURED_AT_REST:
            yield _line(code, "", limits[name], None, unit)
    for rate in limits.rates["repeated_intent"]:
        limit = Limit(Decimal(rate.rate.count), rate.source)
        yield _line(ReasonCode.RISK_INTENT_REPEATED, "", limit, None, "calls", rate.rate.window_ms)


def _line(
    code: ReasonCode, symbol: str, limit: Limit, used: Decimal | None, unit: str, window_ms: int | None = None
) -> LimitUseLineView:
    percent = None
    if used is not None and limit.value > 0:
        share = EXACT.multiply(EXACT.divide(used, limit.value), Decimal(100))
        percent = share.quantize(PERCENT_PLACES, rounding=ROUND_CEILING, context=EXACT)
    return LimitUseLineView(
        name=code,
        symbol=symbol,
        limit=limit.value,
        used=used,
        unit=unit,
        source=limit.source,
        used_percent=percent,
        window_ms=window_ms,
    )


def _leverage(gross: Decimal | None, equity: Decimal | None) -> Decimal | None:
    if gross == 0 and equity is not None:
        return Decimal(0)
    if gross is None or equity is None or equity <= 0:
        return None
    return EXACT.divide(gross, equity).quantize(RATIO_PLACES, rounding=ROUND_CEILING, context=EXACT)


def _fall_bps(peak: Decimal, equity: Decimal) -> Decimal | None:
    if peak <= 0:
        return None
    lost = max(EXACT.subtract(peak, equity), Decimal(0))
    exact = EXACT.divide(EXACT.multiply(lost, Decimal(BPS_PER_UNIT)), peak)
    return exact.quantize(RATIO_PLACES, rounding=ROUND_CEILING, context=EXACT)
