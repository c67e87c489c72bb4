"""Debian's coturn on loopback, with files and ports of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from ice_tcp.stun import DecodeError, MessageClass, Method, decode, encode

_START_TIMEOUT = 10.0
_STOP_TIMEOUT = 5.0


class CoturnError(Exception):
    """coturn is not installed, or does not start."""


def tool(name: str) -> str:
    """The path of a program of coturn's. Raises CoturnError if it is not installed."""
    path = shutil.which(name)
    if path is None:
        raise CoturnError(f"{name} is not installed: run `make interop-deps` (Debian: apt-get install coturn)")
    return path


class Coturn:
    """A coturn in the foreground: ``with Coturn(directory) as coturn``, then ``coturn.address``.

    ``hosts`` are where it listens and relays, the first of each family for relays; two IPv4 hosts make an RFC 5780
    server. ``users`` (name -> password) have long-term credentials; with ``secret`` there are only short-lived ones.
    ``certificate`` is a pair of PEM files, and opens ``tls_address`` for TLS and DTLS. ``extra`` are further lines of
    turnserver.conf, which win over ours. Peers on loopback are allowed unless ``loopback_peers`` is False.
    """

    def __init__(
        self,
        directory: Path,
        *,
        hosts: Sequence[str] = ("127.0.0.1",),
        users: Mapping[str, str] | None = None,
        secret: str | None = None,
        realm: str = "example.org",
        certificate: tuple[Path, Path] | None = None,
        loopback_peers: bool = True,
        extra: Sequence[str] = (),
    ) -> None:
        self._program = tool("turnserver")
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self.host = hosts[0]
        self.realm = realm
        self.users = dict(users if users is not None else {} if secret is not None else {"user": "pass"})
        self.port, self.alternate_port = free_ports(self.host)
        self.tls_port = free_ports(self.host)[0]
        self._configure_by_default(hosts, secret, certificate, loopback_peers, extra)

    @property
    def address(self) -> tuple[str, int]:
        """For UDP and TCP."""
        return self.host, self.port

    @property
    def tls_address(self) -> tuple[str, int]:
        return self.host, self.tls_port

    @property
    def pid(self) -> int:
        assert self._process is not None, "it does not run"
        return self._process.pid

    def __enter__(self) -> Coturn:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, again on the same ports, and wait until it answers. Raises CoturnError."""
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own program and files
                [self._program, "-c", str(self._config_file), "--log-file=stdout"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._directory,
                env={"PATH": os.environ["PATH"], "HOME": str(self._directory)},
            )
        deadline = time.monotonic() + _START_TIMEOUT
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise CoturnError(f"coturn did not start:\n{self.log()[-3000:]}")

    def kill(self) -> None:
        """End it at once, as a crash would; does nothing if it does not run."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(_STOP_TIMEOUT)

    def log(self) -> str:
        """What it printed so far."""
        return self._log_file.read_text(encoding="utf-8", errors="replace")

    @property
    def _log_file(self) -> Path:
        return self._directory / "turnserver.log"

    @property
    def _config_file(self) -> Path:
        return self._directory / "turnserver.conf"

    def _configure_by_default(
        self,
        hosts: Sequence[str],
        secret: str | None,
        certificate: tuple[Path, Path] | None,
        loopback_peers: bool,
        extra: Sequence[str],
    ) -> None:
        relays = {":" in host: host for host in reversed(hosts)}.values()
        lines = [
            *(f"listening-ip={host}" for host in hosts),
            *(f"relay-ip={host}" for host in relays),
            f"listening-port={self.port}",
            f"alt-listening-port={self.alternate_port}",
            f"realm={self.realm}",
            *(f"user={name}:{password}" for name, password in self.users.items()),
            "fingerprint",
            "no-cli",
            "cli-password=unused",  # without it allow-loopback-peers refuses to start
            f"pidfile={self._directory / 'turnserver.pid'}",
            f"userdb={self._directory / 'turndb'}",
        ]
        lines += ["use-auth-secret", f"static-auth-secret={secret}"] if secret is not None else ["lt-cred-mech"]
        if certificate is None:
            lines += ["no-tls", "no-dtls"]
        else:
            lines += [f"cert={certificate[0]}", f"pkey={certificate[1]}", f"tls-listening-port={self.tls_port}"]
        if loopback_peers:
            lines.append("allow-loopback-peers")
        self.configure([*lines, *extra])

    def configure(self, lines: Sequence[str]) -> None:
        """Replace turnserver.conf; it counts from the next start on. Where to listen must be as it was."""
        self._config_file.write_text("\n".join([*lines, ""]), encoding="utf-8")

    def _answers(self) -> bool:
        with socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(0.1)
            sock.connect(self.address)
            try:
                sock.send(encode(MessageClass.REQUEST, Method.BINDING, bytes(12)))
                return decode(sock.recv(2048)).message_class is MessageClass.SUCCESS
            except (OSError, DecodeError):
                time.sleep(0.02)  # refused at once while it starts
                return False


def free_ports(host: str) -> tuple[int, int]:
    """Two ports, one after the other, that were free for UDP and TCP a moment ago."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    while True:
        with socket.socket(family) as first:
            first.bind((host, 0))
            port: int = first.getsockname()[1]
            try:
                for number in (port, port + 1):
                    with socket.socket(family, socket.SOCK_DGRAM) as udp:
                        udp.bind((host, number))
                with socket.socket(family) as second:
                    second.bind((host, port + 1))
            except (OSError, OverflowError):
                continue
            return port, port + 1
