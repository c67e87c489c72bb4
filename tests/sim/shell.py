"""A shell around an unmodified core agent: what the asyncio driver is in production, in the simulated world."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Protocol, assert_never

from candidates.candidate import InterfaceAddress, TransportAddress
from candidates.policy import Policy
from ice_tcp.core.agent import Agent
from ice_tcp.core.commands import (
    Admit,
    BindChannel,
    Close,
    Command,
    Connect,
    Deliver,
    Failure,
    LegId,
    Listen,
    ListenerId,
    OpenLeg,
    OpenUdp,
    Path,
    RelayPath,
    Resolve,
    SendDatagram,
    SendLeg,
    SendStream,
    SocketId,
    StreamId,
    TcpPath,
    TurnIntoStream,
    UdpPath,
    Use,
)
from ice_tcp.core.events import Event
from ice_tcp.core.servers.server import servers_of
from ice_tcp.datapath import DatagramPath
from tests.sim.clock import Timer
from tests.sim.host import BindError, Host
from tests.sim.ladder import words
from tests.sim.legs import Legs
from tests.sim.packets import Endpoint, Origin
from tests.sim.stream import SimStream
from tests.sim.tcp import TcpSocket
from tests.sim.tcpstack import AddressTakenError, Listener
from tests.sim.watch import AgentWatch, PropertyError
from tests.sim.world import WALL, World


class Application(Protocol):
    """Who sends and receives data and listens to the agent's events."""

    def used(self, component: int, path: Path | None) -> None:
        """Data goes this way from now on."""

    def writable(self, component: int) -> None:
        """A stream that was full has room again."""

    def received(self, component: int, path: Path | None, data: bytes) -> None:
        """Data came; None: by a relay, of some peer."""

    def stream_opened(self, component: int, stream: StreamId) -> None:
        """The first STUN message is on its way on a connection that we opened."""

    def is_full(self, component: int) -> bool:
        """So much is unread that streams with data should not be read."""

    def is_overfull(self, component: int) -> bool:
        """So much is unread that streams with data must not be read."""

    def event(self, event: Event) -> None: ...

    def stream_gone(self, stream: StreamId) -> None:
        """A connection is no more."""


@dataclass(slots=True)
class SimUdp:
    """An open UDP socket of an agent."""

    component: int
    local: Endpoint
    path: DatagramPath


@dataclass(slots=True)
class SimListener:
    """An open listener of an agent."""

    component: int
    listener: Listener


@dataclass(frozen=True, slots=True)
class Manners:
    """How the machine below behaves: seconds of delay between a command and its answer, and of late timers."""

    bind_delay: float = 0.0002
    timer_lateness: float = 0.0
    read_delay: float = 0.0
    chunking: str = "whole"


