"""The text of the object that is built ahead of time: all functions of `runtime_ir`, and a handler for each shape of
`commonshapes`. A shape without native form has the handler `step` under its name.

`handlers_text` is the text of a further object, for shapes that are met while guests run.
"""

from __future__ import annotations

from collections.abc import Iterable

from aiopyvm.engine.native.commonshapes import SHAPES
from aiopyvm.engine.native.handlers import Shape
from aiopyvm.engine.native.llvmtext import Unlowerable, module
from aiopyvm.engine.native.runtime_ir import leave_declarations, runtime_text
from aiopyvm.isa.decode import decode


def _functions(shapes: Iterable[Shape]) -> tuple[list[str], list[str]]:
    """The handlers of shapes, and the names of those that have none; each name once."""
    texts: dict[str, str] = {}
    for shape in shapes:
        if shape.name not in texts:
            try:
                texts[shape.name] = shape.text()
            except Unlowerable:
                texts[shape.name] = ""
    return [text for text in texts.values() if text], [name for name, text in texts.items() if not text]


def object_text() -> str:
    """The LLVM text of the object that is built ahead of time."""
    functions, without = _functions(Shape(decode(bytes.fromhex(code))) for code in SHAPES.split())
    aliases = [f"@{name} = alias void (), ptr @step" for name in without]
    return module([*runtime_text(), *functions, *aliases])


def handlers_text(shapes: Iterable[Shape]) -> tuple[str, list[str]]:
    """The LLVM text of an object with handlers for `shapes`, and the names of those that have no native form.

    The object refers to the `leave` functions of the one that is built ahead of time.
    """
    functions, without = _functions(shapes)
    return module([leave_declarations(), *functions]), without
