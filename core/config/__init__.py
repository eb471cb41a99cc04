"""Settings and the layout of VELOZ_HOME.

Settings are loaded on first use: the command line needs only the paths, and pydantic costs it half of its start.
"""

from typing import TYPE_CHECKING, Any

from core.config.paths import HomePaths, default_home

if TYPE_CHECKING:
    from core.config.settings import ConfigurationError, GrpcSettings, McpSettings, Settings, load_settings

__all__ = [
    "ConfigurationError",
    "GrpcSettings",
    "HomePaths",
    "McpSettings",
    "Settings",
    "default_home",
    "load_settings",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        from core.config import settings

        return getattr(settings, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
