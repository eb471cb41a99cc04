"""The native decoder of depth frames.

Invariants: what it takes means the same to msgspec and parse_scaled, on recordings and on any damaged frame; what it
doesn't take raises FrameError with the byte where the fault lies; the order of fields, spaces and escapes don't matter.
"""

from __future__ import annotations

import json
import re
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import _native
from core._native import DepthDecoder, DepthFrame, FrameError
from core.types.market import DepthUpdate
from tests.core.native.frames import (
    RAW_FRAME,
    SNAPSHOT_BODY,
    SPOT_SCALES,
    SYMBOL,
    USDM_FRAME,
    USDM_SCALES,
    decoded,
    decoded_snapshot,
)

NOW_NS = 77


def decoder(scales: tuple[int, int] = SPOT_SCALES) -> DepthDecoder:
    made = DepthDecoder()
    made.add(SYMBOL, *scales)
    return made


def told(frame: DepthFrame | None) -> DepthUpdate | None:
    """Everything that a frame says, its own time aside."""
    if frame is None:
        return None
    assert frame.level_count == len(frame.bids) + len(frame.asks)
    return DepthUpdate(
        frame.symbol,
        frame.first_update_id,
        frame.last_update_id,
        frame.bids,
        frame.asks,
        frame.ts_event_ns,
        0,
        frame.previous_update_id,
    )


def test_a_raw_spot_frame_is_read() -> None:
    frame = decoder().decode(RAW_FRAME, NOW_NS)
    assert frame is not None
    assert (frame.symbol, frame.first_update_id, frame.last_update_id) == (SYMBOL, 11, 14)
    assert (frame.previous_update_id, frame.ts_event_ns, frame.ts_init_ns) == (None, 1723161255208 * 10**6, NOW_NS)
    assert frame.bids == ((6173763, 0), (6173017, 150000))
    assert frame.asks == ((6183764, 154698),)
    assert frame.level_count == 3


def test_a_combined_futures_frame_is_read() -> None:
    frame = decoder(USDM_SCALES).decode(USDM_FRAME, NOW_NS)
    assert frame is not None
    assert (frame.first_update_id, frame.last_update_id) == (5123107832006, 5123107837557)
    assert (frame.previous_update_id, frame.ts_event_ns) == (5123107831937, 1723161256299 * 10**6)
    assert frame.bids == ((5871020, 14), (6151090, 0))
    assert frame.asks == ((6180030, 2510), (6181100, 12000))


@pytest.mark.parametrize(("limit", "is_complete"), [(1, False), (2, False), (3, True)])
def test_a_snapshot_is_complete_when_both_sides_are_shorter_than_what_was_asked_for(
    limit: int, is_complete: bool
) -> None:
    frame = decoder(USDM_SCALES).decode_snapshot(SNAPSHOT_BODY, SYMBOL, limit, NOW_NS)
    assert frame.is_complete is is_complete
    assert (frame.symbol, frame.last_update_id, frame.level_count) == (SYMBOL, 20, 3)
    assert (frame.ts_event_ns, frame.ts_init_ns) == (1723161256501 * 10**6, NOW_NS)
    assert frame.bids == ((6180020, 2909), (6180010, 696))
    assert frame.asks == ((6180030, 1000),)


def test_a_snapshot_without_a_time_has_the_time_of_its_arrival() -> None:
    frame = decoder().decode_snapshot(b'{"lastUpdateId":1,"bids":[],"asks":[]}', SYMBOL, 5, NOW_NS)
    assert (frame.ts_event_ns, frame.bids, frame.asks, frame.is_complete) == (NOW_NS, (), (), True)


def test_a_snapshot_of_another_symbol_is_refused_by_name() -> None:
    body = b'{"lastUpdateId":1,"symbol":"ETHUSD_PERP","pair":"ETHUSD","bids":[],"asks":[]}'
    with pytest.raises(FrameError, match="the snapshot is of 'ETHUSD_PERP', not of BTCUSDT at byte 27"):
        decoder().decode_snapshot(body, SYMBOL, 5, NOW_NS)
    with pytest.raises(ValueError, match="'ETHUSD_PERP' was not added"):
        decoder().decode_snapshot(body, "ETHUSD_PERP", 5, NOW_NS)
    with pytest.raises(ValueError, match="limit_levels"):
        decoder().decode_snapshot(SNAPSHOT_BODY, SYMBOL, 0, NOW_NS)


