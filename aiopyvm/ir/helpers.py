"""Named Python definitions for what would need thousands of IR operations (CPUID, BCD loads, transcendental functions).

A helper is a function of integers to one integer, and of nothing else (`pure`), or also of the machine it runs on
(`machine`): its first argument is then the `Core`. It may raise `Fault`, never anything else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


class Fault(Exception):
    """An exception that an instruction raises: `vector` (Intel SDM vol. 3A, chapter 6) and `error_code`."""

    __slots__ = ("error_code", "vector")

    def __init__(self, vector: int, error_code: int = 0) -> None:
        super().__init__(vector, error_code)
        self.vector = vector
        self.error_code = error_code


@dataclass(frozen=True, slots=True)
class Helper:
    """`name`, the function, whether it gets the `Core` first, and whether it may raise `Fault` or `MemoryFault`."""

    name: str
    function: Callable[..., int]
    machine: bool = False
    faults: bool = False


HELPERS: dict[str, Helper] = {}


def helper(*, machine: bool = False, faults: bool = False) -> Callable[[Callable[..., Any]], Helper]:
    """Register the decorated function under its own name."""

    def register(function: Callable[..., Any]) -> Helper:
        name = function.__name__
        if name in HELPERS:
            raise ValueError(f"two helpers are called {name}")
        HELPERS[name] = Helper(name, function, machine, faults)
        return HELPERS[name]

    return register
