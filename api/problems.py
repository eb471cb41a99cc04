"""Errors as RFC 9457 problem+json with a stable `code`."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.exc import DataError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from core.types.codes import ReasonCode, Refusal, RefusalError

MEDIA_TYPE = "application/problem+json"
VALIDATION_PROBLEMS_SHOWN = 5

_STATUS_BY_CODE = {
    ReasonCode.AUTH_CREDENTIALS_INVALID: HTTPStatus.UNAUTHORIZED,
    ReasonCode.AUTH_TOKEN_INVALID: HTTPStatus.UNAUTHORIZED,
    ReasonCode.AUTH_TOKEN_EXPIRED: HTTPStatus.UNAUTHORIZED,
    ReasonCode.AUTH_REFRESH_REUSED: HTTPStatus.UNAUTHORIZED,
    ReasonCode.AUTH_AGENT_REVOKED: HTTPStatus.UNAUTHORIZED,
    ReasonCode.AUTH_RATE_EXCEEDED: HTTPStatus.TOO_MANY_REQUESTS,
    ReasonCode.TOOL_RATE_EXCEEDED: HTTPStatus.TOO_MANY_REQUESTS,
    ReasonCode.TOOL_BUDGET_EXCEEDED: HTTPStatus.TOO_MANY_REQUESTS,
    ReasonCode.COPILOT_BUDGET_EXCEEDED: HTTPStatus.TOO_MANY_REQUESTS,
    ReasonCode.REQUEST_INVALID: HTTPStatus.UNPROCESSABLE_ENTITY,
    ReasonCode.REQUEST_TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    ReasonCode.AUTHORITY_DOCUMENT_MALFORMED: HTTPStatus.UNPROCESSABLE_ENTITY,
    ReasonCode.RISK_RULES_INVALID: HTTPStatus.UNPROCESSABLE_ENTITY,
    ReasonCode.RESOURCE_NOT_FOUND: HTTPStatus.NOT_FOUND,
    ReasonCode.MARKET_INSTRUMENT_UNKNOWN: HTTPStatus.NOT_FOUND,
    ReasonCode.SERVICE_INTERNAL_ERROR: HTTPStatus.INTERNAL_SERVER_ERROR,
    ReasonCode.TOOL_UNKNOWN: HTTPStatus.NOT_FOUND,
    ReasonCode.TOOL_NOT_PERMITTED: HTTPStatus.FORBIDDEN,
    ReasonCode.TOOL_FAILED: HTTPStatus.INTERNAL_SERVER_ERROR,
    ReasonCode.TOOL_DEADLINE_EXCEEDED: HTTPStatus.GATEWAY_TIMEOUT,
}
_STATUS_BY_CATEGORY = {
    "AUTH": HTTPStatus.FORBIDDEN,
    "AUTHORITY": HTTPStatus.FORBIDDEN,
    "POLICY": HTTPStatus.FORBIDDEN,
    "TOOL": HTTPStatus.UNPROCESSABLE_ENTITY,
    "SERVICE": HTTPStatus.SERVICE_UNAVAILABLE,
    "COPILOT": HTTPStatus.BAD_GATEWAY,
}

# Until the window behind a code has let one more through; a budget may be a run's or a day's, so it is worth a look
# once a minute and no more.
_RETRY_AFTER_S = {
    ReasonCode.AUTH_RATE_EXCEEDED: 60,
    ReasonCode.TOOL_BUDGET_EXCEEDED: 60,
    ReasonCode.COPILOT_BUDGET_EXCEEDED: 60,
}
DEFAULT_RETRY_AFTER_S = 1

log = structlog.get_logger("api")


class ProblemResponse(BaseModel):
    """RFC 9457, with our stable `code`; limit and actual where there are any."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    limit: str | None = None
    actual: str | None = None
    unit: str | None = None


def status_of(code: ReasonCode) -> HTTPStatus:
    """The HTTP status of a refusal; business refusals are 409."""
    category = code.value.split("_", 1)[0]
    return _STATUS_BY_CODE.get(code) or _STATUS_BY_CATEGORY.get(category, HTTPStatus.CONFLICT)


def refusal_cells(refusal: Refusal) -> dict[str, str]:
    """Those of its fields that are set."""
    cells: dict[str, str | None] = msgspec.to_builtins(refusal)
    return {name: value for name, value in cells.items() if value is not None}


def problem(refusal: Refusal, headers: dict[str, str] | None = None, **members: Any) -> Response:
    """The response for a refusal; members are further fields of the problem."""
    status = status_of(refusal.code)
    body = {
        "type": f"urn:veloz:problem:{refusal.code.value.lower()}",
        "title": status.phrase,
        "status": status.value,
        "detail": refusal.message,
        "code": refusal.code.value,
    } | members
    body |= {name: value for name in ("limit", "actual", "unit") if (value := getattr(refusal, name)) is not None}
    if status is HTTPStatus.TOO_MANY_REQUESTS:
        retry_after_s = _RETRY_AFTER_S.get(refusal.code, DEFAULT_RETRY_AFTER_S)
        headers = {"Retry-After": str(retry_after_s)} | (headers or {})
    return Response(_encoded(body), status.value, headers, MEDIA_TYPE)


def _encoded(body: dict[str, Any]) -> bytes:
    """What a refusal repeats of a request may be no valid Unicode, which JSON can't hold."""
    try:
        return msgspec.json.encode(body)
    except UnicodeEncodeError:
        return msgspec.json.encode(
            {
                name: value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
                for name, value in body.items()
            }
        )


def retry_after(wait_ms: int | None) -> dict[str, str] | None:
    """The header for a wait that is known; whole seconds, as HTTP has them."""
    return None if wait_ms is None else {"Retry-After": str(-(-wait_ms // 1_000))}


def install(app: FastAPI) -> None:
    """Every error leaves as a problem, the unexpected ones without their internals."""

    async def on_refusal(_: Request, error: Exception) -> Response:
        assert isinstance(error, RefusalError)
        challenge = {"WWW-Authenticate": "Bearer"} if status_of(error.refusal.code) == 401 else None
        return problem(error.refusal, challenge or retry_after(error.retry_after_ms))

    async def on_invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        shown = [
            f"{'.'.join(str(part) for part in item['loc'])}: {item['msg']}"
            for item in error.errors()[:VALIDATION_PROBLEMS_SHOWN]
        ]
        return problem(Refusal(ReasonCode.REQUEST_INVALID, "; ".join(shown)))

    async def on_unstorable(_: Request, __: Exception) -> Response:
        # PostgreSQL keeps no NUL in a text, wherever in the request it came from.
        return problem(
            Refusal(ReasonCode.REQUEST_INVALID, "A text in the request holds a character that can't be kept.")
        )

    async def on_http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == HTTPStatus.NOT_FOUND:
            return problem(Refusal(ReasonCode.RESOURCE_NOT_FOUND, "There is nothing at this address. See /docs."))
        body = {"type": "about:blank", "title": str(error.detail), "status": error.status_code}
        body["code"] = ReasonCode.REQUEST_INVALID.value
        headers = dict(error.headers) if error.headers else None
        return Response(_encoded(body), error.status_code, headers, MEDIA_TYPE)

    async def on_unexpected(request: Request, error: Exception) -> Response:
        log.error("request_failed", path=request.url.path, exc_info=error)
        return problem(
            Refusal(ReasonCode.SERVICE_INTERNAL_ERROR, "The service failed on this request; its log has the details.")
        )

    app.add_exception_handler(RefusalError, on_refusal)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(DataError, on_unstorable)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_unexpected)
