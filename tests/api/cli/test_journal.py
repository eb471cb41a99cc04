"""`veloz journal`: what it asks of the engine, what it reads by itself, and how it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from api.cli.app import app
from core.config import load_settings
from core.runtime.address import engine_address
from core.runtime.server import build_server
from core.storage.journal import Journal
from core.storage.journal_files import PosixFolder
from core.types.views import JournalSegmentView, JournalView

TOKEN = "ab" * 32
SEGMENTS = (
    JournalSegmentView(
        "0000000000000001-00000001.journal", 1, 1, 40, 9_000, True, "it is among the newest, which stay"
    ),
    JournalSegmentView("0000000000000041-00000002.journal", 2, 41, 57, 3_000, False, "it is being written"),
)

Veloz = Callable[..., Awaitable[Any]]


class Service:
    """The engine's answers, and what it was asked."""

    def __init__(self) -> None:
        self.turns = 0
        self.problem: str | None = None

    def journal_view(self) -> JournalView:
        return JournalView("engine-1", 57, "/srv/archive", 50, 48, self.problem, SEGMENTS)

    async def archive_journal(self) -> JournalView:
        self.turns += 1
        return self.journal_view()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VELOZ_HOME", str(tmp_path))
    for folder in ("secrets", "run"):
        (tmp_path / folder).mkdir(mode=0o700)
    (tmp_path / "secrets" / "engine-control.token").write_text(TOKEN)
    return tmp_path


@pytest.fixture
async def engine(home: Path) -> AsyncIterator[Service]:
    service = Service()
    server, _ = build_server(service, engine_address(load_settings(home)), TOKEN)  # type: ignore[arg-type]
    await server.start()
    yield service
    await server.stop(None)


async def veloz(*arguments: str) -> Any:
    return await asyncio.to_thread(lambda: CliRunner().invoke(app, [*arguments]))


@pytest.fixture
def with_archive(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    archive = home / "archive"
    archive.mkdir()
    monkeypatch.setenv("VELOZ_JOURNAL__ARCHIVE", str(archive))
    return archive


async def test_segments_are_shown_with_what_keeps_each(engine: Service) -> None:
    result = await veloz("journal", "ls")
    assert result.exit_code == 0, result.output
    for shown in ("1..40", "41..57", "it is being written", "/srv/archive", "projected up to 50, audited up to 48"):
        assert shown in result.output
    answer = json.loads((await veloz("journal", "ls", "--json")).stdout)
    assert [segment["last_sequence"] for segment in answer["segments"]] == [40, 57]
    assert engine.turns == 0


@pytest.mark.parametrize(("problem", "exit_code"), [(None, 0), ("No space left on device", 1)])
async def test_archiving_is_the_engines_work_and_its_failure_is_the_commands(
    engine: Service, with_archive: Path, problem: str | None, exit_code: int
) -> None:
    engine.problem = problem
    result = await veloz("journal", "archive", "--json")
    assert (result.exit_code, engine.turns, json.loads(result.stdout)["problem"]) == (exit_code, 1, problem)


async def test_archiving_without_an_archive_says_what_to_set(engine: Service) -> None:
    result = await veloz("journal", "archive", "--json")
    assert (result.exit_code, engine.turns) == (2, 0)
    assert json.loads(result.stdout)["error"]["code"] == "JOURNAL_NO_ARCHIVE"


@pytest.mark.parametrize("command", ["ls", "archive"])
async def test_without_an_engine_it_is_told(home: Path, with_archive: Path, command: str) -> None:
    assert (await veloz("journal", command)).exit_code == 3


async def test_a_journal_is_verified_without_an_engine(home: Path) -> None:
    assert (await veloz("journal", "verify", "--json")).exit_code == 2
    journal = Journal.open(PosixFolder(home / "journal"), "engine-1", inline=True)
    for number in range(3):
        journal.begin([b'{"number": %d}' % number])
    result = await veloz("journal", "verify", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert (answer["first_sequence"], answer["last_sequence"], answer["whole"]) == (1, 3, True)

    await journal.close()
    (segment,) = (home / "journal").glob("*.journal")
    data = bytearray(segment.read_bytes())
    data[-60] ^= 1
    segment.write_bytes(data)
    result = await veloz("journal", "verify")
    assert result.exit_code == 1
    assert "damaged at offset" in result.output.replace("\n", "")
