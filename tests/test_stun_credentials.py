from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ice_tcp.stun import (
    IntegrityKey,
    PasswordAlgorithm,
    SecurityFeature,
    nonce_cookie,
    opaque_string,
    security_features,
)
from ice_tcp.stun.credentials import userhash
from tests.vectors import rfc5769

TEXT = b"what is authenticated"


def mac(key: bytes) -> bytes:
    return hmac.digest(key, TEXT, "sha1")


@given(st.binary(max_size=150), st.binary(max_size=300))
def test_hmac_is_that_of_the_standard_library(key: bytes, text: bytes) -> None:
    integrity = IntegrityKey(key)
    for _ in range(2):  # a second use of the same key
        assert integrity.sha1(text) == hmac.digest(key, text, "sha1")
        assert integrity.sha256(text) == hmac.digest(key, text, "sha256")


def test_short_term_key_is_the_password() -> None:
    assert IntegrityKey.short_term(rfc5769.PASSWORD).sha1(TEXT) == mac(rfc5769.PASSWORD.encode())


def test_long_term_key_of_rfc8489_9_2_2() -> None:
    key = IntegrityKey.long_term("user", "realm", "pass")
    assert key.sha1(TEXT) == mac(bytes.fromhex("8493fbc53ba582fb4c044c456bdc40eb"))


def test_long_term_key_with_sha256() -> None:
    key = IntegrityKey.long_term("user", "realm", "pass", PasswordAlgorithm.SHA256)
    assert key.sha1(TEXT) == mac(hashlib.sha256(b"user:realm:pass").digest())


@pytest.mark.parametrize("realm", ['"realm"', "realm\0\0", '"realm"\0'])
def test_quotes_and_trailing_nulls_of_the_realm_do_not_count(realm: str) -> None:
    assert IntegrityKey.long_term("user", realm, "pass").sha1(TEXT) == IntegrityKey.long_term(
        "user", "realm", "pass"
    ).sha1(TEXT)


def test_a_realm_is_never_refused() -> None:
    # It is what the server sent, and has been prepared there
    key = IntegrityKey.long_term("user", "\x01\u00ad", "pass")
    assert key.sha1(TEXT) == mac(hashlib.md5("user:\x01\u00ad:pass".encode(), usedforsecurity=False).digest())


def test_userhash_of_rfc8489_b1() -> None:
    expected = rfc5769.USERHASH_REQUEST[24:56]
    assert userhash(rfc5769.LONG_TERM_USERNAME, rfc5769.LONG_TERM_REALM) == expected


@pytest.mark.parametrize(
    ("text", "prepared"),
    [
        ("TheMatrIX", "TheMatrIX"),
        ("with a space", "with a space"),
        (rfc5769.LONG_TERM_USERNAME, rfc5769.LONG_TERM_USERNAME),
        # RFC 8265 s4.2.2: non-ASCII spaces become spaces, then normalization form C
        ("a\u00a0b\u3000c", "a b c"),
        ("cafe\u0301", "caf\u00e9"),
        # ... without compatibility mappings
        ("\u2168", "\u2168"),
        ("\U0001f511", "\U0001f511"),
    ],
)
def test_opaque_string(text: str, prepared: str) -> None:
    assert opaque_string(text) == prepared


@pytest.mark.parametrize(
    "text", ["", "tab\there", "null\0", "\x7f", "soft\u00adhyphen", "\u200b", "\ue000\x80", "\ud800"]
)
def test_opaque_string_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="no OpaqueString"):
        opaque_string(text)


def test_the_unprepared_password_of_rfc5769_2_4_is_no_opaque_string() -> None:
    # SASLprep dropped the soft hyphen; the profile that replaced it forbids it
    with pytest.raises(ValueError, match="DISALLOWED"):
        IntegrityKey.short_term(rfc5769.LONG_TERM_UNPREPARED_PASSWORD)


@pytest.mark.parametrize(
    ("nonce", "features"),
    [
        (b"", None),
        (rfc5769.LONG_TERM_NONCE, None),
        (b"obMatJos2AAA", None),
        (b"obMatJos2A*AA and more", None),
        (rfc5769.USERHASH_NONCE, SecurityFeature.NONE),
        (b"obMatJos2gAAA", SecurityFeature.PASSWORD_ALGORITHMS),
        (b"obMatJos2QAAArest", SecurityFeature.USERNAME_ANONYMITY),
        (b"obMatJos2////", SecurityFeature.PASSWORD_ALGORITHMS | SecurityFeature.USERNAME_ANONYMITY),
    ],
)
def test_security_features(nonce: bytes, features: SecurityFeature | None) -> None:
    assert security_features(nonce) == features


@pytest.mark.parametrize(
    "features",
    [
        SecurityFeature.NONE,
        SecurityFeature.PASSWORD_ALGORITHMS,
        SecurityFeature.USERNAME_ANONYMITY,
        SecurityFeature.PASSWORD_ALGORITHMS | SecurityFeature.USERNAME_ANONYMITY,
    ],
)
def test_nonce_cookie_round_trips(features: SecurityFeature) -> None:
    cookie = nonce_cookie(features)
    assert len(cookie) == 13
    assert security_features(cookie + b"the rest") == features
