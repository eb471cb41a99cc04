"""`veloz audit trace`: one question's whole trail on one screen."""

from __future__ import annotations

import json
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from api.cli.session import Session

DETAIL_LENGTH = 110


def trace(session: Session, identifier: str, as_json: bool) -> None:
    trail = session.request("GET", f"/api/v1/audit/traces/{identifier}")
    if as_json:
        typer.echo(json.dumps(trail))
        return
    table = Table(
        "#", "time (UTC)", "step", "who", "what", box=None, title=f"trace {trail['trace_id']}", pad_edge=False
    )
    for record in trail["records"]:
        refused = record["outcome"] not in {"ok", "intended"}
        style = "red" if refused else ""
        number = "" if record["sequence"] is None else str(record["sequence"])
        detail = record["summary"]
        if refused:
            detail = f"[{record['outcome']}] {detail}"
        cells = (number, record["occurred_at"][11:26], record["action"], _who(record), _short(detail))
        table.add_row(*(Text(cell, style=style) for cell in cells))
    Console(soft_wrap=True).print(table)
    if not trail["intact"]:
        typer.secho("A record's bytes don't match its leaf hash: the trail was changed.", fg="red", err=True)
        raise typer.Exit(1)


def _who(record: dict[str, Any]) -> str:
    return str(record.get("identity") or record["actor"])


def _short(text: str) -> str:
    return text if len(text) <= DETAIL_LENGTH else text[: DETAIL_LENGTH - 1] + "…"
