"""`veloz approvals ... | roster add | revoke | set`: definitions. What they do is in key_making.py and rosters.py."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from api.cli.desk import roster_app
from api.cli.options import Json, OptionalPath, OptionalText
from api.cli.session import reporting_errors

approvals_app = typer.Typer(help="Your own key: make it, look at it, ask to have it enrolled.", no_args_is_help=True)

RootKey = Annotated[
    OptionalPath, typer.Option("--key", metavar="FILE", help="The root key; by default secrets/root.key.")
]
OwnKey = Annotated[Path, typer.Argument(metavar="KEY", help="Your key's file, or keyring:<key id>.")]


@approvals_app.command("keygen", epilog="Examples: veloz approvals keygen ada · veloz approvals keygen ada --keyring")
def keygen(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID", help="How the roster shall name it.")],
    out: Annotated[OptionalPath, typer.Option("--out", help="Where to; by default <key id>.key here.")] = None,
    in_keyring: Annotated[
        bool, typer.Option("--keyring", help="In the OS keyring, in place of an encrypted file; needs veloz[keyring].")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make an Ed25519 key, encrypted under a passphrase. VELOZ_KEY_PASSPHRASE_FILE names a file that has it."""
    from api.cli import key_making as commands

    with reporting_errors(as_json):
        commands.keygen(key_id, out, in_keyring, as_json)


@approvals_app.command("show", epilog="Example: veloz approvals show ada.key")
def show(key: OwnKey, as_json: Json = False) -> None:
    """Its public half and fingerprint, and what the engine's roster says of it."""
    from api.cli import key_making as commands

    with reporting_errors(as_json):
        commands.show(key, as_json)


@approvals_app.command(
    "enrol-request",
    epilog="Example: veloz approvals enrol-request ada.key --user user-ada --accounts acct-demo > ada.json",
)
def enrol_request(
    key: OwnKey,
    user: Annotated[str, typer.Option("--user", metavar="ID", help="Whose key it is.")],
    accounts: Annotated[str, typer.Option("--accounts", metavar="ID,ID", help="For which accounts.")],
    live: Annotated[bool, typer.Option("--live", help="Also where money is real; without it for paper only.")] = False,
    sessions_only: Annotated[
        bool, typer.Option("--sessions-only", help="To sign your own sessions in, and to approve nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """What the root key's holder is asked to sign. It holds nothing secret."""
    from api.cli import key_making as commands

    with reporting_errors(as_json):
        commands.enrol_request(key, user, accounts, live, sessions_only, as_json)


@roster_app.command("add", epilog="Example: veloz roster add ada.json --key root.key")
def roster_add(
    request: Annotated[Path, typer.Argument(metavar="REQUEST", help="An enrolment request.")],
    key: RootKey = None,
    accounts: Annotated[OptionalText, typer.Option(help="For these accounts, whatever it asks for.")] = None,
    administers: Annotated[OptionalText, typer.Option(help="Kinds of administration that it may sign.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    as_json: Json = False,
) -> None:
    """Enrol a key, or a passkey, under the root key. Compare the fingerprint with its owner by another way first."""
    from api.cli import rosters as commands

    with reporting_errors(as_json):
        commands.add(request, key, accounts=accounts, administers=administers, assume_yes=yes, as_json=as_json)


@roster_app.command("revoke", epilog="Example: veloz roster revoke ada --key root.key")
def roster_revoke(
    key_id: Annotated[str, typer.Argument(metavar="KEY_ID")], key: RootKey = None, as_json: Json = False
) -> None:
    """Take a key out of the roster, under the root key. It counts for nothing from the next event on."""
    from api.cli import rosters as commands

    with reporting_errors(as_json):
        commands.revoke(key_id, key, as_json)


@roster_app.command("set", epilog="Example: veloz roster set --two-approvals-above 50000 --cli-only-above 10000")
def roster_set(
    two_approvals_above: Annotated[
        OptionalText, typer.Option(metavar="QUOTE", help="Above this two people have to sign.")
    ] = None,
    cli_only_above: Annotated[
        OptionalText, typer.Option(metavar="QUOTE", help="Above this passkeys don't count; off: never.")
    ] = None,
    key: RootKey = None,
    as_json: Json = False,
) -> None:
    """Change the thresholds, under the root key."""
    from api.cli import rosters as commands

    with reporting_errors(as_json):
        commands.set_thresholds(two_approvals_above, cli_only_above, key, as_json)


def register(app: typer.Typer) -> None:
    app.add_typer(approvals_app, name="approvals")
