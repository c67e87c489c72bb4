"""Ways of their own to servers, and who hears of what comes on them."""

from __future__ import annotations

from typing import Protocol

from candidates.candidate import Transport, TransportAddress
from ice_tcp.core.commands import (
    BindChannel,
    Close,
    Failure,
    LegId,
    LegTransport,
    ListenerId,
    OpenLeg,
    PortRange,
    SendLeg,
    ServerEndpoint,
    StreamId,
    TlsOptions,
    TurnIntoStream,
)
from ice_tcp.core.context import Context
from ice_tcp.core.outcomes import Cause, ServerVerdict
from ice_tcp.core.verdicts import verdict_of


def cause_of(failure: Failure) -> Cause:
    """Why a leg was lost, in words for servers."""
    return ServerVerdict.NOT_STUN if failure is Failure.NOT_STUN else verdict_of(failure)


class LegOwner(Protocol):
    """Who hears of a leg. After `leg_lost` nothing more comes, nor after `Leg.close`."""

    def leg_opened(self, now: float) -> None: ...

    def leg_received(self, message: bytes, now: float) -> None:
        """One whole message of the server."""
        ...

    def leg_lost(self, failure: Failure, text: str, now: float) -> None: ...

    def leg_relayed(self, peer: TransportAddress, data: bytes, now: float) -> None:
        """A peer's STUN message came by channel."""
        ...


class Leg:
    """One socket or connection to one server; the `ServerPath` of the machine on it."""

    __slots__ = ("_legs", "endpoint", "flow", "id", "local", "owner")

    def __init__(self, legs: Legs, id_: LegId, endpoint: ServerEndpoint, owner: LegOwner) -> None:
        self._legs = legs
        self.id = id_
        self.endpoint = endpoint
        self.owner = owner
        self.local: TransportAddress | None = None
        self.flow = -1
        """Its number, as `Context.flows` counts."""

    @property
    def reliable(self) -> bool:
        return self.endpoint.transport.reliable

    def send(self, data: bytes) -> None:
        self._legs.context.commands.append(SendLeg(self.id, data))

    def bind_channel(self, peer: TransportAddress, number: int | None) -> None:
        self._legs.context.commands.append(BindChannel(self.id, peer, number))

    def turn_into(self, stream: StreamId) -> None:
        """It is a peer's connection from the next byte on."""
        self._legs.forget(self)
        self._legs.context.commands.append(TurnIntoStream(self.id, stream))

    def close(self) -> None:
        """What was sent before still goes out. May be called more than once."""
        if self._legs.forget(self):
            self._legs.context.commands.append(Close(self.id))


class Legs:
    """The legs of one agent by their numbers."""

    __slots__ = ("_by_id", "context")

    def __init__(self, context: Context) -> None:
        self.context = context
        self._by_id: dict[LegId, Leg] = {}

    def open(
        self,
        owner: LegOwner,
        component: int,
        host: str,
        endpoint: ServerEndpoint,
        *,
        tls: TlsOptions | None,
        listener: ListenerId | None = None,
        ports: PortRange | None = None,
    ) -> Leg:
        """Ask for a leg from ``host``; the owner hears ``leg_opened`` or ``leg_lost``."""
        leg = Leg(self, LegId(self.context.issue()), endpoint, owner)
        self._by_id[leg.id] = leg
        leg.flow = self.context.begin_flow(
            host, Transport.UDP if endpoint.transport is LegTransport.UDP else Transport.TCP
        )
        secure = endpoint.transport.secure
        timeout = self.context.policy.timeouts.connect
        self.context.commands.append(
            OpenLeg(
                *(leg.id, component, host, endpoint.address, endpoint.transport, timeout),
                tls=tls if secure else None,
                listener=listener,
                ports=ports,
            )
        )
        return leg

    def forget(self, leg: Leg) -> bool:
        """Whether it was still known."""
        return self._by_id.pop(leg.id, None) is not None

    def opened(self, leg: LegId, local: TransportAddress, now: float) -> None:
        known = self._by_id.get(leg)
        if known is not None:
            known.local = TransportAddress(local.host.partition("%")[0], local.port)
            known.owner.leg_opened(now)

    def received(self, leg: LegId, message: bytes, now: float) -> None:
        known = self._by_id.get(leg)
        if known is not None:
            known.owner.leg_received(message, now)

    def lost(self, leg: LegId, failure: Failure, text: str, now: float) -> None:
        known = self._by_id.pop(leg, None)
        if known is not None:
            known.owner.leg_lost(failure, text, now)

    def relayed(self, leg: LegId, peer: TransportAddress, data: bytes, now: float) -> None:
        known = self._by_id.get(leg)
        if known is not None:
            known.owner.leg_relayed(peer, data, now)
