"""RCPPS, RCPSS, RSQRTPS, RSQRTSS: approximations, which raise nothing (`isa.reciprocal`)."""

from __future__ import annotations

from aiopyvm.ir.builder import Value
from aiopyvm.ir.helpers import Helper
from aiopyvm.ir.types import F32, I32, V128
from aiopyvm.isa import reciprocal
from aiopyvm.isa import simdrows as rows
from aiopyvm.isa.trace import Tracer


def _define(name: str, opcode: str, helper: Helper) -> None:
    def packed(b: Tracer, x: Value) -> Value:
        halves = [x.shuffle((n, n + 1)) for n in range(0, rows.type_of(x).lanes, 2)] if x.bits > 128 else [x]
        found = [b.helper(helper, V128, half.cast(V128), b.get("portable_math")) for half in halves]
        return found[0] if len(found) == 1 else found[0].shuffle(range(4), found[1])

    def scalar(b: Tracer, x: Value) -> Value:
        lanes = b.const(0, V128).lanes(32).insert(0, x.cast(I32))
        return packed(b, lanes.lanes(64)).lanes(32).extract(0).cast(F32)

    rows.packed_unary(f"{name}ps", f"NP 0F {opcode}", packed)
    rows.scalar_unary(f"{name}ss", f"F3 0F {opcode}", F32, scalar)


_define("rcp", "53", reciprocal.rcpps)
_define("rsqrt", "52", reciprocal.rsqrtps)
