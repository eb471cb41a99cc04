"""`veloz kill` and `veloz reconcile`: what must work when little else does."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

import msgspec
import typer

from api.cli.engine import ask_engine, local_settings, whoami
from api.cli.session import EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE, CommandError
from api.cli.text import printable
from core.config import Settings
from core.risk.kill_switch import KillSwitch

CANCELLER_MODULE = "core.canceller"
CANCELLER_DEADLINE_S = 90
CANCELLER_TIMEOUT_S = CANCELLER_DEADLINE_S + 15
STATES = tuple(state.value for state in KillSwitch if state is not KillSwitch.NORMAL)


def kill(state: str, account: str, reason: str, at_venue: bool, as_json: bool) -> None:
    """Tighten the kill switch; without an engine, have the emergency canceller cancel at the venue."""
    if state not in STATES:
        raise CommandError(
            "REQUEST_INVALID",
            f"--state {state}: use {', '.join(STATES)}. Loosening is `veloz thaw`, which an administrator signs.",
            EXIT_USAGE,
        )
    settings = local_settings()
    try:
        status = ask_engine(settings, lambda client: client.set_kill_switch(state, whoami(), reason, None, account))
    except CommandError as error:
        if error.exit_code != EXIT_UNREACHABLE:
            raise
        _without_engine(settings, error, account, reason, at_venue, as_json)
        return
    result = {"engine": status.engine_id, "state": state, "account": account or None, "by": "engine"}
    if as_json:
        typer.echo(json.dumps(result))
        return
    scope = f"account {account}" if account else f"engine {status.engine_id}"
    typer.secho(f"{scope} is {state}, durably. By the engine itself.", fg="green")
    if state == KillSwitch.HALTED:
        typer.echo("It is cancelling every open order; see `veloz orders list`.")


def _without_engine(
    settings: Settings, error: CommandError, account: str, reason: str, at_venue: bool, as_json: bool
) -> None:
    told = f"The engine doesn't answer: {error.body['message']}"
    if not at_venue and not as_json and sys.stdin.isatty():
        typer.secho(told, fg="red", err=True)
        at_venue = typer.confirm("Write HALTED and cancel every open order at the venue with the emergency canceller?")
    if not at_venue:
        raise CommandError(
            "SERVICE_ENGINE_UNAVAILABLE",
            f"{told} Nothing was changed. `veloz kill --venue` writes HALTED, so that the engine starts halted, and "
            "cancels every open order at the venue without it.",
            EXIT_UNREACHABLE,
        )
    command = [sys.executable, "-m", CANCELLER_MODULE, "--reason", reason, "--deadline-s", str(CANCELLER_DEADLINE_S)]
    if as_json:
        command.append("--json")
    if account:
        typer.secho(
            f"The emergency canceller knows one account, that of its key, and cancels all of it; you named {account}.",
            fg="yellow",
            err=True,
        )
    try:
        outcome = subprocess.run(command, timeout=CANCELLER_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as late:
        raise CommandError(
            "CANCELLER_TIMED_OUT",
            f"The emergency canceller wasn't done after {CANCELLER_TIMEOUT_S} s. Look at the venue's own page; run it "
            "again: it does no harm.",
            EXIT_UNREACHABLE,
        ) from late
    if outcome.returncode:
        raise typer.Exit(outcome.returncode)


def reconcile(dry_run: bool, as_json: bool) -> None:
    """Compare with the venue, and apply what follows unless dry_run."""
    settings = local_settings()
    view = ask_engine(settings, lambda client: client.reconcile(dry_run, whoami()))
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(view) | {"dry_run": dry_run}))
    elif not view.differences:
        typer.secho(f"{view.account_id} on {view.venue}: the engine and the venue agree.", fg="green")
    else:
        rows: list[tuple[str, ...]] = [("kind", "subject", "engine", "venue", "action")]
        rows += [(item.kind, item.subject, item.engine, item.venue, item.action) for item in view.differences]
        print_table(rows)
        count = len(view.differences)
        done = "applied" if view.applied else "only shown: run it without --dry-run to apply"
        typer.echo(f"\n{count} difference{'s' if count > 1 else ''} on {view.venue}, {done}.")
    if dry_run and view.differences:
        raise typer.Exit(EXIT_REFUSED)


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """The first row is the heading."""
    widths = [max(len(printable(cell)) for cell in column) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        cells = (f"{printable(cell):<{width}}" for cell, width in zip(row, widths, strict=True))
        typer.secho("  ".join(cells).rstrip(), bold=number == 0)
