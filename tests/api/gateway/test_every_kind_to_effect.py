"""Each kind of suggestion from plain words to its effect at the venue: planner, gateway, approval, engine, paper venue.
The card shows exactly what is signed, and each figure of the answer has its source."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ag_ui.core import ActivitySnapshotEvent

from core.authority.listed_orders import listed_orders
from core.authority.mandate import MANDATE_SCHEMA, mandate_bytes, sign_mandate
from core.authority.proposal import parse_proposal
from core.types.authority import Mandate
from core.types.clock import NS_PER_S, SystemClock
from core.types.events import (
    ApprovalDecided,
    JournalEvent,
    KillSwitchChanged,
    OrderAccepted,
    OrderAmended,
    OrderClosed,
    OrderFilled,
    OrderIntended,
)
from core.types.orders import OrderStatus
from core.types.views import OrderView
from tests.agent.test_copilot import ask, assert_sourced, copilot_for
from tests.api.gateway_support import GatewayService, open_gateway
from tests.core.approvals import APPROVER_SEED
from tests.core.approvals import approve as sign
from tests.core.engine_support import WAIT_S, RunningEngine, engine, home, settings, venue
from tests.postgres import PostgresDatabase
from tests.tools.people import APPROVER

__all__ = ["engine", "home", "settings", "venue"]


class Desk:
    """One who asks in words, and one who approves what came of it."""

    def __init__(self, service: GatewayService, engine: RunningEngine) -> None:
        self.service = service
        self.engine = engine
        self.copilot = copilot_for(service.gateway)
        self.sequence = 0

    async def asks(self, question: str) -> str:
        """The order that an approved suggestion is about, or the suggestion's id where it is about none."""
        asked = await ask(self.copilot, question)
        assert asked.outcome.suggestion_id is not None, asked.outcome.answer
        assert_sourced(asked.outcome)
        (card,) = [event for event in asked.events if isinstance(event, ActivitySnapshotEvent)]
        return await self.approves(asked.outcome.suggestion_id, card.content["proposal"])

    async def suggests(self, tool: str, **arguments: Any) -> str:
        result = await self.service.ask(tool, **arguments)
        assert result.refusal is None, result.refusal
        return await self.approves(result.data["suggestion_id"], result.data["proposal"])

    async def approves(self, suggestion_id: str, shown: dict[str, str]) -> str:
        suggestion = await self.service.approvals.view(APPROVER, suggestion_id)
        proposal = parse_proposal(suggestion.proposal)
        assert shown == msgspec.to_builtins(proposal) == suggestion.order_fields()
        _, digest, [(key_id, signature)] = sign(proposal)
        self.sequence = (await self.engine.client.status()).journal_sequence
        outcome = await self.service.approvals.approve(APPROVER, suggestion_id, 1, digest, key_id, signature)
        assert outcome.refusal is None, outcome.refusal
        assert outcome.consumed
        return outcome.client_order_id or suggestion_id

    async def sees(self, kind: type[JournalEvent], **fields: Any) -> Any:
        """The first event of that kind with these fields since the approval."""

        def matches(event: JournalEvent) -> bool:
            found = (event, *event.caused) if isinstance(event, ApprovalDecided) else (event,)
            return any(
                isinstance(item, kind) and all(getattr(item, name) == value for name, value in fields.items())
                for item in found
            )

        return await self.engine.event(matches, self.sequence)

    async def holds(self) -> Decimal:
        return sum((p.quantity for p in await self.engine.client.positions("acct-demo")), Decimal(0))


@pytest.fixture
async def desk(engine: RunningEngine, postgres: PostgresDatabase, tmp_path: Path) -> AsyncIterator[Desk]:
    async with open_gateway(engine, postgres, tmp_path / "sql") as service:
        made = Desk(service, engine)
        await made.copilot.warm()
        yield made


async def test_positions_are_opened_hedged_and_closed_in_plain_words(desk: Desk) -> None:
    for question, left in (
        ("buy 0.02 BTC at market", Decimal("0.02")),
        ("hedge half of my BTC", Decimal("0.01")),
        ("close my position", Decimal(0)),
    ):
        order_id = await desk.asks(question)
        await desk.sees(OrderFilled, client_order_id=order_id, status=OrderStatus.FILLED)
        assert await desk.holds() == left, question


async def test_an_order_is_moved_and_cancelled_in_plain_words(desk: Desk) -> None:
    ticker = await desk.engine.client.ticker("BTCUSDT")
    low = (ticker.bid_price * Decimal("0.99")).quantize(Decimal("0.01"))
    order_id = await desk.asks(f"buy 0.02 BTC at {low}")
    await desk.sees(OrderAccepted, client_order_id=order_id)
    lower = (ticker.bid_price * Decimal("0.985")).quantize(Decimal("0.01"))
    moved_id = await desk.asks(f"move my order to {lower}")
    # Spot can't change a price in place: another order takes the first one's.
    await desk.sees(OrderClosed, client_order_id=order_id)
    await desk.sees(OrderAccepted, client_order_id=moved_id)
    (moved,) = await _open(desk, 1)
    assert (moved.client_order_id, moved.price, moved.quantity) == (moved_id, lower, Decimal("0.02"))
    resized_id = await desk.asks("change the quantity of my order to 0.01")
    await desk.sees(OrderAmended, client_order_id=resized_id, quantity=1_000)
    assert await desk.asks("cancel my order") == moved_id == resized_id
    await desk.sees(OrderClosed, client_order_id=moved_id, status=OrderStatus.CANCELED)
    assert await _open(desk, 0) == []


