"""The engine on USD-M perpetuals of the paper venue: positions both ways, margin, funding, agreement with the venue."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from core.config import ConfigurationError, Settings
from core.kernel.decide import FillReport, decide_fill
from core.kernel.inputs import MarginInputs
from core.kernel.kernel import Kernel
from core.runtime import margin as margin_module
from core.runtime.margin import funding_since_ns, new_funding
from core.runtime.reconcile import POSITION, compare
from core.runtime.venue_truth import VenueTruth
from core.types.clock import NS_PER_S, SystemClock
from core.types.codes import ReasonCode
from core.types.events import FundingSettled, OrderFilled
from core.types.instruments import Instrument, Product
from core.types.money import decimal_text
from core.types.orders import OrderStatus, Side
from core.venues.binance.usdm import BinanceUsdm
from core.venues.connect import connect_venue
from core.venues.paper.decimals import UNIT
from core.venues.paper.market_synthetic import SyntheticMarket
from core.venues.paper.server import PaperVenue
from core.venues.paper.signing import Credentials
from core.venues.paper.usdm.marks import FundingTerms
from core.venues.ports import VenueFunding, VenueUnavailableError
from tests.core.approvals import ACCOUNT, BTC, NOW_NS, decide_on, proposal, started_kernel, with_market
from tests.core.engine_support import RunningEngine, settings_for

STARTING_USDT = Decimal(100_000)
FUNDING = FundingTerms(interval_ms=1_000, rate=UNIT // 1_000)
"""0.1 % each second: longs pay shorts."""


@pytest.fixture
async def venue(home: Path) -> AsyncIterator[PaperVenue]:
    secrets = home / "secrets"
    key, secret = ((secrets / f"venue-paper.{name}").read_text() for name in ("key", "secret"))
    clock = SystemClock()
    source = SyntheticMarket(1, Decimal(1), clock)
    async with PaperVenue(
        source, home / "venue.sqlite3", Credentials(key, secret), clock=clock, usdm_funding=FUNDING
    ) as running:
        yield running


@pytest.fixture
def settings(home: Path, venue: PaperVenue) -> Settings:
    return settings_for(
        home,
        VELOZ_VENUE__PRODUCT="usdm",
        VELOZ_VENUE__REST_URL=venue.base_url,
        VELOZ_VENUE__WEBSOCKET_URL=venue.usdm_websocket_url,
    )


async def trade(engine: RunningEngine, side: Side, quantity: str) -> None:
    ticker = await engine.client.ticker("BTCUSDT")
    far = ticker.ask_price * Decimal("1.002") if side is Side.BUY else ticker.bid_price * Decimal("0.998")
    price = decimal_text(far.quantize(Decimal("0.1")))
    outcome = await engine.execute(
        await engine.propose(side=side.value, quantity=quantity, price=price, instrument_version="1")
    )
    assert outcome.refusal is None, outcome.refusal
    await engine.event(
        lambda event: (
            isinstance(event, OrderFilled)
            and event.client_order_id == outcome.client_order_id
            and event.status is OrderStatus.FILLED
        )
    )


async def test_a_position_goes_short_flips_and_closes_as_the_venues_does(
    engine: RunningEngine, settings: Settings
) -> None:
    venue = connect_venue(settings, SystemClock())
    try:
        for side, quantity, held in (
            (Side.SELL, "0.02", "-0.02"),
            (Side.BUY, "0.05", "0.03"),
            (Side.SELL, "0.03", "0"),
        ):
            await trade(engine, side, quantity)
            assert await engine.position() == Decimal(held)
            at_venue = {seen.symbol: seen.quantity for seen in await venue.positions()}
            assert at_venue.get("BTCUSDT", 0) == int(Decimal(held) * 1000)
        reconciled = await engine.client.reconcile(True, "test")
        assert reconciled.differences == ()
    finally:
        await venue.aclose()


async def test_the_venues_wallet_is_what_the_engines_figures_add_up_to(
    engine: RunningEngine, settings: Settings
) -> None:
    """Realised PnL and fees of the engine's journal, and the venue's funding: exactly the venue's own ledger."""
    # Not since ever: the venue is asked week by week, and that weighs.
    started_ns = SystemClock().now_ns()
    for side, quantity in ((Side.BUY, "0.03"), (Side.SELL, "0.013"), (Side.SELL, "0.05"), (Side.BUY, "0.041")):
        await trade(engine, side, quantity)
    venue = connect_venue(settings, SystemClock())
    try:
        while True:
            before = await venue.funding_since(started_ns)
            wallet = (await venue.balances())["USDT"]
            if len(await venue.funding_since(started_ns)) == len(before):
                break
    finally:
        await venue.aclose()
    (position,) = await engine.client.positions(ACCOUNT)
    assert position.quantity == Decimal("0.008")
    figures = position.realised_pnl_quote - position.fees_by_asset["USDT"] + sum(item.amount for item in before)
    # The venue keeps its entry price at eight digits.
    assert abs(wallet - STARTING_USDT - figures) < Decimal("0.0001")


