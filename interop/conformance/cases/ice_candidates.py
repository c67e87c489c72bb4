"""What the agent tells of itself: candidates, foundations, priorities, credentials (RFC 8445 s5, RFC 8839 s5)."""

from __future__ import annotations

import ipaddress
import re
from collections import defaultdict
from typing import Final

from interop.conformance.case import Level, case, require
from interop.conformance.target import Capability, Description
from interop.conformance.trial import ACTIVE, PASSIVE, SO, UDP, Trial

MUST, SHOULD = Level.MUST, Level.SHOULD

_MIXED: Final = (Capability.UDP, Capability.TCP_ACTIVE, Capability.TCP_PASSIVE)
_ICE_CHARS: Final = re.compile(r"[A-Za-z0-9+/]+\Z")


async def _told(trial: Trial) -> Description:
    await trial.create(UDP)
    return trial.told


# Gathering (RFC 8445 s5.1.1)


@case(
    8445,
    "5.1.1.1",
    SHOULD,
    "For each component of each data stream the ICE agent wishes to use, the agent SHOULD obtain a candidate on each "
    "IP address that the host has, with the exceptions listed below.",
)
async def a_host_candidate(trial: Trial) -> None:
    """There is a host candidate over UDP on the address that it was to use."""
    await trial.create(UDP)
    hosts = [candidate for candidate in trial.candidates if candidate.type == "host"]
    require([candidate.host for candidate in hosts] == ["127.0.0.1"], f"the candidates are {trial.told.candidates}")


@case(
    8445,
    "5.1.1.1",
    MUST,
    "The agent obtains each candidate by binding to a UDP port on the specific IP address.",
)
async def the_port_is_bound(trial: Trial) -> None:
    """The port of the host candidate is the agent's: no other socket gets it."""
    await trial.create(UDP)
    port = trial.udp()
    await trial.introduce(trial.peer.candidate(port))
    check = await trial.check_on(port)
    require(check.far == trial.candidate(UDP).address, f"checks come from {check.far}")


@case(
    8445,
    "5.1.1.1",
    SHOULD,
    "If multiple components are needed, the component IDs SHOULD start with 1 and increase by 1 for each component.",
    needs=(Capability.UDP, Capability.COMPONENTS),
)
async def components_count_from_one(trial: Trial) -> None:
    """With two components there are candidates of components 1 and 2, on different ports."""
    await trial.create(UDP, components=2)
    components = sorted(candidate.component for candidate in trial.candidates)
    require(components == [1, 2], f"the components are {components}")
    require(len({candidate.port for candidate in trial.candidates}) == 2, "both have the same port")


@case(
    8445,
    "5.1.1.1",
    SHOULD,
    "IPv4-mapped IPv6 addresses SHOULD NOT be included in the address candidates unless the application using ICE does "
    "not support IPv4",
    needs=(Capability.UDP, Capability.IPV6),
)
async def no_mapped_addresses(trial: Trial) -> None:
    """An IPv6 candidate has an address of its own, not one of IPv4 in disguise."""
    await trial.create(UDP, host="::1")
    for candidate in trial.candidates:
        address = ipaddress.ip_address(candidate.host)
        require(address.version == 6, f"{candidate.host} is no IPv6 address")
        assert isinstance(address, ipaddress.IPv6Address)
        require(address.ipv4_mapped is None, f"{candidate.host} is an IPv4 address")


# Foundations (RFC 8445 s5.1.1.3)


@case(
    8445,
    "5.1.1.3",
    MUST,
    "Two candidates have the same foundation when all of the following are true:",
    needs=(Capability.UDP, Capability.COMPONENTS),
)
async def one_foundation_for_all_components(trial: Trial) -> None:
    """Host candidates of one address and of two components have the same foundation."""
    await trial.create(UDP, components=2)
    foundations = {candidate.foundation for candidate in trial.candidates}
    require(len(foundations) == 1, f"the foundations are {foundations}")


