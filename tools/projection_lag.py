"""How far SQL is behind the engine: what a tool that reads projections has to say beside its sums."""

from __future__ import annotations

import asyncio
from typing import Annotated

from pydantic import Field

from core.types.codes import ReasonCode, RefusalError
from core.types.views import EngineStatusView
from tools.registry import ToolContext
from tools.values import WholeText

LAG_TIMEOUT_S = 1.0

BehindText = Annotated[
    WholeText | None,
    Field(description="Records of the engine's journal that this doesn't hold yet; null while that isn't known."),
]


async def records_behind(context: ToolContext) -> int | None:
    """Journal records that SQL doesn't have yet; None while engine or database can't tell in time."""
    try:
        async with asyncio.timeout(LAG_TIMEOUT_S):
            status = await context.ports.engine.status()
            return await behind(context, status)
    except TimeoutError:
        return None
    except RefusalError as error:
        if error.refusal.code is not ReasonCode.SERVICE_ENGINE_UNAVAILABLE:
            raise
        return None


async def behind(context: ToolContext, status: EngineStatusView) -> int | None:
    projected = await context.ports.health.projected_sequence(status.engine_id)
    return None if projected is None else max(0, status.journal_sequence - projected)
