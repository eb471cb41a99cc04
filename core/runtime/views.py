"""The kernel's state as its readers see it: Decimals, and how old each answer is."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, cast

from core.kernel.decide_approvals import Checked
from core.kernel.kernel import Kernel
from core.risk.checks import share_used_percent
from core.risk.kill_switch import KillSwitch
from core.runtime.order_views import order_view
from core.types.clock import NS_PER_S
from core.types.codes import ReasonCode
from core.types.events import RiskCheckRecord
from core.types.instruments import Instrument
from core.types.money import decimal_text, from_scaled
from core.types.views import InstrumentView, OrderView, PreTradeView, RiskCheckView, RiskStateView

LIMITS_SHOWN = (
    (ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER, "max_notional_per_order_quote", "quote"),
    (ReasonCode.RISK_PRICE_OUTSIDE_COLLAR, "price_collar_bps", "bps"),
    (ReasonCode.RISK_PRICE_DRIFT_EXCEEDS_MAX, "max_deviation_bps", "bps"),
    (ReasonCode.MARKET_BOOK_STALE, "book_stale_after_ms", "ms"),
    (ReasonCode.RISK_QUANTITY_EXCEEDS_MAX_PER_ORDER, "max_quantity_per_order", "base"),
    (ReasonCode.RISK_PRICE_OUTSIDE_MARK_COLLAR, "mark_collar_bps", "bps"),
    (ReasonCode.RISK_DEPTH_SHARE_EXCEEDED, "max_depth_share_bps", "bps"),
    (ReasonCode.RISK_POSITION_EXCEEDS_MAX, "max_position_notional_quote", "quote"),
    (ReasonCode.RISK_GROSS_EXPOSURE_EXCEEDS_MAX, "max_gross_exposure_quote", "quote"),
    (ReasonCode.RISK_NET_EXPOSURE_EXCEEDS_MAX, "max_net_exposure_quote", "quote"),
    (ReasonCode.RISK_LEVERAGE_EXCEEDS_MAX, "max_leverage", "times"),
    (ReasonCode.RISK_OPEN_ORDERS_EXCEED_MAX, "max_open_orders", "orders"),
    (ReasonCode.RISK_DAILY_LOSS_EXCEEDED, "max_daily_loss_quote", "quote"),
    (ReasonCode.RISK_DRAWDOWN_EXCEEDED, "max_drawdown_bps", "bps"),
)
RATES_SHOWN = (
    (ReasonCode.RISK_ORDER_RATE_EXCEEDED, "order_rate"),
    (ReasonCode.RISK_AMEND_RATE_EXCEEDED, "amend_rate"),
    (ReasonCode.RISK_CANCEL_RATE_EXCEEDED, "cancel_rate"),
    (ReasonCode.RISK_INTENT_REPEATED, "repeated_intent"),
)


def instrument_views(kernel: Kernel) -> list[InstrumentView]:
    """What can be traded now, as the venue lists it."""
    return [_instrument_view(kernel.instruments[key]) for key in kernel.listed]


def open_order_views(kernel: Kernel, account_id: str, now_ns: int) -> list[OrderView]:
    return [order_view(order, now_ns) for order in kernel.open_orders() if order.intent.account_id == account_id]


def risk_state_view(
    kernel: Kernel, account_id: str, venue_connected: bool, timer_renewed_ns: int, now_ns: int
) -> RiskStateView:
    """The limits in force for the account, each under the code that it refuses with."""
    rules = kernel.rules
    assert rules is not None, "the engine installs its rules before it serves"
    limits = rules.limits_for(account_id, "", "")
    rows = [
        RiskCheckView(code, True, decimal_text(limits[name].value), None, unit, limits[name].source)
        for code, name, unit in LIMITS_SHOWN
    ]
    rows.extend(
        RiskCheckView(code, True, str(item.rate.count), None, f"per {item.rate.window_ms} ms", item.source)
        for code, name in RATES_SHOWN
        for item in limits.rates[name]
    )
    return RiskStateView(
        account_id=account_id,
        kill_switch=kernel.effective_kill_switch(account_id),
        limits=tuple(rows),
        rules_version=kernel.rules_version,
        venue_connected=venue_connected,
        as_of_ns=now_ns,
        engine_kill_switch=kernel.kill_switch,
        account_kill_switch=kernel.account_kill_switches.get(account_id, KillSwitch.NORMAL),
        frozen_reason=kernel.frozen.get(account_id),
        dead_mans_timer_s=rules.dead_mans_timer_s,
        dead_mans_timer_left_s=None
        if rules.dead_mans_timer_s is None
        else max(0, rules.dead_mans_timer_s - (now_ns - timer_renewed_ns) // NS_PER_S),
    )


def pre_trade_view(checked: Checked, mid_price: str | None, now_ns: int) -> PreTradeView:
    return PreTradeView(
        checks=check_views(checked.checks),
        refusal=checked.refusal,
        reference_price=None if mid_price is None else Decimal(mid_price),
        as_of_ns=now_ns,
        approvals_due=checked.approvals_due,
    )


class CheckViews(Sequence[RiskCheckView]):
    """Checks as they are shown, made when somebody looks: the order is on its way before that."""

    def __init__(self, records: tuple[RiskCheckRecord, ...]) -> None:
        self._records = records
        self._views: tuple[RiskCheckView, ...] | None = None

    def _made(self) -> tuple[RiskCheckView, ...]:
        if self._views is None:
            self._views = tuple(
                RiskCheckView(r.name, r.passed, r.limit, r.actual, r.unit, r.source, share_used_percent(r))
                for r in self._records
            )
        return self._views

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: Any) -> Any:
        return self._made()[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._made() == tuple(other)

    __hash__ = None  # type: ignore[assignment]


def check_views(records: tuple[RiskCheckRecord, ...]) -> tuple[RiskCheckView, ...]:
    """A sequence that is used as the tuple that it stands for."""
    return cast(tuple[RiskCheckView, ...], CheckViews(records))


def _instrument_view(item: Instrument) -> InstrumentView:
    return InstrumentView(
        venue=item.venue,
        symbol=item.symbol,
        base_asset=item.base_asset,
        quote_asset=item.quote_asset,
        tick_size=from_scaled(item.tick_size, item.price_scale),
        lot_size=from_scaled(item.lot_size, item.quantity_scale),
        min_quantity=from_scaled(item.min_quantity, item.quantity_scale),
        max_quantity=from_scaled(item.max_quantity, item.quantity_scale),
        min_notional_quote=from_scaled(item.min_notional, item.notional_scale),
        price_scale=item.price_scale,
        quantity_scale=item.quantity_scale,
        version=item.version,
    )
