"""Which accesses of a region are near one another: they are checked together (`regionmemory`).

An address is a sum of multiples of values, and a constant. Those that differ in the constant alone have one base, the
part of the first of them that was met; so a[i] and a[i + 1] are near one another.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from aiopyvm.engine.native.regionmemory import MOST_SPAN, Span, access
from aiopyvm.ir.builder import Value

_DEPTH: Final = 6  # operations of an address that are looked into, one below another
_MASK: Final = 0xFFFFFFFF

Terms = frozenset[tuple[Value, int]]


class Bases:
    """The bases of one region's addresses."""

    def __init__(self) -> None:
        self._known: dict[Terms, tuple[Value, int]] = {}  # a base, and its own constant

    def access(self, op: Value) -> Span:
        """The span of one load, store or probe."""
        one = access(op)
        if one.base is None:
            return one
        terms, constant = _linear(one.base, _DEPTH)
        base, own = self._known.setdefault(frozenset(terms.items()), (one.base, constant))
        distance = constant - own & _MASK
        distance -= (distance & 0x80000000) << 1
        return replace(one, base=base, low=one.low + distance, high=one.high + distance)

    def spans(self, ops: Iterable[Value]) -> dict[Value, Span]:
        """The span that each load, store and probe belongs to; those under a guard stand alone."""
        alone: dict[Value, Span] = {}
        by_base: dict[Value | None, list[tuple[Span, Value]]] = {}
        depth = 0
        for op in ops:
            depth += {"when": 1, "end": -1}.get(op.op, 0)
            if op.op in ("load", "store", "probe"):
                one = self.access(op)
                if depth:
                    alone[op] = one
                else:
                    by_base.setdefault(one.base, []).append((one, op))
        for near in by_base.values():
            for group in _clusters(near):
                low, high = min(one.low for one, _ in group), max(one.high for one, _ in group)
                whole = Span(group[0][0].base, low, high, any(one.write for one, _ in group))
                alone.update((op, whole) for _, op in group)
        return alone


def _linear(value: Value, depth: int) -> tuple[dict[Value, int], int]:
    """What a word is the sum of, modulo 2**32: values with their factors, and a constant."""
    if value.op == "const":
        return {}, int(value.attr)
    if depth and value.op in ("add", "sub"):
        terms, constant = _linear(value.args[0], depth - 1)
        more, other = _linear(value.args[1], depth - 1)
        sign = 1 if value.op == "add" else -1
        for term, factor in more.items():
            terms[term] = terms.get(term, 0) + sign * factor & _MASK
        return {term: factor for term, factor in terms.items() if factor}, constant + sign * other & _MASK
    if depth and value.op == "shl" and value.args[1].op == "const" and value.args[1].attr < 32:
        terms, constant = _linear(value.args[0], depth - 1)
        shift = int(value.args[1].attr)
        scaled = {term: factor << shift & _MASK for term, factor in terms.items()}
        return {term: factor for term, factor in scaled.items() if factor}, constant << shift & _MASK
    return {value: 1}, 0


def _clusters(near: list[tuple[Span, Value]]) -> list[list[tuple[Span, Value]]]:
    """Accesses from one base, parted where they are far from one another."""
    clusters: list[list[tuple[Span, Value]]] = []
    for one, op in sorted(near, key=lambda pair: pair[0].low):
        if clusters and one.high - clusters[-1][0][0].low <= MOST_SPAN:
            clusters[-1].append((one, op))
        else:
            clusters.append([(one, op)])
    return clusters


__all__ = ["Bases"]
