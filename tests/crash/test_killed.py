"""The short form of `make crash`: a real engine process, killed while it trades, agrees with its venue afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash import run
from tests.crash.run import Crashes

SEED = 3


@pytest.mark.parametrize(("kinds", "times"), [({"engine": 1}, 3), ({"both": 1}, 1), ({"venue": 1}, 1)], ids=str)
async def test_after_kill_9_orders_fills_positions_and_books_are_the_venues(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kinds: dict[str, int], times: int
) -> None:
    monkeypatch.setattr(run, "KINDS", kinds)
    summary = await Crashes(tmp_path / "home", SEED, print, recv_window_ms=1_000).run(times)
    assert summary.disagreements == []
    assert (summary.crashes, set(summary.kinds)) == (times, set(kinds))
    assert summary.books_compared == 3 * (times + 1)
    assert summary.orders_told
