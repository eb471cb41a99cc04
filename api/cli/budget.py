"""`veloz budget`: what is used of today's budgets."""

from __future__ import annotations

import json

import typer

from api.cli.safety import print_table
from api.cli.session import Session
from tools.budgets import FIRM


def show(session: Session, as_json: bool) -> None:
    shown = session.request("GET", "/api/v1/budget")
    if as_json:
        typer.echo(json.dumps(shown))
        return
    heading = f"{shown['day']} ({shown['time_zone']}), by policy version {shown['policy_version']}"
    typer.secho(heading, bold=True)
    rows: list[tuple[str, ...]] = [("whose", "what", "used", "held", "of")]
    for row in shown["budgets"]:
        whose = "everybody" if row["owner"] == FIRM else row["owner"]
        rows.append((whose, row["measure"], row["used"], row["held"], row["limit"] or "unlimited"))
    print_table(rows)
