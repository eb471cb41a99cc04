"""The margin module against the paper venue's own USD-M ledger, which was written apart from it.

The venue counts in ints at scale 8 and cuts off what lies below (floor for initial margin), where this package is exact
and rounds initial margin up, hence a tolerance of some units of 1e-8. Differences in kind, which these tests state: the
venue liquidates below the maintenance margin, this package already at it; the venue shows a liquidation price by the
bracket of the present mark, this package by that of the price itself, so they are compared within one bracket.
"""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from core.portfolio.margin import MarginBracket, MarginMode, MarginPosition, MarginState, bracket_of, margin_state
from core.portfolio.positions import Fill, Position, apply_fill
from core.types.money import from_scaled
from core.types.orders import Side
from core.venues.paper.decimals import SCALE, UNIT
from core.venues.paper.usdm.ledger import Ledger, State
from core.venues.paper.usdm.orders import MarginType, PositionSide, Type
from core.venues.paper.usdm.orders import Order as PaperOrder
from core.venues.paper.usdm.rules import CONTRACTS

D = Decimal
UNITS = D(1).scaleb(-SCALE)
TOLERANCE = 4 * UNITS
SYMBOLS = ("BTCUSDT", "SOLUSDT")


def money(value: int) -> Decimal:
    return from_scaled(value, SCALE)


def paper_order(symbol: str, side: Side, price: int, quantity: int, number: int) -> PaperOrder:
    return PaperOrder(
        client_id=f"o{number}",
        symbol=symbol,
        side=side,
        order_type=Type.LIMIT,
        original_type=Type.LIMIT,
        price=price,
        quantity=quantity,
        order_id=number,
        created_ms=number,
        updated_ms=number,
    )


def brackets_of(symbol: str) -> tuple[MarginBracket, ...]:
    return tuple(
        MarginBracket(money(one.floor), money(one.cap), one.leverage, money(one.ratio), money(one.cum))
        for one in CONTRACTS[symbol].brackets
    )


