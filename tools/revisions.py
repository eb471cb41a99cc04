"""What changes a suggestion before anybody decides on it: an edit, fresh figures, its withdrawal. Ports only.

A changed suggestion is a new version with a digest of its own: signatures given to the old one mean nothing for it. The
engine is told first that the old version is void, so that no copy of it can be approved, and then the row follows.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal, localcontext
from typing import Any, Protocol

import msgspec

from audit.record import Action
from core.authority.proposal import parse_proposal, proposal_bytes, proposal_digest
from core.authority.proposal_kinds import (
    AmendProposal,
    BracketProposal,
    CloseProposal,
    HedgeProposal,
    OrderProposal,
    Proposal,
    Proposed,
    StrategyChangeProposal,
)
from core.authority.verify import priced_terms
from core.text.redaction import Redactor
from core.types.clock import NS_PER_S, Clock
from core.types.codes import ReasonCode, Refusal, RefusalError, refuse
from core.types.ids import TraceContext
from core.types.money import BPS_PER_UNIT, decimal_text
from core.types.orders import Side
from core.types.views import (
    EngineStatusView,
    ExecutionEstimateView,
    PositionView,
    PreTradeView,
    TickerView,
)
from tools.approval_policy import ApprovalPolicy
from tools.arguments import plain_text
from tools.contracts import Principal
from tools.decision_trail import DecisionTrail, not_found, shown_cells, unfindable
from tools.ports import SuggestionStore
from tools.suggestion_writer import checks_cells
from tools.suggestions import Decision, Suggestion, SuggestionStatus, expired_refusal, refusal_of_status
from tools.values import mid_price

REASON_LIMIT_CHARS = 1_000
ENGINE_REASON_LIMIT_CHARS = 500
CHANGES_LIMIT = 16
VALUE_LIMIT_CHARS = 64
PLAIN_DECIMAL = re.compile(r"[0-9]{1,40}(?:\.[0-9]{1,40})?", re.ASCII)
CALCULATION_DIGITS = 80
BPS_SHOWN = Decimal("0.0001")
EDITED = "edited"
Priced = Proposal | BracketProposal | AmendProposal
"""What names a price, or has one by the book."""
ORDER_TERMS = frozenset({"quantity", "price", "time_in_force", "post_only", "reduce_only"})
CONDITIONS = frozenset({"stop_price", "activation_price", "trailing_offset_bps", "order_expires_at_ns"})
ENTRY_TERMS = frozenset({"quantity", "entry_limit_price", "entry_trigger_price", "entry_post_only"})
PROFIT_TERMS = frozenset({"take_profit_limit_price", "take_profit_trigger_price"})
STOP_TERMS = frozenset({"stop_limit_price", "stop_trigger_price", "stop_trailing_offset_bps"})
LIMITS = frozenset(
    {
        *("new_max_order_notional_quote", "new_max_position_notional_quote"),
        *("new_max_total_notional_quote", "new_max_open_orders"),
    }
)
EDITABLE: Mapping[type[Proposed], frozenset[str]] = {
    Proposal: ORDER_TERMS,
    OrderProposal: ORDER_TERMS | CONDITIONS,
    CloseProposal: (ORDER_TERMS | CONDITIONS) - {"reduce_only"},
    # Its quantity follows from the exposure and the ratio, which are shown with it.
    HedgeProposal: (ORDER_TERMS | CONDITIONS) - {"quantity"},
    BracketProposal: ENTRY_TERMS | PROFIT_TERMS | STOP_TERMS,
    AmendProposal: frozenset({"new_quantity", "new_price"}),
    StrategyChangeProposal: LIMITS,
}
"""What an edit may change of each kind. Anything else would be another suggestion."""
DECIMAL_ENDINGS = ("quantity", "price", "notional_quote")


class RevisionPort(Protocol):
    """The engine as a revision sees it. Nothing of it makes an order possible."""

    async def status(self) -> EngineStatusView: ...
    async def ticker(self, symbol: str) -> TickerView: ...
    async def positions(self, account_id: str) -> list[PositionView]: ...
    async def estimate_execution(self, symbol: str, side: Side, quantity: Decimal) -> ExecutionEstimateView: ...
    async def check_proposal(self, proposal: bytes) -> PreTradeView: ...
    async def void_approval(
        self,
        suggestion_id: str,
        version: int,
        *,
        account_id: str,
        requested_by: str,
        reason: str,
        trace: TraceContext | None = None,
    ) -> Refusal | None: ...


class Revisions:
    """Edits, refreshes and withdraws. All of it raises RefusalError, with a record of the attempt."""

    def __init__(
        self,
        *,
        engine: RevisionPort,
        suggestions: SuggestionStore,
        trail: DecisionTrail,
        clock: Clock,
        policy: ApprovalPolicy,
        redactor: Redactor,
        figures_max_age_s: int,
        deciding: asyncio.Semaphore,
    ) -> None:
        self._engine = engine
        self._suggestions = suggestions
        self._trail = trail
        self._clock = clock
        self._policy = policy
        self._redactor = redactor
        self._deciding = deciding
        self._figures_max_age_ns = figures_max_age_s * NS_PER_S

    async def edit(
        self, principal: Principal, suggestion_id: str, version: int, changes: Mapping[str, str], reason: str
    ) -> Suggestion:
        """A new version with these terms, checked by risk at this moment. For its asker and for approvers.

        Raises RefusalError: RESOURCE_NOT_FOUND, AUTH_ROLE_NOT_PERMITTED, the refusals of a decision, REQUEST_INVALID
        for a field that can't be edited, AUTHORITY_PROPOSAL_MALFORMED, risk's own; the old version then stands.
        """
        kept = self._kept(reason)
        asked = {
            plain_text(name, VALUE_LIMIT_CHARS): plain_text(value, VALUE_LIMIT_CHARS) for name, value in changes.items()
        }
        cells: dict[str, Any] = {"decision": "edit", "changes": asked, "reason": kept}
        async with self._changing(principal, suggestion_id, version, cells) as (decision, now_ns):
            if not asked or len(asked) > CHANGES_LIMIT:
                raise refuse(ReasonCode.REQUEST_INVALID, "Name at least one field to change, and its new value.")
            return await self._replace(principal, decision, asked, now_ns, EDITED, kept)

    async def withdraw(self, principal: Principal, suggestion_id: str, version: int, reason: str) -> Suggestion:
        """The asker takes it back: rejected, by themselves. Raises RefusalError as edit does."""
        kept = self._kept(reason)
        cells: dict[str, Any] = {"decision": "withdraw", "reason": kept}
        async with self._changing(principal, suggestion_id, version, cells) as (decision, _):
            suggestion = decision.suggestion
            if principal.person_id != suggestion.asker_id:
                raise refuse(
                    ReasonCode.AUTH_ROLE_NOT_PERMITTED,
                    "Only who asked for it can withdraw it. An approver rejects it, with a reason.",
                    limit="its asker",
                    actual=principal.role.value,
                    unit="role",
                )
            decided_at_ns = self._clock.now_ns()
            step = self._trail.span(suggestion)
            cells |= shown_cells(suggestion, principal.user_id, decided_at_ns)
            await self._trail.decided(principal, suggestion, Action.SUGGESTION_WITHDRAWN, step, cells)
            await self.void(principal, suggestion, "withdrawn", step)
            told = f"Withdrawn by its asker. {kept}".strip()
            await decision.record(
                status=SuggestionStatus.REJECTED,
                decided_by=principal.user_id,
                decided_at_ns=decided_at_ns,
                reason=told,
            )
        return msgspec.structs.replace(
            suggestion,
            status=SuggestionStatus.REJECTED,
            decided_by=principal.user_id,
            decided_at_ns=decided_at_ns,
            decision_reason=told,
        )

    async def stale_figures(self, suggestion: Suggestion, now_ns: int) -> Refusal | None:
        """Whether the market has moved on from what was shown: by the proposal's own limit, or by age. Raises
        RefusalError when the engine can't tell."""
        order = suggestion.order
        if now_ns - suggestion.created_at_ns > self._figures_max_age_ns:
            return Refusal(
                ReasonCode.APPROVAL_FIGURES_STALE,
                "What was shown is too old to be approved. Look at the new version's figures, and sign that.",
                limit=str(self._figures_max_age_ns // NS_PER_S),
                actual=str((now_ns - suggestion.created_at_ns) // NS_PER_S),
                unit="s",
            )
        if not isinstance(order, Priced):
            return None
        shown, limit_bps = Decimal(order.reference_price), order.max_deviation_bps
        mid = _mid(await self._engine.ticker(order.symbol))
        with localcontext() as exact:
            exact.prec = CALCULATION_DIGITS
            # Compared exactly; only what is shown is rounded.
            if abs(mid - shown) * BPS_PER_UNIT <= Decimal(limit_bps) * shown:
                return None
            drift_bps = (abs(mid - shown) * BPS_PER_UNIT / shown).quantize(BPS_SHOWN)
        return Refusal(
            ReasonCode.RISK_PRICE_DRIFT_EXCEEDS_MAX,
            "The price has moved too far from what was shown. Look at the new version's figures, and sign that.",
            limit=limit_bps,
            actual=decimal_text(drift_bps),
            unit="bps",
        )

    async def refresh(self, principal: Principal, decision: Decision, stale: Refusal, now_ns: int) -> Suggestion:
        """The same terms with the figures of this moment, as a new version for a human to look at. Raises RefusalError
        when risk or the engine says no; the old version then stands, and still can't be approved."""
        return await self._replace(principal, decision, {}, now_ns, stale.code.value, "")

    async def void(self, principal: Principal, suggestion: Suggestion, why: str, step: TraceContext) -> None:
        """Have the engine refuse this version and older ones, whoever has signed them.

        Raises RefusalError: SERVICE_ENGINE_UNAVAILABLE, APPROVAL_ALREADY_CONSUMED.
        """
        refusal = await self._engine.void_approval(
            suggestion.suggestion_id,
            suggestion.version,
            account_id=suggestion.account_id,
            requested_by=principal.user_id,
            reason=why[:ENGINE_REASON_LIMIT_CHARS],
            trace=step,
        )
        if refusal is not None:
            raise RefusalError(refusal)

    @asynccontextmanager
    async def _changing(
        self, principal: Principal, suggestion_id: str, version: int, cells: dict[str, Any]
    ) -> AsyncIterator[tuple[Decision, int]]:
        """The locked row of a version that may still be changed, by who may, and the engine's time; a refusal in here
        is recorded as an attempt."""
        found: Suggestion | None = None
        try:
            refusal = unfindable(suggestion_id, version)
            if refusal is not None:
                raise RefusalError(refusal)
            async with (
                self._deciding,
                self._suggestions.deciding(principal.account_ids, suggestion_id, version) as decision,
            ):
                if decision is None:
                    raise RefusalError(not_found())
                found = decision.suggestion
                refusal = self._may_change(principal, found) or refusal_of_status(found)
                if refusal is not None:
                    raise RefusalError(refusal)
                now_ns = (await self._engine.status()).now_ns
                if now_ns >= found.expires_at_ns:
                    raise RefusalError(expired_refusal(found, now_ns))
                yield decision, now_ns
        except RefusalError as error:
            step = self._trail.span(found) if found else self._trail.new_trace()
            await self._trail.attempt_refused(principal, suggestion_id, version, error.refusal, step, cells, found)
            raise

    def _may_change(self, principal: Principal, suggestion: Suggestion) -> Refusal | None:
        if principal.kind == "human" and principal.person_id == suggestion.asker_id:
            return None
        return self._policy.may_decide(principal)

    async def _replace(
        self,
        principal: Principal,
        decision: Decision,
        changes: Mapping[str, str],
        now_ns: int,
        cause: str,
        reason: str,
    ) -> Suggestion:
        old = decision.suggestion
        newer, view = await self._newer(principal, old, changes, now_ns, cause)
        step = self._trail.span(old)
        if view.refusal is not None:
            raise RefusalError(view.refusal)
        await self._trail.decided(
            principal,
            newer,
            Action.SUGGESTION_EDITED,
            step,
            {
                "cause": cause,
                "reason": reason,
                "changes": dict(changes),
                "replaces": str(old.version),
                "replaces_digest": old.digest_hex,
                "digest": newer.digest_hex,
                "proposal": newer.order_fields(),
                "pre_trade": newer.pre_trade,
            },
        )
        await self.void(principal, old, f"version {newer.version} takes its place: {cause}", step)
        await decision.replace(newer)
        return newer

    async def _newer(
        self, principal: Principal, old: Suggestion, changes: Mapping[str, str], now_ns: int, cause: str
    ) -> tuple[Suggestion, PreTradeView]:
        order = old.order
        editable = EDITABLE.get(type(order), frozenset())
        if unknown := changes.keys() - editable:
            raise refuse(
                ReasonCode.REQUEST_INVALID,
                f"{min(unknown)} can't be edited: that would be another suggestion. What can: "
                f"{', '.join(sorted(editable)) or 'nothing'}.",
                actual=min(unknown),
            )
        values = {name: _plain(name, value) for name, value in changes.items()}
        values |= {
            "version": str(old.version + 1),
            "created_at_ns": str(now_ns),
            "expires_at_ns": str(now_ns + order.expires_ns - int(order.created_at_ns)),
        }
        if changes:
            values["edited_by"] = principal.person_id
        ticker = None
        if isinstance(order, Priced):
            ticker = await self._engine.ticker(order.symbol)
            values["reference_price"] = decimal_text(_mid(ticker))
            changed = parse_proposal(proposal_bytes(msgspec.structs.replace(order, **values)))
            assert isinstance(changed, Priced), "an edit keeps the kind"
            values["notional_quote"] = await self._notional(changed)
        canonical = proposal_bytes(msgspec.structs.replace(order, **values))
        fresh = parse_proposal(canonical)
        view = await self._engine.check_proposal(canonical)
        shown: dict[str, Any] = {"checks": checks_cells(view), "as_of_ns": str(view.as_of_ns), "notes": []}
        if ticker is not None:
            shown["market"] = _market_cells(ticker)
        if isinstance(fresh, Proposal | BracketProposal):
            shown["what_if"] = await self._what_if(fresh)
        shown["revision"] = {"replaces": str(old.version), "cause": cause, "changes": dict(changes)}
        newer = msgspec.structs.replace(
            old,
            version=old.version + 1,
            status=SuggestionStatus.PENDING,
            proposal=canonical,
            digest_hex=proposal_digest(canonical),
            pre_trade=shown,
            expires_at_ns=fresh.expires_ns,
            created_at_ns=now_ns,
            viewed_at_ns=None,
            edited_by=fresh.edited_by,
            approvals_due=view.approvals_due,
            signatures=(),
            views={},
        )
        return self._policy.with_note(newer, old, principal if changes else None), view

    async def _notional(self, order: Proposal | BracketProposal | AmendProposal) -> str:
        """What the order is worth at most, in the quote asset, as the terms say it or the book does."""
        terms = priced_terms(order)
        assert terms is not None, "it has a price, or the book gives one"
        quantity, prices = terms
        if prices:
            with localcontext() as exact:
                exact.prec = CALCULATION_DIGITS
                return decimal_text(quantity * max(prices))
        estimate = await self._engine.estimate_execution(order.symbol, Side(order.side), quantity)
        if not estimate.complete:
            raise refuse(
                ReasonCode.MARKET_DEPTH_INSUFFICIENT,
                "The book can't fill this quantity now. Lower it.",
                limit=decimal_text(estimate.filled_quantity),
                actual=decimal_text(quantity),
            )
        return decimal_text(estimate.notional_quote)

    async def _what_if(self, order: Proposal | BracketProposal) -> dict[str, str]:
        positions = await self._engine.positions(order.account_id)
        held = sum((position.quantity for position in positions if position.symbol == order.symbol), Decimal(0))
        change = Decimal(order.quantity) if order.side == Side.BUY else -Decimal(order.quantity)
        return {
            "position_before": decimal_text(held),
            "position_after": decimal_text(held + change),
            "notional_quote": order.notional_quote,
        }

    def _kept(self, reason: str) -> str:
        return self._redactor.text(plain_text(reason, REASON_LIMIT_CHARS)).text


def _mid(ticker: TickerView) -> Decimal:
    return mid_price(ticker.bid_price, ticker.ask_price)


def _market_cells(ticker: TickerView) -> dict[str, str]:
    return {
        "bid_price": decimal_text(ticker.bid_price),
        "ask_price": decimal_text(ticker.ask_price),
        "mid_price": decimal_text(_mid(ticker)),
        "as_of_ns": str(ticker.as_of_ns),
    }


def _plain(name: str, value: str) -> str:
    """Decimals in the one form that is digested; the engine's parser judges the rest."""
    # By its form first: written out, a Decimal of 14 characters can take gigabytes.
    if not name.endswith(DECIMAL_ENDINGS) or not PLAIN_DECIMAL.fullmatch(value):
        return value
    return decimal_text(Decimal(value))
