"""Risk rules: limits at five levels, of which the tightest holds, and custom rules in CEL. Read from risk.toml.

[global] sets every limit: none defaults to no limit (I11). [desk.<id>] (which names its accounts), [account.<id>],
[strategy.<id>] and [symbol.<name>] set any of them, and can only tighten. Money and quantities are text ("250000"),
counts and times whole numbers, rates tables such as {count = 10, window_ms = 1000}.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Collection, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from core import _native
from core.risk.custom import CUSTOM_ACTIONS, CustomRule, CustomRuleError, compile_rule
from core.types.money import decimal_text

RULES_SCHEMA = "veloz.risk-limits/2"
RULES_DOMAIN_TAG = b"veloz/risk-rules/v2\x00"
DOCUMENT_LIMIT_BYTES = 1_000_000
DECIMAL_LENGTH_LIMIT = 40
CUSTOM_RULES_LIMIT = 100
GLOBAL = "global"
LEVELS = ("desk", "account", "strategy", "symbol")
OFF = "off"

DAY_MS = 24 * 3600 * 1000
DAY_S = 24 * 3600

MONEY_LIMITS = (
    "max_notional_per_order_quote",
    "max_position_notional_quote",
    "max_gross_exposure_quote",
    "max_net_exposure_quote",
    "max_daily_loss_quote",
    "max_quantity_per_order",
    "max_leverage",
)
"""The first four and the daily loss in the reporting currency, quantity in base units, leverage as a plain number."""
WHOLE_LIMITS: Mapping[str, tuple[int, int]] = {
    # From and up to: beyond these a value can't be meant.
    "price_collar_bps": (1, 10_000),
    "mark_collar_bps": (1, 10_000),
    "max_deviation_bps": (1, 10_000),
    "max_depth_share_bps": (1, 10_000),
    "max_drawdown_bps": (1, 10_000),
    "max_open_orders": (1, 100_000),
    "book_stale_after_ms": (1, 60_000),
    "user_stream_lost_after_s": (1, DAY_S),
}
RATE_LIMITS = ("order_rate", "amend_rate", "cancel_rate", "repeated_intent")
RATE_COUNT_MAXIMUM = 10_000
ACCOUNT_LIMITS = ("user_stream_lost_after_s",)
"""Of an account as a whole: a strategy or a symbol has none of its own."""
ENGINE_SETTINGS = ("dead_mans_timer_s", "time_zone")
"""Of the whole engine: at [global] only."""
LIMIT_NAMES = (*MONEY_LIMITS, *WHOLE_LIMITS, *RATE_LIMITS)

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
_TIME_ZONE = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+){0,2}")


class RiskRulesError(Exception):
    """Rules that don't start and don't reload: the message names the file, the line, the key and the cure."""


class Rate(msgspec.Struct, frozen=True):
    """At most count within any window_ms."""

    count: int
    window_ms: int


class Limit(msgspec.Struct, frozen=True):
    """A number that must not be passed, and the level that sets it."""

    value: Decimal
    source: str


class RateLimit(msgspec.Struct, frozen=True):
    """A rate at one level; key is what is counted: `global`, `account:<id>`, ..."""

    rate: Rate
    source: str


class Level(msgspec.Struct, frozen=True):
    """What one section sets."""

    source: str
    limits: Mapping[str, Decimal]
    rates: Mapping[str, Rate]


class EffectiveLimits:
    """What holds for one account, strategy and symbol: of each limit the tightest, of each rate all of them."""

    def __init__(self, levels: tuple[Level, ...]) -> None:
        self.is_compiled = False
        self.compiled: _native.RiskLimits | None = None
        """For core.risk.compiled."""
        self.limits: dict[str, Limit] = {}
        self.rates: dict[str, tuple[RateLimit, ...]] = {}
        for level in levels:
            for name, value in level.limits.items():
                known = self.limits.get(name)
                if known is None or value < known.value:
                    self.limits[name] = Limit(value, level.source)
            for name, rate in level.rates.items():
                self.rates[name] = (*self.rates.get(name, ()), RateLimit(rate, level.source))

    def __getitem__(self, name: str) -> Limit:
        return self.limits[name]


class RiskRules:
    """One version of the rules, validated whole. desks maps an account to its desk."""

    def __init__(
        self,
        document: str,
        whole: Level,
        levels: Mapping[str, Mapping[str, Level]],
        desks: Mapping[str, str],
        custom: tuple[CustomRule, ...],
        dead_mans_timer_s: int | None,
        time_zone: str,
    ) -> None:
        self.document = document
        self.digest_hex = rules_digest(document)
        self.desks = desks
        self.custom = custom
        self.dead_mans_timer_s = dead_mans_timer_s
        self.time_zone = time_zone
        self._whole = whole
        self._levels = levels
        self._effective: dict[tuple[str, str, str], EffectiveLimits] = {}

    def limits_for(self, account_id: str, strategy_id: str, symbol: str) -> EffectiveLimits:
        """Of one account (with its desk), strategy and symbol; empty where there is none."""
        key = (account_id, strategy_id, symbol)
        found = self._effective.get(key)
        if found is None:
            names = (self.desks.get(account_id, ""), account_id, strategy_id, symbol)
            sections = (self._levels[level].get(name) for level, name in zip(LEVELS, names, strict=True))
            found = EffectiveLimits((self._whole, *(section for section in sections if section is not None)))
            if len(self._effective) >= EFFECTIVE_KEPT:
                self._effective.clear()
            self._effective[key] = found
        return found

    @property
    def book_stale_after_ms(self) -> int:
        """The engine's own, which its books go by."""
        return int(self._whole.limits["book_stale_after_ms"])

    def without_effect(self, accounts: Collection[str], symbols: Collection[str]) -> tuple[str, ...]:
        """What holds for nothing in an engine of these accounts and symbols: sections that name none of them, limits
        looser than the whole engine's. Each says what to look at; strategies come and go."""
        found: list[str] = []
        known = {
            "desk": {self.desks[account] for account in accounts if account in self.desks},
            "account": set(accounts),
            "symbol": set(symbols),
        }
        for level, sections in self._levels.items():
            for name, section in sections.items():
                if level in known and name not in known[level]:
                    found.append(f"[{level}.{name}] names no {level} of this engine; correct the name, or remove it")
                found.extend(
                    f"[{level}.{name}] {limit} = {decimal_text(value)} is looser than [{GLOBAL}]'s "
                    f"{decimal_text(self._whole.limits[limit])}, which holds"
                    for limit, value in section.limits.items()
                    if value > self._whole.limits[limit]
                )
        return tuple(found)


