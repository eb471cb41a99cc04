"""The policy in force over REST."""

from __future__ import annotations

import pytest

from tests.api.house import House
from tools.policy import default_document, default_policy


@pytest.mark.parametrize(("username", "sees_document"), [("trader", False), ("approver", False), ("compliance", True)])
async def test_everyone_sees_which_policy_is_in_force_and_compliance_reads_it(
    house: House, username: str, sees_document: bool
) -> None:
    answer = await house.api.http.get("/api/v1/policy", headers=await house.api.as_(username))
    shown = answer.json()
    assert (shown["version"], shown["digest"]) == (default_policy().version, default_policy().digest_hex)
    assert (shown["source"], shown["problem"]) == ("default_policy.toml", None)
    assert shown.get("document") == (default_document() if sees_document else None)


async def test_nobody_sees_it_without_a_token(house: House) -> None:
    assert (await house.api.http.get("/api/v1/policy")).status_code == 401
