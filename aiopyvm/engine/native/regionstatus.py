"""The x87 status word in a region, taken apart: which of its bits an instruction leaves as they were.

The host executes the guest's operations under the guest's control word, so what they raise and the condition codes that
they set stand in the host's status word. `terms` finds, in the traced value of the guest's word (`isa.x87.complete`),
what comes from elsewhere: the word before, and constants.
"""

from __future__ import annotations

from typing import Final

from aiopyvm.ir.builder import Value
from aiopyvm.isa.x87 import CONDITIONS, EXCEPTIONS, PENDING, SF

Terms = dict[Value, int]  # of a word that is all of them or-ed: a word and the bits of it that count

_WHOLE: Final = 0xFFFF
_RAISED_BY_HOST: Final = EXCEPTIONS | 0x80  # bits of an operation's exceptions (i8): the rest of them are 0


def terms(value: Value) -> Terms:
    """What a status word (i16) is made of; exceptions that the host raises are left out."""
    if value.op == "const":
        return {value: _WHOLE} if value.attr else {}
    if value.op == "or":
        one, other = map(terms, value.args)
        return {leaf: one.get(leaf, 0) | other.get(leaf, 0) for leaf in (*one, *other)}
    if value.op == "and":
        word, mask = value.args
        if mask.op == "const":
            return {leaf: bits & mask.attr for leaf, bits in terms(word).items() if bits & mask.attr}
        return terms(word) if _keeps_all(mask) else {value: _WHOLE}
    if value.op == "select" and value.args[1].op == "const" and value.args[1].attr == PENDING:
        return {}  # ES and B: no exception is unmasked where a region runs
    return {} if _is_raised(value) else {value: _WHOLE}


def _keeps_all(mask: Value) -> bool:
    """Whether this is ~((exceptions & SF) << 3): the host's operations know no stack fault."""
    if mask.op != "not" or mask.args[0].op != "shl" or mask.args[0].args[0].op != "and":
        return False
    exceptions, bit = mask.args[0].args[0].args
    return _is_raised(exceptions) and bit.op == "const" and not bit.attr & _RAISED_BY_HOST


def _is_raised(value: Value) -> bool:
    """Whether a value is the exceptions of an operation, widened or not."""
    if value.op == "zext":
        value = value.args[0]
    if value.op == "trunc" and value.args[0].op == "shr":
        return value.args[0].args[0].op == "helper"
    return value.op == "fexc"


def set_codes(status: Value) -> int:
    """The condition codes that are not those of the word before."""
    kept = sum(bits for leaf, bits in terms(status).items() if leaf.op == "get")
    return CONDITIONS & ~kept


def faults_on_stack(status: Value) -> bool:
    """Whether a status word shows a stack fault that is certain."""
    return any(leaf.op == "const" and leaf.attr & bits & SF for leaf, bits in terms(status).items())


__all__ = ["faults_on_stack", "set_codes", "terms"]