EFFECTIVE_KEPT = 10_000


def rules_digest(document: str) -> str:
    """Hex SHA-256 that tells two documents apart."""
    return hashlib.sha256(RULES_DOMAIN_TAG + document.encode()).hexdigest()


def parse_risk_rules(document: str, file_name: str) -> RiskRules:
    """Read and validate the whole. Raises RiskRulesError."""
    return _Reader(document, file_name).read()


class _Reader:
    """Reads one document; every complaint names the line of its key."""

    def __init__(self, document: str, file_name: str) -> None:
        self._document = document
        self._file_name = file_name

    def read(self) -> RiskRules:
        if len(self._document.encode()) > DOCUMENT_LIMIT_BYTES:
            raise RiskRulesError(f"{self._file_name}: larger than {DOCUMENT_LIMIT_BYTES} bytes")
        try:
            values = tomllib.loads(self._document)
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, brackets without end
            raise RiskRulesError(f"{self._file_name}: not valid TOML: {error}") from error
        self._check_schema(values)
        known = {"schema", GLOBAL, *LEVELS, "rule"}
        for key in values:
            if key not in known:
                raise self._error((), key, f"no such section; known are {', '.join(sorted(known))}")
        whole = self._section((GLOBAL,), values.get(GLOBAL), required=True)
        levels: dict[str, dict[str, Level]] = {}
        for level in LEVELS:
            levels[level] = self._level(level, values.get(level, {}))
        return RiskRules(
            self._document,
            whole,
            levels,
            self._desks(values.get("desk", {})),
            self._custom(values.get("rule", [])),
            self._dead_mans_timer(values[GLOBAL]),
            self._time_zone(values[GLOBAL]),
        )

    def _check_schema(self, values: Mapping[str, Any]) -> None:
        schema = values.get("schema")
        if schema == "veloz.risk-limits/1":
            missing = ", ".join(name for name in LIMIT_NAMES if name not in values)
            raise self._error(
                (),
                "schema",
                f"this is the form of an earlier release; set it to {RULES_SCHEMA!r}, put the limits below [{GLOBAL}] "
                f"and add {missing}, {', '.join(ENGINE_SETTINGS)} (docs/risk.md shows a whole file)",
            )
        if schema != RULES_SCHEMA:
            raise self._error((), "schema", f"must be {RULES_SCHEMA!r}, is {schema!r}")

    def _level(self, level: str, sections: Any) -> dict[str, Level]:
        if not isinstance(sections, dict):
            raise self._error((), level, f"must be sections such as [{level}.name]")
        for name in sections:
            if not _NAME.fullmatch(name):
                raise self._error((level,), name, "a name has 1 to 64 letters, digits or ._:-")
        return {name: self._section((level, name), section, required=False) for name, section in sections.items()}

    def _section(self, path: tuple[str, ...], section: Any, *, required: bool) -> Level:
        source = ":".join(path)
        if not isinstance(section, dict):
            if required:
                raise self._error((), path[0], f"section [{GLOBAL}] is missing; every limit must be set there")
            raise self._error(path[:-1], path[-1], f"a limit stands below the name of one, such as [{path[0]}.name]")
        levels_own = () if path[0] in {GLOBAL, "desk", "account"} else ACCOUNT_LIMITS
        allowed = {*LIMIT_NAMES, *(ENGINE_SETTINGS if required else ()), *(("accounts",) if path[0] == "desk" else ())}
        allowed.difference_update(levels_own)
        for key in section:
            if key not in allowed:
                raise self._error(path, key, "no such limit here; remove it or correct its name")
        for key in sorted(allowed) if required else ():
            if key not in section:
                raise self._error(path, key, "is missing; every limit must be set, none has a default")
        limits = {name: self._money(path, name, section[name]) for name in MONEY_LIMITS if name in section}
        for name, (least, most) in WHOLE_LIMITS.items():
            if name in section:
                limits[name] = Decimal(self._whole(path, name, section[name], least, most))
        rates = {name: self._rate(path, name, section[name]) for name in RATE_LIMITS if name in section}
        return Level(source, limits, rates)

    def _desks(self, sections: Mapping[str, Any]) -> dict[str, str]:
        desks: dict[str, str] = {}
        for desk, section in sections.items():
            accounts = section.get("accounts")
            if not isinstance(accounts, list) or not all(isinstance(name, str) and name for name in accounts):
                raise self._error(("desk", desk), "accounts", 'must list the desk\'s accounts, such as ["acct-1"]')
            for account in accounts:
                if account in desks:
                    raise self._error(("desk", desk), "accounts", f"{account!r} is in desk {desks[account]!r} already")
                desks[account] = desk
        return desks

    def _custom(self, rules: Any) -> tuple[CustomRule, ...]:
        if not isinstance(rules, list) or len(rules) > CUSTOM_RULES_LIMIT:
            raise self._error((), "rule", f"must be [[rule]] sections, at most {CUSTOM_RULES_LIMIT}")
        compiled: list[CustomRule] = []
        for number, rule in enumerate(rules, start=1):
            path = ("rule", str(number))
            for key in rule:
                if key not in {"name", "when", "action", "message"}:
                    raise self._error(path, key, "no such key; a rule has name, when, action and message")
            for key in ("name", "when", "action", "message"):
                if not isinstance(rule.get(key), str) or not rule[key]:
                    raise self._error(path, key, "is missing; a rule has name, when, action and message, all text")
            if not _NAME.fullmatch(rule["name"]) or rule["name"] in {known.name for known in compiled}:
                raise self._error(path, "name", "a name has 1 to 64 letters, digits or ._:- and stands once")
            if rule["action"] not in CUSTOM_ACTIONS:
                raise self._error(path, "action", f"must be one of {', '.join(CUSTOM_ACTIONS)}")
            try:
                compiled.append(compile_rule(rule["name"], rule["when"], rule["action"], rule["message"]))
            except CustomRuleError as error:
                raise self._error(path, "when", str(error)) from error
        return tuple(compiled)

    def _dead_mans_timer(self, section: Mapping[str, Any]) -> int | None:
        value = section["dead_mans_timer_s"]
        if value == OFF:
            return None
        return self._whole((GLOBAL,), "dead_mans_timer_s", value, 1, DAY_S, f" or {OFF!r}")

    def _time_zone(self, section: Mapping[str, Any]) -> str:
        value = section["time_zone"]
        if not isinstance(value, str) or not _TIME_ZONE.fullmatch(value) or not _is_time_zone(value):
            raise self._error((GLOBAL,), "time_zone", 'must be an IANA name such as "UTC" or "Europe/Berlin"')
        return value

    def _money(self, path: tuple[str, ...], name: str, value: Any) -> Decimal:
        if not isinstance(value, str) or len(value) > DECIMAL_LENGTH_LIMIT:
            raise self._error(path, name, f'must be a decimal as text, such as "250000", is {value!r}'[:200])
        try:
            amount = Decimal(value)
        except InvalidOperation:
            amount = Decimal("NaN")
        if not amount.is_finite() or amount <= 0 or decimal_text(amount) != value:
            raise self._error(path, name, f"must be a decimal above zero as plain text, is {value!r}")
        return amount

    def _whole(self, path: tuple[str, ...], name: str, value: Any, least: int, most: int, alternative: str = "") -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            what = name.rpartition("_")[2]
            raise self._error(
                path, name, f"must be a whole number from {least} to {most} ({what}){alternative}, is {value!r}"[:200]
            )
        return value

    def _rate(self, path: tuple[str, ...], name: str, value: Any) -> Rate:
        if not isinstance(value, dict) or value.keys() != {"count", "window_ms"}:
            raise self._error(path, name, f"must look like {{count = 10, window_ms = 1000}}, is {value!r}"[:200])
        for part, most in (("count", RATE_COUNT_MAXIMUM), ("window_ms", DAY_MS)):
            given = value[part]
            if not isinstance(given, int) or isinstance(given, bool) or not 1 <= given <= most:
                raise self._error(path, name, f"{part} must be a whole number from 1 to {most}, is {given!r}"[:200])
        return Rate(value["count"], value["window_ms"])

    def _error(self, path: tuple[str, ...], key: str, problem: str) -> RiskRulesError:
        line = line_of(self._document, path, key)
        where = f"line {line}: " if line else ""
        section = f"[{'.'.join(path)}] " if path else ""
        return RiskRulesError(f"{self._file_name}: {where}{section}key '{key}': {problem}")


