"""The policy file: read strictly, validated whole (I11). tools.policy decides by what comes out of here.

Every complaint names the file, the line, the key and the cure. Money is text ("250000"), counts and times are whole
numbers, and what shall have no bound says "unlimited": nothing defaults to that.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from tools.contracts import Role
from tools.policy_conditions import ConditionError, compile_expression
from tools.policy_lines import line_of, path_of
from tools.quiet_hours import DAYS, Day, is_time_zone, parse_clock_time

POLICY_SCHEMA = "veloz.policy/1"
DOCUMENT_LIMIT_BYTES = 1_000_000
SECTIONS_LIMIT = 200
NAMES_LIMIT = 500
DECIMAL_LENGTH_LIMIT = 40
CALLS_LIMIT = 1_000_000_000
UNLIMITED = "unlimited"
LAST_SECTION = "[concurrency]"
ANY = "*"
SUGGESTION_KINDS = (*("order", "amend", "cancel", "close", "hedge", "bracket", "strategy_change", "kill_switch"),)
ALWAYS_OPEN_KINDS = frozenset({"cancel", "kill_switch"})
"""What only stops something: no quiet hour holds it up."""

Name = Annotated[str, Meta(min_length=1, max_length=80, pattern=r"^[^\x00-\x1f]+$")]
Names = Annotated[tuple[Name, ...], Meta(min_length=1, max_length=NAMES_LIMIT)]
NamesOrNone = Annotated[tuple[Name, ...], Meta(max_length=NAMES_LIMIT)]
Roles = Annotated[tuple[Role, ...], Meta(max_length=len(Role))]
SomeRoles = Annotated[tuple[Role, ...], Meta(min_length=1, max_length=len(Role))]
PrincipalKind = Literal["human", "agent"]
PrincipalKinds = Annotated[tuple[PrincipalKind, ...], Meta(min_length=1, max_length=2)]
Kinds = Annotated[tuple[str, ...], Meta(min_length=1, max_length=len(SUGGESTION_KINDS))]
Accounts = Literal["granted"] | Names
AccountsOrNone = Literal["granted", "none"] | Names
Count = Annotated[int, Meta(ge=1, le=CALLS_LIMIT)]
Bound = Annotated[int, Meta(ge=1, le=CALLS_LIMIT)] | Literal["unlimited"]
Money = Annotated[str, Meta(max_length=DECIMAL_LENGTH_LIMIT)]
Text = Annotated[str, Meta(min_length=1, max_length=500)]
BOTH: tuple[PrincipalKind, ...] = ("human", "agent")


class PolicyFileError(Exception):
    """A policy that doesn't load: the message names the file, the line, the key and the cure."""


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Allow(_Section, frozen=True, kw_only=True):
    """These roles may call these tools. accounts: "none" for tools that touch no account, "granted" for the caller's
    own accounts, or those of a list that are the caller's."""

    name: Name
    roles: SomeRoles
    tools: Names
    accounts: AccountsOrNone
    principals: PrincipalKinds = BOTH


class ModelRule(_Section, frozen=True, kw_only=True):
    """Which models may call which tools. "*" stands for any; a model or tool that no rule names may not."""

    name: Name
    providers: Names
    models: Names
    tools: Names


class Approver(_Section, frozen=True, kw_only=True):
    """Who may approve what, up to which amount. The engine's roster decides again."""

    name: Name
    roles: Roles = ()
    users: NamesOrNone = ()
    kinds: Kinds
    accounts: Accounts
    up_to_quote: Money


class Threshold(_Section, frozen=True, kw_only=True):
    """Above which amount two people approve. Where the engine's roster asks for two sooner, that holds."""

    name: Name
    kinds: Kinds
    accounts: Accounts
    two_above_quote: Money


class QuietHours(_Section, frozen=True, kw_only=True):
    """When nothing may be suggested ("suggest") or approved ("approve"). Cancels and kill switches always may."""

    name: Name
    denies: Annotated[tuple[Literal["suggest", "approve"], ...], Meta(min_length=1, max_length=2)]
    days: Annotated[tuple[Day, ...], Meta(min_length=1)] = DAYS
    start: Annotated[str, Meta(max_length=5)]
    end: Annotated[str, Meta(max_length=5)]
    time_zone: Annotated[str, Meta(max_length=64)]
    roles: SomeRoles = tuple(Role)
    tools: Names = (ANY,)
    accounts: Accounts = "granted"


class Condition(_Section, frozen=True, kw_only=True):
    """An expression in CEL, and what follows when it is true."""

    name: Name
    tools: Names
    when: Annotated[str, Meta(min_length=1, max_length=1_000)]
    action: Literal["deny", "require_one", "require_two"]
    message: Text
    roles: SomeRoles = tuple(Role)
    accounts: AccountsOrNone | Literal["any"] = "any"


