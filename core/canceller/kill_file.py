"""The KILL file, durable: while it is there the engine is, and starts, HALTED (I10)."""

from __future__ import annotations

import os
from pathlib import Path

KILL_NAME = "KILL"
FILE_MODE = 0o600


def write_kill_file(path: Path, line: str) -> None:
    """Return once the file and its name are on stable storage. A file that is there is added to. Raises OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    content = line.encode() + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, FILE_MODE)
    try:
        while content:
            content = content[os.write(descriptor, content) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    # The folder's own name may be as new as the file's.
    for folder in (path.parent, path.parent.parent):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
