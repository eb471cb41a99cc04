"""bench/depth.py: it measures what it says, and refuses to compare books that differ."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from tests.recordings import recordings_folder

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "depth.py"
FRAMES = 200


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def beginning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first depth messages of the USD-M recording, with its snapshot."""
    file = tmp_path_factory.mktemp("depth") / "beginning.txt"
    with gzip.open(recordings_folder() / "usdm_btcusdt_20240808.gz") as lines:
        depth = (line for line in lines if b"depthUpdate" in line[:160] or b"lastUpdateId" in line[:160])
        file.write_bytes(b"".join(islice(depth, FRAMES)))
    return file


def test_it_states_speed_and_memory_beside_its_peers_as_one_json_object(beginning: Path) -> None:
    done = run("--json", "--rounds", "1", "--peers", "sortedcontainers", str(beginning))
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["frames"], result["file"], result["rounds"]) == (FRAMES, "beginning.txt", 1)
    assert result["levels"] > 5_000
    peer = result["peers"]["sortedcontainers"]
    assert result["ratio_to_best_peer"] == round(result["levels_per_s"] / peer["levels_per_s"], 2)
    assert {"memory_bytes", "memory_ratio_to_best_peer", "messages_per_s", "machine", "commit"} <= result.keys()


def test_books_that_differ_fail_it(beginning: Path, tmp_path: Path) -> None:
    """A price that floats can't tell from its neighbour makes the peer's book another one."""
    lines = beginning.read_bytes().splitlines(keepends=True)
    stamp, _, raw = lines[-1].partition(b" ")
    message = json.loads(raw)
    message["data"]["a"] += [["9000000000000000.01", "1"], ["9000000000000000.02", "2"]]
    altered = tmp_path / "altered.txt"
    altered.write_bytes(b"".join(lines[:-1]) + stamp + b" " + json.dumps(message).encode() + b"\n")
    done = run("--rounds", "1", "--peers", "sortedcontainers", str(altered))
    assert done.returncode != 0
    assert "the final books differ" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("no/such/file.gz",), "no such file: no/such/file.gz"),
        (("--peers", "excel"), "unknown peers"),
        (("--rounds", "0"), "--rounds must be at least 1"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple[str, ...], words: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
