"""Where the engine listens: one rule, so that its server and its clients find the same place."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from core.config import ConfigurationError, Settings

SOCKET_NAME = "engine.sock"
# A socket path holds 107 bytes on Linux and 103 on macOS.
SOCKET_PATH_LIMIT_BYTES = 103
# Not the TMPDIR of one process: both sides must come to the same path.
SHORT_ROOT = Path("/tmp")  # noqa: S108 - the folder below it is private (0700) and its owner is checked


def engine_address(settings: Settings) -> str:
    """The gRPC address, ``unix:<path>`` or ``host:port``.

    Raises ConfigurationError when the short folder under /tmp belongs to someone else.
    """
    if settings.engine.listen:
        return settings.engine.listen
    path = settings.paths.run / SOCKET_NAME
    if len(os.fsencode(path)) > SOCKET_PATH_LIMIT_BYTES:
        path = _short_folder(settings.home) / SOCKET_NAME
    return f"unix:{path}"


def prepare_address(settings: Settings) -> str:
    """Create the private folder (0700) of a unix address and remove a socket left by a dead engine.

    The journal's lock is held by then, so no live engine of this home loses its socket. Raises ConfigurationError.
    """
    address = engine_address(settings)
    if address.startswith("unix:"):
        socket = Path(address.removeprefix("unix:"))
        if len(os.fsencode(socket)) > SOCKET_PATH_LIMIT_BYTES:
            raise ConfigurationError(
                f"engine.listen: the socket path {socket} is longer than {SOCKET_PATH_LIMIT_BYTES} bytes; "
                "give a shorter one, or leave it empty"
            )
        socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not settings.engine.listen:
            socket.parent.chmod(0o700)
        if socket.is_socket():
            socket.unlink()
    return address


def _short_folder(home: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(home.absolute())).hexdigest()[:12]
    folder = SHORT_ROOT / f"veloz-{os.geteuid()}-{digest}"
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return folder
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise ConfigurationError(f"{folder} belongs to someone else; remove it, or set engine.listen to a short path")
    return folder
