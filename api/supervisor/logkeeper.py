"""Logs of bounded size. Children write to their files themselves, so that a slow supervisor never blocks them."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

MAX_LOG_BYTES = 16 * 1024 * 1024
KEPT_GENERATIONS = 2
CHECK_INTERVAL_S = 5.0
COPY_CHUNK_BYTES = 1024 * 1024


def rotate(log_file: Path, max_bytes: int = MAX_LOG_BYTES) -> bool:
    """Move what is in an overlong log to `<name>.1` and empty the file in place; whether it did.

    Children hold it open for appending, so a rename wouldn't stop them writing to the old file, and after emptying
    they go on at its start. A line written between copy and emptying is lost.
    """
    try:
        if log_file.stat().st_size <= max_bytes:
            return False
    except FileNotFoundError:
        return False
    for generation in range(KEPT_GENERATIONS, 1, -1):
        older = log_file.with_name(f"{log_file.name}.{generation - 1}")
        if older.exists():
            older.replace(log_file.with_name(f"{log_file.name}.{generation}"))
    target = log_file.with_name(f"{log_file.name}.1")
    with log_file.open("rb") as source, target.open("wb") as copy:
        target.chmod(0o600)
        shutil.copyfileobj(source, copy, COPY_CHUNK_BYTES)
    os.truncate(log_file, 0)
    return True


async def keep_bounded(log_files: Iterable[Path]) -> None:
    """Check all of them for ever."""
    files = tuple(log_files)
    while True:
        for log_file in files:
            await asyncio.to_thread(rotate, log_file)
        await asyncio.sleep(CHECK_INTERVAL_S)
