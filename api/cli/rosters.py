"""`veloz roster add | revoke | set`: the roster in force with one change, signed by the root key and installed."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import typer

from api.cli.amounts import usage
from api.cli.authority import administer
from api.cli.engine import ask_engine, local_settings
from api.cli.risk import administrator_key
from api.cli.session import EXIT_REFUSED, EXIT_USAGE, CommandError
from api.supervisor.files import write_durably
from core.authority.enrolment import fingerprint, parse_enrolment
from core.authority.roster import RosterError, check_roster, render_signed_roster, sign_roster
from core.config import Settings
from core.types.events import Roster, RosterEntry
from core.types.money import decimal_text
from core.types.views import RosterView


def add(
    request: Path, key: Path | None, *, accounts: str | None, administers: str | None, assume_yes: bool, as_json: bool
) -> None:
    """Enrol what a request asks for, after its fingerprint was compared with its owner."""
    settings = local_settings()
    try:
        entry = parse_enrolment(request.read_bytes(), str(request))
    except OSError as error:
        raise CommandError("FILE_UNREADABLE", f"{request}: {error.strerror}", EXIT_USAGE) from error
    except RosterError as error:
        raise CommandError("ROSTER_INVALID", str(error), EXIT_REFUSED) from error
    if accounts is not None:
        entry = msgspec.structs.replace(entry, account_ids=_names(accounts))
    if administers is not None:
        entry = msgspec.structs.replace(entry, administers=_names(administers))
    if not as_json:
        _print_entry(entry)
    if not assume_yes and not as_json:
        typer.confirm("Did its owner read you this fingerprint, and shall it be enrolled?", abort=True)
    roster = _in_force(settings)
    _install(settings, msgspec.structs.replace(roster, entries=(*roster.entries, entry)), key, as_json)


def revoke(key_id: str, key: Path | None, as_json: bool) -> None:
    """Take a key out of the roster. What it signed and wasn't used yet is worth nothing from then on, and the sessions
    and mandates that hang on it end."""
    settings = local_settings()
    roster = _in_force(settings)
    kept = tuple(entry for entry in roster.entries if entry.key_id != key_id)
    if len(kept) == len(roster.entries):
        raise CommandError(
            "AUTHORITY_SIGNER_UNKNOWN",
            f"Key {key_id[:64]} isn't in the roster (version {roster.version}). `veloz roster show` lists who is.",
            EXIT_REFUSED,
        )
    _install(settings, msgspec.structs.replace(roster, entries=kept), key, as_json)


def set_thresholds(
    two_approvals_above: str | None, cli_only_above: str | None, key: Path | None, as_json: bool
) -> None:
    """Above how much two people sign, and above how much passkeys don't count."""
    if two_approvals_above is None and cli_only_above is None:
        raise usage("Name --two-approvals-above or --cli-only-above.")
    settings = local_settings()
    roster = _in_force(settings)
    if two_approvals_above is not None:
        roster = msgspec.structs.replace(roster, two_approvals_above_quote=two_approvals_above)
    if cli_only_above is not None:
        roster = msgspec.structs.replace(roster, cli_only_above_quote="" if cli_only_above == "off" else cli_only_above)
    _install(settings, roster, key, as_json)


def roster_of(view: RosterView) -> Roster:
    """The roster that a view shows."""
    cli_only = view.cli_only_above_quote
    return Roster(
        version=view.version,
        entries=tuple(msgspec.convert(msgspec.to_builtins(entry), RosterEntry) for entry in view.entries),
        two_approvals_above_quote=decimal_text(view.two_approvals_above_quote),
        cli_only_above_quote="" if cli_only is None else decimal_text(cli_only),
    )


def _in_force(settings: Settings) -> Roster:
    return roster_of(ask_engine(settings, lambda client: client.roster()))


def _install(settings: Settings, changed: Roster, key: Path | None, as_json: bool) -> None:
    """As `veloz roster install` does, with the next version."""
    _, seed = administrator_key(settings, key, "root")
    roster = msgspec.structs.replace(changed, version=changed.version + 1)
    try:
        check_roster(roster, "roster")
    except RosterError as error:
        raise CommandError("ROSTER_INVALID", str(error), EXIT_REFUSED) from error
    signed = sign_roster(seed, roster)
    body = {"roster": msgspec.json.encode(roster).decode(), "signature_hex": signed.signature_hex}
    administer(settings, "roster.install", body, "root", seed)
    write_durably(settings.home / "roster.json", render_signed_roster(signed))
    answer = {"version": roster.version, "entries": len(roster.entries)}
    told = f"Roster version {roster.version} is in force, with {len(roster.entries)} keys."
    typer.echo(json.dumps(answer)) if as_json else typer.secho(told, fg="green")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _print_entry(entry: RosterEntry) -> None:
    for name, value in msgspec.to_builtins(entry).items():
        shown = ", ".join(value) if isinstance(value, list | tuple) else value
        typer.echo(f"  {name:<18} {shown}")
    typer.secho(f"  {'fingerprint':<18} {fingerprint(entry.public_key_hex)}", bold=True)
