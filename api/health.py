"""Liveness and readiness."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Response
from sqlalchemy import text

from api.dependencies import CurrentServices
from core.types.codes import RefusalError

CHECK_TIMEOUT_S = 2.0

router = APIRouter(tags=["health"])


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/readyz")
async def readyz(services: CurrentServices, response: Response) -> dict[str, Any]:
    """The parts that a question needs answer too: 200 when all do, else 503 with what doesn't."""
    engine, database = await asyncio.gather(_engine(services), _database(services))
    nats = "ok" if services.events.connected else "not connected"
    parts = {"engine": engine, "database": database, "nats": nats}
    ready = all(state == "ok" for state in parts.values())
    response.status_code = 200 if ready else 503
    return {"status": "ok" if ready else "not ready", "mode": services.settings.mode, "parts": parts}


async def _engine(services: CurrentServices) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            status = await services.engine.status()
    except (RefusalError, TimeoutError) as error:
        return str(error) or "no answer in time"
    return "ok" if status.venue_connected else "the venue isn't connected"


async def _database(services: CurrentServices) -> str:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S), services.transactions(()) as connection:
            await connection.execute(text("SELECT 1"))
    except (RefusalError, TimeoutError) as error:
        return str(error) or "no answer in time"
    return "ok"
