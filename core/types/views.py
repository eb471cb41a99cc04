"""What the engine shows to its readers. Edges speak Decimal: every price, quantity and amount here is a Decimal.

Every view says how old it is: `as_of_ns` is the engine's clock when the data it shows was last confirmed.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from core.types.codes import Refusal
from core.types.events import RULE_NOT_MET
from core.types.orders import OrderStatus, OrderType, Side, TimeInForce


class InstrumentView(msgspec.Struct, frozen=True):
    venue: str
    symbol: str
    base_asset: str
    quote_asset: str
    tick_size: Decimal
    lot_size: Decimal
    min_quantity: Decimal
    max_quantity: Decimal
    min_notional_quote: Decimal
    price_scale: int
    quantity_scale: int
    version: int


class TickerView(msgspec.Struct, frozen=True):
    """Best bid and offer from the venue's bookTicker stream, with its update id; last trade and 24 h change are
    from what the engine has seen, None until then."""

    symbol: str
    bid_price: Decimal
    bid_quantity: Decimal
    ask_price: Decimal
    ask_quantity: Decimal
    update_id: int
    last_price: Decimal | None
    last_quantity: Decimal | None
    ts_event_ns: int
    as_of_ns: int


class LevelView(msgspec.Struct, frozen=True):
    price: Decimal
    quantity: Decimal


class OrderBookView(msgspec.Struct, frozen=True):
    """Bids best first, asks best first. state is LIVE, SYNCING or STALE; stale_reason is set when not LIVE."""

    symbol: str
    state: str
    stale_reason: str | None
    last_update_id: int
    bids: tuple[LevelView, ...]
    asks: tuple[LevelView, ...]
    as_of_ns: int


class KlineView(msgspec.Struct, frozen=True):
    open_time_ns: int
    close_time_ns: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quote_volume: Decimal
    trades: int
    closed: bool


class TradeView(msgspec.Struct, frozen=True):
    """A public trade. side is the aggressor's: BUY took an ask."""

    trade_id: int
    price: Decimal
    quantity: Decimal
    side: Side
    ts_event_ns: int


class ExecutionEstimateView(msgspec.Struct, frozen=True):
    """A sweep of the live book. slippage_bps is against the mid price, positive when it costs."""

    symbol: str
    side: Side
    quantity: Decimal
    filled_quantity: Decimal
    average_price: Decimal | None
    worst_price: Decimal | None
    notional_quote: Decimal
    mid_price: Decimal
    slippage_bps: Decimal | None
    cost_quote: Decimal | None
    levels: int
    complete: bool
    as_of_ns: int


class FeedHealthView(msgspec.Struct, frozen=True):
    """How far the market data of one symbol can be trusted at this moment.

    book_age_ms, ticker_age_ms: since the last depth message, and since the best bid and offer was last confirmed; None
    before the first. exchange_latency_ms_*: the engine's clock at arrival less the venue's event time, corrected by
    the estimated offset of the venue's clock (clock_offset_ms, None while unknown), over the last messages; None before
    the first. message_rate_per_s: all streams of the symbol, over the last seconds. The counters run since the start.
    """

    symbol: str
    book_state: str
    stale_reason: str | None
    book_age_ms: int | None
    ticker_age_ms: int | None
    exchange_latency_ms_p50: Decimal | None
    exchange_latency_ms_p99: Decimal | None
    clock_offset_ms: int | None
    message_rate_per_s: Decimal
    messages: int
    gaps: int
    resyncs: int
    transitions: int
    stale_time_ms: int
    ticker_comparisons: int
    ticker_mismatches: int
    trades_missed: int
    as_of_ns: int


class StrategyPositionView(msgspec.Struct, frozen=True):
    """A strategy's part of a position; strategy_id is empty for people's own orders."""

    strategy_id: str
    quantity: Decimal
    average_price: Decimal
    realised_pnl_quote: Decimal
    unrealised_pnl_quote: Decimal | None
    fees_quote: Decimal