class Both:
    """One account, kept by the venue's ledger and by this package."""

    def __init__(self, wallet: int, leverage: int, isolated: frozenset[str]) -> None:
        self.ledger = Ledger({symbol: CONTRACTS[symbol] for symbol in SYMBOLS}, State())
        self.ledger.book_income("TRANSFER", "", wallet * UNIT, 0)
        self.positions = dict.fromkeys(SYMBOLS, Position())
        self.isolated = isolated
        self.number = 0
        for symbol in SYMBOLS:
            settings_of = self.ledger.of(symbol)
            settings_of.leverage = leverage
            settings_of.margin_type = MarginType.ISOLATED if symbol in isolated else MarginType.CROSSED

    def fill(self, symbol: str, side: Side, price: int, quantity: int) -> None:
        """price in hundredths, quantity in hundredths: exact at the venue's scale."""
        self.number += 1
        order = paper_order(symbol, side, price * UNIT // 100, quantity * UNIT // 100, self.number)
        self.ledger.apply_fill(order, order.price, order.quantity, 0, is_maker=False, now_ms=self.number)
        own = Fill(f"o{self.number}", self.number, side, price, quantity, 0, self.number)
        self.positions[symbol], _ = apply_fill(self.positions[symbol], own, symbol)

    def rest(self, symbol: str, side: Side, price: int, quantity: int) -> None:
        self.number += 1
        order = paper_order(symbol, side, price * UNIT // 100, quantity * UNIT // 100, self.number)
        self.ledger.orders[self.number] = order

    def state(self, marks: dict[str, int]) -> MarginState:
        for symbol, mark in marks.items():
            self.ledger.marks[symbol] = mark * UNIT // 100
        return margin_state(money(self.ledger.state.wallet), [self.position(symbol) for symbol in SYMBOLS])

    def position(self, symbol: str) -> MarginPosition:
        own, key = self.positions[symbol], (symbol, PositionSide.BOTH)
        bids, asks = self.ledger.order_notionals(key)
        return MarginPosition(
            symbol,
            from_scaled(own.quantity, 2),
            from_scaled(own.cost if own.quantity >= 0 else -own.cost, 4),
            money(self.ledger.marks[symbol]),
            self.ledger.of(symbol).leverage,
            brackets_of(symbol),
            MarginMode.ISOLATED if symbol in self.isolated else MarginMode.CROSS,
            money(self.ledger.position(*key).isolated),
            money(bids),
            money(asks),
        )


symbols = st.sampled_from(SYMBOLS)
sides = st.sampled_from(Side)
prices = st.integers(1_000, 9_000_000)
trades = st.lists(st.tuples(symbols, sides, prices, st.integers(1, 10_000)), min_size=1, max_size=12)
marks = st.fixed_dictionaries(dict.fromkeys(SYMBOLS, prices))
isolations = st.sampled_from((frozenset[str](), frozenset({"SOLUSDT"}), frozenset(SYMBOLS)))


@settings(deadline=None, max_examples=150)
@given(st.integers(1, 10**7), st.integers(1, 75), isolations, trades, trades, marks)
def test_margin_agrees_with_the_paper_venue(
    wallet: int,
    leverage: int,
    isolated: frozenset[str],
    filled: list[tuple[str, Side, int, int]],
    resting: list[tuple[str, Side, int, int]],
    at: dict[str, int],
) -> None:
    both = Both(wallet, leverage, isolated)
    for trade in filled:
        both.fill(*trade)
    for order in resting[:4]:
        both.rest(*order)
    state, ledger = both.state(at), both.ledger
    # Each partial close cuts off a share of the cost at 1e-8 there and rounds it at 1e-4 here.
    drift = len(filled) * (D("0.00005") + UNITS)
    assert abs(state.unrealised - money(ledger.total().unrealised)) <= drift
    assert abs(state.maintenance - money(ledger.total().maintenance)) <= TOLERANCE
    assert abs(state.initial - money(ledger.total().initial)) <= TOLERANCE
    assert abs(state.free_margin - money(ledger.available())) <= drift + TOLERANCE
    for one in state.positions:
        position = ledger.positions.get((one.symbol, PositionSide.BOTH))
        if position is None or not position.amount:
            assert one.liquidation_price is None
            continue
        if one.mode is MarginMode.ISOLATED:
            ours = one.margin_balance - one.maintenance
            if abs(ours) > drift + TOLERANCE:
                assert ledger.is_liquidated((one.symbol, PositionSide.BOTH)) is one.is_liquidated
        _check_liquidation_price(both, one.symbol, one.liquidation_price, drift)


def _check_liquidation_price(both: Both, symbol: str, price: Decimal | None, drift: Decimal) -> None:
    ledger = both.ledger
    position = ledger.positions[symbol, PositionSide.BOTH]
    shown = money(ledger.liquidation_price(position))
    size = abs(money(position.amount))
    brackets = brackets_of(symbol)
    at_mark = bracket_of(size * money(ledger.marks[symbol]), brackets)
    if price is None:
        assert shown == 0 or bracket_of(size * shown, brackets) != at_mark
    elif bracket_of(size * price, brackets) == at_mark:
        assert abs(price - shown) <= (drift + TOLERANCE) / size * 2


def test_both_liquidate_at_the_same_cent() -> None:
    both = Both(1_000, 20, frozenset())
    both.fill("BTCUSDT", Side.BUY, 6_000_000, 10)  # 0.1 at 60,000
    found = {}
    for cents in (-1, 0, 1):
        # 1,000 + 0.1 x price - 6,000 = 0.1 x price x 0.004 at 50,200.80 and a third of a cent.
        state = both.state({"BTCUSDT": 5_020_080 + cents, "SOLUSDT": 100})
        found[cents] = (state.is_liquidated, both.ledger.is_cross_liquidated())
    assert found == {-1: (True, True), 0: (True, True), 1: (False, False)}
