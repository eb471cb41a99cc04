"""Risk on one order against the kernel's state and the market of this moment (I3); rules in and out of force."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import msgspec

from core._native import evaluate_risk
from core.kernel.inputs import Balances, DecisionInputs
from core.kernel.kernel import Kernel
from core.orders.machine import Order
from core.portfolio.margin import initial_margin
from core.portfolio.performance import account_day
from core.portfolio.positions import Position
from core.risk.activity import AMEND, CANCEL, ORDER, fingerprint
from core.risk.checks import RiskDecision, evaluate, notional_of, refusal_of
from core.risk.compiled import compiled
from core.risk.custom import REQUIRE_TWO_APPROVALS, WARN, CustomRule, CustomRuleError
from core.risk.exposure import counts
from core.risk.inputs import EXACT, AccountInputs, BeforeAfter, RateCount, RiskInputs
from core.risk.rules import EffectiveLimits, RateLimit, RiskRules, RiskRulesError, parse_risk_rules
from core.types.authority import AdministrationAuthority
from core.types.clock import NS_PER_S
from core.types.codes import ReasonCode, Refusal
from core.types.events import RULE_NOT_MET, RiskCheckRecord, RiskRulesInstalled, rendered_checks
from core.types.instruments import Instrument, Product
from core.types.money import decimal_text, from_scaled
from core.types.orders import OrderIntent, OrderStatus, Side

UNANSWERED = frozenset({OrderStatus.INTENDED, OrderStatus.UNKNOWN})
APPROVALS_FOR_TWO = 2
Place = tuple[int, int, int | None, int | None, Decimal]
"""As core._native.evaluate_risk takes it."""


class RiskSubject(msgspec.Struct, frozen=True):
    """What is judged. replaces names the order whose place it takes, which then doesn't count beside it; approvals is
    how many signatures it carries; reference_price and max_deviation_bps are those of a proposal, at send."""

    intent: OrderIntent
    replaces: str | None = None
    is_amendment: bool = False
    approvals: int = 0
    reference_price: Decimal | None = None
    max_deviation_bps: Decimal | None = None


def run_risk(kernel: Kernel, subject: RiskSubject, inputs: DecisionInputs, now_ns: int) -> RiskDecision:
    """Every check on one order. Changes nothing.

    The built-in checks run natively; custom rules, and values that 128 bits don't hold, are left to their oracle.
    """
    if inputs.account_id not in {None, subject.intent.account_id}:
        return RiskDecision((), _another_account(subject.intent.account_id, inputs.account_id))
    decision = _run_natively(kernel, subject, inputs, now_ns)
    return run_risk_in_python(kernel, subject, inputs, now_ns) if decision is None else decision


def _another_account(account_id: str, own: str | None) -> Refusal:
    """The venue would book the order to its key's own account, whatever it is called here."""
    return Refusal(
        ReasonCode.AUTHORITY_WRONG_ENGINE,
        f"This engine trades the account of its venue key only. Ask the engine of account {account_id[:64]}.",
        limit=own,
        actual=account_id[:64],
    )


def _run_natively(kernel: Kernel, subject: RiskSubject, inputs: DecisionInputs, now_ns: int) -> RiskDecision | None:
    rules, intent = kernel.rules, subject.intent
    assert rules is not None, "the engine installs its rules before it serves"
    limits = compiled(rules.limits_for(intent.account_id, intent.strategy_id, intent.symbol), rules.desks)
    replaced = kernel.orders.get(subject.replaces) if subject.replaces else None
    if rules.custom or limits is None or (subject.is_amendment and replaced is None):
        return None
    place = margin = None
    if replaced is not None:
        place = _place_of(kernel, replaced, subject, inputs)
        if place is None:
            return None
    if kernel.instruments[intent.venue, intent.symbol].product is Product.USDM:
        needed, balance = _margin(kernel, intent, replaced, inputs)
        margin = None if needed is None else (needed.before, needed.after, balance)
    observed = kernel.equity.get(intent.account_id)
    found = evaluate_risk(
        kernel.exposure,
        kernel.activity,
        limits,
        intent,
        inputs,
        kernel.effective_kill_switch(intent.account_id),
        kernel.frozen.get(intent.account_id),
        observed,
        observed is not None and observed.day == account_day(now_ns, rules.time_zone),
        now_ns,
        subject.reference_price,
        subject.max_deviation_bps,
        place,
        margin,
    )
    if found is None:
        return None
    rendered, refused, notional = found
    records = rendered_checks(rendered)
    return RiskDecision(
        records,
        None if refused is None else refusal_of(records[refused]),
        None if notional is None else Decimal(notional),
    )