class PositionView(msgspec.Struct, frozen=True):
    """Realised PnL is before fees. fees_quote is what was valued at the fills; total_fees_quote adds what was taken in
    other assets at today's rates, None without one. funding_by_asset is what was received, negative when paid. leverage
    is the venue's, None on spot, as are margins and the mark price at which a derivative would be liquidated."""

    account_id: str
    symbol: str
    quantity: Decimal
    average_price: Decimal
    mark_price: Decimal | None
    unrealised_pnl_quote: Decimal | None
    realised_pnl_quote: Decimal
    fees_quote: Decimal
    as_of_ns: int
    venue: str = ""
    notional_quote: Decimal | None = None
    total_fees_quote: Decimal | None = None
    fees_by_asset: dict[str, Decimal] = msgspec.field(default_factory=dict)
    funding_by_asset: dict[str, Decimal] = msgspec.field(default_factory=dict)
    leverage: int | None = None
    strategies: tuple[StrategyPositionView, ...] = ()
    initial_margin: Decimal | None = None
    maintenance_margin: Decimal | None = None
    liquidation_price: Decimal | None = None


class OrderView(msgspec.Struct, frozen=True):
    """authority is the kind (`approval`, `session`, `mandate`, `derived`, `administration`, `safety`, `external`),
    authority_id what it rests on. notional_quote is what risk valued the order at."""

    account_id: str
    symbol: str
    client_order_id: str
    venue_order_id: str | None
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    quantity: Decimal
    price: Decimal | None
    filled_quantity: Decimal
    average_fill_price: Decimal | None
    status: OrderStatus
    suggestion_id: str | None
    created_ns: int
    as_of_ns: int
    venue: str = ""
    stop_price: Decimal | None = None
    activation_price: Decimal | None = None
    trailing_offset_bps: int | None = None
    expires_ns: int | None = None
    post_only: bool = False
    reduce_only: bool = False
    strategy_id: str = ""
    authority: str = ""
    authority_id: str = ""
    group_id: str | None = None
    role: str | None = None
    parent_id: str | None = None
    replaces: str | None = None
    cancel_requested: bool = False
    notional_quote: Decimal | None = None
    refusal: Refusal | None = None


class RiskCheckView(msgspec.Struct, frozen=True):
    """One check with its inputs and result. name is the ReasonCode it would refuse with; source is the level whose
    limit was the tightest; used_percent is how much of the limit was used, where both are numbers."""

    name: str
    passed: bool
    limit: str | None
    actual: str | None
    unit: str | None
    source: str | None = None
    used_percent: Decimal | None = None

    @property
    def is_warning(self) -> bool:
        """A custom rule that is met and lets through."""
        return self.passed and (self.source or "").startswith("rule:") and self.actual != RULE_NOT_MET


class RiskStateView(msgspec.Struct, frozen=True):
    """kill_switch is the tighter of the engine's and the account's own. frozen_reason is None for an account that isn't
    frozen; the dead man's timer's fields are None while the rules have it off."""

    account_id: str
    kill_switch: str
    limits: tuple[RiskCheckView, ...]
    rules_version: int
    venue_connected: bool
    as_of_ns: int
    engine_kill_switch: str = ""
    account_kill_switch: str = ""
    frozen_reason: str | None = None
    dead_mans_timer_s: int | None = None
    dead_mans_timer_left_s: int | None = None


class LimitUseLineView(msgspec.Struct, frozen=True):
    """One limit and how much of it is used. name is the ReasonCode that it refuses with; symbol is empty for a limit of
    the whole account; used is None for one that bounds a single order, and where it can't be known now. window_ms is
    set for a rate: at most limit within it. source is the level that sets the limit."""

    name: str
    symbol: str
    limit: Decimal
    used: Decimal | None
    unit: str
    source: str
    used_percent: Decimal | None
    window_ms: int | None = None


