"""`veloz session open | list | close`: a person's short-lived key with limits, for orders by hand.

The session's own key is made here and kept, for as long as the session lasts, in a file of mode 0600 under
VELOZ_HOME/secrets: `veloz orders place` signs with it. What it can do at most is what the session's limits allow.
"""

from __future__ import annotations

import json
import secrets
from pathlib import Path
from typing import Any

import msgspec
import typer

from api.cli.amounts import positive, span_ns, usage
from api.cli.engine import ask_engine, local_settings, refused, whoami
from api.cli.keys import DEMO_TRADER_KEY, default_key, enrolled_key
from api.cli.safety import print_table
from api.cli.session import EXIT_REFUSED, CommandError
from core.authority.session import SESSION_LONGEST_NS, SESSION_SCHEMA, grant_bytes, sign_session
from core.authority.signatures import public_key_hex
from core.config import Settings
from core.types.authority import SessionGrant
from core.types.clock import NS_PER_S, SystemClock, format_utc_us
from core.types.codes import Refusal
from core.types.ids import SystemIdSource
from core.types.money import decimal_text
from core.types.views import SessionView

FILE_PREFIX = "session-"
KEY_LENGTH_BYTES = 32
ORDERS_LIMIT = 1_000_000


class StoredSession(msgspec.Struct, frozen=True):
    """What a machine keeps of a session that was opened on it."""

    session_id: str
    user_id: str
    account_ids: tuple[str, ...]
    seed_hex: str
    expires_ns: int


def open_session(
    account: str, lasts: str, max_order: str, max_total: str, max_orders: int, key: Path | None, as_json: bool
) -> None:
    """Sign a session in with a person's enrolled key."""
    settings = local_settings()
    lasts_ns = span_ns("--for", lasts)
    if lasts_ns > SESSION_LONGEST_NS:
        raise usage(f"--for {lasts}: a session lasts at most {SESSION_LONGEST_NS // NS_PER_S // 3_600}h.")
    if not 1 <= max_orders <= ORDERS_LIMIT:
        raise usage(f"--max-orders {max_orders}: give a number from 1 to {ORDERS_LIMIT}.")
    limits = positive("--max-order", max_order), positive("--max-total", max_total)
    path = key or default_key(settings, DEMO_TRADER_KEY)
    seed_hex = secrets.token_hex(KEY_LENGTH_BYTES)

    async def opened(client: Any) -> tuple[Refusal | None, SessionGrant]:
        status = await client.status()
        signer = enrolled_key(await client.roster(), path)
        grant = SessionGrant(
            schema=SESSION_SCHEMA,
            session_id=SystemIdSource().new_ulid(),
            engine_id=status.engine_id,
            environment=status.environment,
            mode=status.mode,
            user_id=signer.entry.user_id,
            public_key_hex=public_key_hex(seed_hex),
            account_ids=(account,),
            max_order_notional_quote=limits[0],
            max_total_notional_quote=limits[1],
            max_orders=str(max_orders),
            issued_at_ns=str(status.now_ns),
            expires_at_ns=str(status.now_ns + lasts_ns),
        )
        signature = sign_session(signer.seed_hex, grant)
        return await client.open_session(grant_bytes(grant), signer.entry.key_id, signature), grant

    refusal, grant = ask_engine(settings, opened)
    if refusal is not None:
        raise refused(refusal)
    stored = StoredSession(grant.session_id, grant.user_id, grant.account_ids, seed_hex, int(grant.expires_at_ns))
    _store(settings, stored)
    if as_json:
        typer.echo(json.dumps(_shown(stored)))
    else:
        typer.secho(
            f"Session {grant.session_id} of {grant.user_id} for {account} is open until "
            f"{format_utc_us(stored.expires_ns)}: at most {max_orders} orders, {limits[0]} each, {limits[1]} together.",
            fg="green",
        )


def list_sessions(account: str | None, include_ended: bool, as_json: bool) -> None:
    sessions = ask_engine(local_settings(), lambda client: client.sessions(account or "", include_ended=include_ended))
    if as_json:
        typer.echo(json.dumps([msgspec.to_builtins(session) for session in sessions]))
    elif not sessions:
        typer.echo("No session is open. `veloz session open` signs one in.")
    else:
        rows: list[tuple[str, ...]] = [("session", "user", "accounts", "state", "orders", "used", "expires")]
        print_table(rows + [_row(session) for session in sessions])


def close_sessions(session_id: str | None, as_json: bool) -> None:
    """One session, or those that were opened on this machine."""
    settings = local_settings()
    ids = [session_id] if session_id else [stored.session_id for stored in stored_sessions(settings)]
    if not ids:
        raise CommandError("SESSION_NEEDED", "No session was opened on this machine. Name one: `veloz session list`.")
    closed: list[str] = []
    for one in ids:
        refusal = ask_engine(settings, lambda client, one=one: client.close_session(one, whoami()))  # type: ignore[misc]
        if refusal is not None and session_id:
            raise refused(refusal)
        _forget(settings, one)
        closed.append(one)
    typer.echo(
        json.dumps({"closed": closed})
        if as_json
        else f"Closed: {', '.join(closed)}. Orders stay; `veloz orders cancel-all` cancels them."
    )


def usable_session(settings: Settings, account: str) -> StoredSession:
    """The newest session of this machine for an account. Raises CommandError."""
    now_ns = SystemClock().now_ns()
    found = [stored for stored in stored_sessions(settings) if account in stored.account_ids]
    for stored in found:
        if stored.expires_ns <= now_ns:
            _forget(settings, stored.session_id)
    usable = [stored for stored in found if stored.expires_ns > now_ns]
    if not usable:
        raise CommandError(
            "SESSION_NEEDED",
            f"No session for {account} is open on this machine. `veloz session open --account {account}` signs one in.",
            EXIT_REFUSED,
        )
    return max(usable, key=lambda stored: stored.session_id)


def stored_sessions(settings: Settings) -> list[StoredSession]:
    """What was opened here; a file that can't be read is none."""
    sessions = []
    for path in sorted(settings.paths.secrets.glob(f"{FILE_PREFIX}*.json")):
        try:
            sessions.append(msgspec.json.decode(path.read_bytes(), type=StoredSession))
        except (OSError, msgspec.MsgspecError):
            continue
    return sessions


def _path(settings: Settings, session_id: str) -> Path:
    return settings.paths.secret(f"{FILE_PREFIX}{session_id}.json")


def _store(settings: Settings, stored: StoredSession) -> None:
    from api.supervisor.files import write_durably

    try:
        write_durably(_path(settings, stored.session_id), msgspec.json.encode(stored))
    except OSError as error:
        raise CommandError(
            "FILE_UNWRITABLE",
            f"{_path(settings, stored.session_id)}: {error.strerror}. The session is open, but its key can't be kept; "
            f"close it with `veloz session close {stored.session_id}`.",
        ) from error


def _forget(settings: Settings, session_id: str) -> None:
    if "/" not in session_id:
        _path(settings, session_id).unlink(missing_ok=True)


def _row(session: SessionView) -> tuple[str, ...]:
    return (
        session.session_id,
        session.user_id,
        ",".join(session.account_ids),
        session.state,
        f"{session.orders_used} of {session.max_orders}",
        f"{decimal_text(session.notional_used_quote)} of {decimal_text(session.max_total_notional_quote)}",
        format_utc_us(session.expires_ns),
    )


def _shown(stored: StoredSession) -> dict[str, Any]:
    return {
        "session_id": stored.session_id,
        "user_id": stored.user_id,
        "account_ids": list(stored.account_ids),
        "expires_ns": stored.expires_ns,
    }
