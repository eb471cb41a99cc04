"""Recorded trades by hand, taken into a catalog as `veloz data import` does."""

from __future__ import annotations

import json
from pathlib import Path

from core.storage.catalog import Catalog
from core.storage.importing import import_file
from core.types.clock import NS_PER_MS
from tests.core.backtest.support import START_NS

Tick = tuple[int, int, str, str]
"""(id, milliseconds after the start, price, quantity)"""


def stored(root: Path, *files: list[Tick], start_ns: int = START_NS) -> Catalog:
    catalog = Catalog(root / "data")
    for number, ticks in enumerate(files):
        lines = [
            f"{start_ns + at_ms * NS_PER_MS} "
            + json.dumps(
                {
                    "stream": "btcusdt@trade",
                    "data": {
                        "e": "trade",
                        "E": start_ns // NS_PER_MS + at_ms,
                        "s": "BTCUSDT",
                        "t": trade_id,
                        "p": price,
                        "q": quantity,
                        "T": start_ns // NS_PER_MS + at_ms,
                        "m": False,
                        "M": True,
                    },
                }
            )
            for trade_id, at_ms, price, quantity in ticks
        ]
        path = root / f"{number}.txt"
        path.write_text("\n".join(lines) + "\n")
        import_file(catalog, path)
    return catalog
