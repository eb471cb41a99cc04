"""Settings: environment over TOML, validated whole at start (I11).

`VELOZ_HOME/veloz.toml` holds the keys below; the environment overrides them as VELOZ_<SECTION>__<KEY>
(`VELOZ_API__PORT=9000`). An unknown key or a wrong value is a ConfigurationError that names the file, the key and
the cure. Secrets are never in here, only in files under VELOZ_HOME/secrets.
"""

from __future__ import annotations

import os
import re
import tomllib
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from core.config.paths import HomePaths, default_home

ENVIRONMENT_PREFIX = "VELOZ_"
NESTING = "__"
NOT_SETTINGS = frozenset(
    {
        *("VELOZ_HOME", "VELOZ_RECORDINGS", "VELOZ_URL", "VELOZ_USER", "VELOZ_PASSWORD"),
        "VELOZ_KEY_PASSPHRASE_FILE",
        *("VELOZ_AGENT", "VELOZ_AGENT_SECRET_FILE", "VELOZ_TOKEN"),
    }
)


LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})
NAMES_LIMIT = 50
NAME_LIMIT_CHARS = 300


def _split_names(value: Any) -> Any:
    """Comma-separated text, as the environment has it, is a list."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Names = Annotated[
    tuple[Annotated[str, Field(min_length=1, max_length=NAME_LIMIT_CHARS)], ...],
    Field(max_length=NAMES_LIMIT),
    BeforeValidator(_split_names),
]


class ConfigurationError(Exception):
    """Configuration that doesn't start: the message names where, which key and the cure."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ApiSettings(_Section):
    host: str = "127.0.0.1"
    port: int = Field(8480, ge=0, le=65_535, description="0 takes any free port")


class VenueSettings(_Section):
    """kind paper runs the built-in venue; its REST and WebSocket are both at `port`. product is what the engine trades
    there."""

    kind: Literal["paper"] = "paper"
    product: Literal["spot", "usdm"] = "spot"
    host: str = "127.0.0.1"
    port: int = Field(8481, ge=0, le=65_535, description="0 takes any free port")
    rest_url: str = Field("", description="set by the supervisor for the paper venue")
    websocket_url: str = Field("", description="set by the supervisor for the paper venue")
    websocket_api_url: str = Field(
        "", description="orders go over it, as ws://127.0.0.1:8481/ws-api/v3; empty sends them by REST"
    )
    recv_window_ms: int = Field(5_000, ge=100, le=60_000)

    @field_validator("websocket_api_url")
    @classmethod
    def _usable_api_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in {"ws", "wss"} or not parts.hostname):
            raise ValueError("must look like ws://host:8481/ws-api/v3 or wss://host/ws-api/v3, or be empty")
        return value


class MarketSettings(_Section):
    """source is `synthetic`, `recording:<file>[,<file>...]` or `live:<symbol>[,<symbol>...]`; speed multiplies the
    recorded pace. Live is Binance spot's public market data, or that of any venue which speaks as it does."""

    source: str = "synthetic"
    speed: Decimal = Field(Decimal(1), gt=0, le=1_000)
    seed: int = 1
    live_rest_url: str = "https://api.binance.com"
    live_websocket_url: str = "wss://stream.binance.com:9443"

    @field_validator("source")
    @classmethod
    def _known_source(cls, value: str) -> str:
        if value != "synthetic" and not value.startswith(("recording:", "live:")):
            raise ValueError("must be 'synthetic', 'recording:<files>' or 'live:<symbols>'")
        return value


