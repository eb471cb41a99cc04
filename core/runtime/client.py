"""The engine as others reach it: gRPC with deadlines, refusals as RefusalError.

Implements tools.ports.EngineReads and tools.approvals.ExecutionPort; core can't import those, so the names and types
are kept alike by a test there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable
from decimal import Decimal
from typing import Any, TypeVar

import grpc
import grpc.aio
import msgspec

from core.runtime._proto import engine_pb2 as pb
from core.runtime._proto import engine_pb2_grpc
from core.runtime.messages import AUTHORIZATION_KEY, REFUSAL_KEY, TRACEPARENT_KEY, from_message
from core.types.codes import ReasonCode, Refusal, RefusalError, refuse
from core.types.events import JournalEntry
from core.types.ids import TraceContext
from core.types.money import decimal_text
from core.types.orders import Side
from core.types.views import (
    EngineStatusView,
    ExecutionEstimateView,
    ExecutionOutcomeView,
    FeedHealthView,
    InstrumentView,
    KlineView,
    OrderBookView,
    OrderView,
    PositionView,
    PreTradeView,
    RiskStateView,
    TickerView,
)

READ_DEADLINE_S = 2.0
CHECK_DEADLINE_S = 3.0
EXECUTE_DEADLINE_S = 10.0
SAFETY_DEADLINE_S = 5.0
MAX_MESSAGE_BYTES = 16 * 1024 * 1024
# An engine that restarts is back within seconds; gRPC's own backoff would grow to two minutes.
CHANNEL_OPTIONS = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),
]

T = TypeVar("T")


class EngineClient:
    """One channel to one engine, to be shared and closed with `close`.

    Raises RefusalError with the engine's own refusal, or SERVICE_ENGINE_UNAVAILABLE when it doesn't answer in time.
    """

    def __init__(self, address: str, token: str) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
        self._stub: Any = engine_pb2_grpc.EngineStub(self._channel)  # type: ignore[no-untyped-call]
        self._authorization = (AUTHORIZATION_KEY, f"Bearer {token}")

    async def close(self) -> None:
        await self._channel.close()

    async def status(self) -> EngineStatusView:
        answer = await self._call(self._stub.GetStatus, pb.GetStatusRequest(), READ_DEADLINE_S)
        return from_message(answer, EngineStatusView)

    async def instruments(self) -> list[InstrumentView]:
        answer = await self._call(self._stub.ListInstruments, pb.ListInstrumentsRequest(), READ_DEADLINE_S)
        return [from_message(item, InstrumentView) for item in answer.instruments]

    async def ticker(self, symbol: str) -> TickerView:
        answer = await self._call(self._stub.GetTicker, pb.SymbolRequest(symbol=symbol), READ_DEADLINE_S)
        return from_message(answer, TickerView)

    async def order_book(self, symbol: str, depth: int) -> OrderBookView:
        request = pb.GetOrderBookRequest(symbol=symbol, depth=depth)
        return from_message(await self._call(self._stub.GetOrderBook, request, READ_DEADLINE_S), OrderBookView)

    async def klines(self, symbol: str, interval: str, limit: int) -> list[KlineView]:
        request = pb.GetKlinesRequest(symbol=symbol, interval=interval, limit=limit)
        answer = await self._call(self._stub.GetKlines, request, READ_DEADLINE_S)
        return [from_message(item, KlineView) for item in answer.klines]

    async def feed_health(self, symbol: str | None = None) -> list[FeedHealthView]:
        """The health of one symbol's market data, or of every one that is followed."""
        request = pb.GetFeedHealthRequest(symbol=symbol)
        answer = await self._call(self._stub.GetFeedHealth, request, READ_DEADLINE_S)
        return [from_message(item, FeedHealthView) for item in answer.feeds]

    async def estimate_execution(self, symbol: str, side: Side, quantity: Decimal) -> ExecutionEstimateView:
        request = pb.EstimateExecutionRequest(symbol=symbol, side=side, quantity=decimal_text(quantity))
        answer = await self._call(self._stub.EstimateExecution, request, READ_DEADLINE_S)
        return from_message(answer, ExecutionEstimateView)

    async def positions(self, account_id: str) -> list[PositionView]:
        answer = await self._call(self._stub.GetPositions, pb.AccountRequest(account_id=account_id), READ_DEADLINE_S)
        return [from_message(item, PositionView) for item in answer.positions]

    async def open_orders(self, account_id: str) -> list[OrderView]:
        answer = await self._call(self._stub.GetOpenOrders, pb.AccountRequest(account_id=account_id), READ_DEADLINE_S)
        return [from_message(item, OrderView) for item in answer.orders]

    async def risk_state(self, account_id: str) -> RiskStateView:
        answer = await self._call(self._stub.GetRiskState, pb.AccountRequest(account_id=account_id), READ_DEADLINE_S)
        return from_message(answer, RiskStateView)

    async def check_proposal(self, proposal: bytes) -> PreTradeView:
        request = pb.CheckProposalRequest(proposal=proposal)
        return from_message(await self._call(self._stub.CheckProposal, request, CHECK_DEADLINE_S), PreTradeView)

    async def execute_approval(
        self, proposal: bytes, digest_hex: str, signatures: list[tuple[str, bytes]], trace: TraceContext
    ) -> ExecutionOutcomeView:
        """Consume an approval. Without an answer it isn't known whether it was consumed: the journal tells, and asking
        again can't execute it twice."""
        request = pb.ExecuteApprovalRequest(
            proposal=proposal,
            digest_hex=digest_hex,
            signatures=[pb.ApprovalSignature(key_id=key_id, signature=value) for key_id, value in signatures],
        )
        answer = await self._call(
            self._stub.ExecuteApproval, request, EXECUTE_DEADLINE_S, (TRACEPARENT_KEY, trace.traceparent)
        )
        return from_message(answer, ExecutionOutcomeView)

    async def cancel_order(
        self, client_order_id: str, requested_by: str, trace: TraceContext | None = None
    ) -> Refusal | None:
        """Ask for a cancel; None when it is on its way. A safety command."""
        request = pb.CancelOrderRequest(client_order_id=client_order_id, requested_by=requested_by)
        answer = await self._call(self._stub.CancelOrder, request, SAFETY_DEADLINE_S, *_trace(trace))
        return from_message(answer.refusal, Refusal) if answer.HasField("refusal") else None

    async def set_kill_switch(
        self, state: str, requested_by: str, reason: str, trace: TraceContext | None = None
    ) -> EngineStatusView:
        """Tighten the kill switch. Loosening is refused with AUTHORITY_KIND_NOT_ACCEPTED."""
        request = pb.SetKillSwitchRequest(state=state, requested_by=requested_by, reason=reason)
        answer = await self._call(self._stub.SetKillSwitch, request, SAFETY_DEADLINE_S, *_trace(trace))
        return from_message(answer, EngineStatusView)

    async def stream_journal(self, after_sequence: int) -> AsyncIterator[JournalEntry]:
        """Every record behind a sequence, then new ones as they become durable; ends only by an error."""
        call = self._stub.StreamJournal(
            pb.StreamJournalRequest(after_sequence=after_sequence), metadata=(self._authorization,)
        )
        try:
            async for record in call:
                yield from_message(record, JournalEntry)
        except grpc.aio.AioRpcError as error:
            raise _refusal_of(error) from error
        finally:
            call.cancel()
        raise refuse(ReasonCode.SERVICE_ENGINE_UNAVAILABLE, "The engine ended the journal's stream; connect again.")

    async def _call(self, method: Any, request: Any, deadline_s: float, *metadata: tuple[str, str]) -> Any:
        call: Awaitable[Any] = method(request, timeout=deadline_s, metadata=(self._authorization, *metadata))
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise _refusal_of(error) from error


def _trace(trace: TraceContext | None) -> tuple[tuple[str, str], ...]:
    return () if trace is None else ((TRACEPARENT_KEY, trace.traceparent),)


def _refusal_of(error: grpc.aio.AioRpcError) -> RefusalError:
    for key, value in error.trailing_metadata() or ():
        if key == REFUSAL_KEY:
            try:
                return RefusalError(msgspec.json.decode(value, type=Refusal))
            except msgspec.MsgspecError:
                break
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return refuse(
            ReasonCode.SERVICE_ENGINE_UNAVAILABLE,
            "The engine didn't answer in time. What was asked may still have happened: look before asking again.",
        )
    return refuse(
        ReasonCode.SERVICE_ENGINE_UNAVAILABLE,
        f"The engine can't be reached ({error.code().name}). Nothing is known to have happened; try again in a moment.",
    )