def _place_of(kernel: Kernel, replaced: Order, subject: RiskSubject, inputs: DecisionInputs) -> Place | None:
    """What the native checks need of the order whose place is taken; None when it isn't one of the same kind."""
    old, new = replaced.intent, subject.intent
    alike = ("account_id", "venue", "symbol", "side", "price_scale", "quantity_scale")
    if any(getattr(old, name) != getattr(new, name) for name in alike):
        return None
    given = None if inputs.balances is None else _given_back(kernel, replaced, inputs.balances.as_of_ns)
    given_back = Decimal(0) if given is None else given[1]
    part = _resting_part(replaced, new.side)
    if not subject.is_amendment:
        return part, 0, None, None, given_back
    return part, replaced.filled_quantity, replaced.remaining_quantity, old.price, given_back


def run_risk_in_python(kernel: Kernel, subject: RiskSubject, inputs: DecisionInputs, now_ns: int) -> RiskDecision:
    """What the native checks are held to."""
    rules = kernel.rules
    assert rules is not None, "the engine installs its rules before it serves"
    intent = subject.intent
    instrument = kernel.instruments[intent.venue, intent.symbol]
    limits = rules.limits_for(intent.account_id, intent.strategy_id, intent.symbol)
    position = kernel.positions.get((intent.account_id, intent.venue, intent.symbol), Position())
    resting = kernel.exposure.resting(intent.account_id, intent.venue, intent.symbol)
    replaced = kernel.orders.get(subject.replaces) if subject.replaces else None
    beside = resting.quantity(intent.side) - _resting_part(replaced, intent.side)
    account = _account_inputs(kernel, rules, limits, subject, replaced, inputs, now_ns)
    risk_inputs = RiskInputs(
        instrument=instrument,
        side=intent.side,
        order_type=intent.order_type,
        quantity=from_scaled(intent.quantity, intent.quantity_scale),
        price=_price(intent.price, intent),
        reduce_only=intent.reduce_only,
        limits=limits,
        kill_switch=kernel.effective_kill_switch(intent.account_id),
        venue_connected=inputs.venue_connected,
        market=inputs.market,
        position_quantity=from_scaled(position.quantity, instrument.quantity_scale),
        reducing_quantity=from_scaled(beside, instrument.quantity_scale),
        intent_unresolved=resting.unknown(intent.side) > 0,
        account=account,
        worst_price=inputs.worst_price,
        depth_quantity=inputs.depth_quantity,
        reference_price=subject.reference_price,
        max_deviation_bps=subject.max_deviation_bps,
        available=None if inputs.balances is None else available(kernel, inputs.balances, replaced),
        visible_quantity=inputs.visible_quantity,
        quote_rate=_rate(inputs, instrument.quote_asset),
        stop_price=_price(intent.stop_price, intent),
        activation_price=_price(intent.activation_price, intent),
        **_amended(replaced if subject.is_amendment else None),
    )
    if rules.custom:
        records = _custom(rules, risk_inputs, subject, now_ns)
        risk_inputs = msgspec.structs.replace(risk_inputs, custom=records)
    return evaluate(risk_inputs)


def with_held(kernel: Kernel, intent: OrderIntent, decision: RiskDecision, adds: int) -> RiskDecision:
    """The limit on open orders for one that the engine would hold, and those that come with it: what is held counts as
    well, because all of it is the engine's work, and may be let go at once."""
    rules, code = kernel.rules, ReasonCode.RISK_OPEN_ORDERS_EXCEED_MAX
    assert rules is not None, "the engine installs its rules before it serves"
    account_id = intent.account_id
    limit = rules.limits_for(account_id, intent.strategy_id, intent.symbol)["max_open_orders"]
    held = sum(
        order.status is OrderStatus.HELD and order.intent.account_id == account_id for order in kernel.open_orders()
    )
    actual = kernel.exposure.open_orders(account_id) + held + adds
    record = RiskCheckRecord(
        code, actual <= limit.value, decimal_text(limit.value), str(actual), "orders", limit.source
    )
    checks = tuple(record if check.name == code else check for check in decision.checks)
    refusal = decision.refusal or (None if record.passed else refusal_of(record))
    return msgspec.structs.replace(decision, checks=checks, refusal=refusal)


