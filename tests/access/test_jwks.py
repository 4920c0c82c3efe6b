"""An issuer's keys: which are taken, and how they are kept up to date."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from moda.access import jwks
from moda.access.jwks import MISS_SECONDS, REFRESH_SECONDS, KeySource, fetch, read_key_set
from moda.access.jwt import JwtOptions, JwtVerifier
from moda.errors import ConfigurationError, Denied

from .support import SECRET, Clock, jwk, key_set, private, token


def kinds(*entries: dict[str, object], secrets: bool = True) -> list[str]:
    return [key.algorithm for key in read_key_set(key_set(*entries), secrets=secrets).keys]


OCTETS = {"kty": "oct", "k": "a" * 43}


class TestReading:
    """RFC 7517: what is a key for us, and what is passed over."""

    def test_each_kind_of_key_verifies_one_algorithm(self):
        assert kinds(jwk("RS256"), jwk("ES256"), jwk("EdDSA"), OCTETS) == [
            "RS256",
            "ES256",
            "EdDSA",
            "HS256",
        ]

    @pytest.mark.parametrize(
        "other",
        [
            jwk("RS256", use="enc"),
            jwk("RS256", key_ops=["encrypt"]),
            jwk("RS256", alg="RS512"),
            jwk("RS256", alg="HS256"),
            jwk("ES256", crv="P-384"),
            jwk("RS256", kty="oct"),
            jwk("RS256", kid=5),
            {"kty": "oct", "k": "c2hvcnQ"},
            {"kty": "RSA"},
            {"kty": "RSA", "n": 5, "e": []},
            {"kty": ["RSA"]},
            {"kty": "OKP", "crv": "X25519", "x": "a" * 43},
            {},
            "a text",  # type: ignore[list-item]
            json.loads(RSAAlgorithm.to_jwk(rsa.generate_private_key(65537, 1024).public_key())),
        ],
    )
    def test_a_key_that_is_not_for_this_is_passed_over(self, other):
        assert kinds(other, jwk("EdDSA")) == ["EdDSA"]
        with pytest.raises(ConfigurationError, match="none of the 1 keys"):
            read_key_set(key_set(other), secrets=True)

    def test_octets_that_were_published_are_no_secret(self):
        assert kinds(OCTETS, jwk("EdDSA"), secrets=False) == ["EdDSA"]

    def test_of_a_pair_with_its_private_half_the_public_one_is_kept(self):
        pair = json.loads(ECAlgorithm.to_jwk(private("ES256")))
        assert "d" in pair
        (key,) = read_key_set(key_set(pair), secrets=True).keys
        assert not hasattr(key.material, "private_numbers")

    @pytest.mark.parametrize(
        "text",
        [
            b"",
            b"null",
            b"[]",
            b"{}",
            b'{"keys": 5}',
            b'{"keys": []}',
            b"[" * 5000,
            b"\xff",
            b" " * (257 << 10),
        ],
    )
    def test_what_is_no_key_set_is_said(self, text):
        with pytest.raises(ConfigurationError):
            read_key_set(text, secrets=True)

    def test_the_number_of_keys_is_bounded(self):
        with pytest.raises(ConfigurationError, match="up to 64 keys"):
            read_key_set(key_set(*[jwk("EdDSA")] * 65), secrets=True)


class TestFile:
    """A key set in a file, changed while the gateway runs."""

    def test_keys_are_exchanged_without_a_restart(self, tmp_path):
        clock = Clock()
        path = tmp_path / "jwks.json"
        path.write_bytes(key_set(jwk("ES256", "old")))
        one = JwtVerifier(JwtOptions(jwks=str(path)), now=clock, clock=clock)
        one.check()
        old, new = token("ES256", kid="old"), token("ES256", kid="new", number=1)
        assert one.verify_now(old)
        path.write_bytes(key_set(jwk("ES256", "new", number=1), jwk("EdDSA")))
        clock.pass_by(jwks.LOOK_SECONDS)
        assert one.verify_now(new)
        with pytest.raises(Denied, match="not known here"):
            one.verify_now(old)

    @pytest.mark.parametrize("spoiled", [b"half a fi", None])
    def test_a_file_that_is_being_written_or_gone_leaves_the_keys_as_they_are(
        self, tmp_path, spoiled
    ):
        clock = Clock()
        path = tmp_path / "jwks.json"
        path.write_bytes(key_set(jwk("EdDSA")))
        one = JwtVerifier(JwtOptions(jwks=str(path)), now=clock, clock=clock)
        one.check()
        if spoiled is None:
            os.unlink(path)
        else:
            path.write_bytes(spoiled)
        clock.pass_by(jwks.LOOK_SECONDS)
        assert one.verify_now(token("EdDSA"))

    def test_a_secret_in_a_file_verifies_and_is_never_tried_for_another_algorithm(self, tmp_path):
        path = tmp_path / "jwks.json"
        path.write_bytes(key_set(jwk("EdDSA"), {**OCTETS, "kid": "s"}))
        clock = Clock()
        one = JwtVerifier(JwtOptions(jwks=str(path), secret=SECRET), now=clock, clock=clock)
        one.check()
        octets = read_key_set(path.read_bytes(), secrets=True).keys[1].material
        assert one.verify_now(token("HS256", key=octets, kid="s"))
        assert one.verify_now(token("HS256"))


class Issuer:
    """Serves ``body`` under /jwks on loopback; ``asked`` counts."""

    def __init__(self) -> None:
        self.body = key_set(jwk("ES256", "one"))
        self.status = 200
        self.asked = 0
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                self.send_response(issuer.status)
                if issuer.status == 302:
                    self.send_header("location", "http://127.0.0.1:1/elsewhere")
                self.end_headers()
                self.wfile.write(issuer.body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks"
        self.thread = Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    served = Issuer()
    yield served
    served.close()


class TestUrl:
    """A key set behind a URL (on loopback here)."""

    async def test_keys_are_fetched_with_the_first_token_and_not_again_with_the_next(self, issuer):
        clock = Clock()
        one = JwtVerifier(JwtOptions(jwks=issuer.url), now=clock, clock=clock)
        text = token("ES256", kid="one")
        assert one.verify_now(text) is None
        found = await asyncio.gather(*(one.verify(text) for _ in range(5)))
        assert {principal.id for principal in found} == {"ann"}
        assert one.verify_now(text) == found[0]
        assert issuer.asked == 1

    async def test_a_new_kid_asks_once_more_and_then_not_again_for_a_while(self, issuer):
        clock = Clock()
        one = JwtVerifier(JwtOptions(jwks=issuer.url), now=clock, clock=clock)
        await one.verify(token("ES256", kid="one"))
        issuer.body = key_set(jwk("ES256", "two", number=1))
        clock.pass_by(MISS_SECONDS)
        assert await one.verify(token("ES256", kid="two", number=1))
        assert issuer.asked == 2
        for kid in ("three", "four", "five"):
            with pytest.raises(Denied, match="not known here"):
                await one.verify(token("ES256", kid=kid))
        assert issuer.asked == 2
        clock.pass_by(MISS_SECONDS)
        with pytest.raises(Denied, match="not known here"):
            await one.verify(token("ES256", kid="six"))
        assert issuer.asked == 3

    async def test_an_issuer_that_is_away_is_503_at_first_and_asked_again_after_growing_pauses(
        self, issuer
    ):
        clock = Clock()
        issuer.status = 500
        one = JwtVerifier(JwtOptions(jwks=issuer.url), now=clock, clock=clock)
        for expected in (1, 1):
            with pytest.raises(Denied) as caught:
                await one.verify(token("ES256", kid="one"))
            assert (caught.value.reason, caught.value.status) == ("unavailable", 503)
            assert issuer.asked == expected
        clock.pass_by(jwks.FIRST_PAUSE)
        with pytest.raises(Denied):
            await one.verify(token("ES256", kid="one"))
        clock.pass_by(jwks.FIRST_PAUSE)
        with pytest.raises(Denied):
            await one.verify(token("ES256", kid="one"))
        assert issuer.asked == 2
        issuer.status = 200
        clock.pass_by(jwks.FIRST_PAUSE)
        assert await one.verify(token("ES256", kid="one"))

    async def test_keys_known_hold_on_while_the_issuer_is_away_and_are_refreshed_beside(
        self, issuer
    ):
        clock = Clock()
        one = JwtVerifier(JwtOptions(jwks=issuer.url), now=clock, clock=clock)
        await one.verify(token("ES256", kid="one"))
        issuer.status = 500
        clock.pass_by(REFRESH_SECONDS)
        assert one.verify_now(token("ES256", kid="one"))
        assert one.source is not None
        await one.source.refresh()
        assert issuer.asked == 2
        assert one.verify_now(token("ES256", kid="one"))

    def test_a_redirect_an_error_and_a_body_too_large_are_no_keys(self, issuer):
        for status in (302, 404):
            issuer.status = status
            with pytest.raises(ConfigurationError, match="cannot be read"):
                KeySource(issuer.url).check()
        issuer.status, issuer.body = 200, b" " * (1 << 20)
        assert len(fetch(issuer.url)) == jwks.MAX_BYTES + 1
        with pytest.raises(ConfigurationError, match="takes up to"):
            KeySource(issuer.url).check()
