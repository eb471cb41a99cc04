"""`veloz suggestions ...`: what waits for a human, and the human's answer."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import typer

from api.cli.session import EXIT_USAGE, CommandError, Session
from api.cli.text import printable
from core.text.proposals import proposal_summary
from core.types.codes import RefusalError

if TYPE_CHECKING:
    from core.authority.proposal_kinds import Proposed

RETRY_INTERVAL_S = 0.2
SETTLED = frozenset({"executed", "failed", "needs_review"})
STATES_IN_WORDS = {
    "approved": "on its way to the venue",
    "consumed": "sent, and not yet filled in full",
    "executed": "filled",
    "failed": "rejected or closed without a fill",
    "needs_review": "sent without an answer; it is being looked up, never repeated",
}


def list_suggestions(session: Session, status: str, as_json: bool) -> None:
    rows = session.request("GET", "/api/v1/suggestions", **({} if status == "all" else {"status": status}))
    if as_json:
        typer.echo(json.dumps(rows))
        return
    if not rows:
        typer.echo('No suggestions. Ask for one: veloz ask "suggest buying 0.1 BTC at the bid"')
        return
    for row in rows:
        what = printable(proposal_summary(row["proposal"]))
        typer.echo(f"{row['id']}  v{row['version']}  {row['status']:<9} {what}  expires {row['expires_at'][11:19]}")


def show_suggestion(session: Session, suggestion_id: str, version: int | None, as_json: bool) -> None:
    row = _load(session, suggestion_id, version)
    if as_json:
        typer.echo(json.dumps(row))
    else:
        _print_proposal(row)


def edit(
    session: Session, suggestion_id: str, version: int | None, changes: list[str], reason: str, as_json: bool
) -> None:
    """A new version with other terms; it is shown as what would be signed now."""
    terms = {}
    for change in changes:
        name, separator, value = change.partition("=")
        if not separator or not name:
            raise CommandError(
                "REQUEST_INVALID", f"--set {change[:64]}: give FIELD=VALUE, such as quantity=0.25.", EXIT_USAGE
            )
        terms[name.strip()] = value.strip()
    row = _load(session, suggestion_id, version)
    body = {"version": row["version"], "changes": terms, "reason": reason}
    newer = session.request("POST", f"/api/v1/suggestions/{suggestion_id}/edit", body)
    if as_json:
        typer.echo(json.dumps(newer))
        return
    typer.secho(f"Version {newer['version']} takes the place of version {row['version']}.", fg="green")
    _print_proposal(newer)


def withdraw(session: Session, suggestion_id: str, version: int | None, reason: str, as_json: bool) -> None:
    row = _load(session, suggestion_id, version)
    body = {"version": row["version"], "reason": reason}
    outcome = session.request("POST", f"/api/v1/suggestions/{suggestion_id}/withdraw", body)
    typer.echo(json.dumps(outcome) if as_json else f"Withdrawn {suggestion_id}.")


def approve(
    session: Session,
    suggestion_id: str,
    *,
    version: int | None,
    digest: str | None,
    key_file: Path | None,
    assume_yes: bool,
    wait_s: float,
    as_json: bool,
) -> None:
    """Show exactly what is signed, sign it, hand it to the engine, and follow the order for wait_s seconds."""
    from core.authority.signatures import sign_digest

    row = _load(session, suggestion_id, version)
    shown_digest = _signed_proposal(row)[1]
    if not as_json:
        _print_proposal(row)
    if not assume_yes and not as_json and sys.stdin.isatty():
        typer.confirm("Approve exactly this?", abort=True)
    key_id, seed = _own_key(session, key_file, as_json)
    body = {
        "version": row["version"],
        "digest": digest or shown_digest,
        "key_id": key_id,
        # Whatever digest was given: only what was shown is ever signed.
        "signature": sign_digest(seed, shown_digest).hex() if seed else "",
    }
    outcome = session.request("POST", f"/api/v1/suggestions/{suggestion_id}/approve", body)
    if not outcome["consumed"]:
        told = (
            f"Signed: {outcome['approvals_given']} of {outcome['approvals_due']} approvals. Another approver must sign."
        )
        typer.echo(json.dumps(outcome)) if as_json else typer.secho(told, fg="yellow")
        return
    final = _follow(session, suggestion_id, wait_s)
    result = outcome | {"status": final["status"], "client_order_id": final["client_order_id"]}
    if as_json:
        typer.echo(json.dumps(result))
    else:
        state = STATES_IN_WORDS.get(final["status"], final["status"])
        typer.secho(f"Approved. Order {result['client_order_id']}: {state}.", fg="green")
        typer.echo(f"The whole trail: veloz audit trace {suggestion_id}")


def reject(session: Session, suggestion_id: str, reason: str, as_json: bool) -> None:
    row = session.request("GET", f"/api/v1/suggestions/{suggestion_id}")
    body = {"version": row["version"], "reason": reason}
    outcome = session.request("POST", f"/api/v1/suggestions/{suggestion_id}/reject", body)
    typer.echo(json.dumps(outcome) if as_json else f"Rejected {suggestion_id}.")


def _own_key(session: Session, key_file: Path | None, as_json: bool) -> tuple[str, str | None]:
    """Key id and seed: of key_file, else of this installation's demo; no seed when the user has no key here."""
    from api.cli.key_files import load_key

    if key_file is not None:
        loaded = load_key(key_file)
        return loaded.key_id or key_file.stem, loaded.seed_hex
    key_id = (session.demo_login() or {}).get("key_id")
    if key_id is None:
        return "", None
    if not as_json:
        typer.secho("Signing with the demo key, which counts on paper only.", fg="yellow", err=True)
    return str(key_id), load_key(session.paths.secret(f"{key_id}.key")).seed_hex


