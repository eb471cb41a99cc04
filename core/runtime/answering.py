"""How a call of the control plane is answered: a refusal travels as JSON in trailing metadata, beside the status code
that fits it. And how a request's parts are read.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn, TypeVar

import grpc
import grpc.aio
import msgspec
import structlog

from core.runtime.messages import REFUSAL_KEY, TRACEPARENT_KEY
from core.types.codes import ReasonCode, Refusal, RefusalError, refuse
from core.types.ids import TraceContext, parse_traceparent
from core.types.orders import Side

REQUESTED_BY_LENGTH_LIMIT = 128
REASON_LENGTH_LIMIT = 512
TEXT_IN_REFUSAL_LIMIT = 1_500

T = TypeVar("T")
_log = structlog.get_logger("engine.server")

_STATUS_BY_CODE = {
    ReasonCode.MARKET_INSTRUMENT_UNKNOWN: grpc.StatusCode.NOT_FOUND,
    ReasonCode.ORDER_UNKNOWN: grpc.StatusCode.NOT_FOUND,
    ReasonCode.RESOURCE_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ReasonCode.REQUEST_INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    ReasonCode.AUTH_TOKEN_INVALID: grpc.StatusCode.UNAUTHENTICATED,
    ReasonCode.AUTHORITY_KIND_NOT_ACCEPTED: grpc.StatusCode.PERMISSION_DENIED,
    ReasonCode.SERVICE_INTERNAL_ERROR: grpc.StatusCode.INTERNAL,
    ReasonCode.SERVICE_JOURNAL_UNAVAILABLE: grpc.StatusCode.RESOURCE_EXHAUSTED,
}

Context = grpc.aio.ServicerContext[Any, Any]


async def reply(context: Context, answer: Callable[[], T]) -> T:
    async def later() -> T:
        return answer()

    return await reply_later(context, later)


async def reply_later(context: Context, answer: Callable[[], Awaitable[T]]) -> T:
    try:
        return await answer()
    except RefusalError as error:
        await abort(context, error.refusal)
    except Exception:
        _log.exception("call_failed")
        await abort(
            context,
            Refusal(ReasonCode.SERVICE_INTERNAL_ERROR, "The engine failed at this call; its log says more."),
        )


async def abort(context: Context, refusal: Refusal) -> NoReturn:
    metadata = ((REFUSAL_KEY, encode_refusal(refusal)),)
    status = _STATUS_BY_CODE.get(refusal.code, grpc.StatusCode.FAILED_PRECONDITION)
    await context.abort(status, f"{refusal.code}", trailing_metadata=metadata)
    raise AssertionError("abort raises")


def encode_refusal(refusal: Refusal) -> str:
    """JSON in ASCII: other characters can't stand in metadata."""
    plain = msgspec.to_builtins(refusal)
    plain["message"] = plain["message"][:TEXT_IN_REFUSAL_LIMIT]
    return json.dumps(plain)


def trace_of(context: Context) -> TraceContext | None:
    for key, value in context.invocation_metadata() or ():
        if key == TRACEPARENT_KEY and isinstance(value, str):
            try:
                return parse_traceparent(value)
            except ValueError:
                # W3C: a header that can't be read is ignored, the call goes on.
                return None
    return None


def read_side(text: str) -> Side:
    try:
        return Side(text)
    except ValueError as error:
        raise refuse(ReasonCode.REQUEST_INVALID, f"side must be BUY or SELL, is {text[:32]!r}.") from error


def read_decimal(name: str, text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation as error:
        raise refuse(ReasonCode.REQUEST_INVALID, f"{name} must be a decimal, is {text[:32]!r}.") from error


def check_length(name: str, text: str, limit: int) -> None:
    if not 0 < len(text) <= limit:
        raise refuse(ReasonCode.REQUEST_INVALID, f"{name} must have 1 to {limit} characters, has {len(text)}.")
