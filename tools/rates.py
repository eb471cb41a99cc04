"""Rates of users, tools and accounts: token buckets that all processes take from.

The buckets are kept by a ledger that the processes share. So that a call doesn't wait for it each time, a process
leases some tokens and takes from those. What is leased has left the bucket, so all processes together never get more
than the rate; what a killed process had leased comes back as the bucket refills, and what lay idle for LEASE_TTL_S is
forgotten in the same way.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from core.types.clock import NS_PER_MS, NS_PER_S, Clock
from core.types.codes import ReasonCode, RefusalError, refuse

BUCKETS_LIMIT = 20_000
LEASE_TTL_S = 1
SHARE = 4
"""Of what a bucket has left a process leases at most this part beyond what it needs at once."""
ATTEMPTS_LIMIT = 8
MICRO_PER_TOKEN = 1_000_000
NS_PER_US = 1_000


class RateKey(msgspec.Struct, frozen=True, order=True, cache_hash=True):
    """One bucket: what it counts, of which user or account, of which tool. What doesn't matter is empty."""

    kind: str
    owner: str
    tool: str


@dataclass(frozen=True, slots=True)
class BucketSize:
    burst_tokens: int
    tokens_per_s: int


class RateWant(msgspec.Struct, frozen=True):
    """needed are the tokens that calls wait for; up to `most` may be leased beyond them, a SHARE of what is left."""

    key: RateKey
    size: BucketSize
    needed: int
    most: int


class RateGrant(msgspec.Struct, frozen=True):
    """granted whole tokens; left_micro millionths of one are in the bucket after that."""

    granted: int
    left_micro: int


class RateLedger(Protocol):
    """Who keeps the buckets for all processes. Raises RefusalError(SERVICE_DATABASE_UNAVAILABLE).

    take MUST be atomic for each bucket. wants come in the order of their keys, so that processes don't deadlock.
    """

    async def take(self, wants: list[RateWant]) -> list[RateGrant]: ...


@dataclass(slots=True)
class _Block:
    """What this process has leased of a bucket, and until when asking for more is of no use."""

    left: int = 0
    leased_ns: int = 0
    left_micro: int = 0
    empty_from_ns: int = 0
    empty_until_ns: int = 0

    def forget_idle(self, now_ns: int) -> None:
        # A clock that stepped back makes a lease's age unknown, too.
        if self.left and not 0 <= now_ns - self.leased_ns <= LEASE_TTL_S * NS_PER_S:
            self.left = 0

    def is_empty(self, now_ns: int) -> bool:
        return self.empty_from_ns <= now_ns < self.empty_until_ns


Keys = Sequence[tuple[RateKey, BucketSize]]


