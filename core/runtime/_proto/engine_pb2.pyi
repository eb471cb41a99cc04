from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EngineStatus(_message.Message):
    __slots__ = ("engine_id", "epoch", "environment", "mode", "journal_sequence", "venue_connected", "kill_switch", "roster_version", "books", "now_ns", "journal_first_sequence", "journal_torn_tail", "journal_problem")
    class BooksEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    JOURNAL_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    VENUE_CONNECTED_FIELD_NUMBER: _ClassVar[int]
    KILL_SWITCH_FIELD_NUMBER: _ClassVar[int]
    ROSTER_VERSION_FIELD_NUMBER: _ClassVar[int]
    BOOKS_FIELD_NUMBER: _ClassVar[int]
    NOW_NS_FIELD_NUMBER: _ClassVar[int]
    JOURNAL_FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    JOURNAL_TORN_TAIL_FIELD_NUMBER: _ClassVar[int]
    JOURNAL_PROBLEM_FIELD_NUMBER: _ClassVar[int]
    engine_id: str
    epoch: int
    environment: str
    mode: str
    journal_sequence: int
    venue_connected: bool
    kill_switch: str
    roster_version: int
    books: _containers.ScalarMap[str, str]
    now_ns: int
    journal_first_sequence: int
    journal_torn_tail: str
    journal_problem: str
    def __init__(self, engine_id: _Optional[str] = ..., epoch: _Optional[int] = ..., environment: _Optional[str] = ..., mode: _Optional[str] = ..., journal_sequence: _Optional[int] = ..., venue_connected: _Optional[bool] = ..., kill_switch: _Optional[str] = ..., roster_version: _Optional[int] = ..., books: _Optional[_Mapping[str, str]] = ..., now_ns: _Optional[int] = ..., journal_first_sequence: _Optional[int] = ..., journal_torn_tail: _Optional[str] = ..., journal_problem: _Optional[str] = ...) -> None: ...

class ListInstrumentsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListInstrumentsResponse(_message.Message):
    __slots__ = ("instruments",)
    INSTRUMENTS_FIELD_NUMBER: _ClassVar[int]
    instruments: _containers.RepeatedCompositeFieldContainer[Instrument]
    def __init__(self, instruments: _Optional[_Iterable[_Union[Instrument, _Mapping]]] = ...) -> None: ...

class Instrument(_message.Message):
    __slots__ = ("venue", "symbol", "base_asset", "quote_asset", "tick_size", "lot_size", "min_quantity", "max_quantity", "min_notional_quote", "price_scale", "quantity_scale", "version")
    VENUE_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    BASE_ASSET_FIELD_NUMBER: _ClassVar[int]
    QUOTE_ASSET_FIELD_NUMBER: _ClassVar[int]
    TICK_SIZE_FIELD_NUMBER: _ClassVar[int]
    LOT_SIZE_FIELD_NUMBER: _ClassVar[int]
    MIN_QUANTITY_FIELD_NUMBER: _ClassVar[int]
    MAX_QUANTITY_FIELD_NUMBER: _ClassVar[int]
    MIN_NOTIONAL_QUOTE_FIELD_NUMBER: _ClassVar[int]
    PRICE_SCALE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_SCALE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    venue: str
    symbol: str
    base_asset: str
    quote_asset: str
    tick_size: str
    lot_size: str
    min_quantity: str
    max_quantity: str
    min_notional_quote: str
    price_scale: int
    quantity_scale: int
    version: int
    def __init__(self, venue: _Optional[str] = ..., symbol: _Optional[str] = ..., base_asset: _Optional[str] = ..., quote_asset: _Optional[str] = ..., tick_size: _Optional[str] = ..., lot_size: _Optional[str] = ..., min_quantity: _Optional[str] = ..., max_quantity: _Optional[str] = ..., min_notional_quote: _Optional[str] = ..., price_scale: _Optional[int] = ..., quantity_scale: _Optional[int] = ..., version: _Optional[int] = ...) -> None: ...

class SymbolRequest(_message.Message):
    __slots__ = ("symbol",)
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    def __init__(self, symbol: _Optional[str] = ...) -> None: ...

class AccountRequest(_message.Message):
    __slots__ = ("account_id",)
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    def __init__(self, account_id: _Optional[str] = ...) -> None: ...

class Ticker(_message.Message):
    __slots__ = ("symbol", "bid_price", "bid_quantity", "ask_price", "ask_quantity", "update_id", "last_price", "last_quantity", "ts_event_ns", "as_of_ns")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    BID_PRICE_FIELD_NUMBER: _ClassVar[int]
    BID_QUANTITY_FIELD_NUMBER: _ClassVar[int]
    ASK_PRICE_FIELD_NUMBER: _ClassVar[int]
    ASK_QUANTITY_FIELD_NUMBER: _ClassVar[int]
    UPDATE_ID_FIELD_NUMBER: _ClassVar[int]
    LAST_PRICE_FIELD_NUMBER: _ClassVar[int]
    LAST_QUANTITY_FIELD_NUMBER: _ClassVar[int]
    TS_EVENT_NS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    bid_price: str
    bid_quantity: str
    ask_price: str
    ask_quantity: str
    update_id: int
    last_price: str
    last_quantity: str
    ts_event_ns: int
    as_of_ns: int
    def __init__(self, symbol: _Optional[str] = ..., bid_price: _Optional[str] = ..., bid_quantity: _Optional[str] = ..., ask_price: _Optional[str] = ..., ask_quantity: _Optional[str] = ..., update_id: _Optional[int] = ..., last_price: _Optional[str] = ..., last_quantity: _Optional[str] = ..., ts_event_ns: _Optional[int] = ..., as_of_ns: _Optional[int] = ...) -> None: ...

class GetOrderBookRequest(_message.Message):
    __slots__ = ("symbol", "depth")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    depth: int
    def __init__(self, symbol: _Optional[str] = ..., depth: _Optional[int] = ...) -> None: ...

class Level(_message.Message):
    __slots__ = ("price", "quantity")
    PRICE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    price: str
    quantity: str
    def __init__(self, price: _Optional[str] = ..., quantity: _Optional[str] = ...) -> None: ...

class OrderBook(_message.Message):
    __slots__ = ("symbol", "state", "stale_reason", "last_update_id", "bids", "asks", "as_of_ns")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STALE_REASON_FIELD_NUMBER: _ClassVar[int]
    LAST_UPDATE_ID_FIELD_NUMBER: _ClassVar[int]
    BIDS_FIELD_NUMBER: _ClassVar[int]
    ASKS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    state: str
    stale_reason: str
    last_update_id: int
    bids: _containers.RepeatedCompositeFieldContainer[Level]
    asks: _containers.RepeatedCompositeFieldContainer[Level]
    as_of_ns: int
    def __init__(self, symbol: _Optional[str] = ..., state: _Optional[str] = ..., stale_reason: _Optional[str] = ..., last_update_id: _Optional[int] = ..., bids: _Optional[_Iterable[_Union[Level, _Mapping]]] = ..., asks: _Optional[_Iterable[_Union[Level, _Mapping]]] = ..., as_of_ns: _Optional[int] = ...) -> None: ...

