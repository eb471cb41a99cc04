"""A trader in a hurry, over gRPC: limits, markets, stops, good-till-dates, amendments, cancels, repeats; and what
people have approved, of every kind (tests.crash.approvals).

Whatever it asks for is drawn from a seeded generator; what it was told is kept, for the comparison afterwards.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from decimal import ROUND_DOWN, Decimal
from random import Random

import msgspec

from core.authority.session import SESSION_SCHEMA, grant_bytes, sign_session
from core.authority.signatures import public_key_hex, sign_bytes
from core.runtime.client import EngineClient, SignedRequest
from core.runtime.tickets import AmendTicket, GroupTicket, OrderTicket, ticket_bytes, ticket_message
from core.types.authority import SessionGrant
from core.types.clock import NS_PER_S, SystemClock
from core.types.codes import ReasonCode, RefusalError
from core.types.ids import SystemIdSource, new_trace
from core.types.money import decimal_text
from core.types.orders import OrderType, Side, TimeInForce
from core.types.views import ExecutionOutcomeView, OrderView, TickerView
from tests.core.approvals import ACCOUNT, ENGINE_ID, ENVIRONMENT, TRADER_SEED, approve, proposal
from tests.crash.approvals import Approver
from tests.crash.products import Product

WORKERS = 4
ORDERS_PER_S = 9.0
"""The venue takes 100 in 10 s."""
OPEN_ORDERS_WANTED = 30
SESSION_SEED = "77" * 32
SESSION_NS = 3600 * NS_PER_S
BPS = Decimal(10_000)
ACTIONS = {
    "limit": 26,
    "crossing": 14,
    "market": 12,
    "conditional": 12,
    "good_till_date": 8,
    "trailing": 4,
    "oco": 4,
    "bracket": 5,
    "approval": 5,
    "approved": 20,
    "amend": 8,
    "cancel": 14,
    "cancel_all": 1,
    "again": 5,
    "session": 1,
}


class Unanswered(msgspec.Struct, frozen=True):
    """An order, or a group of them, that was asked for, and then the engine was gone."""

    ticket: bytes
    signed: SignedRequest
    is_group: bool = False


class Trader:
    """Told and unanswered orders add up over its whole life, which is longer than any engine's."""

    def __init__(self, client: EngineClient, product: Product, random: Random) -> None:
        self.told: set[str] = set()
        self.unanswered: list[Unanswered] = []
        self.answers: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self._client = client
        self._terms_of = product.symbols
        self._random = random
        self._clock = SystemClock()
        self._ids = SystemIdSource()
        self.approver = Approver(client, product.symbols, random)
        self._session_id = ""
        self._sent: list[Unanswered] = []
        self._next_order_s = 0.0

    async def trade(self) -> None:
        """Until it is cancelled. Nothing that the engine answers, or doesn't, ends it."""
        with contextlib.suppress(RefusalError):
            await self.sign_in()
        async with asyncio.TaskGroup() as group:
            for _ in range(WORKERS):
                group.create_task(self._work())

    async def burst(self, orders: int) -> None:
        """So many orders at once, so that a crash meets some of them on every part of their way."""
        await asyncio.gather(*(self._order("burst") for _ in range(orders)), return_exceptions=True)

    async def ask_again(self) -> None:
        """What was never answered: the same tickets, which may find their orders or make them, and never two."""
        unanswered, self.unanswered = self.unanswered, []
        for ticket in unanswered:
            await self._send(ticket)
        await self.approver.ask_again()

    async def sign_in(self) -> None:
        """A session of its own; the one before it is closed."""
        before, self._session_id = self._session_id, self._ids.new_ulid()
        now_ns = self._clock.now_ns()
        grant = SessionGrant(
            schema=SESSION_SCHEMA,
            session_id=self._session_id,
            engine_id=ENGINE_ID,
            environment=ENVIRONMENT,
            mode="PAPER",
            user_id="user-trader",
            public_key_hex=public_key_hex(SESSION_SEED),
            account_ids=(ACCOUNT,),
            max_order_notional_quote="100000",
            max_total_notional_quote="100000000",
            max_orders="100000",
            issued_at_ns=str(now_ns),
            expires_at_ns=str(now_ns + SESSION_NS),
        )
        refusal = await self._client.open_session(grant_bytes(grant), "trader", sign_session(TRADER_SEED, grant))
        assert refusal is None, refusal
        if before:
            await self._client.close_session(before, "user-trader")

    async def _work(self) -> None:
        while True:
            action = self._random.choices(list(ACTIONS), list(ACTIONS.values()))[0]
            self.asked[action] += 1
            try:
                await self._do(action)
            except RefusalError as error:
                self.answers[error.refusal.code] += 1
                if error.refusal.code is ReasonCode.SERVICE_ENGINE_UNAVAILABLE:
                    await asyncio.sleep(0.05)
            await asyncio.sleep(self._random.uniform(0.0, 0.1))

    async def _do(self, action: str) -> None:
        match action:
            case "cancel":
                if order := await self._one_of_ours():
                    await self._client.cancel_order(order.client_order_id, "user-trader")
            case "cancel_all":
                symbol = self._random.choice([None, *self._terms_of])
                await self._client.cancel_all(ACCOUNT, symbol, "user-trader")
            case "amend":
                if order := await self._one_of_ours():
                    await self._amend(order)
            case "again":
                await self._again()
            case "session":
                await self.sign_in()
            case "approval":
                await self._approved()
            case "approved":
                await self._have_approved()
            case "oco" | "bracket":
                await self._group(action)
            case _:
                await self._order(action)

    async def _again(self) -> None:
        if self._random.random() < 0.5:
            await self.approver.again()
        elif self._sent:
            await self._send(self._random.choice(self._sent))

    async def _have_approved(self) -> None:
        await self._turn()
        outcome = await self.approver.ask(self._one_of_ours)
        if outcome is not None:
            self._heard(outcome)

    async def _one_of_ours(self) -> OrderView | None:
        orders = await self._client.open_orders(ACCOUNT)
        return self._random.choice(orders) if orders else None

    async def _amend(self, order: OrderView) -> None:
        # Less goes in place; another price needs a cancel and another order at this venue.
        tick, step = self._terms_of[order.symbol].tick, self._terms_of[order.symbol].step
        changes = {"quantity": decimal_text((order.quantity * Decimal("0.7")).quantize(step, ROUND_DOWN))}
        if order.price is not None and self._random.random() < 0.4:
            changes = {"price": decimal_text(order.price - tick * self._random.randint(1, 300))}
        ticket = ticket_bytes(
            AmendTicket(request_id=self._ids.new_ulid(), client_order_id=order.client_order_id, **changes)
        )
        refusal = await self._client.amend_order(ticket, self._signed(ticket))
        if refusal is not None:
            self.answers[refusal.code] += 1

    async def _order(self, action: str) -> None:
        symbol, side, quantity = self._draw()
        ticker = await self._client.ticker(symbol)
        terms = self._terms(action, symbol, side, ticker)
        canonical = ticket_bytes(self._ticket(self._ids.new_ulid(), symbol, side, quantity, terms))
        if action != "burst":
            await self._turn()
        await self._send(Unanswered(canonical, self._signed(canonical)))

    async def _group(self, action: str) -> None:
        """An entry at the market's edge with exits close by, or the exits alone."""
        symbol, side, quantity = self._draw()
        ticker = await self._client.ticker(symbol)
        away = Side.SELL if side is Side.BUY else Side.BUY
        profit = self._price(symbol, away, ticker, -self._random.randint(2, 15))
        stop = self._price(symbol, away, ticker, self._random.randint(2, 15))
        legs = {
            "take_profit": {"order_type": OrderType.LIMIT, "time_in_force": "GTC", "price": profit},
            "stop": {"order_type": OrderType.STOP, "time_in_force": "GTC", "stop_price": stop},
        }
        orders = [self._ticket(role, symbol, away, quantity, terms) for role, terms in legs.items()]
        if action == "bracket":
            entry = self._terms(self._random.choice(["limit", "crossing"]), symbol, side, ticker)
            orders = [self._ticket("entry", symbol, side, quantity, entry | {"time_in_force": "GTC"}), *orders]
        group = GroupTicket(request_id=self._ids.new_ulid(), kind=action.upper(), orders=tuple(orders))
        canonical = ticket_bytes(group)
        await self._turn()
        await self._send(Unanswered(canonical, self._signed(canonical), is_group=True))

    def _draw(self) -> tuple[str, Side, str]:
        symbol = self._random.choice(list(self._terms_of))
        quantity = self._terms_of[symbol].size * Decimal(self._random.randint(50, 200)) / 100
        side = self._random.choice([Side.BUY, Side.SELL])
        return symbol, side, decimal_text(quantity.quantize(self._terms_of[symbol].step, ROUND_DOWN))

    def _ticket(self, request_id: str, symbol: str, side: Side, quantity: str, terms: dict[str, str]) -> OrderTicket:
        return OrderTicket(
            request_id=request_id,
            account_id=ACCOUNT,
            venue="paper",
            symbol=symbol,
            side=side,
            quantity=quantity,
            **terms,
        )

    def _terms(self, action: str, symbol: str, side: Side, ticker: TickerView) -> dict[str, str]:
        near = self._price(symbol, side, ticker, -self._random.randint(0, 30))
        match action:
            case "market":
                return {"order_type": OrderType.MARKET, "time_in_force": TimeInForce.GTC}
            case "crossing" | "burst":
                kind = self._random.choice([TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK])
                through = self._price(symbol, side, ticker, 20)
                return {"order_type": OrderType.LIMIT, "time_in_force": kind, "price": through}
            case "conditional":
                kinds = [OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TAKE_PROFIT, OrderType.TAKE_PROFIT_LIMIT]
                of = self._random.choice(kinds)
                distance = self._random.randint(1, 20)
                stop = self._price(symbol, side, ticker, distance if of in kinds[:2] else -distance)
                terms = {"order_type": of, "time_in_force": TimeInForce.GTC, "stop_price": stop}
                return terms | ({"price": stop} if of.has_limit_price else {})
            case "trailing":
                offset = str(self._random.randint(1, 15))
                return {"order_type": OrderType.TRAILING_STOP, "time_in_force": "GTC", "trailing_offset_bps": offset}
            case "good_till_date":
                expires_ns = self._clock.now_ns() + self._random.randint(1_100, 4_000) * 1_000_000
                terms = {"order_type": OrderType.LIMIT, "time_in_force": TimeInForce.GTD, "price": near}
                return terms | {"expires_ns": str(expires_ns)}
            case _:
                return {"order_type": OrderType.LIMIT, "time_in_force": TimeInForce.GTC, "price": near}

    def _price(self, symbol: str, side: Side, ticker: TickerView, into_bps: int) -> str:
        """So far beyond the best opposite price (positive), or short of the own one (negative)."""
        sign = 1 if side is Side.BUY else -1
        best = (
            (ticker.ask_price if sign > 0 else ticker.bid_price)
            if into_bps > 0
            else (ticker.bid_price if sign > 0 else ticker.ask_price)
        )
        return decimal_text((best * (1 + sign * into_bps / BPS)).quantize(self._terms_of[symbol].tick, ROUND_DOWN))

    async def _approved(self) -> None:
        ticker = await self._client.ticker("BTCUSDT")
        now_ns = self._clock.now_ns()
        what = proposal(
            suggestion_id=self._ids.new_ulid(),
            quantity="0.002",
            price=self._price("BTCUSDT", Side.BUY, ticker, self._random.choice([-10, 20])),
            reference_price=decimal_text((ticker.bid_price + ticker.ask_price) / 2),
            max_deviation_bps="100",
            created_at_ns=str(now_ns),
            expires_at_ns=str(now_ns + 60 * NS_PER_S),
        )
        await self._turn()
        self._heard(await self._client.execute_approval(*approve(what), new_trace(self._ids)))

    async def _send(self, order: Unanswered) -> None:
        self.unanswered.append(order)
        submit = self._client.submit_group if order.is_group else self._client.submit_order
        outcome = await submit(order.ticket, order.signed)
        self.unanswered.remove(order)
        self._sent = [*self._sent[-50:], order]
        self._heard(outcome)

    def _heard(self, outcome: ExecutionOutcomeView) -> None:
        if outcome.refusal is not None:
            self.answers[outcome.refusal.code] += 1
        elif outcome.client_order_id is not None:
            self.answers["taken"] += 1
            self.told.add(outcome.client_order_id)

    async def _turn(self) -> None:
        """Orders come evenly, so that the venue's count of them is seldom met."""
        loop = asyncio.get_running_loop()
        start_s = max(loop.time(), self._next_order_s)
        self._next_order_s = start_s + 1 / ORDERS_PER_S
        await asyncio.sleep(start_s - loop.time())

    def _signed(self, ticket: bytes) -> SignedRequest:
        return SignedRequest(sign_bytes(SESSION_SEED, ticket_message(ticket)), session_id=self._session_id)
