"""The text of the object that is built ahead of time: all functions of `runtime_ir`, a handler for each shape of
`commonshapes` and `rowshapes`, and the decoder that finds them. A shape of the former without native form has the
handler `step` under its name.

`handlers_text` is the text of a further object, for shapes that are met while guests run.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet

from aiopyvm.engine.native.commonpairs import PAIRS
from aiopyvm.engine.native.commonshapes import SHAPES
from aiopyvm.engine.native.decode_ir import decoder_text
from aiopyvm.engine.native.decodetables import Tables, general
from aiopyvm.engine.native.handlers import GENERAL, Shape
from aiopyvm.engine.native.llvmtext import Unlowerable, module
from aiopyvm.engine.native.pairs import pair_name, pair_text
from aiopyvm.engine.native.rowshapes import row_shapes
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


def _pairs(known: AbstractSet[str]) -> list[str]:
    """The handlers of pairs of which both have one of their own."""
    texts: dict[str, str] = {}
    for codes in PAIRS.split():
        first, second = (Shape(decode(bytes.fromhex(code))) for code in codes.split("."))
        name = pair_name(first.name, second.name)
        if first.name in known and second.name in known and name not in texts:
            texts[name] = pair_text(first, second)
    return list(texts.values())


def object_text() -> str:
    """The LLVM text of the object that is built ahead of time."""
    table = decoder()
    shapes = [*(Shape(decode(bytes.fromhex(code))) for code in SHAPES.split()), *row_shapes(table)]
    functions, without = _functions(shapes)
    aliases = [f"@{name} = alias void (), ptr @step" for name in without if not name.startswith(GENERAL)]
    functions += _pairs({shape.name for shape in shapes} - set(without))
    tables = Tables(table)
    handlers: dict[int, str] = {}
    for shape in shapes:
        key = tables.key(shape.insn)
        if key and not (shape.general and shape.name in without):
            handlers[general(key) if shape.general else key] = "step" if shape.name in without else shape.name
    return module([*runtime_text(), *functions, *aliases, *decoder_text(tables, handlers)])


def handlers_text(shapes: Iterable[Shape]) -> tuple[str, list[str]]:
    """The LLVM text of an object with handlers for `shapes`, and the names of those that have no native form.

    The object refers to the `leave` functions of the one that is built ahead of time.
    """
    functions, without = _functions(shapes)
    return module([leave_declarations(), *functions]), without
