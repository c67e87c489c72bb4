"""The sending process of the demonstration: it starts the other, connects to it and sends the file."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from candidates.candidate import Transport
from ice_tcp.agent import Agent
from ice_tcp.core.events import Role
from ice_tcp.demo.plan import Payload, Plan, demo_policies, has_quic
from ice_tcp.demo.record import Observation, Record
from ice_tcp.demo.server import Access, demo_server, has_cryptography
from ice_tcp.demo.side import FAILED, REPORT, DemoError, Side, explained
from ice_tcp.net.sockets import NetworkError
from ice_tcp.server import Leg
from ice_tcp.signaling import Channel, LoopbackRendezvous, Note
from ice_tcp.transfer import Receipt, send_file

RECEIVER_COMMAND: Final = "demo-receiver"
"""The hidden subcommand that is the other process."""

_START_TIMEOUT: Final = 30.0
_END_TIMEOUT: Final = 0.5  # seconds for a process that is ending anyway
_REPORT_TIMEOUT: Final = 10.0
_EXIT_TIMEOUT: Final = 5.0


@dataclass(slots=True)
class Outcome:
    """What came of it, from both sides; ``error`` is None if the file arrived intact."""

    payload: Payload
    sender: Record
    receiver: Mapping[str, Any] | None = None
    receipt: Receipt | None = None
    error: DemoError | None = None


class View(Protocol):
    """Shows the demonstration."""

    def begin(self, payload: Payload, sender: Record, /) -> None:
        """It begins; ``sender`` is filled in as it goes on."""

    def observe(self, observation: Observation, /) -> None:
        """The sender saw something."""

    def progress(self, done: int, /) -> None:
        """So many bytes of the file are on their way."""

    def end(self, outcome: Outcome, /) -> None:
        """It is over."""


async def run_sender(plan: Plan, view: View) -> Outcome:
    """Run the demonstration; whatever the network does is in the outcome, and no process is left behind."""
    record = Record(Role.CONTROLLING, view.observe)
    outcome = Outcome(plan.payload, record)
    view.begin(plan.payload, record)
    try:
        await _run(plan, view, outcome)
    except (DemoError, ConnectionError) as error:
        outcome.error = explained(error)
    except OSError as error:
        outcome.error = DemoError("file-unreadable", f"The file cannot be read: {error}.")
    view.end(outcome)
    return outcome


async def _run(plan: Plan, view: View, outcome: Outcome) -> None:
    _check_libraries(plan)
    async with (
        _server(plan) as access,
        LoopbackRendezvous() as rendezvous,
        _receiver(plan, rendezvous, access) as process,
    ):
        channel = await _meet(rendezvous, process)
        reported: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        policy = demo_policies(plan.choices, access).sender
        async with Agent(Role.CONTROLLING, policy=policy, trace=plan.trace, capsule=plan.capsule) as agent:
            side = Side(agent, channel, outcome.sender, is_sender=True, on_note=_listener(reported))
            await side.supervise(_send(side, plan.payload, view, outcome, reported))
        await channel.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _EXIT_TIMEOUT)


def _check_libraries(plan: Plan) -> None:
    if Transport.UDP in demo_policies(plan.choices).transports and not has_quic():
        raise DemoError(
            "quic-missing", "Over UDP the file goes through QUIC: pip install 'ice-tcp[quic]', or use --transport tcp."
        )
    if plan.choices.leg is Leg.TLS and not has_cryptography():
        raise DemoError(
            "cryptography-missing",
            "For TLS to the server a certificate is made: pip install cryptography, or choose another transport.",
        )


@asynccontextmanager
async def _server(plan: Plan) -> AsyncIterator[Access]:
    try:
        async with demo_server(with_tls=plan.choices.leg is Leg.TLS) as access:
            yield access
    except NetworkError as error:
        raise DemoError("server-not-started", f"The demonstration's server cannot listen: {error}.") from None


async def _send(
    side: Side, payload: Payload, view: View, outcome: Outcome, reported: asyncio.Future[Mapping[str, Any]]
) -> None:
    with payload.open() as source:
        async with side.stream() as (reader, writer):
            receipt = await send_file(reader, writer, source, payload.offer, view.progress)
            outcome.sender.stop()
    await side.gathered()
    try:
        report = await asyncio.wait_for(reported, _REPORT_TIMEOUT)
    except TimeoutError:
        raise DemoError("signaling-lost", "The receiver confirmed the file, but did not report.") from None
    if report.get("sha256") != receipt.sha256_sent:
        raise DemoError("transfer-failed", f"The receiver reports another SHA-256: {report.get('sha256')}.")
    outcome.receipt, outcome.receiver = receipt, report


def _listener(reported: asyncio.Future[Mapping[str, Any]]) -> Callable[[Note], None]:
    def on_note(note: Note) -> None:
        if note.name == FAILED:
            raise DemoError(str(note.data.get("verdict")), str(note.data.get("remedy")), "receiver")
        if note.name == REPORT and not reported.done():
            reported.set_result(note.data)

    return on_note


@asynccontextmanager
async def _receiver(plan: Plan, rendezvous: LoopbackRendezvous, access: Access) -> AsyncIterator[Process]:
    """The other process, which has ended when this ends."""
    command = (sys.executable, "-m", "ice_tcp.cli", RECEIVER_COMMAND, *plan.receiver_arguments)
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=DEVNULL, stderr=PIPE)
    assert process.stdin is not None
    try:
        # Secrets stand on no command line, where other users could read them.
        process.stdin.write(f"{rendezvous.port} {rendezvous.token} {access.to_json()}\n".encode())
        process.stdin.close()
        yield process
    finally:
        # One that has just ended by itself is not killed: that would steal its status from asyncio, which complains.
        with suppress(TimeoutError):
            async with asyncio.timeout(_END_TIMEOUT):
                await process.wait()
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _meet(rendezvous: LoopbackRendezvous, process: Process) -> Channel:
    accepting = asyncio.ensure_future(rendezvous.accept())
    exiting = asyncio.ensure_future(process.wait())
    try:
        await asyncio.wait({accepting, exiting}, timeout=_START_TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        if accepting.done():
            return accepting.result()
        remedy = f"The second process did not start: {await _last_words(process)}."
        raise DemoError("receiver-did-not-start", remedy, "receiver")
    finally:
        accepting.cancel()
        exiting.cancel()


async def _last_words(process: Process) -> str:
    if process.returncode is None:
        return f"it was silent for {_START_TIMEOUT:g} s"
    assert process.stderr is not None
    lines = (await process.stderr.read()).decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"it ended with status {process.returncode}"
