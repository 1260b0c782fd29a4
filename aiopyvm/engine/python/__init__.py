"""The Python engine: it runs wherever Python runs.

Cold code runs as one generated function per *shape* of instruction (its operands are parameters), warm code as one
generated function per region of blocks (registers in locals, flags kept as what they would be computed from), what is
done one at a time (single steps, acts on the machine itself) on the IR's evaluator.
"""

from aiopyvm.engine.python.engine import PythonEngine

__all__ = ["PythonEngine"]
