"""Fixtures of the invariants' tests: the real engine, venue and database."""

from __future__ import annotations

from tests.core.engine_support import engine, home, settings, venue

__all__ = ["engine", "home", "settings", "venue"]