def decide_rules(
    kernel: Kernel,
    document: str,
    authority: AdministrationAuthority | None,
    now_ns: int,
    rolled_back_to: int | None = None,
) -> Refusal | tuple[RiskRulesInstalled, ...]:
    """Put rules into force, validated whole. What is in force already gives no event, unless a document asked for it:
    that is used up by its record, and can't come again when other rules are in force."""
    try:
        rules = parse_risk_rules(document, "risk rules")
    except RiskRulesError as error:
        return Refusal(ReasonCode.RISK_RULES_INVALID, str(error)[:1_000])
    if rules.digest_hex == kernel.rules_digest_hex and authority is None:
        return ()
    return (
        RiskRulesInstalled(
            ts_ns=now_ns,
            version=kernel.rules_version + 1,
            digest_hex=rules.digest_hex,
            document=document,
            authority=authority,
            rolled_back_to=rolled_back_to,
        ),
    )


def decide_rollback(
    kernel: Kernel, version: int, authority: AdministrationAuthority | None, now_ns: int
) -> Refusal | tuple[RiskRulesInstalled, ...]:
    """Put the document of an earlier version into force again, as a new version; 0 means the newest that differs."""
    others = [item.version for item in kernel.rules_history if item.digest_hex != kernel.rules_digest_hex]
    wanted = version or max(others, default=0)
    known = kernel.rule_versions.get(wanted)
    if known is None:
        kept = ", ".join(str(item.version) for item in kernel.rules_history)
        return Refusal(
            ReasonCode.RISK_RULES_INVALID,
            f"There is no version {wanted} of the rules to go back to; kept are {kept or 'none'}.",
            actual=str(wanted),
        )
    return decide_rules(kernel, known.document, authority, now_ns, rolled_back_to=wanted)


def available(kernel: Kernel, balances: Balances, without: Order | None = None) -> dict[str, Decimal]:
    """What the venue said there is, less what our orders take: all of an order that changed since it was asked, else
    its rest. One that changed at that very time counts too: a clock that was set back stands still for long."""
    left = dict(balances.total)
    for key in kernel.listed:
        instrument = kernel.instruments[key]
        left.setdefault(instrument.base_asset, Decimal(0))
        left.setdefault(instrument.quote_asset, Decimal(0))
    taken = {asset: kernel.exposure.reserved(asset, balances.as_of_ns) for asset in left}
    if None in taken.values():
        return walked(kernel, balances, without)
    for asset, amount in taken.items():
        left[asset] = EXACT.subtract(left[asset], Decimal(amount or 0))
    return _with_given_back(kernel, left, balances, without)


def walked(kernel: Kernel, balances: Balances, without: Order | None = None) -> dict[str, Decimal]:
    """The same, by looking at every order."""
    left = dict(balances.total)
    for order in kernel.orders.values():
        taking = _taken_by(kernel, order, balances.as_of_ns)
        if taking is not None:
            asset, amount = taking
            left[asset] = EXACT.subtract(left.get(asset, Decimal(0)), amount)
    return _with_given_back(kernel, left, balances, without)


def _with_given_back(
    kernel: Kernel, left: dict[str, Decimal], balances: Balances, without: Order | None
) -> dict[str, Decimal]:
    given = None if without is None else _given_back(kernel, without, balances.as_of_ns)
    if given is not None:
        asset, own = given
        left[asset] = EXACT.add(left.get(asset, Decimal(0)), own)
    return left


def _taken_by(kernel: Kernel, order: Order, as_of_ns: int) -> tuple[str, Decimal] | None:
    if order.status in {OrderStatus.REJECTED, OrderStatus.HELD}:
        return None
    whole = order.updated_ns >= as_of_ns or order.status in UNANSWERED
    if not whole and order.status.is_final:
        return None
    return _reservation(kernel, order, order.intent.quantity if whole else order.remaining_quantity)


def _given_back(kernel: Kernel, order: Order, as_of_ns: int) -> tuple[str, Decimal] | None:
    """What an order takes that goes to the one in its place. Of one that is over what it filled is spent: the venue's
    figure may be older than that."""
    taking = _taken_by(kernel, order, as_of_ns)
    if taking is None or not order.status.is_final:
        return taking
    return _reservation(kernel, order, order.remaining_quantity) if order.remaining_quantity else None


