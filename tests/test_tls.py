"""Legs over TLS: to servers with certificates that are right and wrong, and to what is no TLS server at all."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from candidates.candidate import TransportAddress
from ice_tcp.core.commands import (
    Admit,
    Close,
    Failure,
    LegTransport,
    OpenLeg,
    SendLeg,
    SendStream,
    TcpPath,
    TlsOptions,
    TurnIntoStream,
    Use,
)
from ice_tcp.framing import ServerStreamSplitter
from tests.loops import Runner, on_loop, run
from tests.server_clients import make_certificate
from tests.test_asyncio_net import HOST, accept, address_of, plain_listener, reset
from tests.test_datapath import stun
from tests.test_datapath_relay import channel_data
from tests.test_driver import Session, session, turns
from tests.test_framing import frame
from tests.test_legs import LEG, PATH, STREAM, in_use, leg_closed

__all__ = ["on_loop"]

TLS = LegTransport.TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


class TlsEnd:
    """The server's end of a connection."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._splitter = ServerStreamSplitter()
        self._found: list[bytes] = []

    async def shake(self) -> None:
        """Raises ssl.SSLError."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._take_in()
            else:
                await self._flush()
                return

    async def _take_in(self) -> None:
        chunk = await asyncio.get_running_loop().sock_recv(self.sock, 65536)
        if chunk:
            self._incoming.write(chunk)
        else:
            self._incoming.write_eof()

    async def _flush(self) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, self._outgoing.read())

    async def read(self) -> bytes:
        """What came; nothing after close_notify. Raises ssl.SSLEOFError if the connection ended without."""
        while True:
            try:
                return self._tls.read(65536)
            except ssl.SSLWantReadError:
                await self._take_in()

    async def read_exactly(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            received += await self.read()
        return received

    async def messages(self, count: int) -> list[bytes]:
        while len(self._found) < count:
            chunk = await self.read()
            assert chunk, f"closed after {len(self._found)} messages"
            self._found += self._splitter.feed(chunk)
        found, self._found = self._found[:count], self._found[count:]
        return found

    async def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        await self._flush()

    async def finish(self) -> None:
        """Send close_notify."""
        with suppress(ssl.SSLWantReadError):
            self._tls.unwrap()
        await self._flush()


class TlsServer:
    def __init__(self, listener: socket.socket, files: tuple[Path, Path]) -> None:
        self.address = address_of(listener)
        self._listener = listener
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*files)
        self._ends: list[socket.socket] = []

    async def accept(self) -> TlsEnd:
        """Raises ssl.SSLError if the client does not like us."""
        sock = await accept(self._listener)
        self._ends.append(sock)
        end = TlsEnd(sock, self._context)
        await end.shake()
        return end

    def close(self) -> None:
        for sock in self._ends:
            sock.close()


@contextmanager
def tls_server(files: tuple[Path, Path]) -> Iterator[TlsServer]:
    with plain_listener() as listener, closing(TlsServer(listener, files)) as server:
        yield server


def open_leg(remote: TransportAddress, tls: TlsOptions | None = None, timeout: float = 10.0) -> OpenLeg:
    return OpenLeg(LEG, 1, HOST, remote, TLS, timeout, tls)


def trusting(files: tuple[Path, Path], name: str = "localhost") -> TlsOptions:
    return TlsOptions(name, ca_file=str(files[0]))


async def opened(s: Session, server: TlsServer, files: tuple[Path, Path]) -> TlsEnd:
    s.do(open_leg(server.address, trusting(files)))
    end = await server.accept()
    await s.core.input("leg_opened")
    return end


async def refused(s: Session, server: TlsServer, tls: TlsOptions) -> tuple[Failure, str]:
    """How a leg fails whose client does not like the server."""
    s.do(open_leg(server.address, tls))
    with suppress(ssl.SSLError):  # with TLS 1.3 the server may hear of it later
        await server.accept()
    leg, failure, text = await s.core.input("leg_lost")
    assert leg == LEG
    return failure, text


@pytest.mark.parametrize("name", ["localhost", HOST])
def test_messages_and_data_both_ways(certificate: tuple[Path, Path], on_loop: Runner, name: str) -> None:
    async def main() -> None:
        async with session() as s:
            with tls_server(certificate) as server:
                s.do(open_leg(server.address, trusting(certificate, name)))
                end = await server.accept()
                _, here = await s.core.input("leg_opened")
                assert end.sock.getpeername() == (here.host, here.port)
                s.do(SendLeg(LEG, stun(b"ask.")), *in_use())
                assert await end.messages(1) == [stun(b"ask.")]
                await end.write(stun(b"answ") + channel_data(b"hello", padded=True))
                assert await s.core.input("leg_received") == (LEG, stun(b"answ"))
                assert await s.recv() == b"hello"
                await s.component.outlet.send(b"back")
                assert await end.messages(1) == [channel_data(b"back")]
                traffic = s.driver.traffic(PATH)
                assert traffic is not None
                assert (traffic.bytes_sent, traffic.bytes_received) == (4, 5)
                s.do(SendLeg(LEG, stun(b"bye.")), Close(LEG))
                assert await end.messages(1) == [stun(b"bye.")]
                assert await end.read() == b"", "closed in good order"

    on_loop(main())


def test_floods_both_ways_with_messages_between(certificate: tuple[Path, Path], on_loop: Runner) -> None:
    data = bytes(range(250)) * 40

    async def main() -> None:
        async with session(receive_bytes=2**26) as s:
            with tls_server(certificate) as server, leg_closed(s):
                end = await opened(s, server, certificate)
                s.do(*in_use(), SendLeg(LEG, stun()))
                await end.write(stun())
                await s.core.input("leg_received")

                async def send() -> None:
                    for _ in range(1000):
                        await s.component.outlet.send(data)

                async def answer() -> None:
                    for _ in range(1000):
                        await end.write(channel_data(data))

                tasks = [asyncio.create_task(send()), asyncio.create_task(answer())]
                await turns(50)
                s.do(SendLeg(LEG, stun(b"over")))
                got = await end.messages(1002)
                assert got.count(channel_data(data)) == 1000
                assert got[0] == stun()
                assert 0 < got.index(stun(b"over")) < 1000, "it did not wait behind all data"
                await asyncio.gather(*tasks)
                for _ in range(1000):
                    assert await s.recv() == data

    on_loop(main())


@pytest.mark.parametrize("size", [*range(1, 50, 6), 1000])
def test_a_connection_of_a_tcp_relay_keeps_its_tls(certificate: tuple[Path, Path], size: int) -> None:
    stream = stun(b"ok. ") + frame(stun(b"chck")) + frame(b"early")

    async def main() -> None:
        async with session() as s:
            s.core.answers["leg_received"] = lambda *_: [TurnIntoStream(LEG, STREAM), SendStream(STREAM, stun(b"mine"))]
            with tls_server(certificate) as server:
                end = await opened(s, server, certificate)
                for start in range(0, len(stream), size):
                    await end.write(stream[start : start + size])
                    await turns(2)
                await s.core.input("leg_received")
                assert await s.core.input("stream_received") == (STREAM, stun(b"chck"))
                s.do(Admit(TcpPath(STREAM)), Use(1, TcpPath(STREAM)))
                assert await s.recv() == b"early"
                await s.component.outlet.send(b"back")
                expected = frame(stun(b"mine")) + frame(b"back")
                assert await end.read_exactly(len(expected)) == expected
                await end.finish()
                end.sock.shutdown(socket.SHUT_WR)
                assert await s.core.input("stream_closed") == (STREAM,)

    run(main())


# Certificates


@pytest.mark.parametrize(
    ("tls", "text"),
    [
        ({"server_name": "turn.example.org"}, "Hostname mismatch, certificate is not valid for 'turn.example.org'."),
        ({"server_name": "127.0.0.2"}, "IP address mismatch, certificate is not valid for '127.0.0.2'."),
        ({"ca_file": None}, "self-signed certificate"),
    ],
)
def test_a_certificate_that_is_not_for_this_server(
    certificate: tuple[Path, Path], tls: dict[str, str | None], text: str
) -> None:
    async def main() -> None:
        async with session() as s:
            with tls_server(certificate) as server:
                options = replace(trusting(certificate), **tls)  # type: ignore[arg-type]
                assert await refused(s, server, options) == (Failure.TLS_CERTIFICATE, text)

    run(main())


def test_a_certificate_that_is_no_longer_valid(tmp_path: Path) -> None:
    expired = make_certificate(tmp_path, lifetime=-0.5)

    async def main() -> None:
        async with session() as s:
            with tls_server(expired) as server:
                lost = await refused(s, server, trusting(expired))
                assert lost == (Failure.TLS_CERTIFICATE, "certificate has expired")

    run(main())


def test_without_verification_any_certificate_does(tmp_path: Path) -> None:
    expired = make_certificate(tmp_path, lifetime=-0.5)

    async def main() -> None:
        async with session() as s:
            with tls_server(expired) as server, leg_closed(s):
                s.do(open_leg(server.address, TlsOptions("turn.example.org", verify=False)))
                await server.accept()
                await s.core.input("leg_opened")

    run(main())


def test_without_options_the_certificate_must_be_for_the_address_and_the_authority_the_systems(
    certificate: tuple[Path, Path],
) -> None:
    async def main() -> None:
        async with session() as s:
            with tls_server(certificate) as server:
                s.do(open_leg(server.address))
                with suppress(ssl.SSLError):
                    await server.accept()
                assert (await s.core.input("leg_lost"))[1] is Failure.TLS_CERTIFICATE

    run(main())


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_authorities_that_cannot_be_read(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "authorities.pem"
    if content is not None:
        path.write_text(content)

    async def main() -> None:
        async with session() as s:
            s.do(open_leg(TransportAddress(HOST, 9), TlsOptions("localhost", ca_file=str(path))))
            leg, failure, text = await s.core.input("leg_lost")
            assert (leg, failure) == (LEG, Failure.TLS_CERTIFICATE)
            assert text.startswith(f"cannot read the authorities in {path}: ")

    run(main())


def test_a_name_that_can_be_in_no_certificate() -> None:
    async def main() -> None:
        async with session() as s:
            s.do(open_leg(TransportAddress(HOST, 9), TlsOptions("a" * 70 + ".example")))
            leg, failure, text = await s.core.input("leg_lost")
            assert (leg, failure) == (LEG, Failure.TLS_CERTIFICATE)
            assert text.endswith("can be in no certificate")

    run(main())


# What is no TLS server


async def lost_to(server_does: bytes | None, *, within: float = 10.0) -> tuple[Failure, str]:
    """How a leg fails against a plain server that says this and closes; None: it says nothing, and waits."""
    async with session() as s:
        with plain_listener() as listener:
            s.do(open_leg(address_of(listener), TlsOptions("localhost"), within))
            with closing(await accept(listener)) as server:
                await asyncio.get_running_loop().sock_recv(server, 4096)
                if server_does is not None:
                    server.send(server_does)
                    server.shutdown(socket.SHUT_WR)
                leg, failure, text = await s.core.input("leg_lost")
                assert leg == LEG
                s.do(SendLeg(LEG, stun()), Close(LEG))
                assert s.core.inputs.empty()
                return failure, text


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the port does not speak TLS"),
        (stun(), "the port does not speak TLS"),
        (b"", "the server closed the connection in the TLS handshake"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "the server refuses: handshake failure"),
        (b"\x16\x03\x03\x40", "the server closed the connection in the TLS handshake"),
    ],
)
def test_a_port_that_does_not_speak_tls(answer: bytes, text: str) -> None:
    async def main() -> None:
        assert await lost_to(answer) == (Failure.TLS, text)

    run(main())


def test_the_time_out_covers_the_handshake() -> None:
    async def main() -> None:
        lost = (Failure.TIMED_OUT, "the server does not answer the TLS handshake")
        assert await lost_to(None, within=0.1) == lost

    run(main())


def test_a_reset_in_the_handshake() -> None:
    async def main() -> None:
        async with session() as s:
            with plain_listener() as listener:
                s.do(open_leg(address_of(listener), TlsOptions("localhost")))
                (await accept(listener)).close()  # with the hello unread
                leg, failure, text = await s.core.input("leg_lost")
                assert (leg, failure) == (LEG, Failure.TLS)
                assert text.endswith("in the TLS handshake")

    run(main())


def test_a_tls_server_on_a_plain_port(certificate: tuple[Path, Path]) -> None:
    async def main() -> None:
        async with session() as s:
            with tls_server(certificate) as server:
                s.do(OpenLeg(LEG, 1, HOST, server.address, LegTransport.TCP, 5.0))
                await s.core.input("leg_opened")
                s.do(SendLeg(LEG, stun()))
                with pytest.raises(ssl.SSLError):
                    await server.accept()
                server.close()
                lost = (LEG, Failure.CLOSED, "the server closed the connection without an answer")
                assert await s.core.input("leg_lost") == lost

    run(main())


# Ends


@pytest.mark.parametrize("end", ["close_notify", "fin", "reset"])
def test_the_end_of_a_connection(certificate: tuple[Path, Path], end: str) -> None:
    async def main() -> None:
        async with session() as s:
            with tls_server(certificate) as server:
                theirs = await opened(s, server, certificate)
                s.do(*in_use())
                await theirs.write(stun() + channel_data(b"last", padded=True) + stun(b"1234")[:-1])
                await s.core.input("leg_received")
                assert await s.recv() == b"last"
                if end == "close_notify":
                    await theirs.finish()
                elif end == "fin":
                    theirs.sock.shutdown(socket.SHUT_WR)
                else:
                    reset(theirs.sock)
                leg, failure, _ = await s.core.input("leg_lost")
                assert (leg, failure) == (LEG, Failure.RESET if end == "reset" else Failure.CLOSED)

    run(main())


def test_bytes_that_were_tampered_with_end_a_connection(certificate: tuple[Path, Path]) -> None:
    async def main() -> None:
        async with session() as s:
            with tls_server(certificate) as server:
                end = await opened(s, server, certificate)
                await end.write(stun())
                await s.core.input("leg_received")
                end.sock.send(b"\x17\x03\x03\x00\x20" + bytes(32))
                leg, failure, _ = await s.core.input("leg_lost")
                assert (leg, failure) == (LEG, Failure.TLS)

    run(main())


def test_a_leg_that_is_closed_in_the_handshake_leaves_nothing() -> None:
    async def main() -> None:
        async with session() as s:
            with plain_listener() as listener:
                s.do(open_leg(address_of(listener), TlsOptions("localhost"), 0.05))
                with closing(await accept(listener)) as server:
                    loop = asyncio.get_running_loop()
                    await loop.sock_recv(server, 4096)
                    s.do(SendLeg(LEG, stun()), Close(LEG))
                    assert await loop.sock_recv(server, 4096) == b""
                await asyncio.sleep(0.1)
                assert s.core.inputs.empty()

    run(main())
