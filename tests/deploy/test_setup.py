"""What `make` says on a machine that lacks something: each message names the cure. Runs deploy/setup.sh itself, with a
PATH that holds only what the case allows."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("sh", "sed", "cut", "head", "mktemp", "rm", "mkdir", "cat")


class Machine:
    """A folder with a checkout's installation files and a PATH of its own."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "checkout"
        self.bin = folder / "bin"
        self.bin.mkdir()
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found is not None
            (self.bin / tool).symlink_to(found)
        for name in ("deploy/setup.sh", "requirements/uv.lock"):
            (self.checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.checkout / name)

    def has(self, name: str, script: str) -> Machine:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return self

    def runs(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        # The candidates with a path of their own are not this machine's.
        script = self.checkout / "deploy/setup.sh"
        script.write_text(script.read_text().replace(" /usr/bin/python3 /usr/local/bin/python3", ""))
        return subprocess.run(
            ["/bin/sh", "deploy/setup.sh", *arguments],
            cwd=self.checkout,
            env={"PATH": str(self.bin), "HOME": str(self.checkout), **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    def complains(self, *arguments: str, **environment: str) -> str:
        done = self.runs(*arguments, **environment)
        assert done.returncode != 0
        assert "error: " in done.stderr
        return done.stderr


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_no_python(machine: Machine) -> None:
    message = machine.complains("venv")
    assert "no Python 3.11 to 3.13 found" in message
    assert "apt-get install python3" in message


@pytest.mark.parametrize("version", ["3.9", "3.14"])
def test_a_python_of_another_version(machine: Machine, version: str) -> None:
    message = machine.has("python3", f"echo is version {version}").complains("venv")
    assert f"python3 is version {version}" in message
    assert "PYTHON=" in message


def test_a_python_that_does_not_run_is_passed_over(machine: Machine) -> None:
    machine.has("python3.13", "exit 127").has("python3", "echo is version 3.9")
    message = machine.complains("venv")
    assert "python3.13 doesn't run" in message
    assert "python3 is version 3.9" in message


@pytest.mark.parametrize("part", ["lacks venv/ensurepip", "lacks its C headers (Python.h)"])
def test_a_python_packed_in_parts(machine: Machine, part: str) -> None:
    message = machine.has("python3", f"echo '{part}'").complains("venv")
    assert part in message
    assert "apt-get install python3-venv python3-dev" in message


def test_a_named_python_that_is_not_there(machine: Machine) -> None:
    assert "PYTHON=python9: no such command" in machine.complains("venv", PYTHON="python9")


def test_the_real_check_accepts_this_python(machine: Machine) -> None:
    script = (ROOT / "deploy/setup.sh").read_text()
    check = script[script.index("import os\n") : script.index("\nPYTHON\n")]
    done = subprocess.run([sys.executable, "-c", check, "3.11", "3.13"], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    done = subprocess.run([sys.executable, "-c", check, "3.14", "3.14"], capture_output=True, text=True, check=True)
    assert "is version" in done.stdout


def test_no_compiler(machine: Machine) -> None:
    message = machine.complains("native")
    assert "no C++ compiler found" in message
    assert "apt-get install g++" in message
    assert "xcode-select --install" in message


def test_a_named_compiler_that_is_not_there(machine: Machine) -> None:
    assert "CXX=clang-99" in machine.complains("native", CXX="clang-99")


def test_a_compiler_without_cpp23(machine: Machine) -> None:
    machine.has("c++", "echo \"c++: error: unrecognized command-line option '-std=c++2b'\"; exit 1")
    message = machine.complains("native")
    assert "can't compile C++23 (c++: error: unrecognized" in message
    assert "GCC 12" in message


def test_no_network(machine: Machine) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(machine.checkout / ".venv")], check=True)
    with socket.socket() as closed:  # bound, never listening: connections are refused
        closed.bind(("127.0.0.1", 0))
        index = f"http://127.0.0.1:{closed.getsockname()[1]}/simple"
        message = machine.complains(
            "venv", PIP_CONFIG_FILE="/dev/null", PIP_INDEX_URL=index, PIP_RETRIES="0", PIP_NO_CACHE_DIR="1"
        )
    assert "packages can't be installed" in message
    assert "Is there a network" in message
