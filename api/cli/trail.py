"""`veloz audit trace`: one question's whole trail on one screen."""

from __future__ import annotations

import json
import shutil
from typing import Any

import typer

from api.cli.session import Session
from api.cli.text import printable

WHO_WIDTH = 16
NARROWEST = 80
NARROW = 120
"""Below this many columns the time ends with the second and the who is cut shorter: what happened needs the room."""
WHO_WIDTH_NARROW = 10
WIDTH_WITHOUT_TERMINAL = 160


def trace(session: Session, identifier: str, as_json: bool) -> None:
    trail = session.request("GET", f"/api/v1/audit/traces/{identifier}")
    if as_json:
        typer.echo(json.dumps(trail))
        return
    width = max(shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, 24)).columns, NARROWEST)
    day = trail["records"][0]["occurred_at"][:10]
    who_width, time_end = (WHO_WIDTH, 26) if width >= NARROW else (WHO_WIDTH_NARROW, 19)
    number_width = max(len(_number(record)) for record in trail["records"])
    step_width = max(len(record["action"]) for record in trail["records"])
    typer.secho(f"trace {trail['trace_id']}  {day} UTC  {len(trail['records'])} records", bold=True)
    for record in trail["records"]:
        refused = record["outcome"] not in {"ok", "intended"}
        detail = f"{record['outcome']}: {record['summary']}" if refused else record["summary"]
        who = _cut(printable(str(record.get("identity") or record["actor"])), who_width)
        head = (
            f"{_number(record):>{number_width}} {record['occurred_at'][11:time_end]} {record['action']:<{step_width}} "
            f"{who:<{who_width}} "
        )
        typer.secho(_cut(printable(head + " ".join(detail.split())), width), fg="red" if refused else None)
    if not trail["intact"]:
        typer.secho("A record's bytes don't match its leaf hash: the trail was changed.", fg="red", err=True)
        raise typer.Exit(1)


def _number(record: dict[str, Any]) -> str:
    return "-" if record["sequence"] is None else str(record["sequence"])


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
