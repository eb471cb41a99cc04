"""The gateway for what runs on for a while: each call is made with what its principal may do at that moment."""

from __future__ import annotations

import msgspec

from api.auth.users import CurrentUsers
from core.types.codes import RefusalError
from tools.contracts import Gateway, Principal, ToolCall, ToolDescription, ToolResult


class TodaysGateway:
    """Implements tools.contracts.Gateway. A run of the copilot outlives a grant that is taken away meanwhile."""

    def __init__(self, gateway: Gateway, users: CurrentUsers) -> None:
        self._gateway = gateway
        self._users = users

    def describe(self, principal: Principal) -> list[ToolDescription]:
        """See Gateway."""
        return self._gateway.describe(principal)

    async def call(self, call: ToolCall) -> ToolResult:
        """See Gateway."""
        try:
            principal = await self._users.as_of_now(call.principal)
        except RefusalError:
            # Nothing is granted while nobody can say what is; the gateway refuses, and records it where it can.
            principal = msgspec.structs.replace(call.principal, account_ids=())
        return await self._gateway.call(msgspec.structs.replace(call, principal=principal))