async def test_all_orders_are_cancelled_in_plain_words_by_one_approval(desk: Desk) -> None:
    ticker = await desk.engine.client.ticker("BTCUSDT")
    for share in ("0.98", "0.985", "0.99"):
        low = (ticker.bid_price * Decimal(share)).quantize(Decimal("0.01"))
        await desk.sees(OrderAccepted, client_order_id=await desk.asks(f"buy 0.02 BTC at {low}"))
    open_ids = {order.client_order_id for order in await _open(desk, 3)}
    suggestion_id = await desk.asks("cancel all my BTC orders")
    suggestion = await desk.service.approvals.view(APPROVER, suggestion_id)
    assert {order.client_order_id for order in listed_orders(suggestion.order_fields()["orders"])} == open_ids
    assert await _open(desk, 0) == []
    asked = await ask(desk.copilot, "cancel all my BTC orders")
    assert asked.outcome.suggestion_id is None
    assert "ORDER_UNKNOWN" in asked.outcome.answer


async def test_a_position_is_halved_in_plain_words(desk: Desk) -> None:
    for question, left in (("buy 0.02 BTC at market", Decimal("0.02")), ("halve my BTC position", Decimal("0.01"))):
        order_id = await desk.asks(question)
        await desk.sees(OrderFilled, client_order_id=order_id, status=OrderStatus.FILLED)
        assert await desk.holds() == left, question


async def test_a_bracket_and_a_stop_wait_as_they_were_approved_and_a_halt_ends_them(desk: Desk) -> None:
    ticker = await desk.engine.client.ticker("BTCUSDT")
    price, stop, target = (
        (ticker.bid_price * Decimal(share)).quantize(Decimal("0.01")) for share in ("0.99", "0.97", "1.05")
    )
    entry_id = await desk.asks(f"buy 0.01 BTC at {price} with a stop at {stop} and take profit at {target}")
    decided = await desk.sees(OrderIntended, role="stop", parent_id=entry_id)
    assert [caused.role for caused in decided.caused] == ["entry", "take_profit", "stop"]
    above = (ticker.ask_price * Decimal("1.02")).quantize(Decimal("0.01"))
    await desk.suggests(
        "suggest_order", symbol="BTCUSDT", side="buy", quantity="0.01", order_type="stop", stop_price=str(above)
    )
    assert {order.client_order_id for order in await _open(desk, 4)} > {entry_id}

    await desk.asks("halt trading")
    await desk.sees(KillSwitchChanged, state="HALTED", account_id="acct-demo")
    await desk.sees(OrderClosed, client_order_id=entry_id)
    assert await _open(desk, 0) == []
    asked = await ask(desk.copilot, "buy 0.01 BTC at market")
    assert asked.outcome.suggestion_id is None
    assert "RISK_KILL_SWITCH_ACTIVE" in asked.outcome.answer


async def test_a_strategys_mandate_is_reined_in_and_ended(desk: Desk) -> None:
    client, now_ns = desk.engine.client, SystemClock().now_ns()
    status = await client.status()
    mandate = Mandate(
        schema=MANDATE_SCHEMA,
        mandate_id="man-1",
        engine_id=status.engine_id,
        environment=status.environment,
        mode=status.mode,
        account_id="acct-demo",
        strategy_id="grid-1",
        strategy_digest_hex="ab" * 32,
        public_key_hex="",
        venue="paper",
        symbols=("BTCUSDT",),
        max_order_notional_quote="1000",
        max_position_notional_quote="1000",
        max_total_notional_quote="1000",
        max_open_orders="10",
        issued_at_ns=str(now_ns),
        expires_at_ns=str(now_ns + 3600 * NS_PER_S),
        asker_id="user-quant",
    )
    signed = [("approver", sign_mandate(APPROVER_SEED, mandate))]
    assert await client.install_mandate(mandate_bytes(mandate), signed) is None
    change = {"mandate_id": "man-1", "reason": "It trades too much."}
    await desk.suggests("suggest_strategy_change", action="tighten", max_open_orders=2, **change)
    (tightened,) = await client.mandates("acct-demo")
    assert (tightened.max_open_orders, tightened.state) == (2, "in force")
    await desk.suggests("suggest_strategy_change", action="revoke", **change)
    assert await client.mandates("acct-demo") == []


async def _open(desk: Desk, count: int) -> list[OrderView]:
    """The open orders, once there are so many: each change of an order is an entry of the journal."""
    client = desk.engine.client
    sequence = (await client.status()).journal_sequence
    found = await client.open_orders("acct-demo")
    async with asyncio.timeout(WAIT_S), contextlib.aclosing(client.stream_journal(sequence)) as entries:
        while len(found) != count:
            await anext(entries)
            found = await client.open_orders("acct-demo")
    return found
