"""`veloz roster | mandates | thaw | unfreeze | heartbeat`: who may do what, and what administrators sign."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import msgspec
import typer

from api.cli.amounts import positive, span_ns, usage
from api.cli.engine import ask_engine, local_settings, refused, whoami
from api.cli.keys import enrolled_key
from api.cli.risk import DOCUMENT_VALID_S, administrator_key
from api.cli.safety import print_table
from api.cli.session import EXIT_REFUSED, EXIT_USAGE, CommandError
from core.authority.mandate import MANDATE_SCHEMA, mandate_bytes, sign_mandate
from core.authority.roster import (
    RosterError,
    SignedRoster,
    check_roster,
    parse_signed_roster,
    render_signed_roster,
    sign_roster,
)
from core.authority.webauthn import WEBAUTHN
from core.config import Settings
from core.types.authority import Mandate
from core.types.clock import format_utc_us
from core.types.codes import ReasonCode, Refusal
from core.types.events import Roster
from core.types.ids import SystemIdSource
from core.types.money import decimal_text

KILL_NAME = "KILL"
STATES = ("NORMAL", "REDUCE_ONLY", "CANCEL_ONLY")


def show_roster(as_json: bool) -> None:
    roster = ask_engine(local_settings(), lambda client: client.roster())
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(roster)))
        return
    typer.secho(
        f"Roster version {roster.version}; two approvals are due above "
        f"{decimal_text(roster.two_approvals_above_quote)} quote.",
        bold=True,
    )
    cli_only = roster.cli_only_above_quote
    typer.echo(
        "Passkeys count for nothing."
        if cli_only is None
        else f"Above {decimal_text(cli_only)} quote passkeys don't count."
    )
    rows: list[tuple[str, ...]] = [("key", "user", "accounts", "may", "paper only", "public key")]
    for entry in roster.entries:
        approves = "approve with a passkey" if entry.kind == WEBAUTHN else "approve"
        may = [approves if entry.approves else "open sessions", *entry.administers]
        rows.append(
            (
                entry.key_id,
                entry.user_id,
                ",".join(entry.account_ids),
                ", ".join(may),
                "yes" if entry.paper_only else "no",
                entry.public_key_hex,
            )
        )
    print_table(rows)


def install_roster(file: Path, key: Path | None, as_json: bool) -> None:
    """Sign a roster with the root key where it isn't signed, have the engine install it, and keep it for its starts."""
    from api.supervisor.files import write_durably

    settings = local_settings()
    _, seed = administrator_key(settings, key, "root")
    signed = _signed_roster(settings, file, seed)
    body = {
        "roster": msgspec.json.encode(signed.roster).decode(),
        "signature_hex": signed.signature_hex,
    }
    in_force = ask_engine(settings, lambda client: client.roster()).version
    if in_force != signed.roster.version:
        administer(settings, "roster.install", body, "root", seed)
    write_durably(settings.home / "roster.json", render_signed_roster(signed))
    answer = {"version": signed.roster.version, "entries": len(signed.roster.entries)}
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        typer.secho(
            f"Roster version {signed.roster.version} is in force, with {len(signed.roster.entries)} keys.", fg="green"
        )


def list_mandates(account: str | None, include_ended: bool, as_json: bool) -> None:
    mandates = ask_engine(local_settings(), lambda client: client.mandates(account or "", include_ended=include_ended))
    if as_json:
        typer.echo(json.dumps([msgspec.to_builtins(mandate) for mandate in mandates]))
    elif not mandates:
        typer.echo("No mandate is in force.")
    else:
        rows: list[tuple[str, ...]] = [
            ("mandate", "strategy", "account", "symbols", "state", "orders", "used", "expires")
        ]
        rows += [
            (
                mandate.mandate_id,
                mandate.strategy_id,
                mandate.account_id,
                ",".join(mandate.symbols),
                mandate.state,
                str(mandate.orders_used),
                f"{decimal_text(mandate.notional_used_quote)} of {decimal_text(mandate.max_total_notional_quote)}",
                format_utc_us(mandate.expires_ns),
            )
            for mandate in mandates
        ]
        print_table(rows)


class MandateTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What a strategy shall be allowed, as it is typed."""

    strategy: str
    code: Path
    account: str
    symbols: str
    max_order: str
    max_position: str
    max_total: str
    max_open: int
    lasts: str
    asker: str
    public_key: str


def draft_mandate(terms: MandateTerms) -> None:
    """A mandate for this engine, to be signed and installed; printed as JSON."""
    settings = local_settings()
    status = ask_engine(settings, lambda client: client.status())
    mandate = Mandate(
        schema=MANDATE_SCHEMA,
        mandate_id=SystemIdSource().new_ulid(),
        engine_id=status.engine_id,
        environment=status.environment,
        mode=status.mode,
        account_id=terms.account,
        strategy_id=terms.strategy,
        strategy_digest_hex=hashlib.sha256(_read(terms.code)).hexdigest(),
        public_key_hex=terms.public_key,
        venue=settings.venue.kind,
        symbols=tuple(symbol.strip().upper() for symbol in terms.symbols.split(",") if symbol.strip()),
        max_order_notional_quote=positive("--max-order", terms.max_order),
        max_position_notional_quote=positive("--max-position", terms.max_position),
        max_total_notional_quote=positive("--max-total", terms.max_total),
        max_open_orders=str(terms.max_open),
        issued_at_ns=str(status.now_ns),
        expires_at_ns=str(status.now_ns + span_ns("--for", terms.lasts)),
        asker_id=terms.asker,
    )
    typer.echo(json.dumps(msgspec.to_builtins(mandate), indent=2))


def sign_mandate_file(file: Path, key: Path, as_json: bool) -> None:
    """A signature over a mandate, for whoever installs it."""
    mandate = _mandate(file)
    signer = enrolled_key(ask_engine(local_settings(), lambda client: client.roster()), key)
    signature = sign_mandate(signer.seed_hex, mandate).hex()
    answer = {"key_id": signer.entry.key_id, "signature_hex": signature}
    typer.echo(json.dumps(answer) if as_json else f"{signer.entry.key_id}:{signature}")


def install_mandate(file: Path, keys: list[Path], signatures: list[str], as_json: bool) -> None:
    """Give a strategy what its approvers have signed."""
    mandate = _mandate(file)
    collected = [_read_signature(text) for text in signatures]
    if not keys and not collected:
        raise usage("Name an approver's key with --key, or give a signature with --signature.")
    settings = local_settings()

    async def installed(client: Any) -> Refusal | None:
        roster = await client.roster()
        for key in keys:
            signer = enrolled_key(roster, key)
            collected.append((signer.entry.key_id, sign_mandate(signer.seed_hex, mandate)))
        refusal: Refusal | None = await client.install_mandate(mandate_bytes(mandate), collected)
        return refusal

    refusal = ask_engine(settings, installed)
    if refusal is not None:
        raise refused(refusal)
    answer = {"mandate_id": mandate.mandate_id, "strategy_id": mandate.strategy_id}
    told = f"Mandate {mandate.mandate_id} for {mandate.strategy_id} is in force."
    typer.echo(json.dumps(answer)) if as_json else typer.secho(told, fg="green")


def revoke_mandate(mandate_id: str, as_json: bool) -> None:
    refusal = ask_engine(local_settings(), lambda client: client.revoke_mandate(mandate_id, whoami()))
    if refusal is not None:
        raise refused(refusal)
    told = f"Mandate {mandate_id} is revoked. Its orders stay; `veloz orders cancel-all` cancels them."
    typer.echo(json.dumps({"mandate_id": mandate_id, "revoked": True}) if as_json else told)


def thaw(state: str, account: str, reason: str, key: Path | None, key_id: str | None, as_json: bool) -> None:
    """Loosen the kill switch, under an administrator's signature."""
    if state not in STATES:
        raise usage(f"--state {state[:32]}: use {', '.join(STATES)}. Tightening is `veloz kill`.")
    settings = local_settings()
    kill_file = settings.paths.run / KILL_NAME
    if kill_file.exists() and not account:
        raise CommandError(
            "KILL_FILE_EXISTS",
            f"{kill_file} halts the engine as long as it exists. Look at what it says, remove it, and thaw again.",
            EXIT_REFUSED,
        )
    signer_id, seed = administrator_key(settings, key, key_id)
    administer(settings, "thaw", {"state": state, "account_id": account, "reason": reason}, signer_id, seed)
    scope = f"Account {account}" if account else "The engine"
    answer = {"state": state, "account": account or None, "signed_by": signer_id}
    typer.echo(json.dumps(answer)) if as_json else typer.secho(
        f"{scope} is {state}, signed by {signer_id}.", fg="green"
    )


