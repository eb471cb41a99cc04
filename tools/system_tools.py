"""The tool that tells how the service itself does. It answers when a part is down: that is what it is asked for."""

from __future__ import annotations

import asyncio

from core.types.codes import ReasonCode, RefusalError
from core.types.views import EngineStatusView
from tools.market_tools import EVERYONE, LIVE
from tools.ports import PartHealth
from tools.projection_lag import behind
from tools.registry import DataScope, Source, ToolContext, ToolDefinition
from tools.values import Cells, ToolInput, ToolOutput, WholeText

HEALTH_TIMEOUT_MS = 5_000
NORMAL = "NORMAL"


class GetSystemHealthInput(ToolInput):
    pass


class PartCells(Cells):
    part: str
    healthy: bool
    detail: str | None


class GetSystemHealthOutput(ToolOutput):
    """healthy is true when every part is; what the engine would say is null while it doesn't answer."""

    healthy: bool
    count: WholeText
    parts: list[PartCells]
    environment: str | None
    kill_switch: str | None
    venue_connected: bool | None
    books_live: WholeText | None
    books: WholeText | None
    journal_sequence: WholeText | None
    projected_sequence: WholeText | None
    records_behind: WholeText | None


async def _get_system_health(context: ToolContext, arguments: GetSystemHealthInput) -> GetSystemHealthOutput:
    (status, engine), own = await asyncio.gather(_engine(context), context.ports.health.parts())
    projected = await context.ports.health.projected_sequence(status.engine_id) if status else None
    parts = [*engine, *own]
    return GetSystemHealthOutput(
        as_of_ns=status.now_ns if status else context.ports.clock.now_ns(),
        healthy=all(part.healthy for part in parts),
        count=len(parts),
        parts=[PartCells(part=part.part, healthy=part.healthy, detail=part.detail) for part in parts],
        environment=status.environment if status else None,
        kill_switch=status.kill_switch if status else None,
        venue_connected=status.venue_connected if status else None,
        books_live=sum(state == LIVE for state in status.books.values()) if status else None,
        books=len(status.books) if status else None,
        journal_sequence=status.journal_sequence if status else None,
        projected_sequence=projected,
        records_behind=await behind(context, status) if status else None,
    )


async def _engine(context: ToolContext) -> tuple[EngineStatusView | None, list[PartHealth]]:
    try:
        status = await context.ports.engine.status()
    except RefusalError as error:
        if error.refusal.code is not ReasonCode.SERVICE_ENGINE_UNAVAILABLE:
            raise
        return None, [PartHealth("engine", False, error.refusal.message)]
    live = all(state == LIVE for state in status.books.values())
    return status, [
        PartHealth("engine", True),
        PartHealth("venue", status.venue_connected, None if status.venue_connected else "the engine isn't connected"),
        PartHealth("journal", status.journal_problem is None, status.journal_problem),
        PartHealth("market data", live, None if live else "a book isn't verified at this moment"),
        PartHealth(
            "trading", status.kill_switch == NORMAL, None if status.kill_switch == NORMAL else "the kill switch is on"
        ),
    ]


SYSTEM_TOOLS = (
    ToolDefinition(
        name="get_system_health",
        version="1",
        kind="read",
        description=(
            "Whether the service works: engine, venue connection, journal, market data, kill switch, database, event "
            "log, and how many records SQL is behind the engine. It answers also while a part is down. Use it for "
            "`is everything running` and when other tools are refused. Not for how fresh one instrument's data is "
            "(get_feed_health)."
        ),
        input_model=GetSystemHealthInput,
        output_model=GetSystemHealthOutput,
        run=_get_system_health,
        roles=EVERYONE,
        scope=DataScope.SYSTEM,
        sources=(Source.ENGINE_STATUS, Source.SQL_PROJECTIONS, Source.GATEWAY),
        timeout_ms=HEALTH_TIMEOUT_MS,
        example={},
    ),
)
