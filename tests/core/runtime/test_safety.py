"""What must hold when something is broken: the disk, the venue's answer, the callers."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from core.config import ConfigurationError, Settings
from core.risk.kill_switch import KillSwitch
from core.runtime import engine as engine_module
from core.runtime import follow
from core.runtime import sequencer as sequencer_module
from core.runtime.address import engine_address
from core.runtime.client import EngineClient
from core.runtime.server import SERVICE_NAME
from core.runtime.thaw import write_thaw
from core.storage.journal_files import JournalFile
from core.types.clock import NS_PER_MS, SystemClock
from core.types.codes import ReasonCode, RefusalError
from core.types.events import KillSwitchChanged, OrderBecameUnknown, OrderClosed, OrderFilled, OrderRejected
from core.types.orders import OrderIntent, OrderStatus
from core.venues import connect as connect_module
from core.venues.binance.adapter import BinanceSpot
from core.venues.ports import SubmitResult, SubmitUnknown
from tests.core.approvals import ACCOUNT, APPROVER_SEED, ROOT_SEED
from tests.core.engine_support import RunningEngine
from tests.core.storage.faults import BreakableFolder, Disk

FULL = OSError(errno.ENOSPC, "No space left on device")


def changed_to(state: str) -> Callable[[Any], bool]:
    return lambda event: isinstance(event, KillSwitchChanged) and event.state == state


async def resting(engine: RunningEngine) -> str:
    """An order of ours that rests in the venue's book."""
    ticker = await engine.client.ticker("BTCUSDT")
    below = (ticker.bid_price * Decimal("0.97")).quantize(Decimal(1))
    outcome = await engine.execute(await engine.propose(price=str(below)))
    assert outcome.client_order_id is not None, outcome.refusal
    return outcome.client_order_id


async def test_the_kill_file_halts_and_cancels_and_only_the_root_key_thaws(
    engine: RunningEngine, settings: Settings
) -> None:
    order_id = await resting(engine)
    kill_file = settings.paths.run / "KILL"

    kill_file.touch()

    halted = await engine.event(changed_to("HALTED"))
    assert halted.requested_by == "file:KILL"
    closed = await engine.event(lambda event: isinstance(event, OrderClosed))
    assert (closed.client_order_id, closed.status) == (order_id, OrderStatus.CANCELED)
    refused = await engine.execute(await engine.propose())
    assert refused.refusal is not None
    assert refused.refusal.code is ReasonCode.RISK_KILL_SWITCH_ACTIVE

    with pytest.raises(RefusalError) as caught:
        await engine.client.set_kill_switch("NORMAL", "user-trader", "please")
    assert caught.value.refusal.code is ReasonCode.AUTHORITY_KIND_NOT_ACCEPTED

    kill_file.unlink()
    before = (await engine.client.status()).journal_sequence
    write_thaw(settings, APPROVER_SEED, KillSwitch.NORMAL, "thief", "not the root key", SystemClock())
    write_thaw(settings, ROOT_SEED, KillSwitch.NORMAL, "ops", "drill is over", SystemClock())
    thawed = await engine.event(changed_to("NORMAL"), before)
    assert thawed.requested_by == "root:ops"
    assert (await engine.execute(await engine.propose())).refusal is None


async def test_an_engine_that_starts_beside_a_kill_file_is_halted_before_it_serves(settings: Settings) -> None:
    (settings.paths.run / "KILL").touch()
    engine = RunningEngine(settings)
    await engine.start()
    try:
        assert (await engine.client.status()).kill_switch == "HALTED"
    finally:
        await engine.close()


async def test_a_signal_halts(engine: RunningEngine) -> None:
    os.kill(os.getpid(), signal.SIGUSR1)
    assert (await engine.event(changed_to("HALTED"))).requested_by == "signal:SIGUSR1"


async def test_the_kill_switch_survives_a_restart(settings: Settings) -> None:
    first = RunningEngine(settings)
    await first.start()
    assert (await first.client.set_kill_switch("REDUCE_ONLY", "user-trader", "drill")).kill_switch == "REDUCE_ONLY"
    await first.close()
    second = RunningEngine(settings)
    await second.start()
    assert (await second.client.status()).kill_switch == "REDUCE_ONLY"
    await second.close()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    disk = Disk()
    monkeypatch.setattr(engine_module, "PosixFolder", lambda folder: BreakableFolder(folder, disk))
    return disk


def always_full(disk: Disk) -> Callable[[JournalFile, bytes], None]:
    def fault(_file: JournalFile, _data: bytes) -> None:
        disk.append = fault
        raise FULL

    return fault


