"""The offline planner as a Chat Completions server: an ASGI app without state, so one code path serves it and a real
provider. It reads the messages and tools of the request and answers with the next tool calls or with the answer."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from agent.planner.answers import compose
from agent.planner.changes import SUGGESTING, Request
from agent.planner.classifier import Intent
from agent.planner.planning import SUGGEST_TOOLS, Call, Done, Results, plan_clause
from agent.planner.reading import Clause, Reader, trained_reader
from agent.planner.requests import plan_request
from core.types.clock import Clock
from core.types.codes import ReasonCode
from core.types.ids import IdSource

PLANNER_MODEL = "veloz-offline-planner/1"
BODY_LIMIT_BYTES = 4_194_304
HISTORY_LIMIT_MESSAGES = 20
STAGES_LIMIT = 6
ONE_ORDER = "I take one order at a time, the first you named. Ask for the other one on its own."

_SUGGESTION_ID = re.compile(r"\b[Ss]uggestion ([0-7][0-9A-HJKMNP-TV-Z]{25})\b")

Message = MutableMapping[str, Any]


class _BadRequest(Exception):
    """The request isn't one that can be answered; the text says why."""


class Decision(msgspec.Struct, frozen=True):
    """The next step: either calls or an answer."""

    calls: tuple[Call, ...] = ()
    text: str = ""


def decide(reader: Reader, messages: list[dict[str, Any]], tools: dict[str, dict[str, Any]]) -> Decision:
    """The next step for a conversation. Raises _BadRequest when it holds no question."""
    last_user = next((i for i in reversed(range(len(messages))) if messages[i].get("role") == "user"), None)
    if last_user is None:
        raise _BadRequest("messages hold no user message")
    question = _text(messages[last_user])
    history = messages[max(0, last_user - HISTORY_LIMIT_MESSAGES) : last_user]
    earlier = tuple(_text(m) for m in history if m.get("role") == "user")
    results = Results(_done(messages[last_user + 1 :]))
    read = [_with_suggestion(clause, history) for clause in reader.read(question, earlier)]
    clauses = _one_order(read)
    rounds = sum(1 for m in messages[last_user + 1 :] if m.get("role") == "assistant")
    todo: list[Call] = []
    parts: list[str] = []
    for clause in clauses:
        plan = plan_request if isinstance(clause.intent, Request) else plan_clause
        wanted = plan(clause, results, tools)
        missing = [call for call in wanted.calls if results.find(call) is None]
        todo.extend(call for call in missing if call not in todo)
        done = [item for call in wanted.calls if (item := results.find(call)) is not None]
        text = compose(clause, done)
        parts.extend(part for part in (text, wanted.ask) if part and not (wanted.ask and clause.intent is None))
    # Reads first: an order is suggested once the rest of the question has been looked up.
    reads = tuple(call for call in todo if call.tool not in SUGGEST_TOOLS)
    if todo and rounds < STAGES_LIMIT:
        return Decision(calls=reads or tuple(todo[:1]))
    if len(clauses) < len(read):
        parts.append(ONE_ORDER)
    return Decision(text="\n\n".join(dict.fromkeys(parts)) or "I found nothing to answer that with.")


def _one_order(clauses: list[Clause]) -> list[Clause]:
    """Only the first order of a question is suggested: each one is decided on by itself."""
    out: list[Clause] = []
    for clause in clauses:
        if clause.intent in SUGGESTING and any(c.intent in SUGGESTING for c in out):
            continue
        out.append(clause)
    return out


def _with_suggestion(clause: Clause, history: list[dict[str, Any]]) -> Clause:
    """ "What became of it?" means the suggestion that was named last."""
    if clause.intent is not Intent.SUGGESTION_STATUS or clause.slots.suggestion_id is not None:
        return clause
    for message in reversed(history):
        if message.get("role") == "assistant" and (found := _SUGGESTION_ID.findall(_text(message))):
            slots = msgspec.structs.replace(clause.slots, suggestion_id=found[-1])
            return msgspec.structs.replace(clause, slots=slots)
    return clause


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _done(messages: list[dict[str, Any]]) -> list[Done]:
    """The calls of this turn with their results."""
    calls: dict[str, Call] = {}
    done: list[Done] = []
    for message in messages:
        for call in message.get("tool_calls") or ():
            function = call["function"]
            calls[call["id"]] = Call(function["name"], json.loads(function["arguments"] or "{}"))
        if message.get("role") == "tool" and message.get("tool_call_id") in calls:
            done.append(_result(calls[message["tool_call_id"]], _text(message)))
    return done


def _result(call: Call, content: str) -> Done:
    try:
        result = json.loads(content)
        refusal, data = result.get("refusal"), result.get("data") or {}
        return Done(call, data, refusal, str(result.get("mode", "")), int(result.get("as_of_ns") or 0))
    except (ValueError, AttributeError):
        refusal = {"code": ReasonCode.TOOL_FAILED.value, "message": "The tool's result can't be read."}
        return Done(call, {}, refusal, "", 0)


