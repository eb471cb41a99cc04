"""I8: secrets and personal data stay inside: what leaves has been redacted first.

A key, an e-mail address and a token go in wherever a person or a model can put them; then every byte that came out
is searched for them.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
import structlog

from api.results.repository import SqlResultStore
from api.services import open_services
from api.supervisor.nats import EmbeddedNats
from audit.logs import configure_logging
from core.config import Settings
from tests.api.house import House, open_house
from tests.core.engine_support import make_home, settings_for
from tests.postgres import PostgresDatabase

EXCHANGE_KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
EMAIL = "jane.doe@example.com"
CLAIMS = base64.urlsafe_b64encode(b'{"sub":"user-trader","exp":1900000000}').decode().rstrip("=")
JWT = f"eyJhbGciOiJIUzI1NiJ9.{CLAIMS}.c2lnbmF0dXJlLXNpZ25hdHVyZS1zaWduYXR1cmU"
SECRETS = (EXCHANGE_KEY, EMAIL, JWT)
MIXED = f"my key is {EXCHANGE_KEY}, mail {EMAIL} with {JWT}"


def assert_clean(where: str, data: bytes | str) -> None:
    text = data.decode(errors="replace") if isinstance(data, bytes) else data
    for secret in SECRETS:
        assert secret not in text, f"{secret[:12]}... is in {where}"
    assert "jane" not in text.lower(), where


@contextlib.contextmanager
def captured_logs() -> Iterator[io.StringIO]:
    """All that this process logs, as `python -m api.processes` sets it up."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    configure_logging("api", "debug", stream)
    try:
        yield stream
    finally:
        structlog.configure(**before)
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.captureWarnings(False)


def every_row(postgres: PostgresDatabase) -> Iterator[tuple[str, bytes]]:
    """Each row of each table: as text, and its byte columns as they are."""
    with postgres.connect("owner") as connection:
        tables = connection.execute(
            "SELECT table_schema, table_name FROM information_schema.tables "
            "WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        connection.execute("SET row_security = off")
        for schema, table in tables:
            for row in connection.execute(f'SELECT * FROM "{schema}"."{table}"').fetchall():
                for cell in row:
                    data = bytes(cell) if isinstance(cell, bytes | memoryview) else str(cell).encode()
                    yield f"{schema}.{table}", data


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[tuple[str, str]]:
    server = EmbeddedNats(tmp_path / "nats", tmp_path / "nats-secrets")
    server.start()
    yield server.url, (tmp_path / "nats-secrets" / "nats.token").read_text().strip()
    server.stop()


async def stored_results(house: House, run_ids: list[str]) -> list[bytes]:
    """The tool results of these runs, opened with the key."""
    store: SqlResultStore = house.api.services.results
    found: list[bytes] = []
    for run_id in run_ids:
        run = await house.api.http.get(f"/api/v1/copilot/runs/{run_id}", headers=await house.api.as_("trader"))
        for call in run.json()["tool_calls"]:
            result = await store.get(("acct-demo",), call["call_id"])
            if result is not None:
                found.append(result.canonical)
    return found


async def run_log(url: str, token: str) -> bytes:
    """Everything in JetStream's log of runs."""
    client = await nats.connect(url, token=token)
    streams = client.jetstream()
    messages = (await streams.stream_info("RUNS")).state.messages
    data = b"".join([(await streams.get_msg("RUNS", seq=n)).data or b"" for n in range(1, messages + 1)])
    await client.close()
    assert data
    return data


async def test_what_a_person_or_a_model_puts_in_never_comes_out(
    tmp_path: Path, postgres: PostgresDatabase, nats_server: tuple[str, str]
) -> None:
    with captured_logs() as logs:
        async with open_house(tmp_path / "home", postgres, *nats_server) as house:
            asked, _ = await house.api.ask(f"what is the spread on BTCUSDT? {MIXED}")
            house.model.next_calls.append(("search_reviews", {"query": f"losses of {EMAIL} {EXCHANGE_KEY} {JWT}"}))
            searched, _ = await house.api.ask("search my past trades for losses")
            house.model.next_calls.append(("get_ticker", {"symbol": EXCHANGE_KEY}))
            refused, _ = await house.api.ask("and what is the price of BTCUSDT?")

            await house.api.http.post("/api/v1/auth/login", json={"username": EMAIL, "password": JWT})
            await house.api.http.get("/api/v1/me", headers={"Authorization": f"Bearer {JWT}"})
            structlog.get_logger("test").warning(MIXED, api_key="short", note=[EMAIL])
            try:
                raise RuntimeError(MIXED)
            except RuntimeError:
                structlog.get_logger("test").exception("it failed")
                logging.getLogger("library").exception("it failed for %s", EMAIL)

            assert len(house.model.bodies) >= 6
            for body in house.model.bodies:
                assert_clean("what the model was sent", body)
                assert json.loads(body)["messages"]
            results = await stored_results(house, [asked, searched, refused])
            assert results
            for result in results:
                assert_clean("a stored result", result)
            assert_clean("the runs' event log", await run_log(*nats_server))
            rows = list(every_row(postgres))
            assert {"audit.inbox", "public.runs", "public.tool_results"} <= {table for table, _ in rows}
            for table, data in rows:
                assert_clean(table, data)
    assert "it failed" in logs.getvalue()
    assert_clean("the log", logs.getvalue())


async def test_venue_keys_are_asked_for_by_the_engine_and_the_venue_alone(
    tmp_path: Path, postgres: PostgresDatabase, nats_server: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of everything that the api opens, nothing is a venue's key."""
    make_home(tmp_path / "home")
    postgres.settings(tmp_path / "home")
    read: list[str] = []
    read_secret: Any = Settings.read_secret

    def watched(settings: Settings, name: str) -> str:
        read.append(name)
        return str(read_secret(settings, name))

    monkeypatch.setattr(Settings, "read_secret", watched)
    settings = settings_for(tmp_path / "home", VELOZ_DATABASE__URL=postgres.url)
    async with open_services(settings) as services:
        await services.load()
    assert "jwt.key" in read
    assert not [name for name in read if name.startswith(("venue-", "root", "demo-"))]
