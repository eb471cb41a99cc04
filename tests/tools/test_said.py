"""What a message is understood to say."""

# ruff: noqa: RUF001 (the characters are the point)

from __future__ import annotations

from decimal import Decimal

import pytest

from tests.tools.engine_double import instrument
from tools.said import every_number, fold, instruments_named, listen

ASSETS = frozenset({"btc", "eth", "near"})


def decimals(*texts: str) -> set[Decimal]:
    return {Decimal(text) for text in texts}


@pytest.mark.parametrize(
    "text",
    [
        *("70000", "70,000", "70_000", "70'000", "70 000", "70,000.00", "7e4", "7E+4", "70k", "70 K", "70 thousand"),
        *("$70000", "70000USDT", "７００００", "٧٠٠٠٠", "७००००", "seventy thousand", "Seventy-thousand", "70\u200b000"),
        *("70\u00a0000", "70\u202f000", "𝟕𝟎𝟎𝟎𝟎"),
    ],
)
def test_a_number_is_the_same_in_every_spelling(text: str) -> None:
    assert Decimal(70_000) in listen(f"at {text} please", ASSETS).numbers
    assert Decimal(70_000) in every_number(f"at {text} please")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("buy 0.5 BTC", "0.5"),
        ("buy .5 BTC", "0.5"),
        ("kaufe 0,5 BTC", "0.5"),
        ("buy half a bitcoin", "0.5"),
        ("buy half of one bitcoin", "0.5"),
        ("buy a tenth of a bitcoin", "0.1"),
        ("buy a bitcoin", "1"),
        ("buy two and a half BTC", "2.5"),
        ("buy zero point one BTC", "0.1"),
        ("buy twenty five BTC", "25"),
        ("sell a hundred ETH", "100"),
        ("buy 1.500 BTC", "1.5"),
    ],
)
def test_a_size_is_read_as_said(text: str, number: str) -> None:
    assert listen(text, ASSETS).quantities >= decimals(number)


@pytest.mark.parametrize(
    ("text", "prices", "quantities", "amounts"),
    [
        ("buy 0.1 BTC at 64000", ["64000"], ["0.1"], []),
        ("buy 0.1 BTC @ $64,000", ["64000"], ["0.1"], []),
        ("sell 2 ETH, limit price of 3000 USDT", ["3000"], ["2"], []),
        ("stop loss 60000 and take profit at 70k", ["60000", "70000"], [], []),
        ("buy bitcoin for 1000 USDT", [], [], ["1000"]),
        ("buy $500 of BTC", [], [], ["500"]),
        ("what happened in the last 7 days?", [], [], []),
        ("1.5 is what I paid", [], [], []),
    ],
)
def test_numbers_are_told_apart_by_what_stands_around_them(
    text: str, prices: list[str], quantities: list[str], amounts: list[str]
) -> None:
    said = listen(text, ASSETS)
    assert (said.prices, said.quantities, said.amounts) == (
        decimals(*prices),
        decimals(*quantities),
        decimals(*amounts),
    )


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        ("buy some", {"BUY"}),
        ("go long BTC", {"BUY"}),
        ("dump my ETH", {"SELL"}),
        ("get rid of it", {"SELL"}),
        ("sell the ETH and buy BTC", {"BUY", "SELL"}),
        ("what is the spread?", set()),
    ],
)
def test_a_side_is_read_from_its_words(text: str, sides: set[str]) -> None:
    assert listen(text, ASSETS).sides == sides


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("buy BTCUSDT", {"BTCUSDT"}),
        ("buy btc/usdt", {"BTCUSDT"}),
        ("buy BTC-USDT", {"BTCUSDT"}),
        ("buy bitcoin", {"BTCUSDT"}),
        ("buy some ether", {"ETHUSDT"}),
        ("swap my ETH for BTC", {"BTCUSDT", "ETHUSDT"}),
        ("buy ВТС", {"BTCUSDT"}),
        ("buy near the bid", set()),
        ("buy NEAR", {"NEARUSDT"}),
        ("buy it", set()),
    ],
)
def test_instruments_are_named_by_symbol_or_asset(text: str, symbols: set[str]) -> None:
    instruments = [instrument("BTCUSDT"), instrument("ETHUSDT"), instrument("NEARUSDT")]
    assert instruments_named(fold(text), instruments) == symbols


@pytest.mark.parametrize(("text", "seconds"), [("for 5 minutes", "300"), ("2h", "7200"), ("30 s", "30")])
def test_durations_are_in_seconds(text: str, seconds: str) -> None:
    assert listen(text, ASSETS).durations_s == decimals(seconds)


@pytest.mark.parametrize(("text", "rate"), [("1% below", "100"), ("10 bps off", "10"), ("0.5 percent", "50")])
def test_rates_are_in_basis_points(text: str, rate: str) -> None:
    assert listen(text, ASSETS).rates_bps == decimals(rate)


def test_an_article_is_no_number() -> None:
    assert listen("I want to buy a lot of things, an order for example", ASSETS).numbers == set()
