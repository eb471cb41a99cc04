"""Depth frames as the recordings hold them, and what msgspec makes of them: the decoder's oracle."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import msgspec

from core.types.clock import NS_PER_MS
from core.types.market import DepthSnapshot, DepthUpdate
from core.venues.binance.wire import levels_of

SYMBOL = "BTCUSDT"
SPOT_SCALES = (2, 5)
USDM_SCALES = (2, 3)

RAW_FRAME = (
    b'{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":11,"u":14,'
    b'"b":[["61737.63000000","0.00000000"],["61730.17","1.5"]],"a":[["61837.64000000","1.54698000"]]}'
)
USDM_FRAME = (
    b'{"stream":"btcusdt@depth@0ms","data":{"e":"depthUpdate","E":1723161256299,"T":1723161256298,"s":"BTCUSDT",'
    b'"U":5123107832006,"u":5123107837557,"pu":5123107831937,"b":[["58710.20","0.014"],["61510.90","0.000"]],'
    b'"a":[["61800.30","2.510"],["61811.00","12"]]}}'
)
SNAPSHOT_BODY = (
    b'{"lastUpdateId":20,"E":1723161256501,"T":1723161256493,"bids":[["61800.20","2.909"],["61800.10","0.696"]],'
    b'"asks":[["61800.30","1.000"]]}'
)


class _Data(msgspec.Struct, gc=False):
    e: str
    s: str
    E: int
    U: int
    u: int
    b: list[list[object]]
    a: list[list[object]]
    pu: int | None = None


class _Combined(msgspec.Struct, gc=False):
    data: _Data


class _Snapshot(msgspec.Struct, gc=False, rename="camel"):
    last_update_id: int
    bids: list[list[object]]
    asks: list[list[object]]


_COMBINED = msgspec.json.Decoder(_Combined)
_RAW = msgspec.json.Decoder(_Data)
_SNAPSHOT = msgspec.json.Decoder(_Snapshot)


def decoded(frame: bytes, scales: tuple[int, int]) -> DepthUpdate:
    """What the frame says. Raises for bytes that are no depthUpdate."""
    try:
        data = _COMBINED.decode(frame).data
    except msgspec.ValidationError:
        data = _RAW.decode(frame)
    if data.e != "depthUpdate":
        raise ValueError(data.e)
    bids, asks = levels_of(data.b, *scales), levels_of(data.a, *scales)  # type: ignore[arg-type]
    return DepthUpdate(data.s, data.U, data.u, bids, asks, data.E * NS_PER_MS, 0, data.pu)


def decoded_snapshot(body: bytes, scales: tuple[int, int], is_complete: bool) -> DepthSnapshot:
    data = _SNAPSHOT.decode(body)
    bids, asks = levels_of(data.bids, *scales), levels_of(data.asks, *scales)  # type: ignore[arg-type]
    return DepthSnapshot(SYMBOL, data.last_update_id, bids, asks, 0, 0, is_complete)


def recorded(files: list[Path]) -> Iterator[bytes]:
    """Depth messages and snapshots, as received."""
    for file in files:
        with gzip.open(file) as lines:
            for line in lines:
                raw = line.partition(b" ")[2].rstrip()
                if b'"depthUpdate"' in raw[:160] or b'"lastUpdateId"' in raw[:160]:
                    yield raw


def is_snapshot(raw: bytes) -> bool:
    return raw.startswith(b'{"lastUpdateId"')
