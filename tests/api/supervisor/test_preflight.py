"""What is checked before anything starts, and the small parts of the supervisor."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from api.supervisor.environment import child_environment, settings_environment
from api.supervisor.files import write_durably
from api.supervisor.logkeeper import rotate
from api.supervisor.preflight import PreflightError, SupervisorLock, check_disk, check_port
from api.supervisor.supervisor import UpOptions
from core.config import ConfigurationError, Settings, load_settings


def test_a_taken_port_is_named_with_each_way_to_change_it() -> None:
    with socket.socket() as occupier:
        occupier.bind(("127.0.0.1", 0))
        occupier.listen()
        port = occupier.getsockname()[1]
        with pytest.raises(PreflightError) as caught:
            check_port("127.0.0.1", port, "api.port", "--port")
    for words in (str(port), "--port", "VELOZ_API__PORT", "api.port in veloz.toml"):
        assert words in str(caught.value)


def test_a_free_port_is_fine() -> None:
    check_port("127.0.0.1", 0, "api.port", "--port")


def test_a_full_disk_is_named_with_its_folder(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=rf"{tmp_path}: \d+ MB free"):
        check_disk(tmp_path, needed_bytes=1 << 62)


def test_one_supervisor_a_home(tmp_path: Path) -> None:
    lock_file = tmp_path / "supervisor.lock"
    with (
        SupervisorLock(lock_file),
        pytest.raises(PreflightError, match=f"supervisor pid {os.getpid()}.*VELOZ_HOME"),
        SupervisorLock(lock_file),
    ):
        raise AssertionError("the second one got the lock")
    with SupervisorLock(lock_file):
        assert lock_file.read_text().strip() == str(os.getpid())


def test_a_killed_supervisor_releases_its_lock(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from api.supervisor.preflight import SupervisorLock\n"
        "lock = SupervisorLock(Path(sys.argv[1])); lock.__enter__(); print('held', flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(PreflightError), SupervisorLock(tmp_path / "lock"):
        pass
    holder.kill()
    holder.wait()
    with SupervisorLock(tmp_path / "lock"):
        pass


def test_a_child_sees_the_supervisors_settings_whatever_the_file_says(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path,
        market={"source": "synthetic", "speed": "2.5", "seed": 9},
        api={"port": 1234},
        mcp={"allowed_origins": ["https://one.example", "https://two.example"], "allowed_hosts": []},
    )
    (tmp_path / "veloz.toml").write_text("[api]\nport = 9999\n[market]\nseed = 1\n")
    environment = settings_environment(settings)
    assert load_settings(Path(environment["VELOZ_HOME"]), environment) == settings


def test_a_child_gets_nothing_else_of_our_environment(tmp_path: Path) -> None:
    ours = {
        "PATH": "/bin",
        "VELOZ_PASSWORD": "hunter2-hunter2",
        "OPENAI_API_KEY": "sk-1",
        "HTTPS_PROXY": "http://u:p@proxy",
    }
    engine = child_environment(Settings(home=tmp_path), ours, reaches_providers=False)
    api = child_environment(Settings(home=tmp_path), ours, reaches_providers=True)
    assert {name for name in engine if not name.startswith("VELOZ_")} == {"PATH"}
    assert {name for name in api if not name.startswith("VELOZ_")} == {"PATH", "HTTPS_PROXY"}
    assert "VELOZ_PASSWORD" not in api


def test_options_lie_over_settings(tmp_path: Path) -> None:
    recording = tmp_path / "r.gz"
    recording.touch()
    options = UpOptions(market=f"recording:{os.path.relpath(recording)}", speed=Decimal(10), port=0, venue_port=9001)
    settings = options.apply(Settings(home=tmp_path))
    assert settings.market.source == f"recording:{recording}"
    assert (settings.market.speed, settings.api.port, settings.venue.port) == (Decimal(10), 0, 9001)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (UpOptions(market="recording:/nowhere/at/all.gz"), "no recording at /nowhere/at/all.gz"),
        (UpOptions(market="recording:"), "names no file"),
        (UpOptions(market="live:"), "names no symbol"),
        (UpOptions(market="live"), "option --market: must be"),
        (UpOptions(speed=Decimal(0)), "option --speed: "),
        (UpOptions(port=70_000), "option --port: "),
    ],
)
def test_wrong_options_are_configuration_errors(tmp_path: Path, options: UpOptions, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told) as raised:
        options.apply(Settings(home=tmp_path))
    assert "\n" not in str(raised.value)


def test_an_overlong_log_moves_aside_and_its_writer_goes_on(tmp_path: Path) -> None:
    log_file = tmp_path / "x.log"
    with log_file.open("ab", buffering=0) as writer:
        for round_number in range(3):
            writer.write(b"%d" % round_number * 100)
            assert rotate(log_file, max_bytes=50)
        writer.write(b"last")
    assert log_file.read_bytes() == b"last"
    assert (tmp_path / "x.log.1").read_bytes() == b"2" * 100
    assert (tmp_path / "x.log.2").read_bytes() == b"1" * 100
    assert not (tmp_path / "x.log.3").exists()


def test_a_failed_write_leaves_the_old_content_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "f"
    write_durably(target, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_durably(target, "new")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
