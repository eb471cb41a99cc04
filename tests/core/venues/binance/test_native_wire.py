"""Orders as frames and their acknowledgements, natively, against the same in Python and against the library's own
parser.

Invariants: a plain limit order's frame holds to the byte what the Python way would send, and whatever isn't plain is
left to that way; what is read as an acknowledgement is what Python reads of the same bytes; what isn't one comes out as
it came, however the bytes were cut.
"""

from __future__ import annotations

from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, OPEN, SERVER, Protocol

from core._native import Answers, OrderRequests
from core.types.orders import OrderIntent, OrderType, Side, TimeInForce
from core.venues.binance import ws_orders
from core.venues.binance.signing import Credential, signed_parameters
from core.venues.binance.wire_orders import NewOrderAck, spot_parameters, usdm_parameters

METHOD, API_KEY, WINDOW_MS = "order.place", "k" * 64, 5_000
CREDENTIAL = Credential("venue-test", API_KEY, "s" * 64)
HEAD = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n"
PLAIN = OrderIntent(
    "acct", "paper", "BTCUSDT", Side.BUY, OrderType.LIMIT, TimeInForce.GTC, 150_000, 6_000_050, 2, 5, "vz" + "0" * 34
)
LARGEST = 2**63 - 1
amounts = st.one_of(st.integers(0, 10**6), st.integers(0, LARGEST), st.integers(0, 18).map(lambda power: 10**power))
intents = st.builds(
    lambda **changes: msgspec.structs.replace(PLAIN, **changes),
    side=st.sampled_from(Side),
    time_in_force=st.sampled_from((TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK)),
    quantity=amounts,
    price=amounts,
    quantity_scale=st.integers(0, 18),
    price_scale=st.integers(0, 18),
    symbol=st.sampled_from(("BTCUSDT", "1000SATSUSDT", "A_B-C.D")),
    client_order_id=st.text("abcXYZ019_-.", min_size=1, max_size=36),
)


def payload_of(frame: bytes) -> bytes:
    """As the venue's own library reads it; it refuses what isn't masked."""
    server = Protocol(SERVER, state=OPEN)
    server.receive_data(frame)
    (event,) = server.events_received()
    assert isinstance(event, Frame)
    assert (event.opcode, event.fin) == (Opcode.TEXT, True)
    return bytes(event.data)


def in_python(intent: OrderIntent, request_id: int, now_ms: int, *, has_session: bool) -> bytes:
    timed: dict[str, str | int] = {**spot_parameters(intent), "recvWindow": WINDOW_MS, "timestamp": now_ms}
    params = timed if has_session else signed_parameters(CREDENTIAL, timed)
    return msgspec.json.encode({"id": str(request_id), "method": METHOD, "params": params})


@settings(max_examples=300, deadline=None)
@given(
    orders=st.lists(intents, min_size=1, max_size=4, unique_by=lambda order: order.client_order_id),
    first_id=st.integers(0, 2**63),
    now_ms=st.integers(0, 10**14),
)
@pytest.mark.parametrize("has_session", [False, True])
def test_a_plain_orders_frame_is_what_python_would_send(
    orders: list[OrderIntent], first_id: int, now_ms: int, has_session: bool
) -> None:
    requests = OrderRequests(METHOD, API_KEY, WINDOW_MS)
    frames = requests.frames(orders, first_id, now_ms, None if has_session else CREDENTIAL.signer.sign)
    assert len(frames) == len({order.client_order_id for order in orders})
    for number, order in enumerate(orders, first_id):
        request_id, frame = frames[order.client_order_id]
        assert request_id == str(number)
        assert payload_of(frame) == in_python(order, number, now_ms, has_session=has_session)
        assert usdm_parameters(order) == spot_parameters(order), "one frame for both products"


