"""The examples in the docstrings hold."""

from __future__ import annotations

import doctest
import pkgutil
from importlib import import_module

import pytest

import moda.asyncapi

MODULES = ["moda.asyncapi"] + [
    module.name for module in pkgutil.walk_packages(moda.asyncapi.__path__, "moda.asyncapi.")
]


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_hold(name: str) -> None:
    failed, _ = doctest.testmod(import_module(name))
    assert failed == 0
