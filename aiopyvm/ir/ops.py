"""The closed set of IR operations: one row each, with its shape and what it may do.

A trace is a flat list of operations. Those with a result type are values; the others are effects. Nothing else exists:
an engine that implements this table implements every instruction.

Integer operations wrap modulo 2**bits. A shift by the width or more gives 0 (`sar`: all sign bits). Division truncates
toward zero; its divisor must not be 0 (instructions `fault` first). Comparisons give an i1.

Floating-point operations take their operands' bits and an i16 `control` (the x87 control word: exception masks,
precision control in bits 8-9, rounding control in bits 10-11) and yield result bits; `fexc` of such a value yields its
i8 exceptions: bits IE DE ZE OE UE PE (0..5) as in the status word, bit 7 set when the result was rounded up (C1).

Integer operations work on each lane of vectors; their comparisons give as many i1, which `select` takes too. A mask,
all ones or zeros a lane, is `sext` of those.

SIMD operations are floating-point operations on the lanes of vectors, or on one f32 or f64, as SSE has them: the last
argument is MXCSR (i32), which rounds, and makes zeros of denormals (DAZ, FTZ). Of two NaNs the first operand's is the
result. Their exceptions reach MXCSR by `raise`, and in no other way: every SIMD operation is an argument of one in its
instruction, before any effect.

Control: `insn` begins an instruction. `when c` .. `end` guards what stands between (no value escapes; guards nest).
`jump` and `exit` end the instruction there. `fault` ends it as if it had not begun: every operation that may fault
comes before every effect, unless the instruction is restartable.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class OpSpec:
    """One operation. `arity` is its number of value arguments (-1: any); `attr` says what its attribute is."""

    name: str
    arity: int
    result: str  # "same" as the first argument, "i1", "type" (given), "" (an effect)
    attr: str = ""
    faults: bool = False
    effect: bool = False
    pure: bool = True  # the same arguments always give the same result: may be folded, shared, removed, sunk
    doc: str = ""


_ROWS: Final = (
    OpSpec("const", 0, "type", "value: int, 0 <= value < 2**bits"),
    OpSpec("param", 0, "type", "index: an operand of a shape, known when the shape is bound", pure=False),
    # State. Register names: see REGISTERS of `ir.registers`.
    OpSpec("get", 0, "type", "register name", pure=False, doc="read a register or flag"),
    OpSpec("set", 1, "", "register name", effect=True, pure=False, doc="write a register or flag"),
    OpSpec("getfp", 1, "type", pure=False, doc="read physical x87 register args[0] (i8, 0..7) as f80"),
    OpSpec("setfp", 2, "", effect=True, pure=False, doc="physical x87 register args[0] (i8) := args[1] (f80)"),
    # Memory: linear addresses (i32), little-endian, any alignment; wraps at 4 GiB.
    OpSpec("load", 1, "type", "", faults=True, pure=False, doc="read memory at args[0]"),
    OpSpec("store", 2, "", "", faults=True, effect=True, pure=False, doc="memory at args[0] := args[1]"),
    OpSpec(
        "probe",
        1,
        "",
        "(size, write): bytes and access",
        faults=True,
        pure=False,
        doc="fault as an access would, do nothing else",
    ),
    # Integers.
    OpSpec("add", 2, "same"),
    OpSpec("sub", 2, "same"),
    OpSpec("mul", 2, "same"),
    OpSpec("and", 2, "same"),
    OpSpec("or", 2, "same"),
    OpSpec("xor", 2, "same"),
    OpSpec("not", 1, "same"),
    OpSpec("neg", 1, "same"),
    OpSpec("shl", 2, "same"),
    OpSpec("shr", 2, "same"),
    OpSpec("sar", 2, "same"),
    OpSpec("udiv", 2, "same"),
    OpSpec("urem", 2, "same"),
    OpSpec("sdiv", 2, "same"),
    OpSpec("srem", 2, "same"),
    OpSpec("eq", 2, "i1"),
    OpSpec("ult", 2, "i1"),
    OpSpec("ule", 2, "i1"),
    OpSpec("slt", 2, "i1"),
    OpSpec("sle", 2, "i1"),
    OpSpec("select", 3, "type", doc="args[1] where args[0] (i1) is 1, else args[2]"),
    OpSpec("zext", 1, "type"),
    OpSpec("sext", 1, "type"),
    OpSpec("trunc", 1, "type"),
    OpSpec("clz", 1, "same", doc="leading zero bits; the width for 0"),
    OpSpec("ctz", 1, "same", doc="trailing zero bits; the width for 0"),
    OpSpec("popcnt", 1, "same"),
    OpSpec("parity", 1, "i1", doc="1 where the number of ones in args[0] (i8) is even (PF)"),
    OpSpec("bitcast", 1, "type", doc="the same bits as another type of that size"),
    # Floating point; the last argument is the control word (i16).
    OpSpec("fadd", 3, "same"),
    OpSpec("fsub", 3, "same"),
    OpSpec("fmul", 3, "same"),
    OpSpec("fdiv", 3, "same"),
    OpSpec("fsqrt", 2, "same"),
    OpSpec("frint", 2, "same", doc="round to an integral value"),
    OpSpec("fscale", 3, "same", doc="FSCALE: args[0] * 2**trunc(args[1])"),
    OpSpec("fconvert", 2, "type", doc="to another floating-point type"),
    OpSpec("fromint", 2, "type", doc="signed integer to floating point"),
    OpSpec("toint", 2, "type", doc="floating point to signed integer; invalid: the integer indefinite, IE"),
    OpSpec("fcompare", 3, "type", doc="i8: 0 greater, 1 less, 2 equal, 3 unordered; IE for any NaN"),
    OpSpec("fcompareq", 3, "type", doc="the same, IE for signaling NaNs (and unsupported encodings) only"),
    OpSpec("fexc", 1, "type", doc="i8: exceptions of the floating-point operation args[0]"),
    # Vectors. A scalar is no vector of one lane.
    OpSpec("uadds", 2, "same", doc="unsigned sum, saturated"),
    OpSpec("sadds", 2, "same", doc="signed sum, saturated"),
    OpSpec("usubs", 2, "same", doc="unsigned difference, saturated"),
    OpSpec("ssubs", 2, "same", doc="signed difference, saturated"),
    OpSpec("splat", 1, "type", doc="args[0] in all lanes"),
    OpSpec("extract", 1, "type", "lane", doc="one lane"),
    OpSpec("insert", 2, "same", "lane", doc="args[0] with args[1] as one lane"),
    OpSpec("shuffle", 2, "type", "lanes", doc="these lanes of args[0] and, numbered behind them, of args[1]"),
    OpSpec("permute", 2, "type", doc="lane i: that of args[0] whose number is lane i of args[1], modulo their number"),
    # SIMD floating point; the last argument is MXCSR (i32).
    OpSpec("vadd", 3, "same"),
    OpSpec("vsub", 3, "same"),
    OpSpec("vmul", 3, "same"),
    OpSpec("vdiv", 3, "same"),
    OpSpec("vmin", 3, "same", doc="args[0] where it is less, else args[1], also for zeros and NaN (IE for any NaN)"),
    OpSpec("vmax", 3, "same", doc="args[0] where it is greater, else args[1], also for zeros and NaN (IE for any NaN)"),
    OpSpec("vaddsub", 3, "same", doc="differences in even lanes, sums in odd ones"),
    OpSpec("vsqrt", 2, "same"),
    OpSpec(
        "vfma",
        4,
        "same",
        "kind: madd, msub, nmadd, nmsub, maddsub, msubadd",
        doc="args[0] * args[1] + args[2], signs as VFMADD.. and its like have them, rounded once",
    ),
    OpSpec("vfromhalf", 2, "type", doc="f32 from numbers of 16 bits (i16), exactly, whatever DAZ is"),
    OpSpec("vtohalf", 2, "type", "imm8 of VCVTPS2PH", doc="numbers of 16 bits (i16) from f32, whatever FTZ is"),
    OpSpec("vround", 2, "same", "imm8 of ROUNDPS", doc="to integral values"),
    OpSpec("vcompare", 3, "type", "predicate: imm8 of VCMPPS, 0..31", doc="all ones where it holds, integer lanes"),
    OpSpec("vorder", 3, "type", "quiet: IE for signaling NaNs only", doc="i8: 0 greater, 1 less, 2 equal, 3 unordered"),
    OpSpec("vconvert", 2, "type", doc="f32 from f64, or f64 from f32"),
    OpSpec("vfromint", 2, "type", doc="from signed i32"),
    OpSpec("vtoint", 2, "type", "truncate: toward zero", doc="to signed i32; invalid: the integer indefinite, IE"),
    OpSpec(
        "raise",
        -1,
        "",
        faults=True,
        effect=True,
        pure=False,
        doc="exceptions of SIMD operations to MXCSR, in their order; #XM at the first that MXCSR does not mask",
    ),
    # Named Python definitions for what would take thousands of operations.
    OpSpec("helper", -1, "type", "a registered Helper"),
    # Control.
    OpSpec("insn", 0, "", "the decoded instruction", effect=False, pure=False),
    OpSpec("when", 1, "", pure=False),
    OpSpec("end", 0, "", pure=False),
    OpSpec(
        "fault", 2, "", "vector", faults=True, pure=False, doc="if args[0] (i1): exception, error code args[1] (i32)"
    ),
    OpSpec("jump", 1, "", effect=True, pure=False, doc="the next instruction is at args[0] (i32)"),
    OpSpec(
        "exit", 0, "", '("syscall", 0) or ("trap", vector)', effect=True, pure=False, doc="leave after this instruction"
    ),
)

OPS: Final = {row.name: row for row in _ROWS}
FLOAT_OPS: Final = frozenset(
    "fadd fsub fmul fdiv fsqrt frint fscale fconvert fromint toint fcompare fcompareq".split()
)  # those whose exceptions `fexc` reads
SIMD_OPS: Final = frozenset(
    "vadd vsub vaddsub vmul vdiv vmin vmax vsqrt vfma vround vcompare vorder vconvert vfromint vtoint vfromhalf "
    "vtohalf".split()
)
LANE_OPS: Final = frozenset("splat extract insert shuffle permute".split())  # those that move lanes, with an attribute
