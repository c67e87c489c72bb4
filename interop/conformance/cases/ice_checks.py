"""The agent's connectivity checks, and what it makes of their answers (RFC 8445 s7.1, s7.2, s16.1)."""

from __future__ import annotations

from interop.conformance.candidate_lines import read_candidate
from interop.conformance.case import Level, case, require
from interop.conformance.peer import CHECK, NOMINATION
from interop.conformance.stun import Attr, Draft, Message
from interop.conformance.trial import UDP, Trial
from interop.conformance.wire import Matcher, Packet, UdpPort

MUST = Level.MUST

_LOW_24_BITS = 0xFFFFFF


async def _check(trial: Trial, *, controlling: bool = False) -> Message:
    """The agent's first check."""
    port = await trial.meet(controlling=controlling, polite=False)
    message = (await trial.check_on(port)).message
    assert message is not None
    return message


# What a check says


@case(
    8445,
    "7.1.1",
    MUST,
    "The PRIORITY attribute MUST be included in a Binding request and be set to the value computed by the algorithm in "
    "Section 5.1.2 for the local candidate, but with the candidate type preference of peer-reflexive candidates.",
)
async def priority_of_a_check(trial: Trial) -> str:
    """PRIORITY is that of the candidate, with another type preference."""
    check = await _check(trial)
    priority, candidate = check.number(Attr.PRIORITY), trial.candidate(UDP)
    require(priority is not None and len(check.get(Attr.PRIORITY) or b"") == 4, "the check has no PRIORITY of 4 bytes")
    assert priority is not None
    same = priority & _LOW_24_BITS == candidate.priority & _LOW_24_BITS
    require(same, f"PRIORITY is {priority}, that of the candidate {candidate.priority}")
    require(priority >> 24 != candidate.type_preference, "its type preference is that of a host candidate")
    return f"the type preference is {priority >> 24}"


@case(
    8445,
    "7.1.2",
    MUST,
    "The controlling agent MUST include the USE-CANDIDATE attribute in order to nominate a candidate pair",
)
async def the_controlling_agent_nominates(trial: Trial) -> None:
    """A controlling agent sends USE-CANDIDATE."""
    port = await trial.meet(controlling=True)
    await trial.succeeds(port)
    await port.expect(NOMINATION)


@case(
    8445,
    "7.1.2",
    MUST,
    "The controlled agent MUST NOT include the USE-CANDIDATE attribute in a Binding request.",
)
async def the_controlled_agent_does_not(trial: Trial) -> None:
    """A controlled agent never sends USE-CANDIDATE, whatever the peer does."""
    port = await trial.join()
    await trial.pause()
    require(not port.received(NOMINATION), "it does")


@case(
    8445,
    "16.1",
    MUST,
    "The attribute has no content (the Length field of the attribute is zero); it serves as a flag.",
)
async def use_candidate_is_empty(trial: Trial) -> None:
    """USE-CANDIDATE has a length of zero."""
    port = await trial.meet(controlling=True)
    await trial.succeeds(port)
    nomination = (await port.expect(NOMINATION)).message
    assert nomination is not None
    require(nomination.get(Attr.USE_CANDIDATE) == b"", f"it is {nomination.get(Attr.USE_CANDIDATE)!r}")


@case(8445, "7.1.3", MUST, "The controlling agent MUST include the ICE-CONTROLLING attribute in a Binding request.")
async def the_controlling_agent_says_so(trial: Trial) -> None:
    """A controlling agent's check has ICE-CONTROLLING of 8 bytes, and not ICE-CONTROLLED."""
    _claims(await _check(trial, controlling=True), Attr.ICE_CONTROLLING, Attr.ICE_CONTROLLED)


@case(8445, "7.1.3", MUST, "The controlled agent MUST include the ICE-CONTROLLED attribute in a Binding request.")
async def the_controlled_agent_says_so(trial: Trial) -> None:
    """A controlled agent's check has ICE-CONTROLLED of 8 bytes, and not ICE-CONTROLLING."""
    _claims(await _check(trial), Attr.ICE_CONTROLLED, Attr.ICE_CONTROLLING)


def _claims(check: Message, role: Attr, other: Attr) -> None:
    require(len(check.get(role) or b"") == 8, f"{role.name} is {check.get(role)!r}")
    require(not check.has(other), f"there is {other.name}")


