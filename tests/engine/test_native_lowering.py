"""Cold handlers against the real CPU's recorded answers, and the lowering of every operation against its definition."""

from __future__ import annotations

import ctypes
import random
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from aiopyvm.engine.native import commonshapes
from aiopyvm.engine.native.calls import check_budget, define
from aiopyvm.engine.native.compile_worker import Builder
from aiopyvm.engine.native.handlers import Fields, Flow, HandlerLowering, Shape, Shapes, fields, flow
from aiopyvm.engine.native.layout import Context, Left, Record
from aiopyvm.engine.native.llvmtext import Text, Unlowerable, module
from aiopyvm.engine.native.objectfile import LoadedObject, load
from aiopyvm.engine.native.runtime_ir import runtime_text
from aiopyvm.engine.python.fpregisters import read_fp
from aiopyvm.engine.python.vectors import vector_function
from aiopyvm.ir.builder import Value
from aiopyvm.ir.evaluate import evaluate
from aiopyvm.ir.lanes import LANES
from aiopyvm.ir.pure import PURE, compute
from aiopyvm.ir.types import Type, integer
from aiopyvm.isa.decode import decode
from aiopyvm.isa.state import GPR32, CpuState
from aiopyvm.isa.trace import Tracer
from aiopyvm.mem.space import AddressSpace
from tests.engine.native_steps import NativeSteps
from tests.hardware import vectors
from tests.hardware.machine import Machine, differences
from tests.hardware.test_vectors import undefined_flags

pytest.importorskip("llvmlite")

CASES = {"integer": 700, "x87": 350}
MOSTLY_NATIVE = {"integer": 0.9, "x87": 0.9}  # of the cases whose shape has a handler
NONE_UNDER = {"integer": 0.9, "x87": 0.2}  # shapes that have one
WIDTHS = (1, 8, 13, 16, 32, 33, 64, 80, 105, 128)
UNARY = ("not", "neg", "clz", "ctz", "popcnt")
BINARY = "add sub mul and or xor shl shr sar udiv urem sdiv srem eq ult ule slt sle uadds sadds usubs ssubs".split()


