"""One run of one case: the agent under test, the peer, the wire, and what cases do again and again."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Final

from interop.conformance.candidate_lines import CandidateKind, CandidateLine, read_candidate
from interop.conformance.case import NotConforming
from interop.conformance.peer import CHECK, DATA, NOMINATION, Peer, answer_to
from interop.conformance.servers import StunServer, TurnServer
from interop.conformance.stun import Address, Draft, Message
from interop.conformance.target import Capability, Description, Setup, Target, TargetAgent, TargetError
from interop.conformance.wire import QUIET, Channel, Connection, Listener, Packet, UdpPort, Wire

UDP = CandidateKind.UDP
ACTIVE = CandidateKind.ACTIVE
PASSIVE = CandidateKind.PASSIVE
SO = CandidateKind.SO

_CLOSING = 5.0
"""Seconds that an agent gets to close."""


NAT: Final = "192.0.2.77"
"""The address of the NAT that a scripted server sees."""


class Trial:
    """What a case gets. Begin with `create`, or with one of the openings that do more.

    ``scale`` is what spans of time are to be multiplied by, see `Setup.scale`; `seconds` does.
    """

    def __init__(self, target: Target, *, scale: float = 1.0) -> None:
        self.target = target
        self.scale = scale
        self.wire = Wire()
        self.peer = Peer(self.wire, controlling=True)
        self.setup: Setup | None = None
        self.told = Description("", "")
        """What the target told of itself."""
        self.outcome = ""
        """What became of `TargetAgent.connect`: "" so far, "connected", or what the agent said."""
        self.delivered: list[bytes] = []
        """What the target's application received on component 1, once `connected`."""
        self.servers: list[StunServer] = []
        """What the target is to ask, once `create` is called."""
        self._agent: TargetAgent | None = None
        self._tasks: list[asyncio.Task[None]] = []

    # -- the agent under test

    async def create(
        self,
        *kinds: CandidateKind,
        controlling: bool = False,
        components: int = 1,
        lite: bool = False,
        host: str = "127.0.0.1",
        stream: bool = False,
    ) -> None:
        """Create it and let it gather; the peer has the other role."""
        self.setup = replace(
            self.setup_of(*kinds),
            controlling=controlling,
            components=components,
            lite=lite,
            host=host,
            stream=stream,
            servers=tuple(server.as_told() for server in self.servers),
        )
        self._agent = await self.target.create(self.setup)
        self.peer.controlling = not controlling
        self.peer.target = self.told = await self._agent.gather()

    async def create_able(self, *kinds: CandidateKind) -> None:
        """Create it with those of these candidates that the target can gather."""
        await self.create(*(kind for kind in kinds if Capability(kind.value) in self.target.capabilities))

    async def restart(self) -> None:
        """Let it restart, and give the peer new credentials, too; then `introduce` the peer again."""
        self.peer.target = self.told = await self.agent.restart()
        self.peer.ufrag, self.peer.pwd = self.peer.ufrag + "2", self.peer.pwd + "2"

    def stun_server(self, host: str = "127.0.0.1", *, natted: bool = True) -> StunServer:
        """A STUN server for the target; ``natted``: it sees it behind a NAT that keeps ports."""
        server = StunServer(self.wire, host, mapped=_through_nat if natted else lambda far: far)
        self.servers.append(server)
        return server

    def turn_server(self, transport: str = "udp") -> TurnServer:
        """A TURN server for the target, which is not behind a NAT."""
        server = TurnServer(self.wire, transport=transport, mapped=lambda far: far)
        self.servers.append(server)
        return server

    def setup_of(self, *kinds: CandidateKind) -> Setup:
        """A controlled agent with these candidates, in the time of this trial."""
        return Setup(controlling=False, kinds=frozenset(kinds), scale=self.scale)

    @property
    def agent(self) -> TargetAgent:
        assert self._agent is not None, "the case has created no agent"
        return self._agent

    @property
    def candidates(self) -> list[CandidateLine]:
        """What the target gathered. Raises NotConforming for a line that is none."""
        try:
            return [read_candidate(line) for line in self.told.candidates]
        except ValueError as error:
            raise NotConforming(str(error)) from None

    def candidate(self, kind: CandidateKind = UDP, component: int = 1, *, type: str = "host") -> CandidateLine:  # noqa: A002 - the RFC's word
        """The target's candidate of a kind and type."""
        for candidate in self.candidates:
            if (candidate.kind, candidate.component, candidate.type) == (kind, component, type):
                return candidate
        raise NotConforming(f"no {kind} candidate of type {type} and component {component} was gathered")

    async def introduce(
        self,
        *candidates: str,
        connect: bool = True,
        end: bool = True,
        lite: bool = False,
        pacing: int | None = None,
    ) -> None:
        """Tell the target of the peer, and let it connect."""
        await self.agent.set_remote(self.peer.description(lite=lite, pacing=pacing))
        for line in candidates:
            await self.agent.add_remote_candidate(line)
        if end:
            await self.agent.end_of_candidates()
        if connect:
            self.connect()

    def connect(self) -> None:
        """Begin to connect; `outcome` and `connected` tell what becomes of it."""
        self._tasks.append(asyncio.create_task(self._connect()))

    async def connected(self, within: float | None = None) -> None:
        """Return when the target has connected. Raises NotConforming."""
        await self.wire.find(lambda: self.outcome or None, within)
        if self.outcome != "connected":
            raise NotConforming(
                f"not connected within {self.wire.span(within)}; {self.outcome or 'it is still trying'}"
            )

    async def receives(self, data: bytes, within: float | None = None) -> None:
        """Return when this message has reached the target's application. Raises NotConforming."""
        if await self.wire.find(lambda: data in self.delivered or None, within) is None:
            raise NotConforming(f"{data[:24]!r} did not reach the application within {self.wire.span(within)}")

    def seconds(self, span: float) -> float:
        """A span of the RFCs as it is in this trial."""
        return span * self.scale

    async def pause(self, seconds: float = QUIET) -> None:
        """Let time pass, as it is on the wire."""
        await self.wire.sleep(seconds)

    # -- the peer's side of it

    def udp(self, component: int = 1) -> UdpPort:
        """A UDP port of the peer, towards the target's candidate of this component."""
        candidate = self.candidate(UDP, component)
        return self.peer.udp(candidate.host, candidate.address)

    async def dial(self, kind: CandidateKind = PASSIVE, *, port: int = 0) -> Connection:
        """A connection to the target's candidate. Raises NotConforming if it is refused."""
        candidate = self.candidate(kind)
        connection = await self.peer.dial(candidate.address, host=candidate.host, port=port)
        if connection is None:
            raise NotConforming(f"the {kind} candidate {candidate.host}:{candidate.port} accepts no connection")
        return connection

    async def ask(self, channel: Channel, request: Draft | bytes | None = None) -> Message:
        """Send a request, a right one by default, and return the answer. Raises NotConforming if none comes."""
        sent = self.peer.request() if request is None else request
        channel.send(sent)
        answer = (await channel.expect(answer_to(sent))).message
        assert answer is not None
        return answer

    async def succeeds(self, channel: Channel, request: Draft | bytes | None = None) -> Message:
        """The same, and the answer must be a success."""
        answer = await self.ask(channel, request)
        if answer.error is not None:
            raise NotConforming(f"the request was refused with {answer.error}")
        return answer

    async def ignores(self, channel: Channel, request: Draft | bytes) -> None:
        """Send what gets no answer, and then what gets one: by then the other would be here. Raises NotConforming."""
        before = len(channel.inbox)
        channel.send(request)
        await self.succeeds(channel)
        matcher = answer_to(request)
        if any(matcher.matches(packet) for packet in channel.inbox[before:]):
            raise NotConforming("it was answered")

    async def check_on(self, channel: Channel, within: float | None = None) -> Packet:
        """The target's next check."""
        return await channel.expect(CHECK, within)

    async def flows(self, channel: Channel, data: bytes = b"through") -> None:
        """Data reaches each side. Raises NotConforming."""
        channel.send(data + b" to the target")
        await self.receives(data + b" to the target")
        await self.agent.send(data + b" to the peer", 1)
        while (await channel.expect(DATA)).data != data + b" to the peer":
            pass

    # -- openings

    async def meet(self, *, controlling: bool = False, polite: bool = True, lite_peer: bool = False) -> UdpPort:
        """The target and a UDP port of the peer know each other, and the target checks; a ``polite`` peer answers."""
        await self.create(UDP, controlling=controlling)
        port = self.udp()
        if polite:
            self.peer.answers(port)
        await self.introduce(self.peer.candidate(port), lite=lite_peer)
        return port

    async def join(self, *, controlling: bool = False) -> UdpPort:
        """The same, and their pair is selected."""
        port = await self.meet(controlling=controlling)
        await self.select(port)
        return port

    async def meet_tcp(self, kind: CandidateKind, *, controlling: bool = False, polite: bool = True) -> Connection:
        """The target and the peer know each other, and have a connection: of an active target's, else of the peer's."""
        await self.create(kind, controlling=controlling)
        if kind is ACTIVE:
            listener = self.listen(polite=polite)
            await self.introduce(self.peer.candidate(listener, tcptype="passive"))
            return await listener.accepted()
        await self.introduce(self.peer.candidate((self.candidate(kind).host, 9), tcptype="active"))
        connection = await self.dial(kind)
        if polite:
            self.peer.answers(connection)
        return connection

    async def join_tcp(self, kind: CandidateKind, *, controlling: bool = False) -> Connection:
        """The same, and their pair is selected."""
        connection = await self.meet_tcp(kind, controlling=controlling)
        await self.select(connection)
        return connection

    async def meet_so(self) -> tuple[Connection, Listener]:
        """A connection between two simultaneous-open candidates that the target has opened, and the peer's listener."""
        await self.create(SO)
        listener = self.listen()
        await self.introduce(self.peer.candidate(listener, tcptype="so"))
        return await listener.accepted(), listener

    def listen(self, *, polite: bool = True, backlog: int = 64) -> Listener:
        """A passive candidate of the peer."""
        host = self.setup.host if self.setup is not None else "127.0.0.1"
        listener = self.peer.listen(host, backlog=backlog)
        if polite:
            self.peer.answers_on(listener)
        return listener

    async def select(self, channel: Channel) -> None:
        """Have the pair of a polite channel nominated, by whoever controls, and see the target connected."""
        assert self.setup is not None
        if not self.setup.controlling:
            # The nominating request triggers a check where the pair has none yet (RFC 8445 s7.3.1.4).
            await self.succeeds(channel, self.peer.request(use_candidate=True))
        else:
            await self.succeeds(channel)
            await channel.expect(NOMINATION)
        await self.connected()

    # -- the end

    async def close(self) -> None:
        """Free everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._agent is not None:
            with suppress(TargetError, TimeoutError):
                async with asyncio.timeout(_CLOSING):
                    await self._agent.close()
        self.peer.close()
        for server in self.servers:
            server.close()

    async def _connect(self) -> None:
        try:
            await self.agent.connect()
        except TargetError as error:
            self.outcome = f"the agent says: {error}"
        else:
            self.outcome = "connected"
            self._tasks.append(asyncio.create_task(self._receive()))
        self.wire.changed()

    async def _receive(self) -> None:
        with suppress(TargetError):
            while True:
                self.delivered.append(await self.agent.receive(1))
                self.wire.changed()


def _through_nat(far: Address) -> Address:
    return NAT, far[1]
