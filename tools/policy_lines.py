"""Where in a TOML document a key stands, so that a complaint can name the line."""

from __future__ import annotations

import re
import tomllib
from typing import Any

_PATH_STEP = re.compile(r"\.([A-Za-z0-9_-]+)|\[(\d+|\.\.\.)\]")


def path_of(text: str) -> tuple[str | int, ...]:
    """The steps of a JSON path such as ``$.allow[2].tools[0]``."""
    steps: list[str | int] = []
    for name, index in _PATH_STEP.findall(text):
        steps.append(name or (int(index) if index.isdigit() else index))
    return tuple(steps)


def line_of(document: str, path: tuple[str | int, ...]) -> int | None:
    """The line (from 1) of the key that path leads to, else of the section that should hold it; None when neither is
    there. An index counts the sections of that name, as ``("allow", 2, "tools")``."""
    section: tuple[str | int, ...] = ()
    counts: dict[str, int] = {}
    header: int | None = None
    for number, text in enumerate(document.splitlines(), start=1):
        stripped = text.strip()
        if stripped.startswith("[["):
            name = ".".join(_names(stripped, "[[", "]]"))
            section = (name, counts.get(name, 0))
            counts[name] = counts.get(name, 0) + 1
        elif stripped.startswith("[") and (names := _names(stripped, "[", "]")):
            section = tuple(names)
        if stripped.startswith("[") and section and section == path[: len(section)]:
            header = number
            if section == path:
                return number
        elif section == path[: len(section)] and len(path) > len(section):
            key = re.escape(str(path[len(section)]))
            if re.match(rf"[\"']?{key}[\"']?\s*[=.]", stripped):
                return number
    return header


def _names(line: str, opening: str, closing: str) -> list[str]:
    """The names in a section's header; none for what only looks like one (a line of a list)."""
    try:
        inside: Any = tomllib.loads(line)
    except (ValueError, RecursionError):
        return []
    names: list[str] = []
    while inside:
        ((name, inside),) = inside.items()
        names.append(name)
        if isinstance(inside, list):
            inside = inside[0]
    return names
