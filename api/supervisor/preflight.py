"""What must hold before anything starts; each error names the cure."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from core.config import Settings

MIN_PYTHON = (3, 11)
BELOW_PYTHON = (3, 14)
MIN_FREE_DISK_BYTES = 500 * 1024 * 1024


class PreflightError(Exception):
    """The service can't start here; the message says what is in the way and what to do about it."""


def check_python() -> None:
    """Raises PreflightError on a Python outside the supported range."""
    if not MIN_PYTHON <= sys.version_info[:2] < BELOW_PYTHON:
        running = ".".join(map(str, sys.version_info[:3]))
        raise PreflightError(
            f"Python {running} at {sys.executable}: VeloZ needs 3.11, 3.12 or 3.13. Remove .venv and run "
            "`make run PYTHON=/path/to/python3.12`."
        )


def check_native() -> None:
    """Raises PreflightError when the native module is missing or broken: there is no slow fallback that hides it."""
    try:
        import core._native  # noqa: F401
    except ImportError as error:
        raise PreflightError(f"the native module core._native doesn't load ({error}). Run `make native`.") from error


def check_disk(folder: Path, needed_bytes: int = MIN_FREE_DISK_BYTES) -> None:
    """Raises PreflightError when the file system of folder has less than needed_bytes left for us."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise PreflightError(
            f"{folder}: {free // 1024**2} MB free, {needed_bytes // 1024**2} MB needed. Free some space there, or set "
            "VELOZ_HOME to a folder on another disk."
        )


def check_port(host: str, port: int, setting: str, option: str) -> None:
    """Raises PreflightError when nothing can listen at host:port. Port 0 is any free one."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            section, key = setting.split(".")
            variable = f"VELOZ_{section.upper()}__{key.upper()}"
            what = (
                "is taken by another program" if error.errno == errno.EADDRINUSE else f"can't be used: {error.strerror}"
            )
            raise PreflightError(
                f"port {port} on {host} {what}. Stop what uses it, or choose another port: {option} <port>, "
                f"{variable}=<port>, or {setting} in veloz.toml (0 takes any free one)."
            ) from error


def free_port(host: str) -> int:
    """A port nobody listens on right now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port


def check_ports(settings: Settings) -> None:
    """Raises PreflightError for the first port that can't be used."""
    check_port(settings.api.host, settings.api.port, "api.port", "--port")
    check_port(settings.venue.host, settings.venue.port, "venue.port", "--venue-port")


@dataclass
class SupervisorLock:
    """One supervisor a home: an flock, which the kernel releases however we end."""

    path: Path
    descriptor: int = -1

    def __enter__(self) -> SupervisorLock:
        self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self.descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self.descriptor)
            raise PreflightError(
                f"{self.path.parent.parent}: already running, supervisor pid {holder}. Use it, or stop it with "
                f"`kill {holder}`; for a second service set VELOZ_HOME to another folder."
            ) from None
        os.ftruncate(self.descriptor, 0)
        os.pwrite(self.descriptor, f"{os.getpid()}\n".encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.ftruncate(self.descriptor, 0)
        os.close(self.descriptor)
