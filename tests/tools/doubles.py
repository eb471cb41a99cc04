"""A gateway and an approval flow over doubles of their ports."""

from __future__ import annotations

from typing import Any

from core.types.clock import ManualClock
from core.types.ids import new_trace
from knowledge.reviews import Review
from knowledge.search import ReviewHit
from tests.tools.backtest_doubles import MemoryBacktests
from tests.tools.engine_double import MemoryEngine
from tests.tools.people import ACCOUNT, IDS, NOW_NS, TRADER
from tests.tools.stores import (
    MemoryConversations,
    MemoryHealth,
    MemoryHistory,
    MemoryResults,
    MemoryReviews,
    MemorySuggestions,
    MemoryTrail,
)
from tools.approvals import Approvals
from tools.composition import build_gateway
from tools.contracts import Principal, ToolCall
from tools.limits import Limiter
from tools.pipeline import ToolGateway
from tools.policy import PolicySource
from tools.registry import Registry
from tools.suggestions import Suggestion


class House:
    """A gateway and an approval flow over the doubles."""

    def __init__(
        self,
        *,
        registry: Registry | None = None,
        max_calls_per_run: int = 12,
        limiter: Limiter | None = None,
        policy: PolicySource | None = None,
    ) -> None:
        self.clock = ManualClock(NOW_NS)
        self.engine = MemoryEngine(self.clock)
        self.trail = MemoryTrail(self.clock)
        self.results = MemoryResults(self.trail)
        self.conversations = MemoryConversations(self.results)
        self.suggestions = MemorySuggestions()
        self.reviews = MemoryReviews()
        self.health = MemoryHealth()
        self.history = MemoryHistory()
        self.backtests = MemoryBacktests(ACCOUNT, TRADER.user_id, NOW_NS, IDS)
        self.gateway: ToolGateway = build_gateway(
            engine=self.engine,
            suggestions=self.suggestions,
            releases=self.results,
            results=self.results,
            conversations=self.conversations,
            reviews=self.reviews,
            health=self.health,
            history=self.history,
            backtests=self.backtests,
            trail=self.trail,
            clock=self.clock,
            ids=IDS,
            suggestion_ttl_s=300,
            max_tool_calls_per_run=max_calls_per_run,
            mode="PAPER",
            venue="paper",
            limiter=limiter,
            registry=registry,
            policy=policy,
        )
        self.approvals = Approvals(
            engine=self.engine, suggestions=self.suggestions, trail=self.trail, clock=self.clock, ids=IDS, policy=policy
        )

    async def ask(
        self, tool: str, principal: Principal = TRADER, *, run_id: str | None = None, **arguments: Any
    ) -> Any:
        return await self.gateway.call(call(tool, arguments, principal, run_id))

    async def suggest(self, **arguments: Any) -> Suggestion:
        """A pending suggestion to buy near the bid."""
        wanted = {"symbol": "BTCUSDT", "side": "buy", "quantity": "0.5", "price_anchor": "bid"} | arguments
        result = await self.ask("suggest_order", **wanted)
        assert result.refusal is None, result.refusal
        return self.suggestions.rows[result.data["suggestion_id"], 1]


def review_hit(narrative: str, review_id: str = "review-1", facts: dict[str, str] | None = None) -> ReviewHit:
    review = Review(
        review_id=review_id,
        position_id="position-1",
        account_id=ACCOUNT,
        symbol="BTCUSDT",
        facts=facts or {"net_pnl_quote": "12.5"},
        narrative=narrative,
        closed_ns=1,
    )
    return ReviewHit(review, 1, 1)


def call(tool: Any, arguments: Any = None, principal: Principal = TRADER, run_id: str | None = None) -> ToolCall:
    return ToolCall(IDS.new_ulid(), tool, {} if arguments is None else arguments, principal, new_trace(IDS), run_id)
