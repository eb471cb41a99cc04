"""What an endpoint of the futures venue is: REST and the WebSocket API call the same ones."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

import msgspec

from core.venues.paper.usdm.parameters import Parameters


class Security(Enum):
    """What a caller must show: nothing, its key, or its key and a signature."""

    NONE = 0
    KEY = 1
    SIGNED = 2


Answer = dict[str, Any] | list[Any]
Handler = Callable[[Parameters], Answer]
Weight = int | Callable[[Parameters], int]
Count = int | Callable[[Parameters], int]


class Endpoint(msgspec.Struct, frozen=True):
    """`orders` is how many orders a request counts as."""

    method: str
    path: str
    security: Security
    weight: Weight
    handler: Handler
    orders: Count = 0
