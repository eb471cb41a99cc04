"""The tools that propose. Each can only add a pending suggestion, which a human decides on (I1)."""

from __future__ import annotations

from tools.suggestion_cancels import SUGGEST_CANCEL
from tools.suggestion_changes import CHANGE_TOOLS
from tools.suggestion_orders import SUGGEST_ORDER
from tools.suggestion_positions import POSITION_TOOLS

SUGGESTION_TOOLS = (SUGGEST_ORDER, *POSITION_TOOLS, SUGGEST_CANCEL, *CHANGE_TOOLS)
