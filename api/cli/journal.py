"""`veloz journal ls|archive|verify`."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import typer

from api.cli.engine import ask_engine, local_settings
from api.cli.safety import print_table
from api.cli.session import EXIT_REFUSED, EXIT_USAGE, CommandError
from core.types.views import JournalView


def show(as_json: bool, *, archive_first: bool) -> None:
    """The engine's word on its segments. Exit 1 when archiving failed."""
    settings = local_settings()
    if archive_first and not settings.journal.archive:
        raise CommandError(
            "JOURNAL_NO_ARCHIVE",
            f"No archive is configured. Set journal.archive in {settings.paths.config_file} to an existing folder, "
            "best on another disk, and restart the engine.",
            EXIT_USAGE,
        )
    view = ask_engine(settings, lambda client: client.archive_journal() if archive_first else client.journal())
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(view)))
    else:
        _print(view)
    if archive_first and view.problem is not None:
        raise typer.Exit(EXIT_REFUSED)


def verify(as_json: bool) -> None:
    """From the files alone. Exit 1 when something isn't what was written."""
    from core.storage.journal_files import PosixFolder
    from core.storage.journal_verify import verify_journal

    settings = local_settings()
    if settings.journal.backend != "segments":
        raise CommandError(
            "JOURNAL_NOT_SEGMENTS",
            f"journal.backend is {settings.journal.backend}: its records are verified at each start of the engine, and "
            "by nothing else.",
            EXIT_USAGE,
        )
    if not settings.paths.journal.is_dir():
        raise CommandError(
            "JOURNAL_NOT_FOUND", f"{settings.paths.journal} isn't there: no engine has run in this home.", EXIT_USAGE
        )
    archive = Path(settings.journal.archive) / settings.engine.engine_id if settings.journal.archive else None
    try:
        result = verify_journal(
            PosixFolder(settings.paths.journal),
            PosixFolder(archive) if archive is not None and archive.is_dir() else None,
        )
    except OSError as error:
        raise CommandError("JOURNAL_UNREADABLE", f"The journal can't be read: {error}", EXIT_USAGE) from error
    newest = result.segments[-1] if result.segments else None
    torn_bytes = 0 if newest is None else newest.torn_bytes
    if as_json:
        answer = {
            "first_sequence": result.first_sequence,
            "last_sequence": result.last_sequence,
            "segments": len(result.segments),
            "archived": sum(segment.place == "archive" for segment in result.segments),
            "torn_bytes": torn_bytes,
            "problems": list(result.problems),
            "whole": not result.problems,
        }
        typer.echo(json.dumps(answer))
    else:
        typer.echo(
            f"records {result.first_sequence} to {result.last_sequence} in {len(result.segments)} segments, here and "
            "in the archive"
        )
        if torn_bytes:
            typer.secho(
                f"{torn_bytes} bytes at the end belong to a write that isn't over: an engine is at it, or its next "
                "start cuts them off.",
                fg="yellow",
            )
        for problem in result.problems:
            typer.secho(problem, fg="red")
        if not result.problems:
            typer.secho("Every record is what was written.", fg="green")
    if result.problems:
        raise typer.Exit(EXIT_REFUSED)


def _print(view: JournalView) -> None:
    if not view.segments:
        typer.echo(f"The journal is in RocksDB, at record {view.sequence}; it has no segments to archive.")
        return
    rows: list[tuple[str, ...]] = [("segment", "epoch", "records", "bytes", "archived", "kept because")]
    rows += [
        (
            segment.name,
            str(segment.epoch),
            f"{segment.first_sequence}..{segment.last_sequence}",
            f"{segment.size_bytes:,}",
            "yes" if segment.is_archived else "no",
            segment.kept_because,
        )
        for segment in view.segments
    ]
    print_table(rows)
    typer.echo(f"\narchive: {view.archive or 'none configured (journal.archive): nothing is archived, nothing goes'}")
    if view.projected_sequence is not None:
        typer.echo(
            f"journal at {view.sequence}, projected up to {view.projected_sequence}, audited up to "
            f"{view.audited_sequence}"
        )
    if view.problem is not None:
        typer.secho(f"the last turn failed: {view.problem}", fg="red")
