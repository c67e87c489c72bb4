"""Consent to send (RFC 7675), in scaled time where the agent can."""

from __future__ import annotations

from itertools import pairwise

from interop.conformance import stun
from interop.conformance.case import Level, case, require
from interop.conformance.peer import CHECK, DATA
from interop.conformance.stun import Attr, Draft, Kind
from interop.conformance.target import Capability, TargetError
from interop.conformance.trial import PASSIVE, UDP, Trial
from interop.conformance.wire import Channel, Matcher, Packet

MUST, SHOULD = Level.MUST, Level.SHOULD

_INTERVAL = 5.0
_EXPIRY = 30.0
"""Seconds (RFC 7675 s5.1)."""
_SLACK = 0.15
"""Seconds that a busy machine may take longer."""


async def _consent_checks(trial: Trial, channel: Channel, number: int) -> list[Packet]:
    """So many checks on a selected pair, after those of the selection."""
    await trial.pause(trial.seconds(1.0))
    channel.skip()
    return [await trial.check_on(channel, trial.seconds(2 * _INTERVAL) + 1.0) for _ in range(number)]


async def _sends(trial: Trial, channel: Channel, data: bytes) -> bool:
    """Whether the agent still sends data: what it is told to send reaches the peer."""
    try:
        await trial.agent.send(data, 1)
    except TargetError:
        return False
    found = Matcher("data", lambda packet: packet.data == data)
    return await trial.wire.find(lambda: channel.received(found) or None, 0.3) is not None


async def _expires(trial: Trial, channel: Channel) -> None:
    """Data flows for most of the 30 seconds after the last answer, and ends with them."""
    await trial.pause(trial.seconds(0.75 * _EXPIRY))
    require(await _sends(trial, channel, b"still"), "it stopped sending before the time")
    await trial.pause(trial.seconds(0.4 * _EXPIRY) + _SLACK)
    require(not await _sends(trial, channel, b"no more"), f"it still sends {trial.seconds(1.15 * _EXPIRY):.1f} s later")


@case(
    7675,
    "5.1",
    MUST,
    "To prevent synchronization of consent checks, each interval MUST be randomized from between 0.8 and 1.2 times the "
    "basic period.",
    scaled=True,
    limit=60,
)
async def intervals_are_randomized(trial: Trial) -> str:
    """Six intervals between consent checks differ."""
    port = await trial.join()
    checks = await _consent_checks(trial, port, 7)
    gaps = [(later.at - earlier.at) / trial.scale for earlier, later in pairwise(checks)]
    told = ", ".join(f"{gap:.2f}" for gap in gaps)
    require(max(gaps) - min(gaps) > 0.1, f"they are {told} s")
    return f"they are {told} s"


@case(
    7675,
    "5.1",
    SHOULD,
    "Implementations SHOULD set a default interval of 5 seconds, resulting in a period between checks of 4 to 6 "
    "seconds.",
    scaled=True,
    limit=60,
)
async def intervals_are_4_to_6_seconds(trial: Trial) -> str:
    """Intervals between consent checks are 4 to 6 seconds."""
    port = await trial.join()
    checks = await _consent_checks(trial, port, 5)
    gaps = [later.at - earlier.at for earlier, later in pairwise(checks)]
    told = ", ".join(f"{gap / trial.scale:.2f}" for gap in gaps)
    require(max(gaps) <= trial.seconds(6.0) + _SLACK, f"they are {told} s")
    return f"they are {told} s"


@case(
    7675,
    "5.1",
    MUST,
    "Implementations MUST NOT set the period between checks to less than 4 seconds.",
    scaled=True,
    limit=60,
)
async def intervals_are_4_seconds_or_more(trial: Trial) -> str:
    """No interval between consent checks is less than 4 seconds."""
    port = await trial.join()
    checks = await _consent_checks(trial, port, 5)
    gaps = [later.at - earlier.at for earlier, later in pairwise(checks)]
    require(min(gaps) >= 0.95 * trial.seconds(4.0), f"one is {min(gaps) / trial.scale:.2f} s")
    return f"the shortest is {min(gaps) / trial.scale:.2f} s"


@case(
    7675,
    "5.1",
    MUST,
    "Each STUN binding request for consent MUST use a new STUN transaction identifier, as described in Section 6 of "
    "[RFC5389].",
    scaled=True,
    limit=60,
)
async def new_transaction_each_time(trial: Trial) -> None:
    """Each consent check has another transaction id."""
    port = await trial.join()
    ids = [packet.data[8:20] for packet in await _consent_checks(trial, port, 4)]
    require(len(set(ids)) == 4, "two are the same")


