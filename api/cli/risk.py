"""`veloz risk show | check | reload | rollback | explain | history`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import typer

from api.cli.engine import ask_engine, local_settings, refused, whoami
from api.cli.key_files import load_key
from api.cli.portfolio import show_checks
from api.cli.safety import print_table
from api.cli.session import EXIT_REFUSED, EXIT_USAGE, CommandError
from api.cli.text import printable
from core.config import Settings
from core.types.codes import ReasonCode, Refusal
from core.types.views import RiskRulesView

DIGEST_DIGITS_SHOWN = 12
DOCUMENT_VALID_S = 60


def show(as_json: bool) -> None:
    """The rules in force, as they were installed."""
    rules = ask_engine(local_settings(), lambda client: client.rules())
    current = next((item for item in rules.history if item.version == rules.version), None)
    if as_json:
        document = None if current is None else current.document
        typer.echo(json.dumps({"version": rules.version, "digest_hex": rules.digest_hex, "document": document}))
        return
    # Beside the document and not in it: what is written to a file is what was installed, to the byte.
    heading = f"# version {rules.version}, digest {rules.digest_hex[:DIGEST_DIGITS_SHOWN]}…"
    typer.secho(heading, bold=True, err=True)
    if current is None:
        typer.secho("# none are installed", err=True)
    else:
        typer.echo(printable(current.document), nl=not current.document.endswith("\n"))


def history(as_json: bool) -> None:
    """The versions that can be gone back to."""
    rules = ask_engine(local_settings(), lambda client: client.rules())
    if as_json:
        typer.echo(json.dumps([msgspec.to_builtins(item) for item in rules.history]))
        return
    rows: list[tuple[str, ...]] = [("version", "digest", "bytes", "")]
    for item in reversed(rules.history):
        mark = "in force" if item.version == rules.version else ""
        rows.append((str(item.version), item.digest_hex[:DIGEST_DIGITS_SHOWN], str(len(item.document.encode())), mark))
    print_table(rows)


def check(file: Path, as_json: bool) -> None:
    """Whether a file would be taken, without an engine."""
    document = _read(file)
    _parse(document, str(file))
    answer = {"file": str(file), "valid": True}
    typer.echo(json.dumps(answer) if as_json else f"{file}: valid. `veloz risk reload {file}` puts it in force.")


def reload(file: Path, key: Path | None, key_id: str | None, as_json: bool) -> None:
    """Put a file's rules in force, under an administrator's signature."""
    document = _read(file)
    _parse(document, str(file))
    _administer("rules.install", {"document": document}, key, key_id, as_json)


def rollback(to: int | None, key: Path | None, key_id: str | None, as_json: bool) -> None:
    """Put an earlier version's rules in force again: by default the newest that differ from the current ones."""
    settings = local_settings()
    rules = ask_engine(settings, lambda client: client.rules())
    versions = [item.version for item in rules.history]
    others_than = [item.version for item in rules.history if item.digest_hex != rules.digest_hex]
    target = to if to is not None else max(others_than, default=0)
    if target not in versions or target == rules.version:
        others = ", ".join(str(version) for version in versions if version != rules.version) or "none"
        raise CommandError(
            "RISK_VERSION_UNKNOWN",
            f"There is no version {target} to go back to; the engine still has: {others}.",
            EXIT_USAGE,
        )
    _administer("rules.rollback", {"version": str(target)}, key, key_id, as_json)


def explain(client_order_id: str, as_json: bool) -> None:
    """Which rules an order met when it was decided on, and how near each limit was."""
    view = ask_engine(local_settings(), lambda client: client.explain_risk(client_order_id))
    if as_json:
        plain: dict[str, Any] = msgspec.to_builtins(view)
        typer.echo(json.dumps(plain))
        return
    typer.secho(
        f"{view.client_order_id}  {view.symbol}  {view.account_id}  under {view.authority} {view.authority_id}",
        bold=True,
    )
    typer.echo(
        f"rules version {view.rules_version}, mid {view.mid_price or '?'}, book {view.book_state}, "
        f"{view.book_age_ms} ms old, valued at {view.notional_quote or '?'} quote"
    )
    show_checks(view.checks)
    if view.refusal is not None:
        typer.secho(printable(f"refused: {view.refusal.code}: {view.refusal.message}"), fg="red")


def _administer(kind: str, body: dict[str, str], key: Path | None, key_id: str | None, as_json: bool) -> None:
    from api.cli.signing import signed_administration

    settings = local_settings()
    signer_id, seed = administrator_key(settings, key, key_id)

    async def done(client: Any) -> tuple[Refusal | None, RiskRulesView, set[str]]:
        status = await client.status()
        document, signature = signed_administration(status, kind, body, seed, whoami(), DOCUMENT_VALID_S)
        refusal = await client.administer(document, [(signer_id, signature)])
        symbols = {item.symbol for item in await client.instruments()} if refusal is None else set()
        return refusal, await client.rules(), symbols

    refusal, rules, symbols = ask_engine(settings, done)
    if refusal is not None:
        raise refused(refusal)
    vain = _without_effect(rules, {settings.engine.account_id}, symbols)
    if as_json:
        told = {"kind": kind, "version": rules.version, "signed_by": signer_id}
        typer.echo(json.dumps(told | ({"without_effect": vain} if vain else {})))
        return
    typer.secho(f"Risk rules version {rules.version} are in force, signed by {signer_id}.", fg="green")
    for line in vain:
        typer.secho(printable(f"! without effect: {line}"), fg="yellow")
    typer.echo("Undo: veloz risk rollback")


def _without_effect(rules: RiskRulesView, accounts: set[str], symbols: set[str]) -> list[str]:
    from core.risk.rules import parse_risk_rules

    document = next((item.document for item in rules.history if item.version == rules.version), None)
    return [] if document is None else list(parse_risk_rules(document, "risk rules").without_effect(accounts, symbols))


def administrator_key(settings: Settings, key: Path | None, key_id: str | None) -> tuple[str, str]:
    """The key's id and its Ed25519 seed in hex: of the file key, else this host's root key.

    Raises CommandError.
    """
    path = key or settings.paths.secret("root.key")
    loaded = load_key(path)
    return key_id or loaded.key_id or path.stem, loaded.seed_hex


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError("FILE_UNREADABLE", f"{file}: {error}", EXIT_USAGE) from error


def _parse(document: str, name: str) -> None:
    """Raises CommandError with the line and the cure."""
    from core.risk.rules import RiskRulesError, parse_risk_rules

    try:
        parse_risk_rules(document, name)
    except RiskRulesError as error:
        raise CommandError(ReasonCode.RISK_RULES_INVALID.value, str(error), EXIT_REFUSED, file=name) from error