async def test_without_a_journal_no_order_is_taken_but_safety_works_and_is_recorded_later(
    disk: Disk, engine: RunningEngine
) -> None:
    order_id = await resting(engine)
    await engine.event(lambda event: getattr(event, "venue_order_id", None) is not None)
    before = (await engine.client.status()).journal_sequence

    disk.append = always_full(disk)
    refused = await engine.execute(await engine.propose())
    assert refused.refusal is not None
    assert refused.refusal.code is ReasonCode.SERVICE_JOURNAL_UNAVAILABLE
    assert not refused.consumed
    assert "No space left on device" in ((await engine.client.status()).journal_problem or "")
    assert await engine.client.cancel_order(order_id, "user-trader") is None
    assert (await engine.client.set_kill_switch("CANCEL_ONLY", "user-trader", "disk")).kill_switch == "CANCEL_ONLY"
    assert (await engine.client.status()).journal_sequence == before

    disk.append = None
    await engine.event(changed_to("CANCEL_ONLY"), before)
    assert (await engine.client.status()).journal_problem is None
    closed = await engine.event(lambda event: isinstance(event, OrderClosed), before)
    assert closed.client_order_id == order_id


async def test_safety_works_also_when_no_more_of_it_can_be_kept_for_the_journal(
    disk: Disk, engine: RunningEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    order_id = await resting(engine)
    await engine.event(lambda event: getattr(event, "venue_order_id", None) is not None)
    before = (await engine.client.status()).journal_sequence
    monkeypatch.setattr(sequencer_module, "UNRECORDED_LIMIT", 0)
    disk.append = always_full(disk)

    assert await engine.client.cancel_order(order_id, "user-trader") is None
    assert (await engine.client.set_kill_switch("HALTED", "user-trader", "disk")).kill_switch == "HALTED"

    disk.append = None
    closed = await engine.event(lambda event: isinstance(event, OrderClosed), before)
    assert (closed.client_order_id, closed.status) == (order_id, OrderStatus.CANCELED)
    await engine.event(changed_to("HALTED"), before)


async def test_a_report_that_could_not_be_recorded_is_asked_for_though_another_record_healed_the_journal(
    disk: Disk, engine: RunningEngine
) -> None:
    """given a cancel whose report met a full disk, when the next command is what finds the disk mended, then the
    venue is asked all the same."""
    order_id = await resting(engine)
    await engine.event(lambda event: getattr(event, "venue_order_id", None) is not None)
    failed = asyncio.Event()
    loop, refusals = asyncio.get_running_loop(), 0

    def full(_file: JournalFile, _data: bytes) -> None:
        nonlocal refusals
        disk.append = full
        refusals += 1
        if refusals == 2:  # the request to cancel, then the venue's report
            disk.append = None
            loop.call_soon_threadsafe(failed.set)
        raise FULL

    disk.append = full
    assert await engine.client.cancel_order(order_id, "user-trader") is None
    async with asyncio.timeout(60):
        await failed.wait()
    await engine.client.set_kill_switch("REDUCE_ONLY", "user-trader", "first to find it mended")
    closed = await engine.event(lambda event: isinstance(event, OrderClosed))
    assert (closed.client_order_id, closed.status) == (order_id, OrderStatus.CANCELED)


async def test_what_was_recorded_late_replays(disk: Disk, settings: Settings) -> None:
    first = RunningEngine(settings)
    await first.start()
    disk.append = always_full(disk)
    await first.client.set_kill_switch("REDUCE_ONLY", "user-trader", "disk")
    disk.append = None
    await first.client.set_kill_switch("CANCEL_ONLY", "user-trader", "more")
    await first.close()
    second = RunningEngine(settings)
    await second.start()
    assert (await second.client.status()).kill_switch == "CANCEL_ONLY"
    await second.close()


class LossyVenue(BinanceSpot):
    """The real adapter on a line that loses answers, or requests."""

    arrives = True
    submits = 0

    async def submit(self, intent: OrderIntent) -> SubmitResult:
        type(self).submits += 1
        if self.arrives:
            await super().submit(intent)
        return SubmitUnknown("the answer was lost")


async def test_an_order_whose_answer_was_lost_is_unknown_until_the_venue_tells(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect_module, "BinanceSpot", LossyVenue)
    monkeypatch.setattr(LossyVenue, "submits", 0)
    engine = RunningEngine(settings)
    await engine.start()
    try:
        outcome = await engine.execute(await engine.propose())
        filled = await engine.event(lambda event: isinstance(event, OrderFilled) and event.status is OrderStatus.FILLED)
        assert filled.client_order_id == outcome.client_order_id
        assert await engine.position() == Decimal("0.01")
        assert LossyVenue.submits == 1
    finally:
        await engine.close()


async def test_an_order_that_never_arrived_is_rejected_only_when_it_cant_arrive_any_more(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect_module, "BinanceSpot", LossyVenue)
    monkeypatch.setattr(LossyVenue, "arrives", False)
    # Together the time in which, on a machine that stalls, another order can be seen to be held back.
    monkeypatch.setattr(follow, "ARRIVAL_MARGIN_MS", 2_500)
    monkeypatch.setattr(follow, "RESOLVE_CAP_S", 0.5)
    quick = settings.model_copy(update={"venue": settings.venue.model_copy(update={"recv_window_ms": 500})})
    engine = RunningEngine(quick)
    await engine.start()
    try:
        outcome = await engine.execute(await engine.propose())
        unknown = await engine.event(lambda event: isinstance(event, OrderBecameUnknown))
        assert unknown.client_order_id == outcome.client_order_id
        blocked = await engine.execute(await engine.propose())
        assert blocked.refusal is not None
        assert blocked.refusal.code is ReasonCode.RISK_INTENT_UNRESOLVED

        rejected = await engine.event(lambda event: isinstance(event, OrderRejected))
        assert rejected.refusal.code is ReasonCode.ORDER_NEVER_ARRIVED
        assert rejected.ts_ns - unknown.ts_ns > 3_000 * NS_PER_MS
        assert await engine.client.open_orders(ACCOUNT) == []
    finally:
        await engine.close()


async def test_a_call_without_the_token_is_refused(engine: RunningEngine, settings: Settings) -> None:
    stranger = EngineClient(engine_address(settings), "not the token")
    for call in (stranger.status(), anext(stranger.stream_journal(0))):
        with pytest.raises(RefusalError) as caught:
            await call
        assert caught.value.refusal.code is ReasonCode.AUTH_TOKEN_INVALID
    await stranger.close()


async def test_health_needs_no_token_and_reflection_does(engine: RunningEngine, settings: Settings) -> None:
    async with grpc.aio.insecure_channel(engine_address(settings)) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE_NAME))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(aiter(reflection.ServerReflectionInfo(iter([request]))))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        token = settings.read_secret("engine-control.token")
        call = reflection.ServerReflectionInfo(iter([request]), metadata=(("authorization", f"Bearer {token}"),))
        listed = await anext(aiter(call))
        assert SERVICE_NAME in {service.name for service in listed.list_services_response.service}


