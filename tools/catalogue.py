"""The tools of this release. Adding one here is the only way to make it callable."""

from __future__ import annotations

from tools.account_tools import ACCOUNT_TOOLS
from tools.backtest_tools import BACKTEST_TOOLS
from tools.history_tools import HISTORY_TOOLS
from tools.holdings_tools import HOLDINGS_TOOLS
from tools.indicator_tools import INDICATOR_TOOLS
from tools.limit_tools import LIMIT_TOOLS
from tools.market_tools import MARKET_TOOLS
from tools.registry import Registry
from tools.rejection_tools import REJECTION_TOOLS
from tools.result_tools import RESULT_TOOLS
from tools.series_tools import SERIES_TOOLS
from tools.strategy_tools import STRATEGY_TOOLS
from tools.suggestion_tools import SUGGESTION_TOOLS
from tools.system_tools import SYSTEM_TOOLS
from tools.tape_tools import TAPE_TOOLS


def build_registry() -> Registry:
    """Every tool there is."""
    return Registry(
        (
            *(*MARKET_TOOLS, *TAPE_TOOLS, *INDICATOR_TOOLS, *SERIES_TOOLS),
            *(*ACCOUNT_TOOLS, *HOLDINGS_TOOLS, *LIMIT_TOOLS, *REJECTION_TOOLS, *STRATEGY_TOOLS, *BACKTEST_TOOLS),
            *(*HISTORY_TOOLS, *RESULT_TOOLS),
            *SYSTEM_TOOLS,
            *SUGGESTION_TOOLS,
        )
    )
