"""A kernel with a session and a mandate in force, and the shortest way to ask it for something and see what it says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from core.authority.administration import AdministrationDocument, administration_bytes, sign_administration
from core.authority.documents import signed_message
from core.authority.mandate import MANDATE_SCHEMA, mandate_bytes, sign_mandate
from core.authority.session import REQUEST_DOMAIN_TAG, SESSION_SCHEMA, grant_bytes, sign_session
from core.authority.signatures import public_key_hex, sign_bytes
from core.kernel import decide, decide_approvals, decide_authority, decide_groups, decide_orders
from core.kernel.decide import FillReport
from core.kernel.decide_void import decide_void
from core.kernel.effects import Effect
from core.kernel.inputs import DecisionInputs
from core.kernel.kernel import Kernel
from core.types.authority import Mandate, MandateAuthority, SessionAuthority, SessionGrant
from core.types.clock import NS_PER_S
from core.types.codes import ReasonCode, Refusal
from core.types.events import (
    ApprovalDecided,
    JournalEvent,
    OrderIntended,
    OrderRefused,
    Roster,
    caused_order_id,
)
from core.types.instruments import Instrument
from core.types.orders import GroupKind, GroupRequest, OrderRequest, OrderRole, OrderType, Side, TimeInForce
from tests.core.approvals import (
    ABLE,
    ACCOUNT,
    APPROVER_SEED,
    BTC,
    ENGINE_ID,
    ENVIRONMENT,
    LIVE_INPUTS,
    LIVE_MARKET,
    NOW_NS,
    ROOT_SEED,
    ROSTER,
    RULES,
    SECOND_SEED,
    TRADER_SEED,
    approve,
    proposal,
    started_kernel,
)

SESSION_SEED = "55" * 32
STRATEGY = "maker"
NO_CODE = None
D = Decimal


def grant(**changes: Any) -> SessionGrant:
    values: dict[str, Any] = {
        "schema": SESSION_SCHEMA,
        "session_id": "ses-1",
        "engine_id": ENGINE_ID,
        "environment": ENVIRONMENT,
        "mode": "PAPER",
        "user_id": "user-trader",
        "public_key_hex": public_key_hex(SESSION_SEED),
        "account_ids": (ACCOUNT,),
        "max_order_notional_quote": "1000000",
        "max_total_notional_quote": "100000000",
        "max_orders": "1000000",
        "issued_at_ns": str(NOW_NS),
        "expires_at_ns": str(NOW_NS + 3600 * NS_PER_S),
    }
    return SessionGrant(**{**values, **changes})


def mandate(**changes: Any) -> Mandate:
    values: dict[str, Any] = {
        "schema": MANDATE_SCHEMA,
        "mandate_id": "man-1",
        "engine_id": ENGINE_ID,
        "environment": ENVIRONMENT,
        "mode": "PAPER",
        "account_id": ACCOUNT,
        "strategy_id": STRATEGY,
        "strategy_digest_hex": "ab" * 32,
        "public_key_hex": "",
        "venue": "paper",
        "symbols": ("BTCUSDT",),
        "max_order_notional_quote": "1000000",
        "max_position_notional_quote": "1000000",
        "max_total_notional_quote": "100000000",
        "max_open_orders": "1000000",
        "issued_at_ns": str(NOW_NS),
        "expires_at_ns": str(NOW_NS + 3600 * NS_PER_S),
        "asker_id": "user-quant",
    }
    return Mandate(**{**values, **changes})


class Desk:
    """Every call decides and applies. What is answered is the order's id, or the code of the refusal (None for a
    command that names no order). The venue takes everything and does nothing by itself."""

    def __init__(
        self, rules: str = RULES, *, roster: Roster = ROSTER, instruments: tuple[Instrument, ...] = (BTC,)
    ) -> None:
        self.kernel: Kernel = started_kernel(rules=rules, roster=roster, instruments=instruments)
        self.inputs = LIVE_INPUTS
        self.now_ns = NOW_NS
        self.capabilities = ABLE
        self.refusal: Refusal | None = None
        self.checks: dict[str, Any] = {}
        self.events: list[JournalEvent] = []
        self._asked = 0

    # authority

    def open_session(self, what: SessionGrant | None = None, key_id: str = "trader", seed: str = TRADER_SEED) -> Any:
        given = what or grant()
        return self._run(
            decide_authority.decide_session_open(
                self.kernel, grant_bytes(given), key_id, bytes(sign_session(seed, given)), self.now_ns
            )
        )

    def install_mandate(
        self,
        what: Mandate | None = None,
        signers: Sequence[tuple[str, str]] = (("approver", APPROVER_SEED), ("second", SECOND_SEED)),
    ) -> Any:
        given = what or mandate()
        signatures = [(key_id, sign_mandate(seed, given)) for key_id, seed in signers]
        return self._run(decide_authority.decide_mandate(self.kernel, mandate_bytes(given), signatures, self.now_ns))

    def administer(
        self,
        kind: str,
        body: dict[str, str],
        signers: Sequence[tuple[str, str]] = (("root", ROOT_SEED),),
        **changes: str,
    ) -> Any:
        document = AdministrationDocument(
            **{
                "document_id": f"doc-{self.now_ns}-{self.kernel.sequence}",
                "engine_id": ENGINE_ID,
                "kind": kind,
                "body": body,  # type: ignore[dict-item]
                "issued_at_ns": str(self.now_ns),
                "expires_at_ns": str(self.now_ns + 60 * NS_PER_S),
                "requested_by": "operator",
                **changes,
            }
        )
        canonical = administration_bytes(document)
        return self.administer_bytes(
            canonical, [(key_id, sign_administration(seed, canonical)) for key_id, seed in signers]
        )

    def administer_bytes(self, canonical: bytes, signatures: Sequence[tuple[str, bytes]]) -> Any:
        return self._run(
            decide_authority.decide_administration(
                self.kernel, canonical, signatures, public_key_hex(ROOT_SEED), self.now_ns
            )
        )

    # orders

    def request(self, **terms: Any) -> OrderRequest:
        """A LIMIT BUY of 0.1 BTC at 60000, each with a request_id of its own."""
        self._asked += 1
        values: dict[str, Any] = {
            "request_id": f"r-{self._asked}",
            "account_id": ACCOUNT,
            "venue": "paper",
            "symbol": "BTCUSDT",
            "side": Side.BUY,
            "order_type": OrderType.LIMIT,
            "time_in_force": TimeInForce.GTC,
            "quantity": 10_000,
            "price": 6_000_000 if terms.get("order_type", OrderType.LIMIT).has_limit_price else None,
        }
        return OrderRequest(**{**values, **terms})

    def order(self, *, by: str = "ses-1", **terms: Any) -> Any:
        """Under a session."""
        return self.ask(self.request(**terms), *self.signed(b"ticket", by))

    def strategy_order(self, *, by: str = "man-1", strategy: str = STRATEGY, **terms: Any) -> Any:
        """Under a mandate."""
        return self.ask(self.request(**{"strategy_id": STRATEGY, **terms}), MandateAuthority(by, strategy), b"")

    def ask(self, request: OrderRequest, authority: SessionAuthority | MandateAuthority, request_bytes: bytes) -> Any:
        return self._run(
            decide_orders.decide_order(
                self.kernel,
                request,
                authority,
                self._inputs(request.order_type, request.quantity),
                self.capabilities,
                self.now_ns,
                request_bytes=request_bytes,
            )
        )

    def group(
        self, kind: GroupKind, orders: dict[OrderRole, OrderRequest], *, by: str = "ses-1", request_id: str = ""
    ) -> Any:
        """Answered with the id of its last order."""
        self._asked += 1
        authority, content = self.signed(b"group", by)
        request = GroupRequest(request_id or f"g-{self._asked}", kind, orders)
        return self._run(
            decide_groups.decide_group(
                self.kernel, request, authority, self.inputs, self.capabilities, self.now_ns, request_bytes=content
            )
        )

    def signed(
        self, request_bytes: bytes, session_id: str = "ses-1", user: str = "user-trader", seed: str = SESSION_SEED
    ) -> tuple[SessionAuthority, bytes]:
        message = signed_message(REQUEST_DOMAIN_TAG, request_bytes)
        digest = message.removeprefix(REQUEST_DOMAIN_TAG).hex()
        return SessionAuthority(session_id, user, digest, sign_bytes(seed, message).hex()), request_bytes

    def approved(self, *signers: tuple[str, str], **changes: str) -> Any:
        """A proposal and its approval, each a suggestion of its own."""
        self._asked += 1
        what = proposal(**{"suggestion_id": f"sug-{self._asked}", **changes})
        return self.execute(*approve(what, *signers), order_type=OrderType(what.order_type))

    def execute(
        self,
        canonical: bytes,
        digest_hex: str,
        signatures: list[tuple[str, bytes]],
        order_type: OrderType = OrderType.LIMIT,
    ) -> Any:
        inputs = self._inputs(order_type, 10_000)
        return self._run(
            decide_approvals.decide_approval(
                self.kernel,
                canonical,
                digest_hex,
                signatures,
                trace_id=None,
                inputs=inputs,
                capabilities=self.capabilities,
                now_ns=self.now_ns,
            )
        )

    def void(self, suggestion_id: str, version: int) -> Any:
        return self._run(
            decide_void(
                self.kernel,
                suggestion_id,
                version,
                account_id=ACCOUNT,
                requested_by="user-trader",
                reason="edited",
                trace_id=None,
                now_ns=self.now_ns,
            )
        )

    def amend(
        self,
        order_id: str,
        quantity: int | None = None,
        price: int | None = None,
        *,
        by: str = "ses-1",
        ticket: bytes = b"",
    ) -> Any:
        """By a session, or a mandate where the id is one's; each with a ticket of its own."""
        self._asked += 1
        content = ticket or f"amend {self._asked}".encode()
        authority: SessionAuthority | MandateAuthority = self.signed(content, by)[0]
        if by in self.kernel.mandates:
            authority = MandateAuthority(by, STRATEGY, authority.request_digest_hex)
        return self._run(
            decide_orders.decide_amend(
                self.kernel,
                order_id,
                quantity,
                price,
                authority,
                self.inputs,
                self.capabilities,
                self.now_ns,
                request_bytes=content,
            )
        )

    def cancel(self, order_id: str) -> Any:
        return self._run(decide.decide_cancel(self.kernel, order_id, "user-trader", None, self.now_ns))

    def kill(self, state: Any, account_id: str = "") -> Any:
        return self._run(
            decide.decide_kill_switch(
                self.kernel, state, "user-trader", "a test", None, self.now_ns, account_id=account_id
            )
        )

    def killed(self, state: Any, account_id: str = "") -> list[Effect]:
        """What throwing the switch asks of the shell."""
        decided = decide.decide_kill_switch(
            self.kernel, state, "user-trader", "a test", None, self.now_ns, account_id=account_id
        )
        assert not isinstance(decided, Refusal), decided
        return [effect for event in decided for effect in self.kernel.apply(event)]

    def close_session(self, session_id: str) -> Any:
        return self._run(
            decide_authority.decide_session_close(self.kernel, session_id, "user-trader", "a test", self.now_ns)
        )

    def revoke(self, mandate_id: str) -> Any:
        return self._run(
            decide_authority.decide_mandate_revoke(self.kernel, mandate_id, "user-trader", "a test", self.now_ns)
        )

    # the venue

    def accepted(self, order_id: str) -> str:
        self._run(decide.decide_accepted(self.kernel, order_id, f"venue-{order_id}", self.now_ns))
        return order_id

    def amended(self, order_id: str, quantity: int, price: int = 6_000_000) -> None:
        self._run(decide.decide_amended(self.kernel, order_id, quantity, price, self.now_ns))

    def filled(self, order_id: str, quantity: int | None = None, price: int = 6_000_000) -> str:
        order = self.kernel.orders[order_id]
        trade_id = self.kernel.sequence
        part = order.remaining_quantity if quantity is None else quantity
        report = FillReport(
            order_id, f"venue-{order_id}", trade_id, price, part, Decimal(0), "USDT", False, self.now_ns
        )
        self._run(decide.decide_fill(self.kernel, report, self.now_ns))
        return order_id

    def held(self, quantity: int) -> None:
        """A position of so much, bought or sold at the mark within whatever the limits are."""
        side = Side.BUY if quantity > 0 else Side.SELL
        self.filled(self.resting(side=side, quantity=abs(quantity)))

    def resting(self, **terms: Any) -> str:
        """An order that the venue has."""
        answer = self.order(**terms)
        assert answer in self.kernel.orders, self.refusal
        return self.accepted(answer)

    # the world

    def live(self) -> None:
        """The engine runs in LIVE from here on."""
        started = decide.decide_started(
            engine_id=ENGINE_ID, epoch=2, environment=ENVIRONMENT, mode="LIVE", software_version="t", now_ns=self.now_ns
        )
        self.apply(started)

    def market(self, **changes: Any) -> None:
        self.inputs = msgspec.structs.replace(self.inputs, market=msgspec.structs.replace(LIVE_MARKET, **changes))

    def around(self, **changes: Any) -> None:
        self.inputs = msgspec.structs.replace(self.inputs, **changes)

    def apply(self, *events: JournalEvent) -> None:
        for event in events:
            self.kernel.apply(event)

    def _inputs(self, order_type: OrderType, quantity: int) -> DecisionInputs:
        if order_type.has_limit_price or self.inputs.depth_quantity is not None:
            return self.inputs
        asked = Decimal(quantity).scaleb(-BTC.quantity_scale)
        return msgspec.structs.replace(self.inputs, worst_price=Decimal(60_000), depth_quantity=asked)

    def _run(self, decided: Any) -> Any:
        """Apply what was decided."""
        self.refusal = None
        if isinstance(decided, Refusal):
            return self._refused(decided)
        events = decided if isinstance(decided, tuple) else (decided,)
        answer: str | ReasonCode | None = None
        for event in events:
            self.kernel.apply(event)
            self.events.append(event)
            if isinstance(event, OrderIntended | OrderRefused | ApprovalDecided):
                self.checks = {check.name: check for check in event.checks}
            if isinstance(event, OrderRefused | ApprovalDecided) and event.refusal is not None:
                answer = self._refused(event.refusal)
            elif isinstance(event, ApprovalDecided):
                answer = caused_order_id(event)
            elif isinstance(event, OrderIntended):
                answer = event.intent.client_order_id
        return answer

    def _refused(self, refusal: Refusal) -> ReasonCode:
        self.refusal = refusal
        return refusal.code


def opened(rules: str = RULES, **terms: Any) -> Desk:
    """A desk with a session and a mandate in force."""
    desk = Desk(rules, **terms)
    assert desk.open_session() is NO_CODE, desk.refusal
    assert desk.install_mandate() is NO_CODE, desk.refusal
    return desk


def rules(extra: str = "", **changes: str) -> str:
    """RULES with other values at [global], and more sections behind."""
    document = RULES
    for name, value in changes.items():
        document, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", document)
        assert count == 1, name
    return document + extra
