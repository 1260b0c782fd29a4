"""The command line: `aiopyvm run | pipe | disasm | asm | lockstep | cache`, over the public surface alone."""

from aiopyvm.cli.main import main

__all__ = ["main"]
