"""The tools of this release. Adding one here is the only way to make it callable."""

from __future__ import annotations

from tools.account_tools import ACCOUNT_TOOLS
from tools.indicator_tools import INDICATOR_TOOLS
from tools.market_tools import MARKET_TOOLS
from tools.registry import Registry
from tools.suggestion_tools import SUGGESTION_TOOLS


def build_registry() -> Registry:
    """Every tool there is."""
    return Registry((*MARKET_TOOLS, *INDICATOR_TOOLS, *ACCOUNT_TOOLS, *SUGGESTION_TOOLS))
