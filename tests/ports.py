"""Ports for processes that are told theirs, or that come back on it."""

from __future__ import annotations

import itertools
import os
import socket

FIRST, COUNT = 20_000, 1_000
"""Below what systems give out by themselves (Linux from 32768, macOS from 49152): no connection of anyone else takes
one between our look and its use."""
WORKERS_LIMIT = 10

_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % WORKERS_LIMIT
_ports = itertools.count(os.getpid() * 7)


def unused_port() -> int:
    """A port of 127.0.0.1 that nobody has; those of another test worker are others."""
    for number in itertools.islice(_ports, COUNT):
        port = FIRST + _worker * COUNT + number % COUNT
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError(f"no port of 127.0.0.1 is free from {FIRST + _worker * COUNT} on")