@case(
    8445,
    "16.1",
    MUST,
    "An ICE agent MUST use the same number for all Binding requests, for all streams, within an ICE session, unless it "
    "has received a 487 response, in which case it MUST change the number",
)
async def one_tie_breaker(trial: Trial) -> None:
    """The checks of three pairs have the same tie-breaker."""
    await trial.create(UDP)
    ports = [trial.udp() for _ in range(3)]
    lines = [trial.peer.candidate(port, priority=1000 + n, foundation=str(n)) for n, port in enumerate(ports)]
    await trial.introduce(*lines)
    numbers = {(await _message(trial, port)).number(Attr.ICE_CONTROLLED) for port in ports}
    require(len(numbers) == 1, f"they have {len(numbers)}")


async def _message(trial: Trial, port: UdpPort) -> Message:
    message = (await trial.check_on(port)).message
    assert message is not None
    return message


@case(
    8445,
    "7.2.2",
    MUST,
    "The username for the credential is formed by concatenating the username fragment provided by the peer with the "
    'username fragment of the ICE agent sending the request, separated by a colon (":").',
)
async def username_of_a_check(trial: Trial) -> None:
    """USERNAME is the peer's fragment, a colon, and the agent's own."""
    username = (await _check(trial)).username
    expected = f"{trial.peer.ufrag}:{trial.told.ufrag}"
    require(username == expected, f"it is {username!r}, not {expected!r}")


@case(8445, "7.2.2", MUST, "The password is equal to the password provided by the peer.")
async def password_of_a_check(trial: Trial) -> None:
    """A check is protected by the peer's password, not by the agent's own."""
    check = await _check(trial)
    require(check.integrity_holds(trial.peer.pwd) or check.sha256_holds(trial.peer.pwd), "it is not")


@case(
    8445,
    "7.2.2",
    MUST,
    "A connectivity-check Binding request MUST utilize the STUN short-term credential mechanism.",
)
async def short_term_credentials(trial: Trial) -> None:
    """A check has no REALM, which would mean long-term credentials."""
    check = await _check(trial)
    require(not check.has(Attr.REALM), "it has REALM")
    require(check.has(Attr.USERNAME), "it has no USERNAME")


@case(8445, "7.2.4", MUST, "The FINGERPRINT mechanism MUST be used for connectivity checks.")
async def fingerprint_of_a_check(trial: Trial) -> None:
    """A check has a right FINGERPRINT."""
    require((await _check(trial)).fingerprint_holds, "it has none, or a wrong one")


@case(
    8445,
    "7.2.4",
    MUST,
    "A connectivity check is generated by sending a Binding request from the base associated with a local candidate to "
    "a remote candidate.",
)
async def checks_go_from_base_to_candidate(trial: Trial) -> None:
    """Checks come from the agent's candidate, and to the peer's only."""
    await trial.create(UDP)
    port, other = trial.udp(), trial.udp()
    await trial.introduce(trial.peer.candidate(port))
    check = await trial.check_on(port)
    require(check.far == trial.candidate(UDP).address, f"the check comes from {check.far}")
    await other.refuse(CHECK)


# Role conflicts, seen by the one who asks (RFC 8445 s7.2.5.1)


async def _after_487(trial: Trial, *, controlling: bool) -> tuple[Message, Message]:
    """The check that got a 487, and the next one of another content."""
    port = await trial.meet(controlling=controlling, polite=False)
    before = await trial.check_on(port)
    port.send(trial.peer.error(before, 487, "Role Conflict"))
    differs = Matcher("check that differs", lambda packet: CHECK.matches(packet) and packet.data != before.data)
    after = await port.expect(differs)
    assert before.message is not None and after.message is not None
    return before.message, after.message


@case(
    8445,
    "7.2.5.1",
    MUST,
    "if the ICE agent included an ICE-CONTROLLED attribute in the request, the agent MUST switch to the controlling "
    "role.",
)
async def a_487_makes_it_controlling(trial: Trial) -> None:
    """A controlled agent that gets a 487 checks again, as the controlling one."""
    _, after = await _after_487(trial, controlling=False)
    _claims(after, Attr.ICE_CONTROLLING, Attr.ICE_CONTROLLED)


