"""What an agent asks of its servers' side of the simulated world: names, legs, channels, relayed data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias, assert_never

from ice_tcp.core.commands import (
    BindChannel,
    Deliver,
    LegId,
    OpenLeg,
    RelayPath,
    Resolve,
    SendLeg,
    TurnIntoStream,
)
from tests.sim.clock import Timer
from tests.sim.leg import SimLeg, StreamLeg, open_leg
from tests.sim.names import endpoints_at
from tests.sim.watch import PropertyError

if TYPE_CHECKING:
    from tests.sim.shell import SimShell

ServerCommand: TypeAlias = Resolve | OpenLeg | SendLeg | BindChannel | Deliver | TurnIntoStream


class Legs:
    """The legs and queries of one agent."""

    def __init__(self, shell: SimShell) -> None:
        self._shell = shell
        self._by_id: dict[int, SimLeg] = {}
        self._queries: dict[int, Timer] = {}

    @property
    def open_handles(self) -> list[int]:
        return [*self._by_id, *self._queries]

    def execute(self, command: ServerCommand) -> None:
        """Do what the core asks; a leg that was lost in this instant is not there, and the core will hear of it."""
        match command:
            case Resolve():
                self._resolve(command)
            case OpenLeg(leg):
                self._shell.watch.opens_leg(command, self._shell.clock.now)
                self._by_id[leg] = open_leg(self._shell, command)
                self._by_id[leg].open(command)
            case SendLeg(leg, data):
                if leg in self._by_id:
                    self._send(self._by_id[leg], data)
            case BindChannel(leg, peer, number):
                if leg in self._by_id:
                    self._by_id[leg].bind_channel(peer, number)
            case Deliver(path, data):
                if path.leg in self._by_id:
                    self._by_id[path.leg].deliver_of(path.remote, data)
            case TurnIntoStream(leg):
                if leg in self._by_id:
                    self._turn_into_stream(self._by_id.pop(leg), command)
            case _:
                assert_never(command)

    def _resolve(self, command: Resolve) -> None:
        shell, query, uri = self._shell, command.query, command.uri

        def answer(hosts: Sequence[str]) -> None:
            del self._queries[query]
            endpoints = endpoints_at(uri, hosts)
            if endpoints:
                shell.input(lambda now: shell.agent.resolved(query, endpoints, now))
            else:
                shell.input(lambda now: shell.agent.resolve_failed(query, "no such name", now))

        self._queries[query] = shell.world.names.resolve(uri.address.host, answer)

    def _send(self, leg: SimLeg, message: bytes) -> None:
        shell = self._shell
        relayed = leg.unwrapped(message)
        if relayed is None:
            shell.watch.asks_server(leg.id, message, shell.clock.now)
        else:
            path = RelayPath(leg.id, relayed[0])
            shell.watch.sent(path, leg.component, relayed[1], shell.clock.now)
        leg.send(message)

    def _turn_into_stream(self, leg: SimLeg, command: TurnIntoStream) -> None:
        if not isinstance(leg, StreamLeg):
            raise PropertyError(f"{self._shell.name}: TurnIntoStream of leg {leg.id}, which is a socket")
        self._shell.watch.leg_gone(leg.id)
        leg.turn_into_stream(command)

    def admit(self, path: RelayPath) -> None:
        if path.leg in self._by_id:
            self._by_id[path.leg].admit(path.remote)

    def send_data(self, path: RelayPath, data: bytes) -> bool:
        """Send application data; False if there is no leg, or no room."""
        return path.leg in self._by_id and self._by_id[path.leg].send_data(path.remote, data)

    def local_host(self, leg: LegId) -> str:
        """The address of this machine that a leg leaves from."""
        return self._by_id[leg].host

    def remote(self, leg: LegId) -> str:
        """The address of the server that a leg leads to."""
        return self._by_id[leg].remote.host

    def gone(self, leg: LegId) -> None:
        """A leg is lost."""
        self._by_id.pop(leg, None)
        self._shell.watch.leg_gone(leg)

    def close(self, handle: int) -> None:
        if (leg := self._by_id.pop(handle, None)) is not None:
            leg.close()
            self._shell.watch.leg_gone(leg.id)
        elif (query := self._queries.pop(handle, None)) is not None:
            query.cancel()

    def abandon(self) -> None:
        """The process ends without a word."""
        for leg in self._by_id.values():
            leg.abandon()
        for query in self._queries.values():
            query.cancel()
        self._by_id.clear()
        self._queries.clear()
