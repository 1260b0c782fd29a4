"""The first line of a script: `#!interpreter argument` (execve(2), "Interpreter scripts"; fs/binfmt_script.c)."""

from __future__ import annotations

from typing import Final, NamedTuple

from aiopyvm.errors import LoadError

_LINE_LIMIT: Final = 256  # BINPRM_BUF_SIZE: what Linux looks at
_BLANK: Final = b" \t"


class Script(NamedTuple):
    """The interpreter's path, and the one argument that goes between it and the script's path."""

    interpreter: bytes
    argument: bytes | None


def parse_script(data: bytes) -> Script | None:
    """The `#!` line of `data`, or None when it has none. Raises LoadError (ENOEXEC) when there is no usable
    interpreter.

    All after the interpreter's name is one argument; blanks at its ends are dropped. Only 256 bytes are looked at.
    """
    if data[:2] != b"#!":
        return None
    head = data[:_LINE_LIMIT].ljust(_LINE_LIMIT, b"\0")
    line = head[2:].split(b"\0")[0]
    text, newline, _ = line.partition(b"\n")
    if not newline and b"\0" not in head:
        text = head[2:-1]  # the last byte is cut off, as it would be for a name that goes on
        name = text.lstrip(_BLANK)
        if not any(c in name for c in _BLANK):
            raise LoadError("a script whose #! line is too long, or names no interpreter")
    text = text.strip(_BLANK)
    if not text:
        raise LoadError("a script whose #! line names no interpreter")
    for i, c in enumerate(text):
        if c in _BLANK:
            return Script(text[:i], text[i:].lstrip(_BLANK))
    return Script(text, None)
