"""The gateway: the one path to every tool, in DESIGN section 6's order.

authorise -> validate -> rate, budget -> (suggest: taint, durable intent) -> execute with a deadline -> stamp ->
redact -> audit record and result, durable in one commit -> release. Each step either goes on or refuses; a refusal is
recorded too. It fails closed: without its record nothing is released (I7), and nothing but a result or a refusal ever
comes out.
"""

from __future__ import annotations

import hashlib
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from decimal import localcontext
from typing import Any

import msgspec
import structlog

from audit.record import Action
from core.text.canonical import canonical_json
from core.text.redaction import Redactor
from core.types.clock import NS_PER_MS
from core.types.codes import ReasonCode, Refusal, RefusalError, refuse
from core.types.money import decimal_text
from tools.approval_policy import amount_of, kind_of, noted
from tools.arguments import (
    as_record,
    bounded_as_record,
    invalid_text_path,
    plain_text,
    refuse_invalid_text,
    validate,
)
from tools.cells import as_cells, shapes_of
from tools.clock_guard import ClockGuard
from tools.contracts import Principal, ToolCall, ToolDescription, ToolResult
from tools.deadlines import ToolDeadlines
from tools.limits import Limiter
from tools.policy import CallFacts, Policy, PolicySource
from tools.ports import Releases, StoredResult, Trail
from tools.registry import DataScope, Registry, ToolContext, ToolDefinition, ToolPorts
from tools.suggestions import Suggestion
from tools.taint import Conversations, SeenTool, TaintGuard, evidence_of
from tools.untrusted import neutralised
from tools.values import ToolInput, ToolOutput

NAME_LIMIT_CHARS = 64
TOOL_DIGITS = 80
"""Of a tool's Decimal arithmetic: as many as the engine's."""
ACCOUNT_LIMIT_CHARS = 64
DEFAULT_MODE = "PAPER"

_log = structlog.get_logger("tools.pipeline")


@dataclass(slots=True)
class _Attempt:
    """One call on its way: what is known of it so far, for the record."""

    call: ToolCall
    started_ns: int
    policy: Policy | None = None
    definition: ToolDefinition | None = None
    account_id: str = ""
    scope: tuple[str, ...] = ()
    arguments: Any = None
    arguments_json: bytes | None = None
    weighed: dict[str, str] = field(default_factory=dict)

    @property
    def tool(self) -> str:
        return self.definition.name if self.definition else plain_text(self.call.tool, NAME_LIMIT_CHARS)


