"""Settings and the layout of VELOZ_HOME."""

from core.config.paths import HomePaths, default_home
from core.config.settings import ConfigurationError, Settings, load_settings

__all__ = ["ConfigurationError", "HomePaths", "Settings", "default_home", "load_settings"]
