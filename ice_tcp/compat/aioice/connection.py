"""`Connection`: aioice's interface of an ICE agent, on top of `ice_tcp.Agent`."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import re
import string
from collections.abc import Sequence

import aioice
from aioice import ConnectionClosed, TransportPolicy

from candidates.candidate import Candidate, CandidateType, Transport
from candidates.parameters import IceParameters, ParametersError
from candidates.policy import AddressFamily, Policy
from ice_tcp.agent import Agent, CandidatePairStats, EventStream
from ice_tcp.compat.aioice import settings
from ice_tcp.compat.aioice.components import Inflow
from ice_tcp.compat.aioice.conversion import concealed, to_aioice
from ice_tcp.compat.aioice.remote import RemoteCandidates
from ice_tcp.core.events import AgentState, Role, SelectedPath, StateChanged
from ice_tcp.errors import IceError, NoPathError
from ice_tcp.mdns import MdnsNames

logger = logging.getLogger(__name__)

_RANDOM = random.SystemRandom()
_ICE_CHARS = string.ascii_letters + string.digits
_IDS = itertools.count()


class Connection:
    """An ICE connection for one media stream, with the interface of aioice 0.13's ``Connection``.

    1. `gather_candidates`; send `local_candidates`, `local_username` and `local_password` to the peer;
    2. set `remote_username` and `remote_password`, `add_remote_candidate` for each of the peer's, then with None;
    3. `connect`, `send` and `recv`, `close`.

    The arguments are aioice's. ``policy`` decides everything else, the default policy if None: UDP is preferred, and
    TCP candidates are there, too, unless it says ``transports: [udp]``. Its servers are asked beside those of the
    arguments. A failed connection raises ConnectionError, whose ``__cause__`` tells the verdict and the remedy.
    """

    def __init__(
        self,
        ice_controlling: bool,
        components: int = 1,
        stun_server: tuple[str, int] | None = None,
        turn_server: tuple[str, int] | None = None,
        turn_username: str | None = None,
        turn_password: str | None = None,
        turn_ssl: bool = False,
        turn_transport: str = "udp",
        use_ipv4: bool = True,
        use_ipv6: bool = True,
        transport_policy: TransportPolicy = TransportPolicy.ALL,
        local_username: str | None = None,
        local_password: str | None = None,
        *,
        policy: Policy | None = None,
    ) -> None:
        self._credentials = (_username(local_username), _password(local_password))
        self.remote_is_lite = False
        self.remote_username: str | None = None
        self.remote_password: str | None = None
        self.stun_server = stun_server
        self.turn_server = turn_server
        self.turn_username = turn_username
        self.turn_password = turn_password
        self.turn_ssl = turn_ssl
        self.turn_transport = turn_transport
        self._controlling = ice_controlling
        self._components = components
        self._families = [
            family for family, use in ((AddressFamily.IPV4, use_ipv4), (AddressFamily.IPV6, use_ipv6)) if use
        ]
        self._relay_only = transport_policy is TransportPolicy.RELAY
        self._policy = policy or Policy.default()
        self._id = next(_IDS)
        self._agent: Agent | None = None
        self._names = MdnsNames()
        # Relaying to a name would tell the TURN server what it stands for.
        looks_up = self._policy.mdns.resolve and not self._relay_only
        self._remote = RemoteCandidates(self._names if looks_up else None)
        self._local: list[tuple[aioice.Candidate, Candidate]] = []
        self._gathering = self._gathered = False
        self._inflow: Inflow | None = None
        self._watching: asyncio.Task[None] | None = None
        self._closing = False
        self._closed = asyncio.Event()
        self._closing_told = self._awaiting_event = False

    def __repr__(self) -> str:
        return f"Connection({self._id})"

    # Signaling

    @property
    def ice_controlling(self) -> bool:
        """Whether we nominate; it changes when a role conflict is resolved, or the peer is lite."""
        return self._agent.role is Role.CONTROLLING if self._agent is not None else self._controlling

    @ice_controlling.setter
    def ice_controlling(self, value: bool) -> None:
        self._controlling = value
        if self._agent is not None and not self._closing:
            self._agent.set_role(_role(value))

    @property
    def local_username(self) -> str:
        return self._credentials[0]

    @property
    def local_password(self) -> str:
        return self._credentials[1]

    @property
    def local_candidates(self) -> list[aioice.Candidate]:
        """A copy; set by `gather_candidates`, UDP first in each component."""
        return [theirs for theirs, _ in self._local]

    @property
    def remote_candidates(self) -> list[aioice.Candidate]:
        """A copy: those that were added, with names where there were names, and those learned from checks."""
        learned = self._agent.remote_candidates if self._agent is not None else ()
        return self._remote.told + [to_aioice(each) for each in learned if each.type is CandidateType.PRFLX]

    async def add_remote_candidate(self, remote_candidate: aioice.Candidate | None) -> None:
        """Take a candidate of the peer at any time, or None after the last; odd ones and repetitions are ignored.

        Returns after a name under .local has been looked up. Raises ValueError after the last.
        """
        await self._remote.add(remote_candidate)

    async def gather_candidates(self) -> None:
        """Find local candidates; the first call only does anything. A dead server takes the policy's time, no more."""
        if self._gathering:
            return
        if self._closing:
            raise ConnectionError("Cannot gather candidates, connection is closed")
        self._gathering = True
        policy = self._narrowed_policy()
        if policy is not None:
            await self._gather(policy)
        self._gathered = True

    def get_default_candidate(self, component: int) -> aioice.Candidate | None:
        """The one to put into the m= and c= lines: UDP if there is, and the likeliest to work without ICE."""
        of_component = [each for each in self.local_candidates if each.component == component]
        return min(of_component, key=lambda each: (each.transport != "udp", each.priority), default=None)

    # Connecting

    async def connect(self) -> None:
        """Check pairs until every component has a path that carries data.

        Failure is raised only after `add_remote_candidate` was called with None, and not before the policy's
        ``timeouts.patience`` has passed unless it is certain (RFC 8863).
        """
        if not self._gathered:
            raise ConnectionError("Local candidates gathering was not performed")
        if self.remote_username is None or self.remote_password is None:
            raise ConnectionError("Remote username or password is missing")
        agent = self._agent
        if agent is None:  # nothing was gathered, so nothing can be reached
            await self._remote.complete.wait()
            raise ConnectionError("ICE negotiation failed")
        try:
            agent.set_remote_parameters(
                IceParameters(self.remote_username, self.remote_password, lite=self.remote_is_lite)
            )
            events = agent.events()
            await agent.connect()
        except (IceError, ParametersError) as error:
            raise ConnectionError("ICE negotiation failed") from error
        self._established(agent, events)

    def set_selected_pair(self, component: int, local_foundation: str, remote_foundation: str) -> None:
        """Use a UDP pair without checks, instead of `connect`, towards a peer that does not speak ICE."""
        local = next(
            (
                ours
                for theirs, ours in self._local
                if (theirs.component, theirs.foundation) == (component, local_foundation)
                and ours.transport is Transport.UDP
                and ours.type in (CandidateType.HOST, CandidateType.RELAY)
            ),
            None,
        )
        remote = self._remote.find(component, remote_foundation)
        assert self._agent is not None and local is not None and remote is not None, "there is no such pair"
        self._agent.select(local, remote)
        self._established(self._agent, self._agent.events())

    async def close(self) -> None:
        """End the connection; what was sent before is delivered if that takes no longer than a second."""
        self._closing = True
        self._remote.detach()
        inflow, self._inflow = self._inflow, None
        if self._agent is not None:
            await self._agent.close()
        if inflow is not None:
            await inflow.close()
        await self._names.close()
        self._local.clear()
        self._closed.set()
        if self._watching is not None and self._watching is not asyncio.current_task():
            await asyncio.wait([self._watching])

    async def get_event(self) -> aioice.ice.ConnectionEvent | None:
        """Wait for the connection's end, by `close` or by loss of the path; after it was told: None.

        Only one call may wait.
        """
        assert not self._awaiting_event, "already awaiting event"
        if self._closing_told:
            return None
        self._awaiting_event = True
        try:
            await self._closed.wait()
        finally:
            self._awaiting_event = False
        self._closing_told = True
        return ConnectionClosed()

    # Data

    async def recv(self) -> bytes:
        """The next message; raises ConnectionError if the connection is not established, or lost."""
        return (await self.recvfrom())[0]

    async def recvfrom(self) -> tuple[bytes, int]:
        """The next message and its component; raises ConnectionError if the connection is not established, or lost."""
        if self._inflow is None:
            raise ConnectionError("Cannot receive data, not connected")
        try:
            return await self._inflow.recv()
        except IceError as error:
            raise ConnectionError("Connection lost while receiving data") from error

    async def send(self, data: bytes) -> None:
        """As `sendto`, on component 1."""
        await self.sendto(data, 1)

    async def sendto(self, data: bytes, component: int) -> None:
        """Send one message, after waiting for room if too much waits already.

        While a lost path is won back, messages are lost, as datagrams are. Raises ConnectionError if the connection
        is not established.
        """
        agent = self._agent
        if self._inflow is None or agent is None:
            raise ConnectionError("Cannot send data, not connected")
        try:
            await agent.send(data, component)
        except NoPathError as error:
            if agent.state is not AgentState.DISCONNECTED:
                raise ConnectionError("Cannot send data, not connected") from error
        except (IceError, ValueError) as error:
            if isinstance(error, ValueError) and 1 <= component <= self._components:
                raise
            raise ConnectionError("Cannot send data, not connected") from error

    # Beyond aioice

    def selected_path(self, component: int = 1) -> SelectedPath | None:
        """The path that carries the component's data, over what and whether relayed; None if there is none."""
        return self._agent.selected_path(component) if self._agent is not None else None

    def pair_stats(self) -> tuple[CandidatePairStats, ...]:
        """Every pair with its state and its counters."""
        return self._agent.stats().pairs if self._agent is not None else ()

    # Inside

    def _narrowed_policy(self) -> Policy | None:
        servers = settings.stun(self.stun_server) if self.stun_server is not None else []
        if self.turn_server is not None:
            servers += settings.turn(
                self.turn_server,
                self.turn_username,
                self.turn_password,
                ssl=self.turn_ssl,
                transport=self.turn_transport,
            )
        return settings.narrowed(self._policy, servers, families=self._families, relay_only=self._relay_only)

    async def _gather(self, policy: Policy) -> None:
        agent = self._agent = Agent(
            _role(self._controlling),
            policy=policy,
            components=self._components,
            credentials=self._credentials,
            awaits_end=True,
        )
        self._remote.attach(agent)
        await agent.gather()
        found = [candidate async for candidate in agent.local_candidates()]
        if not self._closing:
            self._local = [(self._told(each), each) for each in _udp_first(found)]

    def _told(self, candidate: Candidate) -> aioice.Candidate:
        told = to_aioice(candidate)
        return concealed(told, self._names) if self._policy.mdns.publish else told

    def _established(self, agent: Agent, events: EventStream) -> None:
        if self._inflow is None:
            self._inflow = Inflow(agent, self._components)
            self._watching = asyncio.create_task(self._watch(events))

    async def _watch(self, events: EventStream) -> None:
        """A path that is lost for good closes the connection."""
        async for event in events:
            if isinstance(event, StateChanged) and event.state is AgentState.FAILED:
                logger.info("%r is lost: %s", self, event.verdict)
                await self.close()


def _role(controlling: bool) -> Role:
    return Role.CONTROLLING if controlling else Role.CONTROLLED


def _udp_first(candidates: Sequence[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda each: (each.component, each.transport is not Transport.UDP, -each.priority))


def _username(text: str | None) -> str:
    text = _draw(8) if text is None else text
    if not re.fullmatch(r"[a-zA-Z0-9+/]{4,256}", text):
        raise ValueError("Username must satisfy 4*256ice-char")
    return text


def _password(text: str | None) -> str:
    text = _draw(24) if text is None else text
    if not re.fullmatch(r"[a-zA-Z0-9+/]{22,256}", text):
        raise ValueError("Password must satisfy 22*256ice-char")
    return text


def _draw(length: int) -> str:
    return "".join(_RANDOM.choices(_ICE_CHARS, k=length))