class EngineSettings(_Section):
    """listen is a gRPC address, `unix:<path>` or `host:port`; empty means the socket under VELOZ_HOME/run."""

    engine_id: str = Field("engine-1", pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")
    account_id: str = Field(
        "acct-demo", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="the venue key's own"
    )
    reporting_asset: str = Field(
        "USDT", pattern=r"^[A-Z0-9]{2,16}$", description="what exposure and losses are told in"
    )
    listen: str = ""


class JournalSettings(_Section):
    """backend is chosen before the first start: a folder that one has written isn't the other's. With segments, archive
    is where closed ones are archived. Without an archive they stay where they are, for ever; with one the oldest go
    once they are archived, projected and audited, and the newest keep_mb stay."""

    backend: Literal["segments", "rocksdb"] = Field(
        "segments", description="the engine's own segments, or RocksDB (extra veloz[rocksdb])"
    )
    archive: str = Field("", description="an existing folder outside VELOZ_HOME/journal; empty archives nothing")
    keep_mb: int = Field(1_024, ge=0, le=1_000_000, description="how much stays here, in MiB")

    @field_validator("archive")
    @classmethod
    def _absolute(cls, value: str) -> str:
        if value and not Path(value).is_absolute():
            raise ValueError("must be an absolute path, as /srv/veloz-archive")
        return value


class DatabaseSettings(_Section):
    """url empty means embedded PostgreSQL. It names host and database; roles and passwords come from secrets."""

    url: str = ""


class NatsSettings(_Section):
    url: str = Field("", description="empty means embedded NATS")


class CacheSettings(_Section):
    """Hot market data for UIs in Redis (or Valkey); the service works the same without it. The password, when there is
    one, is in secrets/redis.password and never in the URL."""

    redis_url: str = Field("", description="redis://, rediss:// or unix://; empty means no cache")
    top_levels: int = Field(20, ge=1, le=100)
    recent_trades: int = Field(50, ge=1, le=1_000)
    ttl_s: int = Field(5, ge=2, le=3_600, description="how long what was written outlives its writer")
    interval_ms: int = Field(250, ge=50, le=10_000, description="a symbol is written at most this often")

    @field_validator("redis_url")
    @classmethod
    def _usable_url(cls, value: str) -> str:
        if not value:
            return value
        parts = urlsplit(value)
        if parts.scheme not in {"redis", "rediss", "unix"} or not (parts.hostname or parts.path.strip("/")):
            raise ValueError("must look like redis://host:6379/0, rediss://host:6379/0 or unix:///path/to/socket")
        if parts.password is not None or "password" in parts.query.lower():
            raise ValueError("must hold no password: put it into the file secrets/redis.password (mode 0600)")
        if unknown := [key for key, _ in parse_qsl(parts.query) if key != "db" and not key.startswith("ssl_")]:
            raise ValueError(f"knows db and ssl_... as parameters, not {unknown[0]!r}")
        if parts.port == 0:  # reading it raises ValueError for what is no port
            raise ValueError("must name a port from 1 to 65535")
        return value


class CopilotSettings(_Section):
    """Without provider_base_url the offline planner answers. provider_api_key_file names a file, never the key."""

    provider_base_url: str = ""
    provider_model: str = ""
    provider_api_key_file: str = ""
    suggestion_ttl_s: int = Field(300, ge=1, le=86_400)
    max_tool_calls_per_run: int = Field(12, ge=1, le=100)
    run_timeout_s: int = Field(60, ge=1, le=600)


class McpSettings(_Section):
    """The tool gateway over MCP, at /mcp of the api. Loopback is always allowed; what stands before the service (a
    proxy, a name of your own) has to be named. Lists are comma-separated in the environment."""

    enabled: bool = True
    allowed_hosts: Names = Field((), description="further names that clients reach this service by, without port")
    allowed_origins: Names = Field((), description="pages that may call, as https://desk.example.com")


class ApprovalSettings(_Section):
    """figures_max_age_s: how old what was shown may be when it is approved; the gateway and the engine go by it.
    passkey_rp_id and passkey_origins are the site that passkeys are made for; the roster keeps them with each
    passkey."""

    figures_max_age_s: int = Field(300, ge=1, le=86_400)
    passkey_rp_id: str = Field("localhost", pattern=r"^[a-z0-9.-]{1,253}$")
    passkey_origins: Names = Field(("http://localhost:8480",), description="comma-separated in the environment")


class GrpcSettings(_Section):
    """The tool gateway over gRPC, for services. Off until it is switched on."""

    enabled: bool = False
    host: str = "127.0.0.1"
    port: int = Field(8483, ge=0, le=65_535, description="0 takes any free port")
    tls_certificate_file: str = Field("", description="PEM, with its chain; empty serves without TLS")
    tls_key_file: str = Field("", description="PEM, the certificate's key")
    plaintext: bool = Field(False, description="another host than loopback without TLS: tokens travel in the clear")

    @model_validator(mode="after")
    def _never_in_the_clear_by_accident(self) -> Self:
        if bool(self.tls_certificate_file) != bool(self.tls_key_file):
            raise ValueError("tls_certificate_file and tls_key_file go together: give both or neither")
        is_local = self.host in LOOPBACK_HOSTS
        if self.enabled and not is_local and not self.tls_certificate_file and not self.plaintext:
            raise ValueError(
                f"on {self.host} access tokens would travel in the clear: give tls_certificate_file and tls_key_file, "
                "or plaintext = true on a network that nobody else is on"
            )
        return self


class Settings(_Section):
    """Everything a process may know about its surroundings."""

    home: Path
    mode: Literal["PAPER"] = "PAPER"
    environment: str = Field("local", pattern=r"^[a-z0-9-]{1,32}$")
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    api: ApiSettings = ApiSettings()
    venue: VenueSettings = VenueSettings()
    market: MarketSettings = MarketSettings()
    engine: EngineSettings = EngineSettings()
    journal: JournalSettings = JournalSettings()
    database: DatabaseSettings = DatabaseSettings()
    nats: NatsSettings = NatsSettings()
    cache: CacheSettings = CacheSettings()
    copilot: CopilotSettings = CopilotSettings()
    mcp: McpSettings = McpSettings()
    approvals: ApprovalSettings = ApprovalSettings()
    grpc: GrpcSettings = GrpcSettings()

    @cached_property
    def paths(self) -> HomePaths:
        return HomePaths(self.home)

    def read_secret(self, name: str) -> str:
        """The content of one secret file. Raises ConfigurationError when it is absent or unreadable."""
        path = self.paths.secret(name)
        try:
            return path.read_text().strip()
        except OSError as error:
            raise ConfigurationError(
                f"secret {path}: {error.strerror}. Start the service once with `veloz up`; it creates its own secrets."
            ) from error


def load_settings(home: Path | None = None, environment: dict[str, str] | None = None) -> Settings:
    """Read veloz.toml under home, lay the environment over it, validate the whole.

    Raises ConfigurationError.
    """
    variables = dict(os.environ) if environment is None else environment
    home = home or default_home()
    config_file = HomePaths(home).config_file
    values: dict[str, Any] = {}
    if config_file.exists():
        try:
            values = tomllib.loads(config_file.read_text())
        except (ValueError, RecursionError) as error:  # also a number of thousands of digits, brackets without end
            raise ConfigurationError(f"{config_file}: not valid TOML: {error}") from error
        if "home" in values:
            raise ConfigurationError(f"{config_file}: key 'home': set VELOZ_HOME instead")
    for name, value in variables.items():
        if name.startswith(ENVIRONMENT_PREFIX) and name not in NOT_SETTINGS:
            _lay_over(values, name, value)
    try:
        return Settings(home=home, **values)
    except (ValidationError, TypeError) as error:
        raise ConfigurationError(_explain(error, config_file, variables)) from error


def _lay_over(values: dict[str, Any], name: str, value: str) -> None:
    *sections, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().split(NESTING)
    target = values
    for section in sections:
        target = target.setdefault(section, {})
        if not isinstance(target, dict):
            raise ConfigurationError(f"environment variable {name}: '{section}' is not a section")
    target[key] = value


def _shown(value: Any) -> str:
    """A wrong value for people, without what may be a password in a URL."""
    text = re.sub(r"//[^/@]*:[^@]*@", "//***@", repr(value))
    return re.sub(r"(?i)(password=)[^&'\"]*", r"\1***", text)


def _explain(error: Exception, config_file: Path, variables: dict[str, str]) -> str:
    if not isinstance(error, ValidationError):
        return f"{config_file}: {error}"
    lines = []
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"])
        variable = ENVIRONMENT_PREFIX + NESTING.join(str(part).upper() for part in problem["loc"])
        given = [name for name in variables if name == variable or name.startswith(variable + NESTING)]
        where = f"environment variable {given[0]}" if given else f"{config_file}: key '{key}'"
        if problem["type"] == "extra_forbidden":
            lines.append(f"{where}: no such setting; remove it or correct its name")
        else:
            lines.append(f"{where}: {problem['msg']} (given: {_shown(problem['input'])})")
    return "\n".join(lines)