class GetKlinesRequest(_message.Message):
    __slots__ = ("symbol", "interval", "limit")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    interval: str
    limit: int
    def __init__(self, symbol: _Optional[str] = ..., interval: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class Kline(_message.Message):
    __slots__ = ("open_time_ns", "close_time_ns", "open", "high", "low", "close", "volume", "quote_volume", "trades", "closed")
    OPEN_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    CLOSE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    HIGH_FIELD_NUMBER: _ClassVar[int]
    LOW_FIELD_NUMBER: _ClassVar[int]
    CLOSE_FIELD_NUMBER: _ClassVar[int]
    VOLUME_FIELD_NUMBER: _ClassVar[int]
    QUOTE_VOLUME_FIELD_NUMBER: _ClassVar[int]
    TRADES_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    open_time_ns: int
    close_time_ns: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    quote_volume: str
    trades: int
    closed: bool
    def __init__(self, open_time_ns: _Optional[int] = ..., close_time_ns: _Optional[int] = ..., open: _Optional[str] = ..., high: _Optional[str] = ..., low: _Optional[str] = ..., close: _Optional[str] = ..., volume: _Optional[str] = ..., quote_volume: _Optional[str] = ..., trades: _Optional[int] = ..., closed: _Optional[bool] = ...) -> None: ...

class GetKlinesResponse(_message.Message):
    __slots__ = ("klines", "as_of_ns")
    KLINES_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    klines: _containers.RepeatedCompositeFieldContainer[Kline]
    as_of_ns: int
    def __init__(self, klines: _Optional[_Iterable[_Union[Kline, _Mapping]]] = ..., as_of_ns: _Optional[int] = ...) -> None: ...

class GetTradesRequest(_message.Message):
    __slots__ = ("symbol", "limit")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    limit: int
    def __init__(self, symbol: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class Trade(_message.Message):
    __slots__ = ("trade_id", "price", "quantity", "side", "ts_event_ns")
    TRADE_ID_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    TS_EVENT_NS_FIELD_NUMBER: _ClassVar[int]
    trade_id: int
    price: str
    quantity: str
    side: str
    ts_event_ns: int
    def __init__(self, trade_id: _Optional[int] = ..., price: _Optional[str] = ..., quantity: _Optional[str] = ..., side: _Optional[str] = ..., ts_event_ns: _Optional[int] = ...) -> None: ...

class GetTradesResponse(_message.Message):
    __slots__ = ("trades", "as_of_ns")
    TRADES_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    trades: _containers.RepeatedCompositeFieldContainer[Trade]
    as_of_ns: int
    def __init__(self, trades: _Optional[_Iterable[_Union[Trade, _Mapping]]] = ..., as_of_ns: _Optional[int] = ...) -> None: ...

class GetFeedHealthRequest(_message.Message):
    __slots__ = ("symbol",)
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    def __init__(self, symbol: _Optional[str] = ...) -> None: ...

class FeedHealth(_message.Message):
    __slots__ = ("symbol", "book_state", "stale_reason", "book_age_ms", "ticker_age_ms", "exchange_latency_ms_p50", "exchange_latency_ms_p99", "clock_offset_ms", "message_rate_per_s", "messages", "gaps", "resyncs", "transitions", "stale_time_ms", "ticker_comparisons", "ticker_mismatches", "trades_missed", "as_of_ns")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    BOOK_STATE_FIELD_NUMBER: _ClassVar[int]
    STALE_REASON_FIELD_NUMBER: _ClassVar[int]
    BOOK_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    TICKER_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_LATENCY_MS_P50_FIELD_NUMBER: _ClassVar[int]
    EXCHANGE_LATENCY_MS_P99_FIELD_NUMBER: _ClassVar[int]
    CLOCK_OFFSET_MS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_RATE_PER_S_FIELD_NUMBER: _ClassVar[int]
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    GAPS_FIELD_NUMBER: _ClassVar[int]
    RESYNCS_FIELD_NUMBER: _ClassVar[int]
    TRANSITIONS_FIELD_NUMBER: _ClassVar[int]
    STALE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    TICKER_COMPARISONS_FIELD_NUMBER: _ClassVar[int]
    TICKER_MISMATCHES_FIELD_NUMBER: _ClassVar[int]
    TRADES_MISSED_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    book_state: str
    stale_reason: str
    book_age_ms: int
    ticker_age_ms: int
    exchange_latency_ms_p50: str
    exchange_latency_ms_p99: str
    clock_offset_ms: int
    message_rate_per_s: str
    messages: int
    gaps: int
    resyncs: int
    transitions: int
    stale_time_ms: int
    ticker_comparisons: int
    ticker_mismatches: int
    trades_missed: int
    as_of_ns: int
    def __init__(self, symbol: _Optional[str] = ..., book_state: _Optional[str] = ..., stale_reason: _Optional[str] = ..., book_age_ms: _Optional[int] = ..., ticker_age_ms: _Optional[int] = ..., exchange_latency_ms_p50: _Optional[str] = ..., exchange_latency_ms_p99: _Optional[str] = ..., clock_offset_ms: _Optional[int] = ..., message_rate_per_s: _Optional[str] = ..., messages: _Optional[int] = ..., gaps: _Optional[int] = ..., resyncs: _Optional[int] = ..., transitions: _Optional[int] = ..., stale_time_ms: _Optional[int] = ..., ticker_comparisons: _Optional[int] = ..., ticker_mismatches: _Optional[int] = ..., trades_missed: _Optional[int] = ..., as_of_ns: _Optional[int] = ...) -> None: ...

class GetFeedHealthResponse(_message.Message):
    __slots__ = ("feeds",)
    FEEDS_FIELD_NUMBER: _ClassVar[int]
    feeds: _containers.RepeatedCompositeFieldContainer[FeedHealth]
    def __init__(self, feeds: _Optional[_Iterable[_Union[FeedHealth, _Mapping]]] = ...) -> None: ...

class EstimateExecutionRequest(_message.Message):
    __slots__ = ("symbol", "side", "quantity")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    side: str
    quantity: str
    def __init__(self, symbol: _Optional[str] = ..., side: _Optional[str] = ..., quantity: _Optional[str] = ...) -> None: ...

class ExecutionEstimate(_message.Message):
    __slots__ = ("symbol", "side", "quantity", "filled_quantity", "average_price", "worst_price", "notional_quote", "mid_price", "slippage_bps", "cost_quote", "levels", "complete", "as_of_ns")
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    FILLED_QUANTITY_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_PRICE_FIELD_NUMBER: _ClassVar[int]
    WORST_PRICE_FIELD_NUMBER: _ClassVar[int]
    NOTIONAL_QUOTE_FIELD_NUMBER: _ClassVar[int]
    MID_PRICE_FIELD_NUMBER: _ClassVar[int]
    SLIPPAGE_BPS_FIELD_NUMBER: _ClassVar[int]
    COST_QUOTE_FIELD_NUMBER: _ClassVar[int]
    LEVELS_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    symbol: str
    side: str
    quantity: str
    filled_quantity: str
    average_price: str
    worst_price: str
    notional_quote: str
    mid_price: str
    slippage_bps: str
    cost_quote: str
    levels: int
    complete: bool
    as_of_ns: int
    def __init__(self, symbol: _Optional[str] = ..., side: _Optional[str] = ..., quantity: _Optional[str] = ..., filled_quantity: _Optional[str] = ..., average_price: _Optional[str] = ..., worst_price: _Optional[str] = ..., notional_quote: _Optional[str] = ..., mid_price: _Optional[str] = ..., slippage_bps: _Optional[str] = ..., cost_quote: _Optional[str] = ..., levels: _Optional[int] = ..., complete: _Optional[bool] = ..., as_of_ns: _Optional[int] = ...) -> None: ...

class Position(_message.Message):
    __slots__ = ("account_id", "symbol", "quantity", "average_price", "mark_price", "unrealised_pnl_quote", "realised_pnl_quote", "fees_quote", "as_of_ns", "venue", "notional_quote", "total_fees_quote", "fees_by_asset", "funding_by_asset", "leverage", "strategies", "initial_margin", "maintenance_margin", "liquidation_price")
    class FeesByAssetEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class FundingByAssetEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_PRICE_FIELD_NUMBER: _ClassVar[int]
    MARK_PRICE_FIELD_NUMBER: _ClassVar[int]
    UNREALISED_PNL_QUOTE_FIELD_NUMBER: _ClassVar[int]
    REALISED_PNL_QUOTE_FIELD_NUMBER: _ClassVar[int]
    FEES_QUOTE_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    VENUE_FIELD_NUMBER: _ClassVar[int]
    NOTIONAL_QUOTE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FEES_QUOTE_FIELD_NUMBER: _ClassVar[int]
    FEES_BY_ASSET_FIELD_NUMBER: _ClassVar[int]
    FUNDING_BY_ASSET_FIELD_NUMBER: _ClassVar[int]
    LEVERAGE_FIELD_NUMBER: _ClassVar[int]
    STRATEGIES_FIELD_NUMBER: _ClassVar[int]
    INITIAL_MARGIN_FIELD_NUMBER: _ClassVar[int]
    MAINTENANCE_MARGIN_FIELD_NUMBER: _ClassVar[int]
    LIQUIDATION_PRICE_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    symbol: str
    quantity: str
    average_price: str
    mark_price: str
    unrealised_pnl_quote: str
    realised_pnl_quote: str
    fees_quote: str
    as_of_ns: int
    venue: str
    notional_quote: str
    total_fees_quote: str
    fees_by_asset: _containers.ScalarMap[str, str]
    funding_by_asset: _containers.ScalarMap[str, str]
    leverage: int
    strategies: _containers.RepeatedCompositeFieldContainer[StrategyPosition]
    initial_margin: str
    maintenance_margin: str
    liquidation_price: str
    def __init__(self, account_id: _Optional[str] = ..., symbol: _Optional[str] = ..., quantity: _Optional[str] = ..., average_price: _Optional[str] = ..., mark_price: _Optional[str] = ..., unrealised_pnl_quote: _Optional[str] = ..., realised_pnl_quote: _Optional[str] = ..., fees_quote: _Optional[str] = ..., as_of_ns: _Optional[int] = ..., venue: _Optional[str] = ..., notional_quote: _Optional[str] = ..., total_fees_quote: _Optional[str] = ..., fees_by_asset: _Optional[_Mapping[str, str]] = ..., funding_by_asset: _Optional[_Mapping[str, str]] = ..., leverage: _Optional[int] = ..., strategies: _Optional[_Iterable[_Union[StrategyPosition, _Mapping]]] = ..., initial_margin: _Optional[str] = ..., maintenance_margin: _Optional[str] = ..., liquidation_price: _Optional[str] = ...) -> None: ...

class StrategyPosition(_message.Message):
    __slots__ = ("strategy_id", "quantity", "average_price", "realised_pnl_quote", "unrealised_pnl_quote", "fees_quote")
    STRATEGY_ID_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_PRICE_FIELD_NUMBER: _ClassVar[int]
    REALISED_PNL_QUOTE_FIELD_NUMBER: _ClassVar[int]
    UNREALISED_PNL_QUOTE_FIELD_NUMBER: _ClassVar[int]
    FEES_QUOTE_FIELD_NUMBER: _ClassVar[int]
    strategy_id: str
    quantity: str
    average_price: str
    realised_pnl_quote: str
    unrealised_pnl_quote: str
    fees_quote: str
    def __init__(self, strategy_id: _Optional[str] = ..., quantity: _Optional[str] = ..., average_price: _Optional[str] = ..., realised_pnl_quote: _Optional[str] = ..., unrealised_pnl_quote: _Optional[str] = ..., fees_quote: _Optional[str] = ...) -> None: ...

class GetPositionsResponse(_message.Message):
    __slots__ = ("positions", "as_of_ns")
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    positions: _containers.RepeatedCompositeFieldContainer[Position]
    as_of_ns: int
    def __init__(self, positions: _Optional[_Iterable[_Union[Position, _Mapping]]] = ..., as_of_ns: _Optional[int] = ...) -> None: ...

class Order(_message.Message):
    __slots__ = ("account_id", "symbol", "client_order_id", "venue_order_id", "side", "order_type", "time_in_force", "quantity", "price", "filled_quantity", "average_fill_price", "status", "suggestion_id", "created_ns", "as_of_ns", "venue", "stop_price", "activation_price", "trailing_offset_bps", "expires_ns", "post_only", "reduce_only", "strategy_id", "authority", "authority_id", "group_id", "role", "parent_id", "replaces", "cancel_requested", "notional_quote", "refusal")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    VENUE_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    ORDER_TYPE_FIELD_NUMBER: _ClassVar[int]
    TIME_IN_FORCE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    FILLED_QUANTITY_FIELD_NUMBER: _ClassVar[int]
    AVERAGE_FILL_PRICE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SUGGESTION_ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_NS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    VENUE_FIELD_NUMBER: _ClassVar[int]
    STOP_PRICE_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_PRICE_FIELD_NUMBER: _ClassVar[int]
    TRAILING_OFFSET_BPS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_NS_FIELD_NUMBER: _ClassVar[int]
    POST_ONLY_FIELD_NUMBER: _ClassVar[int]
    REDUCE_ONLY_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_ID_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_ID_FIELD_NUMBER: _ClassVar[int]
    GROUP_ID_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    PARENT_ID_FIELD_NUMBER: _ClassVar[int]
    REPLACES_FIELD_NUMBER: _ClassVar[int]
    CANCEL_REQUESTED_FIELD_NUMBER: _ClassVar[int]
    NOTIONAL_QUOTE_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    symbol: str
    client_order_id: str
    venue_order_id: str
    side: str
    order_type: str
    time_in_force: str
    quantity: str
    price: str
    filled_quantity: str
    average_fill_price: str
    status: str
    suggestion_id: str
    created_ns: int
    as_of_ns: int
    venue: str
    stop_price: str
    activation_price: str
    trailing_offset_bps: int
    expires_ns: int
    post_only: bool
    reduce_only: bool
    strategy_id: str
    authority: str
    authority_id: str
    group_id: str
    role: str
    parent_id: str
    replaces: str
    cancel_requested: bool
    notional_quote: str
    refusal: Refusal
    def __init__(self, account_id: _Optional[str] = ..., symbol: _Optional[str] = ..., client_order_id: _Optional[str] = ..., venue_order_id: _Optional[str] = ..., side: _Optional[str] = ..., order_type: _Optional[str] = ..., time_in_force: _Optional[str] = ..., quantity: _Optional[str] = ..., price: _Optional[str] = ..., filled_quantity: _Optional[str] = ..., average_fill_price: _Optional[str] = ..., status: _Optional[str] = ..., suggestion_id: _Optional[str] = ..., created_ns: _Optional[int] = ..., as_of_ns: _Optional[int] = ..., venue: _Optional[str] = ..., stop_price: _Optional[str] = ..., activation_price: _Optional[str] = ..., trailing_offset_bps: _Optional[int] = ..., expires_ns: _Optional[int] = ..., post_only: _Optional[bool] = ..., reduce_only: _Optional[bool] = ..., strategy_id: _Optional[str] = ..., authority: _Optional[str] = ..., authority_id: _Optional[str] = ..., group_id: _Optional[str] = ..., role: _Optional[str] = ..., parent_id: _Optional[str] = ..., replaces: _Optional[str] = ..., cancel_requested: _Optional[bool] = ..., notional_quote: _Optional[str] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class GetOpenOrdersResponse(_message.Message):
    __slots__ = ("orders", "as_of_ns")
    ORDERS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    orders: _containers.RepeatedCompositeFieldContainer[Order]
    as_of_ns: int
    def __init__(self, orders: _Optional[_Iterable[_Union[Order, _Mapping]]] = ..., as_of_ns: _Optional[int] = ...) -> None: ...

class RiskCheck(_message.Message):
    __slots__ = ("name", "passed", "limit", "actual", "unit", "source", "used_percent")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PASSED_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    ACTUAL_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    USED_PERCENT_FIELD_NUMBER: _ClassVar[int]
    name: str
    passed: bool
    limit: str
    actual: str
    unit: str
    source: str
    used_percent: str
    def __init__(self, name: _Optional[str] = ..., passed: _Optional[bool] = ..., limit: _Optional[str] = ..., actual: _Optional[str] = ..., unit: _Optional[str] = ..., source: _Optional[str] = ..., used_percent: _Optional[str] = ...) -> None: ...

class RiskState(_message.Message):
    __slots__ = ("account_id", "kill_switch", "limits", "rules_version", "venue_connected", "as_of_ns", "engine_kill_switch", "account_kill_switch", "frozen_reason", "dead_mans_timer_s", "dead_mans_timer_left_s")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    KILL_SWITCH_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    RULES_VERSION_FIELD_NUMBER: _ClassVar[int]
    VENUE_CONNECTED_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    ENGINE_KILL_SWITCH_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_KILL_SWITCH_FIELD_NUMBER: _ClassVar[int]
    FROZEN_REASON_FIELD_NUMBER: _ClassVar[int]
    DEAD_MANS_TIMER_S_FIELD_NUMBER: _ClassVar[int]
    DEAD_MANS_TIMER_LEFT_S_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    kill_switch: str
    limits: _containers.RepeatedCompositeFieldContainer[RiskCheck]
    rules_version: int
    venue_connected: bool
    as_of_ns: int
    engine_kill_switch: str
    account_kill_switch: str
    frozen_reason: str
    dead_mans_timer_s: int
    dead_mans_timer_left_s: int
    def __init__(self, account_id: _Optional[str] = ..., kill_switch: _Optional[str] = ..., limits: _Optional[_Iterable[_Union[RiskCheck, _Mapping]]] = ..., rules_version: _Optional[int] = ..., venue_connected: _Optional[bool] = ..., as_of_ns: _Optional[int] = ..., engine_kill_switch: _Optional[str] = ..., account_kill_switch: _Optional[str] = ..., frozen_reason: _Optional[str] = ..., dead_mans_timer_s: _Optional[int] = ..., dead_mans_timer_left_s: _Optional[int] = ...) -> None: ...

class LimitUseLine(_message.Message):
    __slots__ = ("name", "symbol", "limit", "used", "unit", "source", "used_percent", "window_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    USED_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    USED_PERCENT_FIELD_NUMBER: _ClassVar[int]
    WINDOW_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    symbol: str
    limit: str
    used: str
    unit: str
    source: str
    used_percent: str
    window_ms: int
    def __init__(self, name: _Optional[str] = ..., symbol: _Optional[str] = ..., limit: _Optional[str] = ..., used: _Optional[str] = ..., unit: _Optional[str] = ..., source: _Optional[str] = ..., used_percent: _Optional[str] = ..., window_ms: _Optional[int] = ...) -> None: ...

class LimitUse(_message.Message):
    __slots__ = ("account_id", "rules_version", "limits", "as_of_ns")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    RULES_VERSION_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    rules_version: int
    limits: _containers.RepeatedCompositeFieldContainer[LimitUseLine]
    as_of_ns: int
    def __init__(self, account_id: _Optional[str] = ..., rules_version: _Optional[int] = ..., limits: _Optional[_Iterable[_Union[LimitUseLine, _Mapping]]] = ..., as_of_ns: _Optional[int] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("code", "message", "limit", "actual", "unit")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    ACTUAL_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    limit: str
    actual: str
    unit: str
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., limit: _Optional[str] = ..., actual: _Optional[str] = ..., unit: _Optional[str] = ...) -> None: ...

class CheckProposalRequest(_message.Message):
    __slots__ = ("proposal",)
    PROPOSAL_FIELD_NUMBER: _ClassVar[int]
    proposal: bytes
    def __init__(self, proposal: _Optional[bytes] = ...) -> None: ...

class PreTrade(_message.Message):
    __slots__ = ("checks", "refusal", "reference_price", "as_of_ns", "approvals_due")
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_PRICE_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    APPROVALS_DUE_FIELD_NUMBER: _ClassVar[int]
    checks: _containers.RepeatedCompositeFieldContainer[RiskCheck]
    refusal: Refusal
    reference_price: str
    as_of_ns: int
    approvals_due: int
    def __init__(self, checks: _Optional[_Iterable[_Union[RiskCheck, _Mapping]]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., reference_price: _Optional[str] = ..., as_of_ns: _Optional[int] = ..., approvals_due: _Optional[int] = ...) -> None: ...

class ApprovalSignature(_message.Message):
    __slots__ = ("key_id", "signature")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    signature: bytes
    def __init__(self, key_id: _Optional[str] = ..., signature: _Optional[bytes] = ...) -> None: ...

class ExecuteApprovalRequest(_message.Message):
    __slots__ = ("proposal", "digest_hex", "signatures", "approvals_at_least")
    PROPOSAL_FIELD_NUMBER: _ClassVar[int]
    DIGEST_HEX_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    APPROVALS_AT_LEAST_FIELD_NUMBER: _ClassVar[int]
    proposal: bytes
    digest_hex: str
    signatures: _containers.RepeatedCompositeFieldContainer[ApprovalSignature]
    approvals_at_least: int
    def __init__(self, proposal: _Optional[bytes] = ..., digest_hex: _Optional[str] = ..., signatures: _Optional[_Iterable[_Union[ApprovalSignature, _Mapping]]] = ..., approvals_at_least: _Optional[int] = ...) -> None: ...

class ExecutionOutcome(_message.Message):
    __slots__ = ("consumed", "journal_sequence", "client_order_id", "refusal", "checks", "as_of_ns")
    CONSUMED_FIELD_NUMBER: _ClassVar[int]
    JOURNAL_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CLIENT_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    consumed: bool
    journal_sequence: int
    client_order_id: str
    refusal: Refusal
    checks: _containers.RepeatedCompositeFieldContainer[RiskCheck]
    as_of_ns: int
    def __init__(self, consumed: _Optional[bool] = ..., journal_sequence: _Optional[int] = ..., client_order_id: _Optional[str] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., checks: _Optional[_Iterable[_Union[RiskCheck, _Mapping]]] = ..., as_of_ns: _Optional[int] = ...) -> None: ...

class CancelOrderRequest(_message.Message):
    __slots__ = ("client_order_id", "requested_by")
    CLIENT_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_BY_FIELD_NUMBER: _ClassVar[int]
    client_order_id: str
    requested_by: str
    def __init__(self, client_order_id: _Optional[str] = ..., requested_by: _Optional[str] = ...) -> None: ...

class CancelOrderResponse(_message.Message):
    __slots__ = ("requested", "refusal")
    REQUESTED_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    requested: bool
    refusal: Refusal
    def __init__(self, requested: _Optional[bool] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class SetKillSwitchRequest(_message.Message):
    __slots__ = ("state", "requested_by", "reason", "account_id")
    STATE_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    state: str
    requested_by: str
    reason: str
    account_id: str
    def __init__(self, state: _Optional[str] = ..., requested_by: _Optional[str] = ..., reason: _Optional[str] = ..., account_id: _Optional[str] = ...) -> None: ...

class CommandAuthority(_message.Message):
    __slots__ = ("session", "mandate")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    MANDATE_FIELD_NUMBER: _ClassVar[int]
    session: SessionSignature
    mandate: MandateReference
    def __init__(self, session: _Optional[_Union[SessionSignature, _Mapping]] = ..., mandate: _Optional[_Union[MandateReference, _Mapping]] = ...) -> None: ...

class SessionSignature(_message.Message):
    __slots__ = ("session_id", "signature")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    signature: bytes
    def __init__(self, session_id: _Optional[str] = ..., signature: _Optional[bytes] = ...) -> None: ...

class MandateReference(_message.Message):
    __slots__ = ("mandate_id", "strategy_id", "signature")
    MANDATE_ID_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    mandate_id: str
    strategy_id: str
    signature: bytes
    def __init__(self, mandate_id: _Optional[str] = ..., strategy_id: _Optional[str] = ..., signature: _Optional[bytes] = ...) -> None: ...

class SubmitOrderRequest(_message.Message):
    __slots__ = ("ticket", "authority")
    TICKET_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    ticket: bytes
    authority: CommandAuthority
    def __init__(self, ticket: _Optional[bytes] = ..., authority: _Optional[_Union[CommandAuthority, _Mapping]] = ...) -> None: ...

class AmendOrderRequest(_message.Message):
    __slots__ = ("ticket", "authority")
    TICKET_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    ticket: bytes
    authority: CommandAuthority
    def __init__(self, ticket: _Optional[bytes] = ..., authority: _Optional[_Union[CommandAuthority, _Mapping]] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("refusal",)
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    refusal: Refusal
    def __init__(self, refusal: _Optional[_Union[Refusal, _Mapping]] = ...) -> None: ...

class CancelAllRequest(_message.Message):
    __slots__ = ("account_id", "symbol", "requested_by")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_BY_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    symbol: str
    requested_by: str
    def __init__(self, account_id: _Optional[str] = ..., symbol: _Optional[str] = ..., requested_by: _Optional[str] = ...) -> None: ...

class CancelAllResponse(_message.Message):
    __slots__ = ("requested",)
    REQUESTED_FIELD_NUMBER: _ClassVar[int]
    requested: int
    def __init__(self, requested: _Optional[int] = ...) -> None: ...

class CloseSessionRequest(_message.Message):
    __slots__ = ("session_id", "requested_by")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_BY_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    requested_by: str
    def __init__(self, session_id: _Optional[str] = ..., requested_by: _Optional[str] = ...) -> None: ...

class VoidApprovalRequest(_message.Message):
    __slots__ = ("suggestion_id", "version", "account_id", "requested_by", "reason")
    SUGGESTION_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    suggestion_id: str
    version: int
    account_id: str
    requested_by: str
    reason: str
    def __init__(self, suggestion_id: _Optional[str] = ..., version: _Optional[int] = ..., account_id: _Optional[str] = ..., requested_by: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class RevokeMandateRequest(_message.Message):
    __slots__ = ("mandate_id", "requested_by")
    MANDATE_ID_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_BY_FIELD_NUMBER: _ClassVar[int]
    mandate_id: str
    requested_by: str
    def __init__(self, mandate_id: _Optional[str] = ..., requested_by: _Optional[str] = ...) -> None: ...

class RenewDeadMansTimerRequest(_message.Message):
    __slots__ = ("requested_by",)
    REQUESTED_BY_FIELD_NUMBER: _ClassVar[int]
    requested_by: str
    def __init__(self, requested_by: _Optional[str] = ...) -> None: ...

class SignedDocument(_message.Message):
    __slots__ = ("document", "signatures")
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURES_FIELD_NUMBER: _ClassVar[int]
    document: bytes
    signatures: _containers.RepeatedCompositeFieldContainer[ApprovalSignature]
    def __init__(self, document: _Optional[bytes] = ..., signatures: _Optional[_Iterable[_Union[ApprovalSignature, _Mapping]]] = ...) -> None: ...

class OrderRequest(_message.Message):
    __slots__ = ("client_order_id",)
    CLIENT_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    client_order_id: str
    def __init__(self, client_order_id: _Optional[str] = ...) -> None: ...

class ListOrdersRequest(_message.Message):
    __slots__ = ("account_id", "symbol", "include_final", "limit")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_FINAL_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    symbol: str
    include_final: bool
    limit: int
    def __init__(self, account_id: _Optional[str] = ..., symbol: _Optional[str] = ..., include_final: _Optional[bool] = ..., limit: _Optional[int] = ...) -> None: ...

class GetRulesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RiskRulesVersion(_message.Message):
    __slots__ = ("version", "digest_hex", "document")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_HEX_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    version: int
    digest_hex: str
    document: str
    def __init__(self, version: _Optional[int] = ..., digest_hex: _Optional[str] = ..., document: _Optional[str] = ...) -> None: ...

class RiskRules(_message.Message):
    __slots__ = ("version", "digest_hex", "history", "as_of_ns")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_HEX_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    version: int
    digest_hex: str
    history: _containers.RepeatedCompositeFieldContainer[RiskRulesVersion]
    as_of_ns: int
    def __init__(self, version: _Optional[int] = ..., digest_hex: _Optional[str] = ..., history: _Optional[_Iterable[_Union[RiskRulesVersion, _Mapping]]] = ..., as_of_ns: _Optional[int] = ...) -> None: ...

class CheckRulesRequest(_message.Message):
    __slots__ = ("document",)
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    document: str
    def __init__(self, document: _Optional[str] = ...) -> None: ...

class RiskExplanation(_message.Message):
    __slots__ = ("client_order_id", "account_id", "symbol", "authority", "authority_id", "rules_version", "decided_ns", "checks", "refusal", "mid_price", "book_state", "book_age_ms", "notional_quote", "as_of_ns")
    CLIENT_ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_FIELD_NUMBER: _ClassVar[int]
    AUTHORITY_ID_FIELD_NUMBER: _ClassVar[int]
    RULES_VERSION_FIELD_NUMBER: _ClassVar[int]
    DECIDED_NS_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    MID_PRICE_FIELD_NUMBER: _ClassVar[int]
    BOOK_STATE_FIELD_NUMBER: _ClassVar[int]
    BOOK_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    NOTIONAL_QUOTE_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    client_order_id: str
    account_id: str
    symbol: str
    authority: str
    authority_id: str
    rules_version: int
    decided_ns: int
    checks: _containers.RepeatedCompositeFieldContainer[RiskCheck]
    refusal: Refusal
    mid_price: str
    book_state: str
    book_age_ms: int
    notional_quote: str
    as_of_ns: int
    def __init__(self, client_order_id: _Optional[str] = ..., account_id: _Optional[str] = ..., symbol: _Optional[str] = ..., authority: _Optional[str] = ..., authority_id: _Optional[str] = ..., rules_version: _Optional[int] = ..., decided_ns: _Optional[int] = ..., checks: _Optional[_Iterable[_Union[RiskCheck, _Mapping]]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., mid_price: _Optional[str] = ..., book_state: _Optional[str] = ..., book_age_ms: _Optional[int] = ..., notional_quote: _Optional[str] = ..., as_of_ns: _Optional[int] = ...) -> None: ...

class ReconcileRequest(_message.Message):
    __slots__ = ("dry_run", "requested_by")
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_BY_FIELD_NUMBER: _ClassVar[int]
    dry_run: bool
    requested_by: str
    def __init__(self, dry_run: _Optional[bool] = ..., requested_by: _Optional[str] = ...) -> None: ...

class Difference(_message.Message):
    __slots__ = ("kind", "subject", "engine", "venue", "action")
    KIND_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    VENUE_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    kind: str
    subject: str
    engine: str
    venue: str
    action: str
    def __init__(self, kind: _Optional[str] = ..., subject: _Optional[str] = ..., engine: _Optional[str] = ..., venue: _Optional[str] = ..., action: _Optional[str] = ...) -> None: ...

class Reconciliation(_message.Message):
    __slots__ = ("account_id", "venue", "differences", "applied", "as_of_ns")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    VENUE_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    venue: str
    differences: _containers.RepeatedCompositeFieldContainer[Difference]
    applied: bool
    as_of_ns: int
    def __init__(self, account_id: _Optional[str] = ..., venue: _Optional[str] = ..., differences: _Optional[_Iterable[_Union[Difference, _Mapping]]] = ..., applied: _Optional[bool] = ..., as_of_ns: _Optional[int] = ...) -> None: ...

class ExposureLine(_message.Message):
    __slots__ = ("venue", "symbol", "quantity", "mark_price", "notional", "open_buy_quantity", "open_sell_quantity", "worst_long_quantity", "worst_short_quantity", "unrealised_pnl", "liquidation_price")
    VENUE_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    MARK_PRICE_FIELD_NUMBER: _ClassVar[int]
    NOTIONAL_FIELD_NUMBER: _ClassVar[int]
    OPEN_BUY_QUANTITY_FIELD_NUMBER: _ClassVar[int]
    OPEN_SELL_QUANTITY_FIELD_NUMBER: _ClassVar[int]
    WORST_LONG_QUANTITY_FIELD_NUMBER: _ClassVar[int]
    WORST_SHORT_QUANTITY_FIELD_NUMBER: _ClassVar[int]
    UNREALISED_PNL_FIELD_NUMBER: _ClassVar[int]
    LIQUIDATION_PRICE_FIELD_NUMBER: _ClassVar[int]
    venue: str
    symbol: str
    quantity: str
    mark_price: str
    notional: str
    open_buy_quantity: str
    open_sell_quantity: str
    worst_long_quantity: str
    worst_short_quantity: str
    unrealised_pnl: str
    liquidation_price: str
    def __init__(self, venue: _Optional[str] = ..., symbol: _Optional[str] = ..., quantity: _Optional[str] = ..., mark_price: _Optional[str] = ..., notional: _Optional[str] = ..., open_buy_quantity: _Optional[str] = ..., open_sell_quantity: _Optional[str] = ..., worst_long_quantity: _Optional[str] = ..., worst_short_quantity: _Optional[str] = ..., unrealised_pnl: _Optional[str] = ..., liquidation_price: _Optional[str] = ...) -> None: ...

class Exposure(_message.Message):
    __slots__ = ("account_id", "reporting_asset", "gross", "net", "equity", "leverage", "margin_used", "margin_available", "lines", "as_of_ns", "unrealised_pnl", "realised_pnl", "fees", "funding", "margin_maintenance", "balances", "unknown", "known_equity")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    REPORTING_ASSET_FIELD_NUMBER: _ClassVar[int]
    GROSS_FIELD_NUMBER: _ClassVar[int]
    NET_FIELD_NUMBER: _ClassVar[int]
    EQUITY_FIELD_NUMBER: _ClassVar[int]
    LEVERAGE_FIELD_NUMBER: _ClassVar[int]
    MARGIN_USED_FIELD_NUMBER: _ClassVar[int]
    MARGIN_AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    UNREALISED_PNL_FIELD_NUMBER: _ClassVar[int]
    REALISED_PNL_FIELD_NUMBER: _ClassVar[int]
    FEES_FIELD_NUMBER: _ClassVar[int]
    FUNDING_FIELD_NUMBER: _ClassVar[int]
    MARGIN_MAINTENANCE_FIELD_NUMBER: _ClassVar[int]
    BALANCES_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    KNOWN_EQUITY_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    reporting_asset: str
    gross: str
    net: str
    equity: str
    leverage: str
    margin_used: str
    margin_available: str
    lines: _containers.RepeatedCompositeFieldContainer[ExposureLine]
    as_of_ns: int
    unrealised_pnl: str
    realised_pnl: str
    fees: str
    funding: str
    margin_maintenance: str
    balances: _containers.RepeatedCompositeFieldContainer[AssetLine]
    unknown: _containers.RepeatedScalarFieldContainer[str]
    known_equity: str
    def __init__(self, account_id: _Optional[str] = ..., reporting_asset: _Optional[str] = ..., gross: _Optional[str] = ..., net: _Optional[str] = ..., equity: _Optional[str] = ..., leverage: _Optional[str] = ..., margin_used: _Optional[str] = ..., margin_available: _Optional[str] = ..., lines: _Optional[_Iterable[_Union[ExposureLine, _Mapping]]] = ..., as_of_ns: _Optional[int] = ..., unrealised_pnl: _Optional[str] = ..., realised_pnl: _Optional[str] = ..., fees: _Optional[str] = ..., funding: _Optional[str] = ..., margin_maintenance: _Optional[str] = ..., balances: _Optional[_Iterable[_Union[AssetLine, _Mapping]]] = ..., unknown: _Optional[_Iterable[str]] = ..., known_equity: _Optional[str] = ...) -> None: ...

class AssetLine(_message.Message):
    __slots__ = ("asset", "quantity", "value", "available")
    ASSET_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    asset: str
    quantity: str
    value: str
    available: str
    def __init__(self, asset: _Optional[str] = ..., quantity: _Optional[str] = ..., value: _Optional[str] = ..., available: _Optional[str] = ...) -> None: ...

class WhatIfRequest(_message.Message):
    __slots__ = ("account_id", "symbol", "side", "quantity", "price", "price_move_bps")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    SYMBOL_FIELD_NUMBER: _ClassVar[int]
    SIDE_FIELD_NUMBER: _ClassVar[int]
    QUANTITY_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    PRICE_MOVE_BPS_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    symbol: str
    side: str
    quantity: str
    price: str
    price_move_bps: int
    def __init__(self, account_id: _Optional[str] = ..., symbol: _Optional[str] = ..., side: _Optional[str] = ..., quantity: _Optional[str] = ..., price: _Optional[str] = ..., price_move_bps: _Optional[int] = ...) -> None: ...

class WhatIfAnswer(_message.Message):
    __slots__ = ("account_id", "before", "after", "pnl_change", "checks", "refusal", "as_of_ns", "known_pnl_change")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    PNL_CHANGE_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    KNOWN_PNL_CHANGE_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    before: Exposure
    after: Exposure
    pnl_change: str
    checks: _containers.RepeatedCompositeFieldContainer[RiskCheck]
    refusal: Refusal
    as_of_ns: int
    known_pnl_change: str
    def __init__(self, account_id: _Optional[str] = ..., before: _Optional[_Union[Exposure, _Mapping]] = ..., after: _Optional[_Union[Exposure, _Mapping]] = ..., pnl_change: _Optional[str] = ..., checks: _Optional[_Iterable[_Union[RiskCheck, _Mapping]]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., as_of_ns: _Optional[int] = ..., known_pnl_change: _Optional[str] = ...) -> None: ...

class StreamJournalRequest(_message.Message):
    __slots__ = ("after_sequence",)
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    after_sequence: int
    def __init__(self, after_sequence: _Optional[int] = ...) -> None: ...

class JournalRecord(_message.Message):
    __slots__ = ("engine_id", "epoch", "sequence", "hash_hex", "payload")
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    HASH_HEX_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    engine_id: str
    epoch: int
    sequence: int
    hash_hex: str
    payload: bytes
    def __init__(self, engine_id: _Optional[str] = ..., epoch: _Optional[int] = ..., sequence: _Optional[int] = ..., hash_hex: _Optional[str] = ..., payload: _Optional[bytes] = ...) -> None: ...

class LedgerProgress(_message.Message):
    __slots__ = ("projected_sequence", "audited_sequence")
    PROJECTED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    AUDITED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    projected_sequence: int
    audited_sequence: int
    def __init__(self, projected_sequence: _Optional[int] = ..., audited_sequence: _Optional[int] = ...) -> None: ...

class ReportLedgerResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetJournalRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ArchiveJournalRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class JournalSegment(_message.Message):
    __slots__ = ("name", "epoch", "first_sequence", "last_sequence", "size_bytes", "is_archived", "kept_because")
    NAME_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    IS_ARCHIVED_FIELD_NUMBER: _ClassVar[int]
    KEPT_BECAUSE_FIELD_NUMBER: _ClassVar[int]
    name: str
    epoch: int
    first_sequence: int
    last_sequence: int
    size_bytes: int
    is_archived: bool
    kept_because: str
    def __init__(self, name: _Optional[str] = ..., epoch: _Optional[int] = ..., first_sequence: _Optional[int] = ..., last_sequence: _Optional[int] = ..., size_bytes: _Optional[int] = ..., is_archived: _Optional[bool] = ..., kept_because: _Optional[str] = ...) -> None: ...

class Journal(_message.Message):
    __slots__ = ("engine_id", "sequence", "archive", "projected_sequence", "audited_sequence", "problem", "segments")
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ARCHIVE_FIELD_NUMBER: _ClassVar[int]
    PROJECTED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    AUDITED_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    engine_id: str
    sequence: int
    archive: str
    projected_sequence: int
    audited_sequence: int
    problem: str
    segments: _containers.RepeatedCompositeFieldContainer[JournalSegment]
    def __init__(self, engine_id: _Optional[str] = ..., sequence: _Optional[int] = ..., archive: _Optional[str] = ..., projected_sequence: _Optional[int] = ..., audited_sequence: _Optional[int] = ..., problem: _Optional[str] = ..., segments: _Optional[_Iterable[_Union[JournalSegment, _Mapping]]] = ...) -> None: ...

class GetRosterRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RosterEntry(_message.Message):
    __slots__ = ("key_id", "user_id", "public_key_hex", "account_ids", "paper_only", "administers", "approves", "kind", "algorithm", "rp_id", "origins", "credential_id_hex")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_HEX_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_IDS_FIELD_NUMBER: _ClassVar[int]
    PAPER_ONLY_FIELD_NUMBER: _ClassVar[int]
    ADMINISTERS_FIELD_NUMBER: _ClassVar[int]
    APPROVES_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_FIELD_NUMBER: _ClassVar[int]
    RP_ID_FIELD_NUMBER: _ClassVar[int]
    ORIGINS_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_ID_HEX_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    user_id: str
    public_key_hex: str
    account_ids: _containers.RepeatedScalarFieldContainer[str]
    paper_only: bool
    administers: _containers.RepeatedScalarFieldContainer[str]
    approves: bool
    kind: str
    algorithm: str
    rp_id: str
    origins: _containers.RepeatedScalarFieldContainer[str]
    credential_id_hex: str
    def __init__(self, key_id: _Optional[str] = ..., user_id: _Optional[str] = ..., public_key_hex: _Optional[str] = ..., account_ids: _Optional[_Iterable[str]] = ..., paper_only: _Optional[bool] = ..., administers: _Optional[_Iterable[str]] = ..., approves: _Optional[bool] = ..., kind: _Optional[str] = ..., algorithm: _Optional[str] = ..., rp_id: _Optional[str] = ..., origins: _Optional[_Iterable[str]] = ..., credential_id_hex: _Optional[str] = ...) -> None: ...

class Roster(_message.Message):
    __slots__ = ("version", "two_approvals_above_quote", "entries", "as_of_ns", "cli_only_above_quote")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TWO_APPROVALS_ABOVE_QUOTE_FIELD_NUMBER: _ClassVar[int]
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    CLI_ONLY_ABOVE_QUOTE_FIELD_NUMBER: _ClassVar[int]
    version: int
    two_approvals_above_quote: str
    entries: _containers.RepeatedCompositeFieldContainer[RosterEntry]
    as_of_ns: int
    cli_only_above_quote: str
    def __init__(self, version: _Optional[int] = ..., two_approvals_above_quote: _Optional[str] = ..., entries: _Optional[_Iterable[_Union[RosterEntry, _Mapping]]] = ..., as_of_ns: _Optional[int] = ..., cli_only_above_quote: _Optional[str] = ...) -> None: ...

class ListGrantsRequest(_message.Message):
    __slots__ = ("account_id", "include_ended")
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_ENDED_FIELD_NUMBER: _ClassVar[int]
    account_id: str
    include_ended: bool
    def __init__(self, account_id: _Optional[str] = ..., include_ended: _Optional[bool] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("session_id", "user_id", "account_ids", "state", "orders_used", "max_orders", "notional_used_quote", "max_order_notional_quote", "max_total_notional_quote", "opened_ns", "expires_ns", "as_of_ns")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_IDS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ORDERS_USED_FIELD_NUMBER: _ClassVar[int]
    MAX_ORDERS_FIELD_NUMBER: _ClassVar[int]
    NOTIONAL_USED_QUOTE_FIELD_NUMBER: _ClassVar[int]
    MAX_ORDER_NOTIONAL_QUOTE_FIELD_NUMBER: _ClassVar[int]
    MAX_TOTAL_NOTIONAL_QUOTE_FIELD_NUMBER: _ClassVar[int]
    OPENED_NS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_NS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    user_id: str
    account_ids: _containers.RepeatedScalarFieldContainer[str]
    state: str
    orders_used: int
    max_orders: int
    notional_used_quote: str
    max_order_notional_quote: str
    max_total_notional_quote: str
    opened_ns: int
    expires_ns: int
    as_of_ns: int
    def __init__(self, session_id: _Optional[str] = ..., user_id: _Optional[str] = ..., account_ids: _Optional[_Iterable[str]] = ..., state: _Optional[str] = ..., orders_used: _Optional[int] = ..., max_orders: _Optional[int] = ..., notional_used_quote: _Optional[str] = ..., max_order_notional_quote: _Optional[str] = ..., max_total_notional_quote: _Optional[str] = ..., opened_ns: _Optional[int] = ..., expires_ns: _Optional[int] = ..., as_of_ns: _Optional[int] = ...) -> None: ...

class ListSessionsResponse(_message.Message):
    __slots__ = ("sessions",)
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[Session]
    def __init__(self, sessions: _Optional[_Iterable[_Union[Session, _Mapping]]] = ...) -> None: ...

class Mandate(_message.Message):
    __slots__ = ("mandate_id", "account_id", "strategy_id", "venue", "symbols", "state", "orders_used", "max_open_orders", "notional_used_quote", "max_order_notional_quote", "max_position_notional_quote", "max_total_notional_quote", "asker_id", "digest_hex", "installed_ns", "expires_ns", "as_of_ns")
    MANDATE_ID_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_ID_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_ID_FIELD_NUMBER: _ClassVar[int]
    VENUE_FIELD_NUMBER: _ClassVar[int]
    SYMBOLS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ORDERS_USED_FIELD_NUMBER: _ClassVar[int]
    MAX_OPEN_ORDERS_FIELD_NUMBER: _ClassVar[int]
    NOTIONAL_USED_QUOTE_FIELD_NUMBER: _ClassVar[int]
    MAX_ORDER_NOTIONAL_QUOTE_FIELD_NUMBER: _ClassVar[int]
    MAX_POSITION_NOTIONAL_QUOTE_FIELD_NUMBER: _ClassVar[int]
    MAX_TOTAL_NOTIONAL_QUOTE_FIELD_NUMBER: _ClassVar[int]
    ASKER_ID_FIELD_NUMBER: _ClassVar[int]
    DIGEST_HEX_FIELD_NUMBER: _ClassVar[int]
    INSTALLED_NS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_NS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_NS_FIELD_NUMBER: _ClassVar[int]
    mandate_id: str
    account_id: str
    strategy_id: str
    venue: str
    symbols: _containers.RepeatedScalarFieldContainer[str]
    state: str
    orders_used: int
    max_open_orders: int
    notional_used_quote: str
    max_order_notional_quote: str
    max_position_notional_quote: str
    max_total_notional_quote: str
    asker_id: str
    digest_hex: str
    installed_ns: int
    expires_ns: int
    as_of_ns: int
    def __init__(self, mandate_id: _Optional[str] = ..., account_id: _Optional[str] = ..., strategy_id: _Optional[str] = ..., venue: _Optional[str] = ..., symbols: _Optional[_Iterable[str]] = ..., state: _Optional[str] = ..., orders_used: _Optional[int] = ..., max_open_orders: _Optional[int] = ..., notional_used_quote: _Optional[str] = ..., max_order_notional_quote: _Optional[str] = ..., max_position_notional_quote: _Optional[str] = ..., max_total_notional_quote: _Optional[str] = ..., asker_id: _Optional[str] = ..., digest_hex: _Optional[str] = ..., installed_ns: _Optional[int] = ..., expires_ns: _Optional[int] = ..., as_of_ns: _Optional[int] = ...) -> None: ...

class ListMandatesResponse(_message.Message):
    __slots__ = ("mandates",)
    MANDATES_FIELD_NUMBER: _ClassVar[int]
    mandates: _containers.RepeatedCompositeFieldContainer[Mandate]
    def __init__(self, mandates: _Optional[_Iterable[_Union[Mandate, _Mapping]]] = ...) -> None: ...
