"""The engine's answers as Prometheus metric families: base units (seconds, 1), names that end in their unit.

https://prometheus.io/docs/practices/naming/ and /docs/instrumenting/writing_exporters/.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from core.types.orders import OrderStatus
from core.types.views import EngineStatusView, ExposureView, FeedHealthView, OrderView, RiskStateView

MS_PER_S = 1_000
BOOK_STATES = ("LIVE", "SYNCING", "STALE")
KILL_SWITCH_STATES = ("NORMAL", "REDUCE_ONLY", "CANCEL_ONLY", "HALTED")
OPEN_STATUSES = tuple(status.value for status in OrderStatus if not status.is_final)

Value = int | Decimal | None


class _FeedMetric(NamedTuple):
    """A metric of each feed; read gives None where a feed has no value yet, and then no sample."""

    name: str
    help: str
    family: type[CounterMetricFamily] | type[GaugeMetricFamily]
    read: Callable[[FeedHealthView], Value]


_FEED_METRICS = (
    _FeedMetric(
        "veloz_feed_book_age_seconds",
        "Since the last depth message.",
        GaugeMetricFamily,
        lambda feed: _seconds(feed.book_age_ms),
    ),
    _FeedMetric(
        "veloz_feed_ticker_age_seconds",
        "Since the best bid and offer was last confirmed.",
        GaugeMetricFamily,
        lambda feed: _seconds(feed.ticker_age_ms),
    ),
    _FeedMetric(
        "veloz_feed_clock_offset_seconds",
        "Estimated offset of the venue's clock against the engine's.",
        GaugeMetricFamily,
        lambda feed: _seconds(feed.clock_offset_ms),
    ),
    _FeedMetric(
        "veloz_feed_message_rate",
        "Messages per second of all streams of the symbol, over the last seconds.",
        GaugeMetricFamily,
        lambda feed: feed.message_rate_per_s,
    ),
    _FeedMetric(
        "veloz_feed_messages_total",
        "Messages of all streams of the symbol.",
        CounterMetricFamily,
        lambda feed: feed.messages,
    ),
    _FeedMetric(
        "veloz_feed_gaps_total",
        "Breaks in the sequence of depth messages.",
        CounterMetricFamily,
        lambda feed: feed.gaps,
    ),
    _FeedMetric(
        "veloz_feed_resyncs_total",
        "Times that the book was built anew from a snapshot.",
        CounterMetricFamily,
        lambda feed: feed.resyncs,
    ),
    _FeedMetric(
        "veloz_feed_transitions_total",
        "Changes of the book's state.",
        CounterMetricFamily,
        lambda feed: feed.transitions,
    ),
    _FeedMetric(
        "veloz_feed_stale_seconds_total",
        "Time that the book was not verified.",
        CounterMetricFamily,
        lambda feed: _seconds(feed.stale_time_ms),
    ),
    _FeedMetric(
        "veloz_feed_ticker_comparisons_total",
        "Comparisons of the book's best bid and offer with the venue's ticker at the same update id.",
        CounterMetricFamily,
        lambda feed: feed.ticker_comparisons,
    ),
    _FeedMetric(
        "veloz_feed_ticker_mismatches_total",
        "Comparisons in which book and ticker disagreed.",
        CounterMetricFamily,
        lambda feed: feed.ticker_mismatches,
    ),
    _FeedMetric(
        "veloz_feed_trades_missed_total",
        "Trade ids that never came.",
        CounterMetricFamily,
        lambda feed: feed.trades_missed,
    ),
)


def engine_families(status: EngineStatusView | None) -> Iterator[Metric]:
    """veloz_engine_up tells whether the engine answered; without an answer it is all there is."""
    yield GaugeMetricFamily("veloz_engine_up", "1 when the engine answered this scrape.", int(status is not None))
    if status is None:
        return
    yield InfoMetricFamily(
        "veloz_engine",
        "Which engine answered.",
        {"engine_id": status.engine_id, "environment": status.environment, "mode": status.mode},
    )
    gauges = (
        ("veloz_engine_epoch", "Starts of the engine on this journal.", status.epoch),
        ("veloz_engine_journal_sequence", "The journal's last durable record.", status.journal_sequence),
        ("veloz_engine_roster_version", "Version of the approvers' roster in force.", status.roster_version),
        ("veloz_engine_venue_connected", "1 while the venue is connected.", int(status.venue_connected)),
        ("veloz_engine_journal_writable", "1 while records can be written.", int(status.journal_problem is None)),
    )
    for name, text, value in gauges:
        yield GaugeMetricFamily(name, text, value)
    switch = GaugeMetricFamily(
        "veloz_engine_kill_switch", "1 at the state that the kill switch is in.", None, ["state"]
    )
    _one_hot(switch, (), KILL_SWITCH_STATES, status.kill_switch)
    yield switch


def account_families(
    account_id: str,
    risk: RiskStateView | None,
    orders: Sequence[OrderView] | None,
    exposure: ExposureView | None,
) -> Iterator[Metric]:
    """What keeps the account from trading, its open orders by status, and what it is worth, in the reporting currency.
    What isn't known has no sample."""
    if risk is not None:
        switch = GaugeMetricFamily(
            "veloz_account_kill_switch",
            "1 at the state that holds for the account.",
            labels=["account", "state"],
        )
        _one_hot(switch, (account_id,), KILL_SWITCH_STATES, risk.kill_switch)
        yield switch
        frozen = GaugeMetricFamily(
            "veloz_account_frozen", "1 while engine and venue don't agree on the account.", labels=["account"]
        )
        frozen.add_metric([account_id], int(risk.frozen_reason is not None))
        yield frozen
        if risk.dead_mans_timer_left_s is not None:
            yield GaugeMetricFamily(
                "veloz_dead_mans_timer_left_seconds",
                "Until the engine halts when nobody renews the timer.",
                risk.dead_mans_timer_left_s,
            )
    if orders is not None:
        counts = Counter(order.status.value for order in orders)
        family = GaugeMetricFamily("veloz_account_open_orders", "Open orders.", labels=["account", "status"])
        for status in OPEN_STATUSES:
            family.add_metric([account_id, status], counts[status])
        yield family
    if exposure is not None:
        for name, text, value in (
            ("veloz_account_equity", "Equity, in the reporting currency.", exposure.equity),
            ("veloz_account_gross_exposure", "Gross exposure, in the reporting currency.", exposure.gross),
            ("veloz_account_net_exposure", "Net exposure, in the reporting currency.", exposure.net),
            ("veloz_account_leverage_ratio", "Gross exposure over equity.", exposure.leverage),
        ):
            amount = GaugeMetricFamily(name, text, labels=["account", "currency"])
            if value is not None:
                amount.add_metric([account_id, exposure.reporting_asset], float(value))
            yield amount


