"""`veloz data ls | import | verify | replay` and `veloz record`: definitions. What they do is in data_commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from api.cli.session import reporting_errors

data_app = typer.Typer(help="Recorded market data: list, import, verify, replay.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Root = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--data", metavar="DIR", help="The catalog's folder; by default data in VELOZ_HOME."),
]
Rate = Annotated[float, typer.Option(min=0.0, max=1.0, help="Probability for each WebSocket frame.")]


@data_app.command("ls", epilog="Example: veloz data ls --json")
def list_data(root: Root = None, as_json: Json = False) -> None:
    """What has been recorded: venue, symbol, type, days, rows, bytes, first and last time."""
    from api.cli import data_commands as commands

    with reporting_errors(as_json):
        commands.list_data(root, as_json)


@data_app.command("import", epilog="Example: veloz data import day1.gz day2.gz --venue binance")
def import_data(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Raw frames, plain or gzip.")],
    venue: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(
            help="Under which name; by default binance, binance-usdm or binance-coinm by what the frames are."
        ),
    ] = None,
    keep_raw: Annotated[
        bool, typer.Option("--raw/--no-raw", help="Keep a copy of the raw frames in the catalog.")
    ] = True,
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Raw frames into the catalog. The same file again adds nothing."""
    from api.cli import data_commands as commands

    with reporting_errors(as_json):
        commands.import_data(root, files, venue, keep_raw, as_json)


@data_app.command("import-klines", epilog="Example: veloz data import-klines BTCUSDT-1m-2024-*.zip --symbol BTCUSDT")
def import_klines(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="CSV as Binance publishes it, plain or zip.")],
    symbol: Annotated[str, typer.Option(help="Whose they are, such as BTCUSDT.")],
    venue: Annotated[str, typer.Option(help="Under which name.")] = "binance",
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Klines of one minute into the catalog, for backtests. The same file again adds nothing."""
    from api.cli import data_commands as commands

    with reporting_errors(as_json):
        commands.import_klines(root, files, symbol, venue, as_json)


@data_app.command("verify", epilog="Example: veloz data verify || echo damaged")
def verify_data(root: Root = None, as_json: Json = False) -> None:
    """Read every byte of the catalog: checksums, schema versions, rows, depth sequences. Exit 1 on damage."""
    from api.cli import data_commands as commands

    with reporting_errors(as_json):
        commands.verify_data(root, as_json)


@data_app.command(
    "replay",
    epilog="Examples: veloz data replay day1.gz day2.gz --verify --json · veloz data replay usdm.gz --verify "
    "--drop 0.01 --duplicate 0.01 --reorder 0.05 --seed 7 · veloz data replay day1.gz --duration-s 3600",
)
def replay(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="Raw frames of spot, USD-M or COIN-M, plain or gzip; or folders of them."
        ),
    ],
    verify: Annotated[
        bool, typer.Option("--verify", help="Hold each LIVE book to the truth; exit 1 when anything differs.")
    ] = False,
    drop: Rate = 0.0,
    duplicate: Rate = 0.0,
    reorder: Rate = 0.0,
    reorder_span: Annotated[
        int, typer.Option(min=1, max=10_000, help="A reordered frame comes 1 to this many frames later.")
    ] = 100,
    fault_frames: Annotated[int, typer.Option(min=0, help="Faults touch the first so many frames only; 0 is all.")] = 0,
    seed: Annotated[int, typer.Option(help="Of the faults: the same seed gives the same ones.")] = 0,
    snapshot_latency_ms: Annotated[
        int, typer.Option(min=0, max=60_000, help="From asking for a REST snapshot to having it.")
    ] = 50,
    snapshot_levels: Annotated[int, typer.Option(min=1, max=5_000, help="Levels a side of a REST snapshot.")] = 1_000,
    stale_after_ms: Annotated[int, typer.Option(min=1, max=60_000, help="Silence that makes a book STALE.")] = 2_000,
    loop: Annotated[int, typer.Option(min=1, help="Repeat the files this often, with ids and times moved on.")] = 1,
    duration_s: Annotated[
        float, typer.Option(min=0.0, help="Repeat the files until so much market time has passed.")
    ] = 0.0,
    as_json: Json = False,
) -> None:
    """Recorded frames through the live path, as fast as it goes. Exit 0 clean, 1 a difference, 2 an unusable file."""
    from api.cli import data_commands as commands

    with reporting_errors(as_json):
        commands.replay(
            files,
            verify=verify,
            rates=(drop, duplicate, reorder),
            reorder_span=reorder_span,
            fault_frames=fault_frames,
            seed=seed,
            snapshot_latency_ms=snapshot_latency_ms,
            snapshot_levels=snapshot_levels,
            stale_after_ms=stale_after_ms,
            passes=loop,
            duration_s=duration_s,
            as_json=as_json,
        )


def record(
    symbols: Annotated[str, typer.Option(help="Comma-separated, e.g. BTCUSDT,ETHUSDT.")],
    venue: Annotated[
        str, typer.Option(help="paper, paper-usdm, binance, binance-usdm, binance-testnet or binance-usdm-testnet.")
    ] = "paper",
    out: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--out", metavar="DIR", help="The catalog's folder; by default data in VELOZ_HOME."),
    ] = None,
    duration_s: Annotated[float, typer.Option(min=0.0, help="Stop after so long; 0 is on Ctrl-C.")] = 0.0,
    rotate_s: Annotated[int, typer.Option(min=1, max=86_400, help="A new raw file this often.")] = 3_600,
    rest_url: Annotated[str, typer.Option(help="Instead of the venue's own.")] = "",
    websocket_url: Annotated[str, typer.Option(help="Instead of the venue's own; /stream is under it.")] = "",
    as_json: Json = False,
) -> None:
    """Record a venue's public market: raw frames with snapshots, and Parquet of every finished file."""
    from api.cli import record_command

    with reporting_errors(as_json):
        record_command.record(
            venue=venue,
            symbols=symbols,
            out=out,
            duration_s=duration_s,
            rotate_s=rotate_s,
            rest_url=rest_url,
            websocket_url=websocket_url,
            as_json=as_json,
        )


def register(app: typer.Typer) -> None:
    """Add `veloz data` and `veloz record`."""
    app.add_typer(data_app, name="data")
    app.command(
        "record",
        epilog="Examples: veloz record --symbols BTCUSDT --duration-s 600 · "
        "veloz record --venue binance-usdm --symbols BTCUSDT,ETHUSDT --out /data/market",
    )(record)
