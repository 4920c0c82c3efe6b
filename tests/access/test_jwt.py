"""JSON Web Tokens: which are taken, and that everything else is the one typed refusal."""

from __future__ import annotations

import base64
import json

import jwt as library
import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from moda.access.jwt import MAX_TOKEN, JwtOptions, JwtVerifier
from moda.errors import ConfigurationError, Denied

from .support import NOW, SECRET, Clock, jwk, key_set, private, token


def verifier(clock: Clock | None = None, **options: object) -> JwtVerifier:
    now = clock or Clock()
    made = JwtVerifier(JwtOptions(**options), now=now, clock=now)  # type: ignore[arg-type]
    made.check()
    return made


@pytest.fixture
def keys(tmp_path):
    """A key set with one key of each kind, in a file."""
    path = tmp_path / "jwks.json"
    path.write_bytes(
        key_set(*(jwk(kind, kid=kind.lower()) for kind in ("RS256", "ES256", "EdDSA")))
    )
    return path


def reason(one: JwtVerifier, text: str) -> str:
    with pytest.raises(Denied) as caught:
        one.verify_now(text)
    assert text not in f"{caught.value} {caught.value!r}" or len(text) < 8
    assert caught.value.__cause__ is None
    return caught.value.reason


def part(value: object) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
@pytest.mark.parametrize("named", [True, False])
def test_a_token_signed_with_a_key_of_the_set_is_its_subject(keys, algorithm, named):
    kid = algorithm.lower() if named else None
    principal = verifier(jwks=str(keys)).verify_now(token(algorithm, kid=kid, scope="a b"))
    assert principal is not None
    assert (principal.id, principal.kind, principal.scopes) == ("ann", "jwt", {"a", "b"})
    assert principal.expires_at == NOW + 3600 + 10
    assert principal.claims["sub"] == "ann"


def test_a_token_signed_with_the_secret_is_its_subject():
    assert verifier(secret=SECRET).verify_now(token()).id == "ann"  # type: ignore[union-attr]


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA", "HS256"])
def test_a_token_signed_with_another_key_of_the_same_kind_is_refused(keys, algorithm):
    one = verifier(jwks=str(keys), secret=SECRET)
    other = "another secret of thirty-two bytes" if algorithm == "HS256" else None
    assert reason(one, token(algorithm, number=1, key=other)) == "signature"


def test_a_public_key_is_never_taken_for_the_secret_of_an_hmac(keys):
    """The confusion of RS256 and HS256: whoever has the public key would be the issuer."""
    public = private("RS256").public_key()
    forms = (
        (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
    )
    for encoding, form in forms:
        secret = public.public_bytes(encoding, form)
        head = {"alg": "HS256", "kid": "rs256", "typ": "JWT"}
        signed = f"{part(head)}.{part({'sub': 'eve', 'exp': NOW + 60})}"
        signature = library.algorithms.HMACAlgorithm(
            "sha256" and library.algorithms.HMACAlgorithm.SHA256
        )
        forged = f"{signed}.{part(signature.sign(signed.encode(), secret))}"
        assert reason(verifier(jwks=str(keys)), forged) == "signature"
        assert reason(verifier(jwks=str(keys), secret=SECRET), forged) == "signature"


@pytest.mark.parametrize(
    "algorithm", ["none", "None", "HS384", "RS512", "PS256", "", 5, None, ["HS256"]]
)
def test_a_token_cannot_choose_how_it_is_verified(algorithm):
    forged = f"{part({'alg': algorithm})}.{part({'sub': 'eve', 'exp': NOW + 60})}."
    assert reason(verifier(secret=SECRET), forged) in ("signature", "malformed")


def test_an_algorithm_that_is_left_out_is_refused_although_there_is_a_key(keys):
    one = verifier(jwks=str(keys), algorithms=("ES256",))
    assert one.verify_now(token("ES256"))
    assert reason(one, token("RS256")) == "signature"


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"exp": NOW - 10}, "expired"),
        ({"exp": None}, "claims"),
        ({"exp": "soon"}, "claims"),
        ({"exp": True}, "claims"),
        ({"exp": 10**400}, "claims"),
        ({"exp": float("inf")}, "claims"),
        ({"exp": float("nan")}, "claims"),
        ({"nbf": NOW + 11}, "early"),
        ({"iat": NOW + 11}, "early"),
        ({"iss": "https://other.example"}, "issuer"),
        ({"iss": None}, "issuer"),
        ({"iss": ["https://issuer.example"]}, "issuer"),
        ({"aud": "other"}, "audience"),
        ({"aud": None}, "audience"),
        ({"aud": ["other", 5]}, "audience"),
        ({"aud": {"moda": 1}}, "audience"),
        ({"subscribe": "room:*"}, "claims"),
        ({"publish": ["a*b"]}, "claims"),
        ({"scope": 5}, "claims"),
        ({"scp": ["a", 5]}, "claims"),
        ({"sub": "x" * 256}, "claims"),
    ],
)
def test_a_claim_that_does_not_hold_is_named(claims, why):
    one = verifier(secret=SECRET, issuer="https://issuer.example", audience=("moda", "console"))
    right = {"iss": "https://issuer.example", "aud": ["x", "moda"]}
    assert one.verify_now(token(**right))
    assert reason(one, token(**{**right, **claims})) == why


