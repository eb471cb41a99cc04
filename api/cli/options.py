"""Options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

OptionalText = Optional[str]  # noqa: UP045
OptionalInt = Optional[int]  # noqa: UP045
OptionalPath = Optional[Path]  # noqa: UP045

Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Key = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--key", metavar="FILE", help="An administrator's Ed25519 seed in hex; by default secrets/root.key."),
]
KeyId = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--key-id", help="The key's id in the roster; by default the file's name without its ending."),
]
Account = Annotated[str, typer.Option("--account", metavar="ID", help="The account.")]
Symbol = Annotated[Optional[str], typer.Option("--symbol", help="Only this symbol.")]  # noqa: UP045
