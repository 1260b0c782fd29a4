"""A task group whose exceptions come out bare: never wrapped in an exception group.

What always holds. A task of the group that raises cancels the block's body, and leaving the block raises that exception
itself. An exception of the body wins over one of a task. A cancellation passes through. No task outlives `__aexit__`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import anyio
from anyio.abc import TaskGroup


class Block:
    """`async with Block() as block: block.start(f)`; see the module's docstring."""

    __slots__ = ("_error", "_group", "closing")

    def __init__(self) -> None:
        self._group: TaskGroup | None = None
        self._error: BaseException | None = None
        self.closing = False  # set while leaving: no more tasks may be started

    async def __aenter__(self) -> Self:
        group = anyio.create_task_group()
        await group.__aenter__()
        self._group = group
        return self

    @property
    def entered(self) -> bool:
        """The block was entered."""
        return self._group is not None

    @property
    def open(self) -> bool:
        """Tasks may be started."""
        return self._group is not None and not self.closing

    def start(self, function: Callable[[], Awaitable[object]], name: str | None = None) -> None:
        """Run `function()` in a task of this block."""
        assert self._group is not None
        self._group.start_soon(self._guarded, function, name=name)

    async def _guarded(self, function: Callable[[], Awaitable[object]]) -> None:
        try:
            await function()
        except anyio.get_cancelled_exc_class():
            raise
        except BaseException as error:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Cancel the block; leaving it raises `error`. Only the first one counts."""
        if self._error is None:
            self._error = error
        self.cancel()

    def cancel(self) -> None:
        """Cancel the body and all tasks."""
        assert self._group is not None
        self._group.cancel_scope.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        assert self._group is not None
        self.closing = True
        if error is None or isinstance(error, anyio.get_cancelled_exc_class()):
            swallowed = await self._leave(kind, error, trace)
            if self._error is not None:
                raise self._error
            return swallowed
        self._group.cancel_scope.cancel()
        try:
            await self._leave(None, None, None)
        except anyio.get_cancelled_exc_class():
            pass  # the body's own exception is on its way out through the cancelled scope
        return False

    async def _leave(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        assert self._group is not None
        try:
            return bool(await self._group.__aexit__(kind, error, trace))
        except BaseException:
            if self._error is not None:
                raise self._error from None
            raise
