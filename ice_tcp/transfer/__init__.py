"""Files over any stream: of TCP, of `Agent.open_stream`, or of QUIC."""

from ice_tcp.transfer.files import (
    FileOffer,
    GeneratedFile,
    Receipt,
    Sink,
    Source,
    TransferError,
    receive_file,
    send_file,
)

__all__ = [
    "FileOffer",
    "GeneratedFile",
    "Receipt",
    "Sink",
    "Source",
    "TransferError",
    "receive_file",
    "send_file",
]