async def test_margin_and_leverage_are_the_venues(engine: RunningEngine) -> None:
    await trade(engine, Side.BUY, "0.1")
    (position,) = await engine.client.positions(ACCOUNT)
    exposure = await engine.client.exposure(ACCOUNT)
    assert position.leverage == 20
    assert exposure.gross is not None
    assert exposure.margin_used is not None
    assert abs(exposure.margin_used - exposure.gross / 20) < Decimal("0.00000001")
    assert exposure.margin_maintenance is not None
    assert 0 < exposure.margin_maintenance < exposure.margin_used
    assert (position.initial_margin, position.maintenance_margin) == (
        exposure.margin_used,
        exposure.margin_maintenance,
    )
    (wallet,) = exposure.balances
    assert wallet.asset == "USDT"
    assert exposure.equity == wallet.quantity + (exposure.unrealised_pnl or 0)


async def test_the_liquidation_price_is_the_venues_and_moves_with_what_is_imagined(
    engine: RunningEngine, settings: Settings
) -> None:
    await trade(engine, Side.SELL, "0.8")
    venue = connect_venue(settings, SystemClock())
    try:
        assert isinstance(venue, BinanceUsdm)
        (at_venue,) = await venue.position_details("BTCUSDT")
    finally:
        await venue.aclose()
    (position,) = await engine.client.positions(ACCOUNT)
    assert position.liquidation_price is not None
    assert at_venue.liquidation_price is not None
    # Funding moves the wallet between the two looks.
    assert abs(position.liquidation_price / at_venue.liquidation_price - 1) < Decimal("0.01")
    view = await engine.client.what_if(ACCOUNT, "BTCUSDT", side=Side.SELL, quantity=Decimal(1))
    (before,), (after,) = view.before.lines, view.after.lines
    assert before.liquidation_price is not None
    assert after.liquidation_price is not None
    assert after.liquidation_price < before.liquidation_price


async def test_isolated_margin_is_no_margin_until_it_is_switched_at_the_venue(
    engine: RunningEngine, settings: Settings
) -> None:
    venue = connect_venue(settings, SystemClock())
    try:
        assert isinstance(venue, BinanceUsdm)
        terms = {"symbol": "ETHUSDT", "marginType": "ISOLATED"}
        await venue.rest.once("POST", "/fapi/v1/marginType", terms, signed=True, answer=msgspec.Raw)
        with pytest.raises(VenueUnavailableError, match="ETHUSDT has isolated margin; switch it to cross"):
            await venue.leverages()
        assert await venue.positions() == []
    finally:
        await venue.aclose()


async def test_an_order_beyond_the_margin_is_refused(engine: RunningEngine) -> None:
    view = await engine.client.what_if(ACCOUNT, "BTCUSDT", side=Side.BUY, quantity=Decimal(100))
    assert ReasonCode.RISK_MARGIN_INSUFFICIENT in [check.name for check in view.checks if not check.passed]


