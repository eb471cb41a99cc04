"""What the first run leaves in VELOZ_HOME and in the database. Every step may find its work done, or half done.

Order matters for a crash half-way: secrets before what is derived from them, the demo passwords' file before the
hashes in the database. Nothing that exists is replaced.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

import psycopg
from argon2 import PasswordHasher

from api.supervisor.files import ensure_secret, new_hex_key, new_password, private_folder, write_durably
from core.authority.roster import render_signed_roster, sign_roster
from core.authority.signatures import public_key_hex
from core.config import HomePaths, Settings
from core.risk.rules import render_default_rules
from core.types.events import Roster, RosterEntry

FIRM_ID = "firm-demo"
DESK_ID = "desk-demo"
ACCOUNT_ID = "acct-demo"
VENUE = "paper"
VENUE_KEY_REFERENCE = "venue-paper"
APPROVER_KEY_ID = "demo-approver"
TRADER_KEY_ID = "demo-trader"
# The demo has one approver, so two are due only beyond what the demo's risk limits let through anyway.
TWO_APPROVALS_ABOVE_QUOTE = "1000000"
# username, role, and the key whose seed lies in secrets/<key id>.key
DEMO_USERS = (
    ("trader", "trader", TRADER_KEY_ID),
    ("approver", "approver", APPROVER_KEY_ID),
    ("compliance", "compliance", None),
)
DATABASE_ROLES = ("owner", "api", "audit_writer", "ledger")
HEX_KEYS = (
    "nats.token",
    "engine-control.token",
    "jwt.key",
    "metrics.token",
    "audit-kek.key",
    "results.key",
    "venue-paper.key",
    "venue-paper.secret",
    "venue-paper-cancel.key",
    "venue-paper-cancel.secret",
    "root.key",
    f"{APPROVER_KEY_ID}.key",
    f"{TRADER_KEY_ID}.key",
)


def prepare_home(paths: HomePaths) -> None:
    """Folders, secrets, keys, roster, limits, demo logins: everything that needs no database. Raises OSError."""
    paths.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in (paths.secrets, paths.run, paths.logs, paths.journal):
        private_folder(folder)
    ensure_secret(paths.secret("postgres-superuser.password"), new_password)
    for role in DATABASE_ROLES:
        ensure_secret(paths.secret(f"postgres-{role}.password"), new_password)
    for name in HEX_KEYS:
        ensure_secret(paths.secret(name), new_hex_key)
    root_seed = paths.secret("root.key").read_text().strip()
    root_public = ensure_secret(paths.secret("root.pub"), lambda: public_key_hex(root_seed))
    roster_file = paths.home / "roster.json"
    if not roster_file.exists():
        if root_public != public_key_hex(root_seed):
            raise OSError(f"{paths.secret('root.pub')}: not the public half of root.key; restore the pair")
        write_durably(roster_file, render_signed_roster(sign_roster(root_seed, _demo_roster(paths))))
    if not paths.risk_file.exists():
        write_durably(paths.risk_file, render_default_rules())
    demo_logins(paths)


def demo_logins(paths: HomePaths) -> list[dict[str, str]]:
    """The demo logins (username, password, role, user_id, key_id where there is one), made when there are none.

    Deleting the file gives the demo users new passwords at the next start.
    """
    logins: list[dict[str, str]] = _demo_logins(paths)["logins"]
    return logins


def _demo_logins(paths: HomePaths) -> dict[str, Any]:
    if paths.demo_logins.exists():
        content: dict[str, Any] = json.loads(paths.demo_logins.read_text())
        return content
    logins = []
    for username, role, key_id in DEMO_USERS:
        login = {"username": username, "password": new_login_password(), "role": role, "user_id": f"user-{username}"}
        logins.append(login | ({"key_id": key_id} if key_id else {}))
    content = {"seeded": False, "logins": logins}
    _write_logins(paths, content)
    return content


def _write_logins(paths: HomePaths, content: dict[str, Any]) -> None:
    write_durably(paths.demo_logins, json.dumps(content, indent=2) + "\n")


def new_login_password() -> str:
    """20 characters of an alphabet without look-alikes, in groups of five: about 98 bits, and readable aloud."""
    alphabet = "abcdefghjkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(alphabet) for _ in range(5)) for _ in range(4))


def seed_database(settings: Settings, url: str) -> None:
    """The demo firm, desk, account, users, grants and public keys, through the owner role, after the migration.

    url names host and database, as database.url does. Raises psycopg.Error, ConfigurationError.
    """
    content = _demo_logins(settings.paths)
    password = settings.read_secret("postgres-owner.password")
    with psycopg.connect(url, user="veloz_owner", password=password) as connection, connection.transaction():
        execute = connection.execute
        execute("SELECT pg_advisory_xact_lock(hashtext('veloz first run'))")
        execute("INSERT INTO firms (id, name) VALUES (%s, 'Demo Firm') ON CONFLICT DO NOTHING", (FIRM_ID,))
        execute(
            "INSERT INTO desks (id, firm_id, name) VALUES (%s, %s, 'Demo Desk') ON CONFLICT DO NOTHING",
            (DESK_ID, FIRM_ID),
        )
        execute(
            "INSERT INTO accounts (id, desk_id, name, venue, key_reference, mode)"
            " VALUES (%s, %s, 'Demo Account', %s, %s, 'PAPER') ON CONFLICT DO NOTHING",
            (ACCOUNT_ID, DESK_ID, VENUE, VENUE_KEY_REFERENCE),
        )
        for login in content["logins"]:
            _seed_user(connection, settings, login, replace_password=not content.get("seeded", False))
    if not content.get("seeded", False):
        _write_logins(settings.paths, content | {"seeded": True})


def _seed_user(
    connection: psycopg.Connection[tuple[Any, ...]], settings: Settings, login: dict[str, str], replace_password: bool
) -> None:
    """A user with grant and key. An existing password changes only while the logins' file isn't seeded yet."""
    user_id = login["user_id"]
    if replace_password or connection.execute("SELECT 1 FROM users WHERE id = %s", (user_id,)).fetchone() is None:
        display_name = f"Demo {login['username'].capitalize()}"
        connection.execute(
            "INSERT INTO users (id, firm_id, username, display_name, password_hash, role)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (id) DO UPDATE SET password_hash = excluded.password_hash",
            (
                user_id,
                FIRM_ID,
                login["username"],
                display_name,
                PasswordHasher().hash(login["password"]),
                login["role"],
            ),
        )
    connection.execute(
        "INSERT INTO account_grants (user_id, account_id) VALUES (%s, %s) ON CONFLICT DO NOTHING", (user_id, ACCOUNT_ID)
    )


def _demo_roster(paths: HomePaths) -> Roster:
    """The demo keys, for the demo account, on paper: the approver's approves, the trader's only signs sessions in."""
    entries = tuple(
        RosterEntry(
            key_id=key_id,
            user_id=user_id,
            public_key_hex=public_key_hex(paths.secret(f"{key_id}.key").read_text().strip()),
            account_ids=(ACCOUNT_ID,),
            paper_only=True,
            approves=approves,
        )
        for key_id, user_id, approves in (
            (APPROVER_KEY_ID, "user-approver", True),
            (TRADER_KEY_ID, "user-trader", False),
        )
    )
    return Roster(version=1, entries=entries, two_approvals_above_quote=TWO_APPROVALS_ABOVE_QUOTE)
