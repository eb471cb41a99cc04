"""Fixtures for everyone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.patience import patience
from tests.postgres import PostgresDatabase, PostgresServer

structlog.configure(  # its default draws tracebacks with all locals, which takes seconds
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.processors.KeyValueRenderer(),
    ]
)

# How long an example takes is the machine's affair.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# What passed yesterday passes today: the examples follow from the test. Others are looked for with
# --hypothesis-profile=explore.
settings.register_profile("steady", settings.get_profile("explore"), derandomize=True)
settings.load_profile("steady")


@pytest.fixture(scope="session", autouse=True)
def patient_product() -> Iterator[None]:
    with patience():
        yield


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """PostgreSQL 18 with pgvector, running for the whole session."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[PostgresDatabase]:
    """A migrated database for one test."""
    database = postgres_server.create_database()
    yield database
    postgres_server.drop_database(database)
