"""`veloz policy show | check | explain | dry-run | reload`."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import msgspec
import typer

from api.cli.session import EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE, CommandError, Session
from api.cli.text import printable
from core.config import HomePaths, default_home
from core.types.clock import NS_PER_S, SystemClock
from core.types.codes import ReasonCode, RefusalError
from core.types.money import decimal_text
from tools.catalogue import build_registry
from tools.contracts import Principal
from tools.policy import DEFAULT_POLICY_NAME, CallFacts, Policy, default_document, load_policy, tool_facts
from tools.policy_document import PolicyFileError, parse_amount
from tools.policy_explain import explain as explain_call
from tools.policy_explain import roles_of
from tools.policy_gaps import gaps_of
from tools.policy_replay import RecordedCall, recorded_call, replay

DIGEST_DIGITS_SHOWN = 12
RELOAD_WAIT_S = 10.0
RELOAD_POLL_S = 0.1
CALLS_LIMIT = 100_000
CHANGES_SHOWN_LIMIT = 20
MARKS = {"allow": ("✓", "green"), "deny": ("✗", "red"), "nothing to say": ("·", None)}


def show(session: Callable[[], Session], default: bool, as_json: bool) -> None:
    """The policy that the service decides by, or the one that VeloZ comes with."""
    if default:
        typer.echo(json.dumps({"document": default_document()}) if as_json else default_document(), nl=as_json)
        return
    shown = session().request("GET", "/api/v1/policy")
    if as_json:
        typer.echo(json.dumps(shown))
        return
    # Beside the document and not in it: what is written to a file is what is in force, to the byte.
    heading = (
        f"# version {shown['version']}, digest {shown['digest'][:DIGEST_DIGITS_SHOWN]}…, {shown['source']}, since "
    )
    typer.secho(heading + shown["in_force_since"], bold=True, err=True)
    if shown["problem"]:
        typer.secho(printable(f"# nothing is allowed now: {shown['problem']}"), fg="red", err=True)
    document = shown.get("document")
    if document is None:
        typer.secho("# only compliance reads the document: --as compliance", err=True)
    else:
        typer.echo(printable(document), nl=False)


def check(file: Path, as_json: bool) -> None:
    """Whether a file would be taken, and what of it would be without effect. Needs no service."""
    policy = _load(file)
    gaps, vain = gaps_of(policy, (tool.name for tool in build_registry())), _looser_than_the_engine(policy)
    if as_json:
        answer = {"file": str(file), "valid": True, "version": policy.version, "digest": policy.digest_hex}
        answer |= {"tools_that_nobody_may_call": list(gaps.nobody), "tools_that_no_model_may_call": list(gaps.no_model)}
        typer.echo(json.dumps(answer | {"lines_to_add": gaps.lines, "without_effect": vain}))
        return
    typer.echo(f"{file}: valid, version {policy.version}. `veloz policy reload {file}` puts it in force.")
    if not gaps.is_empty:
        typer.secho(f"! {gaps.summary}", fg="yellow")
        typer.echo("Where they shall be open, as in the policy that VeloZ comes with, add before [concurrency]:")
        typer.echo(f"\n{gaps.lines}")
    for line in vain:
        typer.secho(printable(f"! without effect: {line}"), fg="yellow")


def _looser_than_the_engine(policy: Policy) -> list[str]:
    """Thresholds beyond the engine's own, where an engine of this host answers."""
    from api.cli.engine import ask_engine, local_settings

    try:
        roster = ask_engine(local_settings(), lambda client: client.roster())
    except CommandError:
        return []
    return looser_thresholds(policy, roster.two_approvals_above_quote)


def looser_thresholds(policy: Policy, engine_above_quote: Decimal) -> list[str]:
    """What the engine's roster makes idle: it asks for two above its own amount, whatever the policy says."""
    found = []
    for section in policy.document.threshold:
        bound = parse_amount(section.two_above_quote)
        if bound is None or bound >= engine_above_quote:
            own = decimal_text(engine_above_quote)
            found.append(f"{section.name}: the engine's roster asks for two above {own} already")
    return found


