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
    "rw" one that contains it, is HostRefusedError when a guest is to run.

    With `steady` the caller says that nobody changes the directory while guests use it: names and attributes that a
    guest has looked up are not asked for again, which makes looking many times faster. What the host changes all the
    same may be seen late or never; the guest's own changes ("cow") always are. Raises ValueError for another mode, or
    "rw" that is to be steady, TypeError for what is no path.
    """

    path: str | os.PathLike[str]
    mode: Literal["ro", "cow", "rw"] = "ro"
    steady: bool = False

    def __post_init__(self) -> None:
        os.fspath(self.path)
        if self.mode not in ("ro", "cow", "rw"):
            raise ValueError(f'a HostDir\'s mode is "ro", "cow" or "rw", not {self.mode!r}')
        if self.steady and self.mode == "rw":
            raise ValueError('a HostDir of mode "rw" is not steady: guests change it')
