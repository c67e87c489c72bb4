"""Packets in words, for evidence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from interop.conformance import stun
from interop.conformance.stun import Attr, Attribute, Message
from interop.conformance.wire import Packet

_SHOWN_BYTES = 48
_SHOWN_PACKETS = 200
_KINDS = {
    stun.Kind.REQUEST: "request",
    stun.Kind.INDICATION: "indication",
    stun.Kind.SUCCESS: "success response",
    stun.Kind.ERROR: "error response",
}
_NAMES = {int(attr): attr.name.replace("_", "-") for attr in Attr}


def packet_lines(packets: Iterable[Packet]) -> Iterator[str]:
    """One line a packet, then one for each attribute; times in seconds from the first packet on."""
    kept = list(packets)
    for packet in kept[:_SHOWN_PACKETS]:
        arrow = "peer -> agent" if packet.outgoing else "agent -> peer"
        yield f"{packet.at - kept[0].at:9.4f} s  {arrow}  {packet.transport}  {_ends(packet)}  {_what(packet)}"
        if packet.message is not None:
            yield from (f"{'':13}{line}" for line in _attributes(packet.message))
    if len(kept) > _SHOWN_PACKETS:
        yield f"... and {len(kept) - _SHOWN_PACKETS} more"


def _ends(packet: Packet) -> str:
    near, far = (f"{host}:{port}" for host, port in (packet.near, packet.far))
    return f"{near} -> {far}" if packet.outgoing else f"{far} -> {near}"


def _what(packet: Packet) -> str:
    if packet.event:
        return packet.event
    message = packet.message
    if message is None:
        return f"{len(packet.data)} bytes: {_hex(packet.data)}"
    method = "Binding" if message.method == stun.BINDING else f"method 0x{message.method:03x}"
    return f"{method} {_KINDS[message.kind]} {message.transaction_id.hex()}"


def _attributes(message: Message) -> Iterator[str]:
    for attribute in message.attributes:
        name = _NAMES.get(attribute.type, f"0x{attribute.type:04x}")
        yield f"{name} {_value(message, attribute)}".rstrip()


def _value(message: Message, attribute: Attribute) -> str:
    value = attribute.value
    match attribute.type:
        case Attr.USERNAME | Attr.SOFTWARE:
            return repr(value.decode("utf-8", "replace"))
        case Attr.PRIORITY:
            return str(int.from_bytes(value, "big"))
        case Attr.XOR_MAPPED_ADDRESS:
            return "{}:{}".format(*message.mapped) if message.mapped is not None else _hex(value)
        case Attr.ERROR_CODE:
            return f"{message.error} {value[4:].decode('utf-8', 'replace')!r}"
        case Attr.FINGERPRINT:
            return "right" if message.fingerprint_holds else "wrong"
    return _hex(value)


def _hex(data: bytes) -> str:
    return data[:_SHOWN_BYTES].hex() + ("..." if len(data) > _SHOWN_BYTES else "")