@case(
    8445,
    "5.1.1.3",
    MUST,
    "Similarly, two candidates have different foundations if their types are different, their bases have different IP "
    "addresses, the STUN or TURN servers used to obtain them have different IP addresses (the IP addresses used by the "
    "agent to contact the STUN or TURN server), or their transport protocols are different.",
    needs=_MIXED,
)
async def another_foundation_for_tcp(trial: Trial) -> None:
    """Candidates over UDP and over TCP have different foundations."""
    await trial.create(UDP, ACTIVE, PASSIVE)
    by_transport = defaultdict(set)
    for candidate in trial.candidates:
        by_transport[candidate.transport.upper()].add(candidate.foundation)
    require(not by_transport["UDP"] & by_transport["TCP"], f"both have {by_transport['UDP']}")


# Priorities (RFC 8445 s5.1.2)


@case(
    8445,
    "5.1.2",
    MUST,
    "Each candidate for a data stream MUST have a unique priority that MUST be a positive integer between 1 and "
    "(2**31 - 1).",
)
async def priorities_are_unique(trial: Trial) -> None:
    """No two candidates have the same priority, and all are in the range."""
    await trial.create_able(UDP, ACTIVE, PASSIVE, SO)
    priorities = [candidate.priority for candidate in trial.candidates]
    require(len(set(priorities)) == len(priorities), f"the priorities are {priorities}")
    require(all(1 <= priority < 2**31 for priority in priorities), f"the priorities are {priorities}")


@case(
    8445,
    "5.1.2.1",
    MUST,
    "priority = (2^24)*(type preference) + (2^8)*(local preference) + (2^0)*(256 - component ID)",
    needs=(Capability.UDP, Capability.COMPONENTS),
)
async def the_component_is_in_the_priority(trial: Trial) -> None:
    """The last 8 bits of a priority are 256 minus the component, and the rest is the same for both components."""
    await trial.create(UDP, components=2)
    for candidate in trial.candidates:
        low = candidate.priority & 0xFF
        require(low == 256 - candidate.component, f"component {candidate.component} has {low} there")
    upper = {candidate.priority >> 8 for candidate in trial.candidates}
    require(len(upper) == 1, f"the upper bits are {upper}")


@case(
    8445,
    "5.1.2.1",
    MUST,
    "The type preference MUST be an integer from 0 (lowest preference) to 126 (highest preference) inclusive, MUST be "
    "identical for all candidates of the same type, and MUST be different for candidates of different types.",
)
async def type_preference(trial: Trial) -> str:
    """The type preference of every candidate is at most 126, and that of all host candidates over UDP the same."""
    await trial.create_able(UDP, ACTIVE, PASSIVE, SO)
    preferences = {candidate.type_preference for candidate in trial.candidates}
    require(max(preferences) <= 126, f"the type preferences are {preferences}")
    udp = {candidate.type_preference for candidate in trial.candidates if candidate.kind == UDP}
    require(len(udp) == 1, f"host candidates over UDP have the type preferences {udp}")
    return f"{sorted(preferences)}"


@case(8445, "5.1.2.1", SHOULD, "When there is only a single IP address, this value SHOULD be set to 65535.")
async def local_preference_of_one_address(trial: Trial) -> None:
    """With one address the local preference over UDP is 65535."""
    await trial.create(UDP)
    preference = trial.candidate(UDP).local_preference
    require(preference == 65535, f"it is {preference}")


@case(
    8445,
    "5.1.2.2",
    SHOULD,
    "The RECOMMENDED values for type preferences are 126 for host candidates, 110 for peer-reflexive candidates, 100 "
    "for server-reflexive candidates, and 0 for relayed candidates.",
)
async def recommended_type_preference(trial: Trial) -> None:
    """The type preference of a host candidate over UDP is 126."""
    await trial.create(UDP)
    preference = trial.candidate(UDP).type_preference
    require(preference == 126, f"it is {preference}")


