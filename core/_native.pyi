"""VeloZ's native core."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy
import numpy.typing

import core.types.market
import core.types.orders

MAX_FRAME_BYTES: int = 16777216

MAX_FRAME_LEVELS: int = 200000

MAX_LEVELS_PER_SIDE: int = 20000

class FrameError(ValueError):
    """
    Bytes that aren't the message they should be: what is wrong, and at which byte.
    """

def parse_scaled(text: str, scale: int) -> int:
    """
    Decimal text to an int at `scale` decimal places, exactly.

    Raises ValueError for text that isn't a plain decimal, has more places than the scale, or needs more than 63 bits.
    """

class DepthFrame:
    """
    A decoded depth message (a core.types.market.DepthUpdateLike) whose levels stay native until they are asked for.

    Times are ns; ts_event_ns is the venue's E.
    """

    @property
    def symbol(self) -> str: ...

    @property
    def first_update_id(self) -> int: ...

    @property
    def last_update_id(self) -> int: ...

    @property
    def previous_update_id(self) -> int | None: ...

    @property
    def ts_event_ns(self) -> int: ...

    @property
    def ts_init_ns(self) -> int: ...

    @property
    def level_count(self) -> int: ...

    @property
    def bids(self) -> tuple[tuple[int, int], ...]:
        """
        (price, quantity) each, in the order of the message; built anew at each call.
        """

    @property
    def asks(self) -> tuple[tuple[int, int], ...]:
        """
        (price, quantity) each, in the order of the message; built anew at each call.
        """

class SnapshotFrame:
    """
    A decoded depth snapshot (a core.types.market.DepthSnapshotLike).

    is_complete: both sides had fewer levels than were asked for, so it is the venue's whole book. ts_event_ns is ts_init_ns where the venue states no time.
    """

    @property
    def symbol(self) -> str: ...

    @property
    def last_update_id(self) -> int: ...

    @property
    def is_complete(self) -> bool: ...

    @property
    def ts_event_ns(self) -> int: ...

    @property
    def ts_init_ns(self) -> int: ...

    @property
    def level_count(self) -> int: ...

    @property
    def bids(self) -> tuple[tuple[int, int], ...]:
        """
        (price, quantity) each, in the order of the message; built anew at each call.
        """

    @property
    def asks(self) -> tuple[tuple[int, int], ...]:
        """
        (price, quantity) each, in the order of the message; built anew at each call.
        """

class DepthDecoder:
    """
    Binance depth messages of the symbols that were added, from bytes to levels: spot, USD-M and COIN-M.

    A price with more places than its scale is an error; what a quantity has below its scale is cut off.
    """

    def __init__(self) -> None: ...

    def add(self, symbol: str, price_scale: int, quantity_scale: int) -> None:
        """
        Know a symbol, or change its scales. Raises ValueError for a scale that isn't 0 to 18.
        """

    def remove(self, symbol: str) -> None:
        """Forget a symbol; one that isn't known is no error."""

    def decode(self, frame: bytes, ts_init_ns: int) -> DepthFrame | None:
        """
        A depthUpdate message, raw or in a combined stream's envelope; None when its symbol wasn't added.

        Raises FrameError for anything else.
        """

    def decode_snapshot(self, body: bytes, symbol: str, limit_levels: int, ts_init_ns: int) -> SnapshotFrame:
        """
        The body of a REST depth answer to a request for limit_levels levels a side.

        Raises FrameError for other bytes and for a body that names another symbol, ValueError for a symbol that wasn't added.
        """

