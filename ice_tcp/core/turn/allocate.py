"""What is asked of a server in an Allocate request, and what it gave (RFC 8656 s7, RFC 6062 s4.1)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from candidates.candidate import Transport, TransportAddress
from ice_tcp import stun
from ice_tcp.core.outcomes import ServerFailure, ServerVerdict, failure_of
from ice_tcp.core.turn.requests import transport_address
from ice_tcp.stun import Attribute, AttributeType, DecodeError, ErrorCode, Message

DEFAULT_LIFETIME = 600
"""Seconds (RFC 8656 s6)."""

_PROTOCOLS = {Transport.UDP: 17, Transport.TCP: 6}
_LONGEST_LIFETIME = 0xFFFFFFFF
_RESERVED = "a reserved port has a family and a parity already (RFC 8656 s7.1)"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What kind of relayed address is wanted. Raises ValueError for what the RFCs exclude.

    ``families`` is (4,), (6,) or (4, 6): one allocation with an address of each. ``even_port``: an even port;
    ``reserve_next``: and the next one held for another component, whose wishes then have the ``reservation`` that
    `Allocated` brought. ``dont_fragment``: Send indications set DF. ``lifetime`` in seconds; None: the server's.
    """

    transport: Transport = Transport.UDP
    families: tuple[int, ...] = (4,)
    even_port: bool = False
    reserve_next: bool = False
    reservation: bytes | None = None
    dont_fragment: bool = False
    lifetime: int | None = None
    software: str | None = None

    def __post_init__(self) -> None:
        if self.families not in ((4,), (6,), (4, 6)):
            raise ValueError(f"families {self.families} are none of (4,), (6,), (4, 6)")
        if self.reserve_next and not self.even_port:
            raise ValueError("only the port after an even one can be reserved (RFC 8656 s18.7)")
        if self.reserve_next and self.is_dual:
            raise ValueError("no port can be reserved with a dual allocation (RFC 8656 s7.1)")
        if self.reservation is not None:
            if self.even_port or self.families != (4,):
                raise ValueError(_RESERVED)
            stun.reservation_token(self.reservation)
        if self.transport is Transport.TCP and (self.even_port or self.reservation is not None or self.dont_fragment):
            raise ValueError("a TCP allocation knows no EVEN-PORT, reservation or DONT-FRAGMENT (RFC 6062 s4.1)")
        if self.lifetime is not None and not 0 < self.lifetime <= _LONGEST_LIFETIME:
            raise ValueError(f"lifetime {self.lifetime} is not 1 to {_LONGEST_LIFETIME} seconds")

    @property
    def is_dual(self) -> bool:
        return len(self.families) == 2

    def attributes(self) -> list[Attribute]:
        """Those of the Allocate request; IPv4 alone is not mentioned, as servers before RFC 6156 want it."""
        found = [stun.requested_transport(_PROTOCOLS[self.transport])]
        if self.is_dual:
            # Whoever knows one of them ignores the other.
            found += [stun.additional_address_family(6), stun.additional_address_family(6, of_draft=True)]
        elif self.families == (6,):
            found.append(stun.requested_address_family(6))
        if self.even_port:
            found.append(stun.even_port(self.reserve_next))
        if self.reservation is not None:
            found.append(stun.reservation_token(self.reservation))
        if self.dont_fragment:
            found.append(stun.dont_fragment())
        return [*found, *self.lasting_attributes()]

    def lasting_attributes(self) -> list[Attribute]:
        """Those of Refresh requests, too."""
        found = []
        if self.lifetime is not None:
            found.append(stun.lifetime(self.lifetime))
        if self.software is not None:
            found.append(stun.software(self.software))
        return found


@dataclass(frozen=True, slots=True)
class Allocated:
    """An allocation as the server made it.

    ``relayed`` has one address a family. ``mapped`` is how the server sees us; over TCP or TLS that is the control
    connection's address, never a candidate. ``lifetime`` in seconds. ``refused`` tells what became of a wanted family
    that is not there. ``reservation`` holds the next port, see `Wishes`.
    """

    relayed: tuple[TransportAddress, ...]
    mapped: TransportAddress | None
    lifetime: float
    wishes: Wishes
    reservation: bytes | None = None
    refused: tuple[tuple[int, ServerFailure], ...] = ()

    def relayed_of(self, family: int | None) -> TransportAddress | None:
        """The relayed address of ``family``, 4 or 6."""
        return next((address for address in self.relayed if address.family == family), None)


