"""A process of its own that leases ten tokens of a shared bucket, and holds them."""

from __future__ import annotations

import asyncio
import sys

from api.budgets.rates import SqlRateLedger
from core.config import load_settings
from core.storage.database import DatabaseRole, create_engine
from tools.rates import BucketSize, RateKey, RateWant

KEY = RateKey("principal", "u", "")


async def main() -> None:
    ledger = SqlRateLedger(create_engine(load_settings(), DatabaseRole.API))
    (grant,) = await ledger.take([RateWant(KEY, BucketSize(40, 1), needed=1, most=10)])
    print(f"leased {grant.granted}", flush=True)
    await asyncio.to_thread(sys.stdin.read)


asyncio.run(main())
