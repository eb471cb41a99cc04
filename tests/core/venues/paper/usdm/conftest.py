"""Fixtures of the futures venue's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.core.venues.paper.usdm.support import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    here = Bench(tmp_path / "usdm.sqlite3")
    yield here
    here.close()
    assert not here.failures
