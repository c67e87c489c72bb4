"""TLS to servers, over the connections of `ice_tcp.net.streams`."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from contextlib import suppress
from functools import lru_cache
from typing import cast

from candidates.candidate import TransportAddress
from ice_tcp.core.commands import Failure
from ice_tcp.framing import JOIN_BYTES, Buffer
from ice_tcp.net.sockets import NetworkError
from ice_tcp.net.streams import Connection, P, StreamHandler

_READ_BYTES = 64 * 1024
_WOULD_BLOCK = (BlockingIOError, InterruptedError)


@lru_cache(maxsize=16)
def tls_context(verify: bool, ca_file: str | None) -> ssl.SSLContext:
    """How to judge a server's certificate. Read once a process: the authorities of a system take 25 ms.

    Raises NetworkError.
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # ssl.SSLError is one
        problem = f"cannot read the authorities in {ca_file}: {error.strerror or error.args[-1]}"
        raise NetworkError(Failure.TLS_CERTIFICATE, problem) from None
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class TlsLayer:
    """TLS between a `Connection` and its socket, with the calls of a non-blocking socket.

    All that is written is taken while `flush` leaves nothing; so there is never a write that must be repeated as it
    was, and STUN can overtake data here, too.
    """

    __slots__ = ("_incoming", "_outgoing", "_sock", "_tls", "_unsent")

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_name: str) -> None:
        self._sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._unsent = b""
        try:
            self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_name)
        except ValueError:  # UnicodeError is one
            raise NetworkError(Failure.TLS_CERTIFICATE, f"{server_name!r} can be in no certificate") from None

    def shake(self) -> bool:
        """Go on with the handshake; return whether it is done, else call again when something can be read.

        Raises ssl.SSLError, ConnectionError.
        """
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.flush()
            except ssl.SSLError:
                with suppress(OSError):  # the alert
                    self.flush()
                raise
            else:
                self.flush()
                return True
            try:
                self._take_in()
            except _WOULD_BLOCK:
                return False

    def _take_in(self) -> None:
        chunk = self._sock.recv(_READ_BYTES)
        if chunk:
            self._incoming.write(chunk)
        else:
            self._incoming.write_eof()

    def recv_into(self, buffer: memoryview) -> int:
        """Read once, and decrypt all of it; ``buffer`` is larger. 0 means that the other end is done."""
        if not self._incoming.eof:
            self._take_in()
        size = 0
        try:
            while size < len(buffer):
                count = cast("int", self._tls.read(len(buffer) - size, buffer[size:]))
                if not count:
                    break
                size += count
        except ssl.SSLWantReadError:
            if not size:
                raise BlockingIOError(errno.EAGAIN, "no whole record yet") from None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            pass  # messages tell their length, so an end without close_notify cuts nothing unseen
        except ssl.SSLError as error:
            if not size:
                raise OSError(errno.EPROTO, reason(error)) from None
        finally:
            if self._outgoing.pending:  # the answer to a key update, or an alert
                with suppress(OSError):
                    self.flush()
        return size

    def send(self, data: bytes) -> int:
        if not self.flush():
            raise BlockingIOError(errno.EAGAIN, "the kernel takes no more")
        view = memoryview(data)
        while view:
            try:
                view = view[self._tls.write(view) :]
            except ssl.SSLError as error:
                raise OSError(errno.EPROTO, reason(error)) from None
        self.flush()
        return len(data)

    def sendmsg(self, buffers: list[Buffer]) -> int:
        return self.send(b"".join(buffers))

    def flush(self) -> bool:
        """Send what was encrypted; return whether nothing of it is left. Raises OSError."""
        if self._outgoing.pending:
            self._unsent += self._outgoing.read()
        if self._unsent:
            try:
                self._unsent = self._unsent[self._sock.send(self._unsent) :]
            except _WOULD_BLOCK:
                return False
        return not self._unsent

    def finish(self) -> None:
        """Say that nothing more comes (close_notify)."""
        with suppress(OSError):  # SSLWantReadError: it waits for the other end's
            self._tls.unwrap()
        with suppress(OSError):
            self.flush()


class SecureConnection(Connection[P]):
    """A connection over TLS: it stands when the handshake is done, within the time-out of `connect`."""

    __slots__ = ("_tls",)

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        host: str,
        path: P,
        handler: StreamHandler[P],
        tls: TlsLayer,
    ) -> None:
        super().__init__(loop, sock, host, path, handler)
        self._io = self._tls = tls

    def connect(self, remote: TransportAddress, timeout: float) -> None:
        self._timer = self._loop.call_later(timeout, self._time_out)
        super().connect(remote, timeout)

    def _time_out(self) -> None:
        self._fail(Failure.TIMED_OUT)

    def _established(self) -> None:
        self.problem = "the server does not answer the TLS handshake"
        self._loop.add_reader(self._sock.fileno(), self._shake)
        self._shake()

    def _shake(self) -> None:
        try:
            if not self._tls.shake():
                return
        except ssl.SSLCertVerificationError as error:
            self._refuse(Failure.TLS_CERTIFICATE, error.verify_message)
        except ssl.SSLEOFError:
            self._refuse(Failure.TLS, "the server closed the connection in the TLS handshake")
        except ssl.SSLError as error:
            self._refuse(Failure.TLS, reason(error))
        except OSError as error:
            self._refuse(Failure.TLS, f"{error.strerror} in the TLS handshake")
        else:
            self.problem = ""
            if self._timer is not None:
                self._timer.cancel()
            super()._established()

    def _refuse(self, failure: Failure, problem: str) -> None:
        self.problem = problem
        self._fail(failure)

    def send_data(self, data: bytes) -> int:
        pending = self.path.send_data(data)
        if not pending:
            return 0
        if self._joining:
            if pending >= JOIN_BYTES and not self._writing:
                self._write()
        elif self._writing:
            self._join()
        else:
            if self.burst or self._bursty:
                self._join()
            self._write()
        self.burst += 1
        return self.burst

    def _is_flushed(self) -> bool:
        try:
            return self._tls.flush()
        except OSError:
            return True  # the next write or read tells

    def _shut(self) -> None:
        self._tls.finish()
        super()._shut()


def reason(error: ssl.SSLError) -> str:
    """What OpenSSL says, for people."""
    if error.reason in ("WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST"):
        return "the port does not speak TLS"
    text = error.reason or error.strerror or "no TLS"
    alert = text.partition("_ALERT_")[2]  # as in TLSV1_ALERT_PROTOCOL_VERSION
    return (f"the server refuses: {alert}" if alert else text).replace("_", " ").lower()
