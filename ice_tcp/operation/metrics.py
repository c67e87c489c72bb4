"""The option ``--metrics`` of servers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

Address = tuple[str, int]


def metrics_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command ``--metrics HOST:PORT``, as its parameter ``metrics``: an address or None."""
    return click.option(
        "--metrics",
        callback=_address,
        metavar="HOST:PORT",
        help="Answer GET /metrics there, for Prometheus. Who reaches it sees how much is going on.",
    )(command)


def metrics_module() -> ModuleType:
    """`ice_tcp.metrics`. Raises click.ClickException if its extra is not installed."""
    try:
        import ice_tcp.metrics
    except ImportError as error:
        raise click.ClickException(str(error)) from None
    return ice_tcp.metrics


def exposed(registry: CollectorRegistry | None, address: Address | None) -> AbstractAsyncContextManager[object]:
    """Answer there meanwhile, if there is an address. Raises OSError."""
    if registry is None or address is None:
        return nullcontext()
    served: AbstractAsyncContextManager[object] = metrics_module().serve(registry, *address)
    return served


def _address(context: click.Context, parameter: click.Parameter, text: str | None) -> Address | None:
    if text is None:
        return None
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise click.BadParameter(f"{text!r} is not HOST:PORT, such as 127.0.0.1:9464", context, parameter)
    return host.removeprefix("[").removesuffix("]"), int(port)
