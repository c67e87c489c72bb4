"""``python -m interop``: what runs ice-tcp against other implementations, networks and the clock."""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

COMMANDS: Final = {
    "bench": "interop.bench.__main__:main",
    "conformance": "interop.conformance.command:command",
    "lab": "interop.natlab.command:command",
    "peers": "interop.peers.command:command",
}
"""By name: where each command is. Only the one that is asked for is imported, and with it what it needs."""


class Commands(click.Group):
    """The commands of the table."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command = getattr(import_module(module), name)
        assert isinstance(command, click.Command)
        return command


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Run ice-tcp against other implementations, networks and the clock."""


if __name__ == "__main__":
    main(prog_name="python -m interop")
