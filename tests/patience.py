"""How long the product waits for its own parts, drawn out for tests: there they share one process or one machine, and a
machine that stalls for some seconds isn't a part that is down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

import pytest

PATIENCE_S = 60.0
SHORTEST_OF_A_TOOL_MS = 2_000
"""Tools with less time than this are a test's own."""
WAITS = {
    "api.auth.users": ("LOOKUP_TIMEOUT_S",),
    "core.storage.database": ("POOL_WAIT_TIMEOUT_S",),
    "core.runtime.client": ("READ_DEADLINE_S", "CHECK_DEADLINE_S", "EXECUTE_DEADLINE_S", "SAFETY_DEADLINE_S"),
}


@contextmanager
def patience() -> Iterator[None]:
    """A test that is about such a wait sets it itself."""
    with pytest.MonkeyPatch.context() as patched:
        for module, names in WAITS.items():
            for name in names:
                patched.setattr(import_module(module), name, PATIENCE_S)
        sink = import_module("audit.store").PostgresAuditSink
        patched.setitem(sink.__init__.__kwdefaults__, "deadline_s", PATIENCE_S)
        within = import_module("tools.deadlines").ToolDeadlines.within
        patched.setattr(
            "tools.deadlines.ToolDeadlines.within",
            lambda self, ms: within(self, ms if ms < SHORTEST_OF_A_TOOL_MS else int(PATIENCE_S * 1_000)),
        )
        yield
