"""Fixtures of the engine's tests."""

from __future__ import annotations

from tests.core.engine_support import engine, home, settings, venue

__all__ = ["engine", "home", "settings", "venue"]
