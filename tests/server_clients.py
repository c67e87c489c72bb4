"""Plain clients of a server on loopback, by UDP, TCP and TLS, and a certificate for it."""

from __future__ import annotations

import asyncio
import datetime
import ipaddress
import itertools
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ice_tcp.framing import ServerStreamSplitter
from ice_tcp.server.core.actions import Address
from ice_tcp.stun import (
    Attribute,
    IntegrityKey,
    Message,
    MessageClass,
    Method,
    decode,
    encode,
    nonce,
    realm,
    requested_transport,
    username,
    xor_peer_address,
)

AttributeMaker = Attribute | Callable[[bytes], Attribute]
PATIENCE = 10.0
"""Seconds until a test that waits in vain fails."""

_ids = itertools.count()


def make_certificate(directory: Path, lifetime: float = 1.0) -> tuple[Path, Path]:
    """PEM files of a self-signed certificate for localhost, valid for so many days, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=lifetime))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate_file, key_file = directory / "certificate.pem", directory / "key.pem"
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return certificate_file, key_file


def peer(address: Address) -> Callable[[bytes], Attribute]:
    return lambda transaction_id: xor_peer_address(*address, transaction_id)


def udp_socket(host: str = "127.0.0.1") -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.bind((host, 0))
    return sock


async def receive(sock: socket.socket) -> bytes:
    """The next datagram, or what a connection has."""
    return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(sock, 65536), PATIENCE)


class Client:
    """A client with the credentials of ``user`` / ``pass``."""

    address: Address

    def __init__(self, name: str = "user", password: str = "pass") -> None:  # noqa: S107 - of a user in a test
        self.name, self.password = name, password
        self.challenge: Message | None = None

    async def send(self, message: bytes) -> None:
        raise NotImplementedError

    async def receive(self) -> bytes:
        """The next message."""
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    async def ask(self, method: Method, *attributes: AttributeMaker) -> Message:
        """A request; authenticated once there was a challenge."""
        id_ = next(_ids).to_bytes(12, "big")
        made = [attribute if isinstance(attribute, tuple) else attribute(id_) for attribute in attributes]
        key = None
        if self.challenge is not None and self.challenge.realm is not None:
            key = IntegrityKey.long_term(self.name, self.challenge.realm, self.password)
            made += [username(self.name), realm(self.challenge.realm), nonce(self.challenge.nonce or b"")]
        await self.send(encode(MessageClass.REQUEST, method, id_, made, key=key))
        response = decode(await self.receive())
        assert response.transaction_id == id_
        return response

    async def succeed(self, method: Method, *attributes: AttributeMaker) -> Message:
        """An authenticated request that succeeds."""
        if self.challenge is None:
            self.challenge = await self.ask(Method.ALLOCATE, *attributes)
            assert self.challenge.error_code is not None and self.challenge.error_code.code == 401
        response = await self.ask(method, *attributes)
        assert response.message_class is MessageClass.SUCCESS, response.error_code
        return response

    async def allocate(self, protocol: int, *attributes: AttributeMaker) -> Address:
        relayed = (await self.succeed(Method.ALLOCATE, requested_transport(protocol), *attributes)).xor_relayed_address
        assert relayed is not None
        return relayed


class UdpClient(Client):
    def __init__(self, server: Address, name: str = "user", password: str = "pass") -> None:  # noqa: S107
        super().__init__(name, password)
        self.sock = udp_socket(server[0])
        self.sock.connect(server)
        self.address = self.sock.getsockname()[:2]

    async def send(self, message: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, message)

    async def receive(self) -> bytes:
        return await receive(self.sock)

    def close(self) -> None:
        self.sock.close()


class StreamClient(Client):
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, challenge: Message | None) -> None:
        super().__init__()
        self.reader, self.writer = reader, writer
        self.address = writer.get_extra_info("sockname")[:2]
        self.challenge = challenge
        self._splitter = ServerStreamSplitter()
        self._messages: list[bytes] = []

    @classmethod
    async def connect(
        cls, server: Address, tls: ssl.SSLContext | None = None, challenge: Message | None = None
    ) -> StreamClient:
        name = "localhost" if tls else None
        reader, writer = await asyncio.open_connection(*server, ssl=tls, server_hostname=name)
        return cls(reader, writer, challenge)

    async def send(self, message: bytes) -> None:
        self.writer.write(message + bytes(-len(message) % 4))
        await self.writer.drain()

    async def receive(self) -> bytes:
        while not self._messages:
            chunk = await asyncio.wait_for(self.reader.read(65536), PATIENCE)
            if not chunk:
                raise EOFError
            self._messages += self._splitter.feed(chunk)
        return self._messages.pop(0)

    async def raw(self, size: int) -> bytes:
        """``size`` bytes after ConnectionBind."""
        early = self._splitter.detach()
        return early + await asyncio.wait_for(self.reader.readexactly(size - len(early)), PATIENCE)

    async def end(self) -> bytes:
        """Everything until the server closes."""
        return await asyncio.wait_for(self.reader.read(), PATIENCE)

    def close(self) -> None:
        self.writer.transport.abort()  # TLS would wait for the other end, longer than the loop runs


class SlowClient(Client):
    """A TCP client that takes in nothing that it does not ask for."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self.sock = sock
        self._splitter = ServerStreamSplitter()
        self._messages: list[bytes] = []

    @classmethod
    async def connect(cls, server: Address) -> SlowClient:
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 * 1024)
        await asyncio.get_running_loop().sock_connect(sock, server)
        return cls(sock)

    async def send(self, message: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, message)

    async def receive(self) -> bytes:
        while not self._messages:
            chunk = await receive(self.sock)
            if not chunk:
                raise EOFError
            self._messages += self._splitter.feed(chunk)
        return self._messages.pop(0)

    def close(self) -> None:
        self.sock.close()
