"""Straight to the engine over its socket, with the token of this machine: no api, SQL or NATS in between (I10)."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from api.cli.session import EXIT_REFUSED, EXIT_UNREACHABLE, EXIT_USAGE, CommandError
from core.config import ConfigurationError, Settings, load_settings
from core.types.codes import ReasonCode, Refusal, RefusalError

if TYPE_CHECKING:
    from core.runtime.client import EngineClient

T = TypeVar("T")
ENGINE_TOKEN = "engine-control.token"  # noqa: S105 (the file's name)
_UNREACHABLE = frozenset({ReasonCode.SERVICE_ENGINE_UNAVAILABLE, ReasonCode.SERVICE_DATABASE_UNAVAILABLE})


def local_settings() -> Settings:
    """Of this VELOZ_HOME. Raises CommandError."""
    try:
        return load_settings()
    except ConfigurationError as error:
        raise CommandError("CONFIGURATION_INVALID", str(error), EXIT_USAGE) from error


def ask_engine(settings: Settings, question: Callable[[EngineClient], Awaitable[T]]) -> T:
    """The engine's answer. Raises CommandError for a refusal (exit 1) and for no answer (exit 3)."""
    from core.runtime.address import engine_address
    from core.runtime.client import EngineClient

    async def asked() -> T:
        client = EngineClient(engine_address(settings), settings.read_secret(ENGINE_TOKEN))
        try:
            return await question(client)
        finally:
            await client.close()

    try:
        return asyncio.run(asked())
    except RefusalError as error:
        raise refused(error.refusal) from error
    except ConfigurationError as error:
        raise CommandError("CONFIGURATION_INVALID", str(error), EXIT_USAGE) from error


def refused(refusal: Refusal) -> CommandError:
    """The command's error for a refusal of the engine."""
    shown = {name: getattr(refusal, name) for name in ("limit", "actual", "unit") if getattr(refusal, name) is not None}
    exit_code = EXIT_UNREACHABLE if refusal.code in _UNREACHABLE else EXIT_REFUSED
    return CommandError(refusal.code.value, refusal.message, exit_code, **shown)


def whoami() -> str:
    """For the record of who asked: the user of this machine."""
    return f"cli:{getpass.getuser()}"