class PlannerApp:
    """ASGI. POST /v1/chat/completions and GET /v1/models; anything else is 404.

    The classifier is trained by `warm`, which the first request awaits when it wasn't called before.
    """

    def __init__(self, ids: IdSource, clock: Clock) -> None:
        self._ids = ids
        self._clock = clock
        self._reader: asyncio.Task[Reader] | None = None

    async def warm(self) -> Reader:
        """Train in a thread, once. Whoever needs it waits for the same training."""
        if self._reader is None or (self._reader.done() and not self._trained()):
            self._reader = asyncio.create_task(asyncio.to_thread(trained_reader))
        return await asyncio.shield(self._reader)

    def _trained(self) -> bool:
        task = self._reader
        return task is not None and not task.cancelled() and task.exception() is None

    async def __call__(
        self,
        scope: MutableMapping[str, Any],
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        if scope["type"] != "http":
            raise ValueError(f"the planner speaks HTTP only, not {scope['type']}")
        route = (scope["method"], scope["path"])
        if route == ("GET", "/v1/models"):
            model = {"id": PLANNER_MODEL, "object": "model", "owned_by": "veloz"}
            await _send_json(send, 200, {"object": "list", "data": [model]})
        elif route == ("POST", "/v1/chat/completions"):
            try:
                request = _parse(await _body(receive))
                await self._complete(request, send)
            except _BadRequest as error:
                problem = {"message": str(error), "type": "invalid_request_error", "code": "invalid_request"}
                await _send_json(send, 400, {"error": problem})
        else:
            problem = {"message": f"no {route[0]} {route[1]}", "type": "invalid_request_error", "code": "not_found"}
            await _send_json(send, 404, {"error": problem})

    async def _complete(self, request: dict[str, Any], send: Callable[[Message], Awaitable[None]]) -> None:
        reader = await self.warm()
        tools = {t["function"]["name"]: t["function"].get("parameters") or {} for t in request.get("tools") or ()}
        decision = decide(reader, request["messages"], tools)
        head = {
            "id": f"chatcmpl-{self._ids.new_ulid()}",
            "created": self._clock.now_ns() // 1_000_000_000,
            "model": PLANNER_MODEL,
        }
        calls = [
            {
                "id": f"call_{self._ids.new_ulid()}",
                "type": "function",
                "function": {"name": call.tool, "arguments": json.dumps(call.arguments)},
            }
            for call in decision.calls
        ]
        usage = _usage(request["messages"], decision)
        if request.get("stream"):
            include_usage = bool((request.get("stream_options") or {}).get("include_usage"))
            await _send_events(send, _chunks(head, decision.text, calls, usage if include_usage else None))
            return
        message = {"role": "assistant", "content": decision.text or None} | ({"tool_calls": calls} if calls else {})
        reason = "tool_calls" if calls else "stop"
        choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
        await _send_json(send, 200, {**head, "object": "chat.completion", "choices": [choice], "usage": usage})


def _usage(messages: list[dict[str, Any]], decision: Decision) -> dict[str, int]:
    """Words stand in for tokens: the planner has no tokens."""
    read = sum(len(_text(message).split()) for message in messages)
    written = len(decision.text.split()) + sum(len(call.arguments) + 1 for call in decision.calls)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


async def _chunks(
    head: dict[str, Any], text: str, calls: list[dict[str, Any]], usage: dict[str, int] | None
) -> AsyncIterator[dict[str, Any]]:
    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
        return {**head, "object": "chat.completion.chunk", "choices": [choice]}

    yield chunk({"role": "assistant", "content": ""})
    for word in re.findall(r"\S+\s*|\s+", text):
        yield chunk({"content": word})
    for index, call in enumerate(calls):
        function = call["function"]
        start = {"name": function["name"], "arguments": ""}
        yield chunk({"tool_calls": [{"index": index, "id": call["id"], "type": "function", "function": start}]})
        yield chunk({"tool_calls": [{"index": index, "function": {"arguments": function["arguments"]}}]})
    yield chunk({}, "tool_calls" if calls else "stop")
    if usage is not None:
        yield {**head, "object": "chat.completion.chunk", "choices": [], "usage": usage}


def _parse(body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body)
    except ValueError as error:
        raise _BadRequest(f"the body isn't JSON: {error}") from error
    messages = request.get("messages") if isinstance(request, dict) else None
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise _BadRequest("messages must be a list of messages")
    return dict(request)


async def _body(receive: Callable[[], Awaitable[Message]]) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise _BadRequest("the client left before its request was complete")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > BODY_LIMIT_BYTES:
            raise _BadRequest(f"the request is larger than {BODY_LIMIT_BYTES} bytes")
        if not message.get("more_body"):
            return b"".join(parts)


async def _send_json(send: Callable[[Message], Awaitable[None]], status: int, body: dict[str, Any]) -> None:
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})


async def _send_events(send: Callable[[Message], Awaitable[None]], chunks: AsyncIterator[dict[str, Any]]) -> None:
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    async for chunk in chunks:
        await send({"type": "http.response.body", "body": f"data: {json.dumps(chunk)}\n\n".encode(), "more_body": True})
    await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
