"""The documentation says what the code does: every code, limit, variable and setting is there, every command exists."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer.main
from pydantic import BaseModel

from api.app import create_app
from api.cli.app import app
from core.config import Settings
from core.risk.custom import EXAMPLE
from core.risk.rules import ENGINE_SETTINGS, LIMIT_NAMES, parse_risk_rules
from core.types.codes import ReasonCode
from tests.tools.policies import policy_with
from tools.catalogue import build_registry
from tools.cures import CURES
from tools.policy_conditions import VARIABLES
from tools.policy_document import PolicyDocument

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "docs/trading.md",
    "docs/risk.md",
    "docs/operations.md",
    "docs/market-data.md",
    "docs/mcp.md",
    "docs/policy.md",
)
ROW = re.compile(r"^\| `([A-Z_]+)` \| (.+) \| (.+) \|$", re.MULTILINE)


def page(name: str) -> str:
    return (ROOT / name).read_text()


def test_every_reason_code_has_one_row_with_meaning_and_cure() -> None:
    rows = ROW.findall(page("docs/refusals.md"))
    assert sorted(code for code, _, _ in rows) == sorted(code.value for code in ReasonCode)
    assert all(meaning.strip() and cure.strip() for _, meaning, cure in rows)


def test_what_the_tools_say_of_a_code_is_what_the_page_says() -> None:
    """A code that was added or told anew: its row's two texts belong into tools/cures.py as well."""
    links = re.compile(r"\[([^\]]*)\]\([^)]*\)")
    rows = {
        code: (links.sub(r"\1", meaning), links.sub(r"\1", cure))
        for code, meaning, cure in ROW.findall(page("docs/refusals.md"))
    }
    assert {code.value: tuple(cure) for code, cure in CURES.items()} == rows


def test_every_tool_has_its_row_with_permission_source_cost_and_deadline() -> None:
    """A tool that was added or changed: its row belongs into docs/tools.md."""
    rows = re.findall(
        r"^\| `([a-z_]+)` \| (.+?) \| `([a-z:]+)` \| (.+?) \| (\d+) \| (\d+) \|$", page("docs/tools.md"), re.MULTILINE
    )
    shown = {
        name: (permission, tuple(re.findall(r"`([a-z:_]+)`", sources)), int(cost), int(deadline_ms))
        for name, _, permission, sources, cost, deadline_ms in rows
    }
    assert shown == {
        tool.name: (tool.permission, tuple(source.value for source in tool.sources), tool.cost, tool.timeout_ms)
        for tool in build_registry()
    }
    assert len(rows) == len(shown)


def test_the_rules_file_that_is_shown_is_one_the_engine_takes() -> None:
    (document,) = re.findall(r"```toml\n(.*?)```", page("docs/risk.md"), re.DOTALL)
    rules = parse_risk_rules(document, "docs/risk.md")
    assert rules.dead_mans_timer_s == 300
    assert len(rules.custom) == 2
    assert (
        rules.limits_for("acct-demo", "grid-1", "SOLUSDT")["max_notional_per_order_quote"].source == "strategy:grid-1"
    )


def test_the_policy_sections_that_are_shown_are_ones_the_gateway_takes() -> None:
    sections = re.findall(r"```toml\n(.*?)```", page("docs/policy.md"), re.DOTALL)
    document = policy_with(*sections).document
    shown = (document.condition, document.threshold, document.quiet_hours, document.price)
    assert [len(part) for part in shown] == [1, 1, 1, 1]


@pytest.mark.parametrize("section", [field.name for field in msgspec.structs.fields(PolicyDocument)])
def test_every_section_of_the_policy_is_explained(section: str) -> None:
    table = page("docs/policy.md").split("| section | says |")[1]
    assert re.search(rf"^\| .*`\[{{0,2}}{section}(\.[a-z_]+)?\]{{0,2}}`.* \|", table, re.MULTILINE)


@pytest.mark.parametrize(
    ("part", "field"), [(part, field) for part, all_ in VARIABLES.items() for field in all_ or [""]]
)
def test_every_variable_of_conditions_is_listed(part: str, field: str) -> None:
    (row,) = re.findall(rf"^\| `{part}` \| (.*) \|$", page("docs/policy.md"), re.MULTILINE)
    assert f"`{field}`" in row or not field


@pytest.mark.parametrize("name", [*LIMIT_NAMES, *ENGINE_SETTINGS])
def test_every_limit_is_explained(name: str) -> None:
    table = page("docs/risk.md").split("| limit | what it bounds |")[1].split("\n\n")[0]
    assert f"`{name}`" in table


@pytest.mark.parametrize(("part", "field"), [(part, field) for part, fields in EXAMPLE.items() for field in fields])
def test_every_variable_of_custom_rules_is_listed(part: str, field: str) -> None:
    (row,) = re.findall(rf"^\| `{part}` \| (.*) \|$", page("docs/risk.md"), re.MULTILINE)
    assert f"`{field}`" in row


def setting_names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from setting_names(inner, f"{prefix}{name}.")
        elif prefix + name != "home":
            yield prefix + name


def test_the_table_of_settings_is_whole() -> None:
    table = page("docs/operations.md").split("| key | default | meaning |")[1].split("\n\n")[0]
    first_cells = [row.split("|")[1] for row in table.splitlines() if row.startswith("|")]
    listed = [name for cell in first_cells for name in re.findall(r"`([a-z_.]+)`", cell)]
    assert sorted(listed) == sorted(setting_names(Settings))


def commands() -> list[tuple[str, str]]:
    """Every `veloz ...` line of the pages' shell blocks."""
    found = []
    for name in PAGES:
        for block in re.findall(r"```sh\n(.*?)```", page(name), re.DOTALL):
            found += [(name, line) for line in block.splitlines() if line.startswith("veloz ")]
    return found


@pytest.mark.parametrize(("name", "line"), commands(), ids=[line for _, line in commands()])
def test_every_command_that_is_shown_can_be_given(name: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    words = words[: words.index(">")] if ">" in words else words
    command: Any = typer.main.get_command(app)
    context = command.make_context("veloz", [words[0]], resilient_parsing=True)
    while hasattr(command, "commands"):
        if not words and command.invoke_without_command:
            break
        command = command.commands[words.pop(0)]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word.split("=")[0] for word in words if word.startswith("--")} <= known, (name, context)
    plain = [parameter for parameter in command.params if parameter.param_type_name == "argument"]
    assert len([parameter for parameter in plain if parameter.required]) <= len(words)


@pytest.mark.parametrize(("name", "least"), [("docs/trading.md", 10), ("docs/mcp.md", 6)])
def test_every_address_of_a_table_of_calls_exists(name: str, least: int) -> None:
    paths = create_app(services=None).openapi()["paths"]  # type: ignore[arg-type]
    shown = re.findall(r"/api/v1/[a-z_/{}-]+", page(name).split("| call | for |")[1])
    patterns = [re.sub(r"\{[a-z_]+\}", "{}", path) for path in paths]
    assert len(shown) > least
    assert [path for path in shown if re.sub(r"\{[a-z_]+\}", "{}", path) not in patterns] == []