def line_of(document: str, path: tuple[str, ...], key: str) -> int | None:
    """The line (from 1) on which a key of a section, or the section of that name, stands; of its section's header where
    the key isn't there."""
    section: tuple[str, ...] = ()
    header: int | None = None
    rules = 0
    for number, text in enumerate(document.splitlines(), start=1):
        stripped = text.strip()
        if stripped.startswith("[["):
            rules += 1
            section = ("rule", str(rules))
        elif stripped.startswith("["):
            section = _header(stripped)
        elif section == path and re.match(rf"[\"']?{re.escape(key)}[\"']?\s*[=.]", stripped):
            return number
        if stripped.startswith("["):
            if section[: len(path) + 1] == (*path, key):
                return number
            if section == path:
                header = number
    return header


def _header(line: str) -> tuple[str, ...]:
    """The names in a section's header."""
    try:
        inside: dict[str, Any] = tomllib.loads(line)
    except (ValueError, RecursionError):
        # A line of a text that spans several.
        return ()
    names: list[str] = []
    while inside:
        ((name, inside),) = inside.items()
        names.append(name)
    return tuple(names)


def _is_time_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def render_default_rules() -> str:
    """What a first run writes."""
    return DEFAULT_RULES


DEFAULT_RULES = f"""\
# The limits of this engine. Every key below [global] must be there; none has a default.
# Change it with `veloz risk check <file>` and `veloz risk reload <file>`; go back with `veloz risk rollback`.
schema = "{RULES_SCHEMA}"

[global]
# Of one order: its value in the reporting currency, and its quantity in base units.
max_notional_per_order_quote = "1000000"
max_quantity_per_order = "1000000"
# A limit price may lie this far from the mid, and from the last trade; 10,000 bps are 100 %.
price_collar_bps = 500
mark_collar_bps = 1000
# How far the mid may have moved between the proposal and the order.
max_deviation_bps = 50
# Of what the other side of the book shows, an order may take this share.
max_depth_share_bps = 5000
# What an account may hold, its open orders included.
max_position_notional_quote = "2000000"
max_gross_exposure_quote = "5000000"
max_net_exposure_quote = "5000000"
max_leverage = "3"
max_open_orders = 200
# Losing more than this in a day, or this far from the peak, leaves only what reduces.
max_daily_loss_quote = "50000"
max_drawdown_bps = 2000
order_rate = {{count = 50, window_ms = 1000}}
amend_rate = {{count = 50, window_ms = 1000}}
cancel_rate = {{count = 100, window_ms = 1000}}
# The same order again and again is a fault in whatever asks for it.
repeated_intent = {{count = 5, window_ms = 10000}}
# A book without news for this long is not to be traded on.
book_stale_after_ms = 5000
# After so long without the account's own stream nothing new is taken until somebody has looked.
user_stream_lost_after_s = 120
# Cancel all and halt when nobody has renewed the timer for this long; "off" or seconds.
dead_mans_timer_s = "off"
# When an account's day begins.
time_zone = "UTC"

# Tighter still, for example:
# [symbol.BTCUSDT]
# max_quantity_per_order = "5"
#
# [[rule]]
# name = "night"
# when = "time.hour_utc < 6 && order.notional_quote > 10000.0"
# action = "require_two_approvals"
# message = "At night two people look at what is larger than 10,000."
"""
