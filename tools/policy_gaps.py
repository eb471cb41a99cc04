"""Tools that a policy of one's own has no rule for: what a release brought since the file was written is denied, and
whoever keeps the file should know."""

from __future__ import annotations

import json
from collections.abc import Iterable

import msgspec

from tools.policy import Policy, default_policy
from tools.policy_document import Allow, ModelRule, expand


class PolicyGaps(msgspec.Struct, frozen=True):
    """Of the registry: tools that no [[allow]] names, so nobody may call them, and tools that no [[model]] names, so no
    model may. lines are those to add before [concurrency], as the policy that VeloZ comes with has it."""

    nobody: tuple[str, ...]
    no_model: tuple[str, ...]
    lines: str

    @property
    def is_empty(self) -> bool:
        return not self.nobody and not self.no_model

    @property
    def summary(self) -> str:
        told = [
            f"{who} may call {', '.join(tools)}"
            for who, tools in (("nobody", self.nobody), ("no model", self.no_model))
            if tools
        ]
        return "; ".join(told)


def gaps_of(policy: Policy, tools: Iterable[str]) -> PolicyGaps:
    document, names = policy.document, sorted(tools)
    allowed = {tool for section in document.allow for tool in expand(document, section.tools, names)}
    of_models = {tool for section in document.model for tool in expand(document, section.tools, names)}
    nobody = tuple(name for name in names if name not in allowed)
    no_model = tuple(name for name in names if name not in of_models)
    return PolicyGaps(nobody, no_model, _lines(policy, nobody, no_model, names))


def _lines(policy: Policy, nobody: tuple[str, ...], no_model: tuple[str, ...], names: list[str]) -> str:
    """Sections of the default policy, cut down to the tools that are missing."""
    default = default_policy().document
    taken = {section.name for section in policy.document.allow} | {section.name for section in policy.document.model}
    parts: list[str] = []
    for allow in default.allow:
        missing = sorted(expand(default, allow.tools, names) & set(nobody))
        if missing:
            parts.append(_allow_section(allow, missing, _free_name(allow.name, default.version, taken)))
    for model in default.model:
        missing = sorted(expand(default, model.tools, names) & set(no_model))
        if missing:
            parts.append(_model_section(model, missing, _free_name(model.name, default.version, taken)))
    return "\n".join(parts)


def _free_name(name: str, version: int, taken: set[str]) -> str:
    return f"{name} (as of version {version})" if name in taken else name


def _allow_section(section: Allow, tools: list[str], name: str) -> str:
    accounts = section.accounts if isinstance(section.accounts, str) else list(section.accounts)
    return (
        f"[[allow]]\nname = {json.dumps(name)}\nroles = {json.dumps([role.value for role in section.roles])}\n"
        f"tools = {json.dumps(tools)}\naccounts = {json.dumps(accounts)}\n"
    )


def _model_section(section: ModelRule, tools: list[str], name: str) -> str:
    return (
        f"[[model]]\nname = {json.dumps(name)}\nproviders = {json.dumps(list(section.providers))}\n"
        f"models = {json.dumps(list(section.models))}\ntools = {json.dumps(tools)}\n"
    )
