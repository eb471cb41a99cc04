"""Where the recorded market lies."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

DEFAULT = Path(__file__).resolve().parents[2] / "shared" / "recordings"


def recordings_folder() -> Path:
    """VELOZ_RECORDINGS, else ../shared/recordings beside the checkout. Skips the test when it is absent."""
    folder = Path(os.environ.get("VELOZ_RECORDINGS", DEFAULT))
    if not folder.is_dir():
        pytest.skip(f"no recordings at {folder}; set VELOZ_RECORDINGS")
    return folder


def spot_recordings() -> list[Path]:
    """The spot BTCUSDT files, in order."""
    files = sorted(recordings_folder().glob("spot_btcusdt_*.gz"))
    if not files:
        pytest.skip(f"no spot recordings in {recordings_folder()}")
    return files