async def test_a_reader_gets_history_then_what_becomes_durable(engine: RunningEngine) -> None:
    entries = engine.client.stream_journal(0)
    history = (await engine.client.status()).journal_sequence
    seen = [await anext(entries) for _ in range(history)]
    assert [entry.sequence for entry in seen] == list(range(1, history + 1))
    waiting = asyncio.ensure_future(anext(entries))
    await engine.client.set_kill_switch("REDUCE_ONLY", "user-trader", "drill")
    async with asyncio.timeout(60):
        live = await waiting
    assert live.sequence == history + 1
    await entries.aclose()


async def test_a_reader_ahead_of_the_journal_is_told(engine: RunningEngine) -> None:
    with pytest.raises(RefusalError) as caught:
        await anext(engine.client.stream_journal(10_000))
    assert caught.value.refusal.code is ReasonCode.REQUEST_INVALID


async def test_a_second_engine_of_the_same_home_doesnt_start(engine: RunningEngine, settings: Settings) -> None:
    second = RunningEngine(settings)
    with pytest.raises(ConfigurationError, match="another engine writes this journal"):
        await second.start()
    await second.client.close()
    assert (await engine.client.status()).epoch == 1


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("risk.toml", "", "risk.toml: key .schema.: must be"),
        ("roster.json", "{}", "roster.json: not a signed roster"),
        ("roster.json", None, "roster.json: can't be read"),
        ("risk.toml", None, "risk.toml: can't be read"),
        ("secrets/engine-control.token", None, "engine-control.token"),
    ],
)
async def test_bad_configuration_doesnt_start(
    settings: Settings, home: Path, file: str, content: str | None, message: str
) -> None:
    if content is None:
        (home / file).unlink()
    else:
        (home / file).write_text(content)
    engine = RunningEngine(settings)
    with pytest.raises(ConfigurationError, match=message):
        await engine.start()
    await engine.client.close()


async def test_a_socket_path_that_is_too_long_is_shortened_for_both_sides(tmp_path: Path) -> None:
    from tests.core.engine_support import settings_for

    deep = tmp_path / ("x" * 90)
    address = engine_address(settings_for(deep))
    assert address == engine_address(settings_for(deep))
    assert address != engine_address(settings_for(deep / "y"))
    assert len(address.removeprefix("unix:")) <= 103
