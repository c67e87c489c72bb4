"""Which cells must be direct, by what the boxes do; `docs/nat-lab.md` shows the table that comes out.

A packet gets through a box if it is addressed to a mapping that is used towards its sender, and comes from whom the
filter lets in. Both hosts send to what the other's STUN server saw.
"""

from __future__ import annotations

from enum import StrEnum

from interop.natlab.kinds import Dependence, Option, Site
from interop.natlab.scenario import Scenario, Transports


class Outcome(StrEnum):
    """What a cell came to, or has to come to."""

    DIRECT = "direct"
    RELAY = "relay"
    FAILED = "failed"


def expected(scenario: Scenario) -> Outcome:
    """Direct wherever there is a direct path, else through the relay; never failed."""
    if scenario.right is None:
        return Outcome.DIRECT  # the hosts are neighbours
    return Outcome.DIRECT if any(_is_direct(scenario, each) for each in scenario.transports.names) else Outcome.RELAY


def is_left_to_chance(scenario: Scenario) -> bool:
    """Whether the relay will do where there is a direct path, for which packet comes first decides.

    A box whose own stack takes a stranger's datagram remembers the flow. When the host behind it then sends to that
    stranger, the port is taken, it is mapped to another one, and the peer's box lets only the first one in.
    """
    return (
        scenario.transports is Transports.UDP
        and scenario.right is not None
        and any(Option.OWN_STACK in site.options for site in scenario.sites)
    )


def _is_direct(scenario: Scenario, transport: str) -> bool:
    left, right = scenario.sites
    if not left.families & right.families:
        return False
    if any(_is_blocked(site, transport) for site in scenario.sites):
        return False
    if _gets_in(left, right, transport) or _gets_in(right, left, transport):
        return True
    return scenario.predicts and transport == Transports.TCP and _is_foreseen(left, right)


def _is_foreseen(left: Site, right: Site) -> bool:
    """Whether each side knows the ports that the other is mapped to."""
    return all(site.counts and Option.NO_SO not in site.options for site in (left, right))


def _is_blocked(site: Site, transport: str) -> bool:
    return Option.ONLY_443 in site.options or (transport == Transports.UDP and Option.NO_UDP in site.options)


def _gets_in(sender: Site, receiver: Site, transport: str) -> bool:
    """Whether the first packet of one side reaches the other, which has sent one, too."""
    if transport == Transports.TCP and Option.NO_SO in receiver.options:
        return False
    match receiver.filtering:
        case Dependence.ENDPOINT_INDEPENDENT:
            return True
        case Dependence.ADDRESS_DEPENDENT:
            return receiver.mapping is Dependence.ENDPOINT_INDEPENDENT
        case _:
            # The sender must come from where it was told to be, and the receiver be where it was told to be.
            return receiver.mapping is sender.mapping is Dependence.ENDPOINT_INDEPENDENT
