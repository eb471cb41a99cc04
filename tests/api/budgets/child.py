"""A process of its own that takes from a shared budget: `killed` holds ten and waits, others take until refused."""

from __future__ import annotations

import asyncio
import json
import sys

from api.budgets.repository import SqlBudgetLedger
from core.config import load_settings
from core.storage.database import DatabaseRole, create_engine
from core.types.clock import ManualClock
from core.types.codes import RefusalError
from tools.budgets import Bounds, BudgetLimits, Budgets, Measure

FREE = Bounds(None, None, None, None)
HELD = 10


def say(what: object) -> None:
    print(json.dumps(what), flush=True)


async def main(name: str, limit: int, now_ns: int) -> None:
    database = create_engine(load_settings(), DatabaseRole.API)
    budgets = Budgets(SqlBudgetLedger(database), name, ManualClock(now_ns))
    limits = BudgetLimits(FREE, Bounds(limit, None, None, None), FREE)
    say("ready")
    await asyncio.to_thread(sys.stdin.readline)
    taken = 0
    try:
        while True:
            reservation = await budgets.reserve("u", None, {Measure.CALLS: 1}, limits)
            taken += 1
            if name == "killed" and taken == HELD:
                say(f"holds {taken}")
                await asyncio.to_thread(sys.stdin.read)
            if name != "killed":
                reservation.settle({Measure.CALLS: 1})
    except RefusalError:
        await budgets.close()
        await database.dispose()
        say(taken)


asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