def _reservation(kernel: Kernel, order: Order, quantity: int) -> tuple[str, Decimal]:
    intent = order.intent
    instrument = kernel.instruments[intent.venue, intent.symbol]
    amount = from_scaled(quantity, intent.quantity_scale)
    if intent.side is Side.SELL:
        return instrument.base_asset, amount
    if intent.price is None:
        return instrument.quote_asset, Decimal(order.notional_quote)
    return instrument.quote_asset, EXACT.multiply(amount, from_scaled(intent.price, intent.price_scale))


def _account_inputs(
    kernel: Kernel,
    rules: RiskRules,
    limits: EffectiveLimits,
    subject: RiskSubject,
    replaced: Order | None,
    inputs: DecisionInputs,
    now_ns: int,
) -> AccountInputs:
    intent = subject.intent
    position, gross, net = _exposures(kernel, intent, replaced, inputs)
    observed = kernel.equity.get(intent.account_id)
    is_today = observed is not None and observed.day == account_day(now_ns, rules.time_zone)
    equity = None if observed is None else Decimal(observed.equity)
    resting = kernel.exposure.resting(intent.account_id, intent.venue, intent.symbol)
    own = resting.opposite_price(intent.side)
    kind = AMEND if subject.is_amendment else ORDER
    rates = limits.rates["amend_rate" if subject.is_amendment else "order_rate"]
    print_of_order = fingerprint(intent)
    margin, margin_balance = _margin(kernel, intent, replaced, inputs)
    return AccountInputs(
        position=position,
        gross=gross,
        net=net,
        open_orders=kernel.exposure.open_orders(intent.account_id),
        order_rates=tuple(_rate_count(kernel, rules, kind, rate, now_ns) for rate in rates),
        repeats=()
        if subject.is_amendment
        else tuple(
            RateCount(
                rate.source,
                rate.rate.count,
                rate.rate.window_ms,
                kernel.activity.repeats(print_of_order, rate.rate.window_ms, now_ns),
            )
            for rate in limits.rates["repeated_intent"]
        ),
        cancel_rates=tuple(_rate_count(kernel, rules, CANCEL, rate, now_ns) for rate in limits.rates["cancel_rate"]),
        self_trade_price=None if own is None else from_scaled(own, intent.price_scale),
        equity=equity,
        # A new day begins with what there was last.
        day_start_equity=Decimal(observed.day_start_equity) if observed is not None and is_today else equity,
        peak_equity=None if observed is None else Decimal(observed.peak_equity),
        frozen_reason=kernel.frozen.get(intent.account_id),
        adds_order=not _resting_part(replaced, intent.side),
        margin=margin,
        margin_balance=margin_balance,
    )


def _rate_count(kernel: Kernel, rules: RiskRules, kind: str, limit: RateLimit, now_ns: int) -> RateCount:
    window_ms, count = limit.rate.window_ms, kernel.activity.count
    if limit.source.startswith("desk:"):
        desk = limit.source.removeprefix("desk:")
        accounts = (account for account, name in rules.desks.items() if name == desk)
        counted = sum(count(kind, f"account:{account}", window_ms, now_ns) for account in accounts)
    else:
        counted = count(kind, limit.source, window_ms, now_ns)
    return RateCount(limit.source, limit.rate.count, window_ms, counted)


def _exposures(
    kernel: Kernel, intent: OrderIntent, replaced: Order | None, inputs: DecisionInputs
) -> tuple[BeforeAfter, BeforeAfter, BeforeAfter]:
    """Position of the symbol, gross and net of the account, in the worst case of what rests: before, and with it."""
    account_id, key = intent.account_id, (intent.account_id, intent.venue, intent.symbol)
    before, after = _Sums(), _Sums()
    own_before: Decimal | None = None
    own_after: Decimal | None = None
    for market in _markets(kernel, account_id, key):
        resting = kernel.exposure.resting(*market)
        held = kernel.positions.get(market, Position()).quantity
        buys, sells = resting.buy_quantity, resting.sell_quantity
        unit = _unit_worth(kernel, market, intent, inputs)
        worth = before.add(held, buys, sells, unit)
        if market == key:
            own_before = worth
            buys, sells = _with_order(buys, sells, intent, replaced)
            own_after = after.add(held, buys, sells, unit)
        else:
            after.add(held, buys, sells, unit)
    return (
        BeforeAfter(own_before, own_after),
        BeforeAfter(before.gross, after.gross),
        BeforeAfter(before.net, after.net),
    )


