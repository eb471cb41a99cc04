"""SQL over SQLAlchemy 2 and psycopg 3: one engine for each role, one transaction with its account scope.

Nothing runs as superuser. Every role's password is a file under VELOZ_HOME/secrets; settings name only the host and
the database.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from enum import StrEnum

import psycopg
from sqlalchemy import URL, exc, make_url, text
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from core.config import ConfigurationError, Settings
from core.types.codes import ReasonCode, Refusal, RefusalError

DRIVER = "postgresql+psycopg"
POOL_SIZE_CONNECTIONS = 5
POOL_OVERFLOW_CONNECTIONS = 5
POOL_WAIT_TIMEOUT_S = 2.0
CONNECTION_AGE_LIMIT_S = 1_800
CONNECT_TIMEOUT_S = 3
STATEMENT_TIMEOUT_MS = 5_000
LOCK_TIMEOUT_MS = 2_000
IDLE_IN_TRANSACTION_TIMEOUT_MS = 15_000
SCOPE_ACCOUNTS_LIMIT = 1_000

SET_SCOPE = text("SELECT set_config('veloz.account_ids', :account_ids, true)")


class DatabaseRole(StrEnum):
    """The roles that the launcher creates; values are what follows ``veloz_``."""

    OWNER = "owner"
    API = "api"
    AUDIT_WRITER = "audit_writer"
    LEDGER = "ledger"


class DatabaseUnavailableError(RefusalError):
    """The database can't be reached, is going down, or doesn't answer in time. Whether a commit under way at that
    moment succeeded is unknown."""

    def __init__(self, detail: str) -> None:
        super().__init__(
            Refusal(
                ReasonCode.SERVICE_DATABASE_UNAVAILABLE,
                f"The database doesn't answer ({detail}). Nothing was changed that you were told of; try again.",
            )
        )


def role_url(url: str, role: DatabaseRole | str, password: str) -> URL:
    """url with the role's user and password, for psycopg.

    Raises ConfigurationError when url isn't a PostgreSQL URL that names a database.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigurationError(f"database.url: not a URL: {url!r}; give postgresql://<host>/<database>") from error
    if not parsed.drivername.startswith("postgresql") or not parsed.database:
        raise ConfigurationError(
            f"database.url: {url!r} names no PostgreSQL database; give postgresql://<host>/<database>"
        )
    return parsed.set(drivername=DRIVER, username=f"veloz_{DatabaseRole(role)}", password=password)


def settings_url(settings: Settings, role: DatabaseRole | str) -> URL:
    """Where and as whom to connect, password included. Raises ConfigurationError."""
    role = DatabaseRole(role)
    if not settings.database.url:
        raise ConfigurationError(
            "database.url is empty: only `veloz up` starts the embedded PostgreSQL and tells its children "
            "where it is. Run `veloz up`, or set VELOZ_DATABASE__URL."
        )
    return role_url(settings.database.url, role, settings.read_secret(f"postgres-{role}.password"))


def create_engine(
    settings: Settings,
    role: DatabaseRole | str,
    *,
    statement_timeout_ms: int = STATEMENT_TIMEOUT_MS,
    pool_size: int = POOL_SIZE_CONNECTIONS,
) -> AsyncEngine:
    """An engine for one role (``api``, ``audit_writer``, ``ledger``, ``owner``). Connects on first use.

    Raises ConfigurationError when url or password are missing.
    """
    return engine_for(settings_url(settings, role), statement_timeout_ms=statement_timeout_ms, pool_size=pool_size)


def engine_for(
    url: URL, *, statement_timeout_ms: int = STATEMENT_TIMEOUT_MS, pool_size: int = POOL_SIZE_CONNECTIONS
) -> AsyncEngine:
    """An engine for a complete URL; create_engine is the usual way."""
    options = (
        f"-c statement_timeout={statement_timeout_ms} -c lock_timeout={LOCK_TIMEOUT_MS} "
        f"-c idle_in_transaction_session_timeout={IDLE_IN_TRANSACTION_TIMEOUT_MS} -c timezone=UTC"
    )
    return create_async_engine(
        url,
        pool_size=pool_size,
        max_overflow=POOL_OVERFLOW_CONNECTIONS,
        pool_timeout=POOL_WAIT_TIMEOUT_S,
        pool_recycle=CONNECTION_AGE_LIMIT_S,
        pool_pre_ping=True,
        hide_parameters=True,  # parameters are people's and accounts' data; errors go to logs
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "options": options, "application_name": url.username},
    )


@asynccontextmanager
async def scoped_session(engine: AsyncEngine, account_ids: Sequence[str]) -> AsyncIterator[AsyncConnection]:
    """One transaction that sees these accounts: committed at the end, rolled back when the body raises.

    An empty scope sees no account. Raises DatabaseUnavailableError, ValueError for an account id that can't be one.
    """
    if len(account_ids) > SCOPE_ACCOUNTS_LIMIT:
        raise ValueError(f"a scope of {len(account_ids)} accounts exceeds {SCOPE_ACCOUNTS_LIMIT}")
    for account_id in account_ids:
        if not account_id or "," in account_id:
            raise ValueError(f"not an account id: {account_id!r}")
    async with transaction(engine) as connection:
        await connection.execute(SET_SCOPE, {"account_ids": ",".join(account_ids)})
        yield connection


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """One transaction without an account scope: for roles that row-level security doesn't bind.

    Raises DatabaseUnavailableError.
    """
    with database_errors():
        async with engine.begin() as connection:
            yield connection


@contextmanager
def database_errors() -> Iterator[None]:
    """Turn what SQLAlchemy, psycopg and the socket say about an absent database into DatabaseUnavailableError."""
    try:
        yield
    except (exc.OperationalError, exc.InterfaceError) as error:
        raise DatabaseUnavailableError(_first_line(error.orig or error)) from error
    except exc.TimeoutError as error:
        raise DatabaseUnavailableError("all connections are in use") from error
    except (psycopg.OperationalError, psycopg.InterfaceError, ConnectionError) as error:
        raise DatabaseUnavailableError(_first_line(error)) from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
