"""What the builder folds, rewrites and shares has the value that was asked for; the engine's Python expressions too."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aiopyvm.engine.python.expressions import PARITY, USES_TWICE, expression, sdiv, srem
from aiopyvm.ir.builder import Builder, Value
from aiopyvm.ir.ops import OPS
from aiopyvm.ir.pure import PURE
from aiopyvm.ir.types import I1, I8, Type, integer

WIDTHS = (1, 7, 8, 16, 31, 32, 64, 80, 128)
BINARY = "add sub mul and or xor shl shr sar udiv urem sdiv srem eq ult ule slt sle uadds sadds usubs ssubs".split()
UNARY = "not neg clz ctz popcnt".split()
RESULT_I1 = {"eq", "ult", "ule", "slt", "sle"}


def corner(random_: random.Random, bits: int) -> int:
    """A value of `bits` bits, edges often."""
    top = 1 << bits
    edge = random_.choice((0, 1, 2, top - 1, top - 2, top >> 1, (top >> 1) - 1, random_.getrandbits(bits)))
    return (random_.getrandbits(random_.randrange(1, bits + 1)) if random_.random() < 0.3 else edge) % top


class Reference:
    """Builds an expression through the builder, and its value by `PURE` alone: nothing folded or rewritten."""

    def __init__(self, random_: random.Random) -> None:
        self.random = random_
        self.builder = Builder()
        self.inputs: dict[Value, int] = {}
        self.built: list[tuple[Value, int]] = []
        self.text: list[str] = []

    def leaf(self, bits: int) -> tuple[Value, int]:
        value = corner(self.random, bits)
        if self.random.random() < 0.5:
            return self.builder.const(value, integer(bits)), value
        opaque = self.builder.emit("param", integer(bits), (), len(self.inputs))
        self.inputs[opaque] = value
        return opaque, value

    def pick(self, bits: int) -> tuple[Value, int]:
        """Something of `bits` bits that is there, or a new leaf."""
        known = [pair for pair in self.built if pair[0].bits == bits]
        return self.random.choice(known) if known and self.random.random() < 0.8 else self.leaf(bits)

    def step(self) -> None:
        random_ = self.random
        bits = random_.choice((1, 8, 8, 16, 32, 32))
        op = random_.choice((*BINARY, *UNARY, "select", "zext", "sext", "trunc", "parity", "bitcast"))
        type_ = integer(bits)
        pairs = [self.pick(bits) for _ in range(1 if op in UNARY or OPS[op].arity == 1 else 2)]
        if op in ("udiv", "urem", "sdiv", "srem") and not pairs[1][1]:
            return
        result: Type = I1 if op in RESULT_I1 else type_
        match op:
            case "select":
                pairs.insert(0, self.pick(1))
            case "zext" | "sext":
                result = integer(bits * 2)
            case "trunc":
                if bits == 1:
                    return
                result = integer(random_.randrange(1, bits))
            case "parity":
                pairs, result = [self.pick(8)], I1
        made = self.builder.pure(op, result, tuple(value for value, _ in pairs))
        assert made.type == result
        expected = PURE[op](result, pairs[0][0].type, *[number for _, number in pairs])
        self.built.append((made, expected))

    def evaluate(self, value: Value, done: dict[Value, int]) -> int:
        if value not in done:
            if value.op == "const":
                done[value] = value.attr
            elif value in self.inputs:
                done[value] = self.inputs[value]
            else:
                arguments = [self.evaluate(arg, done) for arg in value.args]
                done[value] = PURE[value.op](value.type, value.args[0].type, *arguments)
        return done[value]


@pytest.mark.parametrize("seed", range(8))
def test_what_is_built_has_the_value_that_was_asked_for(seed: int) -> None:
    for number in range(150):
        reference = Reference(random.Random(f"{seed} {number}"))
        for _ in range(25):
            reference.step()
        done: dict[Value, int] = {}
        for made, expected in reference.built:
            assert reference.evaluate(made, done) == expected, (seed, number, made)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_flags_of_a_difference_become_comparisons(data: st.DataObject) -> None:
    bits = data.draw(st.sampled_from((8, 16, 32)))
    numbers = st.integers(0, (1 << bits) - 1)
    x_value, y_value = data.draw(numbers), data.draw(numbers | st.just(0))
    b = Builder()
    x, y = (b.emit("param", integer(bits), (), i) for i in range(2))
    difference = x - y
    less = x.slt(y)
    overflow = less ^ difference.msb
    values = {
        "l": difference.msb ^ overflow,
        "le": (difference.msb ^ overflow) | difference.eq(0),
        "be": x.ult(y) | difference.eq(0),
        "e": difference.eq(0),
    }
    assert [value.op for value in values.values()] == ["slt", "sle", "ule", "eq"]
    reference = Reference(random.Random(0))
    reference.inputs = {x: x_value, y: y_value}
    for name, value in values.items():
        plain = {"l": "slt", "le": "sle", "be": "ule", "e": "eq"}[name]
        assert reference.evaluate(value, {}) == PURE[plain](I1, integer(bits), x_value, y_value)


def rendered(op: Value, numbers: list[int], bounds: list[int]) -> tuple[object, int]:
    """The value of the engine's Python text for `op`, and the bound that it claims."""
    names = [f"x{i}" for i in range(len(numbers))]
    texts = [hex(arg.attr) if arg.op == "const" else name for arg, name in zip(op.args, names, strict=True)]
    text, bound = expression(op, texts, bounds)
    scope = {"PARITY": PARITY, "sdiv": sdiv, "srem": srem, **dict(zip(names, numbers, strict=True))}
    return eval(f"({text})*1+0", scope), bound  # in a larger expression: its parentheses must hold it together