def explain(
    *,
    file: Path | None,
    tool: str,
    role: str,
    user: str,
    agent: bool,
    account: str,
    amount: str | None,
    model: str,
    provider: str,
    at: str | None,
    arguments: str,
    mode: str,
    as_json: bool,
) -> None:
    """Which section decides on a call, and why. Exit 1 when it is denied."""
    policy, registry = _of_home(file), build_registry()
    kind: Literal["agent", "human"] = "agent" if agent else "human"
    try:
        definition = registry.get(tool)
        facts = CallFacts(
            principal=Principal(user, user, roles_of(role), (account,) if account else (), kind),
            tool=definition.name,
            kind=definition.kind,
            account_id=account if definition.scope.needs_account else "",
            arguments=_arguments(arguments),
            now_ns=_moment_ns(at),
            mode=mode,
            model=model,
            provider=provider,
            amount_quote=_amount(amount),
        )
    except (ValueError, RefusalError) as error:
        raise CommandError("USAGE", str(error), EXIT_USAGE) from error
    explanation = explain_call(policy, definition, facts)
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(explanation)))
    else:
        _print_explanation(explanation)
    if explanation.decision == "deny":
        raise typer.Exit(EXIT_REFUSED)


def _print_explanation(explanation: Any) -> None:
    for step in explanation.steps:
        mark, colour = MARKS[step.verdict]
        typer.secho(printable(f"{mark} {step.part}: {step.why}"), fg=colour)
    if explanation.approvals_due is not None:
        because = f" ({', '.join(explanation.approval_sections)})" if explanation.approval_sections else ""
        typer.echo(
            f"  approvals: {explanation.approvals_due} of this policy{because}; the engine's roster may want more"
        )
        typer.echo(f"  approvers: {', '.join(explanation.approvers) or 'nobody'}")
    digest = explanation.digest_hex[:DIGEST_DIGITS_SHOWN]
    typer.secho(f"{explanation.decision}, by version {explanation.version}, digest {digest}…", bold=True)


def dry_run(session: Callable[[], Session], file: Path, export: Path | None, limit: int, as_json: bool) -> None:
    """What a file would have made of recorded calls. Exit 1 when it would have decided any otherwise."""
    policy, registry = _load(file), build_registry()
    calls = _exported(export) if export is not None else _from_service(session(), limit)
    found = replay(policy, registry, calls)
    if as_json:
        typer.echo(json.dumps(msgspec.to_builtins(found) | {"version": policy.version, "digest": policy.digest_hex}))
    else:
        typer.secho(
            f"{found.calls} calls: {found.same} as before, {found.newly_denied} newly denied, {found.newly_allowed} "
            f"newly allowed, {found.otherwise_denied} denied otherwise, {found.other_approvals} with other approvals, "
            f"{found.undecided} that can't be told",
            bold=True,
        )
        if found.unweighed:
            told = (
                "suggestions of an earlier release don't say what they were worth: amounts and approvals weren't asked"
            )
            typer.secho(f"{found.unweighed} {told}", fg="yellow")
        for change in found.changes[:CHANGES_SHOWN_LIMIT]:
            told = (
                f"{change.call_id} {change.tool} {change.role} {change.account_id}: {change.before} -> {change.after}"
            )
            typer.echo(printable(f"{told}{': ' if change.why else ''}{change.why}"))
        if len(found.changes) > CHANGES_SHOWN_LIMIT:
            typer.echo(f"and {len(found.changes) - CHANGES_SHOWN_LIMIT} more; --json lists them")
    if found.changes:
        raise typer.Exit(EXIT_REFUSED)