# Credentials (RFC 8445 s5.3, RFC 8839 s5.4)


@case(
    8445,
    "5.3",
    MUST,
    "The values MUST be unguessable, with at least 128 bits of random number generator output used to generate the "
    "password, and at least 24 bits of output to generate the username fragment.",
)
async def credentials_are_random(trial: Trial) -> None:
    """Six sessions have six fragments and six passwords, with no three characters in common at the same place."""
    told = []
    for _ in range(6):
        agent = await trial.target.create(trial.setup_of(UDP))
        described = await agent.gather()
        told.append(described)
        await agent.close()
    require(len({each.ufrag for each in told}) == 6, f"the fragments are {[each.ufrag for each in told]}")
    require(len({each.pwd for each in told}) == 6, "two passwords are the same")
    fixed = [letters for letters in zip(*(each.pwd for each in told), strict=False) if len(set(letters)) == 1]
    require(len(fixed) < 3, f"{len(fixed)} characters of the passwords are always the same")


@case(
    8839,
    "5.4",
    MUST,
    'This means that the "ice-ufrag" attribute will be at least 4 characters long, and the "ice-pwd" at least 22 '
    "characters long, since the grammar for these attributes allows for 6 bits of information per character.",
)
async def credentials_are_long_enough(trial: Trial) -> str:
    """The fragment has 4 characters or more, the password 22."""
    told = await _told(trial)
    require(4 <= len(told.ufrag) <= 256, f"the fragment is {told.ufrag!r}")
    require(22 <= len(told.pwd) <= 256, f"the password has {len(told.pwd)} characters")
    return f"{len(told.ufrag)} and {len(told.pwd)} characters"


@case(
    8839,
    "5.4",
    MUST,
    'the "ice-ufrag" attribute MUST NOT be longer than 32 characters when sending, but an implementation MUST accept '
    "up "
    "to 256 characters when receiving.",
)
async def the_fragment_is_not_too_long(trial: Trial) -> None:
    """The agent's fragment has at most 32 characters."""
    told = await _told(trial)
    require(len(told.ufrag) <= 32, f"it has {len(told.ufrag)}")


@case(8839, "5.4", MUST, "password = 22*256ice-char ufrag = 4*256ice-char")
async def credentials_are_of_ice_chars(trial: Trial) -> None:
    """Fragment and password consist of letters, digits, + and /."""
    told = await _told(trial)
    require(_ICE_CHARS.match(told.ufrag), f"the fragment is {told.ufrag!r}")
    require(_ICE_CHARS.match(told.pwd), "the password has other characters")


@case(8839, "5.4", MUST, "an implementation MUST accept up to 256 characters when receiving.")
async def long_credentials_of_the_peer(trial: Trial) -> None:
    """A peer whose fragment and password have 256 characters is a peer like others."""
    trial.peer.ufrag = "u" * 256
    trial.peer.pwd = "p" * 256
    await trial.join()


@case(8839, "5.4", MUST, "password = 22*256ice-char ufrag = 4*256ice-char")
async def short_credentials_of_the_peer(trial: Trial) -> None:
    """A peer with the shortest credentials, and with + and / in them, is a peer like others."""
    trial.peer.ufrag = "a+/Z"
    trial.peer.pwd = "+/" * 11
    await trial.join()


# Options (RFC 8445 s10, RFC 8838 s3, RFC 8839)


@case(
    8445,
    "10",
    MUST,
    "An agent compliant to this specification MUST inform the peer about the compliance using the 'ice2' option.",
    needs=(Capability.UDP, Capability.OPTIONS),
)
async def the_ice2_option(trial: Trial) -> None:
    """The agent's options have ice2."""
    told = await _told(trial)
    require("ice2" in told.options, f"the options are {' '.join(told.options) or 'none'}")


