"""Binding: the client's address as the server sees it (RFC 8489), and NAT behaviour discovery (RFC 5780)."""

from __future__ import annotations

from collections.abc import Sequence

from ice_tcp.server.core.actions import Address, Leg, Listener, SendDatagram
from ice_tcp.server.core.context import SOFTWARE, Context, family_of, has
from ice_tcp.server.core.requests import Refusal, Request
from ice_tcp.stun import (
    Attribute,
    AttributeType,
    ErrorNumber,
    MessageClass,
    mapped_address,
    other_address,
    padding,
    response_origin,
    unknown_attributes,
    xor_mapped_address,
)

MTU = 1500
"""Of the outgoing interface, as far as it is known: what RFC 5780 s6.1 wants for PADDING."""


class Binding:
    """Answers Binding requests."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._index = {(listener.leg, listener.address): i for i, listener in enumerate(context.listeners)}
        self._other = [_other(listener, context.listeners) for listener in context.listeners]

    def answer(self, request: Request) -> None:
        """Send the response (RFC 8489 s6.3.1.1, RFC 5780 s6.1). Raises Refusal."""
        context, client, message = self._context, request.client, request.message
        self._check(request)
        source = self._source(request)
        destination = client.address if message.response_port is None else (client.address[0], message.response_port)
        attributes: list[Attribute] = [
            xor_mapped_address(*client.address, message.transaction_id),
            response_origin(*context.listeners[source].address),
        ]
        other = self._other[client.listener]
        if other is not None:
            attributes += [mapped_address(*client.address), other_address(*other)]
        padded = message.attributes.get(AttributeType.PADDING)
        if padded is not None:
            # As long as the MTU, but nobody gets more than they sent: forged sources make servers into weapons.
            attributes.append(padding(min(MTU, (len(padded) + 3) & ~3)))
        response = context.response(MessageClass.SUCCESS, request, [*attributes, SOFTWARE])
        if client.stream is None:
            context.actions.append(SendDatagram(source, destination, response))
        else:
            context.send(client, response)

    def _check(self, request: Request) -> None:
        """Refuse what RFC 5780 makes of a request that this server cannot do (s6, s6.1)."""
        listener = self._context.listeners[request.client.listener]
        if self._other[request.client.listener] is None or listener.leg is not Leg.UDP:
            # On a connection nothing of this has a meaning: it has its addresses, and is never fragmented.
            behaviour = (AttributeType.CHANGE_REQUEST, AttributeType.PADDING, AttributeType.RESPONSE_PORT)
            if unsupported := [type_ for type_ in behaviour if has(request, type_)]:
                raise Refusal(ErrorNumber.UNKNOWN_ATTRIBUTE, attributes=[unknown_attributes(unsupported)])
        elif has(request, AttributeType.PADDING) and has(request, AttributeType.RESPONSE_PORT):
            raise Refusal(ErrorNumber.BAD_REQUEST, "PADDING with RESPONSE-PORT (RFC 5780 s6.1)")

    def _source(self, request: Request) -> int:
        """The listener to answer from (RFC 5780, table 1)."""
        change, at = request.message.change_request, request.client.listener
        other = self._other[at]
        if change is None or other is None:
            return at
        leg, (host, port) = self._context.listeners[at].leg, self._context.listeners[at].address
        source = (other[0] if change.change_ip else host, other[1] if change.change_port else port)
        return self._index[leg, source]


def _other(listener: Listener, listeners: Sequence[Listener]) -> Address | None:
    """OTHER-ADDRESS of a listener: the other host with the other port, if all four combinations are there."""
    host, port = listener.address
    alike = [
        other.address
        for other in listeners
        if other.leg is listener.leg and family_of(other.address) == family_of(listener.address)
    ]
    hosts = list(dict.fromkeys(other[0] for other in alike))[:2]
    ports = list(dict.fromkeys(other[1] for other in alike))[:2]
    if len(hosts) < 2 or len(ports) < 2 or host not in hosts or port not in ports:
        return None
    if any((a, b) not in alike for a in hosts for b in ports):
        return None
    return hosts[1 - hosts.index(host)], ports[1 - ports.index(port)]
