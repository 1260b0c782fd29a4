"""From the object that is built ahead of time to an engine, and what to do where there is none.

Where generated code cannot run, nothing of what makes it is imported.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from aiopyvm.engine.native.codearena import unsupported
from aiopyvm.errors import EngineUnavailableError

if TYPE_CHECKING:
    from aiopyvm.engine.native.engine import NativeEngine
    from aiopyvm.engine.native.handlertable import HandlerTable


class Loading:
    """The handlers of this process: None until they are there, for ever where they cannot be made."""

    def __init__(self) -> None:
        self._table: HandlerTable | None = None
        self._lock = threading.Lock()
        self._failed = False

    def handlers(self) -> HandlerTable | None:
        """The loaded handlers; None as long as there are none. Says once in the log that there will be none."""
        if self._table is None and not self._failed:
            with self._lock:
                if self._table is None and not self._failed:
                    self._try()
        return self._table

    def _try(self) -> None:
        from aiopyvm.engine.native.aot import ahead_of_time
        from aiopyvm.engine.native.handlertable import HandlerTable

        try:
            loaded = ahead_of_time().poll()
        except EngineUnavailableError as refused:
            self._failed = True
            logging.getLogger("aiopyvm").warning("guests run on the Python engine: %s", refused)
        else:
            self._table = HandlerTable(loaded) if loaded is not None else None


def native_engine(allowed: frozenset[str] | None = None) -> NativeEngine:
    """Make a native engine for a processor with the features `allowed` (None: all that there are). Where its object is
    not there yet it is being built, and Python executes meanwhile.

    Raises EngineUnavailableError where it is known that this host cannot run generated code, or has none and no means
    to make it; ValueError for a variable of the environment that makes no sense.
    """
    reason = unsupported()
    if reason is not None:
        raise EngineUnavailableError(reason)
    from aiopyvm.engine.native.aot import ahead_of_time
    from aiopyvm.engine.native.engine import NativeEngine
    from aiopyvm.engine.native.guards import form, guards
    from aiopyvm.engine.native.hot import Hot, passes
    from aiopyvm.engine.native.snapshotfile import SnapshotFiles

    memory, after = form(), passes()
    if ahead_of_time().poll() is None and importlib.util.find_spec("llvmlite") is None:
        raise EngineUnavailableError("llvmlite is not installed, and no generated code was kept from earlier")

    def make_hot(symbols: Mapping[str, int]) -> Hot:
        return Hot(symbols, after, guards=guards(memory, symbols), allowed=allowed)

    return NativeEngine(Loading().handlers, make_hot, partial(SnapshotFiles, passes=after, allowed=allowed), allowed)
