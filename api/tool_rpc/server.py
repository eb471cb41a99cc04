"""The tool gateway over gRPC, on a port of its own beside the api's. Who asks is found out before anything is read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from http import HTTPStatus
from pathlib import Path
from typing import Any, NoReturn, Protocol

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from api.limits import REQUEST_BODY_LIMIT_BYTES
from api.problems import refusal_cells, status_of
from core.config import ConfigurationError, GrpcSettings
from core.types.codes import ReasonCode, Refusal, RefusalError
from tools.contracts import Principal

HEALTH_PREFIX = "/grpc.health.v1.Health/"
AUTHORIZATION_KEY = "authorization"
TRACEPARENT_KEY = "traceparent"
REFUSAL_KEY = "veloz-refusal"
# What stands in metadata may have 8 KiB in all.
TEXT_IN_REFUSAL_LIMIT = 1_500
CONCURRENT_CALLS_LIMIT = 1_000
CONNECTION_IDLE_LIMIT_MS = 300_000
STOP_GRACE_S = 2.0
_STATUS_BY_HTTP = {
    HTTPStatus.UNAUTHORIZED: grpc.StatusCode.UNAUTHENTICATED,
    HTTPStatus.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    HTTPStatus.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    HTTPStatus.UNPROCESSABLE_ENTITY: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
    HTTPStatus.TOO_MANY_REQUESTS: grpc.StatusCode.RESOURCE_EXHAUSTED,
    HTTPStatus.SERVICE_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.BAD_GATEWAY: grpc.StatusCode.UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    HTTPStatus.INTERNAL_SERVER_ERROR: grpc.StatusCode.INTERNAL,
}

Context = grpc.aio.ServicerContext[Any, Any]
caller: ContextVar[Principal] = ContextVar("caller")
"""Who asks; set before a call reaches its servicer."""

_log = structlog.get_logger("api.tool_rpc")


class Identifies(Protocol):
    """What api.auth.identity.Identity is to this face."""

    async def of_header(self, authorization: str | None) -> Principal: ...


async def abort(context: Context, refusal: Refusal, **more: str) -> NoReturn:
    """End the call with the status that fits, and with the refusal's own fields as JSON in the trailing metadata."""
    cells = {name: text[:TEXT_IN_REFUSAL_LIMIT] for name, text in (refusal_cells(refusal) | more).items()}
    status = _STATUS_BY_HTTP.get(status_of(refusal.code), grpc.StatusCode.FAILED_PRECONDITION)
    # JSON in ASCII: other characters can't stand in metadata.
    await context.abort(status, refusal.code.value, trailing_metadata=((REFUSAL_KEY, json.dumps(cells)),))
    raise AssertionError("abort raises")


class IdentityInterceptor(grpc.aio.ServerInterceptor):
    """Lets nobody through whom it doesn't know, but to health."""

    def __init__(self, identity: Identifies) -> None:
        self._identity = identity

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(HEALTH_PREFIX):
            return handler
        try:
            caller.set(await self._identity.of_header(_authorization(handler_call_details)))
        except RefusalError as error:
            return _refusing(handler, error.refusal)
        except Exception:
            _log.exception("identity_failed")
            return _refusing(handler, Refusal(ReasonCode.SERVICE_INTERNAL_ERROR, "The service failed at this call."))
        return _reading(handler)


@asynccontextmanager
async def tool_rpc_server(settings: GrpcSettings, servicer: Any, identity: Identifies) -> AsyncIterator[int]:
    """Serve while the block runs; gives the port. servicer is a ToolGatewayServicer.

    Raises ConfigurationError when the address can't be bound or the certificate can't be read.
    """
    from api.tool_rpc._proto import gateway_pb2 as pb
    from api.tool_rpc._proto import gateway_pb2_grpc

    server = grpc.aio.server(
        interceptors=[IdentityInterceptor(identity)],
        maximum_concurrent_rpcs=CONCURRENT_CALLS_LIMIT,
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", REQUEST_BODY_LIMIT_BYTES),
            ("grpc.max_connection_idle_ms", CONNECTION_IDLE_LIMIT_MS),
        ],
    )
    gateway_pb2_grpc.add_ToolGatewayServicer_to_server(servicer, server)  # type: ignore[no-untyped-call]
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    name = pb.DESCRIPTOR.services_by_name["ToolGateway"].full_name
    health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
    reflection.enable_server_reflection((name, health_name, reflection.SERVICE_NAME), server)
    port = _bind(server, settings)
    await server.start()
    for service in ("", name):
        await health.set(service, health_pb2.HealthCheckResponse.SERVING)
    try:
        yield port
    finally:
        await health.enter_graceful_shutdown()
        await asyncio.shield(server.stop(STOP_GRACE_S))


def _bind(server: grpc.aio.Server, settings: GrpcSettings) -> int:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{settings.port}"
    try:
        if settings.tls_certificate_file:
            key, chain = Path(settings.tls_key_file).read_bytes(), Path(settings.tls_certificate_file).read_bytes()
            port = server.add_secure_port(address, grpc.ssl_server_credentials([(key, chain)]))
        else:
            port = server.add_insecure_port(address)
    except (OSError, RuntimeError) as error:
        raise ConfigurationError(
            f"grpc: can't serve on {address} ({error}). Another process may have the port: choose another grpc.port. "
            "Or look at grpc.tls_certificate_file and grpc.tls_key_file."
        ) from error
    return port


def _authorization(details: grpc.HandlerCallDetails) -> str | None:
    for key, value in details.invocation_metadata or ():
        if key == AUTHORIZATION_KEY:
            return value if isinstance(value, str) else value.decode("latin-1")
    return None


def _reading(handler: Any) -> Any:
    """Refuses a message that can't be read, where grpc itself would answer INTERNAL."""
    if handler.request_streaming or handler.response_streaming:
        return handler

    async def read_then_answer(message: bytes, context: Context) -> Any:
        try:
            request = handler.request_deserializer(message)
        except DecodeError:
            await abort(context, Refusal(ReasonCode.REQUEST_INVALID, "The message isn't one of this method's."))
        return await handler.unary_unary(request, context)

    return grpc.unary_unary_rpc_method_handler(
        read_then_answer, request_deserializer=None, response_serializer=handler.response_serializer
    )


def _refusing(handler: Any, refusal: Refusal) -> Any:
    async def refuse_one(_request: Any, context: Context) -> Any:
        await abort(context, refusal)

    async def refuse_stream(_request: Any, context: Context) -> AsyncIterator[Any]:
        await abort(context, refusal)
        yield  # pragma: no cover - makes this a generator

    if handler.request_streaming and handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(refuse_stream)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(refuse_stream)
    if handler.request_streaming:
        return grpc.stream_unary_rpc_method_handler(refuse_one)
    return grpc.unary_unary_rpc_method_handler(refuse_one)