@case(
    7675,
    "5.1",
    MUST,
    "Each STUN binding request for consent is transmitted once only.",
    scaled=True,
    limit=60,
)
async def sent_once_only(trial: Trial) -> None:
    """A consent check that nobody answers is not retransmitted."""
    port = await trial.join()
    port.react = lambda _: None
    checks = await _consent_checks(trial, port, 4)
    ids = [packet.data[8:20] for packet in checks]
    require(len(set(ids)) == len(ids), "one came twice")


@case(
    7675,
    "5.1",
    MUST,
    "These STUN binding requests and responses are authenticated using the same short-term credentials as the initial "
    "ICE exchange.",
    scaled=True,
    limit=60,
)
async def the_same_credentials(trial: Trial) -> None:
    """A consent check has the fragments and the password of the connectivity checks."""
    port = await trial.join()
    (check,) = await _consent_checks(trial, port, 1)
    assert check.message is not None
    require(check.message.username == f"{trial.peer.ufrag}:{trial.told.ufrag}", f"it is {check.message.username}")
    require(check.message.integrity_holds(trial.peer.pwd), "its integrity is wrong")


_CEASE = (
    "That is, if a valid STUN binding response has not been received from the remote peer's transport address in 30 "
    "seconds, the endpoint MUST cease transmission on that 5-tuple."
)


@case(7675, "5.1", MUST, _CEASE, scaled=True, limit=80)
async def silence_ends_consent(trial: Trial) -> None:
    """When the peer answers no more, the agent sends for 30 seconds, and then no more."""
    port = await trial.join()
    port.react = lambda _: None
    await _expires(trial, port)


@case(7675, "5.1", MUST, _CEASE, scaled=True, limit=80)
async def forged_answers_do_not_renew_consent(trial: Trial) -> None:
    """Answers that another password protects do not renew consent."""
    port = await trial.join()
    trial.peer.replies(port, lambda check: [trial.peer.bare_success(check).integrity("wrong").fingerprint()])
    await _expires(trial, port)


@case(7675, "5.1", MUST, _CEASE, scaled=True, limit=80)
async def data_does_not_renew_consent(trial: Trial) -> None:
    """The peer's data and its indications do not renew consent."""
    port = await trial.join()

    def react(packet: Packet) -> None:
        if CHECK.matches(packet):
            port.send(b"data instead of an answer")
            port.send(Draft(Kind.INDICATION).fingerprint())

    port.react = react
    await _expires(trial, port)


@case(
    7675,
    "5.1",
    MUST,
    "Explicit consent to send is obtained and maintained by sending a STUN binding request to the remote peer's "
    "transport address and receiving a matching, authenticated, non-error STUN binding response from the remote "
    "peer's transport address.",
    scaled=True,
    limit=80,
)
async def the_peers_checks_do_not_renew_consent(trial: Trial) -> None:
    """The peer's own checks, which anybody's address may be put on, do not renew consent."""
    port = await trial.join()

    def react(packet: Packet) -> None:
        if CHECK.matches(packet):
            port.send(trial.peer.request())

    port.react = react
    await _expires(trial, port)


@case(
    7675,
    "5.1",
    MUST,
    "receiving a matching, authenticated, non-error STUN binding response from the remote peer's transport address.",
    needs=(Capability.TCP_PASSIVE,),
    scaled=True,
    limit=80,
)
async def the_peers_checks_do_not_renew_it_over_tcp(trial: Trial) -> None:
    """... nor do they over TCP."""
    connection = await trial.join_tcp(PASSIVE)

    def react(packet: Packet) -> None:
        if CHECK.matches(packet):
            connection.send(trial.peer.request())

    connection.react = react
    await _expires(trial, connection)


@case(7675, "5.1", MUST, _CEASE, scaled=True, limit=80)
async def errors_do_not_renew_consent(trial: Trial) -> None:
    """Authenticated errors do not renew consent."""
    port = await trial.join()
    trial.peer.replies(port, lambda check: [trial.peer.error(check, 500)])
    await trial.pause(trial.seconds(1.2 * _EXPIRY) + _SLACK)
    require(not await _sends(trial, port, b"no more"), "it still sends")