@pytest.mark.parametrize(
    "changes",
    [
        {"order_type": OrderType.MARKET, "price": None},
        {"order_type": OrderType.STOP_LIMIT, "stop_price": 1},
        {"time_in_force": TimeInForce.GTD, "expires_ns": 1},
        {"post_only": True},
        {"reduce_only": True},
        {"price": None},
        {"price": LARGEST + 1},
        {"quantity": -1},
        {"price_scale": 19},
        {"quantity_scale": -1},
        {"symbol": 'BTC"USDT'},
        {"symbol": "BTC\u20acUSDT"},
        {"client_order_id": "a&b"},
        {"client_order_id": ""},
    ],
    ids=lambda changes: "-".join(f"{name}={value!a}" for name, value in changes.items()),
)
def test_what_isnt_plain_is_left_to_python(changes: dict[str, object]) -> None:
    odd = msgspec.structs.replace(PLAIN, **changes)
    plain = msgspec.structs.replace(PLAIN, client_order_id="vz-plain")
    frames = OrderRequests(METHOD, API_KEY, WINDOW_MS).frames([odd, plain], 1, 1, None)
    assert list(frames) == ["vz-plain"]
    request_id, frame = frames["vz-plain"]
    assert request_id == "2"
    assert payload_of(frame) == in_python(plain, 2, 1, has_session=True)


def test_a_key_that_would_need_escapes_makes_nothing_plain_and_a_failed_signature_is_told() -> None:
    assert OrderRequests(METHOD, 'a"b', WINDOW_MS).frames([PLAIN], 1, 1, None) == {}

    def fails(_payload: str) -> str:
        raise RuntimeError("planted")

    with pytest.raises(RuntimeError, match="planted"):
        OrderRequests(METHOD, API_KEY, WINDOW_MS).frames([PLAIN], 1, 1, fails)


def test_no_two_frames_have_the_same_mask() -> None:
    """Of 4,000 random masks of 32 bits some three pairs in a thousand runs' would be equal; blocks are refilled."""
    orders = [msgspec.structs.replace(PLAIN, client_order_id=f"vz{number}") for number in range(100)]
    frames = OrderRequests(METHOD, API_KEY, WINDOW_MS).frames(orders, 1, 1, None)
    masks = {frame[4:8] for _, frame in frames.values()}
    assert len(masks) >= 99


def ack(number: int, **changes: object) -> bytes:
    result = {"symbol": "BTCUSDT", "orderId": 7, "clientOrderId": "vz1", "transactTime": 1}
    limits = [
        {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100, "count": 3},
        {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6_000, "count": 4},
    ]
    whole = {"id": str(number), "status": 200, "result": result, "rateLimits": limits} | changes
    return msgspec.json.encode({name: value for name, value in whole.items() if value is not ...})


def framed(payload: bytes, opcode: Opcode = Opcode.TEXT, *, fin: bool = True) -> bytes:
    return Frame(opcode, payload, fin).serialize(mask=False)


def fed(data: bytes, cuts: Random | None = None) -> tuple[list[ws_orders.Acknowledged], bytes]:
    """What comes out of a connection on which these bytes come; cuts: in pieces."""
    answers, taken, rest = Answers(), [], b""
    data = HEAD + data
    while data:
        size = len(data) if cuts is None else cuts.randint(1, 60)
        some, more = answers.feed(data[:size])
        taken += some
        rest += more
        data = data[size:]
    assert rest.startswith(HEAD)
    return taken, rest.removeprefix(HEAD)


COUNTS = {("ORDERS", 10): 3, ("REQUEST_WEIGHT", 60): 4}