class Rate(_Section, frozen=True):
    """A bucket: burst calls at once, then so many a second."""

    calls_per_s: Annotated[int, Meta(ge=1, le=1_000_000)]
    burst_calls: Annotated[int, Meta(ge=1, le=1_000_000)]


class Rates(_Section, frozen=True):
    """principal: all calls of one user. principal_tool: one user's calls of one tool. tool: everybody's calls of one
    tool. account: everybody's calls about one account. Each api process counts its own."""

    principal: Rate
    principal_tool: Rate
    tool: Rate
    account: Rate


class Bounds(_Section, frozen=True):
    """What may be used: calls of tools, tokens of models, their price, and the time that calls take."""

    calls: Bound
    tokens: Bound
    money_usd: Money
    seconds: Bound


class Budgets(_Section, frozen=True):
    """Of one run, of one user in one day, of everybody in one day. A day is one of time_zone."""

    time_zone: Annotated[str, Meta(max_length=64)]
    run: Bounds
    user_day: Bounds
    firm_day: Bounds


class Concurrency(_Section, frozen=True):
    """How many calls run at once in a process, how many wait, and how long."""

    in_flight_calls: Annotated[int, Meta(ge=1, le=10_000)]
    queued_calls: Annotated[int, Meta(ge=0, le=100_000)]
    queue_wait_ms: Annotated[int, Meta(ge=1, le=60_000)]


class Price(_Section, frozen=True):
    """What a model costs, as its provider says."""

    provider: Name
    model: Name
    input_usd_per_million_tokens: Money
    output_usd_per_million_tokens: Money


class PolicyDocument(_Section, frozen=True, kw_only=True):
    """The whole file, as it was read."""

    schema: str
    version: Annotated[int, Meta(ge=1, le=1_000_000_000)]
    tools: dict[Name, Names] = {}
    allow: Annotated[tuple[Allow, ...], Meta(max_length=SECTIONS_LIMIT)]
    model: Annotated[tuple[ModelRule, ...], Meta(max_length=SECTIONS_LIMIT)]
    approver: Annotated[tuple[Approver, ...], Meta(max_length=SECTIONS_LIMIT)]
    threshold: Annotated[tuple[Threshold, ...], Meta(max_length=SECTIONS_LIMIT)] = ()
    quiet_hours: Annotated[tuple[QuietHours, ...], Meta(max_length=SECTIONS_LIMIT)] = ()
    condition: Annotated[tuple[Condition, ...], Meta(max_length=SECTIONS_LIMIT)] = ()
    rate: Rates
    budget: Budgets
    concurrency: Concurrency
    price: Annotated[tuple[Price, ...], Meta(max_length=SECTIONS_LIMIT)] = ()


class ToolFacts(msgspec.Struct, frozen=True):
    """What the policy has to know of a tool."""

    kind: str
    needs_account: bool


def document_digest(document: str) -> str:
    """SHA-256 of the file, in hex: with the version it stands in every record of a call."""
    return hashlib.sha256(document.encode()).hexdigest()


def parse_amount(text: str) -> Decimal | None:
    """None for "unlimited". Raises ValueError for what is no plain decimal of zero or more."""
    if text == UNLIMITED:
        return None
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not text.isascii() or not value.is_finite() or value < 0 or "e" in text.lower() or value.is_signed():
        raise ValueError(f'must be a decimal of zero or more as text, such as "250000", or "{UNLIMITED}"; is {text!r}')
    return value


def expand(document: PolicyDocument, names: Iterable[str], tools: Iterable[str]) -> frozenset[str]:
    """The tools that names stand for: tools, @sets of [tools], and "*"."""
    found: set[str] = set()
    for name in names:
        if name == ANY:
            found.update(tools)
        elif name.startswith("@"):
            found.update(document.tools[name[1:]])
        else:
            found.add(name)
    return frozenset(found)


def parse_policy(document: str, file_name: str, tools: Mapping[str, ToolFacts]) -> PolicyDocument:
    """Read and validate the whole. Raises PolicyFileError."""
    if len(document.encode()) > DOCUMENT_LIMIT_BYTES:
        raise PolicyFileError(f"{file_name}: larger than {DOCUMENT_LIMIT_BYTES} bytes")
    _require_end(document, file_name)
    try:
        values = tomllib.loads(document)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
        raise PolicyFileError(
            f"{file_name}: not valid TOML: {error}. Correct it; nothing is allowed until then"
        ) from error
    try:
        parsed = msgspec.convert(values, PolicyDocument)
    except msgspec.ValidationError as error:
        raise _explain(document, file_name, error) from error
    _Checks(document, file_name, parsed, tools).run()
    return parsed


