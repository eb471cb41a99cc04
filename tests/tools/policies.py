"""Policies for tests: the one that VeloZ comes with, and changes to it."""

from __future__ import annotations

from tools.catalogue import build_registry
from tools.policy import Policy, default_document, load_policy, tool_facts

LAST_SECTION = "[concurrency]"
TOOLS = tool_facts(build_registry())


def text_with(*sections: str, **replaced: str) -> str:
    """The default policy's text with these sections before its last one; replaced maps a line's key to the new line."""
    lines = default_document().splitlines()
    for key, line in replaced.items():
        at = next(number for number, text in enumerate(lines) if text.startswith(f"{key} = "))
        lines[at] = line
    end = lines.index(LAST_SECTION)
    return "\n".join([*lines[:end], *sections, *lines[end:], ""])


def of_version_7() -> str:
    """The policy that VeloZ came with before there were backtests."""
    text = default_document().replace('"get_backtest", "list_backtests",', "").replace(', "@backtests"]', "]")
    return "\n".join(line for line in text.splitlines() if not line.startswith("backtests = ")) + "\n"


def policy_with(*sections: str, **replaced: str) -> Policy:
    return load_policy(text_with(*sections, **replaced), "policy.toml", TOOLS)


def condition(when: str, action: str = "deny", tools: str = '["suggest_order"]', more: str = "") -> str:
    return f"""
[[condition]]
name = "test"
tools = {tools}
when = '''{when}'''
action = "{action}"
message = "Because."
{more}
"""


def quiet_hours(start: str = "22:00", end: str = "06:00", zone: str = "UTC", more: str = "") -> str:
    return f"""
[[quiet_hours]]
name = "night"
denies = ["suggest", "approve"]
start = "{start}"
end = "{end}"
time_zone = "{zone}"
{more}
"""
