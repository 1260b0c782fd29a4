"""The x87 status word in a region, taken apart: which of its bits come from where.

The host executes the guest's operations under the guest's control word, and its exceptions are sticky as the guest's
are. So the exceptions that an operation raises need not be looked at: the guest's are those that its status word had
when the region was entered, and those that the host has at the end. What is left is C1, which the last operation
decides, the other condition codes, which the last comparison decides, and constants.

`terms` finds that in the traced value of the word (`isa.x87.complete`): what is masked off is not asked for.
"""

from __future__ import annotations

from typing import Final

from aiopyvm.ir.builder import Value
from aiopyvm.ir.ops import FLOAT_OPS
from aiopyvm.isa.x87 import C0, C1, C2, C3, EXCEPTIONS, PENDING, SF

Terms = dict[Value, int]  # of a word that is all of them or-ed: a word and the bits of it that count

WHOLE: Final = 0xFFFF
_RAISED_BY_HOST: Final = EXCEPTIONS | 0x80  # bits of an operation's exceptions (i8): the rest of them are 0
_C1_SHIFT: Final = 2
_SHIFT_OF_LESS, _SHIFT_OF_BOTH, _SHIFT_OF_EQUAL = 8, 10, 14  # in `isa.insns.x87_compare`
_BIT_OF_CODE: Final = {_SHIFT_OF_LESS: C0, _SHIFT_OF_BOTH: C2, _SHIFT_OF_EQUAL: C3}


def terms(value: Value, known: dict[Value, Terms]) -> Terms:
    """What a status word (i16) is made of; the status word of an operation of the host stands as that operation.

    Exceptions that the host raised are left out. `known` keeps what was found, by value.
    """
    found = known.get(value)
    if found is None:
        found = known[value] = _find(value, known)
    return found


def _find(value: Value, known: dict[Value, Terms]) -> Terms:
    if value.op == "const":
        return {value: WHOLE} if value.attr else {}
    if value.op == "or":
        return _either(terms(value.args[0], known), terms(value.args[1], known))
    if value.op == "and":
        return _masked(value, known)
    if value.op == "select" and value.args[1].op == "const" and value.args[1].attr == PENDING:
        return {}  # ES and B: no exception is unmasked where a region runs
    if value.op == "shl" and value.args[1].op == "const":
        return _shifted(value)
    if exceptions_of(value) is not None:
        return {}
    return {value: WHOLE}


def _either(one: Terms, other: Terms) -> Terms:
    return {leaf: one.get(leaf, 0) | other.get(leaf, 0) for leaf in (*one, *other)}


def _masked(value: Value, known: dict[Value, Terms]) -> Terms:
    word, mask = value.args
    if mask.op == "const":
        found = terms(word, known)
        return {leaf: bits & mask.attr for leaf, bits in found.items() if bits & mask.attr}
    return terms(word, known) if _keeps_all(mask) else {value: WHOLE}


def _keeps_all(mask: Value) -> bool:
    """Whether this is ~((exceptions & SF) << 3): the host's operations know no stack fault."""
    if mask.op != "not" or mask.args[0].op != "shl" or mask.args[0].args[0].op != "and":
        return False
    exceptions, bit = mask.args[0].args[0].args
    return exceptions_of(exceptions) is not None and bit.op == "const" and not bit.attr & _RAISED_BY_HOST & WHOLE


def _shifted(value: Value) -> Terms:
    word, count = value.args[0], int(value.args[1].attr)
    raised = exceptions_of(word)
    if raised is not None and count == _C1_SHIFT:
        return {raised: C1}
    if count in _BIT_OF_CODE and (compared := _compared(word, count)) is not None:
        return {compared: _BIT_OF_CODE[count]}
    return {value: WHOLE}


def _compared(word: Value, count: int) -> Value | None:
    """The comparison whose "less" (shifted by 8), "equal" (14) or both (10) a word (i16) is."""
    if count == _SHIFT_OF_BOTH:
        if word.op != "and":
            return None
        less, equal = _compared(word.args[0], _SHIFT_OF_LESS), _compared(word.args[1], _SHIFT_OF_EQUAL)
        return less if less is equal else None
    if word.op != "zext" or word.args[0].op != "trunc":
        return None
    relation = word.args[0].args[0]
    if count == _SHIFT_OF_EQUAL:
        if relation.op != "shr" or relation.args[1].op != "const" or relation.args[1].attr != 1:
            return None
        relation = relation.args[0]
    return relation if relation.op == "helper" else compared_by(relation)


def compared_by(value: Value) -> Value | None:
    """The operation whose relation (i8) a value is."""
    if value.op in ("fcompare", "fcompareq"):
        return value
    if value.op == "trunc" and value.bits == 8 and value.args[0].op == "helper":
        return value.args[0]
    return None


def exceptions_of(value: Value) -> Value | None:
    """The operation whose exceptions a value is, widened or not."""
    if value.op == "zext":
        value = value.args[0]
    if value.op == "fexc":
        return value.args[0]
    if value.op == "trunc" and value.bits == 8 and value.args[0].op == "shr":
        packed, count = value.args[0].args
        if packed.op == "helper" and count.op == "const" and count.attr == 80:
            return packed
    return None


def faults_on_stack(status: Value) -> bool:
    """Whether a status word shows a stack fault that is certain."""
    return any(leaf.op == "const" and leaf.attr & bits & SF for leaf, bits in terms(status, {}).items())


def is_operation(value: Value) -> bool:
    """Whether this is an operation that the host executes."""
    return value.op in FLOAT_OPS or value.op == "helper"


__all__ = ["Terms", "compared_by", "exceptions_of", "faults_on_stack", "is_operation", "terms"]
