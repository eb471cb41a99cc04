"""What a year of minutes costs to backtest: each strategy over a market of its own making, in one process.

Prints {bars, strategies: {name: {bars_per_s, seconds, orders, fills}}, digest_bars_per_s, peak_rss_bytes, deadline_s,
slowest_share_of_deadline}. Seconds are those of the processor, so that a busy machine doesn't count. Orders use a small
share of the capital, so that no limit on losses ends the trading early.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
from pathlib import Path
from time import process_time

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from api.backtests.service import DEADLINE_S
from core.backtest.bars import BarSeries, Row
from core.backtest.fills import Terms
from core.backtest.running import run_backtest
from core.backtest.specification import Specification
from core.types.clock import NS_PER_S
from core.types.instruments import Instrument

YEAR_BARS = 525_600
MINUTE_NS = 60 * NS_PER_S
START_NS = 1_704_067_200 * NS_PER_S
SEED = 1
BTC = Instrument("bench", "BTCUSDT", "BTC", "USDT", 2, 5, 1, 1, 1, 10**9, 5 * 10**6)
TERMS = Terms(slippage_bps=1, maker_fee_bps=0, taker_fee_bps=0, latency_ms=0, max_volume_share_bps=1_000)
STRATEGIES: dict[str, tuple[str, dict[str, int | None]]] = {
    "sma_cross": ("sma_cross", {"share_bps": 50}),
    "rsi_reversion": ("rsi_reversion", {"share_bps": 50}),
    "breakout": ("breakout", {"share_bps": 50}),
    "breakout with exits": ("breakout", {"share_bps": 50, "stop_loss_bps": 30, "take_profit_bps": 60}),
    "buy_and_hold": ("buy_and_hold", {"share_bps": 50}),
}


def market(count: int) -> list[Row]:
    """A random walk in steps of up to 0.1 percent."""
    source, price, rows = random.Random(SEED), 6_000_000, []  # noqa: S311 a market, no secret
    for number in range(count):
        close = max(100_000, price + source.randint(-price // 1_000, price // 1_000))
        high = max(price, close) + source.randint(0, price // 2_000)
        low = min(price, close) - source.randint(0, price // 2_000)
        rows.append((START_NS + number * MINUTE_NS, price, high, low, close, source.randint(10**6, 10**7)))
        price = close
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="as all benchmarks take it; it is JSON anyway")
    parser.add_argument("--bars", type=int, default=YEAR_BARS)
    arguments = parser.parse_args()
    series = BarSeries(BTC, "1m", "bench", market(arguments.bars))
    started_s = process_time()
    series.digest()
    digest_s = process_time() - started_s
    measured: dict[str, dict[str, float | int]] = {}
    for label, (name, parameters) in STRATEGIES.items():
        started_s = process_time()
        report = run_backtest(series, Specification(name, parameters, "10000", TERMS))
        seconds = process_time() - started_s
        measured[label] = {
            "bars_per_s": round(len(series) / seconds),
            "seconds": round(seconds, 2),
            "orders": int(report.metrics.orders_asked),
            "fills": int(report.metrics.fills),
        }
    slowest_s = max(figures["seconds"] for figures in measured.values())
    result = {
        "bench": "backtest",
        "bars": len(series),
        "strategies": measured,
        "digest_bars_per_s": round(len(series) / digest_s),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1_024,
        "deadline_s": DEADLINE_S,
        "slowest_share_of_deadline": round(slowest_s / DEADLINE_S, 3),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
