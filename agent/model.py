"""The copilot's model: any server that speaks Chat Completions, and the offline planner behind the same client."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import openai
import structlog
from openai import AsyncOpenAI

from agent.outcome import Usage
from agent.planner.app import PLANNER_MODEL, PlannerApp
from agent.transport import StreamingAsgiTransport
from core.config import ConfigurationError, Settings
from core.types.codes import ReasonCode, refuse
from tools.model_budget import TOKENS_LIMIT

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 30.0
PROVIDER_RETRIES = 1
OFFLINE_PROVIDER = "offline"
ARGUMENTS_LIMIT_CHARS = 16_384
TOOL_CALLS_LIMIT_PER_TURN = 32
MODEL_LIMIT_CHARS = 200

_HIGH_SURROGATE = re.compile("[\ud800-\udbff]")
log = structlog.get_logger("agent.model")


class ModelToolCall(msgspec.Struct, frozen=True):
    """A tool call as the model asked for it. arguments is the JSON text, not yet parsed."""

    id: str
    name: str
    arguments: str


class TextDelta(msgspec.Struct, frozen=True):
    text: str


class Turn(msgspec.Struct, frozen=True):
    """A finished model turn: its text, what it wants called, and who answered."""

    text: str
    tool_calls: tuple[ModelToolCall, ...]
    usage: Usage
    model: str


class ModelClient:
    """Streams one Chat Completions turn at a time."""

    def __init__(self, client: AsyncOpenAI, model: str, provider: str) -> None:
        self._client = client
        self.model = model
        self.provider = provider

    async def turn(
        self, messages: list[dict[str, Any]], tools: list[dict[str, Any]]
    ) -> AsyncIterator[TextDelta | Turn]:
        """Text as it comes, then the Turn.

        Raises RefusalError(COPILOT_MODEL_FAILED) when the provider fails or answers with something unusable.
        """
        request: dict[str, Any] = {"model": self.model, "messages": messages, "stream": True}
        request["stream_options"] = {"include_usage": True}
        if tools:
            request["tools"] = tools
        assembly = _Assembly(self.model)
        try:
            stream = await self._client.chat.completions.create(**request)
            async with stream:
                async for chunk in stream:
                    text = assembly.take(chunk)
                    if text:
                        yield TextDelta(text)
        except (AttributeError, LookupError, TypeError, ValueError) as error:
            # The client library takes any JSON for a chunk.
            log.warning("model_unreadable", provider=self.provider, model=self.model, error=type(error).__name__)
            raise refuse(
                ReasonCode.COPILOT_MODEL_FAILED,
                f"The model {self.model} at {self.provider} answered with what is no Chat Completions stream "
                f"({type(error).__name__}). Check which protocol it speaks.",
            ) from error
        except (openai.OpenAIError, httpx2.HTTPError) as error:
            log.warning("model_failed", provider=self.provider, model=self.model, error=type(error).__name__)
            raise refuse(
                ReasonCode.COPILOT_MODEL_FAILED,
                f"The model {self.model} at {self.provider} failed ({type(error).__name__}). Ask again in a moment.",
            ) from error
        yield assembly.turn()

    async def close(self) -> None:
        await self._client.close()


class _Assembly:
    """Puts a turn together from its chunks."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._text: list[str] = []
        self._held = ""
        """Half of a surrogate pair that a chunk ended with: the other half may come with the next."""
        self._calls: dict[int, tuple[str, str, str]] = {}
        self._usage = Usage()

    def take(self, chunk: Any) -> str:
        """Add a chunk; the text it brings. Raises RefusalError when a limit is passed."""
        self._model = whole_text(_text(chunk.model)[:MODEL_LIMIT_CHARS]) or self._model
        self._usage = _usage_of(chunk.usage) or self._usage
        if not chunk.choices:
            return ""
        delta = chunk.choices[0].delta
        for part in delta.tool_calls or ():
            self._take_call(part)
        text = self._held + _text(delta.content)
        self._held = text[-1:] if _HIGH_SURROGATE.fullmatch(text[-1:]) else ""
        text = whole_text(text.removesuffix(self._held))
        if text:
            self._text.append(text)
        return text

    def _take_call(self, part: Any) -> None:
        if not isinstance(part.index, int):
            raise TypeError("a tool call has no place")
        call_id, name, arguments = self._calls.get(part.index, ("", "", ""))
        call_id = _text(part.id) or call_id
        if part.function is not None:
            name += _text(part.function.name)
            arguments += _text(part.function.arguments)
        self._calls[part.index] = (call_id, name, arguments)
        if len(arguments) > ARGUMENTS_LIMIT_CHARS or len(self._calls) > TOOL_CALLS_LIMIT_PER_TURN:
            raise refuse(ReasonCode.COPILOT_MODEL_FAILED, f"The model {self._model} asked for more than can be called.")

    def turn(self) -> Turn:
        calls = tuple(ModelToolCall(*map(whole_text, self._calls[index])) for index in sorted(self._calls))
        return Turn("".join(self._text), calls, self._usage, self._model)


def _text(value: object) -> str:
    """Raises TypeError for what is no text."""
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"text is a {type(value).__name__}")
    return value


def _usage_of(reported: Any) -> Usage | None:
    """None where nothing was reported, or nothing that can be: the budget then counts what was set aside."""
    if reported is None:
        return None
    tokens = (reported.prompt_tokens, reported.completion_tokens)
    if not all(type(count) is int and 0 <= count <= TOKENS_LIMIT for count in tokens):
        return None
    return Usage(*tokens)


def whole_text(text: str) -> str:
    """What can be sent and stored: halves of a surrogate pair that stand together are joined, one that stands alone and
    a NUL are replaced by U+FFFD. A provider's JSON may cut a character in two."""
    text = text.replace("\x00", "\ufffd")
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def offline_model(planner: PlannerApp) -> ModelClient:
    """The offline planner, reached in process through the same client."""
    client = AsyncOpenAI(
        base_url="http://offline-planner/v1",
        api_key="offline",
        max_retries=0,
        http_client=httpx2.AsyncClient(transport=StreamingAsgiTransport(planner)),
    )
    return ModelClient(client, PLANNER_MODEL, OFFLINE_PROVIDER)


def provider_model(settings: Settings) -> ModelClient | None:
    """The configured provider, None when there is none.

    Raises ConfigurationError when it is configured by half or its key can't be read.
    """
    copilot = settings.copilot
    if not copilot.provider_base_url:
        return None
    if not copilot.provider_model:
        raise ConfigurationError(
            "copilot.provider_base_url is set but copilot.provider_model is not: name the model, or remove the URL to "
            "use the offline planner."
        )
    client = AsyncOpenAI(
        base_url=copilot.provider_base_url,
        api_key=_api_key(copilot.provider_api_key_file),
        max_retries=PROVIDER_RETRIES,
        timeout=httpx2.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
    )
    return ModelClient(client, copilot.provider_model, copilot.provider_base_url)


def _api_key(file: str) -> str:
    if not file:
        return "none"
    try:
        return Path(file).expanduser().read_text().strip()
    except OSError as error:
        raise ConfigurationError(
            f"copilot.provider_api_key_file {file}: {error.strerror}. Put the provider's key into that file, mode 0600."
        ) from error
