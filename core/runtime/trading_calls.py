"""The control plane's calls about orders, authority, rules and exposure: each a thin translation to the service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from core.runtime import authority_views, order_views
from core.runtime._proto import engine_pb2 as pb
from core.runtime._proto import engine_pb2_grpc
from core.runtime.answering import (
    REASON_LENGTH_LIMIT,
    REQUESTED_BY_LENGTH_LIMIT,
    Context,
    check_length,
    read_decimal,
    read_side,
    reply,
    reply_later,
    trace_of,
)
from core.runtime.clock_watch import clock_refusal, refused_by_clock
from core.runtime.messages import to_message
from core.runtime.ticket_authority import command_authority
from core.runtime.tickets import (
    AmendTicket,
    GroupTicket,
    OrderTicket,
    T,
    amendment,
    group_request,
    order_request,
    read_ticket,
)
from core.types.codes import ReasonCode, Refusal, refuse

if TYPE_CHECKING:
    from core.runtime.service import EngineService

DOCUMENT_LENGTH_LIMIT = 1_000_000
ORDERS_SHOWN_LIMIT = 1_000
SUGGESTION_ID_LENGTH_LIMIT = 64


class TradingCalls(engine_pb2_grpc.EngineServicer):
    """Mixed into EngineServicer."""

    _service: EngineService

    async def SubmitOrder(self, request: pb.SubmitOrderRequest, context: Context) -> pb.ExecutionOutcome:
        async def submitted() -> pb.ExecutionOutcome:
            held_up = refused_by_clock(self._service.clock)
            if held_up is not None:
                return to_message(held_up, pb.ExecutionOutcome)
            order = order_request(self._ticket(request.ticket, OrderTicket), self._service.kernel.instruments)
            authority = command_authority(self._service.kernel, request.authority, request.ticket)
            outcome = await self._service.submit_order(
                order, authority, trace_of(context), request_bytes=request.ticket
            )
            return to_message(outcome, pb.ExecutionOutcome)

        return await reply_later(context, submitted)

    async def SubmitGroup(self, request: pb.SubmitOrderRequest, context: Context) -> pb.ExecutionOutcome:
        async def submitted() -> pb.ExecutionOutcome:
            held_up = refused_by_clock(self._service.clock)
            if held_up is not None:
                return to_message(held_up, pb.ExecutionOutcome)
            group = group_request(self._ticket(request.ticket, GroupTicket), self._service.kernel.instruments)
            authority = command_authority(self._service.kernel, request.authority, request.ticket)
            outcome = await self._service.submit_group(
                group, authority, trace_of(context), request_bytes=request.ticket
            )
            return to_message(outcome, pb.ExecutionOutcome)

        return await reply_later(context, submitted)

    async def AmendOrder(self, request: pb.AmendOrderRequest, context: Context) -> pb.Decision:
        async def amended() -> Refusal | None:
            held_up = clock_refusal(self._service.clock)
            if held_up is not None:
                return held_up
            ticket = self._ticket(request.ticket, AmendTicket)
            quantity, price = amendment(ticket)
            authority = command_authority(self._service.kernel, request.authority, request.ticket)
            return await self._service.amend_order(
                ticket.client_order_id,
                quantity,
                price,
                authority,
                trace_of(context),
                request_bytes=request.ticket,
                request_id=ticket.request_id,
            )

        return await _decided(context, amended)

    def _ticket(self, canonical: bytes, ticket_type: type[T]) -> T:
        return read_ticket(canonical, ticket_type, self._service.clock.now_ns())

    async def CancelAll(self, request: pb.CancelAllRequest, context: Context) -> pb.CancelAllResponse:
        async def cancelled() -> pb.CancelAllResponse:
            check_length("requested_by", request.requested_by, REQUESTED_BY_LENGTH_LIMIT)
            symbol = request.symbol if request.HasField("symbol") else None
            requested = await self._service.cancel_all(
                request.account_id, symbol, request.requested_by, trace_of(context)
            )
            return pb.CancelAllResponse(requested=requested)

        return await reply_later(context, cancelled)

    async def OpenSession(self, request: pb.SignedDocument, context: Context) -> pb.Decision:
        async def opened() -> Refusal | None:
            if len(request.signatures) != 1:
                raise refuse(ReasonCode.REQUEST_INVALID, "A session is signed in by one key, that of its user.")
            signature = request.signatures[0]
            return await self._service.open_session(request.document, signature.key_id, signature.signature)

        return await _decided(context, opened)

    async def CloseSession(self, request: pb.CloseSessionRequest, context: Context) -> pb.Decision:
        async def closed() -> Refusal | None:
            check_length("requested_by", request.requested_by, REQUESTED_BY_LENGTH_LIMIT)
            return await self._service.close_session(request.session_id, request.requested_by)

        return await _decided(context, closed)

    async def VoidApproval(self, request: pb.VoidApprovalRequest, context: Context) -> pb.Decision:
        async def voided() -> Refusal | None:
            check_length("suggestion_id", request.suggestion_id, SUGGESTION_ID_LENGTH_LIMIT)
            check_length("account_id", request.account_id, REQUESTED_BY_LENGTH_LIMIT)
            check_length("requested_by", request.requested_by, REQUESTED_BY_LENGTH_LIMIT)
            check_length("reason", request.reason, REASON_LENGTH_LIMIT)
            return await self._service.void_approval(
                request.suggestion_id,
                request.version,
                account_id=request.account_id,
                requested_by=request.requested_by,
                reason=request.reason,
                trace=trace_of(context),
            )

        return await _decided(context, voided)

    async def InstallMandate(self, request: pb.SignedDocument, context: Context) -> pb.Decision:
        return await _decided(context, lambda: self._service.install_mandate(request.document, _signatures(request)))

    async def RevokeMandate(self, request: pb.RevokeMandateRequest, context: Context) -> pb.Decision:
        async def revoked() -> Refusal | None:
            check_length("requested_by", request.requested_by, REQUESTED_BY_LENGTH_LIMIT)
            return await self._service.revoke_mandate(request.mandate_id, request.requested_by)

        return await _decided(context, revoked)

    async def Administer(self, request: pb.SignedDocument, context: Context) -> pb.Decision:
        return await _decided(context, lambda: self._service.administer(request.document, _signatures(request)))

    async def RenewDeadMansTimer(self, request: pb.RenewDeadMansTimerRequest, context: Context) -> pb.Decision:
        async def renewed() -> Refusal | None:
            check_length("requested_by", request.requested_by, REQUESTED_BY_LENGTH_LIMIT)
            return self._service.renew_dead_mans_timer(request.requested_by)

        return await _decided(context, renewed)

    async def ListOrders(self, request: pb.ListOrdersRequest, context: Context) -> pb.GetOpenOrdersResponse:
        def listed() -> pb.GetOpenOrdersResponse:
            now_ns = self._service.clock.now_ns()
            views = order_views.list_orders(
                self._service.kernel,
                request.account_id,
                request.symbol if request.HasField("symbol") else None,
                include_final=request.include_final,
                limit=min(request.limit or ORDERS_SHOWN_LIMIT, ORDERS_SHOWN_LIMIT),
                now_ns=now_ns,
            )
            return pb.GetOpenOrdersResponse(orders=[to_message(view, pb.Order) for view in views], as_of_ns=now_ns)

        return await reply(context, listed)

    async def GetOrder(self, request: pb.OrderRequest, context: Context) -> pb.Order:
        def found() -> pb.Order:
            view = order_views.find_order(self._service.kernel, request.client_order_id, self._service.clock.now_ns())
            return to_message(view, pb.Order)

        return await reply(context, found)

    async def GetRules(self, request: pb.GetRulesRequest, context: Context) -> pb.RiskRules:
        return await reply(
            context,
            lambda: to_message(
                order_views.rules_view(self._service.kernel, self._service.clock.now_ns()), pb.RiskRules
            ),
        )

    async def CheckRules(self, request: pb.CheckRulesRequest, context: Context) -> pb.Decision:
        async def checked() -> Refusal | None:
            check_length("document", request.document, DOCUMENT_LENGTH_LIMIT)
            message = self._service.check_rules(request.document)
            return None if message is None else Refusal(ReasonCode.RISK_RULES_INVALID, message)

        return await _decided(context, checked)

    async def ExplainRisk(self, request: pb.OrderRequest, context: Context) -> pb.RiskExplanation:
        async def explained() -> pb.RiskExplanation:
            return to_message(await self._service.explain_risk(request.client_order_id), pb.RiskExplanation)

        return await reply_later(context, explained)

    async def GetRoster(self, request: pb.GetRosterRequest, context: Context) -> pb.Roster:
        return await reply(
            context,
            lambda: to_message(
                authority_views.roster_view(self._service.kernel, self._service.clock.now_ns()), pb.Roster
            ),
        )

    async def ListSessions(self, request: pb.ListGrantsRequest, context: Context) -> pb.ListSessionsResponse:
        def listed() -> pb.ListSessionsResponse:
            views = authority_views.session_views(
                self._service.kernel,
                request.account_id,
                include_ended=request.include_ended,
                now_ns=self._service.clock.now_ns(),
            )
            return pb.ListSessionsResponse(sessions=[to_message(view, pb.Session) for view in views])

        return await reply(context, listed)

    async def ListMandates(self, request: pb.ListGrantsRequest, context: Context) -> pb.ListMandatesResponse:
        def listed() -> pb.ListMandatesResponse:
            views = authority_views.mandate_views(
                self._service.kernel,
                request.account_id,
                include_ended=request.include_ended,
                now_ns=self._service.clock.now_ns(),
            )
            return pb.ListMandatesResponse(mandates=[to_message(view, pb.Mandate) for view in views])

        return await reply(context, listed)

    async def Reconcile(self, request: pb.ReconcileRequest, context: Context) -> pb.Reconciliation:
        async def reconciled() -> pb.Reconciliation:
            check_length("requested_by", request.requested_by, REQUESTED_BY_LENGTH_LIMIT)
            return to_message(await self._service.reconcile(request.dry_run, request.requested_by), pb.Reconciliation)

        return await reply_later(context, reconciled)

    async def GetExposure(self, request: pb.AccountRequest, context: Context) -> pb.Exposure:
        return await reply(context, lambda: to_message(self._service.exposure(request.account_id), pb.Exposure))

    async def WhatIf(self, request: pb.WhatIfRequest, context: Context) -> pb.WhatIfAnswer:
        def imagined() -> pb.WhatIfAnswer:
            has = request.HasField
            if has("side") is not has("quantity"):
                raise refuse(ReasonCode.REQUEST_INVALID, "An order to imagine has a side and a quantity.")
            if not has("side") and not has("price_move_bps"):
                raise refuse(ReasonCode.REQUEST_INVALID, "Give an order (side and quantity), price_move_bps, or both.")
            view = self._service.what_if(
                request.account_id,
                request.symbol,
                side=read_side(request.side) if has("side") else None,
                quantity=read_decimal("quantity", request.quantity) if has("quantity") else None,
                price=read_decimal("price", request.price) if has("price") else None,
                price_move_bps=request.price_move_bps if has("price_move_bps") else None,
            )
            return to_message(view, pb.WhatIfAnswer)

        return await reply(context, imagined)


def _signatures(request: pb.SignedDocument) -> list[tuple[str, bytes]]:
    return [(item.key_id, item.signature) for item in request.signatures]


async def _decided(context: Context, decide: Callable[[], Awaitable[Refusal | None]]) -> pb.Decision:
    async def decided() -> pb.Decision:
        refusal = await decide()
        return pb.Decision() if refusal is None else pb.Decision(refusal=to_message(refusal, pb.Refusal))

    return await reply_later(context, decided)
