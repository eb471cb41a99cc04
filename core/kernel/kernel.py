"""The engine's state, and how each event changes it. Facts in, effects out; nothing here decides.

Deciding is in core.kernel.decide: pure functions from this state, a command and the market inputs to events. The same
kernel serves live, paper, backtest and simulation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any, assert_never

import msgspec

from core.authority.proposal import Proposal
from core.kernel.effects import CancelOrder, Effect, PublishTrading, SubmitOrder
from core.orders.machine import ImpossibleTransitionError, Order, OrderEvent, transition
from core.portfolio.positions import Fill, Position, apply_fill
from core.risk.kill_switch import KillSwitch
from core.types.events import (
    ApprovalDecided,
    CancelRequested,
    EngineStarted,
    InstrumentsLoaded,
    JournalEvent,
    KillSwitchChanged,
    OrderAccepted,
    OrderBecameUnknown,
    OrderClosed,
    OrderFilled,
    OrderRejected,
    RiskLimits,
    RiskLimitsInstalled,
    Roster,
    RosterInstalled,
)
from core.types.instruments import Instrument
from core.types.orders import OrderStatus

InstrumentKey = tuple[str, str]
PositionKey = tuple[str, str, str]

NO_ROSTER = Roster(version=0, entries=(), two_approvals_above_quote="0")


class Kernel:
    """The state that the journal's events add up to.

    consumed maps a suggestion to the version of it that was decided on. sequence counts the events applied, which is
    the journal's own. kill_switch_changed_ns is when the switch came to where it is.
    """

    def __init__(self) -> None:
        self.engine_id = ""
        self.environment = ""
        self.mode = ""
        self.epoch = 0
        self.sequence = 0
        self.last_ts_ns = 0
        self.instruments: dict[InstrumentKey, Instrument] = {}
        self.listed: tuple[InstrumentKey, ...] = ()
        self.roster = NO_ROSTER
        self.roster_signature_hex = ""
        self.limits: RiskLimits | None = None
        self.rules_version = 0
        self.rules_digest_hex = ""
        self.kill_switch = KillSwitch.NORMAL
        self.kill_switch_changed_ns = 0
        self.consumed: dict[str, int] = {}
        self.orders: dict[str, Order] = {}
        self.open_order_ids: dict[str, None] = {}
        self.positions: dict[PositionKey, Position] = {}

    def apply(self, event: JournalEvent) -> tuple[Effect, ...]:
        """Take in one fact and return what it asks of the shell.

        Raises ImpossibleTransitionError for an event that can't follow this state; the state is then unchanged.
        """
        effects = self._apply(event)
        self.sequence += 1
        self.last_ts_ns = max(self.last_ts_ns, event.ts_ns)
        return (*effects, PublishTrading(event))

    def check(self, event: JournalEvent) -> None:
        """Raise ImpossibleTransitionError where apply would, and change nothing.

        To be called before an event becomes durable: what the journal holds, every later start has to apply.
        """
        match event:
            case OrderFilled():
                self._filled(event)
            case OrderAccepted() | OrderRejected() | OrderBecameUnknown() | OrderClosed() | CancelRequested():
                transition(self._order(event.client_order_id), event)
            case ApprovalDecided(intent=intent) if intent is not None and intent.client_order_id in self.orders:
                raise ImpossibleTransitionError(f"order {intent.client_order_id} is intended twice")

    def replay(self, events: Iterable[JournalEvent]) -> None:
        """Rebuild the state from a journal. Decides nothing again, does nothing to the world."""
        for event in events:
            self.apply(event)

    def open_orders(self) -> list[Order]:
        """Every order without a final status, oldest first."""
        return [self.orders[order_id] for order_id in self.open_order_ids]

    def instrument_versions(self) -> dict[InstrumentKey, int]:
        """Of what can be traded now."""
        return {key: self.instruments[key].version for key in self.listed}

    def state_digest(self) -> str:
        """Hex SHA-256 over the whole state; two replays of one journal have the same. Books aren't part of it."""
        state: dict[str, Any] = {
            "engine": [self.engine_id, self.environment, self.mode, self.epoch, self.sequence, self.last_ts_ns],
            "instruments": {"/".join(key): value for key, value in self.instruments.items()},
            "listed": ["/".join(key) for key in self.listed],
            "roster": [self.roster, self.roster_signature_hex],
            "limits": [self.limits, self.rules_version, self.rules_digest_hex],
            "kill_switch": [self.kill_switch, self.kill_switch_changed_ns],
            "consumed": self.consumed,
            "orders": self.orders,
            "positions": {"/".join(key): value for key, value in self.positions.items()},
        }
        return hashlib.sha256(msgspec.json.encode(state, order="sorted")).hexdigest()

    def _apply(self, event: JournalEvent) -> tuple[Effect, ...]:
        match event:
            case EngineStarted():
                self.engine_id, self.environment, self.mode = event.engine_id, event.environment, event.mode
                self.epoch = event.epoch
            case InstrumentsLoaded():
                loaded = {(item.venue, item.symbol): item for item in event.instruments}
                # A delisted instrument stays known: positions and old orders are shown at its scales.
                self.instruments.update(loaded)
                self.listed = tuple(loaded)
            case RosterInstalled():
                self.roster, self.roster_signature_hex = event.roster, event.signature_hex
            case RiskLimitsInstalled():
                self.limits, self.rules_version = event.limits, event.version
                self.rules_digest_hex = event.digest_hex
            case ApprovalDecided():
                return self._apply_approval(event)
            case OrderFilled():
                self._apply_fill(event)
            case CancelRequested():
                self._apply_to_order(event)
                return (self._cancel(event.client_order_id),)
            case OrderAccepted() | OrderRejected() | OrderBecameUnknown() | OrderClosed():
                self._apply_to_order(event)
            case KillSwitchChanged():
                self.kill_switch = KillSwitch(event.state)
                self.kill_switch_changed_ns = event.ts_ns
                if self.kill_switch is KillSwitch.HALTED:
                    return tuple(self._cancel(order_id) for order_id in self.open_order_ids)
            case _:
                assert_never(event)
        return ()

    def _apply_approval(self, event: ApprovalDecided) -> tuple[Effect, ...]:
        self.consumed[event.suggestion_id] = event.version
        intent = event.intent
        if intent is None:
            return ()
        self.check(event)
        self.orders[intent.client_order_id] = Order(
            intent=intent,
            status=OrderStatus.INTENDED,
            created_ns=event.ts_ns,
            updated_ns=event.ts_ns,
            suggestion_id=event.suggestion_id,
            trace_id=event.trace_id,
            notional_quote=msgspec.json.decode(event.proposal, type=Proposal).notional_quote,
        )
        self.open_order_ids[intent.client_order_id] = None
        return (SubmitOrder(intent),)

    def _apply_fill(self, event: OrderFilled) -> None:
        order, position = self._filled(event)
        self.positions[event.account_id, event.venue, event.symbol] = position
        self._store(order)

    def _filled(self, event: OrderFilled) -> tuple[Order, Position]:
        order = transition(self._order(event.client_order_id), event)
        key = (event.account_id, event.venue, event.symbol)
        position, _ = apply_fill(
            self.positions.get(key, Position()),
            Fill(
                event.client_order_id,
                event.trade_id,
                event.side,
                event.price,
                event.quantity,
                event.fee_quote,
                event.venue_ts_ns,
            ),
            "/".join(key),
        )
        if position.snapshot() != event.position:
            raise ImpossibleTransitionError(
                f"trade {event.trade_id} of {event.symbol}: the journal's position {event.position} isn't what its "
                f"fills add up to, {position.snapshot()}"
            )
        return order, position

    def _apply_to_order(self, event: OrderEvent) -> None:
        self._store(transition(self._order(event.client_order_id), event))

    def _order(self, client_order_id: str) -> Order:
        order = self.orders.get(client_order_id)
        if order is None:
            raise ImpossibleTransitionError(f"order {client_order_id} is unknown to this engine")
        return order

    def _store(self, order: Order) -> None:
        client_order_id = order.intent.client_order_id
        self.orders[client_order_id] = order
        if order.status.is_final:
            self.open_order_ids.pop(client_order_id, None)
        else:
            self.open_order_ids[client_order_id] = None

    def _cancel(self, client_order_id: str) -> CancelOrder:
        intent = self.orders[client_order_id].intent
        return CancelOrder(intent.venue, intent.symbol, client_order_id)
