"""Idempotency keys of suggestions: a client that heard no answer asks again, and there is one suggestion all the same.

A key belongs to one principal and one request for LIFETIME_S. It is claimed, durably, before the call; a call that was
refused gives it free again, because nothing came of it.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import msgspec
import structlog
from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import JSONB

from api.transactions import Transactions
from core.types.codes import ReasonCode, RefusalError, refuse
from core.types.ids import IdSource, TraceContext, new_span_id
from tools.contracts import Principal, ToolResult
from tools.ports import ResultReads

LIFETIME_S = 86_400
KEY_LIMIT_CHARS = 128
_log = structlog.get_logger("api.tools")
_KEY = re.compile(rf"[\x21-\x7e]{{1,{KEY_LIMIT_CHARS}}}")

_FORGET = text(
    "DELETE FROM idempotency_keys WHERE principal_id = :principal "
    "AND claimed_at < clock_timestamp() - make_interval(secs => :lifetime)"
)
_CLAIM = text(
    "INSERT INTO idempotency_keys (principal_id, key, request_digest, call_id) "
    "VALUES (:principal, :key, :digest, :call_id) ON CONFLICT DO NOTHING RETURNING call_id"
)
_ANSWERED = text(
    "UPDATE idempotency_keys SET stamp = :stamp WHERE principal_id = :principal AND key = :key AND call_id = :call_id"
).bindparams(bindparam("stamp", type_=JSONB))
_CLAIMED = text(
    "SELECT request_digest, call_id, stamp FROM idempotency_keys WHERE principal_id = :principal AND key = :key"
)
_RELEASE = text("DELETE FROM idempotency_keys WHERE principal_id = :principal AND key = :key AND call_id = :call_id")


class Stamp(msgspec.Struct, frozen=True):
    """Of ToolResult, what isn't in the stored result."""

    tool_version: str
    mode: str
    scope: tuple[str, ...]
    as_of_ns: int
    untrusted_paths: tuple[str, ...]
    source: tuple[str, ...]


class Earlier(msgspec.Struct, frozen=True):
    """The call that had the key before. stamp is what its result states beside the data, None until it was answered."""

    call_id: str
    stamp: Stamp | None


class IdempotencyKeys:
    """Keys in SQL, results where figures resolve."""

    def __init__(self, transactions: Transactions, results: ResultReads, ids: IdSource) -> None:
        self._transactions = transactions
        self._results = results
        self._ids = ids

    async def claim(self, principal: Principal, key: str, tool: str, arguments: Any, call_id: str) -> Earlier | None:
        """None when the key is now the call's.

        Raises REQUEST_INVALID, IDEMPOTENCY_KEY_REUSED, REQUEST_IN_PROGRESS, SERVICE_DATABASE_UNAVAILABLE.
        """
        if not _KEY.fullmatch(key):
            raise refuse(
                ReasonCode.REQUEST_INVALID,
                f"An idempotency key has 1 to {KEY_LIMIT_CHARS} visible ASCII characters.",
                limit=str(KEY_LIMIT_CHARS),
                actual=str(len(key)),
                unit="characters",
            )
        digest = _digest(tool, arguments)
        whose = {"principal": principal.user_id, "key": key}
        async with self._transactions(()) as connection:
            await connection.execute(_FORGET, {"principal": principal.user_id, "lifetime": LIFETIME_S})
            claimed = await connection.execute(_CLAIM, whose | {"digest": digest, "call_id": call_id})
            if claimed.one_or_none() is not None:
                return None
            row = (await connection.execute(_CLAIMED, whose)).one_or_none()
        if row is None:
            raise _in_progress(key)  # given free this moment
        if bytes(row.request_digest) != digest:
            raise refuse(
                ReasonCode.IDEMPOTENCY_KEY_REUSED,
                "This idempotency key came with another tool or other arguments before. Use a new one.",
                actual=key,
                unit="key",
            )
        return Earlier(row.call_id, None if row.stamp is None else msgspec.convert(row.stamp, Stamp))

    async def answered(self, principal: Principal, key: str, result: ToolResult) -> None:
        """Keep what the call came to. A refusal came to nothing, and gives the key free."""
        whose = {"principal": principal.user_id, "key": key, "call_id": result.call_id}
        try:
            async with self._transactions(()) as connection:
                if result.refusal is not None:
                    await connection.execute(_RELEASE, whose)
                    return
                stamp = Stamp(*(getattr(result, name) for name in Stamp.__struct_fields__))
                await connection.execute(_ANSWERED, whose | {"stamp": msgspec.to_builtins(stamp)})
        except RefusalError as error:
            # The call is over and recorded: its answer goes out. Who asks again is told that theirs was lost.
            _log.warning("idempotency_key_not_kept", call_id=result.call_id, code=error.refusal.code)

    async def answer_of(self, principal: Principal, key: str, earlier: Earlier) -> tuple[ToolResult, TraceContext]:
        """What the first call was answered. Raises REQUEST_IN_PROGRESS when that isn't there (yet)."""
        stored = await self._results.get(principal.account_ids, earlier.call_id)
        if stored is None or earlier.stamp is None:
            raise _in_progress(key)
        result = ToolResult(
            call_id=stored.call_id,
            tool=stored.tool,
            data=msgspec.json.decode(stored.canonical),
            refusal=None,
            digest_hex=stored.digest_hex,
            **msgspec.structs.asdict(earlier.stamp),
        )
        return result, TraceContext(stored.trace_id, new_span_id(self._ids))


def _digest(tool: str, arguments: Any) -> bytes:
    return hashlib.sha256(json.dumps([tool, arguments], sort_keys=True).encode()).digest()


def _in_progress(key: str) -> Exception:
    return refuse(
        ReasonCode.REQUEST_IN_PROGRESS,
        "A request with this idempotency key is under way, or its answer was lost. Look at your suggestions before you "
        "use a new key.",
        actual=key,
        unit="key",
    )
