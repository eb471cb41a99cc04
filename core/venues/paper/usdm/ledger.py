"""The futures wallet, its positions and what margin they need. Pure; all amounts are ints at scale 8, no floats.

It always holds: wallet = started + realised - fees + funding + insured. A position is its amount and the exact cost of
that amount, so profit over a whole round trip is the exact sum of its cash flows, whatever the partial closes.

Cross margin: the wallet less the isolated wallets covers all cross positions. Isolated margin: a position's own wallet
gets its initial margin when it grows and gives back its share when it shrinks; profits go to the wallet.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from core.types.orders import Side
from core.venues.paper.decimals import UNIT
from core.venues.paper.usdm.numbers import product, ratio
from core.venues.paper.usdm.orders import (
    Fill,
    Income,
    MarginType,
    Order,
    Position,
    PositionSide,
    PositionView,
    SymbolSettings,
)
from core.venues.paper.usdm.rules import DEFAULT_LEVERAGE, ContractRules

PositionKey = tuple[str, PositionSide]


class State(msgspec.Struct):
    """What is one per account; ids never go back."""

    wallet: int = 0
    started: int = 0
    realised: int = 0
    fees: int = 0
    funding: int = 0
    insured: int = 0
    is_dual_side: bool = False
    order_id: int = 1
    algo_id: int = 1_000_000
    trade_id: int = 1
    tran_id: int = 1
    next_funding_ms: int = 0


class Margin(msgspec.Struct, frozen=True):
    """Margin of one position key or a sum of them; notional is signed."""

    notional: int = 0
    unrealised: int = 0
    position_initial: int = 0
    order_initial: int = 0
    maintenance: int = 0

    @property
    def initial(self) -> int:
        return self.position_initial + self.order_initial

    def __add__(self, other: Margin) -> Margin:
        return Margin(
            self.notional + other.notional,
            self.unrealised + other.unrealised,
            self.position_initial + other.position_initial,
            self.order_initial + other.order_initial,
            self.maintenance + other.maintenance,
        )


class Ledger:
    """Changes are collected in `changed_*` and `incomes` until the shell has stored them."""

    def __init__(self, rules: dict[str, ContractRules], state: State) -> None:
        self.rules = rules
        self.state = state
        self.marks: dict[str, int] = dict.fromkeys(rules, 0)
        self.positions: dict[PositionKey, Position] = {}
        self.settings: dict[str, SymbolSettings] = {}
        self.orders: dict[int, Order] = {}
        """Open orders at the matching core."""
        self.changed_positions: set[PositionKey] = set()
        self.changed_settings: set[str] = set()
        self.incomes: list[Income] = []

    def of(self, symbol: str) -> SymbolSettings:
        return self.settings.setdefault(symbol, SymbolSettings(symbol, min(DEFAULT_LEVERAGE, self._max(symbol))))

    def _max(self, symbol: str) -> int:
        return self.rules[symbol].max_leverage if symbol in self.rules else DEFAULT_LEVERAGE

    def position(self, symbol: str, side: PositionSide) -> Position:
        return self.positions.setdefault((symbol, side), Position(symbol, side))

    def position_keys(self, symbol: str | None = None) -> list[PositionKey]:
        """The position keys of the account's mode, listed symbols only."""
        sides = (PositionSide.LONG, PositionSide.SHORT) if self.state.is_dual_side else (PositionSide.BOTH,)
        return [(name, side) for name in self.rules if symbol in {None, name} for side in sides]

    def open_positions(self) -> list[Position]:
        return [
            self.positions[key] for key in self.position_keys() if key in self.positions and self.positions[key].amount
        ]

    # Money

    def book_income(self, kind: str, symbol: str, amount: int, now_ms: int, trade_id: int = 0, info: str = "") -> None:
        """The one way in which the wallet changes."""
        state = self.state
        state.wallet += amount
        match kind:
            case "TRANSFER":
                state.started += amount
            case "REALIZED_PNL":
                state.realised += amount
            case "COMMISSION":
                state.fees -= amount
            case "FUNDING_FEE":
                state.funding += amount
            case "INSURANCE_CLEAR":
                state.insured += amount
            case _:
                raise AssertionError(f"no income is called {kind}")
        self.incomes.append(Income(state.tran_id, kind, symbol, amount, now_ms, trade_id, info))
        state.tran_id += 1
        assert state.wallet == state.started + state.realised - state.fees + state.funding + state.insured

    def apply_fill(self, order: Order, price: int, quantity: int, fee_rate: int, is_maker: bool, now_ms: int) -> Fill:
        """Book one fill on the order's position: profit of what it closes, then cost of what it opens, then the fee."""
        signed = quantity if order.side is Side.BUY else -quantity
        position = self.position(order.symbol, order.position_side)
        state = self.state
        trade_id = state.trade_id
        state.trade_id += 1
        realised, opened = 0, signed
        if position.amount and (position.amount > 0) != (signed > 0):
            realised, opened = self._close(position, price, signed)
        if opened:
            self._open(position, price, opened)
        if realised:
            self.book_income("REALIZED_PNL", order.symbol, realised, now_ms, trade_id)
        notional = product(price, quantity)
        # Fees round up: a fill is never free of charge because it is small.
        commission = -(-notional * fee_rate // UNIT)
        if commission:
            self.book_income("COMMISSION", order.symbol, -commission, now_ms, trade_id)
        position.carried = position.carried + commission - realised if position.amount else 0
        position.updated_ms = now_ms
        self.changed_positions.add((position.symbol, position.side))
        return Fill(
            trade_id=trade_id,
            order_id=order.order_id,
            symbol=order.symbol,
            side=order.side,
            position_side=order.position_side,
            price=price,
            quantity=quantity,
            quote_quantity=notional,
            realised=realised,
            commission=commission,
            is_maker=is_maker,
            time_ms=now_ms,
        )

    def _close(self, position: Position, price: int, signed: int) -> tuple[int, int]:
        """Gives the profit and the signed quantity that is left to open on the other side."""
        whole = abs(position.amount)
        closed = min(abs(signed), whole)
        sign = 1 if position.amount > 0 else -1
        cost = position.cost * closed // whole
        position.cost -= cost
        position.isolated -= position.isolated * closed // whole
        position.amount -= sign * closed
        return sign * product(price, closed) - cost, signed + sign * closed

    def _open(self, position: Position, price: int, signed: int) -> None:
        if not position.amount:
            position.carried = 0
        notional = product(price, signed)
        position.amount += signed
        position.cost += notional
        settings = self.of(position.symbol)
        if settings.margin_type is MarginType.ISOLATED:
            position.isolated += -(-abs(notional) // settings.leverage)

    def unrealised(self, position: Position) -> int:
        return product(self.marks[position.symbol], position.amount) - position.cost

    # Margin

    def is_isolated(self, symbol: str) -> bool:
        return self.of(symbol).margin_type is MarginType.ISOLATED

    @property
    def cross_wallet(self) -> int:
        return self.state.wallet - sum(position.isolated for position in self.positions.values())

    def order_notionals(self, key: PositionKey, without: int | None = None) -> tuple[int, int]:
        """Notional of the open orders that could make the position grow: of bids, of asks."""
        bids = asks = 0
        for order in self.orders.values():
            if order.symbol == key[0] and order.position_side is key[1] and not order.is_closing:
                if order.order_id == without:
                    continue
                notional = product(order.price, order.remaining)
                if order.side is Side.BUY:
                    bids += notional
                else:
                    asks += notional
        return bids, asks

    def margin(self, key: PositionKey, bids: int | None = None, asks: int | None = None) -> Margin:
        """Margin of one key; with bids and asks given, as it would be with these open."""
        position = self.positions.get(key)
        if bids is None or asks is None:
            bids, asks = self.order_notionals(key)
        notional = product(self.marks[key[0]], position.amount) if position else 0
        leverage = self.of(key[0]).leverage
        held = abs(notional) // leverage
        return Margin(
            notional=notional,
            unrealised=notional - position.cost if position else 0,
            position_initial=held,
            order_initial=self.worst_notional(key[1], notional, bids, asks) // leverage - held,
            maintenance=self.rules[key[0]].maintenance(abs(notional)),
        )

    def worst_notional(self, side: PositionSide, notional: int, bids: int, asks: int) -> int:
        """The largest absolute position notional that the open orders could lead to."""
        match side:
            case PositionSide.BOTH:
                return max(abs(notional + bids), abs(notional - asks))
            case PositionSide.LONG:
                return abs(notional) + bids
            case PositionSide.SHORT:
                return abs(notional) + asks

    def margins(self) -> dict[PositionKey, Margin]:
        return {key: self.margin(key) for key in self.position_keys()}

    def total(self) -> Margin:
        return _sum(self.margins().values())

    def cross(self) -> Margin:
        """Of the cross positions only."""
        return _sum(margin for key, margin in self.margins().items() if not self.is_isolated(key[0]))

    def available(self) -> int:
        """What may be put into new margin; negative when the account is beyond that already."""
        margins = self.margins()
        used = unrealised = 0
        for key, margin in margins.items():
            if self.is_isolated(key[0]):
                used += margin.order_initial
            else:
                used += margin.initial
                unrealised += margin.unrealised
        return self.cross_wallet + unrealised - used

    def is_liquidated(self, key: PositionKey) -> bool:
        """Whether an isolated position's own margin fell below its maintenance margin."""
        position, margin = self.positions[key], self.margin(key)
        return position.isolated + margin.unrealised < margin.maintenance

    def is_cross_liquidated(self) -> bool:
        cross = self.cross()
        return bool(cross.maintenance) and self.cross_wallet + cross.unrealised < cross.maintenance

    # Prices that are shown

    def entry_price(self, position: Position) -> int:
        return ratio(position.cost, position.amount)

    def break_even_price(self, position: Position) -> int:
        return ratio(position.cost + position.carried, position.amount)

    def liquidation_price(self, position: Position) -> int:
        """The mark price at which this position, all others unchanged, is liquidated; 0 when there is none above 0.

        Solves own margin + amount * price - cost = |amount| * price * ratio - cum for the price.
        """
        if not position.amount:
            return 0
        rules = self.rules[position.symbol]
        key = (position.symbol, position.side)
        notional = abs(product(self.marks[position.symbol], position.amount))
        bracket = next((one for one in rules.brackets if notional <= one.cap), rules.brackets[-1])
        if self.is_isolated(position.symbol):
            own = position.isolated
        else:
            others = _sum(
                margin for other, margin in self.margins().items() if other != key and not self.is_isolated(other[0])
            )
            own = self.cross_wallet + others.unrealised - others.maintenance
        slope = abs(position.amount) * bracket.ratio // UNIT - position.amount
        price = ratio(own - position.cost + bracket.cum, slope)
        return max(0, price)

    def view(self, position: Position) -> PositionView:
        margin = self.margin((position.symbol, position.side))
        return PositionView(
            position=msgspec.structs.replace(position),
            unrealised=margin.unrealised,
            realised=self.state.realised,
            margin_type=self.of(position.symbol).margin_type,
            mark=self.marks[position.symbol],
            maintenance=margin.maintenance,
        )


def _sum(margins: Iterable[Margin]) -> Margin:
    total = Margin()
    for margin in margins:
        total = total + margin
    return total