class OrderBook:
    """
    The book of one instrument, equal in behaviour to core.market.book.OrderBook.

    Beyond bid_floor and ask_ceiling nothing is known: updates there are ignored.
    """

    def __init__(self, max_levels_per_side: int = 20000) -> None: ...

    @property
    def last_update_id(self) -> int:
        """The last update id that the book includes (0: nothing yet)."""

    @property
    def bid_floor(self) -> int | None:
        """The lowest price whose bids are known; None when all are."""

    @property
    def ask_ceiling(self) -> int | None:
        """The highest price whose asks are known; None when all are."""

    def apply_snapshot(self, snapshot: core.types.market.DepthSnapshotLike) -> None:
        """
        Hold these levels and no others. Raises TypeError or ValueError for levels that are none, before anything changes.
        """

    def apply_update(self, update: core.types.market.DepthUpdateLike) -> None:
        """
        Set the quantities of these levels; zero removes. Raises TypeError or ValueError for levels that are none, before anything changes.
        """

    def best(self) -> tuple[int, int, int, int] | None:
        """
        (bid price, bid quantity, ask price, ask quantity); None while either side is empty.
        """

    def best_bid(self) -> tuple[int, int] | None:
        """(price, quantity)"""

    def best_ask(self) -> tuple[int, int] | None:
        """(price, quantity)"""

    def top(self, count: int) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
        """Bids and asks as (price, quantity), best first, at most count each."""

    def top_arrays(self, count: int) -> tuple[numpy.typing.NDArray[numpy.int64], numpy.typing.NDArray[numpy.int64]]:
        """
        Bids and asks as read-only (n, 2) arrays of price and quantity, best first, at most count each.

        They view native memory of this moment: a later update doesn't change them.
        """

    def level_counts(self) -> tuple[int, int]:
        """(bids, asks)"""

    def is_crossed(self) -> bool:
        """
        True when the best bid is at or above the best ask: no venue's book is, so messages were lost.
        """

    def sweep(self, is_buy: bool, quantity: int) -> tuple[int, int, int | None, int]:
        """
        (filled, notional, worst price, levels) of taking quantity from the other side, best first.

        filled below quantity means that the book ran out; the worst price is None when nothing was filled. Raises ValueError for a negative quantity.
        """

    def sweep_notional(self, is_buy: bool, notional: int) -> tuple[int, int, int | None, int]:
        """
        As sweep, for the largest quantity whose notional is at most `notional` (price x quantity, at the sum of their scales).

        Raises ValueError for a negative notional.
        """

    def imbalance(self, levels: int) -> tuple[int, int]:
        """(bid quantity, ask quantity) of the best `levels` a side."""

    def microprice(self) -> tuple[int, int] | None:
        """
        Best bid and offer, each weighted with the other's quantity, as (numerator, denominator) at the price's scale.

        Exact; None while either side is empty.
        """

    def canonical_bytes(self) -> bytes:
        """
        The last update id and every level; the format stands in core.market.book.
        """

    def digest(self) -> str:
        """Hex SHA-256 of canonical_bytes: equal books have equal digests."""

class DiskThread:
    """A thread that writes and syncs beside Python; one request at a time."""

    def __init__(self) -> None: ...

    def begin(self, descriptor: int, offset: int, data: bytes) -> bool:
        """
        All of data at an offset, then one sync; False while another request is on its way.
        """

    def expect(self) -> None:
        """
        Something is about to begin: wakes the thread up. Nothing has to follow.
        """

    def wait(self, timeout_s: float, looking_s: float = 0.0) -> bool:
        """
        Whether it is over, or became so within the time; for looking_s of it the caller stays awake.
        """

    def watch(self) -> bool:
        """
        Whether it is over; if not, descriptor can be read from once it is. drain before the next time.
        """

    @property
    def descriptor(self) -> int: ...

    def drain(self) -> None: ...

    def outcome(self) -> tuple[int, int]:
        """
        Of what is over: errno of the write and of the sync, 0 for what succeeded.
        """

def encode_group(previous: bytes, payloads: Sequence[bytes]) -> tuple[bytes, list[bytes]]:
    """
    A group's bytes and each record's hash (core.storage.journal_format). The payloads have been checked.
    """

def first_unfit(payloads: Sequence[bytes], limit_bytes: int) -> int:
    """
    The position of the first payload that no record can hold (core.storage.journal_format.check_payload), or how many there are.
    """

