"""`veloz approvals keygen | show | enrol-request`: an approver's own key, before the root key's holder enrols it."""

from __future__ import annotations

import json
import re
import secrets
from pathlib import Path

import msgspec
import typer

from api.cli.engine import ask_engine, local_settings
from api.cli.key_files import (
    KEYRING_PREFIX,
    SEED_BYTES,
    describe_key,
    passphrase,
    seal,
    to_keyring,
    write_key_file,
)
from api.cli.session import EXIT_USAGE, CommandError
from core.authority.enrolment import EnrolmentRequest, fingerprint
from core.authority.signatures import public_key_hex
from core.types.events import RosterEntry

KEY_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def keygen(key_id: str, out: Path | None, in_keyring: bool, as_json: bool) -> None:
    """Make a key that never leaves this machine in the clear."""
    if not KEY_ID.fullmatch(key_id):
        raise CommandError(
            "REQUEST_INVALID", "--key-id: up to 64 small letters, digits, dots, dashes and underscores.", EXIT_USAGE
        )
    seed = secrets.token_bytes(SEED_BYTES).hex()
    if in_keyring:
        to_keyring(key_id, seed)
        place = f"{KEYRING_PREFIX}{key_id}"
    else:
        path = out or Path(f"{key_id}.key")
        words = passphrase("New passphrase", is_new=True)
        write_key_file(path, seal(seed, key_id, words))
        place = str(path)
    public = public_key_hex(seed)
    if as_json:
        typer.echo(json.dumps({"key_id": key_id, "place": place, "public_key_hex": public}))
        return
    typer.secho(f"Key {key_id} is in {place}.", fg="green")
    typer.echo(f"Its fingerprint: {fingerprint(public)}")
    typer.echo(
        "It counts for nothing until it is enrolled. Send what this prints to the root key's holder, and read them the "
        f"fingerprint:\n  veloz approvals enrol-request {place} --user <your user id> --accounts <account>"
    )


def show(key: Path, as_json: bool) -> None:
    """What a key is, and what the engine's roster says of it."""
    key_id, public = describe_key(key)
    roster = ask_engine(local_settings(), lambda client: client.roster())
    entry = next((entry for entry in roster.entries if entry.public_key_hex == public), None)
    answer = {
        "key_id": key_id,
        "public_key_hex": public,
        "fingerprint": fingerprint(public),
        "enrolled_as": entry.key_id if entry else None,
        "user_id": entry.user_id if entry else None,
        "account_ids": list(entry.account_ids) if entry else [],
        "paper_only": entry.paper_only if entry else None,
        "approves": entry.approves if entry else None,
    }
    if as_json:
        typer.echo(json.dumps(answer))
        return
    for name, value in answer.items():
        typer.echo(f"  {name:<16} {value}")
    if entry is None:
        typer.echo(f"Not in the roster (version {roster.version}): it counts for nothing yet.")
    elif entry.paper_only:
        typer.secho("For paper only: where money is real the engine refuses it.", fg="yellow")


def enrol_request(key: Path, user_id: str, accounts: str, live: bool, sessions_only: bool, as_json: bool) -> None:
    """What the root key's holder is asked to sign into the roster; it holds nothing secret."""
    key_id, public = describe_key(key)
    request = EnrolmentRequest(
        entry=RosterEntry(
            key_id=key_id,
            user_id=user_id,
            public_key_hex=public,
            account_ids=tuple(name.strip() for name in accounts.split(",") if name.strip()),
            paper_only=not live,
            approves=not sessions_only,
        )
    )
    content = msgspec.json.encode(request)
    typer.echo(content.decode() if as_json else msgspec.json.format(content, indent=2).decode())
    if not as_json:
        typer.echo(f"Read this to whoever enrols it: {fingerprint(public)}", err=True)
