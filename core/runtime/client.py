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
from core.runtime.messages import AUTHORIZATION_KEY, REFUSAL_KEY, TRACEPARENT_KEY, from_message, to_message
from core.types.codes import ReasonCode, Refusal, RefusalError, refuse
from core.types.events import JournalEntry
from core.types.ids import TraceContext
from core.types.money import decimal_text
from core.types.orders import Side
from core.types.views import (
    EngineStatusView,
    ExecutionEstimateView,
    ExecutionOutcomeView,
    ExposureView,
    FeedHealthView,
    InstrumentView,
    JournalView,
    KlineView,
    LedgerProgress,
    LimitUseView,
    MandateView,
    OrderBookView,
    OrderView,
    PositionView,
    PreTradeView,
    ReconciliationView,
    RiskExplanationView,
    RiskRulesView,
    RiskStateView,
    RosterView,
    SessionView,
    TickerView,
    TradeView,
    WhatIfView,
)

READ_DEADLINE_S = 2.0
CHECK_DEADLINE_S = 3.0
EXECUTE_DEADLINE_S = 10.0
SAFETY_DEADLINE_S = 5.0
EXPLAIN_DEADLINE_S = 10.0
RECONCILE_DEADLINE_S = 30.0
ARCHIVE_DEADLINE_S = 300.0
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