@pytest.mark.parametrize("name", CASES)
def test_vectors(name: str) -> None:
    pairs = list(vectors.load(name))
    pairs = pairs[:: max(1, len(pairs) // CASES[name])]
    found = Shapes()
    shapes = {shape.name: shape for shape in (found.find(decode(case.code)) for case, _ in pairs if decodes(case.code))}
    engine = NativeSteps(list(shapes.values()))
    assert len(engine.without) < (1 - NONE_UNDER[name]) * len(shapes)
    machine = Machine(engine, AddressSpace())
    wrong: list[str] = []
    for case, expected in pairs:
        lines = differences(expected, machine.run(case), undefined_flags=undefined_flags(case))
        if lines:
            wrong.append(f"{case.code.hex()}: {'; '.join(lines)}")
    assert not wrong, f"{len(wrong)} differ\n" + "\n".join(wrong[:10])
    assert engine.native.total() > MOSTLY_NATIVE[name] * (engine.native.total() + engine.stepped.total())


def decodes(code: bytes) -> bool:
    try:
        decode(code)
    except Exception:
        return False
    return True


# -- operations --------------------------------------------------------------------------------------------------------


def wide(b: Tracer, names: tuple[str, ...], bits: int) -> Value:
    """The low `bits` of four registers, the first one lowest."""
    value = b.get(names[0]).zext(128)
    for n, name in enumerate(names[1:], 1):
        value = value | b.get(name).zext(128) << 32 * n
    return value.trunc(bits)


def put(b: Tracer, value: Value) -> None:
    """Set four registers to `value`."""
    whole = value.zext(128)
    for n, name in enumerate(GPR32[:4]):
        b.set(name, (whole >> 32 * n).trunc(32))


class Functions:
    """Traces as functions, each run once for a CpuState."""

    def __init__(self, traces: dict[str, list[Value]]) -> None:
        builder = Builder()
        options = {"codegen": 2, "level": None, "passes": ()}
        functions = [self._text(name, ops) for name, ops in traces.items()]
        self.loaded: LoadedObject = load(builder.build(module([*runtime_text(), *functions]), options), {})
        self._run = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self.loaded.address("run"))
        self._records = (Record * 2)()

    @staticmethod
    def _text(name: str, ops: list[Value]) -> str:
        text = Text()
        check_budget(text)
        lowering = HandlerLowering(text, Fields((), (), False), 0)
        lowering.run(ops)
        lowering.finish()
        return define(name, text)

    def call(self, name: str, cpu: CpuState) -> Context:
        self._records[0].handler = self.loaded.symbols[name]
        self._records[1].handler = self.loaded.symbols["step"]
        context = Context(rec=ctypes.addressof(self._records), cpu=ctypes.addressof(cpu), budget=1)
        self._run(ctypes.addressof(context))
        assert context.reason == Left.BUDGET
        return context


def interesting(rng: random.Random, bits: int) -> int:
    kind = rng.randrange(4)
    if kind == 0:
        return rng.getrandbits(bits)
    if kind == 1:
        return rng.randrange(min(1 << bits, 2 * bits + 2))
    edge = rng.choice((0, 1, (1 << bits) - 1, 1 << (bits - 1), (1 << (bits - 1)) - 1))
    return edge if kind == 2 else edge >> rng.randrange(bits)


def load_wide(cpu: CpuState, names: tuple[str, ...], value: int) -> None:
    for n, name in enumerate(names):
        setattr(cpu, name, value >> 32 * n & 0xFFFFFFFF)


def operations() -> Iterator[tuple[str, Type, Type, list[Value]]]:
    for bits in WIDTHS:
        type_ = integer(bits)
        for op in (*UNARY, *BINARY):
            if bits > 64 and op in ("udiv", "urem", "sdiv", "srem"):
                continue  # a call of a library, which no object may make
            b = Tracer()
            x, y = wide(b, GPR32[:4], bits), wide(b, GPR32[4:], bits)
            result = integer(1) if op in ("eq", "ult", "ule", "slt", "sle") else type_
            put(b, b.pure(op, result, (x,) if op in UNARY else (x, y)))
            yield op, result, type_, b.ops


def test_every_integer_operation() -> None:
    cases = {f"{op}{type_.bits}": (op, result, type_, ops) for op, result, type_, ops in operations()}
    functions = Functions({name: case[3] for name, case in cases.items()})
    rng = random.Random(1)
    for name, (op, result, type_, _) in cases.items():
        for _ in range(60):
            x, y = interesting(rng, type_.bits), interesting(rng, type_.bits)
            if op in ("udiv", "urem", "sdiv", "srem") and (y == 0 or (x == 1 << type_.bits - 1 and y == type_.mask)):
                continue  # instructions fault before
            cpu = CpuState()
            load_wide(cpu, GPR32[:4], x)
            load_wide(cpu, GPR32[4:], y)
            functions.call(name, cpu)
            got = sum(getattr(cpu, register) << 32 * n for n, register in enumerate(GPR32[:4]))
            want = PURE[op](result, type_, x) if op in UNARY else PURE[op](result, type_, x, y)
            assert got == want, f"{op} i{type_.bits} {x:#x}, {y:#x}: {got:#x}, not {want:#x}"


VECTORS = (integer(8, 16), integer(16, 8), integer(32, 4), integer(64, 2))
SHUFFLES = ("splat", "extract", "insert", "shuffle", "permute")


def vector_operations() -> Iterator[tuple[str, list[Value]]]:
    """XMM2 := op of XMM0 and XMM1, of every kind of lanes."""
    for type_ in VECTORS:
        for op in (*UNARY, *BINARY, "select", "zext", "sext", "trunc", *SHUFFLES):
            if op in ("udiv", "urem", "sdiv", "srem"):
                continue  # no instruction divides lanes
            b = Tracer()
            x, y = b.get("xmm0").cast(type_), b.get("xmm1").cast(type_)
            b.set("xmm2", vector_operation(b, op, type_, x, y).lanes(64))
            yield f"{op}_{type_.bits}", b.ops


def vector_operation(b: Tracer, op: str, type_: Type, x: Value, y: Value) -> Value:
    half = type_.bits // 2
    match op:
        case "select":
            return b.select(x.slt(y), x, y)
        case "eq" | "ult" | "ule" | "slt" | "sle":
            truth = b.pure(op, integer(1, type_.lanes), (x, y))
            return truth.sext(type_.bits)
        case "zext" | "sext":
            low = x.shuffle(range(type_.lanes // 2)) if type_.lanes > 2 else x
            wide = integer(2 * type_.bits, low.type.lanes if low.type else 0)
            wider = b.pure(op, wide, (low,))
            return wider if wider.bits == 128 else wider.trunc(type_.bits)
        case "trunc":
            narrow = x.trunc(half).shuffle(range(2 * type_.lanes), y.trunc(half))
            return narrow.cast(type_)
        case "splat":
            return x.extract(1).splat(type_.lanes)
        case "extract":
            return y.insert(0, x.extract(type_.lanes - 1))
        case "insert":
            return y.insert(1, x.extract(0))
        case "shuffle":
            return x.shuffle([(5 * n + 3) % (2 * type_.lanes) for n in range(type_.lanes)], y)
        case "permute":
            return x.permute(y)
        case _:
            return b.pure(op, type_, (x,) if op in UNARY else (x, y))


def test_every_vector_operation() -> None:
    """As the evaluator's, and the Python engine's functions too."""
    traces = dict(vector_operations())
    functions = Functions(traces)
    rng = random.Random(2)
    for name, ops in traces.items():
        bits = int(name.rpartition("_")[2])
        for _ in range(40):
            x, y = ([interesting(rng, bits) for _ in range(128 // bits)] for _ in range(2))
            cpu, other = CpuState(), CpuState()
            for state in (cpu, other):
                state.xmm0, state.xmm1 = integer(bits, 128 // bits).join(x), integer(bits, 128 // bits).join(y)
            evaluate(ops, SimpleNamespace(cpu=other, memory=None))
            functions.call(name, cpu)
            assert cpu.xmm2 == other.xmm2, f"{name} {x} {y}: {cpu.xmm2:032x}, not {other.xmm2:032x}"
            for op in ops:
                if op.op in PURE or op.op in LANES:
                    check_function(op, rng)


def check_function(op: Value, rng: random.Random) -> None:
    """The Python engine's function for an operation is the definition's."""
    first = op.args[0].type
    assert first is not None
    function = vector_function(op.op, op.attr, op.type or first, first)
    if function is None or (first.lanes == 1 and op.op not in LANES):
        return
    values = [interesting(rng, arg.bits) for arg in op.args]
    want = LANES[op.op](op.type, first, op.attr, *values) if op.op in LANES else compute(op.op, op.type, first, *values)
    assert function(*values) == want, (op, values)


FLAGS = ("cf", "pf", "af", "zf", "sf", "of")


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_flags_from_any_form(bits: int) -> None:
    """Each flag set from each form of i1, then read back as a byte and by another flag."""
    traces: dict[str, list[Value]] = {}
    forms = (
        "zero equal equal_constant sign bit4 bit9 parity overflow decrement negate constant0 constant1 unequal".split()
    )
    for form in forms:
        for flag in FLAGS:
            b = Tracer()
            x, y = wide(b, GPR32[:4], bits), wide(b, GPR32[4:], bits)
            b.set(flag, form_of(b, form, x, y))
            traces[f"{form}_{flag}"] = b.ops
    functions = Functions(traces)
    rng = random.Random(bits)
    for form in forms:
        for flag in FLAGS:
            for _ in range(12):
                m, n = interesting(rng, bits), interesting(rng, bits)
                n = m if rng.randrange(3) == 0 else n
                cpu = CpuState()
                load_wide(cpu, GPR32[:4], m)
                load_wide(cpu, GPR32[4:], n)
                functions.call(f"{form}_{flag}", cpu)
                b = Tracer()
                want = form_of(b, form, b.const(m, integer(bits)), b.const(n, integer(bits))).attr
                assert getattr(cpu, flag) == want, f"{flag} from {form} of {m:#x}, {n:#x} is not {want}"


def form_of(b: Tracer, form: str, x: Value, y: Value) -> Value:
    bits = x.bits
    match form:
        case "zero":
            return x.eq(0)
        case "equal":
            return (x - y).eq(0)
        case "equal_constant":
            return x.eq(77)
        case "sign":
            return x.msb
        case "bit4":
            return (x ^ y).bit(4)
        case "bit9":
            return x.bit(min(9, bits - 2))
        case "parity":
            return (x + y).parity()
        case "overflow":
            return x.slt(y) ^ (x - y).msb
        case "decrement":
            return x.slt(1) ^ (x - 1).msb
        case "negate":
            zero = b.const(0, x.type) if x.type else x
            return zero.slt(x) ^ (-x).msb
        case "constant0" | "constant1":
            return b.const(int(form[-1]), integer(1))
    return x.ne(y)


def test_x87_registers_move_whole() -> None:
    b = Tracer()
    b.setfp(b.get("ftop"), b.getfp((b.get("ftop") + 3) & 7))
    functions = Functions({"move": b.ops})
    cpu = CpuState()
    cpu.ftop = 6
    cpu.fpr[1][:10] = list(range(1, 11))
    functions.call("move", cpu)
    assert read_fp(cpu, 6) == int.from_bytes(bytes(range(1, 11)), "little")


# -- shapes ------------------------------------------------------------------------------------------------------------


def test_fields_are_the_parameters_that_tracing_meets() -> None:
    for code in commonshapes.SHAPES.split():
        insn = decode(bytes.fromhex(code))
        tracer = Shape(insn).trace()
        found = fields(insn)
        values = {op.attr for op in tracer.ops if op.op == "param"}
        registers = {int(op.attr.lstrip("$x")) for op in tracer.ops if op.op in ("get", "set") and op.attr[0] == "$"}
        assert registers <= set(found.registers), code
        known = {*found.values, *range(len(tracer.params) - found.target, len(tracer.params) + 2)}
        assert values <= known, code
        assert not set(found.registers) & set(found.values)


def test_flow_is_what_the_operations_say() -> None:
    for code in commonshapes.SHAPES.split():
        insn = decode(bytes.fromhex(code))
        try:
            ops = Shape(insn).trace().ops
        except Unlowerable:
            continue
        told, leaves = flow(insn), any(op.op in ("jump", "exit") for op in ops)
        if not insn.rep and ops[-1].op != "fault":
            assert told.ends == leaves, str(insn.row)
        if ops[-1].op == "jump":
            assert not told.falls, str(insn.row)
    assert flow(decode(b"\xe8\0\0\0\0")) == Flow(ends=True, falls=False, call=True)


def test_common_shapes_are_all_different() -> None:
    codes = commonshapes.SHAPES.split()
    assert len(codes) > 500
    assert len({Shape(decode(bytes.fromhex(code))).name for code in codes}) == len(codes)