def trading_messages(engine_id: str, quoted_engine_id: bytes, epoch: int, first_sequence: int, payloads: Sequence[bytes], hashes: Sequence[bytes]) -> list[tuple[str, bytes, str]]:
    """
    What is published of records that follow each other, each as (subject, payload, message id).

    quoted_engine_id is the engine's id as JSON. Raises ValueError for a record that isn't an event's.
    """

def crc32c(data: bytes, before: int = 0) -> int:
    """CRC32C; before: of the bytes that go ahead of these."""

class HmacSha256:
    """HMAC-SHA256 under one key."""

    def __init__(self, key: bytes) -> None: ...

    def hex_of(self, payload: str) -> str:
        """The signature of a text, as lower-case hex."""

class Resting:
    """What rests of one account in one market, at one moment."""

    @property
    def orders(self) -> int: ...

    @property
    def buy_quantity(self) -> int: ...

    @property
    def sell_quantity(self) -> int: ...

    def quantity(self, side: str) -> int: ...

    def unknown(self, side: str) -> int:
        """How many orders of a side have no known outcome."""

    def opposite_price(self, side: str) -> int | None:
        """The best of our own prices that an order on this side could meet."""

class ExposureBook:
    """
    What rests, kept up with every order; core.risk.exposure is the oracle.
    """

    def __init__(self, mandate_type: type) -> None: ...

    def order_changed(self, old: object, new: object) -> None:
        """
        An Order before and after; None for none. The swapped call undoes it exactly.
        """

    def position_changed(self, account_id: str, venue: str, symbol: str, quantity: int) -> None: ...

    def instrument_changed(self, instrument: object) -> None: ...

    def resting(self, account_id: str, venue: str, symbol: str) -> Resting: ...

    def markets(self, account_id: str) -> tuple[tuple[str, str, str], ...]:
        """Where the account has, or had, open orders."""

    def open_orders(self, account_id: str) -> int: ...

    def reserved(self, asset: str, as_of_ns: int) -> str | None:
        """
        What our orders take, as decimal text, of an asset that the venue told at as_of_ns; None where 128 bits don't hold it.
        """

    def of_strategy(self, account_id: str, venue: str, symbol: str, strategy_id: str) -> tuple[int, int]:
        """What a strategy's open orders, held ones too, may still buy and sell."""

    def orders_of_mandate(self, mandate_id: str) -> int:
        """Its open orders, held ones too."""

class Activity:
    """How much was asked for lately; core.risk.activity is the oracle."""

    def __init__(self) -> None: ...

    def order_intended(self, intent: object, ts_ns: int) -> None: ...

    def amend_requested(self, intent: object, ts_ns: int) -> None: ...

    def cancel_requested(self, intent: object, ts_ns: int) -> None: ...

    def count(self, kind: str, key: str, window_ms: int, now_ns: int) -> int:
        """
        How many lie within the last window_ms; one that is exactly so old no longer does.
        """

    def repeats(self, intent_fingerprint: str, window_ms: int, now_ns: int) -> int:
        """How many orders of the same terms lie within the last window_ms."""

    def times(self) -> list[tuple[str, list[int]]]:
        """By kind and key, with a zero byte between them."""

    def fingerprints(self) -> list[tuple[str, list[int]]]: ...

    def restore(self, times: Sequence[tuple[str, Sequence[int]]], fingerprints: Sequence[tuple[str, Sequence[int]]]) -> None:
        """What times and fingerprints gave."""

class Moment:
    """
    What the native side has read of one DecisionInputs, for the next order.
    """

    def __init__(self) -> None: ...

class RiskLimits:
    """What holds for one account, strategy and symbol, ready to be compared."""

    def __init__(self, limits: dict[str, tuple[str, str]], rates: dict[str, list[tuple[list[str], int, int, str]]]) -> None:
        """
        limits: decimal text and source by name. rates: by name, of each what is counted, limit, window_ms and source. Raises ValueError for a limit that 128 bits don't hold.
        """

