"""The byte streams that users meet: pipes and Python's ends of them, and the constants for standard streams."""

from subprocess import DEVNULL, PIPE, STDOUT

from aiopyvm.runtime.ends import Lines, Pipe, ReceiveEnd, SendEnd, pipe

__all__ = ["DEVNULL", "PIPE", "STDOUT", "Lines", "Pipe", "ReceiveEnd", "SendEnd", "pipe"]