async def test_settled_funding_is_taken_over_once_and_shown(
    engine: RunningEngine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(margin_module, "FUNDING_INTERVAL_NS", 0)
    monkeypatch.setattr(margin_module, "MARGIN_INTERVAL_S", 0.05)
    await trade(engine, Side.BUY, "0.1")
    first = await engine.event(lambda event: isinstance(event, FundingSettled))
    assert Decimal(first.amount) < 0
    second = await engine.event(
        lambda event: isinstance(event, FundingSettled) and event.transaction_id != first.transaction_id
    )
    venue = connect_venue(settings, SystemClock())
    try:
        told = {item.transaction_id: item.amount for item in await venue.funding_since(0)}
    finally:
        await venue.aclose()
    assert told[first.transaction_id] == Decimal(first.amount)
    assert told[second.transaction_id] == Decimal(second.amount)
    (position,) = await engine.client.positions(ACCOUNT)
    assert position.funding_by_asset["USDT"] <= Decimal(first.amount) + Decimal(second.amount)
    exposure = await engine.client.exposure(ACCOUNT)
    assert exposure.funding is not None
    assert exposure.funding < 0


async def test_a_journal_of_one_product_isnt_carried_on_with_the_other(engine: RunningEngine) -> None:
    await engine.close()
    spot = engine.settings.venue.model_copy(update={"product": "spot"})
    with pytest.raises(ConfigurationError, match="another VELOZ_HOME"):
        await RunningEngine(engine.settings.model_copy(update={"venue": spot})).start()


def holding(instrument: Instrument) -> Kernel:
    """A kernel that has bought 0.01."""
    kernel = started_kernel(instruments=(instrument,))
    margin = MarginInputs(Decimal(100_000), {"BTCUSDT": 20}, NOW_NS)
    inputs = msgspec.structs.replace(with_market(mark_price="60000"), margin=margin)
    decided = decide_on(kernel, proposal(quantity="0.01"), inputs=inputs)
    assert decided.intent is not None
    kernel.apply(decided)
    report = FillReport(
        client_order_id=decided.intent.client_order_id,
        venue_order_id="1",
        trade_id=1,
        price=6_000_000,
        quantity=1_000,
        fee=Decimal(0),
        fee_asset="USDT",
        is_maker=False,
        venue_ts_ns=NOW_NS + 2,
    )
    for event in decide_fill(kernel, report, NOW_NS + 3):
        kernel.apply(event)
    return kernel


def nothing_open(kernel: Kernel) -> VenueTruth:
    return VenueTruth(NOW_NS + 60 * NS_PER_S, [], [], dict(kernel.orders), dict(kernel.positions))


def settled(at_s: int, transaction_id: str, symbol: str = "BTCUSDT") -> VenueFunding:
    return VenueFunding(symbol, transaction_id, Decimal("-1.5"), "USDT", NOW_NS + at_s * NS_PER_S)


def test_funding_told_again_or_from_before_the_engine_is_not_new() -> None:
    kernel = started_kernel()
    told = [settled(-10, "0"), settled(10, "1"), settled(10, "2", "ETHUSDT"), settled(20, "3")]
    first = new_funding(kernel, ACCOUNT, "paper", told[:3], NOW_NS + 30 * NS_PER_S)
    assert [event.transaction_id for event in first] == ["1", "2"]
    for event in first:
        kernel.apply(event)
    assert funding_since_ns(kernel, ACCOUNT, "paper") <= NOW_NS
    again = new_funding(kernel, ACCOUNT, "paper", told, NOW_NS + 30 * NS_PER_S)
    assert [event.transaction_id for event in again] == ["3"]
    assert kernel.funding[ACCOUNT, "paper", "BTCUSDT", "USDT"].amount == "-1.5"


def test_a_position_that_the_venue_no_longer_has_is_a_difference() -> None:
    perpetual = msgspec.structs.replace(BTC, product=Product.USDM)
    kernel = holding(perpetual)
    found = compare(kernel, nothing_open(kernel), ACCOUNT, "paper")
    assert [(item.kind, item.engine, item.venue) for item in found] == [(POSITION, "0.01", "0")]
    spot = holding(BTC)
    assert compare(spot, nothing_open(spot), ACCOUNT, "paper") == ()
