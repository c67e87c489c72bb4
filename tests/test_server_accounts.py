"""Who may use the relay: RFC 8489 s9.2, and short-lived credentials."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from ice_tcp.server import short_lived_password
from ice_tcp.stun import (
    AlgorithmParameters,
    AttributeType,
    Integrity,
    IntegrityKey,
    Message,
    MessageClass,
    Method,
    PasswordAlgorithm,
    SecurityFeature,
    nonce,
    password_algorithm,
    password_algorithms,
    realm,
    requested_transport,
    software,
    userhash,
    username,
)
from ice_tcp.stun.credentials import userhash as hash_of
from tests.server_world import NOON, UDP, User, World, options

BOTH = (PasswordAlgorithm.SHA256, PasswordAlgorithm.MD5)
OFFER = password_algorithms(AlgorithmParameters(algorithm) for algorithm in BOTH)


def code(response: Message) -> int | None:
    return response.error_code.code if response.error_code else None


def test_the_challenge_has_realm_nonce_and_algorithms_and_no_integrity() -> None:
    response = User(World()).ask(Method.ALLOCATE, requested_transport(UDP))
    assert code(response) == 401
    assert response.realm == "example.org"
    assert response.security_features == SecurityFeature.PASSWORD_ALGORITHMS
    assert response.password_algorithms == tuple(AlgorithmParameters(algorithm) for algorithm in BOTH)
    assert not response.has_integrity


def test_a_server_may_offer_nothing() -> None:
    world = World(options(password_algorithms=()))
    response = User(world).ask(Method.ALLOCATE, requested_transport(UDP))
    assert response.security_features == SecurityFeature.NONE
    assert response.password_algorithms is None
    User(world).allocate()


def test_no_two_nonces_are_alike() -> None:
    user = User(World())
    assert user.ask(Method.ALLOCATE).nonce != user.ask(Method.ALLOCATE).nonce


def test_a_client_that_knows_no_algorithms_is_answered_with_sha1() -> None:
    user = User(World())
    user.allocate()
    assert user.succeed(Method.REFRESH).integrity is Integrity.SHA1


@pytest.mark.parametrize("algorithm", BOTH)
def test_a_client_that_chose_an_algorithm_is_answered_with_sha256(algorithm: PasswordAlgorithm) -> None:
    user = User(World())
    user.credentials()
    user.integrity = Integrity.SHA256
    key = IntegrityKey.long_term("ann", "example.org", "apple", algorithm)
    credentials = [*user.credentials(), OFFER, password_algorithm(algorithm)]
    response = user.ask(Method.ALLOCATE, requested_transport(UDP), *credentials, key=key)
    assert response.message_class is MessageClass.SUCCESS
    assert response.integrity is Integrity.SHA256 and response.verify(key)


@pytest.mark.parametrize(
    "extra",
    [
        [OFFER],
        [password_algorithm(PasswordAlgorithm.SHA256)],
        [OFFER, password_algorithm(7)],
        # Someone in between took the better one out
        [password_algorithms([AlgorithmParameters(PasswordAlgorithm.MD5)]), password_algorithm(PasswordAlgorithm.MD5)],
    ],
)
def test_algorithms_that_were_not_offered_so_are_a_bad_request(extra: list[tuple[int, bytes]]) -> None:
    user = User(World())
    credentials = [*user.credentials(), *extra]
    response = user.ask(Method.ALLOCATE, requested_transport(UDP), *credentials, key=user.key)
    assert code(response) == 400


@pytest.mark.parametrize("missing", [AttributeType.USERNAME, AttributeType.REALM, AttributeType.NONCE])
def test_integrity_without_its_companions_is_a_bad_request(missing: int) -> None:
    user = User(World())
    credentials = [item for item in user.credentials() if isinstance(item, tuple) and item[0] != missing]
    response = user.ask(Method.ALLOCATE, requested_transport(UDP), *credentials, key=user.key)
    assert code(response) == 400 and not response.has_integrity


def test_wrong_password_user_and_realm_are_told_apart_by_nobody() -> None:
    world = World()
    for user in (User(world, "ann", "wrong"), User(world, "carl", "apple")):
        assert code(user.request(Method.ALLOCATE, requested_transport(UDP))) == 401
    user = User(world)
    user.credentials()
    user.realm = b"elsewhere.org"
    response = user.request(Method.ALLOCATE, requested_transport(UDP))
    assert code(response) == 401 and response.realm == "example.org"
    assert [detail for number, detail in world.refusals() if number == 401 and detail] == [
        "wrong password",
        "unknown or expired user",
        "unknown user or realm",
    ]


def test_an_old_nonce_is_stale_and_the_new_one_works() -> None:
    world = World(options(nonce_lifetime=10))
    user = User(world)
    user.allocate()
    world.after(9)
    user.succeed(Method.REFRESH)
    world.after(2)
    response = user.request(Method.REFRESH)
    assert code(response) == 438 and not response.has_integrity
    assert response.password_algorithms
    user.learn(response)
    user.succeed(Method.REFRESH)


@pytest.mark.parametrize("forged", [b"", b"x", b"obMatJos2gAAA", b"obMatJos2gAAA!!!!", b"obMatJos2gAAA" + b"A" * 40])
def test_a_nonce_that_is_not_ours_is_stale(forged: bytes) -> None:
    user = User(World())
    user.credentials()
    user.nonce = forged
    credentials = [username("ann"), realm("example.org"), nonce(forged)]
    assert code(user.ask(Method.ALLOCATE, requested_transport(UDP), *credentials, key=user.key)) == 438


def test_a_nonce_belongs_to_an_address_but_not_to_a_port() -> None:
    world = World()
    user = User(world)
    user.credentials()
    same, other = User(world, address=("198.51.100.1", 9)), User(world, address=("198.51.100.2", 9))
    for thief in (same, other):
        thief.realm, thief.nonce = user.realm, user.nonce
    same.allocate()
    assert code(other.request(Method.ALLOCATE, requested_transport(UDP))) == 438


def test_wrong_credentials_come_before_unknown_attributes() -> None:
    user = User(World(), "ann", "wrong")
    assert code(user.request(Method.ALLOCATE, (0x7FFF, b""))) == 401


def test_a_username_may_be_hashed() -> None:
    world = World(options(username_anonymity=True))
    user = User(world)
    challenge = user.ask(Method.ALLOCATE)
    assert challenge.security_features == SecurityFeature.PASSWORD_ALGORITHMS | SecurityFeature.USERNAME_ANONYMITY
    user.learn(challenge)
    rest = [realm("example.org"), nonce(user.nonce), requested_transport(UDP)]
    unknown = user.ask(Method.ALLOCATE, userhash(hash_of("carl", "example.org")), *rest, key=user.key)
    assert code(unknown) == 401
    response = user.ask(Method.ALLOCATE, userhash(hash_of("ann", "example.org")), *rest, key=user.key)
    assert response.message_class is MessageClass.SUCCESS
    user.succeed(Method.REFRESH)  # by the name: it is the same user


# Short-lived credentials


def short_lived(world: World, seconds: int, name: str = "ann", **place: object) -> User:
    expiring = f"{int(NOON + world.now) + seconds}:{name}"
    return User(world, expiring, short_lived_password("sesame", expiring), **place)  # type: ignore[arg-type]


def test_the_password_is_the_hmac_of_the_username() -> None:
    expected = hmac.new(b"sesame", b"1800000000:ann", hashlib.sha1).digest()
    assert short_lived_password("sesame", "1800000000:ann") == base64.b64encode(expected).decode()


def test_short_lived_credentials_work_until_they_expire() -> None:
    world = World(options(users={}, shared_secret="sesame"))
    user = short_lived(world, 60)
    user.allocate()
    world.after(61)
    late = User(world, user.name, user.password, address=("198.51.100.1", 9))
    assert code(late.request(Method.ALLOCATE, requested_transport(UDP))) == 401
    # Who has an allocation keeps it
    user.succeed(Method.REFRESH)


@pytest.mark.parametrize("name", ["ann", ":ann", "x:ann", "-1:ann", "²:ann", "9" * 30 + ":ann", "1800000999:\u0007"])
def test_usernames_that_tell_no_expiry_are_unknown(name: str) -> None:
    world = World(options(users={}, shared_secret="sesame"))
    user = User(world)
    user.credentials()
    credentials = [(AttributeType.USERNAME, name.encode()), realm("example.org"), nonce(user.nonce)]
    assert code(user.ask(Method.ALLOCATE, requested_transport(UDP), *credentials, key=user.key)) == 401


def test_the_quota_is_of_the_name_whatever_the_expiry() -> None:
    world = World(options(users={}, shared_secret="sesame"))
    for count in range(options().limits.allocations_per_user):
        short_lived(world, 60 + count, address=("198.51.100.1", 100 + count)).allocate()
    late = short_lived(world, 600, address=("198.51.100.1", 99))
    assert code(late.request(Method.ALLOCATE, requested_transport(UDP))) == 486
    short_lived(world, 60, "bob", address=("198.51.100.1", 98)).allocate()


def test_users_and_a_secret_work_side_by_side() -> None:
    world = World(options(shared_secret="sesame"))
    User(world).allocate()
    short_lived(world, 60, address=("198.51.100.1", 9)).allocate()


def test_no_secret_is_in_what_options_show() -> None:
    shown = repr(options(shared_secret="sesame"))
    assert "sesame" not in shown and "apple" not in shown


def test_a_tampered_request_is_refused() -> None:
    user = User(World())
    credentials = user.credentials()
    other = IntegrityKey.long_term("ann", "example.org", "pear")
    assert code(user.ask(Method.ALLOCATE, requested_transport(UDP), software("x"), *credentials, key=other)) == 401
