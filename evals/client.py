"""A user of a running VeloZ, over its public interface only."""

from __future__ import annotations

import json
import os
from typing import Any

import httpx2
from ulid import ULID

from core.config.paths import HomePaths, default_home

REQUEST_TIMEOUT_S = 120.0
CONNECT_TIMEOUT_S = 5.0
DEFAULT_USER = "trader"


class ServiceError(Exception):
    """The service can't be used; the text says what to do."""


def find_service(url: str | None) -> str:
    """The given URL, else VELOZ_URL, else the service that runs under VELOZ_HOME. Raises ServiceError."""
    if found := url or os.environ.get("VELOZ_URL"):
        return found.rstrip("/")
    service_file = HomePaths(default_home()).service_file
    try:
        return str(json.loads(service_file.read_text())["api_url"])
    except (OSError, ValueError, KeyError) as error:
        raise ServiceError(
            f"No service is known: {service_file} can't be read. Start one with `veloz up`, or give --url or VELOZ_URL."
        ) from error


def find_password(user: str) -> str:
    """VELOZ_PASSWORD, else the demo login's under VELOZ_HOME. Raises ServiceError."""
    if password := os.environ.get("VELOZ_PASSWORD"):
        return password
    path = HomePaths(default_home()).demo_logins
    try:
        logins = json.loads(path.read_text())["logins"]
        return str(next(login["password"] for login in logins if login["username"] == user))
    except (OSError, ValueError, KeyError, StopIteration) as error:
        raise ServiceError(
            f"No password for {user}: set VELOZ_PASSWORD, or VELOZ_HOME to where {path.name} is."
        ) from error


class VelozClient:
    """Asks questions as one logged-in user."""

    def __init__(self, url: str) -> None:
        timeout = httpx2.Timeout(REQUEST_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        self._client = httpx2.AsyncClient(base_url=url, timeout=timeout, trust_env=False)

    async def __aenter__(self) -> VelozClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()

    async def log_in(self, user: str, password: str) -> None:
        """Raises ServiceError."""
        tokens = await self._json("POST", "/api/v1/auth/login", {"username": user, "password": password})
        self._client.headers["Authorization"] = f"Bearer {tokens['access_token']}"

    async def ask(self, question: str) -> dict[str, Any]:
        """Run one question to its end and return the run's outcome. Raises ServiceError."""
        run_id = str(ULID())
        body = {
            "threadId": str(ULID()),
            "runId": run_id,
            "state": {},
            "messages": [{"id": str(ULID()), "role": "user", "content": question}],
            "tools": [],
            "context": [],
            "forwardedProps": {},
        }
        try:
            async with self._client.stream("POST", "/api/v1/copilot/runs", json=body) as response:
                if response.is_error:
                    raise ServiceError(f"POST /api/v1/copilot/runs: {response.status_code} {await response.aread()!r}")
                async for _ in response.aiter_bytes():
                    pass
        except httpx2.HTTPError as error:
            raise ServiceError(f"{self._client.base_url} doesn't answer: {error!r}") from error
        outcome: dict[str, Any] = await self._json("GET", f"/api/v1/copilot/runs/{run_id}")
        return outcome

    async def _json(self, method: str, path: str, body: Any = None) -> Any:
        try:
            response = await self._client.request(method, path, json=body)
        except httpx2.HTTPError as error:
            raise ServiceError(f"{self._client.base_url} doesn't answer: {error!r}") from error
        if response.is_error:
            raise ServiceError(f"{method} {path}: {response.status_code} {response.text[:500]}")
        return response.json()
