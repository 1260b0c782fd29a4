"""Host directories that a caller grants to a guest."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class HostDir:
    """A directory of the host, to be mounted or used as a guest's root.

    `mode` is "ro" (read-only), "cow" (changes stay in the guest's memory) or "rw". Nothing outside of the directory can
    be reached through it, nor the directory where compiled code is kept (`aiopyvm cache path`). To grant that one, or
    "rw" one that contains it, is HostRefusedError when a guest is to run. Raises ValueError for another mode, TypeError
    for what is no path.
    """

    path: str | os.PathLike[str]
    mode: Literal["ro", "cow", "rw"] = "ro"

    def __post_init__(self) -> None:
        os.fspath(self.path)
        if self.mode not in ("ro", "cow", "rw"):
            raise ValueError(f'a HostDir\'s mode is "ro", "cow" or "rw", not {self.mode!r}')
