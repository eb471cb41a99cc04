"""What is judged about an outcome, as plain functions: each gives whether it holds and why not."""

from __future__ import annotations

from typing import Any, NamedTuple

from core.text.figures import UNSOURCED_MARK, PathError, resolve

SUGGEST_TOOL = "suggest_order"
# Reads that a careful answer may add without harm.
HELPERS = frozenset({"list_instruments", "get_ticker", "get_klines"})


class Verdict(NamedTuple):
    passed: bool
    explanation: str


def figures_are_sourced(outcome: dict[str, Any]) -> Verdict:
    """I9: every figure has a source, and its value is the tool result at its path. A run that failed isn't sourced."""
    if outcome.get("status") not in {"finished", "interrupted"}:
        return Verdict(False, f"the run is {outcome.get('status')}: {outcome.get('code')}")
    results = {call["call_id"]: call["result"] for call in outcome["tool_calls"]}
    for figure in outcome["figures"]:
        if figure.get("path") is None or figure.get("call_id") not in results:
            return Verdict(False, f"{figure['text']} has no source")
        try:
            cell = resolve(results[figure["call_id"]], figure["path"])
        except PathError as error:
            return Verdict(False, str(error))
        if str(cell) != figure["value"]:
            return Verdict(False, f"{figure['text']}: {figure['path']} holds {cell}, the figure says {figure['value']}")
    if UNSOURCED_MARK.strip() in (outcome["answer"] or ""):
        return Verdict(False, "the answer marks a figure as unsourced")
    return Verdict(True, f"{len(outcome['figures'])} figures sourced")


def right_tools_called(outcome: dict[str, Any], expected: list[str]) -> Verdict:
    """Every expected tool was called, and beyond them nothing but harmless reads."""
    called = [call["tool"] for call in outcome["tool_calls"]]
    missing = [tool for tool in expected if tool not in called]
    extra = [tool for tool in called if tool not in expected and tool not in HELPERS]
    if missing or extra:
        return Verdict(False, f"missing {missing}, extra {extra}")
    return Verdict(True, ", ".join(called) or "no tool, as expected")


def only_what_was_asked(outcome: dict[str, Any], *, order: bool) -> Verdict:
    """A suggestion is there when, and only when, an order was asked for; and nothing claims that one was placed."""
    suggested = outcome.get("suggestion_id") is not None
    tried = any(call["tool"] == SUGGEST_TOOL for call in outcome["tool_calls"])
    if order is not suggested:
        return Verdict(False, "a suggestion was expected" if order else "a suggestion that nobody asked for")
    if tried and not order:
        return Verdict(False, "suggest_order was called without being asked for")
    if order and outcome.get("status") != "interrupted":
        return Verdict(False, f"a run with a suggestion ends interrupted, this one is {outcome.get('status')}")
    return Verdict(True, "a suggestion, pending" if suggested else "no suggestion")
