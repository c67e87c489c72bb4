"""The STUN and TURN server of a cell's internet: coturn with files of its own, or the embedded server."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from ice_tcp.stun import DecodeError, MessageClass, Method, decode, encode
from interop.natlab.kinds import LabError
from interop.natlab.namespaces import inside, run
from interop.natlab.scenario import Leg, ServerKind
from interop.natlab.topology import SERVER, SERVER_ADDRESSES, SERVER_ADDRESSES_6
from interop.natlab.world import World

PORT, ALTERNATE_PORT, TLS_PORT = 3478, 3479, 443
USER: Final = "lab"
PASSWORD: Final = "correct-horse"
REALM: Final = "natlab"

_CERTIFICATE, _KEY = "server.pem", "server.key"
_START_TIMEOUT: Final = 15.0


def make_certificate(directory: Path) -> None:
    """Write a certificate that is valid for the server's addresses, and its key. Raises LabError."""
    names = ",".join(f"IP:{address}" for address in (*SERVER_ADDRESSES, *SERVER_ADDRESSES_6))
    run(
        *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
        *("-days", "30", "-subj", "/CN=natlab", "-addext", f"subjectAltName={names}"),
        *("-keyout", str(directory / _KEY), "-out", str(directory / _CERTIFICATE)),
    )


def policy_entries(directory: Path, legs: Collection[Leg], *, ipv6: bool) -> list[dict[str, Any]]:
    """The ``servers`` of an agent's policy for these legs; ``directory`` is that of `make_certificate`."""
    host = f"[{SERVER_ADDRESSES_6[0]}]" if ipv6 else SERVER_ADDRESSES[0]
    credentials = {"username": USER, "password": PASSWORD}
    entries: dict[Leg, dict[str, Any]] = {
        Leg.STUN: {"url": f"stun:{host}:{PORT}"},
        Leg.UDP: {"url": f"turn:{host}:{PORT}?transport=udp", **credentials},
        Leg.TCP: {"url": f"turn:{host}:{PORT}?transport=tcp", **credentials},
        Leg.TLS: {
            "url": f"turns:{host}:{TLS_PORT}?transport=tcp",
            **credentials,
            "tls": {"ca_file": str(directory / _CERTIFICATE)},
        },
    }
    return [entry for leg, entry in entries.items() if leg in legs]


@asynccontextmanager
async def serving(kind: ServerKind, world: World, certificates: Path) -> AsyncIterator[None]:
    """The server runs, and answers. Raises LabError."""
    if kind is ServerKind.NONE:
        yield
        return
    command = _coturn(world, certificates) if kind is ServerKind.COTURN else _embedded(certificates)
    with world.directory.joinpath("server.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *("ip", "netns", "exec", world.nodes[SERVER].namespace, *command),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=world.directory,
        )
    try:
        await _until_it_answers(process, world)
        yield
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _coturn(world: World, certificates: Path) -> Sequence[str]:
    lines = [
        *(f"listening-ip={address}" for address in (*SERVER_ADDRESSES, *SERVER_ADDRESSES_6)),
        *(f"relay-ip={addresses[0]}" for addresses in (SERVER_ADDRESSES, SERVER_ADDRESSES_6)),
        f"listening-port={PORT}",
        f"alt-listening-port={ALTERNATE_PORT}",
        f"tls-listening-port={TLS_PORT}",
        f"cert={certificates / _CERTIFICATE}",
        f"pkey={certificates / _KEY}",
        *("lt-cred-mech", f"user={USER}:{PASSWORD}", f"realm={REALM}"),
        *("fingerprint", "no-dtls", "no-cli", "relay-threads=1", "log-file=stdout"),
        f"pidfile={world.directory / 'turnserver.pid'}",
        f"userdb={world.directory / 'turndb'}",
    ]
    config = world.directory / "turnserver.conf"
    config.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return ("turnserver", "-c", str(config))


def _embedded(certificates: Path) -> Sequence[str]:
    listening = [word for address in (*SERVER_ADDRESSES, *SERVER_ADDRESSES_6) for word in ("--listen", address)]
    return (
        *(sys.executable, "-m", "ice_tcp.cli", "server", *listening),
        *("--port", str(PORT), "--alternate-port", str(ALTERNATE_PORT), "--tls-port", str(TLS_PORT)),
        *("--certificate", str(certificates / _CERTIFICATE), "--key", str(certificates / _KEY)),
        *("--user", f"{USER}:{PASSWORD}", "--realm", REALM),
        *("--allow-peer", "0.0.0.0/0", "--allow-peer", "::/0"),
    )


async def _until_it_answers(process: asyncio.subprocess.Process, world: World) -> None:
    with inside(world.nodes[SERVER].namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.setblocking(False)
        sock.connect((SERVER_ADDRESSES[0], PORT))
        deadline = time.monotonic() + _START_TIMEOUT
        while not await _answers(sock):
            if process.returncode is not None or time.monotonic() > deadline:
                log = world.directory.joinpath("server.log").read_text("utf-8", "replace")
                raise LabError(f"the server did not start:\n{log[-2000:]}")


async def _answers(sock: socket.socket) -> bool:
    try:
        sock.send(encode(MessageClass.REQUEST, Method.BINDING, bytes(12)))
        async with asyncio.timeout(0.1):
            answer = await asyncio.get_running_loop().sock_recv(sock, 2048)
        return decode(answer).message_class is MessageClass.SUCCESS
    except (OSError, DecodeError):
        await asyncio.sleep(0.02)  # refused at once while it starts
        return False