def test_a_symbol_that_was_not_added_is_none_and_may_be_added_and_removed() -> None:
    made = DepthDecoder()
    assert made.decode(RAW_FRAME, NOW_NS) is None
    made.add("ETHUSDT", 2, 4)
    made.add(SYMBOL, 8, 8)
    made.add(SYMBOL, *SPOT_SCALES)
    assert told(made.decode(RAW_FRAME, NOW_NS)) == decoded(RAW_FRAME, SPOT_SCALES)
    made.remove(SYMBOL)
    made.remove(SYMBOL)
    assert made.decode(RAW_FRAME, NOW_NS) is None
    with pytest.raises(FrameError):
        made.decode(RAW_FRAME[:-3], NOW_NS)
    for scale in (-1, 19):
        with pytest.raises(ValueError, match="a scale must be 0 to 18"):
            made.add(SYMBOL, scale, 2)


def test_symbols_beyond_ascii_are_known_by_their_name() -> None:
    made = DepthDecoder()
    made.add("币安人生USDT", 2, 5)
    for ensure_ascii in (True, False):
        frame = made.decode(
            json.dumps({**json.loads(RAW_FRAME), "s": "币安人生USDT"}, ensure_ascii=ensure_ascii).encode(), 0
        )
        assert frame is not None
        assert frame.symbol == "币安人生USDT"


SAME_MESSAGE = {
    "spaces everywhere": json.dumps(json.loads(RAW_FRAME), indent=2).encode() + b"\r\n\t ",
    "symbol last": json.dumps(dict(reversed(json.loads(RAW_FRAME).items()))).encode(),
    "combined": b'{"stream":"x","data":' + RAW_FRAME + b"}",
    "combined the other way round": b'{"data":' + RAW_FRAME + b',"stream":"x"}',
    "unknown fields": RAW_FRAME[:-1]
    + rb',"x":{"b":[[[]],{"u":1}],"n":-1.5e+7,"t":true,"f":false,"z":null},"":"\u00e9\\\"","y":[]}',
    "escaped key": RAW_FRAME.replace(b'"U"', rb'"\u0055"'),
    "escaped price": RAW_FRAME.replace(b"61730.17", rb"6173\u0030.17"),
    "escaped symbol": RAW_FRAME.replace(b"BTCUSDT", rb"\u0042TCUSDT"),
    "further elements of a level": RAW_FRAME.replace(b'"1.5"]', b'"1.5",[],{"a":[1]}, null]'),
}


@pytest.mark.parametrize("frame", SAME_MESSAGE.values(), ids=SAME_MESSAGE)
def test_another_spelling_of_the_same_message_means_the_same(frame: bytes) -> None:
    assert told(decoder().decode(frame, NOW_NS)) == decoded(RAW_FRAME, SPOT_SCALES)


def with_levels(bids: str) -> bytes:
    return f'{{"e":"depthUpdate","E":1,"s":"{SYMBOL}","U":1,"u":1,"b":{bids},"a":[]}}'.encode()


