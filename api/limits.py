"""Bounds on what a client may send."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import problem
from core.types.codes import ReasonCode, Refusal

REQUEST_BODY_LIMIT_BYTES = 262_144


class BodyLimitMiddleware:
    """Refuses a request body over REQUEST_BODY_LIMIT_BYTES, declared or streamed."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > REQUEST_BODY_LIMIT_BYTES:
            await problem(_too_large(declared.decode("latin-1")))(scope, receive, send)
            return
        received_bytes = 0
        answered = False

        async def counted_receive() -> Message:
            nonlocal received_bytes
            if received_bytes > REQUEST_BODY_LIMIT_BYTES:
                return {"type": "http.disconnect"}
            message = await receive()
            received_bytes += len(message.get("body", b""))
            # FastAPI turns whatever is raised here into a plain 400, so the body just ends, and the answer is ours.
            return message if received_bytes <= REQUEST_BODY_LIMIT_BYTES else {"type": "http.disconnect"}

        async def guarded_send(message: Message) -> None:
            nonlocal answered
            if answered or received_bytes <= REQUEST_BODY_LIMIT_BYTES:
                answered = True
                await send(message)

        await self._app(scope, counted_receive, guarded_send)
        if received_bytes > REQUEST_BODY_LIMIT_BYTES and not answered:
            await problem(_too_large(str(received_bytes)))(scope, receive, send)


def _too_large(actual: str) -> Refusal:
    return Refusal(
        ReasonCode.REQUEST_TOO_LARGE,
        "The request body is larger than this service takes.",
        str(REQUEST_BODY_LIMIT_BYTES),
        actual[:20],
        "bytes",
    )
