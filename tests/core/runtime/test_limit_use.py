"""How near an account is to its limits: what is shown is what risk measures before it adds an order."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from random import Random

import msgspec

from core.kernel import decide_risk
from core.kernel.decide_risk import RiskSubject, run_risk_in_python
from core.risk.account_checks import _ratio
from core.runtime.limit_use import limit_use
from core.types.codes import ReasonCode
from core.types.orders import OrderStatus, OrderType
from core.types.views import LimitUseLineView
from tests.core.approvals import ACCOUNT as ENGINE_ACCOUNT
from tests.core.approvals import NOW_NS
from tests.core.engine_support import RunningEngine
from tests.core.risk.test_native_equals_oracle import ACCOUNT, Draw

POSITION, GROSS = ReasonCode.RISK_POSITION_EXCEEDS_MAX, ReasonCode.RISK_GROSS_EXPOSURE_EXCEEDS_MAX
NET, LEVERAGE = ReasonCode.RISK_NET_EXPOSURE_EXCEEDS_MAX, ReasonCode.RISK_LEVERAGE_EXCEEDS_MAX
OPEN, RATE = ReasonCode.RISK_OPEN_ORDERS_EXCEED_MAX, ReasonCode.RISK_ORDER_RATE_EXCEEDED
LOSSES = (ReasonCode.RISK_DAILY_LOSS_EXCEEDED, ReasonCode.RISK_DRAWDOWN_EXCEEDED)


def test_what_is_used_of_each_limit_is_what_risk_measures_before_an_order() -> None:
    seen: Counter[str] = Counter()
    for seed in range(150):
        draw = Draw(Random(seed))
        kernel, inputs = draw.kernel, draw.inputs()
        intent = msgspec.structs.replace(draw.intent(kind=OrderType.MARKET), strategy_id="")
        view = limit_use(kernel, ACCOUNT, inputs.marks, inputs.rates, NOW_NS)
        used = {(line.name, line.symbol, line.window_ms): line.used for line in view.limits}
        limits = kernel.rules.limits_for(ACCOUNT, "", intent.symbol)  # type: ignore[union-attr]
        account = decide_risk._account_inputs(
            kernel, kernel.rules, limits, RiskSubject(intent), None, inputs, NOW_NS  # type: ignore[arg-type]
        )  # fmt: skip
        held = sum(o.status is OrderStatus.HELD and o.intent.account_id == ACCOUNT for o in kernel.orders.values())
        assert used[GROSS, "", None] == account.gross.before
        assert used[NET, "", None] == account.net.before
        assert used[LEVERAGE, "", None] == _ratio(account.gross.before, account.equity)
        assert used[OPEN, "", None] == account.open_orders + held
        assert used.get((POSITION, intent.symbol, None), Decimal(0)) == account.position.before
        for rate in account.order_rates:
            if (RATE, "", rate.window_ms) in used and rate.source == "global":
                lines = [line for line in view.limits if line.name == RATE and line.source == "global"]
                assert [line.used for line in lines] == [rate.count]
        records = {
            record.name: record for record in run_risk_in_python(kernel, RiskSubject(intent), inputs, NOW_NS).checks
        }
        for code in LOSSES:
            actual = records[code].actual
            assert used[code, "", None] == (None if actual is None else Decimal(actual))
        seen.update(line.name for line in view.limits if line.used)
        seen["unknown"] += used[GROSS, "", None] is None
    assert min(seen[code] for code in (POSITION, GROSS, NET, LEVERAGE, OPEN, RATE, *LOSSES, "unknown")) > 5


def test_the_nearest_limit_stands_first_and_what_bounds_one_order_last() -> None:
    draw = Draw(Random(7))
    lines = limit_use(draw.kernel, ACCOUNT, draw.inputs().marks, {"USDT": Decimal(1)}, NOW_NS).limits
    shares = [line.used_percent for line in lines if line.used is not None]
    assert shares == sorted(shares, key=lambda share: share or Decimal(0), reverse=True)
    measured = [line.used is not None for line in lines]
    assert measured == sorted(measured, reverse=True)
    last = {line.name for line in lines[-12:]}
    assert {ReasonCode.RISK_NOTIONAL_EXCEEDS_MAX_PER_ORDER, ReasonCode.RISK_PRICE_OUTSIDE_COLLAR} <= last


async def test_an_order_and_what_it_fills_are_seen_in_the_use_of_the_limits(engine: RunningEngine) -> None:
    def line(name: str, lines: tuple[LimitUseLineView, ...]) -> LimitUseLineView:
        return next(line for line in lines if line.name == name)

    ticker = await engine.client.ticker("BTCUSDT")
    price = (ticker.bid_price * Decimal("0.99")).quantize(Decimal("0.01"))
    before = (await engine.client.limit_use(ENGINE_ACCOUNT)).limits
    assert (line(OPEN, before).used, line(GROSS, before).used) == (0, 0)
    outcome = await engine.execute(await engine.propose(price=f"{price}"))
    assert outcome.refusal is None
    after = (await engine.client.limit_use(ENGINE_ACCOUNT)).limits
    gross = line(GROSS, after)
    assert (line(OPEN, after).used, line(OPEN, after).used_percent) == (1, Decimal(100) / line(OPEN, after).limit)
    assert gross.used is not None
    assert abs(gross.used / Decimal("0.01") / price - 1) < Decimal("0.05")
    assert line(POSITION, after).symbol == "BTCUSDT"
    exposure = await engine.client.exposure(ENGINE_ACCOUNT)
    (dollars,) = [asset for asset in exposure.balances if asset.asset == "USDT"]
    assert dollars.available == dollars.quantity - Decimal("0.01") * price
