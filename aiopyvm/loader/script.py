"""The first line of a script: `#!interpreter argument` (execve(2), "Interpreter scripts"; fs/binfmt_script.c)."""

from __future__ import annotations

from typing import Final, NamedTuple

from aiopyvm.errors import LoadError

_LIMIT: Final = 256  # BINPRM_BUF_SIZE: what Linux looks at
_BLANK: Final = b" \t"
_ENDS_NAME: Final = b" \t\0"


class Script(NamedTuple):
    """The interpreter's path, and the one argument that goes between it and the script's path."""

    interpreter: bytes
    argument: bytes | None


def parse_script(data: bytes) -> Script | None:
    """The `#!` line of `data`, or None when it has none. Raises LoadError (ENOEXEC) when there is no usable
    interpreter.

    All after the interpreter's name is one argument, without blanks at its ends where a newline follows. What is past
    the 256th byte does not count; a NUL ends the line.
    """
    if data[:2] != b"#!":
        return None
    head = data[:_LIMIT].ljust(_LIMIT, b"\0")
    end = _line_end(head)
    while head[end - 1] in _BLANK:
        end -= 1
    start = _next(head, 2, end, _BLANK, wanted=False)
    if start is None or start == end or not head[start]:
        raise LoadError("a script whose #! line names no interpreter")
    stop = _next(head, start, end, _ENDS_NAME, wanted=True)
    if stop is None:
        return Script(head[start:end], None)
    argument = None
    if head[stop]:
        at = _next(head, stop, end, _BLANK, wanted=False)
        argument = None if at is None else head[at:end].split(b"\0")[0]
    return Script(head[start:stop], argument)


def _line_end(head: bytes) -> int:
    """Index of the newline, or of the last byte where the line has none but a whole interpreter's name."""
    newline = head.split(b"\0")[0].find(b"\n")
    if newline >= 0:
        return newline
    last = _LIMIT - 1
    start = _next(head, 2, last, _BLANK, wanted=False)
    if start is None or _next(head, start, last, _ENDS_NAME, wanted=True) is None:
        raise LoadError("a script whose #! line is too long, or names no interpreter")
    return last


def _next(head: bytes, first: int, last: int, among: bytes, *, wanted: bool) -> int | None:
    """Index of the first byte of head[first..last] (both included) that is, or is not, `among`."""
    for i in range(first, last + 1):
        if (head[i] in among) is wanted:
            return i
    return None