def feed_families(feeds: Sequence[FeedHealthView]) -> Iterator[Metric]:
    """The health of each symbol's market data."""
    state = GaugeMetricFamily(
        "veloz_feed_book_state",
        "1 at the state that the book is in; only a LIVE book is verified.",
        labels=["symbol", "state"],
    )
    latency = GaugeMetricFamily(
        "veloz_feed_exchange_latency_seconds",
        "The engine's clock at arrival less the venue's event time, corrected by the clock offset; percentiles of the "
        "last messages.",
        labels=["symbol", "percentile"],
    )
    for feed in feeds:
        _one_hot(state, (feed.symbol,), BOOK_STATES, feed.book_state)
        for percentile, value_ms in (("50", feed.exchange_latency_ms_p50), ("99", feed.exchange_latency_ms_p99)):
            if value_ms is not None:
                latency.add_metric([feed.symbol, percentile], float(value_ms / MS_PER_S))
    yield state
    yield latency
    for metric in _FEED_METRICS:
        family = metric.family(metric.name, metric.help, labels=["symbol"])
        for feed in feeds:
            if (value := metric.read(feed)) is not None:
                family.add_metric([feed.symbol], float(value))
        yield family


def _seconds(value_ms: int | None) -> Decimal | None:
    return None if value_ms is None else Decimal(value_ms) / MS_PER_S


def _one_hot(family: GaugeMetricFamily, labels: tuple[str, ...], states: Iterable[str], actual: str) -> None:
    # A state of a newer engine shows as one more, never as none.
    for state in dict.fromkeys((*states, actual)):
        family.add_metric([*labels, state], int(state == actual))