BIDS_START = len(with_levels("").partition(b'"b":')[0]) + 4
REFUSED = {
    "nothing": (b"", "ends where", 0),
    "only white space": (b"  \n", "ends where", 3),
    "no JSON": (b"hello", "found 'h'", 0),
    "an array": (b"[]", r"found '\['", 0),
    "half a frame": (RAW_FRAME[:100], "ends where", 100),
    "one byte short": (RAW_FRAME[:-1], "ends where", len(RAW_FRAME) - 1),
    "two frames": (RAW_FRAME + RAW_FRAME, "follows the end", len(RAW_FRAME)),
    "a byte order mark": (b"\xef\xbb\xbf" + RAW_FRAME, "found byte 239", 0),
    "another event": (RAW_FRAME.replace(b"depthUpdate", b"trade"), "e is 'trade'", 5),
    "no event": (RAW_FRAME.replace(b'"e":"depthUpdate",', b""), "the field e is missing", None),
    "no event time": (RAW_FRAME.replace(b'"E":1723161255208,', b""), "the field E is missing", None),
    "no symbol": (RAW_FRAME.replace(b'"s":"BTCUSDT",', b""), "the field s is missing", None),
    "no first id": (RAW_FRAME.replace(b'"U":11,', b""), "the field U is missing", None),
    "no last id": (RAW_FRAME.replace(b'"u":14,', b""), "the field u is missing", None),
    "no bids": (with_levels("[]").replace(b'"b":[],', b""), "the field b is missing", None),
    "no asks": (with_levels("[]").replace(b',"a":[]', b""), "the field a is missing", None),
    "first id above last": (RAW_FRAME.replace(b'"U":11', b'"U":15'), "U is above", None),
    "negative id": (RAW_FRAME.replace(b'"U":11', b'"U":-1'), "first update id U, found '-'", b'"U":'),
    "id as text": (RAW_FRAME.replace(b'"U":11', b'"U":"11"'), "first update id U, found '\"'", b'"U":'),
    "broken id": (RAW_FRAME.replace(b'"U":11', b'"U":11.0'), "U is not whole", b'"U":'),
    "id with a leading zero": (RAW_FRAME.replace(b'"U":11', b'"U":011'), "U has a leading zero", b'"U":'),
    "id beyond 63 bits": (RAW_FRAME.replace(b'"u":14', b'"u":9223372036854775808'), "63 bits", b'"u":'),
    "time too far": (RAW_FRAME.replace(b"1723161255208", b"9223372036855"), "too far in the future", b'"E":'),
    "previous id null": (USDM_FRAME.replace(b"5123107831937", b"null"), "previous update id pu", None),
    "id twice": (RAW_FRAME.replace(b'"u":14', b'"u":14,"u":14'), "the field u stands twice", None),
    "bids twice": (RAW_FRAME.replace(b'"a":', b'"b":[],"a":'), "the field b stands twice", None),
    "data twice": (b'{"data":' + RAW_FRAME + b',"data":' + RAW_FRAME + b"}", "data stands twice", None),
    "data and fields": (b'{"data":' + RAW_FRAME + b"," + RAW_FRAME[1:], "beside 'data'", None),
    "data of another type": (b'{"data":[]}', r"the data's '\{'", 8),
    "control character": (RAW_FRAME.replace(b"BTC", b"BT\n"), "control character", 44),
    "not UTF-8": (RAW_FRAME.replace(b"BTC", b"BT\xff"), "not UTF-8", 44),
    "overlong UTF-8": (RAW_FRAME.replace(b"BTC", b"B\xc0\xaf"), "not UTF-8", 43),
    "half a surrogate": (RAW_FRAME.replace(b"BTC", rb"B\ud800"), "surrogate", 43),
    "unknown escape": (RAW_FRAME.replace(b"BTC", rb"B\x41"), "escape", 43),
    "nested too deep": (RAW_FRAME[:-1] + b',"x":' + b"[" * 40 + b"]" * 40 + b"}", "32 deep", None),
    "a word": (RAW_FRAME[:-1] + b',"x":nan}', "a value", None),
    "a number that is none": (RAW_FRAME[:-1] + b',"x":01}', "',' or '}'", None),
    "minus alone": (RAW_FRAME[:-1] + b',"x":-}', "a digit", None),
    "comma at the end": (RAW_FRAME[:-1] + b",}", "a key", None),
    **{
        f"level {levels}": (with_levels(levels), words, BIDS_START + at)
        for levels, words, at in (
            ("null", "a side's", 0),
            ("{}", "a side's", 0),
            ('[["1","1"],]', "a level's", 11),
            ('[["1","1"] ["1","1"]]', "',' or '\\]'", 11),
            ('["1","1"]', "a level's", 1),
            ("[[]]", "a price and a quantity", 1),
            ('[["1"]]', "a price and a quantity", 1),
            ("[[1,1]]", "a price, found '1'", 2),
            ('[["1",1]]', "a quantity, found '1'", 6),
            ('[["-1","1"]]', "a price '-1'.*plain decimal", 2),
            ('[["+1","1"]]', "plain decimal", 2),
            ('[["","1"]]', "plain decimal", 2),
            ('[["1.","1"]]', "plain decimal", 2),
            ('[[".5","1"]]', "plain decimal", 2),
            ('[["1e5","1"]]', "plain decimal", 2),
            ('[["NaN","1"]]', "a price 'NaN' at scale 2", 2),
            ('[["Infinity","1"]]', "plain decimal", 2),
            ('[["1 ","1"]]', "plain decimal", 2),
            ('[["1,5","1"]]', "plain decimal", 2),
            ('[["0","1"]]', "a price is zero", 2),
            ('[["0.00","1"]]', "a price is zero", 2),
            ('[["1.001","1"]]', "more decimal places", 2),
            ('[["1.000000001","1"]]', "more decimal places", 2),
            ('[["92233720368547758.08","1"]]', "63 bits", 2),
            ('[["99999999999999999999999","1"]]', "63 bits", 2),
            ('[["1","-1"]]', "a quantity '-1'", 6),
            ('[["1","1.00000x"]]', "plain decimal", 6),
            ('[["1","NaN"]]', "a quantity 'NaN'", 6),
            ('[["1","92233720368547.75808"]]', "63 bits", 6),
        )
    },
}


