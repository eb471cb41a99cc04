"""Nothing is left behind: on Linux, what our children leave when they die comes to us, is reaped, and ends with us."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Collection
from pathlib import Path

from api.supervisor.spawning import POLL_S

PR_SET_CHILD_SUBREAPER = 36
END_TIMEOUT_S = 5.0


def adopt() -> None:
    """From now on orphaned descendants become our children instead of init's. Nothing where that isn't possible."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_orphans(known: Collection[int]) -> None:
    """Reap adopted zombies. Those of known pids are left to their owners, as are the children of our own group: only
    supervised children lead groups, so whatever else is ours was started by a library that waits for it."""
    if sys.platform != "linux":
        return
    for pid, state in _children():
        if state == "Z" and pid not in known and _is_adopted(pid):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def end_orphans() -> None:
    """Kill and reap every adopted process that still runs. Call when all known children are gone."""
    if sys.platform != "linux":
        return
    deadline = time.monotonic() + END_TIMEOUT_S
    while adopted := [pid for pid, _ in _children() if _is_adopted(pid)]:
        for pid in adopted:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        if time.monotonic() >= deadline:
            return
        time.sleep(POLL_S)


def _is_adopted(pid: int) -> bool:
    try:
        return os.getpgid(pid) != os.getpgrp()
    except ProcessLookupError:
        return False


def _children() -> list[tuple[int, str]]:
    """Our children as (pid, state)."""
    found = []
    us = str(os.getpid())
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[1] == us:
            found.append((int(folder.name), fields[0]))
    return found