class SimShell:
    """Executes one agent's commands in order, uses the data paths, feeds its inputs, arms its one timer."""

    def __init__(
        self,
        name: str,
        world: World,
        host: Host,
        agent: Agent,
        policy: Policy,
        watch: AgentWatch,
        manners: Manners,
        rng: Random,
    ) -> None:
        self.name = name
        self.world = world
        self.clock = world.clock
        self.host = host
        self.agent = agent
        self.policy = policy
        self.watch = watch
        self.manners = manners
        self.rng = rng
        self.application: Application | None = None
        self.udp: dict[int, SimUdp] = {}
        self.listeners: dict[int, SimListener] = {}
        self.streams: dict[int, SimStream] = {}
        self.legs = Legs(self)
        self.used: dict[int, Path] = {}
        self.heard: dict[tuple[int, Endpoint], Origin] = {}
        self.admitted: set[Path] = set()
        self.dead = False
        self.closed = False
        self._opening: set[int] = set()
        self._timer: Timer | None = None
        self._timer_at: float | None = None
        self._busy = False

    # -- inputs ------------------------------------------------------------------------------------------------

    def input(self, give: Callable[[float], None]) -> None:
        """Give the agent one input, then do what it asks. Never from within another input."""
        if self.dead:
            return
        if self._busy:
            raise PropertyError(f"{self.name}: an input from within an input")
        self._busy = True
        try:
            self.watch.input(self.clock.now)
            give(self.clock.now)
            self.settle()
        finally:
            self._busy = False

    def gather(self, addresses: Sequence[InterfaceAddress]) -> None:
        self.input(lambda now: self.agent.gather(addresses, now, servers_of(self.policy, WALL + now)))

    def close(self) -> None:
        """End the session."""
        self.input(self.agent.close)
        self.closed = True

    def settle(self) -> None:
        """Execute commands, pass events on, arm the timer."""
        while True:
            commands = self.agent.commands()
            events = self.agent.events()
            if not commands and not events:
                break
            for command in commands:
                self._execute(command)
            for event in events:
                self.world.note(self.name, f"* {words(event)}") if self.world.observer else None
                if self.application is not None:
                    self.application.event(event)
        self._arm()

    def _arm(self) -> None:
        at = self.agent.next_timer()
        if at == self._timer_at and (self._timer is None or self._timer.action is not None):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = None
        if at is not None:
            late = self.rng.random() * self.manners.timer_lateness
            self._timer = self.clock.at(max(at, self.clock.now) + late, self._expire)

    def _expire(self) -> None:
        self._timer_at = None
        self.watch.timer(self.clock.now)
        self.input(self.agent.timer_expired)

    def die(self) -> None:
        """The process ends without a word, as by a loss of power."""
        self.dead = True
        if self._timer is not None:
            self._timer.cancel()
        for udp in self.udp.values():
            self.host.close_udp(udp.local)
        for listener in self.listeners.values():
            self.host.tcp.stop_listening(listener.listener)
        for stream in self.streams.values():
            stream.abandon()
        self.legs.abandon()
        self.udp.clear()
        self.listeners.clear()
        self.streams.clear()

    # -- commands ----------------------------------------------------------------------------------------------

    def _execute(self, command: Command) -> None:
        if self.world.observer is not None and not isinstance(command, (SendDatagram, SendStream, SendLeg)):
            self.world.note(self.name, f"> {words(command)}")
        if isinstance(command, (OpenUdp, Listen, Connect, SendDatagram)):
            self.watch.exposes(command)
        match command:
            case SendDatagram(socket, remote, data):
                self._send_datagram(socket, remote, data)
            case SendStream(stream, data):
                self._send_stream(stream, data)
            case OpenUdp():
                self._open_udp(command)
            case Listen():
                self._listen(command)
            case Connect():
                self._connect(command)
            case Resolve() | OpenLeg() | SendLeg() | BindChannel() | Deliver() | TurnIntoStream():
                self.legs.execute(command)
            case Admit(path):
                self._admit(path)
            case Use(component, path):
                self._use(component, path)
            case Close(handle):
                self._close(handle)
            case _:
                assert_never(command)

    def _open_udp(self, command: OpenUdp) -> None:
        handle = command.socket

        def answer() -> None:
            if handle not in self._opening:
                return
            self._opening.discard(handle)
            try:
                local = self.host.bind_udp(command.host, command.ports, partial(self._datagram, handle))
            except BindError as error:
                failure = error.failure
                self.input(lambda now: self.agent.socket_failed(handle, failure, now))
                return
            path = DatagramPath(early_limit=self.policy.limits.early_bytes)
            self.udp[handle] = SimUdp(command.component, local, path)
            self.input(lambda now: self.agent.socket_opened(handle, TransportAddress(*local), now))

        self._opening.add(handle)
        self.clock.after(self.bind_delay(), answer)

    def _listen(self, command: Listen) -> None:
        handle = command.listener

        def answer() -> None:
            if handle not in self._opening:
                return
            self._opening.discard(handle)
            try:
                local = self.host.listen(command.host, command.ports, partial(self._accepted, handle))
            except BindError as error:
                failure = error.failure
                self.input(lambda now: self.agent.socket_failed(handle, failure, now))
                return
            self.listeners[handle] = SimListener(command.component, self.host.tcp.listeners[local])
            self.input(lambda now: self.agent.socket_opened(handle, TransportAddress(*local), now))

        self._opening.add(handle)
        self.clock.after(self.bind_delay(), answer)

    def bind_delay(self) -> float:
        """Seconds that the system takes to open a socket."""
        return self.rng.random() * self.manners.bind_delay

    def _connect(self, command: Connect) -> None:
        handle = command.stream
        self.watch.connects(command, self.clock.now)
        remote = Endpoint(command.remote.host, command.remote.port)
        stream = SimStream(self, handle, command.component, dialled=True)
        self.streams[handle] = stream
        try:
            if command.listener is not None:
                if command.listener not in self.listeners:
                    raise PropertyError(f"{self.name}: Connect from listener {command.listener}, which is not open")
                local = self.listeners[command.listener].listener.local
            else:
                local = self.host.free_port(command.host)
            if not self.host.has_route(command.host, remote):
                raise BindError(Failure.UNREACHABLE)
            stream.socket = self.host.tcp.connect(local, remote, stream)
        except BindError as error:
            self.clock.after(0.0, partial(stream.tcp_failed, error.failure))
            return
        except AddressTakenError:
            self.world.events["address-taken"] += 1
            self.clock.after(0.0, partial(stream.tcp_failed, Failure.ADDRESS_TAKEN))
            return
        stream.deadline = self.clock.after(command.timeout, stream.timed_out)

    def _send_datagram(self, handle: SocketId, remote: TransportAddress, data: bytes) -> None:
        udp = self.udp.get(handle)
        if udp is None:
            raise PropertyError(f"{self.name}: SendDatagram on socket {handle}, which is not open")
        self.watch.sent(UdpPath(handle, remote), udp.component, data, self.clock.now)
        self.host.send_udp(udp.local, Endpoint(remote.host, remote.port), data, handle, self.name)

    def _send_stream(self, handle: StreamId, data: bytes) -> None:
        stream = self.streams.get(handle)
        if stream is None:
            return  # the connection ended in this instant, the core will hear of it
        self.watch.sent(TcpPath(handle), stream.component, data, self.clock.now)
        stream.send_stun(data)

    def _admit(self, path: Path) -> None:
        self.watch.authenticated(path)
        self.admitted.add(path)
        match path:
            case UdpPath(socket, remote) if socket in self.udp:
                udp = self.udp[socket]
                for data in udp.path.admit(Endpoint(remote.host, remote.port)):
                    self.world.events["early-data-udp"] += 1
                    self.deliver(udp.component, path, data)
            case TcpPath(stream) if stream in self.streams:
                early = self.streams[stream].path.admit()
                if early:
                    self.world.events["early-data"] += 1
                self.streams[stream].deliver(early)
            case RelayPath():
                self.legs.admit(path)

    def _use(self, component: int, path: Path | None) -> None:
        if path is None:
            self.used.pop(component, None)
        else:
            self.used[component] = path
        if self.application is not None:
            self.clock.after(0.0, partial(self.application.used, component, path))

    def _close(self, handle: int) -> None:
        self._opening.discard(handle)
        if (udp := self.udp.pop(handle, None)) is not None:
            self.host.close_udp(udp.local)
        elif (listener := self.listeners.pop(handle, None)) is not None:
            self.host.tcp.stop_listening(listener.listener)
        elif (stream := self.streams.pop(handle, None)) is not None:
            stream.close()
            self.stream_gone(stream)
        else:
            self.legs.close(handle)

    # -- the network -------------------------------------------------------------------------------------------

    def _datagram(self, handle: SocketId, data: bytes, source: Endpoint, origin: Origin | None) -> None:
        udp = self.udp[handle]
        if origin is not None:
            self.heard[handle, source] = origin
        received = udp.path.receive([data], source)
        remote = TransportAddress(*source)
        for packet in received.data:
            self.deliver(udp.component, UdpPath(handle, remote), packet)
        for message in received.stun:
            self.input(partial(self._give_datagram, handle, remote, message))

    def _give_datagram(self, handle: SocketId, remote: TransportAddress, message: bytes, now: float) -> None:
        self.agent.datagram_received(handle, remote, message, now)

    def _accepted(self, listener: ListenerId, socket: TcpSocket) -> None:
        component = self.listeners[listener].component
        given: list[StreamId | None] = []

        def give(now: float) -> None:
            handle = self.agent.stream_accepted(listener, TransportAddress(*socket.remote), now)
            given.append(handle)
            if handle is not None:
                stream = SimStream(self, handle, component, dialled=False)
                stream.socket = socket
                socket.owner = stream
                self.streams[handle] = stream

        self.input(give)
        if given == [None]:
            socket.close()

    def stream_gone(self, stream: SimStream) -> None:
        self.watch.stream_gone(stream.handle)
        if self.application is not None:
            self.application.stream_gone(stream.handle)

    # -- the application ---------------------------------------------------------------------------------------

    def deliver(self, component: int, path: Path, data: bytes) -> None:
        """Data for the application, from a path that was authenticated."""
        if path not in self.admitted:
            raise PropertyError(f"{self.name}: data of a path that nobody authenticated was delivered: {path}")
        if self.application is not None:
            self.application.received(component, path, data)

    def deliver_relayed(self, component: int, leg: LegId, data: bytes) -> None:
        """Data for the application, of a peer behind a leg that was authenticated: which, the data path knows."""
        if not any(isinstance(path, RelayPath) and path.leg == leg for path in self.admitted):
            raise PropertyError(f"{self.name}: data of leg {leg} was delivered, where nobody is authenticated")
        if self.application is not None:
            self.application.received(component, None, data)

    def send(self, component: int, data: bytes) -> bool:
        """Send on the component's path; False if there is none, or it is full."""
        match self.used.get(component):
            case UdpPath(socket, remote) if socket in self.udp:
                local = self.udp[socket].local
                self.host.send_udp(local, Endpoint(remote.host, remote.port), data, socket, self.name)
                return True
            case TcpPath(stream):
                return self.send_early(stream, data)
            case RelayPath() as path:
                return self.legs.send_data(path, data)
            case _:
                return False

    def send_early(self, handle: StreamId, data: bytes) -> bool:
        """Send on a connection whatever its state, as a peer may that trusts it sooner than we do."""
        stream = self.streams.get(handle)
        if stream is None or not stream.path.send_data(data):
            return False
        stream.pump()
        return True

    def resume_reading(self, component: int) -> None:
        """The application takes data again."""
        for stream in list(self.streams.values()):
            if stream.component == component:
                stream.resume()

    def local_host(self, path: Path) -> str:
        """The address of this machine that a path's packets leave from."""
        match path:
            case UdpPath(socket):
                return self.udp[socket].local.host
            case TcpPath(stream):
                connection = self.streams[stream].socket
                assert connection is not None
                return connection.local.host
            case RelayPath(leg):
                return self.legs.local_host(leg)

    @property
    def open_handles(self) -> list[int]:
        return sorted([*self._opening, *self.udp, *self.listeners, *self.streams, *self.legs.open_handles])
