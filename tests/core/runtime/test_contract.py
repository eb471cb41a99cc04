"""EngineClient implements the gateway's EnginePort. Core can't import tools, so this test holds the two together."""

from __future__ import annotations

import inspect

from core.runtime.client import EngineClient
from tools.contracts import EnginePort


def test_the_client_has_every_method_of_the_port_with_the_same_parameters_and_answer() -> None:
    methods = {name: method for name, method in vars(EnginePort).items() if inspect.iscoroutinefunction(method)}
    assert len(methods) == 11
    for name, method in methods.items():
        assert inspect.signature(getattr(EngineClient, name)) == inspect.signature(method), name
