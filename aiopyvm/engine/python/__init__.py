"""The Python engine: it runs wherever Python runs.

Cold code runs as one generated function per *shape* of instruction (its operands are parameters), warm code as one
generated function per region of blocks (registers in locals, flags kept as what they would be computed from), what is
done one at a time (single steps, acts on the machine itself) on the IR's evaluator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiopyvm.engine.python.engine import PythonEngine

__all__ = ["PythonEngine"]


def __getattr__(name: str) -> Any:
    """The engine, imported when it is asked for: the native one does with parts of this package, mostly."""
    if name != "PythonEngine":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from aiopyvm.engine.python.engine import PythonEngine

    return PythonEngine
