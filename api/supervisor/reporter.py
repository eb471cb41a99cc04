"""What `veloz up` says: steps with their time for people, or one JSON object a line for programs."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO


class Reporter:
    """Writes to out and to logs/supervisor.log. Times are seconds since its creation."""

    def __init__(self, out: TextIO, log_file: Path | None, json_lines: bool) -> None:
        self._out = out
        self._log_file = log_file
        self._json_lines = json_lines
        self._started = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def step(self, name: str, detail: str, took_s: float) -> None:
        """Something is done."""
        self._say({"event": "step", "name": name, "detail": detail, "took_s": round(took_s, 3)})
        if not self._json_lines:
            self._print(f"  {name:<10} {took_s:6.2f} s  {detail}")

    def change(self, child: str, message: str) -> None:
        """A child ended, is restarted, is back."""
        self._say({"event": "child", "name": child, "message": message})
        if not self._json_lines:
            self._print(f"{datetime.now().astimezone():%H:%M:%S} {message}")

    def error(self, message: str) -> None:
        self._say({"event": "error", "message": message})
        if not self._json_lines:
            self._print(f"error: {message}")

    def note(self, event: str, message: str, **fields: Any) -> None:
        """Anything else; fields for programs only."""
        self._say({"event": event, "message": message, **fields})
        if not self._json_lines:
            self._print(message)

    def _say(self, content: dict[str, Any]) -> None:
        content = content | {"elapsed_s": round(self.elapsed_s, 3)}
        if self._json_lines:
            self._print(json.dumps(content, ensure_ascii=False))
        if self._log_file is not None:
            # What people are told once, the log needn't keep: it would hold the demo passwords.
            kept = {name: value for name, value in content.items() if name != "logins"}
            if kept.get("event") == "ready":
                kept.pop("message")
            line = json.dumps({"timestamp": datetime.now(UTC).isoformat(), "process": "supervisor", **kept})
            with (
                contextlib.suppress(OSError),  # a full disk must not keep us from stopping children
                os.fdopen(os.open(self._log_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a") as log,
            ):
                log.write(line + "\n")

    def _print(self, text: str) -> None:
        try:
            print(text, file=self._out, flush=True)
        except (BrokenPipeError, OSError, ValueError):
            # Whoever read us is gone (a closed terminal); the service goes on, the log has it all.
            self._out = sys.stderr if self._out is sys.stdout else self._out


def command_name() -> str:
    """How a person starts our command here: `veloz` when that is on their PATH, else its place."""
    ours = Path(sys.executable).with_name("veloz")
    found = shutil.which("veloz")
    if found is not None and Path(found).resolve() == ours.resolve():
        return "veloz"
    try:
        return f"{ours.relative_to(Path.cwd())}"
    except ValueError:
        return str(ours)


def welcome(description: dict[str, Any], logins: list[dict[str, str]], logs: Path, took_s: float) -> str:
    """The last thing printed when the service is ready."""
    veloz = command_name()
    lines = [
        "",
        f"VeloZ is ready after {took_s:.1f} s.",
        f"  URL     {description['api_url']}",
        f"  Mode    {description['mode']} (simulated money; no order leaves this machine)",
        f"  Market  {description['market']}",
        "  Logins  made on first run, for this installation only:",
        *(f"            {login['username']:<11} {login['password']}   role {login['role']}" for login in logins),
        "  Try     " + f'{veloz} ask "what is the spread on BTCUSDT and what would it cost to buy 5 BTC now?"',
        f'          {veloz} ask "suggest buying 0.5 BTC with a limit near the bid"',
        f"          {veloz} suggestions",
        f"  Logs    {logs}",
        "Ctrl-C stops all of it.",
    ]
    return "\n".join(lines)
