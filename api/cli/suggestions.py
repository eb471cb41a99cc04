"""`veloz suggestions | approve | reject`: what waits for a human, and the human's answer."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import typer

from api.cli.session import Session, read_key

POLL_INTERVAL_S = 0.1
SETTLED = frozenset({"executed", "failed", "needs_review"})


def list_suggestions(session: Session, status: str, as_json: bool) -> None:
    rows = session.request("GET", "/api/v1/suggestions", **({} if status == "all" else {"status": status}))
    if as_json:
        typer.echo(json.dumps(rows))
        return
    if not rows:
        typer.echo('No suggestions. Ask for one: veloz ask "suggest buying 0.1 BTC at the bid"')
        return
    for row in rows:
        proposal = row["proposal"]
        price = f"at {proposal['price']}" if proposal["price"] else "at market"
        order = f"{proposal['side']} {proposal['quantity']} {proposal['symbol']} {price}"
        typer.echo(f"{row['id']}  v{row['version']}  {row['status']:<9} {order}  expires {row['expires_at'][11:19]}")


def show_suggestion(session: Session, suggestion_id: str, as_json: bool) -> None:
    row = session.request("GET", f"/api/v1/suggestions/{suggestion_id}")
    if as_json:
        typer.echo(json.dumps(row))
    else:
        _print_proposal(row)


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
    from core.authority.proposal import proposal_digest
    from core.authority.signatures import sign_digest

    row = session.request("GET", f"/api/v1/suggestions/{suggestion_id}")
    shown_digest = proposal_digest(row["proposal_text"].encode())
    if not as_json:
        _print_proposal(row)
    if not assume_yes and not as_json and sys.stdin.isatty():
        typer.confirm("Approve exactly this?", abort=True)
    login = session.demo_login() or {}
    key_id = login.get("key_id") if key_file is None else key_file.stem
    seed = read_key(session.paths, key_id, key_file)
    signed_digest = digest or shown_digest
    signature = sign_digest(seed, signed_digest).hex() if seed and _is_digest(signed_digest) else ""
    body = {
        "version": version if version is not None else row["version"],
        "digest": signed_digest,
        "key_id": key_id or "",
        "signature": signature,
    }
    outcome = session.request("POST", f"/api/v1/suggestions/{suggestion_id}/approve", body)
    final = _follow(session, suggestion_id, wait_s)
    result = outcome | {"status": final["status"], "client_order_id": final["client_order_id"]}
    if as_json:
        typer.echo(json.dumps(result))
    else:
        typer.secho(f"Approved. Order {result['client_order_id']}: {final['status']}.", fg="green")
        typer.echo(f"The whole trail: veloz audit trace {suggestion_id}")


def reject(session: Session, suggestion_id: str, reason: str, as_json: bool) -> None:
    row = session.request("GET", f"/api/v1/suggestions/{suggestion_id}")
    body = {"version": row["version"], "reason": reason}
    outcome = session.request("POST", f"/api/v1/suggestions/{suggestion_id}/reject", body)
    typer.echo(json.dumps(outcome) if as_json else f"Rejected {suggestion_id}.")


def _follow(session: Session, suggestion_id: str, wait_s: float) -> dict[str, Any]:
    deadline = time.monotonic() + wait_s
    while True:
        row: dict[str, Any] = session.request("GET", f"/api/v1/suggestions/{suggestion_id}/status")
        if row["status"] in SETTLED or time.monotonic() >= deadline:
            return row
        time.sleep(POLL_INTERVAL_S)


def _print_proposal(row: dict[str, Any]) -> None:
    typer.secho(f"Suggestion {row['id']} version {row['version']}: {row['status']}", bold=True)
    for name, value in row["proposal"].items():
        typer.echo(f"  {name:<20} {value}")
    typer.echo(f"  {'digest':<20} {row['digest']}")


def _is_digest(text: str) -> bool:
    try:
        return len(bytes.fromhex(text)) == 32
    except ValueError:
        return False