def _require_end(document: str, file_name: str) -> None:
    """A file that was cut off, perhaps before what denies, must not be taken for a whole one: [concurrency] is its last
    section, all of whose keys are a must, and its last line ends."""
    headers = [line.strip() for line in document.splitlines() if re.match(r"\s*\[\[?[A-Za-z_.]+\]", line)]
    if LAST_SECTION in headers and headers[-1] != LAST_SECTION:
        raise PolicyFileError(
            f"{file_name}: {headers[-1]} stands after {LAST_SECTION}. Let that be last: so a file that was cut "
            "off is never taken for a whole one"
        )
    if not document.endswith("\n"):
        raise PolicyFileError(
            f"{file_name}: its last line has no end, as if it had been cut off. End it with a new line"
        )


def _explain(document: str, file_name: str, error: msgspec.ValidationError) -> PolicyFileError:
    """msgspec's complaint with its line, and with what would have been right."""
    problem, _, where = str(error).partition(" - at `")
    path = path_of(where.rstrip("`"))
    known = {"unknown field": "no such key", "missing required": "is missing"}
    for start, told in known.items():
        if start in problem:
            key = problem.split("`")[1] if "`" in problem else ""
            return _complaint(document, file_name, (*path, key), f"{told}; {_keys_of(path)}")
    return _complaint(document, file_name, path, problem[0].lower() + problem[1:])


def _keys_of(path: tuple[str | int, ...]) -> str:
    """The keys that a section of that path takes."""
    at: Any = PolicyDocument
    for step in path:
        if isinstance(step, int) or not isinstance(at, type):
            continue
        at = next((f.type for f in msgspec.structs.fields(at) if f.name == step), None)
        at = _struct_in(at)
    if not (isinstance(at, type) and issubclass(at, msgspec.Struct)):
        return "docs/policy.md lists the keys"
    return "known are " + ", ".join(field.name for field in msgspec.structs.fields(at))


def _struct_in(annotation: Any) -> Any:
    """The section's class within Annotated[tuple[X, ...], ...]."""
    inner = getattr(annotation, "__origin__", annotation)
    if inner is tuple:
        return annotation.__args__[0]
    if inner is not annotation and getattr(inner, "__origin__", None) is tuple:
        return inner.__args__[0]
    return inner


def _complaint(document: str, file_name: str, path: tuple[str | int, ...], problem: str) -> PolicyFileError:
    line = line_of(document, path)
    shown = ""
    for step in path:
        shown += f"[{step}]" if isinstance(step, int) else f".{step}" if shown else str(step)
    where = f"line {line}: " if line else ""
    return PolicyFileError(f"{file_name}: {where}key '{shown or 'policy'}': {problem}"[:600])


T = TypeVar("T")


