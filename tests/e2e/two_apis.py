"""One engine, one ledger and one database under two api processes, each a process of its own that can be killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

import httpx2

from api.supervisor.nats import EmbeddedNats
from core.authority.proposal import parse_proposal
from core.types.events import ApprovalDecided, JournalEvent
from core.types.ids import SystemIdSource
from tests.api.house import PASSWORD, seed_users
from tests.core.approvals import approve
from tests.core.venues.paper.support import Client
from tests.crash.processes import Process, Session
from tests.crash.products import SPOT
from tests.invariants.support import credentials
from tests.ports import unused_port
from tests.postgres import PostgresDatabase

APIS = 2
READY_TIMEOUT_S = 60
SETTLE_TIMEOUT_S = 60
POLL_S = 0.02
RECV_WINDOW_MS = 3_000
"""How old a request may be that the venue takes: a machine that stalls mustn't make it refuse one."""
SUGGESTIONS = "/api/v1/suggestions"
IDS = SystemIdSource()


class TwoApis:
    """client(n) is one of the two; what is asked of the service may go to either."""

    def __init__(self, home: Path, database: PostgresDatabase, broker: EmbeddedNats, token: str) -> None:
        self.session = Session(home, SPOT, recv_window_ms=RECV_WINDOW_MS, nats_url=broker.url)
        (home / "secrets" / "nats.token").write_text(token)
        database.settings(home)
        seed_users(database)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("VELOZ_")},
            "VELOZ_HOME": str(home),
            "VELOZ_NATS__URL": broker.url,
            "VELOZ_DATABASE__URL": database.url,
        }
        self.ledger = Process("ledger", environment, home / "logs" / "ledger.log")
        self.apis: list[Process] = []
        self.clients: list[httpx2.AsyncClient] = []
        for number in range(APIS):
            port = unused_port()
            own = {**environment, "VELOZ_API__PORT": str(port)}
            self.apis.append(Process("api", own, home / "logs" / f"api-{number}.log"))
            self.clients.append(httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=READY_TIMEOUT_S))
        self._tokens: dict[str, str] = {}

    async def start(self) -> None:
        for process in (*self.apis, self.ledger):
            await process.start()
        await self.session.start_venue()
        await self.session.engine.start()
        await self.session.engine_ready()
        async with asyncio.timeout(READY_TIMEOUT_S):
            for process, client in zip(self.apis, self.clients, strict=True):
                while not await _is_ready(client):
                    assert process.is_alive, process.last_words()
                    await asyncio.sleep(POLL_S)
        for username in ("trader", "approver"):
            answer = await self.clients[0].post("/api/v1/auth/login", json={"username": username, "password": PASSWORD})
            assert answer.status_code == 200, answer.text
            self._tokens[username] = answer.json()["access_token"]

    async def close(self) -> None:
        for client in self.clients:
            await client.aclose()
        for process in (*self.apis, self.ledger):
            if process.is_alive:
                await process.stop()
        await self.session.close()

    async def post(self, number: int, path: str, body: dict[str, Any], username: str = "approver") -> httpx2.Response:
        """To one api or the other, by number; again where a busy machine's answer is that nothing was done."""
        headers = {"Authorization": f"Bearer {self._tokens[username]}"}
        async with asyncio.timeout(SETTLE_TIMEOUT_S):
            while True:
                answer = await self.clients[number % APIS].post(path, json=body, headers=headers)
                if answer.status_code != 503 or answer.json()["code"] != "SERVICE_DATABASE_UNAVAILABLE":
                    return answer
                await asyncio.sleep(POLL_S)

    async def get(self, path: str, username: str = "approver") -> Any:
        headers = {"Authorization": f"Bearer {self._tokens[username]}"}
        return (await self.clients[0].get(path, headers=headers)).json()

    async def suggest(self, **changes: str) -> dict[str, Any]:
        """A suggestion that would fill at once, as an approver sees it."""
        arguments = {"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.002", "price_anchor": "ask", "offset_bps": "20"}
        answer = await self.post(0, "/api/v1/tools/suggest_order/calls", {"arguments": arguments | changes}, "trader")
        assert answer.status_code == 200, answer.text
        shown: dict[str, Any] = await self.get(f"{SUGGESTIONS}/{answer.json()['data']['suggestion_id']}")
        return shown

    async def resume(self, number: int, suggestion_id: str) -> int:
        """Wake a conversation with the claim that the suggestion was approved; how many events came of it."""
        body = {
            "threadId": IDS.new_ulid(),
            "runId": IDS.new_ulid(),
            "state": {},
            "messages": [],
            "tools": [],
            "context": [],
            "forwardedProps": {},
            "resume": [{"interruptId": suggestion_id, "status": "resolved", "payload": {"approved": True}}],
        }
        answer = await self.post(number, "/api/v1/copilot/runs", body, "trader")
        assert answer.status_code == 200, answer.text
        return answer.text.count("data:")

    async def orders(self) -> list[dict[str, Any]]:
        """Every order that the venue ever took, over its own REST interface."""
        client = Client(self.session.rest_url, credentials(self.session.settings))
        answer = await client.signed("GET", "/api/v3/allOrders", symbol="BTCUSDT")
        await client.http.aclose()
        assert answer.status_code == 200, answer.text
        orders: list[dict[str, Any]] = answer.json()
        return orders

    async def decisions(self, suggestion_id: str) -> list[ApprovalDecided]:
        """What the engine's journal has of it."""
        last = (await self.session.client.status()).journal_sequence
        events: list[JournalEvent] = []
        entries = self.session.client.stream_journal(0)
        async for entry in entries:
            events.append(entry.event())
            if entry.sequence >= last:
                break
        await entries.aclose()
        return [e for e in events if isinstance(e, ApprovalDecided) and e.suggestion_id == suggestion_id]

    async def status(self, suggestion_id: str, *expected: str) -> str:
        """The newest version's status, once it is one of these."""
        async with asyncio.timeout(SETTLE_TIMEOUT_S):
            while True:
                status = str((await self.get(f"{SUGGESTIONS}/{suggestion_id}/status"))["status"])
                if status in expected:
                    return status
                await asyncio.sleep(POLL_S)

    async def until(self, now_ns: int) -> None:
        """Until the engine's clock shows that time."""
        while True:
            if (await self.session.client.status()).now_ns >= now_ns:
                return


def approval(shown: dict[str, Any]) -> dict[str, Any]:
    """The approver's signature over what is shown."""
    _, digest, [(key_id, signature)] = approve(parse_proposal(shown["proposal_text"].encode()))
    assert digest == shown["digest"]
    return {"version": shown["version"], "digest": digest, "key_id": key_id, "signature": signature.hex()}


async def _is_ready(client: httpx2.AsyncClient) -> bool:
    with contextlib.suppress(httpx2.HTTPError):
        return (await client.get("/readyz")).status_code == 200
    return False
