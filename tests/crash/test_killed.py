"""The short form of `make crash`: a real engine process, killed while it trades, agrees with its venue afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash import run
from tests.crash.products import SPOT, USDM, Product
from tests.crash.run import Crashes

SEED = 3


@pytest.mark.parametrize(
    ("product", "kind", "times"),
    [(SPOT, "engine", 2), (SPOT, "both", 1), (SPOT, "venue", 1), (USDM, "engine", 1)],
    ids=["spot engine", "spot both", "spot venue", "usdm engine"],
)
async def test_after_kill_9_orders_fills_positions_and_books_are_the_venues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, product: Product, kind: str, times: int
) -> None:
    monkeypatch.setattr(run, "KINDS", {kind: 1})
    summary = await Crashes(tmp_path / "home", SEED, print, product=product, recv_window_ms=1_000).run(times)
    assert summary.disagreements == []
    assert summary.kinds == {kind: times}
    assert summary.books_compared == 3 * (times + 1)
    assert summary.orders_told