class _Sums:
    """Gross and net over markets; None from the first market on whose worth isn't known."""

    def __init__(self) -> None:
        self.gross: Decimal | None = Decimal(0)
        self._long: Decimal | None = Decimal(0)
        self._short: Decimal | None = Decimal(0)

    def add(self, held: int, buys: int, sells: int, unit: Decimal | None) -> Decimal | None:
        """The worst case of one market. Quantities at quantity_scale, unit: what one such unit is worth."""
        if held == buys == sells == 0:
            return Decimal(0)
        if unit is None or self.gross is None or self._long is None or self._short is None:
            self.gross = self._long = self._short = None
            return None
        high, low = EXACT.multiply(Decimal(held + buys), unit), EXACT.multiply(Decimal(held - sells), unit)
        worst = max(high.copy_abs(), low.copy_abs())
        self.gross = EXACT.add(self.gross, worst)
        self._long, self._short = EXACT.add(self._long, high), EXACT.add(self._short, low)
        return worst

    @property
    def net(self) -> Decimal | None:
        if self._long is None or self._short is None:
            return None
        return max(self._long.copy_abs(), self._short.copy_abs())


def _margin(
    kernel: Kernel, intent: OrderIntent, replaced: Order | None, inputs: DecisionInputs
) -> tuple[BeforeAfter | None, Decimal | None]:
    """Initial margin in the worst case, before and with the order, and the balance it is held against, in the margin
    asset. A leverage that isn't known counts as none."""
    key, held = (intent.account_id, intent.venue, intent.symbol), inputs.margin
    own = kernel.instruments[intent.venue, intent.symbol]
    if own.product is not Product.USDM or held is None:
        return None, None
    before, after, balance = Decimal(0), Decimal(0), held.wallet_balance
    for market in _markets(kernel, intent.account_id, key):
        instrument = kernel.instruments[market[1:]]
        mark = inputs.marks.get(market[1:])
        if instrument.product is not Product.USDM or instrument.quote_asset != own.quote_asset:
            continue
        if mark is None:
            return None, None
        position, resting = kernel.positions.get(market, Position()), kernel.exposure.resting(*market)
        buys, sells, leverage = resting.buy_quantity, resting.sell_quantity, held.leverage.get(market[2], 1)
        price = max(mark, intent.price or intent.stop_price or 0) if market == key else mark
        before = EXACT.add(before, _initial(position.quantity, buys, sells, price, instrument, leverage))
        if market == key:
            buys, sells = _with_order(buys, sells, intent, replaced)
        after = EXACT.add(after, _initial(position.quantity, buys, sells, price, instrument, leverage))
        worth = position.quantity * mark
        unrealised = worth - position.cost if position.quantity > 0 else worth + position.cost
        balance = EXACT.add(balance, from_scaled(unrealised, instrument.notional_scale))
    return BeforeAfter(before, after), balance


def _initial(held: int, buys: int, sells: int, price: int, instrument: Instrument, leverage: int) -> Decimal:
    worst = max(abs(held + buys), abs(held - sells)) * price
    return initial_margin(from_scaled(worst, instrument.notional_scale), leverage)


def _with_order(buys: int, sells: int, intent: OrderIntent, replaced: Order | None) -> tuple[int, int]:
    more = intent.quantity - _resting_part(replaced, intent.side)
    return (buys + more, sells) if intent.side is Side.BUY else (buys, sells + more)


def _markets(kernel: Kernel, account_id: str, own: tuple[str, str, str]) -> dict[tuple[str, str, str], None]:
    """Where the account has something, and where the order would go."""
    return dict.fromkeys((own, *kernel.exposure.markets(account_id), *_held(kernel, account_id)))


def _held(kernel: Kernel, account_id: str) -> Iterable[tuple[str, str, str]]:
    return (key for key, position in kernel.positions.items() if key[0] == account_id and position.quantity)


