"""The running api, once for a module of tests."""

from __future__ import annotations

import pytest

from tests.api.house import embedded_nats, house_of_its_own

nats = pytest.fixture(scope="module")(embedded_nats)
house = pytest.fixture(scope="module")(house_of_its_own)
