"""The policy in force, and how a changed file comes into force: by itself, within a second, without a restart.

A file that can't be used allows nothing: every call and approval is refused with SERVICE_POLICY_INVALID until it is
whole again. So that an editor that is just writing isn't caught half-way, a changed file is taken once two looks in a
row found it the same; replacing it with a rename, as `veloz policy reload` does, is never half-way at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import structlog

from audit.record import Action
from core.config import ConfigurationError
from core.types.clock import Clock
from core.types.codes import ReasonCode, Refusal, RefusalError
from core.types.ids import IdSource, new_trace
from tools.policy import DEFAULT_POLICY_NAME, Policy, default_document, load_policy
from tools.policy_document import PolicyFileError, ToolFacts
from tools.policy_gaps import gaps_of
from tools.ports import Trail

POLL_INTERVAL_S = 0.25
UNSETTLED_LOOKS_LIMIT = 8
"""A file that changes all the time is taken as it is after so many looks."""
ACTOR = "api"

log = structlog.get_logger("api.policy")

Stamp = tuple[int, int, int, int]


class PolicyView(msgspec.Struct, frozen=True):
    """What is in force. problem says why nothing is allowed; version and digest are then those of before."""

    version: str
    digest_hex: str
    source: str
    document: str
    in_force_since_ns: int
    problem: str | None = None


class PolicyKeeper:
    """Implements tools.policy.PolicySource over a file; without one the policy that VeloZ comes with holds."""

    def __init__(
        self,
        file: Path,
        tools: Mapping[str, ToolFacts],
        trail: Trail,
        clock: Clock,
        ids: IdSource,
        check: Callable[[Policy], None] = lambda _: None,
    ) -> None:
        """check raises PolicyFileError for what the file can't know. Raises ConfigurationError: a file that is wrong at
        the start doesn't start (I11)."""
        self._file = file
        self._tools = tools
        self._trail = trail
        self._clock = clock
        self._ids = ids
        self._check = check
        self._wake = asyncio.Event()
        self._taken = self._seen = self._stamp()
        self._unsettled_looks = 0
        self._problem: str | None = None
        self._text = ""
        self._unrecorded = True
        self._since_ns = clock.now_ns()
        try:
            self._policy = self._read()
        except PolicyFileError as error:
            raise ConfigurationError(str(error)) from error

    def current(self) -> Policy:
        """See PolicySource."""
        if self._problem is not None:
            raise RefusalError(
                Refusal(
                    ReasonCode.SERVICE_POLICY_INVALID,
                    f"The policy can't be used, so nothing is allowed until it is corrected: {self._problem}.",
                )
            )
        return self._policy

    def view(self) -> PolicyView:
        source = self._file.name if self._taken is not None else DEFAULT_POLICY_NAME
        return PolicyView(
            self._policy.version, self._policy.digest_hex, source, self._text, self._since_ns, self._problem
        )

    def wake(self) -> None:
        """Look now, and take what is there as it is: somebody says that the file is ready (SIGHUP)."""
        self._unsettled_looks = UNSETTLED_LOOKS_LIMIT
        self._wake.set()

    async def run(self) -> None:
        """Look at the file until cancelled."""
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("policy_look_failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_INTERVAL_S):
                    await self._wake.wait()
            self._wake.clear()

    async def look(self) -> None:
        """Take the file if it has changed, and record what is in force if that isn't recorded yet."""
        stamp = self._stamp()
        if stamp != self._taken and self._is_settled(stamp):
            self._take(stamp)
        if self._unrecorded:
            await self._record()

    def _is_settled(self, stamp: Stamp | None) -> bool:
        if stamp == self._seen or self._unsettled_looks >= UNSETTLED_LOOKS_LIMIT:
            self._unsettled_looks = 0
            self._seen = stamp
            return True
        self._seen = stamp
        self._unsettled_looks += 1
        return False

    def _take(self, stamp: Stamp | None) -> None:
        self._taken = stamp
        self._unrecorded = True
        try:
            if stamp is None:
                # What VeloZ comes with may allow more than the file did: only a start decides on that.
                raise PolicyFileError(
                    f"{self._file.name} is gone. Put it back, or restart to go on with {DEFAULT_POLICY_NAME}"
                )
            self._policy = self._read()
        except PolicyFileError as error:
            self._problem = str(error)
            log.error("policy_refused", problem=self._problem)
            return
        except Exception as error:
            # Whatever else it is, the policy of before isn't what the file says any more.
            self._problem = f"{self._file.name}: it can't be read ({type(error).__name__}). Correct it"
            log.exception("policy_refused", problem=self._problem)
            return
        self._problem = None
        self._since_ns = self._clock.now_ns()
        log.info("policy_in_force", version=self._policy.version, digest=self._policy.digest_hex)

    def _read(self) -> Policy:
        name = self._file.name
        try:
            document = self._file.read_text(encoding="utf-8")
        except FileNotFoundError:
            if self._taken is not None:
                raise PolicyFileError(f"{name}: it went away while it was read. Put it back") from None
            name, document = DEFAULT_POLICY_NAME, default_document()
        except (OSError, UnicodeDecodeError) as error:
            raise PolicyFileError(f"{name}: can't be read ({error}). Correct that") from error
        policy = load_policy(document, name, self._tools)
        self._check(policy)
        gaps = gaps_of(policy, self._tools)
        if not gaps.is_empty:
            # Denied it is either way; an upgrade mustn't take a tool away unseen.
            log.warning("policy_names_no_rule", file=name, tools=gaps.summary, cure=f"veloz policy check {self._file}")
        self._text = document
        return policy

    def _stamp(self) -> Stamp | None:
        """What changes with every change of the file; None without one."""
        try:
            found = self._file.stat()
        except FileNotFoundError:
            return None
        except OSError:
            return (0, 0, 0, 0)  # there, and not to be read: reading it says why
        return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)

    async def _record(self) -> None:
        """Who, which, since when. What can't be recorded now is at the next look; until then every call's own record
        names the version, or there are no calls."""
        broken = self._problem is not None
        try:
            await self._trail.record(
                action=Action.POLICY_REFUSED if broken else Action.POLICY_INSTALLED,
                actor=ACTOR,
                resource=f"policy:{self._policy.version}",
                outcome=ReasonCode.SERVICE_POLICY_INVALID.value if broken else "ok",
                trace_id=new_trace(self._ids).trace_id,
                payload={
                    "version": self._policy.version,
                    "digest": self._policy.digest_hex,
                    "source": self.view().source,
                    "in_force_since_ns": str(self._since_ns),
                    "problem": self._problem,
                    "file_owner": self._owner(),
                    "process": str(os.getpid()),
                },
            )
        except RefusalError as error:
            log.warning("policy_not_recorded", code=error.refusal.code.value)
            return
        self._unrecorded = False

    def _owner(self) -> str:
        """The user of this machine whose file it is: who last put it there, where files are replaced."""
        try:
            return self._file.owner()
        except (OSError, KeyError):
            return getpass.getuser() if self._taken is None else "unknown"
