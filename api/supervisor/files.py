"""Files and folders that survive a crash half-way: temporary name, fsync, rename."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

PRIVATE_FOLDER_MODE = 0o700
PRIVATE_FILE_MODE = 0o600


def private_folder(path: Path) -> Path:
    """Create path and make it readable by its owner alone. Raises OSError."""
    path.mkdir(mode=PRIVATE_FOLDER_MODE, parents=True, exist_ok=True)
    if path.stat().st_mode & 0o777 != PRIVATE_FOLDER_MODE:
        path.chmod(PRIVATE_FOLDER_MODE)
    return path


def write_durably(path: Path, content: str | bytes, mode: int = PRIVATE_FILE_MODE) -> None:
    """Replace path whole or not at all: after a crash it has the old content or the new one. Raises OSError."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the folder's entries durable; a rename isn't until then."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def ensure_secret(path: Path, make: Callable[[], str]) -> str:
    """The secret in path; made and stored first when there is none. Its folder must exist."""
    if path.exists():
        content = path.read_text().strip()
        if content:
            if path.stat().st_mode & 0o777 != PRIVATE_FILE_MODE:
                path.chmod(PRIVATE_FILE_MODE)
            return content
    write_durably(path, (secret := make()) + "\n")
    return secret


def new_password() -> str:
    """24 random bytes, URL-safe, so that it needs no quoting anywhere."""
    return secrets.token_urlsafe(24)


def new_hex_key() -> str:
    """32 random bytes in hex."""
    return secrets.token_hex(32)