@case(
    8445,
    "7.2.5.1",
    MUST,
    "If the agent included an ICE-CONTROLLING attribute in the request, the agent MUST switch to the controlled role.",
)
async def a_487_makes_it_controlled(trial: Trial) -> None:
    """A controlling agent that gets a 487 checks again, as the controlled one."""
    _, after = await _after_487(trial, controlling=True)
    _claims(after, Attr.ICE_CONTROLLED, Attr.ICE_CONTROLLING)


@case(8445, "7.2.5.1", MUST, "The agent MUST change the tiebreaker value.")
async def a_487_changes_the_tie_breaker(trial: Trial) -> None:
    """After a 487 the tie-breaker is another."""
    before, after = await _after_487(trial, controlling=False)
    old, new = before.number(Attr.ICE_CONTROLLED), after.number(Attr.ICE_CONTROLLING)
    require(new is not None and new != old, f"it is {new}, as before")


@case(
    8445,
    "7.2.5.1",
    MUST,
    "Once the agent has switched its role, the agent MUST add the candidate pair whose check generated the 487 error "
    "response to the triggered-check queue associated with the checklist to which the pair belongs, and set the "
    "candidate pair state to Waiting.",
)
async def a_487_is_followed_by_a_check(trial: Trial) -> None:
    """After a 487 the pair is checked again, and can be selected."""
    port = await trial.meet(controlling=False, polite=False)
    port.send(trial.peer.error(await trial.check_on(port), 487, "Role Conflict"))
    trial.peer.controlling = False
    trial.peer.answers(port)
    await trial.succeeds(port)
    await port.expect(NOMINATION)
    await trial.connected()


# Success and failure (RFC 8445 s7.2.5)


@case(
    8445,
    "7.2.5.2.1",
    MUST,
    "If the addresses are not symmetric, the agent MUST set the candidate pair state to Failed.",
)
async def an_answer_from_elsewhere(trial: Trial) -> None:
    """An answer from another port than was asked does not let the agent connect."""
    await trial.create(UDP)
    port, other = trial.udp(), trial.udp()

    def answer(check: Packet) -> list[Draft]:
        other.send(trial.peer.success(check))
        return []

    trial.peer.replies(port, answer)
    await trial.introduce(trial.peer.candidate(port))
    await trial.check_on(port)
    await trial.wire.find(lambda: trial.outcome or None, 1.0)
    require(trial.outcome != "connected", "it has connected")


@case(
    8445,
    "7.2.5.2.3",
    MUST,
    "If the Binding request transaction times out, the ICE agent MUST set the candidate pair state to Failed.",
    slow=True,
    limit=100,
)
async def silence_is_failure(trial: Trial) -> str:
    """An agent whose only check is never answered says that it has failed."""
    await trial.meet(polite=False)
    await trial.pause(80.0)
    require(trial.outcome.startswith("the agent says"), f"after 80 s it is {trial.outcome or 'still trying'}")
    return trial.outcome


@case(
    8445,
    "7.2.5.3.1",
    MUST,
    "If the transport address does not match any of the local candidates that the agent knows about, the mapped "
    "address represents a new candidate: a peer-reflexive candidate.",
)
async def a_mapped_address_that_nobody_knows(trial: Trial) -> None:
    """An agent that is behind a NAT, as the answers say, connects, and data flows."""
    port = await _behind_a_nat(trial)
    await trial.flows(port)


@case(
    8445,
    "7.2.5.3.2",
    MUST,
    "The ICE agent constructs a candidate pair whose local candidate equals the mapped address of the response and "
    "whose remote candidate equals the destination address to which the request was sent.",
)
async def the_valid_pair_has_the_mapped_address(trial: Trial) -> None:
    """The selected pair of an agent behind a NAT has the mapped address, as a peer-reflexive candidate."""
    await _behind_a_nat(trial)
    selected = await trial.agent.selected_pair(1)
    require(selected is not None, "there is no selected pair")
    assert selected is not None
    local = read_candidate(selected[0])
    require(local.address == _MAPPED, f"the local candidate is {local.text}")
    require(local.type == "prflx", f"the local candidate is {local.text}")


_MAPPED = ("192.0.2.77", 47_711)


async def _behind_a_nat(trial: Trial) -> UdpPort:
    """A selected pair whose answers tell the agent an address that it has not."""
    port = await trial.meet(polite=False)
    trial.peer.replies(port, lambda check: [trial.peer.success(check, mapped=_MAPPED)])
    await trial.succeeds(port, trial.peer.request(use_candidate=True))
    await trial.connected()
    return port
