"""The line of `aiopyvm pipe`: programs and their arguments, quoted as for a shell, joined by |."""

from __future__ import annotations

import re
import shlex
from typing import Any, Final

OPERATORS: Final = "|&;<>()"
PARTS: Final = re.compile(r"""\\.|'[^']*'|"(?:\\.|[^"\\])*"|[|&;<>()]+|[^\\'"|&;<>()]+|.""", re.DOTALL)
"""A quoted character or string, an operator, or other text; what is none (a quote left open) is one character."""


def split_pipeline(line: str) -> list[list[Any]]:
    """Return the stages of 'a | b | c', each split as a shell would. Raises ValueError."""
    texts = [""]
    for part in PARTS.findall(line):
        if part == "|":
            texts.append("")
        elif part[0] in OPERATORS:
            raise ValueError(f"only | joins programs here, not {part!r}: use a shell inside the guest")
        else:
            texts[-1] += part
    try:
        stages: list[list[Any]] = [shlex.split(text) for text in texts]
    except ValueError as error:
        raise ValueError(f"{str(error).lower()} in {line!r}") from None
    if not all(stages):
        raise ValueError(f"a program is missing in {line!r}")
    return stages