def _load(session: Session, suggestion_id: str, version: int | None) -> dict[str, Any]:
    wanted = {} if version is None else {"version": version}
    row: dict[str, Any] = session.request("GET", f"/api/v1/suggestions/{suggestion_id}", **wanted)
    return row


def _follow(session: Session, suggestion_id: str, wait_s: float) -> dict[str, Any]:
    """Its last state within wait_s seconds, as the service tells of each change."""
    path = f"/api/v1/suggestions/{suggestion_id}"
    deadline = time.monotonic() + wait_s
    state: dict[str, Any] | None = None
    while (left_s := deadline - time.monotonic()) > 0:
        try:
            with session.client.stream("GET", f"{path}/events", timeout=httpx2.Timeout(left_s)) as response:
                if response.is_error:
                    break  # asked for below, its refusal is told
                for line in response.iter_lines():
                    if line.startswith("data:"):
                        state = json.loads(line.removeprefix("data:"))
                    if (state and state.get("status") in SETTLED) or time.monotonic() >= deadline:
                        break
        except httpx2.TimeoutException:
            break
        except httpx2.HTTPError:
            pass
        if state and state.get("status") in SETTLED:
            return state
        time.sleep(RETRY_INTERVAL_S)  # the stream was cut: its next snapshot says what was missed
    final: dict[str, Any] = session.request("GET", f"{path}/status")
    return final


def _signed_proposal(row: dict[str, Any]) -> tuple[Proposed, str]:
    """The proposal and its digest, read here from the very bytes that get signed: the service isn't trusted with it.

    Raises CommandError when the bytes aren't a proposal, or are another suggestion's.
    """
    from core.authority.proposal import parse_proposal, proposal_digest

    canonical = row["proposal_text"].encode()
    try:
        proposal = parse_proposal(canonical)
    except RefusalError as error:
        raise CommandError(error.refusal.code.value, error.refusal.message) from error
    if (proposal.suggestion_id, proposal.version) != (row["id"], str(row["version"])):
        raise CommandError(
            "SUGGESTION_MISLABELLED",
            f"The service shows version {row['version']} of {row['id']} with the proposal of version "
            f"{proposal.version} of {proposal.suggestion_id}. Don't sign it; tell compliance.",
        )
    return proposal, proposal_digest(canonical)


def _print_proposal(row: dict[str, Any]) -> None:
    proposal, digest = _signed_proposal(row)
    by = f", edited by {printable(proposal.edited_by)}" if proposal.edited_by else ""
    typer.secho(f"Suggestion {row['id']} version {row['version']}: {row['status']}{by}", bold=True)
    for name in proposal.__struct_fields__:
        typer.echo(f"  {name:<20} {printable(getattr(proposal, name))}")
    typer.echo(f"  {'digest':<20} {digest}")
    approvals = row["approvals"]
    if approvals["due"] and row["status"] == "pending":
        given = ", ".join(printable(item["user_id"]) for item in approvals["given"])
        typer.echo(f"{len(approvals['given'])} of {approvals['due']} approvals{': ' + given if given else ''}.")