def evaluate_risk(exposure: ExposureBook, activity: Activity, limits: RiskLimits, intent: object, inputs: object, kill_switch: str, frozen_reason: str | None, equity: object, is_today: bool, now_ns: int, reference_price: object, max_deviation_bps: object, replaced: tuple[int, int, int | None, int | None, object] | None, margin: tuple[object, object, object] | None) -> tuple[bytes, int | None, str | None] | None:
    """
    Every built-in check: the records as their JSON, which of them is the first that didn't pass, and the order's worth as decimal text.

    None where 128 bits don't hold a value exactly: core.kernel.decide_risk then decides in Python.
    """

class PlainTerms:
    """What holds for plain orders of one account, strategy and instrument."""

    def __init__(self, limits: RiskLimits, capabilities: object, venue: str, price_scale: int, quantity_scale: int, rules_version: int, times_in_force: list[str], kill_switch: str, equity: object, day_start_equity: object, peak_equity: object, from_ns: int, until_ns: int) -> None:
        """Raises ValueError for an equity that 128 bits don't hold."""

    def hold(self, now_ns: int, capabilities: object) -> bool: ...

class PlainOrders:
    """
    A limit order under a mandate that nothing speaks against: decided, applied and answered on the kernel's own tables.
    """

    def __init__(self, exposure: ExposureBook, activity: Activity, tables: dict[str, dict[Any, Any]], types: dict[str, object]) -> None: ...

    def decide(self, terms: PlainTerms, request: object, authority: object, inputs: object, now_ns: int, trace_id: str | None) -> Any:
        """
        The OrderIntended, or None where core.kernel.decide_orders is to decide. Changes nothing.
        """

    def apply(self, event: object, undo: list[Any] | None) -> bool:
        """
        Take in an OrderIntended as core.kernel.kernel does; False, and nothing has changed, where that is to do it. undo: what State.rollback goes by, where changes can be undone.
        """

    def apply_accepted(self, event: object, undo: list[Any] | None) -> bool:
        """The same for an OrderAccepted."""

    def retire(self, order_ids: list[str], undo: list[Any] | None) -> list[str]:
        """
        Let go of final orders that stand alone, as core.kernel.kernel does; the others, which are left to it.
        """

class OrderRequests:
    """Plain limit orders as signed, masked frames of one connection."""

    def __init__(self, method: str, api_key: str, recv_window_ms: int) -> None: ...

    def frames(self, intents: list[core.types.orders.OrderIntent], first_id: int, timestamp_ms: int, sign: HmacSha256 | Callable[[str], str] | None) -> dict[str, tuple[str, bytes]]:
        """
        Request id and frame of each by its clientOrderId, without those that aren't plain; the ids follow each
        other in the order of the intents, those left out have theirs as well. sign makes the
        signature of a payload; it is None where the connection has a session. Raises what sign raises.
        """

class Answers:
    """The acknowledgements among what comes on one connection."""

    def __init__(self) -> None: ...

    def feed(self, data: bytes) -> tuple[list[tuple[str, int, str, str, dict[tuple[str, int], int]]], bytes]:
        """
        Those that are whole by now, each as (request id, order id, symbol, clientOrderId, the venue's counts by
        kind and window in seconds); and the bytes of all else, in whole frames, for who knows the protocol.
        """

def is_text_only(value: object, depth_limit: int) -> bool:
    """See core.text.canonical.is_text_only."""

def clean_json(value: object, traits: dict[str, int], clean: set[str], clean_identifiers: set[str], depth_limit: int, nodes_limit: int) -> bytes | None:
    """See core.text.redaction.Redactor.clean_json."""

def redacted(value: object, slow: object, traits: dict[str, int], clean: set[str], clean_identifiers: set[str], depth_limit: int, nodes_limit: int) -> Any:
    """
    What slow.visit makes of a value, which is asked for the parts alone that may not stay as they are; NotImplemented where it has to see the whole.
    """

def cells(value: object, shapes: dict[type, tuple[tuple[str, ...], tuple[str, ...]]], decimal: object, decimal_text: object, depth_limit: int) -> Any:
    """
    See tools.cells. shapes tells of each model the names of its fields and of what it computes; NotImplemented where the value holds anything else.
    """
