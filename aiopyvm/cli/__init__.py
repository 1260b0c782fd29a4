"""The command line: `aiopyvm run | pipe | disasm | asm | lockstep | cache`."""

from aiopyvm.cli.main import main

__all__ = ["main"]
