"""EngineClient implements the gateway's engine ports. Core can't import tools, so this test holds them together."""

from __future__ import annotations

import inspect

from core.runtime.client import EngineClient
from tools.approvals import ExecutionPort
from tools.ports import EngineReads


def test_the_client_has_every_method_of_the_ports_with_the_same_parameters_and_answer() -> None:
    ports = vars(EngineReads) | vars(ExecutionPort)
    methods = {name: method for name, method in ports.items() if inspect.iscoroutinefunction(method)}
    assert len(methods) == 20
    for name, method in methods.items():
        assert inspect.signature(getattr(EngineClient, name)) == inspect.signature(method), name
