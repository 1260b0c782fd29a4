"""IR as text, for people: `%3 = add i32 %1, %2`."""

from __future__ import annotations

from collections.abc import Sequence

from aiopyvm.ir.builder import Value


def _attribute(op: Value) -> str:
    if op.attr is None:
        return ""
    if op.op == "helper":
        return f" {op.attr.name}"
    if op.op == "insn":
        insn, address = op.attr
        return f" {address:#x} {insn.row.name} ({insn.code.hex(' ')})"
    if op.op == "const":
        return f" {op.attr:#x}"
    return f" {op.attr}" if not isinstance(op.attr, tuple) else " " + " ".join(str(part) for part in op.attr)


def describe(op: Value, names: dict[Value, str] | None = None) -> str:
    """One operation on one line; arguments are shown by their names, or by their own text where they have none."""
    known = names or {}
    arguments = ", ".join(known.get(arg) or (hex(arg.attr) if arg.op == "const" else f"({arg.op})") for arg in op.args)
    type_ = f" {op.type}" if op.type is not None else ""
    left = f"{known[op]} = " if op in known else ""
    return f"{left}{op.op}{type_}{_attribute(op)} {arguments}".rstrip()


def format_ops(ops: Sequence[Value]) -> str:
    """A whole trace, one operation a line; constants stand where they are used; guarded operations are indented."""
    names: dict[Value, str] = {}
    lines: list[str] = []
    depth = 0
    for op in ops:
        if op.op == "const":
            continue
        if op.type is not None:
            names[op] = f"%{len(names)}"
        if op.op == "end":
            depth -= 1
        lines.append("  " * (depth + (op.op != "insn")) + describe(op, names))
        if op.op == "when":
            depth += 1
    return "\n".join(lines)
