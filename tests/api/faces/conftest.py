"""One running api for all tests of the faces: they look at the same gateway, and starting it takes longer than most."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from api.supervisor.nats import EmbeddedNats
from tests.api.house import House, open_house
from tests.postgres import PostgresServer


@pytest.fixture(scope="package")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """An embedded NATS: its URL and token."""
    folder = tmp_path_factory.mktemp("nats")
    server = EmbeddedNats(folder / "data", folder / "secrets")
    server.start()
    yield server.url, (folder / "secrets" / "nats.token").read_text().strip()
    server.stop()


@pytest.fixture(scope="package")
async def house(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer, nats: tuple[str, str]
) -> AsyncIterator[House]:
    database = postgres_server.create_database()
    folder: Path = tmp_path_factory.mktemp("house")
    async with open_house(folder / "home", database, *nats) as opened:
        yield opened
    postgres_server.drop_database(database)
