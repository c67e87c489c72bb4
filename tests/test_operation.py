"""What changes under a running server: files that are watched, policies that are followed, certificates."""

from __future__ import annotations

import asyncio
import datetime
import logging
import os
import signal
import ssl
from collections.abc import Sequence
from pathlib import Path

import click
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from candidates.policy import Policy
from ice_tcp.operation import Certificate, Following, Watch, catch_signals
from tests.server_clients import make_certificate


def rename_over(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text, "utf-8")
    fresh.replace(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text("lite: false\n", "utf-8")
    return path


class Server:
    """Heeds policies: keeps them. Asks for a restart for ``fixed``, and refuses what ``refuses`` says."""

    def __init__(self) -> None:
        self.heeded: list[Policy] = []
        self.fixed: Sequence[str] = ()
        self.refuses: Exception | None = None

    def apply(self, policy: Policy) -> Sequence[str]:
        if self.refuses is not None:
            raise self.refuses
        self.heeded.append(policy)
        return self.fixed

    @property
    def gathers(self) -> list[float]:
        return [policy.timeouts.gather for policy in self.heeded]


def settle(following: Following, server: Server) -> None:
    """Look twice: once for the change, once for its end."""
    following.look(server.apply)
    following.look(server.apply)


# Files


def test_a_file_that_stays_has_not_changed(path: Path) -> None:
    watch = Watch([path])
    assert [watch.has_changed() for _ in range(3)] == [False, False, False]


def test_a_file_has_changed_once_it_is_at_rest(path: Path) -> None:
    watch = Watch([path])
    path.write_text("half of it", "utf-8")
    assert not watch.has_changed()
    path.write_text("half of it and more", "utf-8")
    assert not watch.has_changed()
    assert watch.has_changed()


def test_a_file_that_is_renamed_over_it_is_seen_even_if_size_and_time_are_the_same(path: Path) -> None:
    watch, status = Watch([path]), path.stat()
    rename_over(path, "lite: FALSE\n")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    watch.has_changed()
    assert watch.has_changed()


def test_a_link_that_leads_elsewhere_has_changed(path: Path, tmp_path: Path) -> None:
    other, link = tmp_path / "other.yaml", tmp_path / "link.yaml"
    other.write_text("lite: false\n", "utf-8")
    link.symlink_to(path)
    watch = Watch([link])
    link.unlink()
    link.symlink_to(other)
    watch.has_changed()
    assert watch.has_changed()


def test_a_file_that_vanishes_or_comes_has_changed(path: Path, tmp_path: Path) -> None:
    watch, later = Watch([path]), Watch([tmp_path / "later"])
    path.unlink()
    (tmp_path / "later").touch()
    for each in (watch, later):
        each.has_changed()
        assert each.has_changed()


# A policy


def test_a_policy_that_changes_is_heeded_once(path: Path) -> None:
    following, server = Following(path), Server()
    assert following.begin() == Policy.default()
    settle(following, server)
    rename_over(path, "timeouts: {gather: 3.0}\n")
    settle(following, server)
    settle(following, server)
    assert server.gathers == [3.0]


def test_a_wrong_policy_is_logged_once_and_a_later_good_one_is_taken(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    following, server = Following(path), Server()
    following.begin()
    path.write_text("lite: false\ntimeouts: {gather: soon}\n", "utf-8")
    for _ in range(4):
        following.look(server.apply)
    assert server.heeded == []
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert f"{path}:2:20: timeouts.gather: not a number" in record.getMessage()
    rename_over(path, "timeouts: {gather: 2.0}\n")
    settle(following, server)
    assert server.gathers == [2.0]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (Path.unlink, "No such file"),
        (lambda path: path.write_text("", "utf-8"), "it is empty"),
        (lambda path: path.write_bytes(b"\xff\xfe\xff"), "codec can't decode"),
        (lambda path: path.write_text("transports: [ud", "utf-8"), ":1:"),
    ],
)
def test_a_policy_that_cannot_be_read_is_not_heeded(
    path: Path, caplog: pytest.LogCaptureFixture, spoil: object, expected: str
) -> None:
    following, server = Following(path), Server()
    following.begin()
    assert callable(spoil)
    spoil(path)
    settle(following, server)
    settle(following, server)
    assert server.heeded == []
    (record,) = caplog.records
    assert expected in record.getMessage()
    rename_over(path, "lite: false\n")
    settle(following, server)
    assert server.heeded == [Policy.default()]


