"""DTLS to servers over UDP (RFC 7350), with pyOpenSSL: the standard library has none."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol

from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from service_identity.pyopenssl import verify_hostname, verify_ip_address

from ice_tcp.core.commands import Failure, TlsOptions
from ice_tcp.datapath import Traffic
from ice_tcp.net.datagrams import ConnectedHandler, ConnectedSocket
from ice_tcp.net.sockets import NetworkError, SocketAddress

MAX_RECORD_BYTES = 2**14
"""What one record carries (RFC 6347 s4.1)."""

_DTLS_1_2 = 0xFEFD
_HANDSHAKE_MTU = 1200
_READ_BYTES = 65536
_RECORD_HEADER_BYTES = 13  # RFC 6347 s4.1
_CERTIFICATE_PROBLEMS = {
    9: "certificate is not yet valid",
    10: "certificate has expired",
    18: "self-signed certificate",
    19: "self-signed certificate in certificate chain",
    20: "unable to get local issuer certificate",
}
"""What OpenSSL says to the commonest of its X509_V_ERR numbers."""


class DtlsHandler(ConnectedHandler, Protocol):
    """Who owns a `DtlsSocket`."""

    def secured(self) -> None:
        """The handshake is done, messages may be sent."""

    def insecure(self, failure: Failure, problem: str) -> None:
        """No DTLS came about, or it ended. The socket is closed."""


class DtlsSocket(ConnectedSocket):
    """A UDP socket whose datagrams are records, to one server. The handshake begins at once, and is repeated as the
    records get lost; ``timeout`` seconds bound it."""

    __slots__ = ("_certificate_problem", "_deadline", "_is_secured", "_leg", "_options", "_retransmission", "_tls")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        host: str,
        remote: SocketAddress,
        send_limit: int,
        handler: DtlsHandler,
        *,
        tls: TlsOptions,
        timeout: float,
    ) -> None:
        """Raises NetworkError if the options cannot be followed, OSError if there is no way to ``remote``."""
        self._leg = handler
        self._options = tls
        self._certificate_problem = ""
        self._is_secured = False
        self._tls = SSL.Connection(self._context(), None)
        self._tls.set_connect_state()
        self._tls.set_ciphertext_mtu(_HANDSHAKE_MTU)
        if not _is_ip_address(tls.server_name):
            self._tls.set_tlsext_host_name(_ascii(tls.server_name))
        super().__init__(loop, sock, host, remote, send_limit, self)
        self._deadline = loop.call_later(timeout, self._time_out)
        self._retransmission: asyncio.TimerHandle | None = None
        self._shake()

    def _context(self) -> SSL.Context:
        context = SSL.Context(SSL.DTLS_CLIENT_METHOD)
        context.set_min_proto_version(_DTLS_1_2)  # RFC 8489 s6.2.3
        context.set_options(SSL.OP_NO_QUERY_MTU)
        context.set_verify(SSL.VERIFY_PEER if self._options.verify else SSL.VERIFY_NONE, self._judge)
        ca_file = self._options.ca_file
        try:
            if ca_file is None:
                context.set_default_verify_paths()
            else:
                context.load_verify_locations(ca_file)
        except SSL.Error:
            problem = f"cannot read the authorities in {ca_file}"
            raise NetworkError(Failure.TLS_CERTIFICATE, problem) from None
        return context

    def _judge(self, connection: SSL.Connection, certificate: object, error: int, depth: int, ok: int) -> bool:  # noqa: ARG002
        if not ok:
            self._certificate_problem = _CERTIFICATE_PROBLEMS.get(error, "certificate verify failed")
        return bool(ok) or not self._options.verify

    # The handshake

    def _shake(self) -> None:
        try:
            self._tls.do_handshake()
        except SSL.WantReadError:
            self._speak()
            self._await_timeout()
        except SSL.Error as error:
            self._speak()  # the alert
            if self._certificate_problem:
                self._end(Failure.TLS_CERTIFICATE, self._certificate_problem)
            else:
                self._end(Failure.TLS, _reason(error))
        else:
            self._speak()
            problem = self._name_problem() if self._options.verify else ""
            if problem:
                self._end(Failure.TLS_CERTIFICATE, problem)
            else:
                self._cancel_timers()
                self._is_secured = True
                self._leg.secured()

    def _name_problem(self) -> str:
        name = self._options.server_name
        try:
            (verify_ip_address if _is_ip_address(name) else verify_hostname)(self._tls, name)
        except (VerificationError, CertificateError):
            return f"certificate is not valid for {name!r}"
        return ""

    def _await_timeout(self) -> None:
        if self._retransmission is not None:
            self._retransmission.cancel()
        after = self._tls.DTLSv1_get_timeout()
        if after is not None:
            self._retransmission = self._loop.call_later(after, self._retransmit)

    def _retransmit(self) -> None:
        with suppress(SSL.Error):  # after too many; then the deadline tells
            self._tls.DTLSv1_handle_timeout()
        self._speak()
        self._await_timeout()

    def _time_out(self) -> None:
        self._end(Failure.TIMED_OUT, "the server does not answer the DTLS handshake")

    def _speak(self) -> None:
        """Send what OpenSSL has to say by itself."""
        with suppress(SSL.WantReadError):
            for datagram in datagrams_of(self._tls.bio_read(_READ_BYTES)):
                super().send(datagram, self.remote)

    # ConnectedHandler, of the socket beneath

    def datagrams_received(self, datagrams: list[bytes], source: SocketAddress, *, at_once: bool) -> None:  # noqa: ARG002
        for data in filter(None, datagrams):
            if not self.is_open:
                return
            self._tls.bio_write(data)
            if not self._is_secured:
                self._shake()
            if self._is_secured:
                self._decrypt(source)

    def _decrypt(self, source: SocketAddress) -> None:
        try:
            while self.is_open:
                self._leg.datagrams_received([self._tls.recv(_READ_BYTES)], source, at_once=False)
        except SSL.WantReadError:
            pass
        except SSL.ZeroReturnError:
            self._end(Failure.CLOSED, "the server closed the connection")
        except SSL.Error as error:
            self._end(Failure.TLS, _reason(error))

    def datagram_refused(self) -> None:
        self._end(Failure.REFUSED, "nobody listens on that port")

    def writable(self) -> None:
        self._leg.writable()

    # ConnectedSocket

    def send(self, data: bytes, remote: SocketAddress) -> None:
        if self._is_secured and len(data) <= MAX_RECORD_BYTES:
            super().send(self._record(data), remote)

    def send_data(self, remote: SocketAddress, traffic: Traffic, data: bytes) -> int:
        size = len(data)
        if size > MAX_RECORD_BYTES:
            raise ValueError(f"a message of {size} bytes does not fit a DTLS record of at most {MAX_RECORD_BYTES}")
        return super().send_data(remote, traffic, self._record(data)) if self._is_secured else 1

    def _record(self, data: bytes) -> bytes:
        self._tls.send(data)
        return self._tls.bio_read(_READ_BYTES)

    def close(self) -> None:
        """Send what was joined and a close_notify, then close."""
        self._cancel_timers()
        if self._is_secured:
            self._is_secured = False
            with suppress(SSL.Error):
                self._tls.shutdown()
            self._speak()
        super().close()

    def _end(self, failure: Failure, problem: str) -> None:
        if self.is_open:
            self._is_secured = False  # no close_notify: there is nobody to hear it
            self.close()
            self._leg.insecure(failure, problem)

    def _cancel_timers(self) -> None:
        self._deadline.cancel()
        if self._retransmission is not None:
            self._retransmission.cancel()


def datagrams_of(flight: bytes) -> Iterator[bytes]:
    """The records of a flight, which OpenSSL gives in one piece, as many in a datagram as fit (RFC 6347 s4.2.3)."""
    begin = end = 0
    while end < len(flight):
        length = _RECORD_HEADER_BYTES + int.from_bytes(flight[end + 11 : end + _RECORD_HEADER_BYTES], "big")
        if begin < end and end + length - begin > _HANDSHAKE_MTU:
            yield flight[begin:end]
            begin = end
        end += length
    yield flight[begin:]


def _is_ip_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _ascii(name: str) -> bytes:
    try:
        return name.encode("idna")
    except UnicodeError:
        raise NetworkError(Failure.TLS_CERTIFICATE, f"{name!r} can be in no certificate") from None


def _reason(error: SSL.Error) -> str:
    """What OpenSSL says, for people."""
    reasons = [str(each[-1]) for each in error.args[0]] if error.args and isinstance(error.args[0], list) else []
    text = reasons[-1] if reasons else "no DTLS"
    alert = text.partition("alert ")[2]
    return f"the server refuses: {alert}" if alert else text