def reload(session: Callable[[], Session], file: Path, as_json: bool) -> None:
    """Put a file in force: check it, put it in the place of VELOZ_HOME/policy.toml, wait until the service decides by
    it."""
    policy = _load(file)
    paths = HomePaths(default_home())
    content = file.read_bytes()
    if hashlib.sha256(content).hexdigest() != policy.digest_hex:
        raise CommandError("FILE_CHANGED", f"{file} changed while it was read. Try again.", EXIT_USAGE)
    if not paths.home.is_dir():
        raise CommandError(
            "HOME_MISSING", f"There is no {paths.home}. Start the service once with `veloz up`.", EXIT_USAGE
        )
    beside = paths.policy_file.with_suffix(".toml.new")
    try:
        with beside.open("wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        os.replace(beside, paths.policy_file)
    except OSError as error:
        raise CommandError("FILE_UNWRITABLE", f"{paths.policy_file}: {error.strerror}", EXIT_USAGE) from error
    shown = _wait_for(session, policy)
    if as_json:
        typer.echo(json.dumps(shown))
        return
    typer.secho(f"Policy version {policy.version} is in force since {shown['in_force_since']}.", fg="green")


def _wait_for(session: Callable[[], Session], policy: Policy) -> dict[str, Any]:
    """What the service says once it decides by that policy. Raises CommandError."""
    client = session()
    deadline = time.monotonic() + RELOAD_WAIT_S
    while True:
        shown: dict[str, Any] = client.request("GET", "/api/v1/policy")
        if shown["digest"] == policy.digest_hex and shown["problem"] is None:
            return shown
        if shown["problem"] is not None and time.monotonic() > deadline - RELOAD_WAIT_S / 2:
            raise CommandError(ReasonCode.SERVICE_POLICY_INVALID.value, shown["problem"])
        if time.monotonic() > deadline:
            raise CommandError(
                "POLICY_NOT_TAKEN",
                f"The service still decides by version {shown['version']}. Its VELOZ_HOME may be another: put the file "
                "there as policy.toml.",
                EXIT_UNREACHABLE,
            )
        time.sleep(RELOAD_POLL_S)


def _of_home(file: Path | None) -> Policy:
    """A file's policy, else that of this VELOZ_HOME, else the one that VeloZ comes with."""
    if file is not None:
        return _load(file)
    own = HomePaths(default_home()).policy_file
    if own.exists():
        return _load(own)
    return load_policy(default_document(), DEFAULT_POLICY_NAME, tool_facts(build_registry()))


def _load(file: Path) -> Policy:
    """Raises CommandError with file, line, key and cure."""
    try:
        document = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError("FILE_UNREADABLE", f"{file}: {error}", EXIT_USAGE) from error
    try:
        return load_policy(document, str(file), tool_facts(build_registry()))
    except PolicyFileError as error:
        raise CommandError(ReasonCode.SERVICE_POLICY_INVALID.value, str(error), file=str(file)) from error


def _from_service(session: Session, limit: int) -> list[RecordedCall]:
    found: list[RecordedCall] = []
    before: int | None = None
    while len(found) < min(limit, CALLS_LIMIT):
        asked = {} if before is None else {"before": before}
        page = session.request("GET", "/api/v1/policy/calls", **asked)
        found += [msgspec.convert(call, RecordedCall) for call in page["calls"]]
        before = page["next"]
        if before is None:
            break
    return found[:limit]


def _exported(export: Path) -> Iterable[RecordedCall]:
    """Audit records, one a line, as JSON."""
    try:
        lines = export.read_bytes().splitlines()
        records = [msgspec.json.decode(line) for line in lines[:CALLS_LIMIT] if line.strip()]
        return [call for record in records if (call := recorded_call(record)) is not None]
    except (OSError, msgspec.MsgspecError, AttributeError, KeyError, ValueError) as error:
        raise CommandError("FILE_UNREADABLE", f"{export}: {error}", EXIT_USAGE) from error


def _arguments(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except ValueError as error:
        raise ValueError(f"--arguments isn't JSON: {error}") from error
    if not isinstance(values, dict):
        raise ValueError("--arguments must be one JSON object")  # noqa: TRY004 (wrong usage, not a wrong type)
    return values


def _amount(text: str | None) -> Decimal | None:
    return None if text is None else parse_amount(text)


def _moment_ns(text: str | None) -> int:
    if text is None:
        return SystemClock().now_ns()
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"--at must be a time such as 2026-03-02T22:00:00Z: {error}") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * NS_PER_S
