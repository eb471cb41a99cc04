"""`veloz audit trace`: one question's whole trail on one screen."""

from __future__ import annotations

import json
import shutil
from typing import Any

import typer

from api.cli.session import Session
from api.cli.text import printable

STEP_WIDTH = 28
WHO_WIDTH = 16
NARROWEST = 80
WIDTH_WITHOUT_TERMINAL = 160


def trace(session: Session, identifier: str, as_json: bool) -> None:
    trail = session.request("GET", f"/api/v1/audit/traces/{identifier}")
    if as_json:
        typer.echo(json.dumps(trail))
        return
    width = max(shutil.get_terminal_size((WIDTH_WITHOUT_TERMINAL, 24)).columns, NARROWEST)
    day = trail["records"][0]["occurred_at"][:10]
    typer.secho(f"trace {trail['trace_id']}  {day} UTC  {len(trail['records'])} records", bold=True)
    for record in trail["records"]:
        refused = record["outcome"] not in {"ok", "intended"}
        detail = f"{record['outcome']}: {record['summary']}" if refused else record["summary"]
        number = "-" if record["sequence"] is None else str(record["sequence"])
        head = (
            f"{number:>5} {record['occurred_at'][11:26]} {record['action']:<{STEP_WIDTH}} {_who(record):<{WHO_WIDTH}} "
        )
        typer.secho(_cut(printable(head + " ".join(detail.split())), width), fg="red" if refused else None)
    if not trail["intact"]:
        typer.secho("A record's bytes don't match its leaf hash: the trail was changed.", fg="red", err=True)
        raise typer.Exit(1)


def _who(record: dict[str, Any]) -> str:
    return _cut(printable(str(record.get("identity") or record["actor"])), WHO_WIDTH)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"
