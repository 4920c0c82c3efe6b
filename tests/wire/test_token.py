"""Ruling S0-11: socket tokens are off, optional or required."""

from __future__ import annotations

import pytest

from moda.errors import ConfigurationError
from moda.wire.handshake import Negotiated
from moda.wire.token import TokenRule, presented_token


@pytest.mark.parametrize(
    ("mode", "none", "right", "wrong"),
    [("off", True, True, True), ("optional", True, True, False), ("required", False, True, False)],
)
def test_each_mode_admits_what_it_says(mode, none, right, wrong):
    rule = TokenRule.of(mode, ["alpha", "beta"])
    assert [rule.admits(None), rule.admits("beta"), rule.admits("gamma")] == [none, right, wrong]
    assert rule.admits("") is wrong


def test_required_without_a_token_is_a_configuration_error():
    with pytest.raises(ConfigurationError, match="nobody could connect"):
        TokenRule.of("required", [])


def test_a_printed_rule_shows_no_token():
    assert "alpha" not in repr(TokenRule.of("required", ["alpha"]))


def test_the_token_of_the_subprotocol_comes_before_that_of_the_query():
    assert presented_token(Negotiated(2, {"token": "query"}, token="header")) == "header"
    assert presented_token(Negotiated(2, {"token": "query"})) == "query"
    assert presented_token(Negotiated(2, {"token": ["a"]})) is None
    assert presented_token(Negotiated(2, {})) is None