CASES = [(op, bits) for op in (*BINARY, *UNARY, "select", "bitcast") for bits in WIDTHS]
CASES += [(op, bits) for op in ("zext", "sext", "trunc") for bits in WIDTHS[1:]]


@pytest.mark.parametrize(("op", "bits"), [*CASES, ("parity", 8)])
def test_expressions_of_every_width(op: str, bits: int) -> None:
    random_ = random.Random(f"{op} {bits}")
    for _ in range(120):
        type_ = integer(bits)
        argument = integer(random_.randrange(1, bits)) if op in ("zext", "sext") else type_
        if op == "trunc":
            argument = integer(min(128, bits + random_.randrange(1, 40)))
            if argument is type_:
                continue
        types = [argument] * OPS[op].arity
        if op == "select":
            types[0] = I1
        numbers = [corner(random_, t.size) for t in types]
        if op in ("udiv", "urem", "sdiv", "srem") and not numbers[1]:
            continue
        result = I1 if OPS[op].result == "i1" else type_
        args = [
            Value(Builder(), "const" if random_.random() < 0.4 else "param", t, (), number)
            for t, number in zip(types, numbers, strict=True)
        ]
        bounds = [random_.choice((number.bit_length(), t.size)) for t, number in zip(types, numbers, strict=True)]
        made = Value(Builder(), op, result, tuple(args))
        value, bound = rendered(made, numbers, bounds)
        expected = PURE[op](result, types[0], *numbers)
        assert value == expected, (op, bits, numbers, bounds, [a.op for a in args])
        assert expected.bit_length() <= bound, (op, bits, numbers, bounds)


def test_every_pure_operation_has_an_expression() -> None:
    covered = {op for op, _ in CASES} | {"parity"}
    assert covered == set(PURE)
    assert covered >= USES_TWICE


def test_constants_are_reduced_and_shared() -> None:
    b = Builder()
    assert b.const(-1, I8) is b.const(255, I8)
    assert b.const(256, I8).attr == 0
    assert b.const(1, I8) is not b.const(1, I1)
