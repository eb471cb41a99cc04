"""Logs as JSON lines, redacted as the last step before they are written."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from core.text.redaction import Redactor

LOGGERS_AT_WARNING = ("httpx", "httpx2", "httpcore", "httpcore2", "alembic", "presidio-analyzer", "openai", "asyncio")

# What log lines say of themselves: times, ids and names that we set, and that patterns needn't read.
_OWN_FIELDS = frozenset({"timestamp", "level", "process", "logger", "trace_id", "span_id", "run_id"})


def configure_logging(
    process_name: str, level: str = "info", stream: TextIO | None = None, redactor: Redactor | None = None
) -> None:
    """Send structlog and stdlib logging of this process to stream (stderr by default) as JSON lines.

    Each line has timestamp (UTC), level, logger, process, event, and what structlog.contextvars hold (bind trace_id
    there). The whole event, exceptions included, is redacted last. Give redactor for pseudonyms that join.
    """
    numeric_level = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        _add_process(process_name),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        RedactEvent(redactor or Redactor()),
        structlog.processors.JSONRenderer(sort_keys=False),
    ]
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=last,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(numeric_level)
    for name in list(logging.root.manager.loggerDict):
        logging.getLogger(name).handlers.clear()  # uvicorn and others bring their own, which would bypass redaction
        logging.getLogger(name).propagate = True
    for name in LOGGERS_AT_WARNING:
        logging.getLogger(name).setLevel(max(numeric_level, logging.WARNING))
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


class RedactEvent:
    """A structlog processor: tier 1 over the whole event. An event that can't be redacted is dropped to its name's
    type, never passed."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor

    def __call__(self, _logger: WrappedLogger, _method: str, event: MutableMapping[str, Any]) -> EventDict:
        try:
            ours = {name: value for name, value in event.items() if name in _OWN_FIELDS and isinstance(value, str)}
            rest = {name: value for name, value in event.items() if name not in ours}
            redacted = self._redactor.value(rest).value
        except Exception as error:  # logging must neither fail its caller nor leak
            return {"event": "log_event_dropped", "level": "error", "reason": type(error).__name__}
        return {**ours, **redacted}


def _add_process(process_name: str) -> Processor:
    def add(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["process"] = process_name
        return event

    return add
