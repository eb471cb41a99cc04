"""The native core under AddressSanitizer and UndefinedBehaviorSanitizer: the short form of `make sanitize`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "deploy" / "sanitize.py"
NO_COMPILER = 2


@pytest.mark.timeout(600)  # the first time, it compiles
def test_decoder_and_book_are_sound_on_recorded_and_damaged_frames_and_random_operations() -> None:
    amounts = ("--mutations", "4000", "--operations", "4000")
    done = subprocess.run([sys.executable, str(SCRIPT), *amounts], capture_output=True, text=True, check=False)
    if done.returncode == NO_COMPILER and "needs a C++ compiler" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr[-4_000:]
    assert "4000 damaged frames, 4000 book operations: all sound" in done.stdout