class LimitUseView(msgspec.Struct, frozen=True):
    """An account's limits, the nearest to being reached first. Exposures are worst cases: everything that rests on one
    side counts as filled."""

    account_id: str
    rules_version: int
    limits: tuple[LimitUseLineView, ...]
    as_of_ns: int


class RiskExplanationView(msgspec.Struct, frozen=True):
    """Which rules an order met when it was decided on, and how near each limit was.

    mid_price and book_age_ms are of the market that the decision used; refusal is None for an order that was let
    through.
    """

    client_order_id: str
    account_id: str
    symbol: str
    authority: str
    authority_id: str
    rules_version: int
    decided_ns: int
    checks: tuple[RiskCheckView, ...]
    refusal: Refusal | None
    mid_price: Decimal | None
    book_state: str
    book_age_ms: int
    notional_quote: Decimal | None
    as_of_ns: int


class RiskRulesVersionView(msgspec.Struct, frozen=True):
    """One version of the risk rules: document is the whole file as it was validated."""

    version: int
    digest_hex: str
    document: str


class RiskRulesView(msgspec.Struct, frozen=True):
    """The rules in force and the versions that can be gone back to, newest last."""

    version: int
    digest_hex: str
    history: tuple[RiskRulesVersionView, ...]
    as_of_ns: int


class ExposureLineView(msgspec.Struct, frozen=True):
    """One market of an account: the position, what rests, and the worst that could become of both. Amounts in the
    reporting currency are None without a price or a rate."""

    venue: str
    symbol: str
    quantity: Decimal
    mark_price: Decimal | None
    notional: Decimal | None
    open_buy_quantity: Decimal
    open_sell_quantity: Decimal
    worst_long_quantity: Decimal
    worst_short_quantity: Decimal
    unrealised_pnl: Decimal | None
    liquidation_price: Decimal | None = None


class AssetView(msgspec.Struct, frozen=True):
    """What an account holds of an asset, free and locked together; value in the reporting currency, None without a
    rate. available is what our own open orders leave of it, None for a margin balance."""

    asset: str
    quantity: Decimal
    value: Decimal | None
    available: Decimal | None = None


class ExposureView(msgspec.Struct, frozen=True):
    """An account's exposure in the reporting currency. gross adds absolute values, net signed ones; None where a price
    or a rate is missing: unknown names what, and known_equity is the worth of the rest. funding is what was received.
    margin is a USD-M account's."""

    account_id: str
    reporting_asset: str
    gross: Decimal | None
    net: Decimal | None
    equity: Decimal | None
    leverage: Decimal | None
    margin_used: Decimal | None
    margin_available: Decimal | None
    lines: tuple[ExposureLineView, ...]
    as_of_ns: int
    unrealised_pnl: Decimal | None = None
    realised_pnl: Decimal | None = None
    fees: Decimal | None = None
    funding: Decimal | None = None
    margin_maintenance: Decimal | None = None
    balances: tuple[AssetView, ...] = ()
    unknown: tuple[str, ...] = ()
    known_equity: Decimal | None = None


class WhatIfView(msgspec.Struct, frozen=True):
    """An account as it is and as it would be, after an order, a price move, or both. refusal and checks are risk's on
    the order at this moment; pnl_change is in the reporting currency."""

    account_id: str
    before: ExposureView
    after: ExposureView
    pnl_change: Decimal | None
    checks: tuple[RiskCheckView, ...]
    refusal: Refusal | None
    as_of_ns: int
    known_pnl_change: Decimal | None = None


class RosterEntryView(msgspec.Struct, frozen=True):
    key_id: str
    user_id: str
    public_key_hex: str
    account_ids: tuple[str, ...]
    paper_only: bool
    administers: tuple[str, ...]
    approves: bool
    kind: str = "ed25519"
    algorithm: str = ""
    rp_id: str = ""
    origins: tuple[str, ...] = ()
    credential_id_hex: str = ""


