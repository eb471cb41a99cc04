"""What a command printed, where the service that it asks runs in the same process and logs to the same stream."""

from __future__ import annotations

import json
from typing import Any


def told(output: str) -> Any:
    """The last JSON document; a log line may come after it, and on the same line before its end was written."""
    for line in reversed(output.splitlines()):
        if line.startswith(("{", "[")):
            return json.JSONDecoder().raw_decode(line)[0]
    raise AssertionError(f"no JSON in {output!r}")
