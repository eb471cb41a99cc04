"""`veloz journal`: definitions; the work is in api.cli.journal."""

from __future__ import annotations

from typing import Annotated

import typer

from api.cli.session import reporting_errors

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def register(app: typer.Typer) -> None:
    app.add_typer(journal_app, name="journal")


journal_app = typer.Typer(help="The engine's journal: its segments, and whether they are whole.", no_args_is_help=True)


@journal_app.command("ls", epilog="Examples: veloz journal ls · veloz journal ls --json")
def journal_ls(as_json: Json = False) -> None:
    """The running engine's segments, oldest first, and what keeps each."""
    from api.cli import journal as commands

    with reporting_errors(as_json):
        commands.show(as_json, archive_first=False)


@journal_app.command("archive", epilog="Example: veloz journal archive --json")
def journal_archive(as_json: Json = False) -> None:
    """Have the engine archive now what is closed, and drop what may go; it does so by itself every half a minute."""
    from api.cli import journal as commands

    with reporting_errors(as_json):
        commands.show(as_json, archive_first=True)


@journal_app.command("verify", epilog="Examples: veloz journal verify · veloz journal verify --json")
def journal_verify(as_json: Json = False) -> None:
    """Read every record here and in the archive: checksums and chain. Needs no engine, and disturbs none.

    Exit 0 whole, 1 damaged: the place and the cure are told.
    """
    from api.cli import journal as commands

    with reporting_errors(as_json):
        commands.verify(as_json)