class Rates:
    """This process's part of all buckets: it keeps those of the BUCKETS_LIMIT that were used last."""

    def __init__(self, ledger: RateLedger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock
        self._blocks: OrderedDict[RateKey, _Block] = OrderedDict()
        self._needs: dict[RateKey, RateWant] = {}
        self._asking = asyncio.Lock()

    def take_at_once(self, keys: Keys, cost: int) -> bool:
        """take() where this process has leased enough of each; False leaves it to take()."""
        return _taken(self._fresh(keys, self._clock.now_ns()), cost)

    async def take(self, keys: Keys, cost: int) -> None:
        """From all of them or from none.

        Raises RefusalError: TOOL_RATE_EXCEEDED, SERVICE_DATABASE_UNAVAILABLE.
        """
        for _ in range(ATTEMPTS_LIMIT):
            now_ns = self._clock.now_ns()
            blocks = self._fresh(keys, now_ns)
            if _taken(blocks, cost):
                return
            short = [(block, *named) for block, named in zip(blocks, keys, strict=True) if block.left < cost]
            for block, key, size in short:
                if block.is_empty(now_ns):
                    raise _exceeded(key, size, block, cost)
            self._need([(key, size) for _, key, size in short], cost)
            async with self._asking:
                if self._needs:  # all that wait here are asked for at once
                    await self._lease()
        raise _exceeded(key, size, block, cost)  # others were quicker each time

    def _fresh(self, keys: Keys, now_ns: int) -> list[_Block]:
        blocks = []
        for key, _ in keys:
            block = self._blocks.get(key)
            if block is None:
                block = self._blocks[key] = _Block()
            else:
                self._blocks.move_to_end(key)
                block.forget_idle(now_ns)
            blocks.append(block)
        while len(self._blocks) > BUCKETS_LIMIT:
            self._blocks.popitem(last=False)
        return blocks

    def _need(self, keys: Keys, cost: int) -> None:
        for key, size in keys:
            earlier = self._needs.get(key)
            needed = cost + (earlier.needed if earlier else 0)
            self._needs[key] = RateWant(key, size, needed, size.tokens_per_s * LEASE_TTL_S)

    async def _lease(self) -> None:
        wants, self._needs = sorted(self._needs.values(), key=lambda want: want.key), {}
        grants = await self._ledger.take(wants)
        now_ns = self._clock.now_ns()
        for want, grant in zip(wants, grants, strict=True):
            block = self._blocks.setdefault(want.key, _Block())
            block.left += grant.granted
            block.left_micro = grant.left_micro
            block.leased_ns = now_ns
            if grant.granted < want.needed:
                missing_us = max(0, MICRO_PER_TOKEN - grant.left_micro) // want.size.tokens_per_s
                block.empty_from_ns, block.empty_until_ns = now_ns, now_ns + missing_us * NS_PER_US


def _taken(blocks: list[_Block], cost: int) -> bool:
    for block in blocks:
        if block.left < cost:
            return False
    for block in blocks:
        block.left -= cost
    return True


_TOLD = {
    "principal_tool": "You call {tool} too often.",
    "principal": "You call tools too often.",
    "tool": "Everybody together calls {tool} too often.",
    "account": "Tools are called too often about this account.",
}


def _exceeded(key: RateKey, size: BucketSize, block: _Block, cost: int) -> RefusalError:
    missing_micro = (cost - block.left) * MICRO_PER_TOKEN - block.left_micro
    wait_ms = max(0, missing_micro) * NS_PER_US // size.tokens_per_s // NS_PER_MS + 1
    return refuse(
        ReasonCode.TOOL_RATE_EXCEEDED,
        f"{_TOLD[key.kind].format(tool=key.tool)} Wait {wait_ms} ms.",
        limit=str(size.tokens_per_s),
        actual=str(size.burst_tokens),
        unit="calls per s, after a burst",
        retry_after_ms=wait_ms,
    )


@dataclass(slots=True)
class _Bucket:
    micro_tokens: int
    refilled_ns: int


class InProcessRateLedger:
    """Buckets within this process, for one that shares with none. One that was long unused starts full again."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: OrderedDict[RateKey, _Bucket] = OrderedDict()

    async def take(self, wants: list[RateWant]) -> list[RateGrant]:
        return [self._one(want, self._clock.now_ns()) for want in wants]

    def _one(self, want: RateWant, now_ns: int) -> RateGrant:
        full = want.size.burst_tokens * MICRO_PER_TOKEN
        bucket = self._buckets.setdefault(want.key, _Bucket(full, now_ns))
        self._buckets.move_to_end(want.key)
        while len(self._buckets) > BUCKETS_LIMIT:
            self._buckets.popitem(last=False)
        # A clock that stepped back refills nothing.
        elapsed_ns = max(0, now_ns - bucket.refilled_ns)
        bucket.micro_tokens = min(full, bucket.micro_tokens + elapsed_ns * want.size.tokens_per_s // NS_PER_US)
        bucket.refilled_ns = now_ns
        whole = bucket.micro_tokens // MICRO_PER_TOKEN
        granted = min(whole, max(want.needed, min(want.most, whole // SHARE)))
        bucket.micro_tokens -= granted * MICRO_PER_TOKEN
        return RateGrant(granted, bucket.micro_tokens)
