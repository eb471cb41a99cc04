"""`veloz up` and `veloz doctor`."""

from __future__ import annotations

import asyncio
import json
import sys
from decimal import Decimal, InvalidOperation
from typing import Literal, cast

import msgspec
import typer

from api.cli.session import EXIT_REFUSED, EXIT_USAGE
from core.config import ConfigurationError, load_settings

MARKS = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "red")}


def up(
    *,
    venue: str | None,
    product: str | None,
    market: str | None,
    speed: str | None,
    port: int | None,
    venue_port: int | None,
    json_lines: bool,
) -> int:
    """The exit code."""
    from api.supervisor.supervisor import UpOptions, run_up

    if venue not in {None, "paper"}:
        typer.secho(
            f"--venue {venue}: this release trades on paper only; leave it out or say paper.", fg="red", err=True
        )
        return EXIT_USAGE
    try:
        options = UpOptions(
            venue=cast('Literal["paper"] | None', venue),
            product=product,
            market=market,
            speed=None if speed is None else Decimal(speed),
            port=port,
            venue_port=venue_port,
            json_lines=json_lines,
        )
        return asyncio.run(run_up(load_settings(), options, sys.stdout))
    except InvalidOperation:
        typer.secho(f"--speed {speed}: give a number, such as 2 or 0.5.", fg="red", err=True)
        return EXIT_USAGE
    except ConfigurationError as error:
        from api.processes import EXIT_CONFIGURATION

        typer.secho(str(error), fg="red", err=True)
        return EXIT_CONFIGURATION


def doctor(as_json: bool) -> int:
    """The exit code: 0 when nothing fails."""
    from api.supervisor.doctor import collect

    try:
        checks = asyncio.run(collect(load_settings()))
    except ConfigurationError as error:
        typer.secho(str(error), fg="red", err=True)
        return EXIT_USAGE
    if as_json:
        typer.echo(json.dumps({"checks": [msgspec.to_builtins(check) for check in checks]}))
    else:
        for check in checks:
            mark, colour = MARKS[check.status]
            typer.secho(f"{mark} {check.name}: {check.detail}", fg=colour)
            if check.cure and check.status != "ok":
                typer.echo(f"  {check.cure}")
    return EXIT_REFUSED if any(check.status == "fail" for check in checks) else 0
