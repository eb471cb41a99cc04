"""I4: an intent is on the disk, with its clientOrderId, before any byte of it reaches the venue."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from core.authority.proposal import proposal_bytes, proposal_digest
from core.config import Settings
from core.runtime import engine as engine_module
from core.storage.journal_files import JournalFile, PosixFolder
from core.storage.journal_format import GENESIS_HASH, decode_header, decode_record
from core.types.events import ApprovalDecided, OrderFilled, decode_event
from core.types.orders import OrderStatus, client_order_id
from core.venues.paper.server import PaperVenue
from tests.core.approvals import proposal
from tests.core.engine_support import RunningEngine


class PowerCut:
    """What a power cut at this moment would leave of each segment: what was synced, and nothing else."""

    def __init__(self) -> None:
        self.synced: dict[str, bytes] = {}

    def intents(self) -> set[str]:
        found: set[str] = set()
        previous = GENESIS_HASH
        for _, data in sorted(self.synced.items()):
            _, offset = decode_header(data)
            while any(data[offset : offset + 8]):
                record = decode_record(data, offset, previous)
                previous, offset = record.hash, record.end
                event = decode_event(record.payload)
                if isinstance(event, ApprovalDecided) and event.intent is not None:
                    found.add(event.intent.client_order_id)
        return found


class WatchedFile:
    def __init__(self, file: JournalFile, path: Path, disk: PowerCut) -> None:
        self._file, self._path, self._disk = file, path, disk

    def sync(self) -> None:
        self._file.sync()
        self._disk.synced[self._path.name] = self._path.read_bytes()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


async def test_when_the_venue_receives_an_order_its_intent_survives_a_power_cut(
    settings: Settings, venue: PaperVenue, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = PowerCut()

    class WatchedFolder(PosixFolder):
        def create(self, name: str) -> JournalFile:
            return WatchedFile(super().create(name), Path(self.path(name)), disk)

        def open(self, name: str) -> JournalFile:
            return WatchedFile(super().open(name), Path(self.path(name)), disk)

    monkeypatch.setattr(engine_module, "PosixFolder", WatchedFolder)
    received: list[tuple[str, bool]] = []
    place = venue.exchange.account.place

    def watched_place(request: Any) -> Any:
        received.append((request.client_order_id, request.client_order_id in disk.intents()))
        return place(request)

    monkeypatch.setattr(venue.exchange.account, "place", watched_place)
    engine = RunningEngine(settings)
    await engine.start()
    try:
        outcomes = [await engine.execute(await engine.propose()) for _ in range(3)]
        for outcome in outcomes:
            await engine.event(
                lambda event, order_id=outcome.client_order_id: (
                    isinstance(event, OrderFilled)
                    and event.client_order_id == order_id
                    and event.status is OrderStatus.FILLED
                )
            )
    finally:
        await engine.close()
    assert received == [(outcome.client_order_id, True) for outcome in outcomes]


async def test_the_client_order_id_follows_from_what_was_approved_alone(engine: RunningEngine) -> None:
    what = await engine.propose()
    digest = proposal_digest(proposal_bytes(what))
    outcome = await engine.execute(what)
    assert outcome.client_order_id == client_order_id(digest)


def test_the_client_order_id_is_pure_and_its_own_for_each_proposal() -> None:
    digests = [proposal_digest(proposal_bytes(proposal(suggestion_id=f"sug-{number}"))) for number in range(200)]
    digests += [hashlib.sha256(digest.encode()).hexdigest() for digest in digests]
    ids = [client_order_id(digest) for digest in digests]
    assert ids == [client_order_id(digest) for digest in digests]
    assert len(set(ids)) == len(digests)
    assert max(map(len, ids)) <= 36, "Binance takes 36 characters"