class ToolGateway:
    """Implements tools.contracts.Gateway. mode is the engine's, stated on every result; venue the one it trades at,
    stated on results that come from the engine."""

    def __init__(
        self,
        *,
        registry: Registry,
        policy: PolicySource,
        ports: ToolPorts,
        trail: Trail,
        releases: Releases,
        conversations: Conversations,
        redactor: Redactor | None = None,
        limiter: Limiter,
        mode: str = DEFAULT_MODE,
        venue: str = "",
    ) -> None:
        self._registry = registry
        self._policies = policy
        self._ports = ports
        self._trail = trail
        self._releases = releases
        self._conversations = conversations
        self._seen_tools = {
            tool.name: SeenTool(tool.untrusted_marks, tool.kind == "read" and tool.scope is DataScope.ACCOUNT)
            for tool in registry
        }
        self._clock = ports.clock
        self._limiter = limiter
        self._deadlines = ToolDeadlines()
        self._shapes = {tool.name: shapes_of(tool.output_model) for tool in registry}
        self._sources = {tool.name: _source(tool, venue) for tool in registry}
        self._clock_guard = ClockGuard(ports.clock, ports.engine.status)
        self._redactor = redactor or Redactor()
        self._mode = mode

    def describe(self, principal: Principal) -> list[ToolDescription]:
        """The tools that this principal may call: none while there is no policy to decide by."""
        try:
            policy = self._policies.current()
        except RefusalError:
            return []
        return [
            definition.describe() for definition in self._registry if policy.decide(principal, definition, None) is None
        ]

    async def call(self, call: ToolCall) -> ToolResult:
        """See tools.contracts.Gateway. Only cancellation comes out as an exception."""
        attempt = _Attempt(call, self._clock.now_ns())
        try:
            return await self._attempt(attempt)
        except RefusalError as error:
            return await self._refused(attempt, error.refusal, error.retry_after_ms)
        except Exception as error:  # whatever breaks inside stays inside; the trace leads to it
            _log.exception(
                "tool_failed", tool=attempt.tool, trace_id=call.trace.trace_id, call_id=call.call_id, error=repr(error)
            )
            return await self._refused(
                attempt,
                Refusal(
                    ReasonCode.TOOL_FAILED,
                    f"{attempt.tool} failed inside the service. Trace {call.trace.trace_id} leads to the cause.",
                ),
            )

    async def _attempt(self, attempt: _Attempt) -> ToolResult:
        call = attempt.call
        if not self._clock_guard.goes_on(attempt.started_ns):
            await self._clock_guard.check()
        definition = self._authorise(attempt)
        arguments = validate(definition, call.arguments)
        # What was validated is what the record tells, whoever holds the caller's object.
        self._keep(attempt, bounded_as_record(call.arguments))
        facts = self._facts(attempt, definition, arguments)
        self._restrict(attempt, facts)
        async with self._admitted(attempt, definition):
            if definition.kind == "suggest":
                await self._check_taint(call, definition, arguments)
            if definition.writes_intent:
                await self._record(attempt, Action.TOOL_INTENDED, "intended", {})
            output = await self._execute(attempt, definition, arguments, self._ports_for(attempt, facts))
        result, canonical = self._stamp(attempt, definition, output)
        cells = self._outcome_cells(attempt, result)
        stored = self._stored(attempt, result.tool, canonical, result.digest_hex)
        await self._release(attempt, Action.TOOL_CALLED, "ok", cells, stored)
        return result

    def _authorise(self, attempt: _Attempt) -> ToolDefinition:
        call = attempt.call
        policy = attempt.policy = self._policies.current()
        definition = attempt.definition = self._registry.get(call.tool)
        # First whether the role may at all, so that a refusal doesn't depend on which account was named.
        refusal = policy.decide(call.principal, definition, None)
        account_id = ""
        if refusal is None and definition.scope.needs_account:
            account_id = _account_of(call)
            refusal = policy.decide(call.principal, definition, account_id)
        if refusal is not None:
            raise RefusalError(refusal)
        attempt.account_id = account_id
        attempt.scope = _scope(definition, attempt.account_id)
        return definition

    def _admitted(self, attempt: _Attempt, definition: ToolDefinition) -> AbstractAsyncContextManager[None]:
        """Rate, budget, and a place among the calls in flight."""
        assert attempt.policy is not None, "set when the call was authorised"
        return self._limiter.admitted(
            attempt.call.principal,
            definition.name,
            attempt.account_id,
            attempt.call.run_id,
            cost=definition.cost,
            timeout_ms=definition.timeout_ms,
            policy=attempt.policy.limits,
        )

    def _restrict(self, attempt: _Attempt, facts: CallFacts) -> None:
        """What the policy says to model, hour and arguments: after validation, so that no spelling gets past it."""
        assert attempt.policy is not None, "set when the call was authorised"
        refusal = attempt.policy.restrict(facts)
        if refusal is not None:
            raise RefusalError(refusal)

    def _facts(self, attempt: _Attempt, definition: ToolDefinition, arguments: ToolInput) -> CallFacts:
        call = attempt.call
        return CallFacts(
            principal=call.principal,
            tool=definition.name,
            kind=definition.kind,
            account_id=attempt.account_id,
            arguments=arguments,
            now_ns=attempt.started_ns,
            mode=self._mode,
            model=call.model,
            provider=call.provider,
        )

    async def _check_taint(self, call: ToolCall, definition: ToolDefinition, arguments: ToolInput) -> None:
        """Raises RefusalError: TOOL_ARGUMENT_TAINTED, and what keeps the conversation's history from being read."""
        principal = call.principal
        if call.run_id is None:
            conversation = await self._conversations.of_caller(principal.account_ids, principal.user_id)
        else:
            conversation = await self._conversations.of_run(principal.account_ids, principal.user_id, call.run_id)
        evidence = evidence_of(conversation, self._seen_tools)
        if evidence.is_exposed:
            instruments = await self._ports.instruments.all()
            TaintGuard(conversation, evidence, instruments, principal.account_ids).check(definition.name, arguments)

    def _ports_for(self, attempt: _Attempt, facts: CallFacts) -> ToolPorts:
        """A tool that suggests gets a writer that asks the policy what it says of the suggestion's worth."""
        if facts.kind != "suggest":
            return self._ports

        def weigh(suggestion: Suggestion) -> Suggestion:
            assert attempt.policy is not None, "set when the call was authorised"
            amount_quote, kind = amount_of(suggestion), kind_of(suggestion)
            known = msgspec.structs.replace(facts, amount_quote=amount_quote)
            attempt.weighed = {"amount_quote": decimal_text(amount_quote), "suggestion_kind": kind}
            self._restrict(attempt, known)
            due = attempt.policy.weigh(known, kind)
            attempt.weighed["approvals_due"] = str(due.count)
            return noted(suggestion, attempt.policy, due)

        return replace(self._ports, suggestion_writer=self._ports.suggestion_writer.weighing(weigh))

    async def _execute(
        self, attempt: _Attempt, definition: ToolDefinition, arguments: ToolInput, ports: ToolPorts
    ) -> ToolOutput:
        call = attempt.call
        context = ToolContext(
            ports=ports,
            principal=call.principal,
            account_id=attempt.account_id,
            trace=call.trace,
            run_id=call.run_id,
            call_id=call.call_id,
        )
        deadline = self._deadlines.within(definition.timeout_ms)
        try:
            async with deadline:
                # Sums and products of amounts are exact: Decimal's own 28 digits round unseen.
                with localcontext(prec=TOOL_DIGITS):
                    return await definition.run(context, arguments)
        except TimeoutError:
            if not deadline.has_expired:
                raise
            elapsed_ms = (self._clock.now_ns() - attempt.started_ns) // NS_PER_MS
            raise refuse(
                ReasonCode.TOOL_DEADLINE_EXCEEDED,
                f"{definition.name} took too long and was stopped. Try again, or ask for less.",
                limit=str(definition.timeout_ms),
                actual=str(elapsed_ms),
                unit="ms",
            ) from None

    def _stamp(self, attempt: _Attempt, definition: ToolDefinition, output: ToolOutput) -> tuple[ToolResult, bytes]:
        """Turn the output into cells of text, redact them, and say when, where and in which mode they hold.

        The bytes are the data's RFC 8785 form: what is digested is what is stored.
        """
        assert isinstance(output, definition.output_model), f"{definition.name} gave a {type(output).__name__}"
        data: dict[str, Any] = as_cells(output, self._shapes[definition.name])
        marks = definition.untrusted_marks
        untrusted_paths: list[str] = []
        canonical = self._redactor.clean_json(data) if marks is None else None
        if canonical is None:
            data, untrusted_paths = neutralised(self._redactor.value(data).value, marks)
            canonical = canonical_json(data)
        result = ToolResult(
            call_id=attempt.call.call_id,
            tool=definition.name,
            tool_version=definition.version,
            data=data,
            refusal=None,
            mode=self._mode,
            scope=attempt.scope,
            as_of_ns=output.as_of_ns,
            digest_hex=hashlib.sha256(canonical).hexdigest(),
            untrusted_paths=tuple(untrusted_paths),
            source=self._sources[definition.name],
        )
        return result, canonical

    def _outcome_cells(self, attempt: _Attempt, result: ToolResult) -> dict[str, Any]:
        now_ns = self._clock.now_ns()
        return {
            "result_digest": result.digest_hex,
            "as_of_ns": str(result.as_of_ns),
            "source": list(result.source),
            "data_age_ms": str((now_ns - result.as_of_ns) // NS_PER_MS),
            "duration_ms": str((now_ns - attempt.started_ns) // NS_PER_MS),
        }

    def _stored(self, attempt: _Attempt, tool: str, canonical: bytes, digest_hex: str) -> StoredResult:
        call = attempt.call
        return StoredResult(
            call_id=call.call_id,
            run_id=call.run_id,
            trace_id=call.trace.trace_id,
            user_id=call.principal.user_id,
            account_id=attempt.account_id or None,
            tool=tool,
            digest_hex=digest_hex,
            canonical=canonical,
            created_at_ns=self._clock.now_ns(),
            arguments=self._arguments_json(attempt),
        )

    def _arguments(self, attempt: _Attempt) -> Any:
        """What the call was given, bounded and redacted once."""
        if attempt.arguments is None:
            self._keep(attempt, as_record(attempt.call.arguments))
        return attempt.arguments

    def _arguments_json(self, attempt: _Attempt) -> bytes:
        """In RFC 8785 form."""
        arguments = self._arguments(attempt)
        return canonical_json(arguments) if attempt.arguments_json is None else attempt.arguments_json

    def _keep(self, attempt: _Attempt, arguments: Any) -> None:
        attempt.arguments_json = self._redactor.clean_json(arguments)
        attempt.arguments = arguments if attempt.arguments_json is not None else self._redactor.value(arguments).value

    async def _refused(self, attempt: _Attempt, refusal: Refusal, retry_after_ms: int | None = None) -> ToolResult:
        refusal = msgspec.structs.replace(refusal, message=self._redactor.text(refusal.message).text)
        if refusal.code is not ReasonCode.SERVICE_AUDIT_UNAVAILABLE:
            cells = {
                "message": refusal.message,
                "limit": refusal.limit,
                "actual": refusal.actual,
                "unit": refusal.unit,
                "duration_ms": str((self._clock.now_ns() - attempt.started_ns) // NS_PER_MS),
            }
            try:
                await self._record_refusal(attempt, refusal, cells)
            except RefusalError as error:
                refusal = error.refusal
        return ToolResult(
            call_id=attempt.call.call_id,
            tool=attempt.tool,
            tool_version=attempt.definition.version if attempt.definition else "",
            data={},
            refusal=refusal,
            mode=self._mode,
            scope=attempt.scope,
            as_of_ns=self._clock.now_ns(),
            digest_hex=result_digest({}),
            retry_after_ms=retry_after_ms,
        )

    async def _record_refusal(self, attempt: _Attempt, refusal: Refusal, cells: dict[str, Any]) -> None:
        """The refusal is stored like a result where an answer may speak of it: its figures resolve there."""
        definition, code = attempt.definition, refusal.code
        of_account = definition is not None and (attempt.account_id or not definition.scope.needs_account)
        if definition is not None and of_account and not code.startswith("SERVICE_"):
            canonical = canonical_json({"refusal": msgspec.to_builtins(refusal)})
            stored = self._stored(attempt, definition.name, canonical, hashlib.sha256(canonical).hexdigest())
            try:
                await self._release(attempt, Action.TOOL_REFUSED, code.value, cells, stored)
                return
            except RefusalError as error:
                if error.refusal.code is not ReasonCode.REQUEST_INVALID:
                    raise  # a call id that was used before has its result already: the record goes alone
        await self._record(attempt, Action.TOOL_REFUSED, code.value, cells)

    async def _record(self, attempt: _Attempt, action: Action, outcome: str, cells: dict[str, Any]) -> None:
        """Raises RefusalError(SERVICE_AUDIT_UNAVAILABLE), whatever kept the record from being durable."""
        try:
            await self._trail.record(**self._entry(attempt, action, outcome, cells))
        except RefusalError:
            raise
        except Exception as error:
            raise self._unrecorded(attempt, error) from error

    async def _release(
        self, attempt: _Attempt, action: Action, outcome: str, cells: dict[str, Any], result: StoredResult
    ) -> None:
        """Raises RefusalError: SERVICE_AUDIT_UNAVAILABLE, whatever kept record and result from being durable;
        REQUEST_INVALID for a call id that was used before."""
        try:
            await self._releases.release(result, **self._entry(attempt, action, outcome, cells))
        except RefusalError:
            raise
        except Exception as error:
            raise self._unrecorded(attempt, error) from error

    def _unrecorded(self, attempt: _Attempt, error: Exception) -> RefusalError:
        trace_id = attempt.call.trace.trace_id
        _log.error("audit_record_failed", tool=attempt.tool, trace_id=trace_id, exc_info=error)
        return refuse(
            ReasonCode.SERVICE_AUDIT_UNAVAILABLE,
            "The record of this call couldn't be written, so its result is withheld. Try again in a few seconds.",
        )

    def _entry(self, attempt: _Attempt, action: Action, outcome: str, cells: dict[str, Any]) -> dict[str, Any]:
        """The arguments of Trail.record."""
        call, definition = attempt.call, attempt.definition
        payload = {
            "tool": attempt.tool,
            "tool_version": definition.version if definition else None,
            "schema_digest": definition.schema_digest_hex if definition else None,
            "output_schema_digest": definition.output_digest_hex if definition else None,
            "kind": definition.kind if definition else None,
            "call_id": plain_text(call.call_id, NAME_LIMIT_CHARS),
            "span_id": call.trace.span_id,
            "arguments": self._arguments(attempt),
            "data_scope": list(attempt.scope),
            "mode": self._mode,
            "policy_version": attempt.policy.version if attempt.policy else None,
            "policy_digest": attempt.policy.digest_hex if attempt.policy else None,
            "role": call.principal.role.value,
            "principal_kind": call.principal.kind,
            "model": plain_text(call.model, NAME_LIMIT_CHARS),
            "provider": plain_text(call.provider, NAME_LIMIT_CHARS),
            **attempt.weighed,
            **cells,
        }
        return {
            "action": action,
            "actor": call.principal.user_id,
            "actor_identity": call.principal.username,
            "on_behalf_of": call.principal.on_behalf_of,
            "resource": f"tool:{attempt.tool}",
            "outcome": outcome,
            "trace_id": call.trace.trace_id,
            "account_id": attempt.account_id or None,
            "run_id": call.run_id,
            "payload": payload,
        }


def _source(definition: ToolDefinition, venue: str) -> tuple[str, ...]:
    """Where a tool's data comes from; the engine's, also at which venue it trades."""
    at_venue = (f"venue:{venue}",) if venue and any(part.is_engine for part in definition.sources) else ()
    return tuple(part.value for part in definition.sources) + at_venue


def result_digest(data: dict[str, Any]) -> str:
    """SHA-256 over the RFC 8785 form of data, in hex."""
    return hashlib.sha256(canonical_json(data)).hexdigest()


def _account_of(call: ToolCall) -> str:
    """The account that the call is about: the one it names, else the principal's only one.

    Raises RefusalError: TOOL_ARGUMENTS_INVALID, AUTH_ACCOUNT_OUT_OF_SCOPE.
    """
    granted = call.principal.account_ids
    named = call.arguments.get("account_id") if isinstance(call.arguments, dict) else None
    is_usual = named is None or (isinstance(named, str) and named.isascii() and "\x00" not in named)
    where = None if is_usual else invalid_text_path({"account_id": named})
    if where is not None:
        raise refuse_invalid_text(plain_text(call.tool, NAME_LIMIT_CHARS), where)
    if isinstance(named, str) and len(named) <= ACCOUNT_LIMIT_CHARS:
        return named.strip()
    if named is not None:
        raise refuse(ReasonCode.TOOL_ARGUMENTS_INVALID, "account_id must be one of your accounts' ids, as text.")
    if len(granted) == 1:
        return granted[0]
    raise refuse(
        ReasonCode.TOOL_ARGUMENTS_INVALID,
        "You have several accounts: say which one in account_id.",
        limit=", ".join(granted),
        unit="account",
    )


def _scope(definition: ToolDefinition, account_id: str) -> tuple[str, ...]:
    if not definition.scope.needs_account:
        return (definition.scope.value,)
    return (f"{definition.scope.value}:{account_id}",)
