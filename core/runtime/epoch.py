"""The first records of an engine's life: who it is, whom it trusts, what holds, and which orders it can't vouch for."""

from __future__ import annotations

import msgspec
import structlog

from core.authority.roster import SignedRoster
from core.kernel import decide
from core.kernel.decide_risk import decide_rules
from core.risk.rules import RiskRules
from core.runtime.service import EngineService
from core.types.codes import Refusal
from core.types.events import JournalEvent

_log = structlog.get_logger("engine.epoch")


class Epoch(msgspec.Struct, frozen=True):
    """What a start brings: the engine's identity, and the roster and the rules of its own files.

    rules_file is what a warning calls the rules by.
    """

    engine_id: str
    environment: str
    mode: str
    software_version: str
    roster: SignedRoster
    rules: RiskRules
    rules_file: str


async def open_epoch(service: EngineService, epoch: Epoch) -> None:
    """Record the start, before anything is served: in one group, so that it is whole or didn't happen.

    Raises RosterError for another roster under the version in force, JournalUnavailableError.
    """
    kernel, journal = service.kernel, service.journal
    if epoch.roster.roster.version < kernel.roster.version:
        _log.warning(
            "roster_file_superseded",
            file_version=epoch.roster.roster.version,
            roster_version=kernel.roster.version,
            cure="put the roster in force into the file, or leave it: what a signed document has installed stays",
        )
    await service.record(
        lambda now_ns: (
            decide.decide_started(
                engine_id=epoch.engine_id,
                epoch=journal.epoch,
                environment=epoch.environment,
                mode=epoch.mode,
                software_version=epoch.software_version,
                now_ns=now_ns,
            ),
            *decide.decide_roster(kernel, epoch.roster, now_ns),
            *_installed(service, epoch, now_ns),
            *decide.open_intents_after_restart(kernel, now_ns),
        )
    )
    _log.info(
        "engine_started",
        engine_id=kernel.engine_id,
        epoch=journal.epoch,
        mode=kernel.mode,
        sequence=journal.sequence,
        open_orders=len(kernel.open_order_ids),
        state_digest=kernel.state_digest(),
    )


def _installed(service: EngineService, epoch: Epoch, now_ns: int) -> tuple[JournalEvent, ...]:
    kernel, rules = service.kernel, epoch.rules
    if rules.digest_hex in {known.digest_hex for known in kernel.rules_history}:
        # What has replaced it since came by a signed document, and stays.
        if rules.digest_hex != kernel.rules_digest_hex:
            _log.warning(
                "risk_file_superseded",
                file=epoch.rules_file,
                rules_version=kernel.rules_version,
                cure="edit the file to put it into force, or leave it; `veloz risk show` tells what is in force",
            )
        return ()
    decided = decide_rules(kernel, rules.document, None, now_ns)
    assert not isinstance(decided, Refusal), "they were read a moment ago"
    return decided
