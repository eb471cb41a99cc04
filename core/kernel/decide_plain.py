"""The plain order, decided natively: a limit order under a mandate that nothing speaks against. What it says yes to,
core.kernel.decide_orders would have said yes to with the same record; all else is left to that."""

from __future__ import annotations

from core._native import PlainTerms
from core.kernel.inputs import DecisionInputs
from core.kernel.kernel import Kernel
from core.portfolio.performance import account_day, day_start_ns, next_day_start_ns
from core.risk.compiled import compiled
from core.types.authority import MandateAuthority
from core.types.events import OrderIntended
from core.types.instruments import Product
from core.types.orders import OrderRequest, OrderType, TimeInForce
from core.types.venues import VenueCapabilities

TERMS_KEPT = 10_000


def decide_plain(
    kernel: Kernel,
    request: OrderRequest,
    authority: MandateAuthority,
    inputs: DecisionInputs,
    capabilities: VenueCapabilities,
    now_ns: int,
    trace_id: str | None,
) -> OrderIntended | None:
    """None where core.kernel.decide_orders.decide_order is to decide. Changes nothing."""
    key = (request.account_id, request.strategy_id, request.venue, request.symbol)
    terms = kernel.plain_terms.get(key)
    if terms is None or not terms.hold(now_ns, capabilities):
        terms = _terms_of(kernel, request, capabilities, now_ns)
        if terms is None:
            return None
        if len(kernel.plain_terms) >= TERMS_KEPT:
            kernel.plain_terms.clear()
        kernel.plain_terms[key] = terms
    event: OrderIntended | None = kernel.plain.decide(terms, request, authority, inputs, now_ns, trace_id)
    return event


def _terms_of(kernel: Kernel, request: OrderRequest, capabilities: VenueCapabilities, now_ns: int) -> PlainTerms | None:
    """What holds until one of the tables that it comes from changes, or the account's day does."""
    key, account_id, rules = (request.venue, request.symbol), request.account_id, kernel.rules
    if rules is None or rules.custom or key not in kernel.listed_keys or account_id in kernel.frozen:
        return None
    instrument = kernel.instruments[key]
    if instrument.product is not Product.SPOT or OrderType.LIMIT not in capabilities.order_types:
        return None
    limits = compiled(rules.limits_for(account_id, request.strategy_id, request.symbol), rules.desks)
    if limits is None:
        return None
    observed = kernel.equity.get(account_id)
    is_today = observed is not None and observed.day == account_day(now_ns, rules.time_zone)
    start = None if observed is None else observed.day_start_equity if is_today else observed.equity
    try:
        return PlainTerms(
            limits,
            capabilities,
            request.venue,
            instrument.price_scale,
            instrument.quantity_scale,
            kernel.rules_version,
            [time for time in capabilities.times_in_force if time is not TimeInForce.GTD],
            kernel.effective_kill_switch(account_id),
            None if observed is None else observed.equity,
            start,
            None if observed is None else observed.peak_equity,
            day_start_ns(now_ns, rules.time_zone),
            next_day_start_ns(now_ns, rules.time_zone),
        )
    except ValueError:
        return None
