"""A trader's program over HTTP: sessions, tickets, exposure, what-if, reconciliation; and who may do what."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from core.authority.administration import AdministrationDocument, administration_bytes, sign_administration
from core.authority.session import SESSION_SCHEMA, grant_bytes, sign_session
from core.authority.signatures import public_key_hex, sign_bytes
from core.runtime.tickets import AmendTicket, GroupTicket, OrderTicket, ticket_bytes, ticket_message
from core.types.authority import SessionGrant
from core.types.clock import NS_PER_S
from core.types.events import OrderClosed, OrderFilled
from core.types.ids import SystemIdSource
from core.types.orders import OrderStatus
from tests.api.house import House, assert_problem
from tests.core.approvals import ACCOUNT, ROOT_SEED, TRADER_SEED

IDS = SystemIdSource()
SESSION_SEED = "66" * 32


async def get(house: House, path: str, username: str = "trader") -> Any:
    return await house.api.http.get(path, headers=await house.api.as_(username))


async def post(house: House, path: str, body: dict[str, Any], username: str = "trader") -> Any:
    return await house.api.http.post(path, json=body, headers=await house.api.as_(username))


async def grant(house: House, account_id: str = ACCOUNT) -> SessionGrant:
    status = await house.engine.client.status()
    return SessionGrant(
        schema=SESSION_SCHEMA,
        session_id=IDS.new_ulid(),
        engine_id=status.engine_id,
        environment=status.environment,
        mode=status.mode,
        user_id="user-trader",
        public_key_hex=public_key_hex(SESSION_SEED),
        account_ids=(account_id,),
        max_order_notional_quote="30000",
        max_total_notional_quote="100000",
        max_orders="100",
        issued_at_ns=str(status.now_ns),
        expires_at_ns=str(status.now_ns + 3_600 * NS_PER_S),
    )


def signed_in(what: SessionGrant, seed: str = TRADER_SEED) -> dict[str, Any]:
    signature = {"key_id": "trader", "signature_hex": sign_session(seed, what).hex()}
    return {"document": grant_bytes(what).decode(), "signatures": [signature]}


def ticket(**changes: Any) -> OrderTicket:
    terms = {
        "request_id": IDS.new_ulid(),
        "account_id": ACCOUNT,
        "venue": "paper",
        "symbol": "BTCUSDT",
        "side": "BUY",
        "order_type": "LIMIT",
        "time_in_force": "GTC",
        "quantity": "0.01",
        "price": "59000",
    }
    return OrderTicket(**(terms | changes))


def asked(session_id: str, what: OrderTicket | GroupTicket | AmendTicket, seed: str = SESSION_SEED) -> dict[str, Any]:
    signed = ticket_bytes(what)
    signature = sign_bytes(seed, ticket_message(signed)).hex()
    return {"ticket": signed.decode(), "session_id": session_id, "signature_hex": signature}


@pytest.fixture
async def session_id(house: House) -> str:
    opened = await grant(house)
    assert (await post(house, "/api/v1/sessions", signed_in(opened))).status_code == 201
    return opened.session_id


async def test_a_signed_ticket_becomes_one_order_however_often_it_is_posted(house: House, session_id: str) -> None:
    body = asked(session_id, ticket(order_type="MARKET", price=""))
    first, second = [await post(house, "/api/v1/orders", body) for _ in range(2)]
    assert (first.status_code, second.status_code) == (202, 202)
    order_id = first.json()["client_order_id"]
    assert second.json()["client_order_id"] == order_id
    assert len(first.json()["checks"]) > 10
    filled = await house.engine.event(
        lambda event: (
            isinstance(event, OrderFilled) and event.client_order_id == order_id and event.status is OrderStatus.FILLED
        )
    )
    assert filled.trace_id == first.json()["trace_id"]
    (used,) = [view for view in (await get(house, "/api/v1/sessions")).json() if view["session_id"] == session_id]
    assert used["orders_used"] == 1


async def test_an_order_is_amended_by_ticket_and_cancelled_without_one(house: House, session_id: str) -> None:
    placed = (await post(house, "/api/v1/orders", asked(session_id, ticket()))).json()
    order_id = placed["client_order_id"]
    await house.engine.event(
        lambda event: type(event).__name__ == "OrderAccepted" and getattr(event, "client_order_id", "") == order_id
    )
    amend = AmendTicket(request_id=IDS.new_ulid(), client_order_id=order_id, quantity="0.005")
    path = f"/api/v1/orders/{order_id}/amend"
    assert_problem(await post(house, "/api/v1/orders/vz-x/amend", asked(session_id, amend)), 422, "REQUEST_INVALID")
    assert (await post(house, path, asked(session_id, amend))).status_code == 202
    # The projections of SQL don't know the order yet; a cancel needs the engine only.
    cancelled = await post(house, f"/api/v1/orders/{order_id}/cancel", {})
    assert cancelled.status_code == 202
    await house.engine.event(lambda event: isinstance(event, OrderClosed) and event.client_order_id == order_id)


async def test_a_bracket_is_one_signed_ticket(house: House, session_id: str) -> None:
    exit_terms = {"side": "SELL", "quantity": "0.01"}
    group = GroupTicket(
        request_id=IDS.new_ulid(),
        kind="BRACKET",
        orders=(
            ticket(request_id="entry", price="58700"),
            ticket(request_id="take_profit", price="61500", **exit_terms),
            ticket(request_id="stop", order_type="STOP", price="", stop_price="58000", **exit_terms),
        ),
    )
    placed = await post(house, "/api/v1/order-groups", asked(session_id, group))
    assert placed.status_code == 202, placed.text
    entry = await house.engine.client.order(placed.json()["client_order_id"])
    roles = {
        order.role: order.status.value
        for order in await house.engine.client.orders(ACCOUNT)
        if order.group_id == entry.group_id
    }
    assert roles.keys() == {"entry", "take_profit", "stop"}
    assert (roles["take_profit"], roles["stop"]) == ("HELD", "HELD")
    outside = msgspec.structs.replace(group, orders=(ticket(request_id="entry", account_id="acct-other"),))
    refused = await post(house, "/api/v1/order-groups", asked(session_id, outside))
    assert_problem(refused, 403, "AUTH_ACCOUNT_OUT_OF_SCOPE")
    await post(house, f"/api/v1/orders/{entry.client_order_id}/cancel", {})
    await house.engine.event(
        lambda event: isinstance(event, OrderClosed) and event.client_order_id == entry.client_order_id
    )


async def test_cancel_all_tells_how_many(house: House, session_id: str) -> None:
    for price in ("58900", "58800"):
        await post(house, "/api/v1/orders", asked(session_id, ticket(symbol="BTCUSDT", price=price)))
    answer = (await post(house, "/api/v1/orders/cancel-all", {"account_id": ACCOUNT, "symbol": "BTCUSDT"})).json()
    assert answer["requested"] == 2
    again = (await post(house, "/api/v1/orders/cancel-all", {"account_id": ACCOUNT, "symbol": "ETHUSDT"})).json()
    assert again["requested"] == 0


async def test_a_refusal_by_risk_says_limit_and_actual_and_shows_the_checks(house: House, session_id: str) -> None:
    answer = await post(house, "/api/v1/orders", asked(session_id, ticket(price="40000")))
    problem = assert_problem(answer, 409, "RISK_PRICE_OUTSIDE_COLLAR")
    assert float(problem["actual"]) > float(problem["limit"])
    assert [check["name"] for check in problem["checks"] if not check["passed"]] == [
        "RISK_PRICE_OUTSIDE_COLLAR",
        "RISK_PRICE_OUTSIDE_MARK_COLLAR",
    ]


@pytest.mark.parametrize(
    ("changes", "seed", "status", "code"),
    [
        ({}, TRADER_SEED, 403, "AUTHORITY_SIGNATURE_INVALID"),
        ({"account_id": "acct-other"}, SESSION_SEED, 403, "AUTH_ACCOUNT_OUT_OF_SCOPE"),
        ({"symbol": "NOPEUSDT"}, SESSION_SEED, 404, "MARKET_INSTRUMENT_UNKNOWN"),
        ({"quantity": "-1"}, SESSION_SEED, 422, "AUTHORITY_DOCUMENT_MALFORMED"),
        ({"quantity": "1"}, SESSION_SEED, 403, "AUTHORITY_SESSION_LIMIT_EXCEEDED"),
    ],
)
async def test_a_ticket_that_may_not_be_places_nothing(
    house: House, session_id: str, changes: dict[str, Any], seed: str, status: int, code: str
) -> None:
    before = len(await house.engine.client.orders(ACCOUNT, include_final=True))
    assert_problem(await post(house, "/api/v1/orders", asked(session_id, ticket(**changes), seed)), status, code)
    assert len(await house.engine.client.orders(ACCOUNT, include_final=True)) == before


async def test_a_session_is_closed_over_http_and_takes_no_more_orders(house: House, session_id: str) -> None:
    closed = await post(house, f"/api/v1/sessions/{session_id}/close", {})
    assert closed.json() == {"session_id": session_id, "closed": True}
    answer = await post(house, "/api/v1/orders", asked(session_id, ticket()))
    assert_problem(answer, 403, "AUTHORITY_SESSION_REVOKED")
    assert session_id not in [view["session_id"] for view in (await get(house, "/api/v1/sessions")).json()]
    ended = (await get(house, "/api/v1/sessions?all=true")).json()
    assert session_id in [view["session_id"] for view in ended]


async def test_a_session_signed_by_anybody_else_is_refused(house: House) -> None:
    answer = await post(house, "/api/v1/sessions", signed_in(await grant(house), SESSION_SEED))
    assert_problem(answer, 403, "AUTHORITY_SIGNATURE_INVALID")
    outside = await post(house, "/api/v1/sessions", signed_in(await grant(house, "acct-other")))
    assert_problem(outside, 403, "AUTH_ACCOUNT_OUT_OF_SCOPE")
    unreadable = {"document": "[]", "signatures": [{"key_id": "trader", "signature_hex": "00" * 64}]}
    assert_problem(await post(house, "/api/v1/sessions", unreadable), 422, "AUTHORITY_DOCUMENT_MALFORMED")


async def test_exposure_and_what_if_are_for_ones_own_accounts(house: House) -> None:
    (exposure,) = (await get(house, "/api/v1/exposure", "compliance")).json()
    assert (exposure["account_id"], exposure["reporting_asset"]) == (ACCOUNT, "USDT")
    assert_problem(await get(house, "/api/v1/exposure?account_id=acct-other"), 403, "AUTH_ACCOUNT_OUT_OF_SCOPE")
    order = {"account_id": ACCOUNT, "symbol": "BTCUSDT", "side": "BUY", "quantity": "0.01"}
    imagined = (await post(house, "/api/v1/what-if", order | {"price_move_bps": -100})).json()
    assert "refusal" not in imagined
    assert len(imagined["checks"]) > 10
    for wrong in ({"quantity": "-1"}, {"quantity": "1e5"}, {"price_move_bps": -10_000}, {"side": "HOLD"}, {"x": 1}):
        assert_problem(await post(house, "/api/v1/what-if", order | wrong), 422, "REQUEST_INVALID")
    outside = await post(house, "/api/v1/what-if", order | {"account_id": "acct-other"})
    assert_problem(outside, 403, "AUTH_ACCOUNT_OUT_OF_SCOPE")


async def test_rules_are_checked_installed_by_an_administrator_and_seen(house: House) -> None:
    rules = (await get(house, "/api/v1/risk/rules")).json()
    document = rules["history"][-1]["document"]
    tighter = document.replace("max_open_orders = 200", "max_open_orders = 199")
    assert (await post(house, "/api/v1/risk/rules/check", {"document": tighter})).json() == {"valid": True}
    wrong = document.replace("max_open_orders = 200", "max_open_orders = -1")
    refused = await post(house, "/api/v1/risk/rules/check", {"document": wrong})
    assert "max_open_orders" in assert_problem(refused, 422, "RISK_RULES_INVALID")["detail"]
    status = await house.engine.client.status()
    canonical = administration_bytes(
        AdministrationDocument(
            document_id=IDS.new_ulid(),
            engine_id=status.engine_id,
            kind="rules.install",
            body={"document": tighter},
            issued_at_ns=str(status.now_ns),
            expires_at_ns=str(status.now_ns + 60 * NS_PER_S),
            requested_by="user-approver",
        )
    )
    signature = {"key_id": "root", "signature_hex": sign_administration(ROOT_SEED, canonical).hex()}
    body = {"document": canonical.decode(), "signatures": [signature]}
    assert (await post(house, "/api/v1/administration", body, "approver")).json() == {"done": True}
    assert (await get(house, "/api/v1/risk/rules")).json()["version"] == rules["version"] + 1
    assert_problem(await post(house, "/api/v1/administration", body), 403, "AUTHORITY_DOCUMENT_REPLAYED")
    state = (await get(house, f"/api/v1/risk/state?account_id={ACCOUNT}")).json()
    limits = {item["name"]: item["limit"] for item in state["limits"]}
    assert limits["RISK_OPEN_ORDERS_EXCEED_MAX"] == "199"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/v1/orders/cancel-all", {"account_id": ACCOUNT}),
        ("/api/v1/reconcile", {"dry_run": True}),
        ("/api/v1/dead-mans-timer", {}),
        ("/api/v1/sessions/x/close", {}),
        ("/api/v1/mandates/x/revoke", {}),
    ],
)
async def test_compliance_looks_and_touches_nothing(house: House, path: str, body: dict[str, Any]) -> None:
    assert_problem(await post(house, path, body, "compliance"), 403, "AUTH_ROLE_NOT_PERMITTED")
    for readable in ("sessions", "mandates", "roster", "exposure", "risk/rules"):
        assert (await get(house, f"/api/v1/{readable}", "compliance")).status_code == 200


async def test_reconcile_is_a_dry_run_unless_told_otherwise(house: House) -> None:
    answer = (await post(house, "/api/v1/reconcile", {})).json()
    assert (answer["dry_run"], answer["applied"], answer["account_id"]) == (True, False, ACCOUNT)
    assert (await post(house, "/api/v1/dead-mans-timer", {})).json() == {"renewed": True}


async def test_what_is_not_there_is_not_found(house: House) -> None:
    for path in ("sessions/nope/close", "mandates/nope/revoke", "orders/vz-nope/cancel"):
        assert_problem(await post(house, f"/api/v1/{path}", {}), 404, "RESOURCE_NOT_FOUND")
