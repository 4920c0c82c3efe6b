"""What the tests of the application's side share."""

from __future__ import annotations

import pytest

from moda import Gateway


@pytest.fixture
def gateway() -> Gateway:
    return Gateway(builtins=False)