def test_acknowledgements_are_taken_out_and_all_else_is_handed_on_as_it_came() -> None:
    others = [
        framed(b"late", Opcode.PONG),
        framed(ack(1, status=400, error={"code": -2010, "msg": "no"}, result=...)),
        framed(ack(3)[:20], fin=False),
        framed(b"", Opcode.PING),
        framed(ack(3)[20:], Opcode.CONT),
        framed(b"not json"),
        framed(b"\x03\xe8", Opcode.CLOSE),
    ]
    data = framed(ack(5)) + b"".join(others[:4]) + others[4] + framed(ack(6)) + b"".join(others[5:]) + framed(ack(7))
    for cuts in (None, Random(1), Random(2)):
        taken, rest = fed(data, cuts)
        assert taken == [(str(number), 7, "BTCUSDT", "vz1", COUNTS) for number in (5, 6, 7)]
        assert rest == b"".join(others)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(framed(ack(1, id=1)), id="id is a number"),
        pytest.param(framed(ack(1, id="call-1")), id="id isn't of digits"),
        pytest.param(framed(ack(1, id="")), id="id is empty"),
        pytest.param(framed(ack(1, id=...)), id="no id"),
        pytest.param(framed(ack(1, status=201)), id="another status"),
        pytest.param(framed(ack(1, status=...)), id="no status"),
        pytest.param(framed(ack(1, error=None)), id="an error"),
        pytest.param(framed(ack(1, result={"symbol": "BTCUSDT"})), id="no order id"),
        pytest.param(framed(ack(1, result={"orderId": -7})), id="negative order id"),
        pytest.param(framed(ack(1, result={"orderId": 2**63})), id="order id beyond 63 bits"),
        pytest.param(framed(ack(1, result=[7])), id="result is a list"),
        pytest.param(
            framed(ack(1, rateLimits=[{"rateLimitType": "ORDERS", "interval": "DAY", "intervalNum": 1, "limit": 1}])),
            id="a count is missing",
        ),
        pytest.param(
            framed(ack(1, rateLimits=[{"rateLimitType": 1, "interval": "DAY", "intervalNum": 1, "count": 1}])),
            id="a kind is no text",
        ),
        pytest.param(framed(ack(1)[:-1] + b',"id":"2"}'), id="two ids"),
        pytest.param(framed(ack(1) + b"{}"), id="something behind it"),
        pytest.param(framed(ack(1)[:-1]), id="cut short"),
        pytest.param(framed(ack(1), Opcode.BINARY), id="binary"),
        pytest.param(framed(ack(1, more="x" * 70_000)) + framed(ack(2)), id="too long"),
        pytest.param(Frame(Opcode.TEXT, ack(1)).serialize(mask=True) + framed(ack(2)), id="masked"),
        pytest.param(b"\xc1" + framed(ack(1))[1:] + framed(ack(2)), id="reserved bit"),
    ],
)
def test_what_isnt_plainly_an_acknowledgement_is_for_the_library_and_python(data: bytes) -> None:
    """The last three are none of a venue's frames: from there on the library has everything."""
    assert fed(data) == ([], data)


def test_a_handshake_that_fails_is_the_librarys_alone() -> None:
    data = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 200\r\n\r\n" + framed(ack(1))
    assert Answers().feed(data) == ([], data)


def in_python_too(data: bytes) -> list[ws_orders.Acknowledged]:
    """Acknowledgements among the messages that the library makes of the bytes, as Python reads them."""
    client = Protocol(CLIENT, state=OPEN, max_size=2**20)
    client.receive_data(data)
    found: list[ws_orders.Acknowledged] = []
    for event in client.events_received():
        assert isinstance(event, Frame)
        if event.opcode is not Opcode.TEXT or not event.fin:
            continue
        try:
            reply = ws_orders._REPLY.decode(event.data)
            body = msgspec.json.decode(reply.result, type=NewOrderAck)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            continue
        if isinstance(reply.id, str) and reply.status == ws_orders.SUCCESS and reply.error is None:
            counts = ws_orders._counts_of(reply)
            found.append((reply.id, body.order_id, body.symbol, body.client_order_id, counts))
    return found


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_damaged_answers_are_read_as_python_reads_them_or_left_to_it(seed: int) -> None:
    random = Random(seed)
    frames = []
    for number in range(random.randint(1, 6)):
        payload = bytearray(ack(number, result={"orderId": number, "symbol": "B\u20ac", "clientOrderId": 'q"\\'}))
        for _ in range(random.choice((0, 1, 1, 2))):
            at = random.randrange(len(payload))
            payload[at : at + random.randint(0, 2)] = random.choice((b"", b'"', b"9", b"{", b"\xff", b",", b"e1", b"0"))
        frames.append(framed(bytes(payload)))
    taken, rest = fed(b"".join(frames), random)
    expected = in_python_too(b"".join(frames))
    assert [answer for answer in expected if answer in taken] == taken
    assert rest == b"".join(frame for frame in frames if not fed(frame)[0])
