"""What each kind of proposal says. All of it is text: decimals in plain notation, times in ns, flags as `true` or
`false`, empty for none."""

from __future__ import annotations

import msgspec


class Proposed(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Common to all kinds: which suggestion it is, for which engine and account, who asked, and how long it holds.

    edited_by is whose change made this version; nobody's is left out, so what was signed before there were edits stays
    what it was.
    """

    schema: str
    suggestion_id: str
    version: str
    environment: str
    mode: str
    engine_id: str
    account_id: str
    asker_id: str
    run_id: str
    trace_id: str
    created_at_ns: str
    expires_at_ns: str
    edited_by: str = ""

    @property
    def authors(self) -> frozenset[str]:
        """Whose proposal it is: theirs is never one of two approvals."""
        return frozenset({self.asker_id, self.edited_by} - {""})

    @property
    def expires_ns(self) -> int:
        return int(self.expires_at_ns)


class Proposal(Proposed, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One exact LIMIT or MARKET order: the first schema, which stays valid.

    price is empty for MARKET. reference_price is the mid at the time of the proposal; max_deviation_bps is how far
    the mid may have moved from it at send before the proposal goes back to a human.
    """

    venue: str
    symbol: str
    instrument_version: str
    side: str
    order_type: str
    time_in_force: str
    quantity: str
    price: str
    post_only: str
    reduce_only: str
    notional_quote: str
    reference_price: str
    max_deviation_bps: str


class OrderProposal(Proposal, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One exact order of any type. stop_price is of a stop or a take-profit; trailing_offset_bps, and activation_price
    if there is one, of a trailing stop; order_expires_at_ns is until when a GTD order is good."""

    stop_price: str
    trailing_offset_bps: str
    activation_price: str
    order_expires_at_ns: str


class CloseProposal(OrderProposal, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A LIMIT or MARKET order that can only reduce a position; position_quantity is that position, negative for a short
    one, as it was shown."""

    position_quantity: str


class HedgeProposal(OrderProposal, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A LIMIT or MARKET order against an exposure, and how its size follows from it: quantity x reference_price is at
    most |exposure_quantity| x exposure_price x hedge_ratio_bps / 10,000. exposure_quantity is the position in
    hedged_symbol, negative for a short one, as it was shown."""

    hedged_symbol: str
    exposure_quantity: str
    exposure_price: str
    hedge_ratio_bps: str


class BracketProposal(Proposed, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An entry, and a take-profit, a stop or both that wait for what it fills, under one approval. The exits are on the
    other side, for the same quantity, and rest until they are done; an empty type is an exit that there isn't.
    trigger_price is what the last trade has to reach, limit_price what the order then asks for."""

    venue: str
    symbol: str
    instrument_version: str
    side: str
    quantity: str
    entry_type: str
    entry_time_in_force: str
    entry_limit_price: str
    entry_trigger_price: str
    entry_post_only: str
    take_profit_type: str
    take_profit_limit_price: str
    take_profit_trigger_price: str
    stop_type: str
    stop_limit_price: str
    stop_trigger_price: str
    stop_trailing_offset_bps: str
    notional_quote: str
    reference_price: str
    max_deviation_bps: str


class CancelProposal(Proposed, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The end of one open order. Its terms are those that it had when this was proposed: with others it is an order
    that nobody was shown."""

    client_order_id: str
    venue: str
    symbol: str
    side: str
    order_type: str
    quantity: str
    price: str
    stop_price: str


class CancelListedProposal(Proposed, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The end of several open orders, exactly those in orders (core.authority.listed_orders), with the terms that they
    had when this was proposed. symbol is the market whose orders they are, empty for all of the account's."""

    venue: str
    symbol: str
    orders: str


class AmendProposal(Proposed, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Another total quantity or limit price of one resting order: as it is (quantity, price, filled_quantity), and as
    it is to be (new_quantity, new_price). notional_quote is what all of it would be worth."""

    client_order_id: str
    venue: str
    symbol: str
    instrument_version: str
    side: str
    order_type: str
    quantity: str
    price: str
    filled_quantity: str
    new_quantity: str
    new_price: str
    notional_quote: str
    reference_price: str
    max_deviation_bps: str


class KillSwitchProposal(Proposed, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A tighter kill switch. scope is `account` for the proposal's own, or `engine` for all of it."""

    scope: str
    state: str
    reason: str


class StrategyChangeProposal(Proposed, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The end of a strategy's mandate (action `revoke`), or tighter limits of it (`tighten`; new_ are then set). The
    limits are those that it had when this was proposed."""

    mandate_id: str
    strategy_id: str
    action: str
    max_order_notional_quote: str
    max_position_notional_quote: str
    max_total_notional_quote: str
    max_open_orders: str
    new_max_order_notional_quote: str
    new_max_position_notional_quote: str
    new_max_total_notional_quote: str
    new_max_open_orders: str
    reason: str


AnyProposal = (
    Proposal
    | BracketProposal
    | CancelProposal
    | CancelListedProposal
    | AmendProposal
    | KillSwitchProposal
    | StrategyChangeProposal
)
