"""What a tool is, and the closed set of them.

A definition holds everything that the pipeline needs to know before it runs the tool. Its schema digest goes into
every audit record, so a record says which shape of arguments and results it speaks of.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Literal

import rfc8785

from core.types.clock import Clock
from core.types.codes import ReasonCode, refuse
from core.types.ids import IdSource, TraceContext
from knowledge.search import ReviewSearch
from tools.backtests import BacktestJobs
from tools.contracts import Principal, Role, ToolDescription
from tools.glossary import described
from tools.instruments import InstrumentDirectory
from tools.ports import HealthReads, ReadOnlyEngine, ResultReads, SuggestionReads, TradingHistory
from tools.suggestion_writer import SuggestionWriter
from tools.untrusted import Marks, marks_of
from tools.values import ToolInput, ToolOutput

ToolKind = Literal["read", "compute", "suggest"]
TOOLS_LIMIT = 200
TIMEOUT_LIMIT_MS = 60_000
NAMES_SHOWN_LIMIT = 50


class DataScope(StrEnum):
    """What a tool's result is about: MARKET and SYSTEM are open to all; the others belong to one account."""

    MARKET = "market"
    SYSTEM = "system"
    ACCOUNT = "account"
    REVIEWS = "reviews"

    @property
    def needs_account(self) -> bool:
        return self is not DataScope.MARKET and self is not DataScope.SYSTEM  # asked several times a call


class Source(StrEnum):
    """Where a tool's data comes from: the process, and which part or table of it."""

    ENGINE_MARKET = "engine:market"
    ENGINE_PORTFOLIO = "engine:portfolio"
    ENGINE_ORDERS = "engine:orders"
    ENGINE_RISK = "engine:risk"
    ENGINE_MANDATES = "engine:mandates"
    ENGINE_JOURNAL = "engine:journal"
    ENGINE_STATUS = "engine:status"
    SQL_ORDERS = "sql:orders"
    SQL_FILLS = "sql:fills"
    SQL_FUNDING = "sql:funding"
    SQL_REFUSALS = "sql:order_refusals"
    SQL_SUGGESTIONS = "sql:suggestions"
    SQL_PROJECTIONS = "sql:projection_cursors"
    SQL_REVIEWS = "sql:reviews"
    SQL_RESULTS = "sql:tool_results"
    SQL_BACKTESTS = "sql:backtests"
    CATALOG = "catalog:trades"
    GATEWAY = "gateway"

    @property
    def is_engine(self) -> bool:
        return self.startswith("engine:")


@dataclass(frozen=True, slots=True)
class ToolPorts:
    """All that a tool can reach. Nothing here submits, amends or cancels at a venue (I1)."""

    engine: ReadOnlyEngine
    instruments: InstrumentDirectory
    suggestions: SuggestionReads
    suggestion_writer: SuggestionWriter
    reviews: ReviewSearch
    health: HealthReads
    history: TradingHistory
    results: ResultReads
    backtests: BacktestJobs
    clock: Clock
    ids: IdSource
    suggestion_ttl_s: int


@dataclass(frozen=True, slots=True)
class ToolContext:
    """One call, after it was authorised. account_id is empty for market tools."""

    ports: ToolPorts
    principal: Principal
    account_id: str
    trace: TraceContext
    run_id: str | None
    call_id: str


@dataclass(frozen=True)
class ToolDefinition:
    """One tool. cost is in rate tokens; roles is the outer bound, within which the policy decides. sources are stated
    on each result; every tool of the catalogue names its own. untrusted marks the whole output as text from outside;
    single fields are marked by tools.untrusted.UntrustedText. example holds arguments that are right. A job goes on
    after its call: like a suggestion it writes its durable intent before it executes."""

    name: str
    version: str
    kind: ToolKind
    description: str
    input_model: type[ToolInput]
    output_model: type[ToolOutput]
    run: Callable[[ToolContext, Any], Awaitable[ToolOutput]]
    roles: frozenset[Role]
    scope: DataScope
    timeout_ms: int
    cost: int = 1
    untrusted: bool = False
    sources: tuple[Source, ...] = ()
    example: Mapping[str, Any] = field(default_factory=dict)
    is_job: bool = False

    def __post_init__(self) -> None:
        assert self.name.isidentifier(), self.name
        assert 0 < self.timeout_ms <= TIMEOUT_LIMIT_MS, self.name
        assert self.cost > 0, self.name
        assert self.roles, f"{self.name}: a tool without a role can't be called"
        assert ("account_id" in self.input_model.model_fields) == self.scope.needs_account, self.name

    @cached_property
    def input_schema(self) -> dict[str, Any]:
        return described(self.input_model.model_json_schema())

    @cached_property
    def output_schema(self) -> dict[str, Any]:
        return described(self.output_model.model_json_schema(mode="serialization"))

    @property
    def writes_intent(self) -> bool:
        """Whether its intent has to be durable before it executes (I7)."""
        return self.kind == "suggest" or self.is_job

    @property
    def permission(self) -> str:
        """What a caller needs: what the data is about, and what is done with it."""
        return f"{self.scope.value}:{self.kind}"

    @cached_property
    def output_digest_hex(self) -> str:
        """SHA-256 over the output schema in RFC 8785 form."""
        return hashlib.sha256(rfc8785.dumps(self.output_schema)).hexdigest()

    @cached_property
    def untrusted_marks(self) -> Marks:
        """Where the output holds text from outside."""
        return True if self.untrusted else marks_of(self.output_schema)

    @cached_property
    def schema_digest_hex(self) -> str:
        """SHA-256 over name, version, input and output schema in RFC 8785 form."""
        whole: dict[str, Any] = {
            "name": self.name,
            "version": self.version,
            "input": self.input_schema,
            "output": self.output_schema,
        }
        return hashlib.sha256(rfc8785.dumps(whole)).hexdigest()

    def describe(self) -> ToolDescription:
        return ToolDescription(
            self.name,
            self.version,
            self.kind,
            f"{self.description} Example: {json.dumps(dict(self.example))}",
            self.input_schema,
            self.schema_digest_hex,
            self.output_schema,
            self.permission,
            self.scope.value,
            tuple(source.value for source in self.sources),
            self.cost,
            self.timeout_ms,
            self.untrusted_marks is not None,
        )


class Registry:
    """The tools of one release. Closed: nothing is added after construction."""

    def __init__(self, definitions: Iterable[ToolDefinition]) -> None:
        self._definitions: dict[str, ToolDefinition] = {}
        for definition in definitions:
            assert definition.name not in self._definitions, f"two tools are named {definition.name}"
            self._definitions[definition.name] = definition
        assert len(self._definitions) <= TOOLS_LIMIT

    def __iter__(self) -> Iterator[ToolDefinition]:
        return iter(self._definitions.values())

    def __len__(self) -> int:
        return len(self._definitions)

    def get(self, name: object) -> ToolDefinition:
        """Raises RefusalError(TOOL_UNKNOWN), naming the tools there are."""
        definition = self._definitions.get(name) if isinstance(name, str) else None
        if definition is None:
            known = ", ".join(sorted(self._definitions)[:NAMES_SHOWN_LIMIT])
            raise refuse(ReasonCode.TOOL_UNKNOWN, f"There is no tool of that name. The tools are: {known}.")
        return definition
