"""What the kernel holds: the tables, what is kept up beside them, and how they are read. The kernel changes them."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import msgspec

from core._native import Activity, ExposureBook, PlainOrders, PlainTerms
from core.authority.state import MandateState, SessionState
from core.kernel.indexes import Expiring, OrderIndexes
from core.kernel.records import (
    AccountSwitch,
    Consumed,
    FundingTotal,
    Head,
    InstrumentKey,
    Listing,
    PositionKey,
    RulesVersion,
    StrategyPositionKey,
    Voided,
)
from core.kernel.state import State, Table
from core.orders.machine import Order, at_most
from core.portfolio.positions import Position
from core.risk.kill_switch import KillSwitch
from core.risk.rules import RiskRules, parse_risk_rules
from core.types.authority import ExternalAuthority, MandateAuthority
from core.types.events import (
    BalancesObserved,
    EquityObserved,
    OrderIntended,
    RenderedChecks,
    RiskLimits,
    Roster,
)
from core.types.instruments import Instrument
from core.types.orders import OrderIntent, OrderStatus

SHORT_IDS_KEPT = 1_024
"""An order's id is asked about more than once while it is decided on."""


class Holdings:
    """Tables of frozen values; exposure, activity and index follow each change of them, and its undoing."""

    def __init__(self) -> None:
        self.exposure = ExposureBook(MandateAuthority)
        self.activity = Activity()
        self._rules: RiskRules | None = None
        self.index = OrderIndexes()
        self.expiring_consumptions, self.expiring_voided, self.expiring_documents = Expiring(), Expiring(), Expiring()
        self._listing = Listing((), {})
        self.plain_terms: dict[tuple[str, str, str, str], PlainTerms] = {}
        self._heads: Table[str, Head] = Table("head", str, Head, self._terms_changed)
        self.instruments: Table[InstrumentKey, Instrument] = Table(
            "instruments", InstrumentKey, Instrument, self._instrument_changed
        )
        self.rule_versions: Table[int, RulesVersion] = Table("rules", int, RulesVersion, self._terms_changed)
        self.account_switches: Table[str, AccountSwitch] = Table(
            "account_switches", str, AccountSwitch, self._terms_changed
        )
        self.frozen: Table[str, str] = Table("frozen", str, str, self._terms_changed)
        self.consumptions: Table[str, Consumed] = Table("consumed", str, Consumed, self._consumption_changed)
        self.voided: Table[str, Voided] = Table("voided", str, Voided, self._voided_changed, is_added=True)
        self.documents: Table[str, int] = Table("documents", str, int, self._document_changed)
        self.sessions: Table[str, SessionState] = Table("sessions", str, SessionState)
        self.mandates: Table[str, MandateState] = Table("mandates", str, MandateState)
        self.orders: Table[str, Order] = Table("orders", str, Order, self._order_changed)
        # Ids that are used up, by short_id: whether an order came of them, or risk's refusal.
        self.retired: Table[int, bool] = Table("retired", int, bool)
        self.positions: Table[PositionKey, Position] = Table("positions", PositionKey, Position, self._position_changed)
        self.strategy_positions: Table[StrategyPositionKey, Position] = Table(
            "strategy_positions", StrategyPositionKey, Position
        )
        self.balances: Table[tuple[str, str], BalancesObserved] = Table("balances", tuple[str, str], BalancesObserved)
        self.equity: Table[str, EquityObserved] = Table("equity", str, EquityObserved, self._terms_changed)
        self.funding: Table[StrategyPositionKey, FundingTotal] = Table("funding", StrategyPositionKey, FundingTotal)
        self.consumed: dict[str, int] = {}
        self._state = State(
            (
                self._heads,
                self.instruments,
                self.rule_versions,
                self.account_switches,
                self.frozen,
                self.consumptions,
                self.voided,
                self.documents,
                self.sessions,
                self.mandates,
                self.orders,
                self.retired,
                self.positions,
                self.strategy_positions,
                self.balances,
                self.equity,
                self.funding,
            )
        )
        self.plain = PlainOrders(
            self.exposure,
            self.activity,
            {
                "orders": self.orders,
                "retired": self.retired,
                "mandates": self.mandates,
                "strategy_positions": self.strategy_positions,
                "open": self.index.open,
                "open_by_market": self.index.open_by_market,
                "final": self.index.final,
                "children": self.index.children,
                "replacements": self.index.replacements,
            },
            {
                "intent": OrderIntent,
                "intended": OrderIntended,
                "order": Order,
                "mandate": MandateAuthority,
                "mandate_state": MandateState,
                "external": ExternalAuthority,
                "checks": RenderedChecks,
                "status_intended": OrderStatus.INTENDED,
                "status_accepted": OrderStatus.ACCEPTED,
                "replace": msgspec.structs.replace,
            },
        )
        self._state.put(self._heads, "", Head())

    # what it holds

    @property
    def sequence(self) -> int:
        return self._state.sequence

    @property
    def last_ts_ns(self) -> int:
        return self._state.last_ts_ns

    @property
    def head(self) -> Head:
        return self._heads[""]

    @property
    def engine_id(self) -> str:
        return self.head.engine_id

    @property
    def environment(self) -> str:
        return self.head.environment

    @property
    def mode(self) -> str:
        return self.head.mode

    @property
    def epoch(self) -> int:
        return self.head.epoch

    @property
    def listed(self) -> tuple[InstrumentKey, ...]:
        return self.head.listed

    @property
    def listed_keys(self) -> frozenset[InstrumentKey]:
        return self._current_listing().keys

    @property
    def roster(self) -> Roster:
        return self.head.roster

    @property
    def limits(self) -> RiskLimits | None:
        """Of journals of earlier releases."""
        return self.head.limits

    @property
    def rules_version(self) -> int:
        return self.head.rules_version

    @property
    def rules_digest_hex(self) -> str:
        return self.head.rules_digest_hex

    @property
    def rules(self) -> RiskRules | None:
        """The rules in force; None before any were installed."""
        version = self.rule_versions.get(self.head.rules_version)
        if version is None:
            return None
        if self._rules is None or self._rules.digest_hex != version.digest_hex:
            self._rules = parse_risk_rules(version.document, f"risk rules version {version.version}")
        return self._rules

    @property
    def rules_history(self) -> tuple[RulesVersion, ...]:
        """The versions that can be gone back to, newest last."""
        return tuple(self.rule_versions[version] for version in sorted(self.rule_versions))

    @property
    def kill_switch(self) -> KillSwitch:
        return self.head.kill_switch

    @property
    def kill_switch_changed_ns(self) -> int:
        return self.head.kill_switch_changed_ns

    @property
    def account_kill_switches(self) -> dict[str, KillSwitch]:
        return {account_id: switch.state for account_id, switch in self.account_switches.items()}

    def effective_kill_switch(self, account_id: str) -> KillSwitch:
        """The tighter of the engine's and the account's own."""
        switch = self.account_switches.get(account_id)
        whole = self.head.kill_switch
        return whole if switch is None or switch.state.tightness <= whole.tightness else switch.state

    @property
    def open_order_ids(self) -> dict[str, None]:
        return self.index.open

    def open_orders(self) -> list[Order]:
        """Every order without a final status, oldest first."""
        return [self.orders[order_id] for order_id in self.index.open]

    def open_orders_of(self, account_id: str, venue: str, symbol: str) -> list[Order]:
        return [self.orders[order_id] for order_id in self.index.open_in((account_id, venue, symbol))]

    def knows_order(self, client_order_id: str) -> bool:
        """Also when it has left memory: an id is used once."""
        return client_order_id in self.orders or self.retired.get(short_id(client_order_id), False)

    def was_refused(self, client_order_id: str) -> bool:
        """Whether risk refused what would have had this id: its signed ticket is used up."""
        return self.retired.get(short_id(client_order_id)) is False

    def instrument_versions(self) -> dict[InstrumentKey, int]:
        """Of what can be traded now."""
        return {key: self.instruments[key].version for key in self.listed}

    def markets_between(self, asset: str, other: str) -> tuple[tuple[InstrumentKey, bool], ...]:
        """The listed instruments of two assets, and whether each is the other way round (`other` is the base)."""
        return self._current_listing().between.get((asset, other), ())

    def _current_listing(self) -> Listing:
        if self._listing.listed is not self.head.listed:
            self._listing = Listing(self.head.listed, self.instruments)
        return self._listing

    # what follows from a change, and from its undoing

    def _order_changed(self, order_id: str, old: Order | None, new: Order | None) -> None:
        self.exposure.order_changed(at_most(old), at_most(new))
        self.index.order_changed(order_id, old, new)

    def _terms_changed(self, *_change: object) -> None:
        self.plain_terms.clear()

    def _instrument_changed(self, _key: InstrumentKey, _old: Instrument | None, new: Instrument | None) -> None:
        self.plain_terms.clear()
        if new is not None:
            self.exposure.instrument_changed(new)

    def _position_changed(self, key: PositionKey, _old: Position | None, new: Position | None) -> None:
        self.exposure.position_changed(*key, 0 if new is None else new.quantity)

    def _consumption_changed(self, suggestion_id: str, _old: Consumed | None, new: Consumed | None) -> None:
        if new is None:
            self.consumed.pop(suggestion_id, None)
        else:
            self.consumed[suggestion_id] = new.version
            self.expiring_consumptions.expires(suggestion_id, new.expires_ns)

    def _voided_changed(self, suggestion_id: str, _old: Voided | None, new: Voided | None) -> None:
        if new is not None:
            self.expiring_voided.expires(suggestion_id, new.expires_ns)

    def _document_changed(self, document_id: str, _old: int | None, new: int | None) -> None:
        if new is not None:
            self.expiring_documents.expires(document_id, new)


@lru_cache(maxsize=SHORT_IDS_KEPT)
def short_id(client_order_id: str) -> int:
    """64 bits of an id: one order in 10^7 is then refused by mistake after 10^6 million orders, none is doubled."""
    return int.from_bytes(hashlib.sha256(client_order_id.encode()).digest()[:8], "big") >> 1
