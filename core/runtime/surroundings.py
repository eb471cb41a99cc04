"""What decisions are made on besides the kernel's state: the market, the venue's state, what the account holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from core._native import Moment
from core.authority.proposal_kinds import AmendProposal, BracketProposal, Proposal
from core.authority.verify import read_proposal
from core.kernel.inputs import Balances, DecisionInputs, InstrumentKey, MarginInputs
from core.kernel.kernel import Kernel
from core.market.hub import NO_BOOK_AGE_MS, MarketHub
from core.portfolio.exact import rounded
from core.portfolio.margin import MarginBracket
from core.portfolio.positions import EXACT
from core.types.codes import RefusalError
from core.types.events import MarketInputs
from core.types.money import from_scaled
from core.types.orders import OrderType, Side

INVERSE_PLACES = 18
"""A rate that no decimal holds whole is rounded half to even here, so that amounts keep a length that SQL can hold."""
NO_MARKET = MarketInputs(
    bid_price=None,
    ask_price=None,
    mid_price=None,
    book_state="NONE",
    book_update_id=0,
    book_age_ms=NO_BOOK_AGE_MS,
)


class Surroundings:
    """Kept up to date by those who follow the venue. account_id is the account that the venue's key belongs to."""

    def __init__(self, kernel: Kernel, hub: MarketHub, account_id: str, reporting_asset: str) -> None:
        self.hub = hub
        self.account_id = account_id
        self.reporting_asset = reporting_asset
        self.venue_connected = False
        self.lost_since_ns: int | None = None
        self.balances: Balances | None = None
        self.margin: MarginInputs | None = None
        self.brackets: Mapping[str, tuple[MarginBracket, ...]] = {}
        self._kernel = kernel

    def inputs(
        self,
        venue: str,
        symbol: str,
        side: Side | None = None,
        sweep: Decimal | None = None,
        marks: Marks | None = None,
    ) -> DecisionInputs:
        """For a decision on one instrument; sweep is the quantity of a market order, marks what was asked for at the
        same moment already."""
        if (venue, symbol) not in self._kernel.listed_keys:
            return DecisionInputs(NO_MARKET, self.venue_connected, account_id=self.account_id or None)
        hub = self.hub
        now_ns = hub.now_ns()
        try:
            market = hub.market_inputs(symbol, now_ns)
        except RefusalError:
            return DecisionInputs(
                NO_MARKET, self.venue_connected, balances=self.balances, account_id=self.account_id or None
            )
        worst_price = depth_quantity = visible_quantity = None
        if side is not None:
            visible_quantity = hub.visible_quantity(symbol, side, now_ns)
            if sweep is not None:
                worst_price, depth_quantity = self._sweep(symbol, side, sweep)
        marks = self.marks(now_ns) if marks is None else marks
        return DecisionInputs(
            market,
            self.venue_connected,
            worst_price,
            depth_quantity,
            self.balances,
            visible_quantity,
            marks,
            Rates(self._kernel, marks, self.reporting_asset),
            self.margin,
            self.account_id or None,
            Moment(),
        )

    def marks(self, now_ns: int | None = None) -> Marks:
        return Marks(self._kernel, self.hub, now_ns)

    def for_proposal(self, canonical: bytes) -> DecisionInputs:
        """For a decision on what is proposed; of what can't be read, or is about no market, there is none."""
        proposal = read_proposal(canonical)
        match proposal:
            case Proposal():
                sweep = None if OrderType(proposal.order_type).has_limit_price else Decimal(proposal.quantity)
                return self.inputs(proposal.venue, proposal.symbol, Side(proposal.side), sweep)
            case BracketProposal():
                sweep = None if OrderType(proposal.entry_type).has_limit_price else Decimal(proposal.quantity)
                return self.inputs(proposal.venue, proposal.symbol, Side(proposal.side), sweep)
            case AmendProposal():
                return self.inputs(proposal.venue, proposal.symbol, Side(proposal.side))
            case _:
                return DecisionInputs(NO_MARKET, self.venue_connected, account_id=self.account_id or None)

    def mark_price(self, symbol: str) -> Decimal | None:
        try:
            return self.hub.mark_price(symbol)
        except RefusalError:
            return None

    def _sweep(self, symbol: str, side: Side, quantity: Decimal) -> tuple[Decimal | None, Decimal | None]:
        try:
            estimate = self.hub.estimate_execution(symbol, side, quantity)
        except RefusalError:
            return None, None
        return estimate.worst_price, estimate.filled_quantity


class Marks(Mapping[InstrumentKey, int]):
    """The mid prices of this moment at each instrument's price_scale, each asked for when it is needed and then kept;
    without one there is no key. A mid of half a unit is rounded half to even."""

    def __init__(self, kernel: Kernel, hub: MarketHub, now_ns: int | None = None) -> None:
        self._kernel = kernel
        self._listed = kernel.listed_keys
        self._hub = hub
        self._now_ns = hub.now_ns() if now_ns is None else now_ns
        self._known: dict[InstrumentKey, int | None] = {}

    def __getitem__(self, key: InstrumentKey) -> int:
        mark: int | None = self.get(key)
        if mark is None:
            raise KeyError(key)
        return mark

    # Every order asks for many of them: what Mapping would make of __getitem__ takes three times as long.
    def get(self, key: InstrumentKey, default: Any = None) -> Any:
        if key in self._known:
            mark = self._known[key]
        else:
            mark = self._hub.mark_scaled(key[1], self._now_ns) if key in self._listed else None
            self._known[key] = mark
        return default if mark is None else mark

    def __iter__(self) -> Iterator[InstrumentKey]:
        return (key for key in self._kernel.listed if key in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class Rates(Mapping[str, Decimal]):
    """What one unit of an asset is worth in the reporting currency: by a market against it, either way round."""

    def __init__(self, kernel: Kernel, marks: Marks, reporting_asset: str) -> None:
        self._kernel = kernel
        self._marks = marks
        self._reporting_asset = reporting_asset

    def __getitem__(self, asset: str) -> Decimal:
        if asset == self._reporting_asset:
            return Decimal(1)
        for key, is_inverse in self._kernel.markets_between(asset, self._reporting_asset):
            mark = self._marks.get(key)
            if mark:
                price = from_scaled(mark, self._kernel.instruments[key].price_scale)
                return rounded(EXACT.divide(Decimal(1), price), INVERSE_PLACES) if is_inverse else price
        raise KeyError(asset)

    def __iter__(self) -> Iterator[str]:
        assets = {
            asset: None for item in self._kernel.instruments.values() for asset in (item.base_asset, item.quote_asset)
        }
        return (asset for asset in assets if asset in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)