@case(
    7675,
    "5.1",
    MUST,
    "STUN consent responses received after consent expiry do not re-establish consent and may be discarded or cause an "
    "ICMP error.",
    scaled=True,
    limit=80,
)
async def late_answers_do_not_bring_it_back(trial: Trial) -> None:
    """Answers after consent has expired do not bring it back."""
    port = await trial.join()
    port.react = lambda _: None
    await trial.pause(trial.seconds(1.2 * _EXPIRY) + _SLACK)
    for check in port.received(CHECK)[-3:]:
        port.send(trial.peer.success(check))
    await trial.pause(0.2)
    require(not await _sends(trial, port, b"no more"), "it sends again")


@case(
    7675,
    "5.1",
    MUST,
    "To prevent such an attack, consent checks MUST be performed over all transport connections, including TCP.",
    needs=(Capability.TCP_PASSIVE,),
    scaled=True,
    limit=60,
)
async def consent_over_tcp(trial: Trial) -> None:
    """Over TCP consent is asked for, too, and expires."""
    connection = await trial.join_tcp(PASSIVE)
    await _consent_checks(trial, connection, 1)
    connection.react = lambda _: None
    await trial.pause(trial.seconds(1.2 * _EXPIRY) + _SLACK)
    require(not await _sends(trial, connection, b"no more"), "it still sends")


@case(
    7675,
    "5.1",
    MUST,
    "An endpoint MUST NOT send data other than the messages used to establish consent unless the receiving endpoint "
    "has consented to receive data.",
)
async def no_data_before_consent(trial: Trial) -> None:
    """Data that the application gives before a check has succeeded does not reach the peer."""
    port = await trial.meet(polite=False)
    await trial.check_on(port)
    require(not await _sends(trial, port, b"too early"), "it was sent")


@case(
    7675,
    "5.1",
    MUST,
    "an endpoint that continues to send traffic on the previously validated candidate pair during ICE restart MUST "
    "continue to perform consent freshness on that candidate pair as described earlier.",
    needs=(Capability.UDP, Capability.RESTART),
    scaled=True,
    limit=60,
)
async def consent_during_a_restart(trial: Trial) -> None:
    """During a restart consent is asked for on the old pair, with the old credentials."""
    port = await trial.join()
    old = f"{trial.peer.ufrag}:{trial.told.ufrag}"
    await trial.agent.restart()
    (check,) = await _consent_checks(trial, port, 1)
    require(check.message is not None and check.message.username == old, "the username is another")


_REVOKED = (
    "Consent for sending application data is immediately revoked by receipt of an authenticated message that closes "
    "the connection (e.g., a Transport Layer Security (TLS) fatal alert) or receipt of a valid and authenticated STUN "
    "response with error code Forbidden (403)."
)


@case(7675, "5.2", MUST, _REVOKED, scaled=True, limit=60)
async def a_403_revokes_consent(trial: Trial) -> None:
    """An authenticated 403 ends consent at once."""
    port = await trial.join()
    trial.peer.replies(port, lambda check: [trial.peer.error(check, 403, "Forbidden")])
    await _consent_checks(trial, port, 1)
    await trial.pause(0.2)
    require(not await _sends(trial, port, b"no more"), "it still sends")


@case(7675, "5.2", MUST, _REVOKED, scaled=True, limit=60)
async def a_forged_403_does_not(trial: Trial) -> None:
    """A 403 that nobody authenticates does not."""
    port = await trial.join()
    error = stun.error_value(403, "Forbidden")

    def answer(check: Packet) -> list[Draft]:
        forged = Draft(Kind.ERROR, check.data[8:20]).add(Attr.ERROR_CODE, error)
        return [forged.fingerprint(), trial.peer.success(check)]

    trial.peer.replies(port, answer)
    await _consent_checks(trial, port, 2)
    require(await _sends(trial, port, b"still"), "it has stopped sending")


@case(
    7675,
    "5",
    MUST,
    "An endpoint gains consent to send on a candidate pair when the pair enters the Succeeded ICE state.",
)
async def consent_begins_with_success(trial: Trial) -> None:
    """Data can be sent as soon as the pair is selected, without a consent check before."""
    port = await trial.join()
    await trial.agent.send(b"at once", 1)
    await port.expect(DATA)
    require(trial.candidate(UDP).address == port.far, "the candidate is another")
