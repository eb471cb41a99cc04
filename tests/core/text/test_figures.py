"""Invariants (I9): chunking never changes what comes out; each sourced figure's path resolves to its own value and
equals the number printed; `resolve` is the inverse of `leaves`; text without its marks is the text that went in."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.text.figures import UNSOURCED_MARK, Figure, GroundingFilter, PathError, ground, leaves, resolve

BOOK = {
    "symbol": "BTCUSDT",
    "bids": [{"price": "61234.50", "quantity": "5"}, {"price": "61234.00", "quantity": "0.75"}],
    "asks": [{"price": "61235.00", "quantity": "5"}],
    "spread": "0.5",
    "spread_bps": "0.08",
    "as_of_ns": 1_763_842_991_123_456_789,
}
ESTIMATE = {"quantity": "5", "average_price": "61240.1", "slippage_bps": "0.83", "cost_quote": "25.5", "levels": 3}
RESULTS = [("c1", "get_order_book", BOOK), ("c2", "estimate_execution", ESTIMATE)]


def one(answer: str, results: list[tuple[str, str, Any]] = RESULTS) -> Figure:
    figures = ground(answer, results)
    assert len(figures) == 1, figures
    return figures[0]


@pytest.mark.parametrize(
    ("answer", "path", "value"),
    [
        ("The best bid is 61,234.5.", "$.bids[0].price", "61234.50"),
        ("bid $61234.50!", "$.bids[0].price", "61234.50"),
        ("average **61240.10**", "$.average_price", "61240.1"),
        ("slippage of 0.83 bps", "$.slippage_bps", "0.83"),
        ("slippage of 0.83bps", "$.slippage_bps", "0.83"),
        ("It would cost 25.50 USDT", "$.cost_quote", "25.5"),
        ("61.2345k on the bid", "$.bids[0].price", "61234.50"),
        ("(as of 2025-11-22T20:23:11.123456Z)", "$.as_of_ns", "1763842991123456789"),
        ("as of 20:23:11 UTC", "$.as_of_ns", "1763842991123456789"),
        ("swept 3 levels", "$.levels", "3"),
    ],
)
def test_a_figure_is_sourced_by_its_exact_value(answer: str, path: str, value: str) -> None:
    figure = one(answer)
    assert (figure.path, figure.value) == (path, value)


@pytest.mark.parametrize(
    ("answer", "path"),
    [
        ("On 2025-11-21 you made a profit.", "$.groups[0].key"),
        ("On 2025-11-22 you made a profit.", None),
        ("On 2025-11-21T10:00:00Z you made a profit.", None),
    ],
)
def test_a_calendar_day_is_sourced_by_a_cell_that_holds_it(answer: str, path: str | None) -> None:
    assert one(answer, [("c1", "get_pnl", {"groups": [{"key": "2025-11-21"}]})]).path == path


@pytest.mark.parametrize(
    "answer",
    [
        "rounded: 61240",
        "average 61240.11",
        "slippage 0.83%",
        "spread 0.5 bps",
        "cost -25.5",
        "at 2025-11-22T20:23:12Z",
        "about 61M",
        "100BTC",
        "-25.50",
    ],
)
def test_a_rounded_altered_or_wrongly_united_figure_is_unsourced(answer: str) -> None:
    figure = one(answer)
    assert figure.path is None
    assert figure.call_id is None
    assert UNSOURCED_MARK in streamed([answer])


@pytest.mark.parametrize(
    "answer",
    [
        "BTCUSDT on 1m and 5m klines over 24h",
        "1. first\n2. second\n  3) third",
        "- 1. nested",
        "suggestion 01KAXB7Z3M2N4P5Q6R7S8T9V0W by acct-1 of veloz-offline-planner/1",
        "digest 9f86d081884c7d65 and version 1.2.3",
        "client order vz12ab34",
    ],
)
def test_names_intervals_ids_and_list_numbers_are_not_figures(answer: str) -> None:
    assert ground(answer, RESULTS) == []


@pytest.mark.parametrize(
    ("answer", "call_id", "path"),
    [
        ("bid quantity 5", "c1", "$.bids[0].quantity"),
        ("5 offered at the ask", "c1", "$.asks[0].quantity"),
        ("5 is all I know", "c2", "$.quantity"),
    ],
)
def test_of_equal_cells_the_one_named_near_the_number_wins_then_the_latest_call(
    answer: str, call_id: str, path: str
) -> None:
    figure = one(answer)
    assert (figure.call_id, figure.path) == (call_id, path)


def test_of_equal_cells_the_one_of_the_symbol_that_the_line_speaks_of_wins() -> None:
    feeds = [{"symbol": symbol, "gaps": 0, "trades_missed": 0} for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT")]
    answer = "\n".join(
        f"{feed['symbol']}: the book is live and verified message by message. Since the start: gaps 0, trades missed 0."
        for feed in feeds
    )
    paths = [figure.path for figure in ground(answer, [("c1", "get_feed_health", {"feeds": feeds})])]
    assert paths == [f"$.feeds[{n}].{cell}" for n in range(3) for cell in ("gaps", "trades_missed")]


def test_a_cell_of_another_symbol_is_a_source_when_it_is_the_only_one() -> None:
    results = [("c1", "get_ticker", {"symbol": "BTCUSDT", "bid": "5"}), ("c2", "get_ticker", {"symbol": "ETHUSDT"})]
    assert one("ETHUSDT is worth a tenth of 5", results).path == "$.bid"


def test_a_range_is_two_figures_and_a_leading_minus_is_a_sign() -> None:
    results = [("c", "get_klines", {"low": "10", "high": "20", "change": "-3.5"})]
    assert [f.path for f in ground("10-20, -3.5", results)] == ["$.low", "$.high", "$.change"]


def test_an_unsourced_figure_is_marked_where_it_stands() -> None:
    assert streamed(["bid 61234.50, fair value 70,000.25 USDT."]) == (
        "bid 61234.50, fair value 70,000.25 [unsourced] USDT."
    )


def test_text_without_figures_is_let_out_word_by_word() -> None:
    grounding = GroundingFilter(RESULTS)
    assert grounding.feed("the spread is ") == "the spread is"


@pytest.mark.parametrize("path", ["$.nothing", "$.bids[9].price", "$.bids.price", "bids", "$..x", "$[0]"])
def test_a_path_that_leads_nowhere_is_an_error(path: str) -> None:
    with pytest.raises(PathError):
        resolve(BOOK, path)


def streamed(chunks: list[str]) -> str:
    grounding = GroundingFilter(RESULTS)
    return "".join(grounding.feed(chunk) for chunk in chunks) + grounding.finish()


NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**9), max_value=10**9, places=4).map(str)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)
PIECES = st.sampled_from(
    ["61,234.50", " ", "\n", "5", "bps", "%", " bps", ".", "-", "1.", "spread", "BTC", "k", ":", "2025-11-22T20:23:11Z"]  # noqa: RUF005
    + ["0.83", "0.5", "$", "(", ")", "[", "]", ",", "1m", "e", "#", "/", "M"]
) | st.text(max_size=3)


@given(st.lists(PIECES, max_size=40).map("".join), st.data())
@settings(max_examples=100, deadline=None)
def test_chunking_does_not_change_the_output(text: str, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert streamed(chunks) == streamed([text])
    assert streamed(list(text)) == streamed([text])


@given(st.lists(PIECES, max_size=40).map("".join))
@settings(max_examples=80, deadline=None)
def test_the_filter_only_ever_adds_marks_and_one_for_each_unsourced_figure(text: str) -> None:
    marked = streamed([text])
    unsourced = [figure for figure in ground(text, RESULTS) if not figure.sourced]
    assert len(marked) == len(text) + len(UNSOURCED_MARK) * len(unsourced)
    assert marked.replace(UNSOURCED_MARK, "") == text.replace(UNSOURCED_MARK, "")


@given(JSON, st.lists(NUMBERS, max_size=5))
@settings(max_examples=80, deadline=None)
def test_every_sourced_figure_resolves_to_an_equal_value(data: Any, numbers: list[str]) -> None:
    cells = [str(v) for _, v in leaves(data) if isinstance(v, str | int) and re.fullmatch(r"-?\d+(\.\d+)?", str(v))]
    answer = " and ".join(cells[:8] + numbers)
    figures = ground(answer, [("c", "t", data)])
    assert len(figures) == len(cells[:8] + numbers)
    assert all(figure.sourced for figure in figures[: len(cells[:8])])
    for figure in figures:
        if figure.path is not None:
            assert str(resolve(data, figure.path)) == figure.value
            assert Decimal(figure.value) == Decimal(figure.text)


@given(JSON)
@settings(max_examples=80, deadline=None)
def test_resolve_is_the_inverse_of_leaves(data: Any) -> None:
    paths = list(leaves(data))
    assert len({path for path, _ in paths}) == len(paths)
    for path, value in paths:
        assert resolve(data, path) is value


@pytest.mark.parametrize("text", ["1.5 million USDT", "1.5 thousand.", "5 Million", "buy@70000", "2 hundred"])
def test_a_cell_is_no_source_for_a_multiple_of_it(text: str) -> None:
    (figure,) = ground(text, [("call-1", "get_ticker", {"a": "1.5", "b": "5", "c": "2"})])
    assert not figure.sourced
    (sourced,) = ground("1.5 million", [("call-1", "get_ticker", {"volume": "1500000"})])
    assert (sourced.text, sourced.path) == ("1.5", "$.volume")
