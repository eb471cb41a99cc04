"""What the trader has approved, of every kind: held orders, brackets, amendments, cancels, a tighter switch, tighter
limits of a mandate and its end; handed in twice, taken back, and asked for again over the engine's lives."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from decimal import ROUND_DOWN, Decimal
from random import Random
from typing import Any

import msgspec

from core.authority.administration import AdministrationDocument, administration_bytes, sign_administration
from core.authority.mandate import mandate_bytes, sign_mandate
from core.authority.proposal import (
    AMEND_PROPOSAL_SCHEMA,
    BRACKET_PROPOSAL_SCHEMA,
    CANCEL_PROPOSAL_SCHEMA,
    KILL_SWITCH_PROPOSAL_SCHEMA,
    ORDER_PROPOSAL_SCHEMA,
    STRATEGY_CHANGE_PROPOSAL_SCHEMA,
)
from core.authority.proposal_values import MANDATE_LIMITS
from core.runtime.client import EngineClient
from core.types.clock import NS_PER_S, SystemClock
from core.types.codes import RefusalError
from core.types.ids import SystemIdSource, new_trace
from core.types.money import decimal_text
from core.types.orders import OrderType, Side
from core.types.views import ExecutionOutcomeView, OrderView, TickerView
from tests.core.approvals import ACCOUNT, APPROVER_SEED, ENGINE_ID, ROOT_SEED, SECOND_SEED, approve
from tests.core.authority.proposals import example
from tests.core.kernel.desk import mandate
from tests.crash.products import Terms

HOLDS_NS = 60 * NS_PER_S
REMEMBERED = 30
MAX_DEVIATION_BPS = "100"
KINDS = {"held": 3, "trailing": 2, "bracket": 3, "amend": 3, "cancel": 3, "kill_switch": 1, "strategy_change": 2}


class Approved(msgspec.Struct, frozen=True):
    """A signed proposal, as it is handed in."""

    suggestion_id: str
    version: int
    content: bytes
    digest: str
    signatures: list[tuple[str, bytes]]


class Approver:
    """Told: what the engine said it has used, and made void, which has to be so over all of its lives."""

    def __init__(self, client: EngineClient, terms: dict[str, Terms], random: Random) -> None:
        self.used: Counter[str] = Counter()
        self.voided: dict[str, int] = {}
        self.unanswered: list[Approved] = []
        self._client = client
        self._terms = terms
        self._random = random
        self._clock = SystemClock()
        self._ids = SystemIdSource()
        self._signed: list[Approved] = []
        self._mandate: dict[str, str] = {}

    async def ask(self, one_of_ours: Callable[[], Awaitable[OrderView | None]]) -> ExecutionOutcomeView | None:
        """Have something approved, and hand it in; None when there was nothing to approve."""
        kind = self._random.choices(list(KINDS), list(KINDS.values()))[0]
        what = await self._propose(kind, one_of_ours)
        if what is None:
            return None
        self._signed = [*self._signed[-REMEMBERED:], what]
        if self._random.random() < 0.25:
            await self._take_back(what)
        if self._random.random() < 0.3:
            both = await asyncio.gather(self.hand_in(what), self.hand_in(what))
            outcome = next((one for one in both if one.consumed), both[0])
        else:
            outcome = await self.hand_in(what)
        if kind == "kill_switch" and outcome.consumed:
            await self.thaw()
        return outcome

    async def again(self) -> None:
        """Somebody hands in what was handed in before, or changes their mind about it."""
        if self._signed:
            what = self._random.choice(self._signed)
            await (self.hand_in(what) if self._random.random() < 0.7 else self._take_back(what))

    async def ask_again(self) -> None:
        """What was never answered."""
        unanswered, self.unanswered = self.unanswered, []
        for what in unanswered:
            await self.hand_in(what)

    async def hand_in(self, what: Approved) -> ExecutionOutcomeView:
        self.unanswered.append(what)
        outcome = await self._client.execute_approval(what.content, what.digest, what.signatures, new_trace(self._ids))
        self.unanswered.remove(what)
        if outcome.consumed and outcome.journal_sequence is not None:
            self.used[what.suggestion_id] += 1
        return outcome

    async def _take_back(self, what: Approved) -> None:
        refusal = await self._client.void_approval(
            what.suggestion_id, what.version, account_id=ACCOUNT, requested_by="user-trader", reason="drawn"
        )
        if refusal is None:
            self.voided[what.suggestion_id] = max(what.version, self.voided.get(what.suggestion_id, 0))

    # one of each kind

    async def _propose(self, kind: str, one_of_ours: Callable[[], Awaitable[OrderView | None]]) -> Approved | None:
        match kind:
            case "held" | "trailing" | "bracket":
                symbol = self._random.choice(list(self._terms))
                ticker = await self._client.ticker(symbol)
                side = self._random.choice([Side.BUY, Side.SELL])
                order = self._bracket if kind == "bracket" else self._held
                return order(symbol, side, ticker, is_trailing=kind == "trailing")
            case "amend" | "cancel":
                shown = await one_of_ours()
                if shown is None:
                    return None
                return self._cancel(shown) if kind == "cancel" else await self._amend(shown)
            case "kill_switch":
                return self._sign(KILL_SWITCH_PROPOSAL_SCHEMA, scope="account", state="REDUCE_ONLY")
            case _:
                return await self._strategy_change()

    def _held(self, symbol: str, side: Side, ticker: TickerView, *, is_trailing: bool) -> Approved:
        """A stop a little beyond the market, or one that trails it."""
        into_bps = self._random.randint(2, 15)
        conditions: dict[str, str] = {
            "order_type": OrderType.STOP,
            "stop_price": self._beyond(symbol, side, ticker, into_bps),
        }
        if is_trailing:
            conditions = {"order_type": OrderType.TRAILING_STOP, "trailing_offset_bps": str(into_bps)}
        return self._sign(ORDER_PROPOSAL_SCHEMA, **self._market(symbol, ticker), side=side, price="", **conditions)

    def _bracket(self, symbol: str, side: Side, ticker: TickerView, *, is_trailing: bool) -> Approved:
        assert not is_trailing
        away = Side.SELL if side is Side.BUY else Side.BUY
        return self._sign(
            BRACKET_PROPOSAL_SCHEMA,
            **self._market(symbol, ticker),
            side=side,
            entry_limit_price=self._beyond(symbol, side, ticker, self._random.choice([-1, 5])),
            take_profit_limit_price=self._beyond(symbol, away, ticker, -self._random.randint(6, 20)),
            stop_trigger_price=self._beyond(symbol, away, ticker, self._random.randint(6, 20)),
        )

    def _cancel(self, shown: OrderView) -> Approved:
        stop = "" if shown.stop_price is None else decimal_text(shown.stop_price)
        return self._sign(CANCEL_PROPOSAL_SCHEMA, **_shown(shown), stop_price=stop)

    async def _amend(self, shown: OrderView) -> Approved | None:
        if shown.order_type is not OrderType.LIMIT or shown.price is None:
            return None
        terms = self._terms[shown.symbol]
        quantity, price = shown.quantity, shown.price
        if self._random.random() < 0.5:
            quantity = (quantity * Decimal("0.7")).quantize(terms.step, ROUND_DOWN)
        else:
            price -= terms.tick * self._random.randint(1, 300)
        ticker = await self._client.ticker(shown.symbol)
        return self._sign(
            AMEND_PROPOSAL_SCHEMA,
            **(self._market(shown.symbol, ticker) | _shown(shown)),
            filled_quantity=decimal_text(shown.filled_quantity),
            new_quantity=decimal_text(quantity),
            new_price=decimal_text(price),
        )

    async def _strategy_change(self) -> Approved:
        """Of a mandate of its own, which there is first; tightened again and again, and then ended."""
        if not self._mandate or self._random.random() < 0.2:
            await self._install_mandate()
        shown = {name: self._mandate[name] for name in ("mandate_id", "strategy_id", *MANDATE_LIMITS)}
        if self._random.random() < 0.2:
            self._mandate = {}
            return self._sign(STRATEGY_CHANGE_PROPOSAL_SCHEMA, **shown, action="revoke")
        wanted = {name: str(int(shown[name]) * 9 // 10) for name in MANDATE_LIMITS}
        self._mandate |= wanted
        new = {f"new_{name}": value for name, value in wanted.items()}
        return self._sign(STRATEGY_CHANGE_PROPOSAL_SCHEMA, **shown, **new, action="tighten")

    async def _install_mandate(self) -> None:
        now_ns = self._clock.now_ns()
        what = mandate(
            mandate_id=self._ids.new_ulid(), issued_at_ns=str(now_ns), expires_at_ns=str(now_ns + 3600 * NS_PER_S)
        )
        signatures = [("approver", sign_mandate(APPROVER_SEED, what)), ("second", sign_mandate(SECOND_SEED, what))]
        refusal = await self._client.install_mandate(mandate_bytes(what), signatures)
        assert refusal is None, refusal
        self._mandate = {name: getattr(what, name) for name in ("mandate_id", "strategy_id", *MANDATE_LIMITS)}

    async def thaw(self) -> None:
        """Loosen the account's switch again, which an approval has tightened."""
        now_ns = self._clock.now_ns()
        content = administration_bytes(
            AdministrationDocument(
                document_id=self._ids.new_ulid(),
                engine_id=ENGINE_ID,
                kind="thaw",
                body={"state": "NORMAL", "account_id": ACCOUNT, "reason": "drawn"},
                issued_at_ns=str(now_ns),
                expires_at_ns=str(now_ns + HOLDS_NS),
                requested_by="ops",
            )
        )
        refusal = await self._client.administer(content, [("root", sign_administration(ROOT_SEED, content))])
        if refusal is not None:
            raise RefusalError(refusal)

    # parts

    def _sign(self, schema: str, **terms: Any) -> Approved:
        now_ns, suggestion_id = self._clock.now_ns(), self._ids.new_ulid()
        moments = {"created_at_ns": str(now_ns), "expires_at_ns": str(now_ns + HOLDS_NS)}
        what = example(schema, suggestion_id=suggestion_id, **moments, **terms)
        return Approved(suggestion_id, int(what.version), *approve(what))

    def _market(self, symbol: str, ticker: TickerView) -> dict[str, str]:
        mid, size = (ticker.bid_price + ticker.ask_price) / 2, self._terms[symbol].size
        return {
            "symbol": symbol,
            "quantity": decimal_text(size),
            "notional_quote": decimal_text(size * mid * 2),
            "reference_price": decimal_text(mid),
            "max_deviation_bps": MAX_DEVIATION_BPS,
        }

    def _beyond(self, symbol: str, side: Side, ticker: TickerView, into_bps: int) -> str:
        """So far beyond the market for this side; negative, on its own side of it."""
        best = ticker.ask_price if side is Side.BUY else ticker.bid_price
        sign = 1 if side is Side.BUY else -1
        price = best * (1 + sign * into_bps / Decimal(10_000))
        return decimal_text(price.quantize(self._terms[symbol].tick, ROUND_DOWN))


def _shown(order: OrderView) -> dict[str, str]:
    return {
        "client_order_id": order.client_order_id,
        "venue": order.venue,
        "symbol": order.symbol,
        "side": order.side,
        "order_type": order.order_type,
        "quantity": decimal_text(order.quantity),
        "price": "" if order.price is None else decimal_text(order.price),
    }