def read_allocated(
    message: Message, wishes: Wishes, original: Wishes, reason: ServerFailure | None
) -> Allocated | ServerFailure:
    """What a success response says; a failure if the allocation cannot be used and must be deleted (RFC 8656 s7.3).

    ``wishes`` are those of the request, ``original`` those before anything was conceded, for ``reason``.
    """
    try:
        relayed = _relayed(message)
        mapped = transport_address(message.xor_mapped_address)
        lifetime = message.lifetime
        reservation = message.reservation_token
        address_error = message.address_error_code
    except DecodeError as error:
        return ServerFailure(ServerVerdict.MALFORMED, str(error))
    if not _are_usable(relayed, wishes):
        text = f"asked for IPv{' and IPv'.join(map(str, wishes.families))}, got {_listed(relayed)}"
        return ServerFailure(ServerVerdict.UNEXPECTED_ADDRESS, text)
    if lifetime == 0:
        return ServerFailure(ServerVerdict.EXPIRED, "an allocation with no lifetime")
    if address_error is not None:
        reason = failure_of(ErrorCode(address_error.code, address_error.reason))
    reason = reason or ServerFailure(ServerVerdict.FAMILY_NOT_SUPPORTED, "the server did not say why")
    missing = set(original.families) - {address.family for address in relayed} if original.reservation is None else ()
    refused = tuple((family, reason) for family in sorted(missing))
    return Allocated(relayed, mapped, float(lifetime or DEFAULT_LIFETIME), wishes, reservation, refused)


def conceded(wishes: Wishes, original: Wishes, failure: ServerFailure, message: Message | None) -> Wishes | None:
    """Lesser wishes with which to ask again at once; None: there are none, the failure stands (RFC 8656 s7.4).

    Where both families were wanted and the server refuses for that, IPv4 alone comes next, then IPv6 alone.
    """
    cause = failure.cause
    if cause in (ServerVerdict.FAMILY_NOT_SUPPORTED, ServerVerdict.PEER_FAMILY_MISMATCH) and original.is_dual:
        following = {(4, 6): (4,), (4,): (6,)}.get(wishes.families)
        return replace(wishes, families=following) if following else None
    if cause is ServerVerdict.INSUFFICIENT_CAPACITY:
        if wishes.even_port:
            return replace(wishes, even_port=False, reserve_next=False)
        if wishes.reservation is not None:
            return replace(wishes, reservation=None)
    if cause is ServerVerdict.UNKNOWN_ATTRIBUTE and message is not None:
        return _without(wishes, _unknown(message))
    return None


def _without(wishes: Wishes, unknown: Iterable[int]) -> Wishes | None:
    lesser = wishes
    if AttributeType.DONT_FRAGMENT in unknown:
        lesser = replace(lesser, dont_fragment=False)
    if AttributeType.EVEN_PORT in unknown:
        lesser = replace(lesser, even_port=False, reserve_next=False)
    if AttributeType.RESERVATION_TOKEN in unknown:
        lesser = replace(lesser, reservation=None)
    if AttributeType.ADDITIONAL_ADDRESS_FAMILY in unknown and lesser.is_dual:
        lesser = replace(lesser, families=(4,))
    return lesser if lesser != wishes else None


def _unknown(message: Message) -> tuple[int, ...]:
    try:
        return message.unknown_attributes or ()
    except DecodeError:
        return ()


def _relayed(message: Message) -> tuple[TransportAddress, ...]:
    """Without 0.0.0.0:0, with which coturn fills the place of a family that it does not have."""
    found = map(transport_address, message.xor_addresses(AttributeType.XOR_RELAYED_ADDRESS))
    return tuple(address for address in found if address is not None and not _is_nothing(address))


def _is_nothing(address: TransportAddress) -> bool:
    return not address.port and address.ip is not None and address.ip.is_unspecified


def _are_usable(relayed: tuple[TransportAddress, ...], wishes: Wishes) -> bool:
    """At most one a family, of families that were asked for, each with a port and a host."""
    families = [address.family for address in relayed]
    if not families or len(set(families)) != len(families):
        return False
    if wishes.reservation is None and not set(families) <= set(wishes.families):
        return False
    return all(address.port and address.ip and not address.ip.is_unspecified for address in relayed)


def _listed(addresses: Iterable[TransportAddress]) -> str:
    return ", ".join(map(str, addresses)) or "none"
