"""What the engine needs of a venue. An adapter speaks the venue's wire format and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from decimal import Decimal
from typing import Protocol, runtime_checkable

import msgspec

from core.types.codes import Refusal
from core.types.instruments import Instrument
from core.types.orders import OrderIntent, OrderStatus, OrderType, Side, TimeInForce
from core.types.venues import VenueCapabilities


class Submitted(msgspec.Struct, frozen=True, gc=False):
    """The venue accepted the order. Its fills arrive on the user data stream."""

    venue_order_id: str


class SubmitRefused(msgspec.Struct, frozen=True):
    """The venue answered no: the order is not live."""

    refusal: Refusal


class SubmitUnknown(msgspec.Struct, frozen=True):
    """No answer, or one that proves nothing (time-out, 5xx, -1006, -1007): the order may be live (I5)."""

    detail: str


SubmitResult = Submitted | SubmitRefused | SubmitUnknown


class Amended(msgspec.Struct, frozen=True):
    """The order stands at the venue with this total quantity and limit price."""

    quantity: int
    price: int | None


class AmendRefused(msgspec.Struct, frozen=True):
    """The venue answered no: the order stands as it was."""

    refusal: Refusal


class AmendUnknown(msgspec.Struct, frozen=True):
    """No answer, or one that proves nothing: the order's own state at the venue tells."""

    detail: str


AmendResult = Amended | AmendRefused | AmendUnknown


class VenueTrade(msgspec.Struct, frozen=True):
    """One fill of ours. price and quantity are ints at the instrument's scales."""

    symbol: str
    trade_id: int
    venue_order_id: str
    client_order_id: str
    side: Side
    price: int
    quantity: int
    fee: Decimal
    fee_asset: str
    is_maker: bool
    ts_event_ns: int


class VenueOrder(msgspec.Struct, frozen=True):
    """An order as the venue sees it. The terms (from side on) are None where a message doesn't carry them; quantity and
    prices are ints at the instrument's scales."""

    symbol: str
    client_order_id: str
    venue_order_id: str
    status: OrderStatus
    filled_quantity: int
    ts_event_ns: int
    side: Side | None = None
    order_type: OrderType | None = None
    time_in_force: TimeInForce | None = None
    quantity: int | None = None
    price: int | None = None
    stop_price: int | None = None
    post_only: bool = False
    reduce_only: bool = False


class VenuePosition(msgspec.Struct, frozen=True):
    """A position as the venue keeps it (derivatives only). quantity is signed; prices at price_scale."""

    symbol: str
    quantity: int
    entry_price: Decimal
    leverage: int
    ts_event_ns: int


class VenueFunding(msgspec.Struct, frozen=True):
    """One settlement of funding; amount is negative when it was paid."""

    symbol: str
    transaction_id: str
    amount: Decimal
    asset: str
    ts_event_ns: int


class ExecutionReport(msgspec.Struct, frozen=True):
    """A message of the user data stream about one order; trade is set when it carries a fill."""

    order: VenueOrder
    trade: VenueTrade | None
    reason: str


class UserStreamConnected(msgspec.Struct, frozen=True):
    """The user data stream is (again) complete from here; what came before must be asked for by REST."""


class UserStreamLost(msgspec.Struct, frozen=True):
    detail: str


UserEvent = ExecutionReport | UserStreamConnected | UserStreamLost


class VenuePort(Protocol):
    """Venue calls. Reads raise VenueUnavailableError when the venue can't be reached; submit never raises for that:
    it answers SubmitUnknown. No call here repeats a submit."""

    async def instruments(self) -> tuple[Instrument, ...]: ...
    async def submit(self, intent: OrderIntent) -> SubmitResult: ...
    async def cancel(self, symbol: str, client_order_id: str) -> None: ...
    async def order(self, symbol: str, client_order_id: str) -> VenueOrder | None:
        """None when the venue knows no such order."""
        ...

    async def order_by_venue_id(self, symbol: str, venue_order_id: str) -> VenueOrder | None:
        """The same by the id that the venue gave it, which never comes again. None also where the venue can't say."""
        ...

    async def open_orders(self, symbol: str) -> list[VenueOrder]: ...
    async def all_open_orders(self) -> list[VenueOrder]:
        """Of every symbol, with their terms."""
        ...

    async def trades_of(self, symbol: str, venue_order_id: str) -> list[VenueTrade]: ...
    async def trades_since(self, symbol: str, since_ns: int) -> list[VenueTrade]:
        """Every fill of the account in a symbol at or after a time of the venue's clock, oldest first, whole."""
        ...

    async def balances(self) -> dict[str, Decimal]: ...
    async def positions(self) -> list[VenuePosition]:
        """Empty on spot."""
        ...

    async def funding_since(self, since_ns: int) -> list[VenueFunding]:
        """Empty on spot."""
        ...

    @property
    def capabilities(self) -> VenueCapabilities: ...
    def now_ns(self) -> int | None:
        """The venue's clock as it is known here, which goes on when the machine's is set; None when it isn't known."""
        ...

    async def amend(self, intent: OrderIntent, quantity: int, price: int | None) -> AmendResult:
        """Change a resting order in place, within the capabilities; never raises for a venue that doesn't answer."""
        ...

    async def cancel_all(self, symbol: str) -> None:
        """Every open order of one symbol. Raises RefusalError, VenueUnavailableError."""
        ...

    def user_events(self) -> AsyncIterator[UserEvent]:
        """Connects, reconnects with backoff, and never ends by itself."""
        ...


Told = Callable[[Sequence[tuple[OrderIntent, SubmitResult]]], None]
"""What is to be done with the answer to a submit. MUST NOT block or raise."""


@runtime_checkable
class PromptVenue(Protocol):
    """What a venue may offer beside VenuePort: an order's bytes are on the socket before its caller first waits."""

    def prepare(self, intents: Sequence[OrderIntent], told: Told) -> object | None:
        """Make ready all that begin will need for these, leave by the venue's limits with it; begin or withdraw MUST
        follow. Sends nothing. None where none of them can go at once."""
        ...

    def begin(self, prepared: object) -> Sequence[OrderIntent]:
        """Send each once, all of them together. told hears of each answer, once, in a time of the venue's own, of
        several at once where they come so, and not before begin has returned.

        Returns those of which that isn't possible at once, and nothing was sent; submit is their way then.
        """
        ...

    def withdraw(self, prepared: object) -> None:
        """What was made ready won't be begun: gives back what was taken for it."""
        ...


class VenueUnavailableError(Exception):
    """The venue can't be reached or doesn't answer with sense; the message says which call and why."""


class VenueRateLimitedError(VenueUnavailableError):
    """The venue's rate limits stand in the way: they were met here, and nothing was sent, or the venue answered so
    (429, or 418 when it has banned this address). Either way nothing was executed.

    retry_after_s is how long to wait; asking earlier is refused here without being sent.
    """

    def __init__(
        self, message: str, retry_after_s: float = 0.0, *, is_banned: bool = False, nothing_sent: bool = True
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.is_banned = is_banned
        self.nothing_sent = nothing_sent