class _Checks:
    """What holds between the values of a document that is well-formed."""

    def __init__(self, document: str, file_name: str, parsed: PolicyDocument, tools: Mapping[str, ToolFacts]) -> None:
        self._document = document
        self._file_name = file_name
        self._parsed = parsed
        self._tools = tools

    def run(self) -> None:
        """Raises PolicyFileError at the first thing that is wrong."""
        parsed = self._parsed
        if parsed.schema != POLICY_SCHEMA:
            raise self._wrong(("schema",), f"must be {POLICY_SCHEMA!r}, is {parsed.schema!r}"[:200])
        for name, members in parsed.tools.items():
            self._known_tools(("tools", name), members, sets=False)
        for path, section in self._all_sections():
            self._known_tools((*path, "tools"), getattr(section, "tools", ()), sets=True)
        self._distinct_names()
        for path, allow in _numbered("allow", parsed.allow):
            self._allow(path, allow)
        for path, approver in _numbered("approver", parsed.approver):
            self._approver(path, approver)
        for path, threshold in _numbered("threshold", parsed.threshold):
            self._kinds((*path, "kinds"), threshold.kinds)
            self._amount((*path, "two_above_quote"), threshold.two_above_quote)
        for path, hours in _numbered("quiet_hours", parsed.quiet_hours):
            self._quiet_hours(path, hours)
        for path, condition in _numbered("condition", parsed.condition):
            self._condition(path, condition)
        self._budgets()

    def _all_sections(self) -> Iterator[tuple[tuple[str | int, ...], Any]]:
        for name in ("allow", "model", "quiet_hours", "condition"):
            yield from _numbered(name, getattr(self._parsed, name))

    def _known_tools(self, path: tuple[str | int, ...], names: Iterable[str], *, sets: bool) -> None:
        for name in names:
            if sets and name == ANY:
                continue
            if sets and name.startswith("@"):
                if name[1:] not in self._parsed.tools:
                    known = ", ".join(f"@{key}" for key in self._parsed.tools) or "none"
                    raise self._wrong(path, f"there is no set {name!r} in [tools]; there are {known}")
            elif name not in self._tools:
                near = get_close_matches(name, self._tools, n=3, cutoff=0) or sorted(self._tools)
                raise self._wrong(path, f"there is no tool {name!r}; near it are {', '.join(near)}")

    def _distinct_names(self) -> None:
        for kind in ("allow", "model", "approver", "threshold", "quiet_hours", "condition"):
            seen: set[str] = set()
            for path, section in _numbered(kind, getattr(self._parsed, kind)):
                if section.name in seen:
                    raise self._wrong(
                        (*path, "name"), f"two sections are named {section.name!r}; each needs its own name"
                    )
                seen.add(section.name)

    def _allow(self, path: tuple[str | int, ...], allow: Allow) -> None:
        for tool in sorted(expand(self._parsed, allow.tools, ())):
            if self._tools[tool].needs_account == (allow.accounts == "none"):
                cure = '"granted" or a list' if self._tools[tool].needs_account else '"none"'
                raise self._wrong((*path, "accounts"), f"{tool} needs accounts = {cure}")

    def _approver(self, path: tuple[str | int, ...], approver: Approver) -> None:
        if not approver.roles and not approver.users:
            raise self._wrong(path, "names nobody: give roles, users, or both")
        self._kinds((*path, "kinds"), approver.kinds)
        self._amount((*path, "up_to_quote"), approver.up_to_quote)

    def _kinds(self, path: tuple[str | int, ...], kinds: Iterable[str]) -> None:
        for kind in kinds:
            if kind != ANY and kind not in SUGGESTION_KINDS:
                raise self._wrong(path, f"there is no kind {kind!r}; there are *, {', '.join(SUGGESTION_KINDS)}")

    def _quiet_hours(self, path: tuple[str | int, ...], hours: QuietHours) -> None:
        minutes = {}
        for key in ("start", "end"):
            try:
                minutes[key] = parse_clock_time(getattr(hours, key))
            except ValueError as error:
                raise self._wrong((*path, key), str(error)) from error
        if hours.start == "24:00" or minutes["start"] == minutes["end"]:
            raise self._wrong((*path, "end"), 'can\'t be the start; a whole day is "00:00" to "24:00"')
        if not is_time_zone(hours.time_zone):
            raise self._wrong((*path, "time_zone"), f"there is no time zone {hours.time_zone!r}; name one, as UTC")
        for name in sorted(expand(self._parsed, (tool for tool in hours.tools if tool != ANY), ())):
            if self._tools[name].kind != "suggest":
                raise self._wrong((*path, "tools"), f"{name} only reads; quiet hours hold up suggestions and approvals")
            if name.removeprefix("suggest_") in ALWAYS_OPEN_KINDS:
                raise self._wrong((*path, "tools"), f"{name} only stops something, and may be called at any hour")

    def _condition(self, path: tuple[str | int, ...], condition: Condition) -> None:
        try:
            expression = compile_expression(condition.when)
        except ConditionError as error:
            raise self._wrong((*path, "when"), str(error)) from error
        named = expand(self._parsed, condition.tools, self._tools)
        others = sorted(tool for tool in named if self._tools[tool].kind != "suggest")
        if others and (condition.action != "deny" or expression.needs_amount):
            why = "has no amount" if expression.needs_amount else "is never approved"
            raise self._wrong((*path, "tools"), f"{others[0]} {why}: name tools that suggest")

    def _budgets(self) -> None:
        budget = self._parsed.budget
        if not is_time_zone(budget.time_zone):
            raise self._wrong(("budget", "time_zone"), f"there is no time zone {budget.time_zone!r}; name one, as UTC")
        for scope in ("run", "user_day", "firm_day"):
            self._amount(("budget", scope, "money_usd"), getattr(budget, scope).money_usd)
        seen: set[tuple[str, str]] = set()
        for path, price in _numbered("price", self._parsed.price):
            for key in ("input_usd_per_million_tokens", "output_usd_per_million_tokens"):
                if getattr(price, key) == UNLIMITED:
                    raise self._wrong((*path, key), "a price is a number")
                self._amount((*path, key), getattr(price, key))
            if (price.provider, price.model) in seen:
                raise self._wrong((*path, "model"), f"{price.model} of {price.provider} has a price already")
            seen.add((price.provider, price.model))

    def _amount(self, path: tuple[str | int, ...], text: str) -> None:
        try:
            parse_amount(text)
        except ValueError as error:
            raise self._wrong(path, str(error)) from error

    def _wrong(self, path: tuple[str | int, ...], problem: str) -> PolicyFileError:
        return _complaint(self._document, self._file_name, path, problem)


def _numbered(name: str, sections: tuple[T, ...]) -> Iterator[tuple[tuple[str | int, ...], T]]:
    return (((name, index), section) for index, section in enumerate(sections))
