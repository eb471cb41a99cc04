"""What a child sees of our environment: its settings and what its run-time needs, nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.config import Settings
from core.config.settings import ENVIRONMENT_PREFIX, NESTING

KEPT = frozenset({"PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"})
# For the one process that speaks to model providers. A proxy's address may carry its password.
KEPT_FOR_PROVIDERS = frozenset(
    {"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR"}
)


def child_environment(settings: Settings, ours: Mapping[str, str], *, reaches_providers: bool) -> dict[str, str]:
    """The whole of a child's environment.

    Settings go out complete, so that a child sees what its supervisor saw, whatever veloz.toml says by then.
    """
    kept = KEPT | KEPT_FOR_PROVIDERS if reaches_providers else KEPT
    return {name: value for name, value in ours.items() if name in kept} | settings_environment(settings)


def settings_environment(settings: Settings) -> dict[str, str]:
    """Every setting as its environment variable."""
    return {"VELOZ_HOME": str(settings.home)} | dict(
        _flatten(settings.model_dump(exclude={"home"}), ENVIRONMENT_PREFIX)
    )


def _flatten(values: dict[str, Any], prefix: str) -> list[tuple[str, str]]:
    pairs = []
    for key, value in values.items():
        name = prefix + key.upper()
        if isinstance(value, dict):
            pairs += _flatten(value, name + NESTING)
        elif isinstance(value, tuple):
            pairs.append((name, ",".join(map(str, value))))
        elif value is not None:
            pairs.append((name, str(value)))
    return pairs
