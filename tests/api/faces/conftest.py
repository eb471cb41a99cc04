"""One running api for all tests of the faces: they look at the same gateway, and starting it takes longer than most."""

from __future__ import annotations

import pytest

from tests.api.house import embedded_nats, house_of_its_own

nats = pytest.fixture(scope="package")(embedded_nats)
house = pytest.fixture(scope="package")(house_of_its_own)
