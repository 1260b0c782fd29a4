"""The text of the object that is built ahead of time: all functions of `runtime_ir`, a handler for each shape of
`commonshapes`, and the decoder that finds them. A shape without native form has the handler `step` under its name.

`handlers_text` is the text of a further object, for shapes that are met while guests run.
"""

from __future__ import annotations

from collections.abc import Iterable

from aiopyvm.engine.native.commonshapes import SHAPES
from aiopyvm.engine.native.decode_ir import decoder_text
from aiopyvm.engine.native.decodetables import Tables
from aiopyvm.engine.native.handlers import Shape
from aiopyvm.engine.native.llvmtext import Unlowerable, module
from aiopyvm.engine.native.runtime_ir import leave_declarations, runtime_text
from aiopyvm.isa.decode import decode, decoder


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
    insns = [decode(bytes.fromhex(code)) for code in SHAPES.split()]
    shapes = [Shape(insn) for insn in insns]
    functions, without = _functions(shapes)
    aliases = [f"@{name} = alias void (), ptr @step" for name in without]
    tables = Tables(decoder())
    keys = {tables.key(insn): shape.name for insn, shape in zip(insns, shapes, strict=True)}
    keys.pop(0, None)  # what is left to Python
    handlers = {key: "step" if name in without else name for key, name in keys.items()}
    return module([*runtime_text(), *functions, *aliases, *decoder_text(tables, handlers)])


def handlers_text(shapes: Iterable[Shape]) -> tuple[str, list[str]]:
    """The LLVM text of an object with handlers for `shapes`, and the names of those that have no native form.

    The object refers to the `leave` functions of the one that is built ahead of time.
    """
    functions, without = _functions(shapes)
    return module([leave_declarations(), *functions]), without
