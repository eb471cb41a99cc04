"""Starting processes that don't outlive us, and telling our processes from strangers with a recycled pid."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

PR_SET_PDEATHSIG = 1
POLL_S = 0.01


def die_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    """For preexec_fn: the kernel sends death_signal to the child when we die. None where the kernel can't (macOS).

    subprocess runs preexec_fn after setuid, as it must: setuid clears the setting. Spawn from the main thread: the
    signal comes when the spawning thread ends, not the process.
    """
    if sys.platform != "linux":
        return None
    assert threading.current_thread() is threading.main_thread(), "children must be spawned from the main thread"
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def arrange() -> None:
        prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return arrange


def is_alive(pid: int) -> bool:
    """Whether pid runs; a zombie doesn't."""
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return False
        return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def command_line(pid: int) -> str:
    """The command line of pid; empty when there is no such process or we may not see it."""
    if sys.platform == "linux":
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            return ""
    listing = subprocess.run(
        ["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False, timeout=5
    )
    return listing.stdout.strip()


def signal_group(pid: int, signal_number: signal.Signals) -> None:
    """Signal the process group that pid leads; a group that is gone is no error."""
    try:
        os.killpg(pid, signal_number)
    except ProcessLookupError:
        return
    except PermissionError:  # macOS answers so for a group of zombies
        return


def wait_gone(pid: int, timeout_s: float) -> bool:
    """Whether pid (not our child, or reaped elsewhere) ended within timeout_s."""
    deadline = time.monotonic() + timeout_s
    while is_alive(pid):
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True
