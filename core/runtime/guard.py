"""What the engine does by itself to keep losses and surprises small: it only ever tightens, cancels and takes note."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import structlog

from core.kernel.decide_orders import decide_expiry
from core.kernel.records import PositionKey
from core.portfolio.performance import account_day
from core.risk.kill_switch import KillSwitch
from core.risk.losses import loss_reason
from core.runtime.service import EngineService
from core.storage.journal import JournalUnavailableError
from core.types.clock import NS_PER_S
from core.types.events import EquityObserved
from core.types.money import decimal_text

GUARD_INTERVAL_S = 0.25
FIRST_INTERVAL_S = 0.02
"""Until the account was valued once: no order is taken before that."""
EQUITY_INTERVAL_NS = 10 * NS_PER_S

_log = structlog.get_logger("engine.guard")


class Guard:
    """Looks at the account, the user data stream, the dead man's timer and orders whose time has come."""

    def __init__(self, service: EngineService) -> None:
        self._service = service
        self._equity_ns = 0
        self._timer_s: int | None = None
        self._held: dict[PositionKey, int] = {}
        self._moved_ns = 0
        self._told_digest_hex = ""

    async def run(self) -> None:
        while True:
            await asyncio.sleep(GUARD_INTERVAL_S if self._service.kernel.equity else FIRST_INTERVAL_S)
            try:
                await self.look()
            except JournalUnavailableError as error:
                _log.warning("guard_not_recorded", error=str(error))

    async def look(self) -> None:
        """Once. Raises JournalUnavailableError for what must be recorded to count: that comes last, because the rest
        works without a journal (I10)."""
        self._follow_rules()
        await self._watch_timer()
        await self._watch_stream()
        await self._expire()
        await self._observe_equity()

    def _follow_rules(self) -> None:
        """Settings of the engine's own that were reloaded. A timer that was just set begins now."""
        service, rules = self._service, self._service.kernel.rules
        if rules is None:
            return
        service.hub.stale_after(rules.book_stale_after_ms)
        if rules.dead_mans_timer_s != self._timer_s:
            self._timer_s = rules.dead_mans_timer_s
            service.timer_renewed_ns = service.clock.now_ns()
        listed = service.kernel.listed
        if listed and rules.digest_hex != self._told_digest_hex:
            self._told_digest_hex = rules.digest_hex
            symbols = {symbol for _, symbol in listed}
            for line in rules.without_effect({service.surroundings.account_id}, symbols):
                _log.warning("risk_rule_without_effect", rules_version=service.kernel.rules_version, rule=line)

    async def _expire(self) -> None:
        service = self._service
        if decide_expiry(service.kernel, service.clock.now_ns()):
            await service.sequencer.record_safety(lambda now_ns: decide_expiry(service.kernel, now_ns))

    async def _observe_equity(self) -> None:
        """Told to the journal now and then, and at once when a limit is reached."""
        service = self._service
        account_id, rules = service.surroundings.account_id, service.kernel.rules
        now_ns = service.clock.now_ns()
        equity = service.equity(account_id) if rules is not None and self._is_settled(now_ns) else None
        if rules is None or equity is None:
            return
        before, day = service.kernel.equity.get(account_id), account_day(now_ns, rules.time_zone)
        reason = loss_reason(observe(before, account_id, day, equity, now_ns), rules.limits_for(account_id, "", ""))
        is_told = service.kernel.effective_kill_switch(account_id).tightness >= KillSwitch.REDUCE_ONLY.tightness
        is_due = before is None or before.day != day or now_ns >= self._equity_ns + EQUITY_INTERVAL_NS
        if is_due or (reason is not None and not is_told):
            self._equity_ns = now_ns
            if before is None or before.day != day or Decimal(before.equity) != equity:
                await service.record(lambda at_ns: (observe(before, account_id, day, equity, at_ns),))
        if reason is not None:
            await self._tighten(KillSwitch.REDUCE_ONLY, reason, account_id)

    def _is_settled(self, now_ns: int) -> bool:
        """Whether a derivatives wallet was read after the last fill: until then, what was just realised is neither in
        the position any more nor in the wallet yet, and would look like a loss, or like a peak."""
        service = self._service
        margin, account_id = service.surroundings.margin, service.surroundings.account_id
        if margin is None:
            return True
        held = {key: position.quantity for key, position in service.kernel.positions.items() if key[0] == account_id}
        if held != self._held:
            self._held, self._moved_ns = held, now_ns
        return margin.as_of_ns > self._moved_ns

    async def _watch_stream(self) -> None:
        service = self._service
        lost_ns, rules = service.surroundings.lost_since_ns, service.kernel.rules
        if lost_ns is None or rules is None:
            return
        account_id = service.surroundings.account_id
        limit_s = int(rules.limits_for(account_id, "", "")["user_stream_lost_after_s"].value)
        if service.clock.now_ns() - lost_ns >= limit_s * NS_PER_S:
            reason = f"the account's stream has been lost for {limit_s} s"
            await self._tighten(KillSwitch.CANCEL_ONLY, reason, account_id)

    async def _watch_timer(self) -> None:
        service, rules = self._service, self._service.kernel.rules
        if rules is None or rules.dead_mans_timer_s is None:
            return
        if service.clock.now_ns() - service.timer_renewed_ns >= rules.dead_mans_timer_s * NS_PER_S:
            await self._tighten(
                KillSwitch.HALTED, f"the dead man's timer wasn't renewed for {rules.dead_mans_timer_s} s", ""
            )

    async def _tighten(self, state: KillSwitch, reason: str, account_id: str) -> None:
        kernel = self._service.kernel
        current = kernel.effective_kill_switch(account_id) if account_id else kernel.kill_switch
        if current.tightness < state.tightness:
            await self._service.set_kill_switch(state, f"engine:{kernel.engine_id}", reason, account_id=account_id)


def observe(before: EquityObserved | None, account_id: str, day: str, equity: Decimal, now_ns: int) -> EquityObserved:
    """A new day begins with what there is; the peak is that of the account's whole life here."""
    is_same_day = before is not None and before.day == day
    peak = equity if before is None else max(equity, Decimal(before.peak_equity))
    return EquityObserved(
        ts_ns=now_ns,
        account_id=account_id,
        day=day,
        day_start_equity=before.day_start_equity if before is not None and is_same_day else decimal_text(equity),
        peak_equity=decimal_text(peak),
        equity=decimal_text(equity),
    )