class SignedRequest(msgspec.Struct, frozen=True):
    """By what authority a ticket is sent: a session's key or a mandate's has signed it. Exactly one id is set."""

    signature: bytes
    session_id: str = ""
    mandate_id: str = ""
    strategy_id: str = ""

    def message(self) -> pb.CommandAuthority:
        if self.session_id:
            session = pb.SessionSignature(session_id=self.session_id, signature=self.signature)
            return pb.CommandAuthority(session=session)
        mandate = pb.MandateReference(
            mandate_id=self.mandate_id, strategy_id=self.strategy_id, signature=self.signature
        )
        return pb.CommandAuthority(mandate=mandate)


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

    async def now_ns(self) -> int:
        """The engine's clock."""
        return (await self.status()).now_ns

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

    async def trades(self, symbol: str, limit: int) -> list[TradeView]:
        """The newest public trades that the engine has seen, oldest first."""
        request = pb.GetTradesRequest(symbol=symbol, limit=limit)
        answer = await self._call(self._stub.GetTrades, request, READ_DEADLINE_S)
        return [from_message(item, TradeView) for item in answer.trades]

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

    async def limit_use(self, account_id: str) -> LimitUseView:
        """How near the account is to each of its limits."""
        answer = await self._call(self._stub.GetLimitUse, pb.AccountRequest(account_id=account_id), READ_DEADLINE_S)
        return from_message(answer, LimitUseView)

    async def check_proposal(self, proposal: bytes) -> PreTradeView:
        request = pb.CheckProposalRequest(proposal=proposal)
        return from_message(await self._call(self._stub.CheckProposal, request, CHECK_DEADLINE_S), PreTradeView)

    async def execute_approval(
        self,
        proposal: bytes,
        digest_hex: str,
        signatures: list[tuple[str, bytes]],
        trace: TraceContext,
        approvals_at_least: int = 1,
    ) -> ExecutionOutcomeView:
        """Consume an approval. Without an answer it isn't known whether it was consumed: the journal tells, and asking
        again can't execute it twice."""
        request = pb.ExecuteApprovalRequest(
            proposal=proposal,
            digest_hex=digest_hex,
            signatures=[pb.ApprovalSignature(key_id=key_id, signature=value) for key_id, value in signatures],
            approvals_at_least=approvals_at_least,
        )
        answer = await self._call(
            self._stub.ExecuteApproval, request, EXECUTE_DEADLINE_S, (TRACEPARENT_KEY, trace.traceparent)
        )
        return from_message(answer, ExecutionOutcomeView)

    async def void_approval(
        self,
        suggestion_id: str,
        version: int,
        *,
        account_id: str,
        requested_by: str,
        reason: str,
        trace: TraceContext | None = None,
    ) -> Refusal | None:
        """A suggestion's versions up to this one can't be approved any more."""
        request = pb.VoidApprovalRequest(
            suggestion_id=suggestion_id,
            version=version,
            account_id=account_id,
            requested_by=requested_by,
            reason=reason,
        )
        return _decision(await self._call(self._stub.VoidApproval, request, SAFETY_DEADLINE_S, *_trace(trace)))

    async def submit_order(
        self, ticket: bytes, authority: SignedRequest, trace: TraceContext | None = None
    ) -> ExecutionOutcomeView:
        """An order under a session or a mandate. Without an answer it isn't known whether it was taken: asking again
        with the same ticket finds the first order."""
        request = pb.SubmitOrderRequest(ticket=ticket, authority=authority.message())
        answer = await self._call(self._stub.SubmitOrder, request, EXECUTE_DEADLINE_S, *_trace(trace))
        return from_message(answer, ExecutionOutcomeView)

    async def submit_group(
        self, ticket: bytes, authority: SignedRequest, trace: TraceContext | None = None
    ) -> ExecutionOutcomeView:
        """An OCO or a bracket under a session or a mandate; the answer names its first order. Asking again with the
        same ticket finds it."""
        request = pb.SubmitOrderRequest(ticket=ticket, authority=authority.message())
        answer = await self._call(self._stub.SubmitGroup, request, EXECUTE_DEADLINE_S, *_trace(trace))
        return from_message(answer, ExecutionOutcomeView)

    async def amend_order(
        self, ticket: bytes, authority: SignedRequest, trace: TraceContext | None = None
    ) -> Refusal | None:
        """A new total quantity or limit price; None when it is on its way."""
        request = pb.AmendOrderRequest(ticket=ticket, authority=authority.message())
        return _decision(await self._call(self._stub.AmendOrder, request, EXECUTE_DEADLINE_S, *_trace(trace)))

    async def open_session(self, grant: bytes, key_id: str, signature: bytes) -> Refusal | None:
        """A session that its user's enrolled key has signed in."""
        return await self._signed(self._stub.OpenSession, grant, [(key_id, signature)])

    async def install_mandate(self, mandate: bytes, signatures: list[tuple[str, bytes]]) -> Refusal | None:
        """What a strategy may do, signed by its approvers."""
        return await self._signed(self._stub.InstallMandate, mandate, signatures)

    async def administer(self, document: bytes, signatures: list[tuple[str, bytes]]) -> Refusal | None:
        """Carry out a document that administrators, or the root key, have signed."""
        return await self._signed(self._stub.Administer, document, signatures)

    async def close_session(self, session_id: str, requested_by: str) -> Refusal | None:
        request = pb.CloseSessionRequest(session_id=session_id, requested_by=requested_by)
        return _decision(await self._call(self._stub.CloseSession, request, SAFETY_DEADLINE_S))

    async def revoke_mandate(self, mandate_id: str, requested_by: str) -> Refusal | None:
        request = pb.RevokeMandateRequest(mandate_id=mandate_id, requested_by=requested_by)
        return _decision(await self._call(self._stub.RevokeMandate, request, SAFETY_DEADLINE_S))

    async def renew_dead_mans_timer(self, requested_by: str) -> Refusal | None:
        request = pb.RenewDeadMansTimerRequest(requested_by=requested_by)
        return _decision(await self._call(self._stub.RenewDeadMansTimer, request, SAFETY_DEADLINE_S))

    async def orders(
        self, account_id: str, symbol: str | None = None, *, include_final: bool = False, limit: int = 0
    ) -> list[OrderView]:
        """An account's orders, newest first; a limit of 0 is the engine's own."""
        request = pb.ListOrdersRequest(account_id=account_id, symbol=symbol, include_final=include_final, limit=limit)
        answer = await self._call(self._stub.ListOrders, request, READ_DEADLINE_S)
        return [from_message(item, OrderView) for item in answer.orders]

    async def order(self, client_order_id: str) -> OrderView:
        request = pb.OrderRequest(client_order_id=client_order_id)
        return from_message(await self._call(self._stub.GetOrder, request, READ_DEADLINE_S), OrderView)

    async def rules(self) -> RiskRulesView:
        answer = await self._call(self._stub.GetRules, pb.GetRulesRequest(), READ_DEADLINE_S)
        return from_message(answer, RiskRulesView)

    async def check_rules(self, document: str) -> Refusal | None:
        """Whether the engine would take these rules; None when it would."""
        request = pb.CheckRulesRequest(document=document)
        return _decision(await self._call(self._stub.CheckRules, request, CHECK_DEADLINE_S))

    async def explain_risk(self, client_order_id: str) -> RiskExplanationView:
        """Which rules an order met, and how near each was."""
        request = pb.OrderRequest(client_order_id=client_order_id)
        answer = await self._call(self._stub.ExplainRisk, request, EXPLAIN_DEADLINE_S)
        return from_message(answer, RiskExplanationView)

    async def roster(self) -> RosterView:
        return from_message(await self._call(self._stub.GetRoster, pb.GetRosterRequest(), READ_DEADLINE_S), RosterView)

    async def sessions(self, account_id: str = "", *, include_ended: bool = False) -> list[SessionView]:
        """Newest first; of every account when account_id is empty."""
        request = pb.ListGrantsRequest(account_id=account_id, include_ended=include_ended)
        answer = await self._call(self._stub.ListSessions, request, READ_DEADLINE_S)
        return [from_message(item, SessionView) for item in answer.sessions]

    async def mandates(self, account_id: str = "", *, include_ended: bool = False) -> list[MandateView]:
        """Newest first; of every account when account_id is empty."""
        request = pb.ListGrantsRequest(account_id=account_id, include_ended=include_ended)
        answer = await self._call(self._stub.ListMandates, request, READ_DEADLINE_S)
        return [from_message(item, MandateView) for item in answer.mandates]

    async def reconcile(self, dry_run: bool, requested_by: str) -> ReconciliationView:
        """Compare with the venue; unless dry_run, apply what follows."""
        request = pb.ReconcileRequest(dry_run=dry_run, requested_by=requested_by)
        return from_message(await self._call(self._stub.Reconcile, request, RECONCILE_DEADLINE_S), ReconciliationView)

    async def exposure(self, account_id: str) -> ExposureView:
        answer = await self._call(self._stub.GetExposure, pb.AccountRequest(account_id=account_id), READ_DEADLINE_S)
        return from_message(answer, ExposureView)

    async def what_if(
        self,
        account_id: str,
        symbol: str,
        *,
        side: Side | None = None,
        quantity: Decimal | None = None,
        price: Decimal | None = None,
        price_move_bps: int | None = None,
    ) -> WhatIfView:
        """The account after an order, after a price move of the symbol, or after both."""
        request = pb.WhatIfRequest(
            account_id=account_id,
            symbol=symbol,
            side=side,
            quantity=None if quantity is None else decimal_text(quantity),
            price=None if price is None else decimal_text(price),
            price_move_bps=price_move_bps,
        )
        return from_message(await self._call(self._stub.WhatIf, request, CHECK_DEADLINE_S), WhatIfView)

    async def cancel_all(
        self, account_id: str, symbol: str | None, requested_by: str, trace: TraceContext | None = None
    ) -> int:
        """How many cancels were asked for. A safety command."""
        request = pb.CancelAllRequest(account_id=account_id, symbol=symbol, requested_by=requested_by)
        answer = await self._call(self._stub.CancelAll, request, SAFETY_DEADLINE_S, *_trace(trace))
        return int(answer.requested)

    async def cancel_order(
        self, client_order_id: str, requested_by: str, trace: TraceContext | None = None
    ) -> Refusal | None:
        """Ask for a cancel; None when it is on its way. A safety command."""
        request = pb.CancelOrderRequest(client_order_id=client_order_id, requested_by=requested_by)
        answer = await self._call(self._stub.CancelOrder, request, SAFETY_DEADLINE_S, *_trace(trace))
        return from_message(answer.refusal, Refusal) if answer.HasField("refusal") else None

    async def set_kill_switch(
        self, state: str, requested_by: str, reason: str, trace: TraceContext | None = None, account_id: str = ""
    ) -> EngineStatusView:
        """Tighten the kill switch, of one account or of the whole engine (empty account_id). Loosening is refused with
        AUTHORITY_KIND_NOT_ACCEPTED."""
        request = pb.SetKillSwitchRequest(state=state, requested_by=requested_by, reason=reason, account_id=account_id)
        answer = await self._call(self._stub.SetKillSwitch, request, SAFETY_DEADLINE_S, *_trace(trace))
        return from_message(answer, EngineStatusView)

    async def report_ledger(self, progress: LedgerProgress) -> None:
        """How far the ledger has projected and audited the journal."""
        await self._call(self._stub.ReportLedger, to_message(progress, pb.LedgerProgress), READ_DEADLINE_S)

    async def journal(self) -> JournalView:
        """The journal's segments, and what keeps each."""
        return from_message(
            await self._call(self._stub.GetJournal, pb.GetJournalRequest(), READ_DEADLINE_S), JournalView
        )

    async def archive_journal(self) -> JournalView:
        """Archive now what is closed, drop what may go."""
        answer = await self._call(self._stub.ArchiveJournal, pb.ArchiveJournalRequest(), ARCHIVE_DEADLINE_S)
        return from_message(answer, JournalView)

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

    async def _signed(self, method: Any, document: bytes, signatures: list[tuple[str, bytes]]) -> Refusal | None:
        request = pb.SignedDocument(
            document=document,
            signatures=[pb.ApprovalSignature(key_id=key_id, signature=value) for key_id, value in signatures],
        )
        return _decision(await self._call(method, request, EXECUTE_DEADLINE_S))

    async def _call(self, method: Any, request: Any, deadline_s: float, *metadata: tuple[str, str]) -> Any:
        call: Awaitable[Any] = method(request, timeout=deadline_s, metadata=(self._authorization, *metadata))
        try:
            return await call
        except grpc.aio.AioRpcError as error:
            raise _refusal_of(error) from error


def _decision(answer: Any) -> Refusal | None:
    return from_message(answer.refusal, Refusal) if answer.HasField("refusal") else None


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
