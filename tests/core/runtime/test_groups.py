"""A bracket and an OCO on a real engine, journal and paper venue: what was meant is filled, and no more."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal
from typing import Any

import pytest

from core.authority.session import SESSION_SCHEMA, grant_bytes, sign_session
from core.authority.signatures import public_key_hex, sign_bytes
from core.config import Settings
from core.runtime.client import SignedRequest
from core.runtime.tickets import GroupTicket, OrderTicket, ticket_bytes, ticket_message
from core.types.authority import SessionGrant
from core.types.clock import NS_PER_S, SystemClock
from core.types.events import OrderClosed, OrderFilled, OrderTriggered
from core.types.money import decimal_text
from core.types.orders import OrderStatus
from core.types.views import OrderView
from tests.core.approvals import ACCOUNT, ENGINE_ID, ENVIRONMENT, TRADER_SEED
from tests.core.engine_support import RunningEngine

SESSION_SEED = "99" * 32
SESSION_ID = "session-1"
CENT = Decimal("0.01")


async def open_session(engine: RunningEngine) -> None:
    now_ns = SystemClock().now_ns()
    grant = SessionGrant(
        SESSION_SCHEMA, SESSION_ID, ENGINE_ID, ENVIRONMENT, "PAPER", "user-trader", public_key_hex(SESSION_SEED),
        (ACCOUNT,), "100000", "1000000", "100", str(now_ns), str(now_ns + 3_600 * NS_PER_S),
    )  # fmt: skip
    refusal = await engine.client.open_session(grant_bytes(grant), "trader", sign_session(TRADER_SEED, grant))
    assert refusal is None, refusal


async def ask(engine: RunningEngine, kind: str, **orders: dict[str, Any]) -> dict[str, OrderView]:
    """Every order of the group by its role."""
    common = {"account_id": ACCOUNT, "venue": "paper", "symbol": "BTCUSDT", "time_in_force": "GTC", "quantity": "0.01"}
    legs = tuple(OrderTicket(request_id=role, **(common | terms)) for role, terms in orders.items())
    signed = ticket_bytes(GroupTicket(request_id=kind, kind=kind, orders=legs))
    authority = SignedRequest(sign_bytes(SESSION_SEED, ticket_message(signed)), session_id=SESSION_ID)
    outcome = await engine.client.submit_group(signed, authority)
    assert outcome.refusal is None, outcome.refusal
    return await members(engine)


async def members(engine: RunningEngine) -> dict[str, OrderView]:
    return {order.role or "": order for order in await engine.client.orders(ACCOUNT, None, include_final=True)}


async def prices(engine: RunningEngine) -> tuple[Decimal, Decimal]:
    ticker = await engine.client.ticker("BTCUSDT")
    return ticker.bid_price, ticker.ask_price


def near(price: Decimal, factor: str) -> str:
    return decimal_text((price * Decimal(factor)).quantize(CENT, ROUND_DOWN))


async def test_a_bracket_enters_rests_its_take_profit_and_is_ended_by_its_stop(engine: RunningEngine) -> None:
    await open_session(engine)
    bid, ask_price = await prices(engine)
    group = await ask(
        engine,
        "BRACKET",
        entry={"side": "BUY", "order_type": "LIMIT", "price": near(ask_price, "1.001")},
        take_profit={"side": "SELL", "order_type": "LIMIT", "price": near(bid, "1.04")},
        # A hair away: the synthetic market gets there by itself.
        stop={"side": "SELL", "order_type": "TRAILING_STOP", "trailing_offset_bps": "1"},
    )
    assert {order.authority for order in group.values()} == {"session", "derived"}
    stop_id, profit_id = group["stop"].client_order_id, group["take_profit"].client_order_id
    let_go = await engine.event(lambda event: isinstance(event, OrderTriggered) and event.client_order_id == stop_id)
    # A held order is explained by the checks that it met when it was let go, not when it was asked for.
    explained = await engine.client.explain_risk(stop_id)
    assert (explained.decided_ns, explained.rules_version, explained.authority) == (let_go.ts_ns, 1, "derived")
    assert {check.name for check in explained.checks} == {check.name for check in let_go.checks}
    await engine.event(
        lambda event: (
            isinstance(event, OrderFilled) and event.client_order_id == stop_id and event.status is OrderStatus.FILLED
        )
    )
    ended = await members(engine)
    assert (ended["take_profit"].status, ended["stop"].status) == (OrderStatus.CANCELED, OrderStatus.FILLED)
    assert ended["take_profit"].filled_quantity + ended["stop"].filled_quantity <= ended["entry"].filled_quantity
    assert await engine.position() < Decimal("0.0001"), "all but what the entry's fee has taken"
    assert profit_id not in {order.client_order_id for order in await engine.client.open_orders(ACCOUNT)}


async def test_a_held_stop_survives_a_restart_and_cancelling_a_leg_ends_both(settings: Settings) -> None:
    first = RunningEngine(settings)
    await first.start()
    await open_session(first)
    bid, _ = await prices(first)
    group = await ask(
        first,
        "OCO",
        take_profit={"side": "SELL", "order_type": "LIMIT", "price": near(bid, "1.03")},
        stop={"side": "SELL", "order_type": "STOP", "stop_price": near(bid, "0.9")},
    )
    assert group["stop"].status is OrderStatus.HELD
    await first.close()

    second = RunningEngine(settings)
    await second.start()
    try:
        again = await members(second)
        assert again["stop"].status is OrderStatus.HELD
        assert again["take_profit"].status is OrderStatus.ACCEPTED
        refusal = await second.client.cancel_order(group["stop"].client_order_id, "user-trader")
        assert refusal is None
        closed = await second.event(
            lambda event: (
                isinstance(event, OrderClosed) and event.client_order_id == group["take_profit"].client_order_id
            )
        )
        assert closed.status is OrderStatus.CANCELED
        assert await second.client.open_orders(ACCOUNT) == []
    finally:
        await second.close()


@pytest.mark.parametrize("kind", ["STOP", "STOP_LIMIT", "TAKE_PROFIT", "TAKE_PROFIT_LIMIT", "TRAILING_STOP"])
async def test_the_venue_holds_what_it_can_by_itself(engine: RunningEngine, kind: str) -> None:
    await open_session(engine)
    bid, _ = await prices(engine)
    factor = "0.97" if "STOP" in kind else "1.03"
    terms: dict[str, Any] = (
        {"stop_price": near(bid, factor)} if kind != "TRAILING_STOP" else {"trailing_offset_bps": "300"}
    )
    if kind.endswith("_LIMIT"):
        terms["price"] = near(bid, factor)
    signed = ticket_bytes(
        OrderTicket(
            request_id=kind, account_id=ACCOUNT, venue="paper", symbol="BTCUSDT", side="SELL", order_type=kind,
            time_in_force="GTC", quantity="0.01", **terms,
        )
    )  # fmt: skip
    authority = SignedRequest(sign_bytes(SESSION_SEED, ticket_message(signed)), session_id=SESSION_ID)
    outcome = await engine.client.submit_order(signed, authority)
    assert outcome.refusal is None, outcome.refusal
    accepted = await engine.event(lambda event: getattr(event, "venue_order_id", None) is not None)
    assert accepted.client_order_id == outcome.client_order_id
