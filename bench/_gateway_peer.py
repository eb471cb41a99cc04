"""A bare fastmcp server with one tool of the same shape, called by its own client in its own process.

It checks a type and records nothing. Speaks one JSON object a line: {"calls": n, "in_flight": k} is answered with
{"seconds": ..., "p50_us": ...}.
"""

from __future__ import annotations

import asyncio
import json
import sys
from time import perf_counter_ns

import uvloop
from fastmcp import Client, FastMCP

server = FastMCP("bare")


@server.tool
def get_ticker(symbol: str) -> dict[str, str]:
    """The same cells as the gateway's tool of that name."""
    price, quantity = "60000.00", "1.25"
    return {
        "symbol": symbol,
        **dict.fromkeys(("bid_price", "ask_price", "mid_price", "last_price", "spread", "spread_bps"), price),
        **dict.fromkeys(("bid_quantity", "ask_quantity", "last_quantity", "update_id"), quantity),
        **dict.fromkeys(("as_of", "as_of_ns", "exchange_time"), "2026-01-01T00:00:00.000000Z"),
    }


async def main() -> None:
    loop = asyncio.get_running_loop()
    async with Client(server) as client:
        print(json.dumps({"ready": True}), flush=True)
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            task = json.loads(line)
            durations: list[int] = []

            async def worker(calls: int, durations: list[int] = durations) -> None:
                for _ in range(calls):
                    started_ns = perf_counter_ns()
                    await client.call_tool("get_ticker", {"symbol": "BTCUSDT"})
                    durations.append(perf_counter_ns() - started_ns)

            each = task["calls"] // task["in_flight"]
            started_ns = perf_counter_ns()
            await asyncio.gather(*(worker(each) for _ in range(task["in_flight"])))
            elapsed_s = (perf_counter_ns() - started_ns) / 1e9
            durations.sort()
            answer = {"seconds": elapsed_s, "p50_us": durations[len(durations) // 2] / 1_000}
            print(json.dumps(answer), flush=True)


uvloop.run(main())
