"""`veloz rebuild`: the projections again, from the engine's journal."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING

import typer

from api.cli.engine import ENGINE_TOKEN, local_settings, refused
from api.cli.safety import print_table
from api.cli.session import EXIT_REFUSED, EXIT_USAGE, CommandError
from core.config import ConfigurationError, Settings
from core.types.codes import RefusalError

if TYPE_CHECKING:
    from api.ledger.rebuild import RebuildResult


def rebuild(check_only: bool, as_json: bool) -> None:
    """Drop, replay, compare, in one transaction. Exit 1 when the old rows weren't what the journal gives."""
    from api.ledger.projection import JournalGapError
    from api.ledger.rebuild import RebuildBusyError

    settings = _with_running_database(local_settings())
    started = time.monotonic()
    try:
        result = asyncio.run(_rebuild(settings, keep=not check_only, show=not as_json and sys.stderr.isatty()))
    except RefusalError as error:
        raise refused(error.refusal) from error
    except ConfigurationError as error:
        raise CommandError("CONFIGURATION_INVALID", str(error), EXIT_USAGE) from error
    except RebuildBusyError as error:
        raise CommandError("REBUILD_BUSY", str(error)) from error
    except JournalGapError as error:
        raise CommandError("JOURNAL_GAP", f"{error}. Nothing was changed.") from error
    elapsed_s = time.monotonic() - started
    tables = [
        {
            "table": table.table,
            "rows_before": table.rows_before,
            "rows_after": table.rows_after,
            "only_before": table.only_before,
            "only_after": table.only_after,
            "equal": table.is_equal,
        }
        for table in result.tables
    ]
    if as_json:
        answer = {
            "engine_id": result.engine_id,
            "compared_at": result.compared_at,
            "sequence": result.sequence,
            "rebuilt": result.kept,
            "equal": result.is_equal,
            "elapsed_s": round(elapsed_s, 3),
            "tables": tables,
        }
        typer.echo(json.dumps(answer))
    else:
        rows: list[tuple[str, ...]] = [("table", "rows before", "rows after", "only before", "only after")]
        names = ("table", "rows_before", "rows_after", "only_before", "only_after")
        rows += [tuple(str(table[name]) for name in names) for table in tables]
        print_table(rows)
        what = "compared with" if check_only else "rebuilt from"
        typer.echo(f"\n{what} {result.compared_at} entries of {result.engine_id}'s journal in {elapsed_s:.1f} s")
        if result.is_equal:
            typer.secho("Every table held what the journal gives.", fg="green")
        else:
            cure = "Run it without --check to put that right." if check_only else "They do now."
            typer.secho(f"Some tables did not hold what the journal gives. {cure}", fg="yellow")
    if not result.is_equal:
        raise typer.Exit(EXIT_REFUSED)


async def _rebuild(settings: Settings, *, keep: bool, show: bool) -> RebuildResult:
    from api.ledger.rebuild import STATEMENT_TIMEOUT_MS, rebuild
    from core.runtime.address import engine_address
    from core.runtime.client import EngineClient
    from core.storage.database import DatabaseRole, create_engine

    def progress(done: int, total: int) -> None:
        if show:
            sys.stderr.write(f"\r{done} of {total} entries" + ("\n" if done == total else ""))
            sys.stderr.flush()

    client = EngineClient(engine_address(settings), settings.read_secret(ENGINE_TOKEN))
    engine = create_engine(settings, DatabaseRole.LEDGER, statement_timeout_ms=STATEMENT_TIMEOUT_MS, pool_size=1)
    try:
        engine_id = (await client.status()).engine_id

        async def read_head() -> int:
            return (await client.status()).journal_sequence

        return await rebuild(engine, client, engine_id, read_head, progress, keep=keep)
    finally:
        await engine.dispose()
        await client.close()


def _with_running_database(settings: Settings) -> Settings:
    """Where the running supervisor says the database is, unless one is configured. Raises CommandError."""
    if settings.database.url:
        return settings
    try:
        url = json.loads(settings.paths.service_file.read_text())["endpoints"]["database_url"]
    except (OSError, ValueError, KeyError):
        raise CommandError(
            "SERVICE_NOT_RUNNING",
            f"No service runs for {settings.home}, so neither its database nor its engine can be reached. Start it "
            "with `veloz up`, or set VELOZ_DATABASE__URL.",
            EXIT_USAGE,
        ) from None
    return settings.model_copy(update={"database": settings.database.model_copy(update={"url": url})})
