"""The engines that every test of the contract runs on, by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import get_args

import pytest

from aiopyvm.engine.native.aot import ahead_of_time
from aiopyvm.engine.native.cache import ObjectCache
from aiopyvm.engine.native.codearena import unsupported
from aiopyvm.engine.native.engine import NativeEngine
from aiopyvm.engine.native.guards import guards
from aiopyvm.engine.native.handlertable import HandlerTable
from aiopyvm.engine.native.hot import Hot
from aiopyvm.engine.native.layout import CHECKED, MMU
from aiopyvm.engine.protocol import Engine
from aiopyvm.engine.python import PythonEngine
from aiopyvm.engine.python.engine import Tier

ENGINES = ("evaluator", "cold", "warm", "auto", "native", "hot", "guarded")
BUILD_SECONDS = 300.0


@cache
def native_handlers() -> HandlerTable:
    """The handlers of this process, built if there are none yet; skips where generated code cannot run."""
    reason = unsupported()
    if reason is not None:
        pytest.skip(reason)
    return HandlerTable(ahead_of_time().wait(BUILD_SECONDS))


def native_engine(allowed: frozenset[str] | None = None) -> NativeEngine:
    """A native engine without any code yet, for a processor with the features `allowed`."""
    table = native_handlers()
    return NativeEngine(lambda: table, allowed=allowed)


def hot_engine(
    after: int = 1, kept: ObjectCache | None = None, memory: str = MMU, allowed: frozenset[str] | None = None
) -> NativeEngine:
    """A native engine that makes a region of what was executed `after` times, and waits for it; `kept`: where regions
    are kept, the process's own cache unless said; `memory`: the form of their accesses; `allowed`: the features of the
    processor.
    """
    table = native_handlers()

    def make_hot(symbols: Mapping[str, int]) -> Hot:
        return Hot(symbols, after, wait=True, cache=kept, guards=guards(memory, symbols), allowed=allowed)

    return NativeEngine(lambda: table, make_hot, allowed=allowed)


def engine_of(name: str, allowed: frozenset[str] | None = None) -> Engine:
    """A new engine of that name; "auto" makes regions soon, "hot" and "guarded" at once: the first checks accesses, the
    second has the host do it. `allowed`: the features of the processor.
    """
    if name == "native":
        return native_engine(allowed)
    if name in ("hot", "guarded"):
        return hot_engine(memory=CHECKED if name == "hot" else MMU, allowed=allowed)
    (tier,) = (tier for tier in get_args(Tier) if tier == name)
    return PythonEngine(tier, warm_after=3, allowed=allowed)
