"""The process that is the internet of one cell: ``python -m interop.natlab.internet``, as root.

The first line on standard input is the order, as JSON; it makes a TUN interface in each namespace that is named, says
``ready``, and carries packets until the next line, which is the instant that its log shall count from. Then it writes
the log and ends; if standard input ends, too. It imports little, so that it starts fast.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import random
import select
import struct
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from interop.natlab.line import Attachment, Line
from interop.natlab.packets import ladder
from interop.natlab.pcapng import pcapng

PCAP_FILE: Final = "packets.pcapng"
LADDER_FILE: Final = "packets.txt"
READY: Final = "ready"

_NETNS: Final = "/run/netns"
_CLONE_NEWNET: Final = 0x40000000
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN_NO_PI: Final = 0x1001
_MOST_BYTES: Final = 65535
_READS_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True)
class Order:
    """What the internet of a cell shall be. ``directory`` is where the log goes, as `PCAP_FILE` and `LADDER_FILE`."""

    attachments: tuple[Attachment, ...]
    seed: int
    directory: str

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Order:
        fields: dict[str, Any] = json.loads(text)
        attachments = tuple(Attachment.from_json(each) for each in fields["attachments"])
        return cls(attachments, fields["seed"], fields["directory"])


def main() -> None:
    order = Order.from_json(sys.stdin.readline())
    line = Line(order.attachments, random.Random(order.seed))
    descriptors = [_open_tun(each) for each in order.attachments]
    print(READY, flush=True)
    begun_at = time.monotonic()
    _carry(line, descriptors)
    zero = float(sys.stdin.readline() or begun_at)
    directory = Path(order.directory)
    directory.joinpath(PCAP_FILE).write_bytes(pcapng(order.attachments, line.log, time.time() - time.monotonic()))
    text = "\n".join(ladder(line.log, order.attachments, zero))
    directory.joinpath(LADDER_FILE).write_text(f"{text}\n", encoding="utf-8")


def _carry(line: Line, descriptors: Sequence[int]) -> None:
    """Until there is something on standard input, or it ends."""
    waited_for = [sys.stdin.fileno(), *descriptors]
    index_of = {descriptor: index for index, descriptor in enumerate(descriptors)}
    while True:
        next_at = line.next_at
        timeout = None if next_at is None else max(0.0, next_at - time.monotonic())
        readable, _, _ = select.select(waited_for, [], [], timeout)
        for descriptor in readable:
            if descriptor not in index_of:
                return
            _take(line, descriptor, index_of[descriptor])
        for target, packet in line.due(time.monotonic()):
            with suppress(OSError):  # not up yet, or no more
                os.write(descriptors[target], packet)


def _take(line: Line, descriptor: int, index: int) -> None:
    for _ in range(_READS_AT_ONCE):
        try:
            packet = os.read(descriptor, _MOST_BYTES)
        except OSError:  # no more, or the interface is gone
            return
        line.enter(packet, index, time.monotonic())


def _open_tun(attachment: Attachment) -> int:
    """A new TUN interface in the attachment's namespace, as a descriptor of this process; it vanishes with it."""
    namespace = os.open(f"{_NETNS}/{attachment.namespace}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET):
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), attachment.namespace)
    finally:
        os.close(namespace)
    descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    fcntl.ioctl(descriptor, _TUNSETIFF, struct.pack("16sH22x", attachment.interface.encode(), _IFF_TUN_NO_PI))
    return descriptor


if __name__ == "__main__":
    main()