def test_clocks_may_differ_by_the_leeway_in_both_directions():
    one = verifier(secret=SECRET, leeway=30)
    assert one.verify_now(token(exp=NOW - 29.5))
    assert one.verify_now(token(nbf=NOW + 30, iat=NOW + 30))
    assert reason(one, token(exp=NOW - 30)) == "expired"
    assert reason(one, token(nbf=NOW + 31)) == "early"


def test_rules_and_scopes_come_out_of_the_claims():
    one = verifier(secret=SECRET).verify_now(
        token(subscribe=["room:42:*"], publish=[], scp=["publish"])
    )
    assert one is not None
    assert one.may_subscribe("room:42:x")
    assert not one.may_subscribe("room:43:x")
    assert not one.may_publish("room:42:x")
    assert one.has("publish")


# -- whatever a stranger sends

ONE = verifier(secret=SECRET)

HEADS = st.one_of(
    st.binary(max_size=40),
    st.dictionaries(
        st.sampled_from(["alg", "kid", "typ", "crit", "b64", "jwk", "x5u"]),
        st.one_of(st.sampled_from(["HS256", "RS256", "none"]), st.integers(), st.none(), st.text()),
    ),
)
CLAIMS = st.one_of(
    st.binary(max_size=60),
    st.dictionaries(
        st.sampled_from(
            ["exp", "nbf", "iat", "sub", "aud", "iss", "subscribe", "publish", "scope"]
        ),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()),
            lambda inner: (
                st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2)
            ),
            max_leaves=4,
        ),
    ),
)


@given(st.one_of(st.text(), st.text("eyJ.abc_-", max_size=60), st.binary().map(part)))
def test_no_text_raises_anything_but_the_refusal(text):
    with pytest.raises(Denied):
        ONE.verify_now(text)


@given(HEADS, CLAIMS, st.binary(max_size=40))
def test_no_malformed_token_raises_anything_but_the_refusal(head, claims, signature):
    with pytest.raises(Denied):
        ONE.verify_now(f"{part(head)}.{part(claims)}.{part(signature)}")


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(HEADS.filter(lambda head: isinstance(head, dict)), CLAIMS)
def test_a_signed_token_is_a_principal_or_the_refusal_whatever_its_claims(head, claims):
    body = f"{part({**head, 'alg': 'HS256'})}.{part(claims)}"  # type: ignore[dict-item]
    hmac = library.algorithms.HMACAlgorithm(library.algorithms.HMACAlgorithm.SHA256)
    text = f"{body}.{part(hmac.sign(body.encode(), SECRET.encode()))}"
    try:
        principal = ONE.verify_now(text)
    except Denied:
        return
    assert principal is not None
    assert principal.expires_at is not None
    assert principal.expires_at > NOW


def test_a_token_nested_as_deep_as_it_may_be_long_is_a_refusal():
    deep = b'{"exp":' + b"[" * 2500 + b"]" * 2500 + b"}"
    body = f"{part({'alg': 'HS256'})}.{part(deep)}"
    hmac = library.algorithms.HMACAlgorithm(library.algorithms.HMACAlgorithm.SHA256)
    assert reason(ONE, f"{body}.{part(hmac.sign(body.encode(), SECRET.encode()))}") in (
        "malformed",
        "claims",
    )
    assert reason(ONE, f"{part(b'{' * 3000)}.e30.") == "malformed"
    assert reason(ONE, "eyJ" + "a" * MAX_TOKEN + ".e30.e30") == "malformed"


# -- what an operator may get wrong


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"secret": "short"}, "MODA_JWT_SECRET: got 5 bytes, takes at least 32"),
        ({"secret": SECRET, "algorithms": ("RS256",)}, "MODA_JWT_ALGORITHMS leaves out"),
        ({"secret": SECRET, "algorithms": ("HS512",)}, "got HS512, takes HS256"),
        ({"secret": SECRET, "algorithms": ()}, "got none"),
        ({"jwks": "http://issuer.example/jwks"}, "http:// to issuer.example"),
        ({"jwks": "ftp://issuer.example/jwks"}, "ftp://"),
        ({"jwks": "file:///etc/passwd"}, "file://"),
        ({"jwks": "/nowhere/jwks.json"}, "MODA_JWT_JWKS: got /nowhere/jwks.json, which cannot be"),
    ],
)
def test_options_that_verify_nothing_are_said_at_the_start(options, says):
    with pytest.raises(ConfigurationError) as caught:
        verifier(**options)
    assert says in str(caught.value)
    assert "short" not in str(caught.value)


def test_printed_options_show_no_secret():
    assert SECRET not in repr(JwtOptions(secret=SECRET))