class RosterView(msgspec.Struct, frozen=True):
    """Who may approve, administer and sign sessions in, with which keys; above how much two approvals are due."""

    version: int
    two_approvals_above_quote: Decimal
    entries: tuple[RosterEntryView, ...]
    as_of_ns: int
    cli_only_above_quote: Decimal | None = None


class SessionView(msgspec.Struct, frozen=True):
    """A human's session and what is used of its limits. state is `open`, `expired` or `closed`."""

    session_id: str
    user_id: str
    account_ids: tuple[str, ...]
    state: str
    orders_used: int
    max_orders: int
    notional_used_quote: Decimal
    max_order_notional_quote: Decimal
    max_total_notional_quote: Decimal
    opened_ns: int
    expires_ns: int
    as_of_ns: int


class MandateView(msgspec.Struct, frozen=True):
    """What a strategy may do and what is used of it. state is `in force`, `expired` or `revoked`."""

    mandate_id: str
    account_id: str
    strategy_id: str
    venue: str
    symbols: tuple[str, ...]
    state: str
    orders_used: int
    max_open_orders: int
    notional_used_quote: Decimal
    max_order_notional_quote: Decimal
    max_position_notional_quote: Decimal
    max_total_notional_quote: Decimal
    asker_id: str
    digest_hex: str
    installed_ns: int
    expires_ns: int
    as_of_ns: int


class DifferenceView(msgspec.Struct, frozen=True):
    """One point in which the engine and the venue disagreed, and what follows from it."""

    kind: str
    subject: str
    engine: str
    venue: str
    action: str


class ReconciliationView(msgspec.Struct, frozen=True):
    """A comparison with the venue. applied is False for a dry run, and when there was nothing to apply."""

    account_id: str
    venue: str
    differences: tuple[DifferenceView, ...]
    applied: bool
    as_of_ns: int


class PreTradeView(msgspec.Struct, frozen=True):
    """The risk decision on a proposal at this moment: refusal is None when every check passed. approvals_due is how
    many different people would have to sign it, None when that can't be told."""

    checks: tuple[RiskCheckView, ...]
    refusal: Refusal | None
    reference_price: Decimal | None
    as_of_ns: int
    approvals_due: int | None = None


class ExecutionOutcomeView(msgspec.Struct, frozen=True):
    """What the engine did with an approval. consumed tells whether the approval was used up; refusal is None when
    the order's intent is durable and on its way."""

    consumed: bool
    journal_sequence: int | None
    client_order_id: str | None
    refusal: Refusal | None
    checks: tuple[RiskCheckView, ...]
    as_of_ns: int


class EngineStatusView(msgspec.Struct, frozen=True):
    """journal_first_sequence: the first record that isn't dropped here. journal_torn_tail: what the last start cut off,
    where it did; journal_problem: why no record can be written now, so that no order is taken."""

    engine_id: str
    epoch: int
    environment: str
    mode: str
    journal_sequence: int
    venue_connected: bool
    kill_switch: str
    roster_version: int
    books: dict[str, str]
    now_ns: int
    journal_first_sequence: int = 1
    journal_torn_tail: str | None = None
    journal_problem: str | None = None


class LedgerProgress(msgspec.Struct, frozen=True):
    """How far the ledger is in the engine's journal: all up to there is in SQL, and numbered in the audit log."""

    projected_sequence: int
    audited_sequence: int


class JournalSegmentView(msgspec.Struct, frozen=True):
    """A segment of the journal that is here; kept_because says what has to happen before it goes."""

    name: str
    epoch: int
    first_sequence: int
    last_sequence: int
    size_bytes: int
    is_archived: bool
    kept_because: str


class JournalView(msgspec.Struct, frozen=True):
    """The journal's segments, oldest first. archive is None where none is configured, the sequences until the ledger
    has told them; problem is why the last turn of archiving failed."""

    engine_id: str
    sequence: int
    archive: str | None
    projected_sequence: int | None
    audited_sequence: int | None
    problem: str | None
    segments: tuple[JournalSegmentView, ...]