@case(8839, "5.6", MUST, "ice-option-tag = 1*ice-char", needs=(Capability.UDP, Capability.OPTIONS))
async def options_are_of_ice_chars(trial: Trial) -> None:
    """The agent's options consist of letters, digits, + and /."""
    told = await _told(trial)
    for option in told.options:
        require(_ICE_CHARS.match(option), f"{option!r} is no option")


@case(
    8839,
    "4.3.1",
    SHOULD,
    'If the offerer is a full ICE implementation, it SHOULD include an "ice-pacing" attribute in the offer (if not '
    "included, the default value will apply).",
    needs=(Capability.UDP, Capability.PACING),
)
async def a_full_agent_tells_its_pacing(trial: Trial) -> str:
    """A full agent proposes a pacing."""
    told = await _told(trial)
    require(told.pacing is not None, "it says nothing of pacing")
    return f"{told.pacing} ms"


@case(
    8839,
    "4.3.1",
    MUST,
    'A lite ICE implementation MUST NOT include the "ice-pacing" attribute in the offer (as it will not perform '
    "connectivity checks).",
    needs=(Capability.UDP, Capability.LITE),
)
async def a_lite_agent_tells_no_pacing(trial: Trial) -> None:
    """A lite agent proposes no pacing."""
    await trial.create(UDP, lite=True)
    require(trial.told.pacing is None, f"it proposes {trial.told.pacing} ms")


@case(
    8839,
    "4.2.1.4",
    MUST,
    'An ICE-lite implementation [RFC8445] MUST include an SDP "ice-lite" attribute.',
    needs=(Capability.UDP, Capability.LITE),
)
async def a_lite_agent_says_so(trial: Trial) -> None:
    """A lite agent says that it is lite."""
    await trial.create(UDP, lite=True)
    require(trial.told.lite, "it does not say so")


@case(8839, "4.2.1.4", MUST, "A full implementation MUST NOT include that attribute.")
async def a_full_agent_does_not_say_lite(trial: Trial) -> None:
    """A full agent does not say that it is lite."""
    require(not (await _told(trial)).lite, "it says so")


# The candidate attribute (RFC 8839 s5.1)


@case(
    8839,
    "5.1",
    MUST,
    'candidate-attribute = "candidate" ":" foundation SP component-id SP transport SP priority SP connection-address '
    "SP",
)
async def candidates_follow_the_grammar(trial: Trial) -> None:
    """Every candidate line is one."""
    await trial.create_able(UDP, ACTIVE, PASSIVE, SO)
    require(trial.candidates, "there is none")


@case(8839, "5.1", MUST, "An agent generating local candidates MUST NOT use FQDN addresses.")
async def candidates_have_addresses(trial: Trial) -> None:
    """Every candidate has an IP address, no name."""
    await trial.create_able(UDP, ACTIVE, PASSIVE, SO)
    for candidate in trial.candidates:
        require(_is_address(candidate.host), f"{candidate.host!r} is no IP address")


@case(
    8839,
    "5.1",
    MUST,
    "If the candidate is a host candidate, <rel-addr> and <rel-port> MUST be omitted.",
)
async def no_related_address_of_a_host(trial: Trial) -> None:
    """Host candidates have neither raddr nor rport."""
    await trial.create_able(UDP, ACTIVE, PASSIVE, SO)
    for candidate in trial.candidates:
        if candidate.type == "host":
            require(candidate.raddr is None and candidate.rport is None, candidate.text)


@case(8839, "5.1", MUST, "<foundation>: is composed of 1 to 32 <ice-char>s.")
async def foundations_are_short(trial: Trial) -> None:
    """Foundations have 1 to 32 letters, digits, + and /."""
    await trial.create_able(UDP, ACTIVE, PASSIVE, SO)
    for line in trial.told.candidates:
        foundation = line.removeprefix("candidate:").split(" ")[0]
        require(len(foundation) <= 32 and _ICE_CHARS.match(foundation), f"{foundation!r} is no foundation")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
