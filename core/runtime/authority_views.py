"""The roster, sessions and mandates of the kernel as the control plane shows them."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

from core.types.views import MandateView, RosterEntryView, RosterView, SessionView

if TYPE_CHECKING:
    from core.authority.state import MandateState, SessionState
    from core.kernel.kernel import Kernel


def roster_view(kernel: Kernel, now_ns: int) -> RosterView:
    """The roster in force."""
    roster = kernel.roster
    entries = tuple(
        RosterEntryView(
            key_id=entry.key_id,
            user_id=entry.user_id,
            public_key_hex=entry.public_key_hex,
            account_ids=entry.account_ids,
            paper_only=entry.paper_only,
            administers=entry.administers,
            approves=entry.approves,
            kind=entry.kind,
            algorithm=entry.algorithm,
            rp_id=entry.rp_id,
            origins=entry.origins,
            credential_id_hex=entry.credential_id_hex,
        )
        for entry in roster.entries
    )
    cli_only = Decimal(roster.cli_only_above_quote) if roster.cli_only_above_quote else None
    return RosterView(roster.version, Decimal(roster.two_approvals_above_quote), entries, now_ns, cli_only)


def session_views(kernel: Kernel, account_id: str, *, include_ended: bool, now_ns: int) -> list[SessionView]:
    """Newest first; of every account when account_id is empty."""
    views = [
        _session_view(session, now_ns)
        for session in kernel.sessions.values()
        if not account_id or account_id in session.grant.account_ids
    ]
    kept = [view for view in views if include_ended or view.state == "open"]
    return sorted(kept, key=lambda view: view.opened_ns, reverse=True)


def mandate_views(kernel: Kernel, account_id: str, *, include_ended: bool, now_ns: int) -> list[MandateView]:
    """Newest first; of every account when account_id is empty."""
    views = [
        _mandate_view(mandate, now_ns)
        for mandate in kernel.mandates.values()
        if account_id in {"", mandate.mandate.account_id}
    ]
    kept = [view for view in views if include_ended or view.state == "in force"]
    return sorted(kept, key=lambda view: view.installed_ns, reverse=True)


def _session_view(session: SessionState, now_ns: int) -> SessionView:
    grant = session.grant
    state = "closed" if session.closed else "expired" if now_ns >= session.expires_ns else "open"
    return SessionView(
        session_id=grant.session_id,
        user_id=grant.user_id,
        account_ids=grant.account_ids,
        state=state,
        orders_used=session.orders_used,
        max_orders=int(grant.max_orders),
        notional_used_quote=Decimal(session.notional_used_quote),
        max_order_notional_quote=Decimal(grant.max_order_notional_quote),
        max_total_notional_quote=Decimal(grant.max_total_notional_quote),
        opened_ns=session.opened_ns,
        expires_ns=session.expires_ns,
        as_of_ns=now_ns,
    )


def _mandate_view(state: MandateState, now_ns: int) -> MandateView:
    terms = state.mandate
    standing = "revoked" if state.revoked else "expired" if now_ns >= state.expires_ns else "in force"
    return MandateView(
        mandate_id=terms.mandate_id,
        account_id=terms.account_id,
        strategy_id=terms.strategy_id,
        venue=terms.venue,
        symbols=terms.symbols,
        state=standing,
        orders_used=state.orders_used,
        max_open_orders=int(terms.max_open_orders),
        notional_used_quote=Decimal(state.notional_used_quote),
        max_order_notional_quote=Decimal(terms.max_order_notional_quote),
        max_position_notional_quote=Decimal(terms.max_position_notional_quote),
        max_total_notional_quote=Decimal(terms.max_total_notional_quote),
        asker_id=terms.asker_id,
        digest_hex=state.digest_hex,
        installed_ns=state.installed_ns,
        expires_ns=state.expires_ns,
        as_of_ns=now_ns,
    )
