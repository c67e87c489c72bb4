"""A certificate that can be replaced while connections are accepted with it."""

from __future__ import annotations

import ssl
from pathlib import Path


class Certificate:
    """The certificate of a server; `context` is good for as long as it listens. Raises OSError as `load` does."""

    def __init__(self, certificate: Path, key: Path | None = None) -> None:
        """``key`` is None where the same file has it. Both are PEM files."""
        self._current = _read(certificate, key)
        self.context = self._current
        """To accept connections with: each gets the certificate that is current when it begins."""
        self.context.sni_callback = self._choose

    def load(self, certificate: Path, key: Path | None = None) -> None:
        """Use another from now on. Raises OSError, and ssl.SSLError, which is one; then the old one stays."""
        # A context of its own: load_cert_chain() on the one in use would leave half of a bad pair, or the old one
        # beside a new one of another type.
        self._current = _read(certificate, key)

    def _choose(self, connection: ssl.SSLSocket | ssl.SSLObject, _name: str | None, _: ssl.SSLContext) -> None:
        connection.context = self._current


def _read(certificate: Path, key: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # Without a passphrase rather than asking for one on a terminal that a server may not have
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        names = f"{certificate} and {key}" if key is not None else f"{certificate}"
        reason = f" ({error.reason})" if error.reason else ""
        raise OSError(f"{names}: not a certificate and its unencrypted key in PEM{reason}") from None
    except OSError as error:
        raise OSError(f"{certificate} or its key cannot be read: {error.strerror}") from None
    return context