# Those that can stand within a longer frame, where there is room to read ahead.
EMBEDDABLE = {
    name: refused
    for name, refused in REFUSED.items()
    if refused[0].startswith(b"{")
    and refused[0].endswith(b"}")
    and b'"data"' not in refused[0]
    and name != "two frames"
}


@pytest.mark.parametrize(("frame", "words", "at"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_depth_message_is_refused_with_its_place(frame: bytes, words: str, at: int | bytes | None) -> None:
    assert_refused(frame, words, frame.index(at) + len(at) if isinstance(at, bytes) else at)


@pytest.mark.parametrize(("frame", "words", "at"), EMBEDDABLE.values(), ids=EMBEDDABLE)
def test_it_is_refused_within_a_longer_frame_too(frame: bytes, words: str, at: int | bytes | None) -> None:
    head, tail = b'{"head":"' + b"x" * 200 + b'","data":', b',"tail":"' + b"x" * 200 + b'"}'
    at = frame.index(at) + len(at) if isinstance(at, bytes) else at
    assert_refused(head + frame + tail, words, None if at is None else at + len(head))


def assert_refused(frame: bytes, words: str, at: int | None) -> None:
    with pytest.raises(FrameError, match=words) as caught:
        decoder().decode(frame, NOW_NS)
    stated = re.search(r" at byte (\d+)$", str(caught.value))
    assert stated is not None
    assert at is None or int(stated.group(1)) == at


@pytest.mark.parametrize(("bids", "expected"), [
    ('[["1","0.000009"]]', ((100, 0),)),
    ('[["1","25.426189999"]]', ((100, 2542618),)),
    ('[["1.00000000000000","1.00000000000000000001"]]', ((100, 100000),)),
    ('[["007.5","00.10"]]', ((750, 10000),)),
    ('[["92233720368547758.07","92233720368547.75807"]]', ((2**63 - 1, 2**63 - 1),)),
    ('[["12345678","123456789.5"],["123456789.01","1234567890123"]]',
     ((1234567800, 12345678950000), (12345678901, 123456789012300000))),
    ("[ ]", ()),
])  # fmt: skip
@pytest.mark.parametrize("tail", ["", " " * 200], ids=["short", "far from the end"])
def test_numbers_are_exact_and_quantities_lose_what_lies_below_their_scale(
    bids: str, tail: str, expected: tuple[tuple[int, int], ...]
) -> None:
    frame = decoder().decode(with_levels(bids) + tail.encode(), NOW_NS)
    assert frame is not None
    assert frame.bids == expected


@given(
    st.lists(
        st.tuples(st.text("0123456789", max_size=14), st.text("0123456789", max_size=12), st.booleans()), max_size=6
    ),
    st.integers(0, 18),
    st.integers(0, 18),
    st.sampled_from([b"", b" " * 100]),
)
@settings(max_examples=400, deadline=None)
def test_any_decimals_are_read_as_parse_scaled_reads_them_or_refused(
    numbers: list[tuple[str, str, bool]], price_scale: int, quantity_scale: int, tail: bytes
) -> None:
    texts = [f"{whole}.{fraction}" if dotted else whole + fraction for whole, fraction, dotted in numbers]
    frame = with_levels(json.dumps([[text, text] for text in texts])) + tail
    scales = (price_scale, quantity_scale)
    for compact in (frame, frame.replace(b", ", b",")):
        assert_stricter(decoder(scales), compact, scales)


def assert_stricter(made: DepthDecoder, frame: bytes, scales: tuple[int, int]) -> bool:
    """Whether the frame was taken; then it means to the oracle what it means here."""
    try:
        taken = made.decode(frame, NOW_NS)
    except FrameError:
        return False
    if taken is None:
        message = msgspec.json.decode(frame)
        assert message.get("data", message)["s"] != SYMBOL
    else:
        assert told(taken) == decoded(frame, scales)
    return True


TOKENS = (
    b'"', b"[", b"]", b"{", b"}", b",", b":", b".", b"-", b"0", b"1", b"9" * 20, b"e5", b"null", b"true", b"\\",
    b"\\u0041", b"\xff", b"\xe5\xb8\x81", b'"b":', b'"u":1,', b'["1","1"],', b" ", b"\n", b"\x00", b'"data":', b"NaN",
)  # fmt: skip


def mutated(random: Random, frame: bytes) -> bytes:
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        at, width = random.randrange(len(frame) + 1), random.choice((1, 1, 2, 5, 20))
        match random.randrange(6):
            case 0:
                frame = frame[:at] + frame[at + width :]
            case 1:
                frame = frame[:at] + random.choice(TOKENS) + frame[at:]
            case 2:
                frame = frame[:at] + random.choice(TOKENS) + frame[at + width :]
            case 3:
                frame = frame[:at] + bytes([random.randrange(256)]) + frame[at + 1 :]
            case 4:
                frame = frame[:at] + frame[at : at + width] * 2 + frame[at + width :]
            case _:
                frame = frame[:at]
    return frame


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_frame_is_refused_or_means_the_same_to_the_oracle(seed: int) -> None:
    random = Random(seed)
    frames = [(decoder(), RAW_FRAME, SPOT_SCALES), (decoder(USDM_SCALES), USDM_FRAME, USDM_SCALES)]
    frames += [(decoder(), frame, SPOT_SCALES) for frame in SAME_MESSAGE.values()]
    taken = 0
    for number in range(5_000):
        made, frame, scales = random.choice(frames)
        damaged = mutated(random, frame)
        try:
            taken += assert_stricter(made, damaged, scales)
        except Exception as error:
            raise AssertionError(f"seed {seed}, number {number}: {damaged!r}") from error
    assert 50 < taken < 4_000, "the damage is too small or too great to prove anything"


@pytest.mark.parametrize("seed", range(2))
def test_a_damaged_snapshot_is_refused_or_means_the_same_to_the_oracle(seed: int) -> None:
    random = Random(seed)
    made = decoder(USDM_SCALES)
    taken = 0
    for number in range(4_000):
        damaged = mutated(random, SNAPSHOT_BODY)
        try:
            frame = made.decode_snapshot(damaged, SYMBOL, 3, NOW_NS)
        except FrameError:
            continue
        taken += 1
        said = decoded_snapshot(damaged, USDM_SCALES, True)
        assert (frame.last_update_id, frame.bids, frame.asks) == (said.last_update_id, said.bids, said.asks), (
            f"seed {seed}, number {number}: {damaged!r}"
        )
    assert 50 < taken < 3_500, "the damage is too small or too great to prove anything"


def test_a_frame_has_a_greatest_length_and_a_greatest_number_of_levels() -> None:
    with pytest.raises(FrameError, match=f"more than {_native.MAX_FRAME_BYTES} bytes"):
        decoder().decode(RAW_FRAME + b" " * _native.MAX_FRAME_BYTES, NOW_NS)
    levels = ",".join(['["1","1"]'] * _native.MAX_FRAME_LEVELS)
    frame = decoder().decode(with_levels(f"[{levels}]"), NOW_NS)
    assert frame is not None
    assert frame.level_count == _native.MAX_FRAME_LEVELS
    with pytest.raises(FrameError, match=f"more than {_native.MAX_FRAME_LEVELS} levels"):
        decoder().decode(with_levels(f'[{levels},["1","1"]]'), NOW_NS)


@pytest.mark.parametrize("frame", ["text", None, 5, bytearray(b"{}")])
def test_only_bytes_are_decoded(frame: object) -> None:
    with pytest.raises(TypeError):
        decoder().decode(frame, NOW_NS)  # type: ignore[arg-type]