def _unit_worth(
    kernel: Kernel, market: tuple[str, str, str], intent: OrderIntent, inputs: DecisionInputs
) -> Decimal | None:
    """What one unit at quantity_scale is worth in the reporting currency: at the mark, and for the order's own market
    at its price where that is higher."""
    _, venue, symbol = market
    instrument = kernel.instruments[venue, symbol]
    price = inputs.marks.get((venue, symbol))
    if (venue, symbol) == (intent.venue, intent.symbol):
        stated = intent.price or intent.stop_price
        if stated is not None:
            price = stated if price is None else max(price, stated)
    rate = _rate(inputs, instrument.quote_asset)
    if price is None or rate is None:
        return None
    return EXACT.multiply(Decimal(price).scaleb(-instrument.notional_scale), rate)


def _resting_part(replaced: Order | None, side: Side) -> int:
    if replaced is None or replaced.intent.side is not side or not counts(replaced):
        return 0
    return replaced.remaining_quantity


def _amended(order: Order | None) -> dict[str, Any]:
    """What an amendment changes."""
    if order is None:
        return {}
    intent = order.intent
    return {
        "filled_quantity": from_scaled(order.filled_quantity, intent.quantity_scale),
        "amended_from": (from_scaled(order.remaining_quantity, intent.quantity_scale), _price(intent.price, intent)),
    }


def _price(scaled: int | None, intent: OrderIntent) -> Decimal | None:
    return None if scaled is None else from_scaled(scaled, intent.price_scale)


def _rate(inputs: DecisionInputs, asset: str) -> Decimal | None:
    return inputs.rates.get(asset)


def _custom(rules: RiskRules, inputs: RiskInputs, subject: RiskSubject, now_ns: int) -> tuple[RiskCheckRecord, ...]:
    variables = _variables(rules, inputs, subject, now_ns)
    return tuple(record for rule in rules.custom if (record := _custom_record(rule, variables, subject)) is not None)


def _custom_record(
    rule: CustomRule, variables: dict[str, dict[str, object]], subject: RiskSubject
) -> RiskCheckRecord | None:
    source = f"rule:{rule.name}"
    try:
        met = rule.is_met(variables)
    except CustomRuleError as error:
        # What can't be judged doesn't pass.
        return RiskCheckRecord(ReasonCode.RISK_CUSTOM_RULE_REJECTED, False, None, str(error)[:300], None, source)
    if rule.action == REQUIRE_TWO_APPROVALS:
        passed = not met or subject.approvals >= APPROVALS_FOR_TWO
        code = ReasonCode.RISK_CUSTOM_RULE_NEEDS_TWO_APPROVALS
    else:
        passed = not met or rule.action == WARN
        code = ReasonCode.RISK_CUSTOM_RULE_REJECTED
    return RiskCheckRecord(code, passed, rule.when[:200], rule.message if met else RULE_NOT_MET, None, source)


def _variables(rules: RiskRules, inputs: RiskInputs, subject: RiskSubject, now_ns: int) -> dict[str, dict[str, object]]:
    intent, account, market = subject.intent, inputs.account, inputs.market
    seconds = now_ns // NS_PER_S
    return {
        "order": {
            "side": str(intent.side),
            "type": str(intent.order_type),
            "time_in_force": str(intent.time_in_force),
            "quantity": float(inputs.order_quantity),
            "price": float(inputs.price or 0),
            "notional_quote": float(notional_of(inputs) or 0),
            "reduce_only": intent.reduce_only,
            "post_only": intent.post_only,
            "symbol": intent.symbol,
            "venue": intent.venue,
            "strategy": intent.strategy_id,
            "approvals": subject.approvals,
        },
        "account": {
            "id": intent.account_id,
            "desk": rules.desks.get(intent.account_id, ""),
            "open_orders": account.open_orders,
            "gross_exposure_quote": float(account.gross.after or 0),
            "net_exposure_quote": float(account.net.after or 0),
        },
        "position": {
            "quantity": float(inputs.position_quantity),
            "notional_quote": float(account.position.after or 0),
        },
        "market": {
            "bid": float(market.bid_price or 0),
            "ask": float(market.ask_price or 0),
            "mid": float(market.mid_price or 0),
            "last": float(market.last_price or 0),
            "book_age_ms": market.book_age_ms,
        },
        "time": {"hour_utc": seconds // 3600 % 24, "weekday": (seconds // 86400 + 3) % 7 + 1},
    }
