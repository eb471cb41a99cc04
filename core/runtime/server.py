"""The engine's gRPC control plane. Every call but health needs the control token; a refusal travels as JSON in the
trailing metadata `veloz-refusal`, beside the status code that fits it.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from grpc_reflection.v1alpha import reflection

from core.authority.verify import SIGNATURES_LIMIT
from core.kernel.decide_approvals import only_reduces
from core.risk.kill_switch import KillSwitch
from core.runtime._proto import engine_pb2 as pb
from core.runtime._proto import engine_pb2_grpc
from core.runtime.answering import (
    REASON_LENGTH_LIMIT,
    REQUESTED_BY_LENGTH_LIMIT,
    Context,
    abort,
    check_length,
    read_decimal,
    read_side,
    reply,
    reply_later,
    trace_of,
)
from core.runtime.clock_watch import refused_by_clock
from core.runtime.messages import AUTHORIZATION_KEY, from_message, to_message
from core.runtime.trading_calls import TradingCalls
from core.storage.journal import JournalDamagedError, JournalDroppedError, JournalReader
from core.types.codes import ReasonCode, Refusal, RefusalError, refuse
from core.types.views import LedgerProgress

if TYPE_CHECKING:
    from core.runtime.service import EngineService

SERVICE_NAME = pb.DESCRIPTOR.services_by_name["Engine"].full_name
HEALTH_PREFIX = "/grpc.health.v1.Health/"
STREAMS_LIMIT = 32
STREAM_BATCH_RECORDS = 256
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
MAX_CONCURRENT_CALLS = 1_000
STOP_GRACE_S = 1.0

_log = structlog.get_logger("engine.server")


class EngineServicer(TradingCalls):
    """The calls, each a thin translation to the service."""

    def __init__(self, service: EngineService) -> None:
        self._service = service
        self._streams = 0

    async def GetStatus(self, request: pb.GetStatusRequest, context: Context) -> pb.EngineStatus:
        return await reply(context, lambda: to_message(self._service.status(), pb.EngineStatus))

    async def ReportLedger(self, request: pb.LedgerProgress, context: Context) -> pb.ReportLedgerResponse:
        def told() -> pb.ReportLedgerResponse:
            self._service.ledger_progressed(from_message(request, LedgerProgress))
            return pb.ReportLedgerResponse()

        return await reply(context, told)

    async def GetJournal(self, request: pb.GetJournalRequest, context: Context) -> pb.Journal:
        return await reply(context, lambda: to_message(self._service.journal_view(), pb.Journal))

    async def ArchiveJournal(self, request: pb.ArchiveJournalRequest, context: Context) -> pb.Journal:
        async def archived() -> pb.Journal:
            return to_message(await self._service.archive_journal(), pb.Journal)

        return await reply_later(context, archived)

    async def ListInstruments(self, request: pb.ListInstrumentsRequest, context: Context) -> pb.ListInstrumentsResponse:
        return await reply(
            context,
            lambda: pb.ListInstrumentsResponse(
                instruments=[to_message(view, pb.Instrument) for view in self._service.instruments()]
            ),
        )

    async def GetTicker(self, request: pb.SymbolRequest, context: Context) -> pb.Ticker:
        return await reply(context, lambda: to_message(self._service.hub.ticker(request.symbol), pb.Ticker))

    async def GetOrderBook(self, request: pb.GetOrderBookRequest, context: Context) -> pb.OrderBook:
        return await reply(
            context,
            lambda: to_message(self._service.hub.order_book(request.symbol, request.depth), pb.OrderBook),
        )

    async def GetKlines(self, request: pb.GetKlinesRequest, context: Context) -> pb.GetKlinesResponse:
        def answer() -> pb.GetKlinesResponse:
            bars = self._service.hub.klines(request.symbol, request.interval, request.limit)
            return pb.GetKlinesResponse(
                klines=[to_message(bar, pb.Kline) for bar in bars], as_of_ns=self._service.clock.now_ns()
            )

        return await reply(context, answer)

    async def GetTrades(self, request: pb.GetTradesRequest, context: Context) -> pb.GetTradesResponse:
        def answer() -> pb.GetTradesResponse:
            trades = self._service.hub.trades(request.symbol, request.limit)
            return pb.GetTradesResponse(
                trades=[to_message(trade, pb.Trade) for trade in trades], as_of_ns=self._service.clock.now_ns()
            )

        return await reply(context, answer)

    async def GetFeedHealth(self, request: pb.GetFeedHealthRequest, context: Context) -> pb.GetFeedHealthResponse:
        def answer() -> pb.GetFeedHealthResponse:
            hub = self._service.hub
            symbols = (request.symbol,) if request.HasField("symbol") else hub.symbols
            return pb.GetFeedHealthResponse(
                feeds=[to_message(hub.feed_health(symbol), pb.FeedHealth) for symbol in symbols]
            )

        return await reply(context, answer)

    async def EstimateExecution(self, request: pb.EstimateExecutionRequest, context: Context) -> pb.ExecutionEstimate:
        def answer() -> pb.ExecutionEstimate:
            side, quantity = read_side(request.side), read_decimal("quantity", request.quantity)
            return to_message(
                self._service.hub.estimate_execution(request.symbol, side, quantity), pb.ExecutionEstimate
            )

        return await reply(context, answer)

    async def GetPositions(self, request: pb.AccountRequest, context: Context) -> pb.GetPositionsResponse:
        return await reply(
            context,
            lambda: pb.GetPositionsResponse(
                positions=[to_message(view, pb.Position) for view in self._service.positions(request.account_id)],
                as_of_ns=self._service.clock.now_ns(),
            ),
        )

    async def GetOpenOrders(self, request: pb.AccountRequest, context: Context) -> pb.GetOpenOrdersResponse:
        return await reply(
            context,
            lambda: pb.GetOpenOrdersResponse(
                orders=[to_message(view, pb.Order) for view in self._service.open_orders(request.account_id)],
                as_of_ns=self._service.clock.now_ns(),
            ),
        )

    async def GetRiskState(self, request: pb.AccountRequest, context: Context) -> pb.RiskState:
        return await reply(context, lambda: to_message(self._service.risk_state(request.account_id), pb.RiskState))

    async def GetLimitUse(self, request: pb.AccountRequest, context: Context) -> pb.LimitUse:
        return await reply(context, lambda: to_message(self._service.limit_use(request.account_id), pb.LimitUse))

    async def CheckProposal(self, request: pb.CheckProposalRequest, context: Context) -> pb.PreTrade:
        async def answer() -> pb.PreTrade:
            return to_message(await self._service.check_proposal(request.proposal), pb.PreTrade)

        return await reply_later(context, answer)

    async def ExecuteApproval(self, request: pb.ExecuteApprovalRequest, context: Context) -> pb.ExecutionOutcome:
        async def answer() -> pb.ExecutionOutcome:
            signatures = [(item.key_id, item.signature) for item in request.signatures]
            held_up = None if only_reduces(request.proposal) else refused_by_clock(self._service.clock)
            if held_up is not None:
                return to_message(held_up, pb.ExecutionOutcome)
            outcome = await self._service.execute_approval(
                request.proposal,
                request.digest_hex,
                signatures,
                trace_of(context),
                max(1, min(request.approvals_at_least, SIGNATURES_LIMIT)),
            )
            return to_message(outcome, pb.ExecutionOutcome)

        return await reply_later(context, answer)

    async def CancelOrder(self, request: pb.CancelOrderRequest, context: Context) -> pb.CancelOrderResponse:
        async def answer() -> pb.CancelOrderResponse:
            check_length("requested_by", request.requested_by, REQUESTED_BY_LENGTH_LIMIT)
            refusal = await self._service.cancel_order(request.client_order_id, request.requested_by, trace_of(context))
            if refusal is None:
                return pb.CancelOrderResponse(requested=True)
            return pb.CancelOrderResponse(requested=False, refusal=to_message(refusal, pb.Refusal))

        return await reply_later(context, answer)

    async def SetKillSwitch(self, request: pb.SetKillSwitchRequest, context: Context) -> pb.EngineStatus:
        async def answer() -> pb.EngineStatus:
            check_length("requested_by", request.requested_by, REQUESTED_BY_LENGTH_LIMIT)
            check_length("reason", request.reason, REASON_LENGTH_LIMIT)
            try:
                state = KillSwitch(request.state)
            except ValueError as error:
                states = ", ".join(KillSwitch)
                raise refuse(
                    ReasonCode.REQUEST_INVALID, f"There is no kill switch state {request.state[:32]!r}; use {states}."
                ) from error
            refusal = await self._service.set_kill_switch(
                state,
                request.requested_by,
                request.reason,
                trace_of(context),
                **({"account_id": request.account_id} if request.account_id else {}),
            )
            if refusal is not None:
                raise RefusalError(refusal)
            return to_message(self._service.status(), pb.EngineStatus)

        return await reply_later(context, answer)

    async def StreamJournal(
        self, request: pb.StreamJournalRequest, context: Context
    ) -> AsyncIterator[pb.JournalRecord]:
        journal = self._service.journal
        if not 0 <= request.after_sequence <= journal.sequence:
            await abort(
                context,
                Refusal(
                    ReasonCode.REQUEST_INVALID,
                    "The journal doesn't reach that sequence. A reader ahead of it has followed another journal: "
                    "rebuild its projections from 0.",
                    limit=str(journal.sequence),
                    actual=str(request.after_sequence),
                    unit="sequence",
                ),
            )
        if self._streams >= STREAMS_LIMIT:
            await abort(
                context,
                Refusal(
                    ReasonCode.AUTH_RATE_EXCEEDED, "Too many readers stream the journal.", limit=str(STREAMS_LIMIT)
                ),
            )
        self._streams += 1
        try:
            reader = await asyncio.to_thread(JournalReader, journal, request.after_sequence)
            while True:
                entries = await asyncio.to_thread(reader.read, STREAM_BATCH_RECORDS)
                for entry in entries:
                    yield to_message(entry, pb.JournalRecord)
                if not entries:
                    await journal.wait_beyond(reader.sequence)
        except (JournalDroppedError, JournalDamagedError, OSError) as error:
            _log.error("journal_not_read", after_sequence=request.after_sequence, error=str(error))
            await abort(
                context, Refusal(ReasonCode.RESOURCE_NOT_FOUND, f"The journal can't be read from there: {error}")
            )
        finally:
            self._streams -= 1


class TokenInterceptor(grpc.aio.ServerInterceptor):
    """Refuses every call but health without the control token, compared in constant time."""

    def __init__(self, token: str) -> None:
        assert token, "the engine never serves without a token"
        self._expected = f"Bearer {token}".encode()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        if handler_call_details.method.startswith(HEALTH_PREFIX):
            return await continuation(handler_call_details)
        given = b""
        for key, value in handler_call_details.invocation_metadata or ():
            if key == AUTHORIZATION_KEY:
                given = value if isinstance(value, bytes) else value.encode()
        if hmac.compare_digest(given, self._expected):
            return await continuation(handler_call_details)
        handler = await continuation(handler_call_details)
        return None if handler is None else _refusing(handler)


def build_server(service: EngineService, address: str, token: str) -> tuple[grpc.aio.Server, HealthServicer]:
    """A server that is bound to its address and not started.

    Raises RuntimeError when the address can't be bound.
    """
    server = grpc.aio.server(
        interceptors=[TokenInterceptor(token)],
        maximum_concurrent_rpcs=MAX_CONCURRENT_CALLS,
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES)],
    )
    engine_pb2_grpc.add_EngineServicer_to_server(EngineServicer(service), server)  # type: ignore[no-untyped-call]
    health = HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    reflection.enable_server_reflection(
        (SERVICE_NAME, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name, reflection.SERVICE_NAME), server
    )
    if server.add_insecure_port(address) == 0:
        raise RuntimeError(f"can't listen on {address}")
    return server, health


def _refusing(handler: Any) -> Any:
    refusal = Refusal(
        ReasonCode.AUTH_TOKEN_INVALID, "The control token is missing or wrong. Read secrets/engine-control.token again."
    )

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
