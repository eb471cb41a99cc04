"""A policy file is taken whole or not at all, and what is wrong with it is told by file, line, key and cure (I11)."""

from __future__ import annotations

import pytest

from tests.tools.policies import LAST_SECTION, TOOLS, condition, quiet_hours, text_with
from tools.policy import default_document
from tools.policy_document import PolicyFileError, parse_amount, parse_policy
from tools.policy_lines import line_of


def refused(document: str) -> str:
    with pytest.raises(PolicyFileError) as caught:
        parse_policy(document, "policy.toml", TOOLS)
    return str(caught.value)


def line_with(document: str, text: str) -> int:
    return next(number for number, line in enumerate(document.splitlines(), start=1) if text in line)


def test_the_policy_that_comes_with_veloz_is_whole() -> None:
    assert parse_policy(default_document(), "policy.toml", TOOLS).version >= 4


THRESHOLD = '[[threshold]]\nname = "big"\nkinds = ["order"]\naccounts = "granted"\ntwo_above_quote = {}\n'
APPROVER = '[[approver]]\nname = "boss"\nkinds = ["order"]\naccounts = "granted"\nup_to_quote = "1"\n{}\n'
ALLOW = '[[allow]]\nname = "more"\nroles = ["trader"]\n{}\n'
PRICE = (
    '[[price]]\nprovider = "p"\nmodel = "m"\ninput_usd_per_million_tokens = {}\noutput_usd_per_million_tokens = "1"\n'
)