def test_what_the_server_refuses_is_logged(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    following, server = Following(path), Server()
    server.refuses = ValueError("it does not fit")
    following.reload(server.apply)
    assert "it does not fit" in caplog.text


def test_what_needs_a_restart_is_told_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    following, server = Following(path), Server()
    server.fixed = ("port", "listen")
    following.reload(server.apply)
    following.reload(server.apply)
    assert [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING] == [
        "needs a restart: port, listen"
    ]


def test_files_of_credentials_are_watched_too(path: Path, tmp_path: Path) -> None:
    users = tmp_path / "users"
    users.write_text("ann:apple\n", "utf-8")
    path.write_text(f"server: {{users_file: {users}}}\n", "utf-8")
    following, server = Following(path), Server()
    following.begin()
    rename_over(users, "bob:banana\n")
    settle(following, server)
    assert [policy.server.passwords for policy in server.heeded] == [{"bob": "banana"}]


def test_a_file_that_is_missing_is_taken_when_it_comes(path: Path, tmp_path: Path) -> None:
    following, server = Following(path), Server()
    following.begin()
    path.write_text(f"server: {{users_file: {tmp_path / 'users'}}}\n", "utf-8")
    settle(following, server)
    assert server.heeded == []
    (tmp_path / "users").write_text("ann:apple\n", "utf-8")
    settle(following, server)
    assert [policy.server.passwords for policy in server.heeded] == [{"ann": "apple"}]


def test_without_a_policy_other_files_are_followed(tmp_path: Path) -> None:
    other = tmp_path / "users"
    other.touch()
    following, server = Following(None, [other, None]), Server()
    assert following.begin() == Policy.default()
    other.write_text("ann:apple\n", "utf-8")
    settle(following, server)
    assert server.heeded == [Policy.default()]


def test_a_bad_policy_at_the_beginning_is_a_misuse(path: Path) -> None:
    path.write_text("transports: [smoke]\n", "utf-8")
    with pytest.raises(click.UsageError, match="transports"):
        Following(path).begin()


def test_sighup_reads_at_once_and_sigterm_ends_it(path: Path) -> None:
    async def body() -> list[float]:
        following, server, heeded = Following(path), Server(), asyncio.Event()

        def apply(policy: Policy) -> Sequence[str]:
            heeded.set()
            return server.apply(policy)

        stopped = catch_signals(following)
        task = asyncio.create_task(following.follow(apply, stopped, interval=3600.0))
        rename_over(path, "timeouts: {gather: 4.0}\n")
        os.kill(os.getpid(), signal.SIGHUP)
        await heeded.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await task
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return server.gathers

    before = signal.getsignal(signal.SIGHUP)
    assert asyncio.run(body()) == [4.0]
    assert signal.getsignal(signal.SIGHUP) == before


def test_it_looks_again_and_again(path: Path) -> None:
    async def body() -> list[float]:
        following, server, stopped = Following(path), Server(), asyncio.Event()
        following.begin()

        def apply(policy: Policy) -> Sequence[str]:
            stopped.set()
            return server.apply(policy)

        rename_over(path, "timeouts: {gather: 6.0}\n")
        await following.follow(apply, stopped, interval=0.01)
        return server.gathers

    assert asyncio.run(body()) == [6.0]


# Certificates


def rsa_certificate(directory: Path) -> Path:
    """A certificate of another type than `make_certificate` makes, and its key, in one file."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "other")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = directory / "other.pem"
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    file.write_bytes(certificate.public_bytes(pem) + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return file


def shown(context: ssl.SSLContext, name: str | None = "localhost") -> str:
    """The certificate's name that a client of the context is shown."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(back, there, server_hostname=name), context.wrap_bio(there, back, server_side=True)]
    for _ in range(3):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    der = ends[0].getpeercert(binary_form=True)
    assert der is not None
    (common,) = x509.load_der_x509_certificate(der).subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(common.value)


@pytest.mark.parametrize("name", ["localhost", None])
def test_a_certificate_is_replaced_in_place_even_by_one_of_another_type(tmp_path: Path, name: str | None) -> None:
    certificate = Certificate(*make_certificate(tmp_path))
    context = certificate.context
    assert shown(context, name) == "localhost"
    certificate.load(rsa_certificate(tmp_path))
    assert shown(context, name) == "other"
    certificate.load(*make_certificate(tmp_path))
    assert shown(context, name) == "localhost"


def test_a_bad_certificate_leaves_the_old_one(tmp_path: Path) -> None:
    chain, key = make_certificate(tmp_path)
    certificate = Certificate(chain, key)
    other = rsa_certificate(tmp_path)
    for pair in ((other, key), (key, key), (tmp_path / "none", None)):
        with pytest.raises(OSError, match=r"PEM|cannot be read"):
            certificate.load(*pair)
        assert shown(certificate.context) == "localhost"


def test_an_encrypted_key_is_refused_rather_than_asked_for(tmp_path: Path) -> None:
    chain, key = make_certificate(tmp_path)
    private = serialization.load_pem_private_key(key.read_bytes(), None)
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"open sesame"),
        )
    )
    with pytest.raises(OSError, match="unencrypted key"):
        Certificate(chain, key)