def unfreeze(account: str, reason: str, key: Path | None, key_id: str | None, as_json: bool) -> None:
    """Let a frozen account trade again, under an administrator's signature."""
    settings = local_settings()
    signer_id, seed = administrator_key(settings, key, key_id)
    administer(settings, "unfreeze", {"account_id": account, "reason": reason}, signer_id, seed)
    answer = {"account": account, "frozen": False, "signed_by": signer_id}
    told = f"Account {account} isn't frozen any more, signed by {signer_id}."
    typer.echo(json.dumps(answer)) if as_json else typer.secho(told, fg="green")


def heartbeat(as_json: bool) -> None:
    """Somebody is there."""
    refusal = ask_engine(local_settings(), lambda client: client.renew_dead_mans_timer(whoami()))
    if refusal is not None:
        raise refused(refusal)
    typer.echo(json.dumps({"renewed": True}) if as_json else "The dead man's timer is renewed.")


def administer(settings: Settings, kind: str, body: dict[str, str], signer_id: str, seed: str) -> None:
    """Have the engine carry out a signed document. Raises CommandError."""
    from api.cli.signing import signed_administration

    async def done(client: Any) -> Refusal | None:
        status = await client.status()
        document, signature = signed_administration(status, kind, body, seed, whoami(), DOCUMENT_VALID_S)
        refusal: Refusal | None = await client.administer(document, [(signer_id, signature)])
        return refusal

    refusal = ask_engine(settings, done)
    if refusal is not None:
        raise refused(refusal)


def _signed_roster(settings: Settings, file: Path, root_seed: str) -> SignedRoster:
    """From `{"roster": ..., "signature_hex": ...}`, or from a bare roster, which is signed here."""
    content = _read(file)
    try:
        if b'"signature_hex"' in content:
            return parse_signed_roster(content, str(file), settings.read_secret("root.pub"))
        roster = msgspec.json.decode(content, type=Roster)
        check_roster(roster, str(file))
        return sign_roster(root_seed, roster)
    except (RosterError, msgspec.MsgspecError) as error:
        raise CommandError("ROSTER_INVALID", f"{file}: {error}", EXIT_REFUSED) from error


def _mandate(file: Path) -> Mandate:
    try:
        mandate = msgspec.json.decode(_read(file), type=Mandate)
    except msgspec.MsgspecError as error:
        raise CommandError(
            ReasonCode.AUTHORITY_DOCUMENT_MALFORMED.value,
            f"{file}: no mandate ({MANDATE_SCHEMA}): {error}",
            EXIT_REFUSED,
        ) from error
    return mandate


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CommandError("FILE_UNREADABLE", f"{file}: {error.strerror}", EXIT_USAGE) from error


def _read_signature(text: str) -> tuple[str, bytes]:
    key_id, separator, signature_hex = text.partition(":")
    try:
        signature = bytes.fromhex(signature_hex)
    except ValueError:
        separator = ""
        signature = b""
    if not separator or not key_id:
        raise usage(f"--signature {text[:32]}: give KEY_ID:HEX, as `veloz mandates sign` prints it.")
    return key_id, signature
