"""The simulation finds bugs: each of these is planted, and some seed catches it by the invariant it breaks."""

from __future__ import annotations

import pytest

from tests.simulation.planted import BUGS, Bug
from tests.simulation.world import simulate

SEEDS_LIMIT = 120


@pytest.mark.timeout(600)
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught(bug: Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    bug.plant(monkeypatch)
    for seed in range(bug.first_seed, bug.first_seed + SEEDS_LIMIT):
        outcome = simulate(seed)
        if outcome.broken is not None:
            assert outcome.broken.invariant in bug.caught_by, outcome.message()
            assert f"make simulate SEEDS=1 SEED={seed}" in outcome.message()
            return
    pytest.fail(f"none of {SEEDS_LIMIT} seeds from {bug.first_seed} on catches it")