WRONG = {
    "an unknown section": ("[surprise]\na = 1", "surprise", "no such key; known are schema, version"),
    "an unknown key": (
        ALLOW.format('tools = ["get_ticker"]\naccounts = "none"\ncolour = "red"'),
        "colour",
        "known are name",
    ),
    "an unknown role": (
        '[[allow]]\nname = "x"\nroles = ["admin"]\ntools = ["get_ticker"]\naccounts = "none"',
        "roles",
        "invalid enum value 'admin'",
    ),
    "an unknown tool": (ALLOW.format('tools = ["get_money"]\naccounts = "none"'), "tools", "no tool 'get_money'"),
    "an unknown set": (ALLOW.format('tools = ["@everything"]\naccounts = "none"'), "tools", "there are @market_reads"),
    "a market tool with accounts": (
        ALLOW.format('tools = ["get_ticker"]\naccounts = "granted"'),
        "accounts",
        'get_ticker needs accounts = "none"',
    ),
    "an account's tool without accounts": (
        ALLOW.format('tools = ["get_positions"]\naccounts = "none"'),
        "accounts",
        'get_positions needs accounts = "granted" or a list',
    ),
    "a missing key": (ALLOW.format('tools = ["get_ticker"]'), "accounts", "is missing; known are name"),
    "a name twice": (ALLOW.format('tools = ["get_ticker"]\naccounts = "none"') * 2, "name", "each needs its own name"),
    "an amount as a number": (THRESHOLD.format("5000"), "two_above_quote", "expected `str`, got `int`"),
    "a negative amount": (THRESHOLD.format('"-1"'), "two_above_quote", "decimal of zero or more"),
    "an amount that is none": (THRESHOLD.format('"much"'), "two_above_quote", "decimal of zero or more"),
    "an amount with its unit": (THRESHOLD.format('"5000 USDT"'), "two_above_quote", "decimal of zero or more"),
    "an unknown kind": (
        '[[threshold]]\nname = "x"\nkinds = ["gift"]\naccounts = "granted"\ntwo_above_quote = "1"',
        "kinds",
        "there is no kind 'gift'",
    ),
    "an approver who is nobody": (APPROVER.format(""), "approver", "names nobody"),
    "a price without a bound": (PRICE.format('"unlimited"'), "input_usd_per_million_tokens", "a price is a number"),
    "a price twice": (PRICE.format('"1"') * 2, "model", "has a price already"),
    "an hour that there isn't": (quiet_hours(start="24:30"), "start", 'a time such as "22:00"'),
    "an hour without minutes": (quiet_hours(end="6"), "end", 'a time such as "22:00"'),
    "no time at all": (quiet_hours(start="06:00"), "end", "can't be the start"),
    "an unknown time zone": (quiet_hours(zone="Mars/Olympus"), "time_zone", "there is no time zone"),
    "a path as a time zone": (quiet_hours(zone="../../etc/passwd"), "time_zone", "there is no time zone"),
    "quiet hours for reads": (quiet_hours(more='tools = ["get_ticker"]'), "tools", "get_ticker only reads"),
    "quiet hours for reads of a set": (quiet_hours(more='tools = ["@account_reads"]'), "tools", "only reads"),
    "what isn't CEL": (condition("principal.role =="), "when", "isn't CEL"),
    "an unknown variable": (condition("weather == 'fine'"), "when", "knows no variable 'weather'"),
    "an unknown part": (condition("principal.rol == 'x'"), "when", "knows no principal.rol; it has user_id"),
    "a part of a text": (condition("account.id == 'x'"), "when", "knows no account.id; it has no parts"),
    "a loop": (condition("arguments.notes.exists(x, x == 'y')"), "when", "knows no variable 'x'"),
    "an amount where there is none": (
        condition("amount_quote > 5.0", tools='["get_ticker"]'),
        "tools",
        "get_ticker has no amount",
    ),
    "approvals of a read": (
        condition("true", "require_two", '["get_ticker"]'),
        "tools",
        "get_ticker is never approved",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_told_with_its_line_its_key_and_the_cure(name: str) -> None:
    added, key, cure = WRONG[name]
    document = text_with(added)
    told = refused(document)
    assert told.startswith("policy.toml: line "), told
    line = int(told.split("line ")[1].split(":")[0])
    assert line >= line_with(default_document(), LAST_SECTION), told
    assert key in told
    assert cure in told


@pytest.mark.parametrize(
    ("key", "line", "cure"),
    [
        ("schema", 'schema = "veloz.policy/9"', "must be 'veloz.policy/1'"),
        ("version", 'version = "4"', "expected `int`"),
        ("version", "version = 0", "expected `int` >= 1"),
        ("queued_calls", "queued_calls = -1", "expected `int` >= 0"),
        ("tokens", 'tokens = "many"', "'many'"),
        ("money_usd", "money_usd = 5", "expected `str`"),
        ("principal", "principal = { calls_per_s = 0, burst_calls = 400 }", "expected `int` >= 1"),
        ("principal", "principal = { calls_per_minute = 5, burst_calls = 400 }", "known are calls_per_s, burst_calls"),
    ],
)
def test_a_wrong_value_is_told_with_its_line(key: str, line: str, cure: str) -> None:
    document = text_with(**{key: line})
    told = refused(document)
    assert told.startswith(f"policy.toml: line {line_with(document, line)}: "), told
    assert cure in told


def test_every_bound_must_be_named() -> None:
    document = text_with(seconds="")
    told = refused(document)
    assert told.startswith(f"policy.toml: line {line_with(document, '[budget.run]')}: ")
    assert "'budget.run.seconds': is missing; known are calls, tokens, money_usd, seconds" in told


@pytest.mark.parametrize("document", ["", "schema =", "[[allow]\n"])
def test_half_a_file_is_no_policy(document: str) -> None:
    assert refused(document).startswith("policy.toml: ")


def test_a_file_that_is_cut_off_is_never_a_policy() -> None:
    """What is lost at the end of a file that is still being written could be what denies."""
    document = text_with(condition("true"), quiet_hours())
    assert _is_whole(document)
    assert [length for length in range(0, len(document), 7) if _is_whole(document[:length])] == []
    assert not _is_whole(document[:-1])


def test_nothing_may_stand_after_the_last_section() -> None:
    told = refused(text_with() + condition("true"))
    assert f"after {LAST_SECTION}" in told


def _is_whole(document: str) -> bool:
    try:
        parse_policy(document, "policy.toml", TOOLS)
    except PolicyFileError:
        return False
    return True


@pytest.mark.parametrize(("text", "value"), [("0", "0"), ("250000", "250000"), ("0.5", "0.5"), ("unlimited", "None")])
def test_amounts_are_plain_decimals(text: str, value: str) -> None:
    assert str(parse_amount(text)) == value


@pytest.mark.parametrize("text", ["1e5", "NaN", "Infinity", "-0", "-1", "", "1,000", " 1 000", "\u0661\u0662"])
def test_other_spellings_of_amounts_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="decimal of zero or more"):
        parse_amount(text)


def test_lines_are_found_by_section_index_and_key() -> None:
    document = "a = 1\n[x]\nb = [\n 1,\n]\n[[y]]\nc = 1\n[[y]]\nc = 2\n[x.z]\nd = 1\n"
    found = [line_of(document, path) for path in [("a",), ("x", "b"), ("y", 1, "c"), ("x", "z", "d"), ("y", 0), ("q",)]]
    assert found == [1, 3, 9, 11, 6, None]
