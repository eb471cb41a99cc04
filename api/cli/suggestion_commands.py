"""`veloz suggestions | approve | reject`: definitions. What they do is in api/cli/suggestions.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Optional

import typer
from typer.core import TyperGroup

from api.cli.session import Session, reporting_errors

AsUser = Annotated[Optional[str], typer.Option("--as", metavar="USER", help="Log in as this user.")]  # noqa: UP045
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
Version = Annotated[Optional[int], typer.Option(help="This version only; by default the newest.")]  # noqa: UP045
SuggestionId = Annotated[str, typer.Argument(metavar="ID")]
Status = Annotated[str, typer.Option(help="pending, executed, rejected, ... or all.")]


class _IdOrCommand(TyperGroup):
    """`veloz suggestions 01J...` shows that one: what names no command is an id."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            args = ["show", *args]
        return super().resolve_command(ctx, args)


suggestions_app = typer.Typer(
    cls=_IdOrCommand, help="What waits for a human: list, show, edit, withdraw, approve, reject."
)


@suggestions_app.callback(
    invoke_without_command=True,
    epilog="Examples: veloz suggestions · veloz suggestions --status all --json · veloz suggestions <id>",
)
def suggestions(
    context: typer.Context, status: Status = "pending", as_user: AsUser = None, as_json: Json = False
) -> None:
    """List suggestions that wait for a human, or show, edit, withdraw, approve or reject one."""
    if context.invoked_subcommand is None:
        list_suggestions(status, as_user, as_json)


@suggestions_app.command("list", epilog="Example: veloz suggestions list --status all --json")
def list_suggestions(status: Status = "pending", as_user: AsUser = None, as_json: Json = False) -> None:
    """List suggestions, the newest first."""
    from api.cli import suggestions as commands

    with reporting_errors(as_json):
        commands.list_suggestions(Session(as_user, "approver"), status, as_json)


@suggestions_app.command("show", epilog="Example: veloz suggestions show 01J... --version 1")
def show(suggestion_id: SuggestionId, version: Version = None, as_user: AsUser = None, as_json: Json = False) -> None:
    """Show one with exactly the fields that a signature covers."""
    from api.cli import suggestions as commands

    with reporting_errors(as_json):
        commands.show_suggestion(Session(as_user, "approver"), suggestion_id, version, as_json)


@suggestions_app.command(
    "edit", epilog='Example: veloz suggestions edit 01J... --set quantity=0.25 --set price=59000 --reason "half of it"'
)
def edit(
    suggestion_id: SuggestionId,
    changes: Annotated[list[str], typer.Option("--set", metavar="FIELD=VALUE", help="A term and its new value.")],
    reason: Annotated[str, typer.Option(help="Why; it goes into the audit trail.")] = "",
    version: Version = None,
    as_user: AsUser = None,
    as_json: Json = False,
) -> None:
    """Change terms of a suggestion: a new version, checked by risk now. Signatures given so far are void."""
    from api.cli import suggestions as commands

    with reporting_errors(as_json):
        commands.edit(Session(as_user, "trader"), suggestion_id, version, changes, reason, as_json)


@suggestions_app.command("withdraw", epilog="Example: veloz suggestions withdraw 01J...")
def withdraw(
    suggestion_id: SuggestionId,
    reason: Annotated[str, typer.Option(help="Why; it goes into the audit trail.")] = "",
    version: Version = None,
    as_user: AsUser = None,
    as_json: Json = False,
) -> None:
    """Take back what you asked for."""
    from api.cli import suggestions as commands

    with reporting_errors(as_json):
        commands.withdraw(Session(as_user, "trader"), suggestion_id, version, reason, as_json)


@suggestions_app.command("approve", epilog="Example: veloz suggestions approve 01J... --yes --wait 30")
def approve(
    suggestion_id: SuggestionId,
    version: Version = None,
    digest: Annotated[Optional[str], typer.Option(help="Approve only what has this digest.")] = None,  # noqa: UP045
    key: Annotated[Optional[Path], typer.Option(help="File with your Ed25519 seed; its name is the key id.")] = None,  # noqa: UP045
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    wait: Annotated[float, typer.Option(help="Follow the order for this many seconds.")] = 5.0,
    as_user: AsUser = None,
    as_json: Json = False,
) -> None:
    """Sign a suggestion with your key and have the engine execute it, once."""
    from api.cli import suggestions as commands

    with reporting_errors(as_json):
        commands.approve(
            Session(as_user, "approver"),
            suggestion_id,
            version=version,
            digest=digest,
            key_file=key,
            assume_yes=yes,
            wait_s=wait,
            as_json=as_json,
        )


@suggestions_app.command("reject", epilog='Example: veloz suggestions reject 01J... --reason "too large for this book"')
def reject(
    suggestion_id: SuggestionId,
    reason: Annotated[str, typer.Option(help="Why; it goes into the audit trail.")],
    as_user: AsUser = None,
    as_json: Json = False,
) -> None:
    """Decline a suggestion, with a reason."""
    from api.cli import suggestions as commands

    with reporting_errors(as_json):
        commands.reject(Session(as_user, "approver"), suggestion_id, reason, as_json)


def register(app: typer.Typer) -> None:
    app.add_typer(suggestions_app, name="suggestions")
    app.command("approve", epilog="Example: veloz approve 01J... --yes --wait 30")(approve)
    app.command("reject", epilog='Example: veloz reject 01J... --reason "too large for this book"')(reject)
