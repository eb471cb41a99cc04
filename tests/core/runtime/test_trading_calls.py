"""The control plane's calls about orders, authority, rules and exposure: what goes in and out is what was meant."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.authority.signatures import public_key_hex, sign_bytes
from core.runtime.client import EngineClient, SignedRequest
from core.runtime.server import build_server
from core.runtime.tickets import (
    AmendTicket,
    GroupTicket,
    OrderTicket,
    parse_ticket,
    ticket_bytes,
    ticket_digest,
    ticket_message,
)
from core.types.codes import ReasonCode, Refusal, RefusalError
from core.types.instruments import Instrument
from core.types.orders import OrderRequest, OrderType, Side, TimeInForce
from core.types.views import (
    DifferenceView,
    ExecutionOutcomeView,
    ExposureLineView,
    ExposureView,
    ReconciliationView,
    RiskCheckView,
    RiskExplanationView,
    WhatIfView,
)

TOKEN = "ab" * 32
NOW_NS = 1_764_000_000_123_456_789
SEED = "07" * 32
REFUSAL = Refusal(ReasonCode.RISK_ORDER_RATE_EXCEEDED, "too fast", "10", "11", "orders")
CHECK = RiskCheckView("RISK_SELF_TRADE", True, "1", "0.8", "quote", "desk:spot", Decimal(80))
LINE = ExposureLineView(
    "paper", "BTCUSDT", Decimal("-0.5"), Decimal(64_000), Decimal(32_000), Decimal(0), Decimal("0.1"), Decimal(0),
    Decimal("0.6"), None,
)  # fmt: skip
EXPOSURE = ExposureView(
    "acct-demo", "USDT", Decimal(32_000), Decimal(-32_000), Decimal("1000.5"), None, None, None, (LINE,), NOW_NS
)
ANSWERS = {
    "explain_risk": RiskExplanationView(
        "vz-1", "acct-demo", "BTCUSDT", "session", "session-1", 3, NOW_NS, (CHECK,), REFUSAL, None, "LIVE", 12,
        Decimal(32_000), NOW_NS,
    ),
    "reconcile": ReconciliationView(
        "acct-demo", "paper", (DifferenceView("missing_fill", "vz-1", "0", "0.5", "add"),), True, NOW_NS
    ),
    "exposure": EXPOSURE,
    "what_if": WhatIfView("acct-demo", EXPOSURE, EXPOSURE, Decimal("-12.5"), (CHECK,), REFUSAL, NOW_NS),
}  # fmt: skip
OUTCOME = ExecutionOutcomeView(True, 7, "vz-1", None, (CHECK,), NOW_NS)
INSTRUMENT = Instrument(
    venue="paper", symbol="BTCUSDT", base_asset="BTC", quote_asset="USDT", price_scale=2, quantity_scale=5,
    tick_size=1, lot_size=1, min_quantity=1, max_quantity=10**12, min_notional=1, version=1,
)  # fmt: skip
GRANTS = {
    "sessions": {"session-1": SimpleNamespace(grant=SimpleNamespace(user_id="user-trader"))},
    "mandates": {"mandate-1": SimpleNamespace(mandate=SimpleNamespace(public_key_hex=public_key_hex(SEED)))},
}


class Service:
    """Remembers what it was asked; answers with what the test says."""

    def __init__(self) -> None:
        self.asked: tuple[str, tuple[Any, ...], dict[str, Any]] = ("", (), {})
        self.answer: Any = None
        self.clock = SimpleNamespace(now_ns=lambda: NOW_NS)
        self.kernel = SimpleNamespace(instruments={("paper", "BTCUSDT"): INSTRUMENT}, **GRANTS)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        # Coroutines where the service has them: the calls in front await nothing else.
        def call(*arguments: Any, **named: Any) -> Any:
            self.asked = (name, arguments, named)
            answer = self.answer if self.answer is not None else ANSWERS.get(name)
            return (
                _awaited(answer)
                if name not in {"exposure", "what_if", "check_rules", "renew_dead_mans_timer"}
                else answer
            )

        return call


async def _awaited(answer: Any) -> Any:
    return answer


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def client(service: Service, tmp_path: Path) -> AsyncIterator[EngineClient]:
    address = f"unix:{tmp_path}/e.sock"
    server, _ = build_server(service, address, TOKEN)  # type: ignore[arg-type]
    await server.start()
    client = EngineClient(address, TOKEN)
    yield client
    await client.close()
    await server.stop(None)


def ticket(**changes: Any) -> OrderTicket:
    terms = {
        "request_id": "r-1",
        "account_id": "acct-demo",
        "venue": "paper",
        "symbol": "BTCUSDT",
        "side": "BUY",
        "order_type": "LIMIT",
        "time_in_force": "GTC",
        "quantity": "0.5",
        "price": "64000.01",
    }
    return OrderTicket(**(terms | changes))


SESSION = SignedRequest(b"s" * 64, session_id="session-1")
REQUEST = OrderRequest(
    "r-1", "acct-demo", "paper", "BTCUSDT", Side.BUY, OrderType.LIMIT, TimeInForce.GTC, 50_000, 6_400_001
)


async def test_a_ticket_becomes_the_request_that_was_signed(client: EngineClient, service: Service) -> None:
    service.answer = OUTCOME
    signed = ticket_bytes(ticket(time_in_force="GTD", expires_ns=str(NOW_NS)))
    assert await client.submit_order(signed, SESSION) == OUTCOME
    name, (request, authority, trace), named = service.asked
    assert (name, trace, named) == ("submit_order", None, {"request_bytes": signed})
    assert (request.time_in_force, request.expires_ns) == (TimeInForce.GTD, NOW_NS)
    assert (request.quantity, request.price) == (REQUEST.quantity, REQUEST.price)
    assert (authority.session_id, authority.user_id) == ("session-1", "user-trader")
    assert authority.request_digest_hex == ticket_digest(signed)
    assert authority.signature_hex == SESSION.signature.hex()


def group(**changes: Any) -> GroupTicket:
    legs = (
        ticket(request_id="take_profit", side="SELL", price="66000"),
        ticket(request_id="stop", side="SELL", order_type="STOP", price="", stop_price="63000"),
    )
    return GroupTicket(**({"request_id": "g-1", "kind": "OCO", "orders": legs} | changes))


async def test_a_group_is_read_from_its_ticket(client: EngineClient, service: Service) -> None:
    service.answer = OUTCOME
    signed = ticket_bytes(group())
    assert await client.submit_group(signed, SESSION) == OUTCOME
    name, (request, authority, _), named = service.asked
    assert (name, named) == ("submit_group", {"request_bytes": signed})
    assert (request.request_id, request.kind, list(request.orders)) == ("g-1", "OCO", ["take_profit", "stop"])
    assert request.orders["stop"].stop_price == 6_300_000
    assert authority.request_digest_hex == ticket_digest(signed)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": "OTO"}, "OTO"),
        ({"orders": ()}, "has orders"),
        ({"orders": (ticket(request_id="third"),)}, "third"),
        ({"orders": (ticket(request_id="stop"), ticket(request_id="stop"))}, "stand once"),
        ({"orders": (ticket(request_id="stop", quantity="-1"),)}, "positive decimal"),
        ({"request_id": ""}, "request_id"),
    ],
)
async def test_a_group_ticket_that_is_anything_else_is_refused(
    client: EngineClient, service: Service, changes: dict[str, Any], says: str
) -> None:
    with pytest.raises(RefusalError) as refused:
        await client.submit_group(ticket_bytes(group(**changes)), SESSION)
    assert refused.value.refusal.code is ReasonCode.AUTHORITY_DOCUMENT_MALFORMED
    assert says in refused.value.refusal.message
    assert service.asked[0] == ""


async def test_an_amendment_is_read_from_its_ticket(client: EngineClient, service: Service) -> None:
    service.answer = REFUSAL
    amend = ticket_bytes(AmendTicket(request_id="r-3", client_order_id="vz-1", quantity="0.4"))
    assert await client.amend_order(amend, SESSION) == REFUSAL
    assert service.asked[1][:3] == ("vz-1", Decimal("0.4"), None)


@pytest.mark.parametrize(("valid_until_ns", "is_taken"), [("", True), (NOW_NS + 1, True), (NOW_NS, False)])
async def test_a_ticket_is_taken_until_its_time_is_over(
    client: EngineClient, service: Service, valid_until_ns: Any, is_taken: bool
) -> None:
    until = {"valid_until_ns": str(valid_until_ns)}
    legs = (ticket(request_id="take_profit"), ticket(request_id="stop"))
    asked = {
        "submit_order": lambda: client.submit_order(ticket_bytes(ticket(**until)), SESSION),
        "submit_group": lambda: client.submit_group(
            ticket_bytes(GroupTicket(request_id="g-1", kind="OCO", orders=legs, **until)), SESSION
        ),
        "amend_order": lambda: client.amend_order(
            ticket_bytes(AmendTicket(request_id="r-2", client_order_id="vz-1", quantity="0.4", **until)), SESSION
        ),
    }
    for name, ask in asked.items():
        service.answer = REFUSAL if name == "amend_order" else OUTCOME
        service.asked = ("", (), {})
        if is_taken:
            await ask()
            assert service.asked[0] == name
            continue
        with pytest.raises(RefusalError) as caught:
            await ask()
        assert caught.value.refusal.code is ReasonCode.AUTHORITY_DOCUMENT_EXPIRED
        assert service.asked[0] == ""


async def test_a_mandates_ticket_needs_the_mandates_own_signature(client: EngineClient, service: Service) -> None:
    service.answer = OUTCOME
    signed = ticket_bytes(ticket(strategy_id="grid-1"))
    good = SignedRequest(sign_bytes(SEED, ticket_message(signed)), mandate_id="mandate-1", strategy_id="grid-1")
    assert await client.submit_order(signed, good) == OUTCOME
    service.asked = ("", (), {})
    for authority, code in (
        (SignedRequest(b"x" * 64, mandate_id="mandate-1"), ReasonCode.AUTHORITY_SIGNATURE_INVALID),
        (SignedRequest(good.signature, mandate_id="mandate-2"), ReasonCode.AUTHORITY_MANDATE_UNKNOWN),
        (SignedRequest(b"x" * 64, session_id="session-2"), ReasonCode.AUTHORITY_SESSION_UNKNOWN),
    ):
        with pytest.raises(RefusalError) as refused:
            await client.submit_order(signed, authority)
        assert refused.value.refusal.code is code
    assert service.asked[0] == ""


@pytest.mark.parametrize(
    ("signed", "says"),
    [
        (b'{"schema":"veloz.order-ticket/1"}', "missing required field"),
        (b" " + ticket_bytes(ticket()), "canonical"),
        (ticket_bytes(ticket(schema="veloz.order-ticket/9")), "schema"),
        (ticket_bytes(ticket(quantity="-1")), "positive decimal"),
        (ticket_bytes(ticket(quantity="1e5")), "positive decimal"),
        (ticket_bytes(ticket(quantity="")), "quantity is missing"),
        (ticket_bytes(ticket(price="64000.001")), "price"),
        (ticket_bytes(ticket(side="HOLD")), "HOLD"),
        (ticket_bytes(ticket(trailing_offset_bps="0.5")), "whole number"),
        (ticket_bytes(ticket(request_id="")), "request_id"),
        (b"{}" * 20_000, "limit"),
    ],
)
async def test_a_ticket_that_is_anything_else_is_refused(
    client: EngineClient, service: Service, signed: bytes, says: str
) -> None:
    with pytest.raises(RefusalError) as refused:
        await client.submit_order(signed, SESSION)
    assert refused.value.refusal.code is ReasonCode.AUTHORITY_DOCUMENT_MALFORMED
    assert says in refused.value.refusal.message
    assert service.asked[0] == ""


def test_a_ticket_reads_back_as_it_was_written() -> None:
    single = ticket()
    amend = AmendTicket(request_id="r", client_order_id="v", price="1")
    assert parse_ticket(ticket_bytes(single), OrderTicket) == single
    assert parse_ticket(ticket_bytes(amend), AmendTicket) == amend


READS: list[tuple[str, Callable[[EngineClient], Coroutine[Any, Any, Any]], tuple[Any, ...]]] = [
    ("explain_risk", lambda c: c.explain_risk("vz-1"), ("vz-1",)),
    ("reconcile", lambda c: c.reconcile(True, "user-1"), (True, "user-1")),
    ("exposure", lambda c: c.exposure("acct-demo"), ("acct-demo",)),
    ("what_if", lambda c: c.what_if("acct-demo", "BTCUSDT", price_move_bps=-50), ("acct-demo", "BTCUSDT")),
]


@pytest.mark.parametrize(("name", "ask", "arguments"), READS, ids=[name for name, *_ in READS])
async def test_a_view_arrives_as_it_was_sent(
    client: EngineClient, service: Service, name: str, ask: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    assert await ask(client) == ANSWERS[name]
    assert service.asked[:2] == (name, arguments)


async def test_what_if_takes_an_order_or_a_move_and_not_half_an_order(client: EngineClient, service: Service) -> None:
    await client.what_if("acct-demo", "BTCUSDT", side=Side.SELL, quantity=Decimal("0.5"))
    expected = {"side": Side.SELL, "quantity": Decimal("0.5"), "price": None, "price_move_bps": None}
    assert service.asked[2] == expected
    halves: tuple[dict[str, Any], ...] = ({"side": Side.SELL}, {"quantity": Decimal(1)}, {})
    for half in halves:
        with pytest.raises(RefusalError, match="REQUEST_INVALID"):
            await client.what_if("acct-demo", "BTCUSDT", **half)


DECISIONS: list[tuple[str, Callable[[EngineClient], Coroutine[Any, Any, Any]], tuple[Any, ...]]] = [
    ("open_session", lambda c: c.open_session(b"g", "k", b"s"), (b"g", "k", b"s")),
    ("close_session", lambda c: c.close_session("session-1", "user-1"), ("session-1", "user-1")),
    ("install_mandate", lambda c: c.install_mandate(b"m", [("k", b"s")]), (b"m", [("k", b"s")])),
    ("revoke_mandate", lambda c: c.revoke_mandate("mandate-1", "user-1"), ("mandate-1", "user-1")),
    ("administer", lambda c: c.administer(b"d", [("k", b"s"), ("l", b"t")]), (b"d", [("k", b"s"), ("l", b"t")])),
    ("renew_dead_mans_timer", lambda c: c.renew_dead_mans_timer("user-1"), ("user-1",)),
]


@pytest.mark.parametrize(("name", "ask", "arguments"), DECISIONS, ids=[name for name, *_ in DECISIONS])
async def test_a_decision_is_none_or_its_refusal(
    client: EngineClient, service: Service, name: str, ask: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    assert await ask(client) is None
    assert service.asked[:2] == (name, arguments)
    service.answer = REFUSAL
    assert await ask(client) == REFUSAL


async def test_a_document_that_the_engine_would_not_take_says_why(client: EngineClient, service: Service) -> None:
    assert await client.check_rules("schema = 1") is None
    service.answer = "line 3: max_notional is negative"
    refusal = await client.check_rules("schema = 1")
    assert refusal is not None
    assert (refusal.code, refusal.message) == (ReasonCode.RISK_RULES_INVALID, "line 3: max_notional is negative")


async def test_cancel_all_tells_how_many_were_asked_for(client: EngineClient, service: Service) -> None:
    service.answer = 3
    assert await client.cancel_all("acct-demo", "BTCUSDT", "user-1") == 3
    assert service.asked[:2] == ("cancel_all", ("acct-demo", "BTCUSDT", "user-1", None))
    with pytest.raises(RefusalError, match="requested_by"):
        await client.cancel_all("acct-demo", None, "")
