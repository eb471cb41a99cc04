"""The services that the end-to-end tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.service import RunningService
from tests.recordings import spot_recordings


@pytest.fixture(scope="session")
def spot_files() -> list[Path]:
    return spot_recordings()


@pytest.fixture(scope="session")
def service(spot_files: list[Path]) -> Iterator[RunningService]:
    """A service on the recorded market, shared by tests that leave it healthy."""
    running = RunningService("--market", "recording:" + ",".join(map(str, spot_files)))
    running.start()
    yield running
    running.stop()
    running.remove()
