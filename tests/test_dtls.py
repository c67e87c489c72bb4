"""Legs over DTLS: to servers with certificates that are right and wrong, through networks that lose, and to others."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from OpenSSL import SSL

from candidates.candidate import TransportAddress
from ice_tcp.core.commands import BindChannel, Close, Failure, LegTransport, OpenLeg, SendLeg, TlsOptions
from ice_tcp.net.dtls import MAX_RECORD_BYTES, datagrams_of
from ice_tcp.net.sockets import bind_udp
from tests.loops import Runner, on_loop, run
from tests.server_clients import make_certificate
from tests.test_asyncio_net import HOST, address_of
from tests.test_datapath import stun
from tests.test_datapath_relay import CHANNEL, channel_data
from tests.test_driver import Session, session, turns
from tests.test_legs import LEG, PATH, PEER, in_use, leg_closed
from tests.test_tls import trusting

__all__ = ["on_loop"]

DTLS = LegTransport.DTLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("dtls"))


async def received(sock: socket.socket) -> tuple[bytes, tuple[str, int]]:
    """The next datagram and its source (which uvloop's sock_recvfrom would be, if there were one)."""
    loop = asyncio.get_running_loop()
    while True:
        with suppress(BlockingIOError):
            return sock.recvfrom(65536)
        readable = asyncio.Event()
        loop.add_reader(sock, readable.set)
        try:
            await readable.wait()
        finally:
            loop.remove_reader(sock)


class DtlsServer:
    """A server of one client; ``lose`` are the numbers of the datagrams, in or out, that the network loses."""

    def __init__(self, sock: socket.socket, files: tuple[Path, Path], lose: tuple[int, ...] = ()) -> None:
        context = SSL.Context(SSL.DTLS_SERVER_METHOD)
        context.use_certificate_file(str(files[0]))
        context.use_privatekey_file(str(files[1]))
        context.set_options(SSL.OP_NO_QUERY_MTU)
        self._tls = SSL.Connection(context, None)
        self._tls.set_accept_state()
        self._tls.set_ciphertext_mtu(1200)
        self.sock = sock
        self.address = address_of(sock)
        self.client: tuple[str, int] | None = None
        self._lose = lose
        self._count = 0

    def _is_lost(self) -> bool:
        self._count += 1
        return self._count in self._lose

    async def _take_in(self) -> None:
        data, self.client = await received(self.sock)
        if not self._is_lost():
            self._tls.bio_write(data)

    def flush(self) -> None:
        with suppress(SSL.WantReadError):
            record = self._tls.bio_read(65536)
            if not self._is_lost():
                assert self.client is not None
                self.sock.sendto(record, self.client)

    async def shake(self) -> None:
        """Raises SSL.Error."""
        while True:
            try:
                self._tls.do_handshake()
            except SSL.WantReadError:
                self.flush()
                await self._take_in()
            else:
                self.flush()
                return

    async def read(self) -> bytes:
        """The next message, b"" for close_notify."""
        while True:
            try:
                return self._tls.recv(65536)
            except SSL.WantReadError:
                self.flush()
                await self._take_in()
            except SSL.ZeroReturnError:
                return b""

    def write(self, data: bytes) -> None:
        self._tls.send(data)
        self.flush()

    def finish(self) -> None:
        self._tls.shutdown()
        self.flush()


@contextmanager
def dtls_server(files: tuple[Path, Path], *lose: int) -> Iterator[DtlsServer]:
    with bind_udp(HOST, None) as sock:
        yield DtlsServer(sock, files, lose)


def open_leg(remote: TransportAddress, tls: TlsOptions, timeout: float = 10.0) -> OpenLeg:
    return OpenLeg(LEG, 1, HOST, remote, DTLS, timeout, tls)


async def opened(s: Session, server: DtlsServer, files: tuple[Path, Path]) -> TransportAddress:
    s.do(open_leg(server.address, trusting(files)))
    await server.shake()
    leg, address = await s.core.input("leg_opened")
    assert leg == LEG
    assert isinstance(address, TransportAddress)
    assert server.client == (address.host, address.port)
    return address


async def refused(s: Session, server: DtlsServer, tls: TlsOptions) -> tuple[Failure, str]:
    """How a leg fails whose client does not like the server."""
    s.do(open_leg(server.address, tls))
    with suppress(SSL.Error):
        await server.shake()
    leg, failure, text = await s.core.input("leg_lost")
    assert leg == LEG
    return failure, text


@pytest.mark.parametrize("name", ["localhost", HOST])
def test_messages_and_data_both_ways(certificate: tuple[Path, Path], on_loop: Runner, name: str) -> None:
    async def main() -> None:
        async with session() as s:
            with dtls_server(certificate) as server:
                s.do(open_leg(server.address, trusting(certificate, name)), SendLeg(LEG, stun(b"none")))
                await server.shake()
                await s.core.input("leg_opened")
                s.do(SendLeg(LEG, stun(b"ask.")), *in_use())
                assert await server.read() == stun(b"ask.")
                server.write(stun(b"answ"))
                assert await s.core.input("leg_received") == (LEG, stun(b"answ"))
                server.write(channel_data(b"hello"))
                assert await s.recv() == b"hello"
                server.write(channel_data(stun()))
                assert await s.core.input("relayed") == (LEG, PEER, stun())
                await s.component.outlet.send(b"back")
                assert await server.read() == channel_data(b"back")
                traffic = s.driver.traffic(PATH)
                assert traffic is not None
                assert (traffic.bytes_sent, traffic.bytes_received) == (4, 5)
                s.do(SendLeg(LEG, stun(b"bye.")), Close(LEG))
                assert await server.read() == stun(b"bye.")
                assert await server.read() == b"", "closed in good order"

    on_loop(main())


def test_bursts_both_ways(certificate: tuple[Path, Path], on_loop: Runner) -> None:
    sent = [b"%04d" % number * 300 for number in range(50)]

    async def main() -> None:
        async with session() as s:
            with dtls_server(certificate) as server, leg_closed(s):
                await opened(s, server, certificate)
                s.do(*in_use())
                for message in sent:
                    await s.component.outlet.send(message)
                for message in sent:
                    assert await server.read() == channel_data(message)
                    server.write(channel_data(message))
                assert [await s.recv() for _ in sent] == sent

    on_loop(main())


def test_a_message_fits_a_record_or_is_refused(certificate: tuple[Path, Path]) -> None:
    async def main() -> None:
        async with session() as s:
            with dtls_server(certificate) as server, leg_closed(s):
                await opened(s, server, certificate)
                s.do(*in_use())
                longest = bytes(MAX_RECORD_BYTES - 4)
                await s.component.outlet.send(longest)
                assert await server.read() == channel_data(longest)
                with pytest.raises(ValueError, match="does not fit a DTLS record"):
                    await s.component.outlet.send(longest + b"x")

    run(main())


# 1: ClientHello, 2: HelloVerifyRequest or the server's flight, and so on
@pytest.mark.parametrize("lost", [1, 2, 3, 4])
def test_the_handshake_survives_the_loss_of_any_datagram(certificate: tuple[Path, Path], lost: int) -> None:
    async def main() -> None:
        async with session() as s:
            with dtls_server(certificate, lost) as server, leg_closed(s):
                s.do(open_leg(server.address, trusting(certificate)))

                async def serve() -> None:
                    await server.shake()
                    while True:
                        server.write(await server.read())

                serving = asyncio.create_task(serve())
                await s.core.input("leg_opened")
                s.do(SendLeg(LEG, stun()))
                assert await s.core.input("leg_received") == (LEG, stun())
                serving.cancel()
                await asyncio.wait([serving])

    run(main())


# Certificates


@pytest.mark.parametrize(
    ("tls", "text"),
    [
        ({"server_name": "turn.example.org"}, "certificate is not valid for 'turn.example.org'"),
        ({"server_name": "127.0.0.2"}, "certificate is not valid for '127.0.0.2'"),
        ({"ca_file": None}, "self-signed certificate"),
    ],
)
def test_a_certificate_that_is_not_for_this_server(
    certificate: tuple[Path, Path], tls: dict[str, str | None], text: str
) -> None:
    async def main() -> None:
        async with session() as s:
            with dtls_server(certificate) as server:
                options = replace(trusting(certificate), **tls)  # type: ignore[arg-type]
                assert await refused(s, server, options) == (Failure.TLS_CERTIFICATE, text)

    run(main())


def test_a_certificate_that_is_no_longer_valid(tmp_path: Path) -> None:
    expired = make_certificate(tmp_path, lifetime=-0.5)

    async def main() -> None:
        async with session() as s:
            with dtls_server(expired) as server:
                lost = await refused(s, server, trusting(expired))
                assert lost == (Failure.TLS_CERTIFICATE, "certificate has expired")

    run(main())


def test_without_verification_any_certificate_does(tmp_path: Path) -> None:
    expired = make_certificate(tmp_path, lifetime=-0.5)

    async def main() -> None:
        async with session() as s:
            with dtls_server(expired) as server, leg_closed(s):
                s.do(open_leg(server.address, TlsOptions("turn.example.org", verify=False)))
                await server.shake()
                await s.core.input("leg_opened")

    run(main())


def test_authorities_that_cannot_be_read(tmp_path: Path) -> None:
    async def main() -> None:
        async with session() as s:
            path = tmp_path / "nothing.pem"
            s.do(open_leg(TransportAddress(HOST, 9), TlsOptions("localhost", ca_file=str(path))))
            lost = (LEG, Failure.TLS_CERTIFICATE, f"cannot read the authorities in {path}")
            assert await s.core.input("leg_lost") == lost

    run(main())


def test_a_name_that_can_be_in_no_certificate() -> None:
    async def main() -> None:
        async with session() as s:
            s.do(open_leg(TransportAddress(HOST, 9), TlsOptions("a" * 70 + ".example")))
            assert (await s.core.input("leg_lost"))[1] is Failure.TLS_CERTIFICATE

    run(main())


def test_without_the_extra_the_failure_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ice_tcp.net.dtls", None)

    async def main() -> None:
        async with session() as s:
            s.do(open_leg(TransportAddress(HOST, 9), TlsOptions("localhost")))
            lost = (LEG, Failure.TLS, "DTLS needs the extra: pip install 'ice-tcp[dtls]'")
            assert await s.core.input("leg_lost") == lost

    run(main())


# What is no DTLS server


def test_a_server_that_does_not_speak_dtls() -> None:
    async def main() -> None:
        async with session() as s:
            with bind_udp(HOST, None) as server:
                s.do(open_leg(address_of(server), TlsOptions("localhost"), 0.2))
                hello, client = await received(server)
                assert hello[0] == 22
                for answer in (stun(), b"what?", b"", hello[:20], b"\x16\xfe\xfd" + bytes(10)):
                    server.sendto(answer, client)
                lost = (LEG, Failure.TIMED_OUT, "the server does not answer the DTLS handshake")
                assert await s.core.input("leg_lost") == lost

    run(main())


def test_a_server_that_refuses_the_handshake() -> None:
    async def main() -> None:
        async with session() as s:
            with bind_udp(HOST, None) as server:
                s.do(open_leg(address_of(server), TlsOptions("localhost")))
                _, client = await received(server)
                server.sendto(b"\x15\xfe\xfd" + bytes(8) + b"\x00\x02\x02\x28", client)
                leg, failure, text = await s.core.input("leg_lost")
                assert (leg, failure, text) == (LEG, Failure.TLS, "the server refuses: handshake failure")

    run(main())


def test_a_port_where_nobody_listens() -> None:
    async def main() -> None:
        async with session() as s:
            with bind_udp(HOST, None) as sock:
                remote = address_of(sock)
            s.do(open_leg(remote, TlsOptions("localhost")))
            assert await s.core.input("leg_lost") == (LEG, Failure.REFUSED, "nobody listens on that port")

    run(main())


# Ends


def test_the_end_of_a_connection(certificate: tuple[Path, Path]) -> None:
    async def main() -> None:
        async with session() as s:
            with dtls_server(certificate) as server:
                await opened(s, server, certificate)
                server.write(stun())
                server.finish()
                await s.core.input("leg_received")
                assert await s.core.input("leg_lost") == (LEG, Failure.CLOSED, "the server closed the connection")
                s.do(SendLeg(LEG, stun()), Close(LEG))
                assert s.core.inputs.empty()

    run(main())


def test_records_that_were_tampered_with_are_dropped(certificate: tuple[Path, Path]) -> None:
    async def main() -> None:
        async with session() as s:
            with dtls_server(certificate) as server, leg_closed(s):
                await opened(s, server, certificate)
                s.do(BindChannel(LEG, PEER, CHANNEL))
                assert server.client is not None
                record = b"\x17\xfe\xfd\x00\x01" + bytes(6) + b"\x00\x20" + bytes(32)
                for forged in (record, stun(), channel_data(b"x")):
                    server.sock.sendto(forged, server.client)
                server.write(stun(b"true"))
                assert await s.core.input("leg_received") == (LEG, stun(b"true"))
                assert s.core.inputs.empty()

    run(main())


def test_a_leg_that_is_closed_in_the_handshake_leaves_nothing() -> None:
    async def main() -> None:
        async with session() as s:
            with bind_udp(HOST, None) as server:
                s.do(open_leg(address_of(server), TlsOptions("localhost"), 0.05), Close(LEG))
                await asyncio.sleep(0.1)
                await turns(2)
                assert s.core.inputs.empty()

    run(main())


def record(size: int) -> bytes:
    """A DTLS record that carries ``size`` bytes."""
    return b"\x16\xfe\xfd" + bytes(8) + size.to_bytes(2, "big") + bytes(size)


@pytest.mark.parametrize(
    ("sizes", "datagrams"),
    [
        ([], [[]]),
        ([100], [[100]]),
        ([100, 500, 500, 900, 200], [[100, 500, 500], [900, 200]]),
        ([3000, 1], [[3000], [1]]),
    ],
)
def test_a_flight_goes_in_datagrams_that_fit(sizes: list[int], datagrams: list[list[int]]) -> None:
    flight = b"".join(map(record, sizes))
    assert list(datagrams_of(flight)) == [b"".join(map(record, each)) for each in datagrams]
