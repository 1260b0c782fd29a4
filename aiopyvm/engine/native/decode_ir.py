"""The generated decoder: `decode(job)`, of the C convention, which turns the bytes of a run into records.

It walks the tables of `decodetables.py`, which stand beside it as constants, and finds each instruction's handler by
its key: in the table of the object's own handlers, then in the job's table of what was learned since. It stops before
what it does not know, and before what does not end within the bytes that it is given; Python decides there. What it
writes, and where a run ends, is what `Runs.decode` says. It reads at most `PADDING` bytes behind those it is given.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from aiopyvm.engine.native import decodetables as tables
from aiopyvm.engine.native.decodejob import (
    BRANCH,
    ENDS,
    FALLS,
    LEARNED_BITS,
    LOCKABLE,
    MULTIPLIER,
    NEEDS,
    NO_VVVV,
    STATIC_BASE,
    DecodeJob,
    Learned,
)
from aiopyvm.engine.native.decodetables import Tables
from aiopyvm.engine.native.layout import CPU_OFFSETS, RECORD_OFFSETS, RECORD_SIZE
from aiopyvm.engine.native.llvmtext import Text
from aiopyvm.isa import vex
from aiopyvm.isa.decode_lengths import ESCAPES

_MOST_BYTES: Final = 15
_OWN_BITS: Final = 12
_ALL_HIGH: Final = 7  # the bits of a key that say which registers are AH to BH


_OFFSETS: Final = {name: getattr(DecodeJob, name).offset for name, *_ in DecodeJob._fields_}


def decoder_text(all_tables: Tables, handlers: Mapping[int, str]) -> list[str]:
    """The decoder and its constants. `handlers`: the names of functions of the object, by key."""
    own = tables.table_of(handlers.items(), _OWN_BITS)
    prefixes = [tables.PREFIXES.get(byte, 0) for byte in range(256)]
    maps = [ESCAPES.get(0x138 + low, 0) for low in range(8)]
    return [
        _constant("decode_prefixes", prefixes, 1),
        _constant("decode_maps", maps, 1),
        _constant("decode_opcodes", all_tables.opcodes, 2),
        _constant("decode_modrms", all_tables.modrms, 2),
        _constant("decode_registers", all_tables.registers or [0], 2),
        _constant("decode_leaves", all_tables.leaves, 8),
        _constant(NEEDS, "\n".join(all_tables.needs).encode() + b"\0", 1, "dso_local constant"),
        _constant("decode_keys", [key for key, _ in own], 8),
        _distances([name for _, name in own]),
        _Decoder().text(),
    ]


def _constant(name: str, numbers: Iterable[int], size: int, linkage: str = "internal constant") -> str:
    data = b"".join(number.to_bytes(size, "little") for number in numbers)
    text = "".join(f"\\{byte:02X}" for byte in data)
    return f'@{name} = {linkage} [{len(data)} x i8] c"{text}", align 16'


def _distances(names: Iterable[str]) -> str:
    """How far from the table's start each function is."""
    found = [
        f"i32 trunc (i64 sub (i64 ptrtoint (ptr @{name} to i64), i64 ptrtoint (ptr @decode_handlers to i64)) to i32)"
        if name
        else "i32 0"
        for name in names
    ]
    return f"@decode_handlers = internal constant [{len(found)} x i32] [{', '.join(found)}], align 16"


class _Decoder:
    """Writes the function. What changes lies in slots of the stack frame."""

    def __init__(self) -> None:
        self.t = Text()

    def text(self) -> str:
        """The definition."""
        t = self.t
        self._begin()
        t.label("insn")
        self._prefixes()
        self._opcode()
        self._address()
        self._operands()
        self._find()
        self._record()
        t.label("out")
        t.line("ret void")
        return f"define void @decode(ptr %job) #0 {{\nentry:\n{t.body()}\n}}\n"

    # -- small things --------------------------------------------------------------------------------------------------

    def _slot(self, name: str, bits: int = 32) -> str:
        return self.t.slot(f"s_{name}", f"i{bits}", 8)

    def get(self, name: str, bits: int = 32) -> str:
        """The value of a variable."""
        return self.t.fresh(f"load i{bits}, ptr {self._slot(name, bits)}")

    def set(self, name: str, value: str | int, bits: int = 32) -> None:
        """Set a variable."""
        self.t.line(f"store i{bits} {value}, ptr {self._slot(name, bits)}")

    def add(self, name: str, value: str | int, bits: int = 32) -> str:
        """Add to a variable; the sum."""
        total = self.t.fresh(f"add i{bits} {self.get(name, bits)}, {value}")
        self.set(name, total, bits)
        return total

    def include(self, name: str, value: str) -> None:
        """Set the bits of a variable of 64 bits that `value` (i64) has."""
        self.set(name, self.t.fresh(f"or i64 {self.get(name, 64)}, {value}"), 64)

    def wide(self, value: str, shift: int = 0, kind: str = "i32") -> str:
        """A smaller integer as i64, shifted."""
        value = self.t.fresh(f"zext {kind} {value} to i64")
        return self.t.fresh(f"shl i64 {value}, {shift}") if shift else value

    def _job(self, name: str) -> str:
        return self.t.fresh(f"getelementptr i8, ptr %job, i64 {_OFFSETS[name]}")

    def _input(self, name: str, kind: str = "i32") -> str:
        return self.t.fresh(f"load {kind}, ptr {self._job(name)}")

    def _output(self, name: str, value: str | int, kind: str = "i32") -> None:
        self.t.line(f"store {kind} {value}, ptr {self._job(name)}")

    def _load(self, table: str, index: str, bits: int) -> str:
        """Entry `index` (i32) of a constant or of the bytes, as i32, or as i64 where it is one."""
        t = self.t
        at = self.wide(index, {8: 0, 16: 1, 32: 2, 64: 3}[bits])
        value = t.fresh(f"load i{bits}, ptr {t.fresh(f'getelementptr i8, ptr {table}, i64 {at}')}, align 1")
        return value if bits >= 32 else t.fresh(f"zext i{bits} {value} to i32")

    def _byte(self) -> str:
        """The next byte of the code."""
        at = self.get("at")
        self.set("at", self.t.fresh(f"add i32 {at}, 1"))
        return self._load(self._input("code", "ptr"), at, 8)

    @contextmanager
    def _when(self, condition: str) -> Iterator[None]:
        yes, after = self.t.new_label(), self.t.new_label()
        self.t.branch(condition, yes, after)
        self.t.label(yes)
        yield
        self._go(after)
        self.t.label(after)

    def _go(self, label: str) -> None:
        self.t.line(f"br label %{label}")

    def _is(self, value: str, what: int, comparison: str = "eq") -> str:
        return self.t.fresh(f"icmp {comparison} i32 {value}, {what}")

    def _bits(self, value: str, shift: int, mask: int) -> str:
        value = self.t.fresh(f"lshr i32 {value}, {shift}") if shift else value
        return self.t.fresh(f"and i32 {value}, {mask}")

    def _leave_if(self, condition: str) -> None:
        fine = self.t.new_label()
        self.t.branch(condition, "out", fine)
        self.t.label(fine)

    # -- one instruction -----------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._output("count", 0)
        self._output("flow", FALLS)
        self._output("next", self._input("eip"))
        self._output("key", 0, "i64")
        self.set("at", 0)
        self.set("rec", self._input("records", "i64"), 64)
        self._go("insn")

    def _prefixes(self) -> None:
        t = self.t
        self.set("start", self.get("at"))
        for name in ("context", "segment", "lock", "modrm", "mod", "value", "high", "vvvv"):
            self.set(name, 0)
        self._go("prefix")
        t.label("prefix")
        self.set("opcode", self._byte())
        prefix = self._load("@decode_prefixes", self.get("opcode"), 8)
        cases = {1: "p66", 2: "out", 3: "prep", 4: "prep", 5: "plock"} | {
            tables.FIRST_SEGMENT + n: "psegment" for n in range(7)
        }
        listed = " ".join(f"i32 {number}, label %{label}" for number, label in cases.items())
        t.line(f"switch i32 {prefix}, label %opcode [ i32 0, label %opcode {listed} ]")
        t.label("p66")
        self.set("context", t.fresh(f"or i32 {self.get('context')}, 1"))
        self._go("pnext")
        t.label("prep")
        repeat = t.fresh(f"shl i32 {t.fresh(f'sub i32 {prefix}, 2')}, 1")
        kept = self._bits(self.get("context"), 0, 1)
        self.set("context", t.fresh(f"or i32 {kept}, {repeat}"))
        self._go("pnext")
        t.label("plock")
        self.set("lock", 1)
        self._go("pnext")
        t.label("psegment")
        self.set("segment", t.fresh(f"sub i32 {prefix}, {tables.FIRST_SEGMENT}"))
        self._go("pnext")
        t.label("pnext")
        length = t.fresh(f"sub i32 {self.get('at')}, {self.get('start')}")
        t.branch(self._is(length, _MOST_BYTES, "ult"), "prefix", "out")

    def _opcode(self) -> None:
        t = self.t
        t.label("opcode")
        with self._when(self._is(self.get("opcode"), 0x0F)):
            second = self._byte()
            self.set("opcode", t.fresh(f"or i32 {second}, 256"))
            with self._when(self._is(t.fresh(f"and i32 {second}, 248"), 0x38)):
                page = self._load("@decode_maps", t.fresh(f"and i32 {second}, 7"), 8)
                self.set("opcode", t.fresh(f"or i32 {t.fresh(f'shl i32 {page}, 8')}, {self._byte()}"))
        self._vex()
        first = t.fresh(f"mul i32 {self.get('context')}, {tables.OPCODES}")
        self.set("leaf", self._load("@decode_opcodes", t.fresh(f"add i32 {first}, {self.get('opcode')}"), 16))
        with self._when(self._is(self.get("leaf"), tables.MORE, "uge")):
            modrm = self._byte()
            self.set("modrm", modrm)
            self.set("mod", t.fresh(f"add i32 {self._bits(modrm, 6, 3)}, 1"))
            direct = t.fresh(f"zext i1 {self._is(modrm, 0xC0, 'uge')} to i32")
            slot = t.fresh(f"or i32 {self._bits(modrm, 3, 7)}, {t.fresh(f'shl i32 {direct}, 3')}")
            number = t.fresh(f"sub i32 {self.get('leaf')}, {tables.MORE}")
            table = t.fresh(f"mul i32 {number}, {tables.SLOTS}")
            self.set("leaf", self._load("@decode_modrms", t.fresh(f"add i32 {table}, {slot}"), 16))
            with self._when(self._is(self.get("leaf"), tables.MORE, "uge")):
                number = t.fresh(f"sub i32 {self.get('leaf')}, {tables.MORE}")
                table = t.fresh(f"shl i32 {number}, 3")
                entry = t.fresh(f"or i32 {table}, {self._bits(modrm, 0, 7)}")
                self.set("leaf", self._load("@decode_registers", entry, 16))
        leaf = self.get("leaf")
        self._leave_if(self._is(leaf, 0))
        self.set("plan", self._load("@decode_leaves", leaf, 64), 64)
        plan = self.get("plan", 64)
        need = t.fresh(f"lshr i64 {plan}, {tables.PLAN_NEED}")
        lacking = t.fresh(f"lshr i64 {self._input('lacking', 'i64')}, {need}")
        self._leave_if(t.fresh(f"trunc i64 {lacking} to i1"))
        flags = self._bits(t.fresh(f"trunc i64 {t.fresh(f'lshr i64 {plan}, {tables.PLAN_FLAGS}')} to i32"), 0, 255)
        self.set("flags", flags)
        lockable = self._is(t.fresh(f"and i32 {flags}, {LOCKABLE}"), 0)
        self._leave_if(t.fresh(f"and i1 {self._is(self.get('lock'), 0, 'ne')}, {lockable}"))
        no_vvvv = self._is(t.fresh(f"and i32 {flags}, {NO_VVVV}"), 0, "ne")
        self._leave_if(t.fresh(f"and i1 {no_vvvv}, {self._is(self.get('vvvv'), 0, 'ne')}"))
        self.set("key", self.wide(leaf), 64)
        for name, shift in (
            ("context", tables.KEY_CONTEXT), ("segment", tables.KEY_SEGMENT), ("lock", tables.KEY_LOCK),
        ):  # fmt: skip
            self.include("key", self.wide(self.get(name), shift))

    def _vex(self) -> None:
        """Where the opcode is a VEX prefix, read it and the opcode behind it (see `isa/vex.py`)."""
        t = self.t
        code, opcode = self._input("code", "ptr"), self.get("opcode")
        either = self._is(t.fresh(f"and i32 {opcode}, -2"), vex.THREE_BYTES)
        registers = self._is(self._load(code, self.get("at"), 8), 0xC0, "uge")
        with self._when(t.fresh(f"and i1 {either}, {registers}")):
            before = t.fresh(f"or i32 {self.get('context')}, {self.get('lock')}")
            self._leave_if(self._is(before, 0, "ne"))
            self.set("map", 0)
            self.set("w", 0)
            self.set("vex", self._byte())
            with self._when(self._is(opcode, vex.THREE_BYTES)):
                number = t.fresh(f"sub i32 {self._bits(self.get('vex'), 0, 31)}, 1")
                self._leave_if(self._is(number, 3, "uge"))
                self.set("map", number)
                self.set("vex", self._byte())
                self.set("w", self._bits(self.get("vex"), 7, 1))
            last = self.get("vex")
            self.set("vvvv", self._bits(t.fresh(f"xor i32 {last}, {vex.NO_REGISTER << 3}"), 3, vex.NO_REGISTER))
            contexts = sum(context << 4 * pp for pp, context in enumerate(tables.OF_PP))
            shift = t.fresh(f"shl i32 {self._bits(last, 0, 3)}, 2")
            self.set("context", self._bits(t.fresh(f"lshr i32 {contexts}, {shift}"), 0, 7))
            page = t.fresh(f"shl i32 {self.get('map')}, 2")
            page = t.fresh(f"or i32 {page}, {t.fresh(f'shl i32 {self._bits(last, 2, 1)}, 1')}")
            page = t.fresh(f"or i32 {page}, {self.get('w')}")
            page = t.fresh(f"add i32 {page}, {vex.FIRST}")
            self.set("opcode", t.fresh(f"or i32 {t.fresh(f'shl i32 {page}, 8')}, {self._byte()}"))

    def _address(self) -> None:
        """Intel SDM vol. 2A, "ModR/M and SIB Bytes": `base`, `index` (8: none), `displacement` and the key's bits."""
        t = self.t
        for name, value in (("base", 8), ("index", 8), ("scale", 0), ("displacement", 0)):
            self.set(name, value)
        mod = t.fresh(f"sub i32 {self.get('mod')}, 1")
        with self._when(self._is(mod, 3, "ult")):
            self.set("base", self._bits(self.get("modrm"), 0, 7))
            with self._when(self._is(self.get("base"), 4)):
                sib = self._byte()
                self.set("base", self._bits(sib, 0, 7))
                index = self._bits(sib, 3, 7)
                with self._when(self._is(index, 4, "ne")):
                    self.set("index", index)
                    self.set("scale", self._bits(sib, 6, 3))
            no_base = t.fresh(f"and i1 {self._is(mod, 0)}, {self._is(self.get('base'), 5)}")
            with self._when(no_base):
                self.set("base", 8)
            with self._when(t.fresh(f"or i1 {no_base}, {self._is(mod, 2)}")):
                self._displacement(4)
            with self._when(self._is(mod, 1)):
                self._displacement(1)
            self._address_key()

    def _displacement(self, size: int) -> None:
        t, at = self.t, self.get("at")
        place = t.fresh(f"getelementptr i8, ptr {self._input('code', 'ptr')}, i64 {self.wide(at)}")
        value = t.fresh(f"load i{8 * size}, ptr {place}, align 1")
        self.set("displacement", value if size == 4 else t.fresh(f"sext i8 {value} to i32"))
        self.set("at", t.fresh(f"add i32 {at}, {size}"))

    def _address_key(self) -> None:
        t, base = self.t, self.get("base")
        bits = (
            (self._is(base, 8, "ne"), tables.HAS_BASE), (self._is(self.get("index"), 8, "ne"), tables.HAS_INDEX),
            (self._is(self.get("displacement"), 0, "ne"), tables.HAS_DISPLACEMENT),
        )  # fmt: skip
        for condition, bit in bits:
            self.include("key", self.wide(condition, tables.KEY_MEMORY + bit.bit_length() - 1, "i1"))
        self.include("key", self.wide(self.get("scale"), tables.KEY_MEMORY + tables.SCALE))
        with self._when(self._is(t.fresh(f"and i32 {self.get('flags')}, {STATIC_BASE}"), 0, "ne")):
            without = t.fresh(f"select i1 {self._is(base, 8)}, i32 0, i32 {t.fresh(f'add i32 {base}, 1')}")
            self.include("key", self.wide(without, tables.KEY_BASE))

    # -- operands ------------------------------------------------------------------------------------------------------

    def _operands(self) -> None:
        """`word`: registers of the record, from bit 24 on those that `link` has; `values`: its values; in the order of
        `shapes.parameters`.

        They are read again, `general` being 1, for the general shape, and, it being 2, where that has no handler.
        """
        t = self.t
        self.set("general", 0)
        self.set("operands", self.get("at"))
        self._go("operands")
        t.label("operands")
        self.set("at", self.get("operands"))
        self.set("value", 0)
        self.set("word", 0, 64)
        self.set("register", 0)  # bits into `word`
        t.slot("values", "[4 x i32]", 8)
        t.line("store i64 0, ptr %values")
        t.line(f"store i64 0, ptr {t.fresh('getelementptr i8, ptr %values, i64 8')}")
        plan = self.get("plan", 64)
        self.set("reading", t.fresh(f"trunc i64 {t.fresh(f'lshr i64 {plan}, 32')} to i32"))
        self.set("kinds", t.fresh(f"trunc i64 {plan} to i32"))
        self._go("operand")
        t.label("operand")
        kind = self._bits(self.get("kinds"), 0, 255)
        self.set("kinds", t.fresh(f"lshr i32 {self.get('kinds')}, 8"))
        modrm = self.get("modrm")
        low = self._bits(self.get("opcode"), 0, 7)
        numbers = {tables.REG: self._bits(modrm, 3, 7), tables.RM: self._bits(modrm, 0, 7), tables.OPCODE: low}
        labels = {kind: f"o{kind}" for kind in range(1, tables.IS4 + 1)}
        listed = " ".join(f"i32 {number}, label %{label}" for number, label in labels.items())
        t.line(f"switch i32 {kind}, label %ofixed [ i32 {tables.END}, label %oend {listed} ]")
        t.label("ofixed")
        self._register(t.fresh(f"sub i32 {kind}, {tables.FIXED}"))
        self._go("operand")
        for wide, number in numbers.items():
            t.label(labels[wide])
            self._register(number)
            self._go("operand")
            t.label(labels[wide + 1])
            high = t.fresh(f"lshr i32 {self.get('register')}, 3")
            shift = self.wide(t.fresh(f"add i32 {high}, {tables.KEY_HIGH}"))
            self.include("key", t.fresh(f"shl i64 {self.wide(self._bits(number, 2, 1))}, {shift}"))
            self._register(self._bits(number, 0, 3))
            self._go("operand")
        t.label(labels[tables.VVVV])
        self._register(self._bits(self.get("vvvv"), 0, 7))
        self._go("operand")
        t.label(labels[tables.IS4])
        self._register(self._bits(self._byte(), 4, 7))
        self._go("operand")
        self._memory_operand(labels)
        self._immediates(labels)
        t.label("oend")

    def _register(self, number: str) -> None:
        at = self.get("register")
        self._place(self.t.fresh(f"shl i32 {number}, 2"))
        self.set("register", self.t.fresh(f"add i32 {at}, 8"))

    def _place(self, field: str) -> None:
        """Set bits of the field of the register that comes next."""
        placed = self.t.fresh(f"shl i64 {self.wide(field)}, {self.wide(self.get('register'))}")
        self.include("word", placed)

    def _value(self, value: str) -> None:
        at = self.get("value")
        place = self.t.fresh(f"getelementptr i32, ptr %values, i64 {self.wide(at)}")
        self.t.line(f"store i32 {value}, ptr {place}")
        self.set("value", self.t.fresh(f"add i32 {at}, 1"))

    def _memory_operand(self, labels: Mapping[int, str]) -> None:
        t = self.t
        t.label(labels[tables.OFFSET])
        self._displacement(4)
        bit = tables.KEY_MEMORY + tables.HAS_DISPLACEMENT.bit_length() - 1
        self.include("key", self.wide(self._is(self.get("displacement"), 0, "ne"), bit, "i1"))
        self._go(labels[tables.MEMORY])
        t.label(labels[tables.MEMORY])
        any_address = t.new_label()
        is_general = self._is(self.get("general"), 1)
        t.branch(is_general, any_address, "oaddress")
        t.label("oaddress")
        with self._when(self._is(self.get("displacement"), 0, "ne")):
            self._value(self.get("displacement"))
        for name in ("index", "base"):
            with self._when(self._is(self.get(name), 8, "ne")):
                self._register(self.get(name))
        self._go("operand")
        t.label(any_address)
        self._value(self.get("displacement"))
        self._place(self.get("scale"))
        self._register_or_zero("index")
        self._register_or_zero("base")
        self._go("operand")

    def _register_or_zero(self, name: str) -> None:
        number, none = self.get(name), CPU_OFFSETS["ds_base"] >> 2
        self._register(self.t.fresh(f"select i1 {self._is(number, 8)}, i32 {none}, i32 {number}"))

    def _immediates(self, labels: Mapping[int, str]) -> None:
        t = self.t
        for kind in (tables.IMMEDIATE, tables.STATIC, tables.RELATIVE):
            t.label(labels[kind])
            value = self._immediate()
            if kind == tables.IMMEDIATE:
                self._value(value)
            elif kind == tables.STATIC:
                self.include("key", self.wide(self._bits(value, 0, 0xFFFF), tables.KEY_STATIC))
                with self._when(self._is(self.get("general"), 1)):
                    self._value(value)
            else:
                self.set("relative", value)
                self.set("flags", t.fresh(f"or i32 {self.get('flags')}, {BRANCH}"))
            self._go("operand")

    def _immediate(self) -> str:
        """The next immediate, extended and cut as the leaf's `Leaf.immediates` say."""
        t, reading, at = self.t, self.get("reading"), self.get("at")
        self.set("reading", t.fresh(f"lshr i32 {reading}, 8"))
        size = t.fresh(f"shl i32 1, {self._bits(reading, 0, 3)}")
        self.set("at", t.fresh(f"add i32 {at}, {size}"))
        place = t.fresh(f"getelementptr i8, ptr {self._input('code', 'ptr')}, i64 {self.wide(at)}")
        found = t.fresh(f"load i32, ptr {place}, align 1")
        unused = t.fresh(f"sub i32 32, {t.fresh(f'shl i32 {size}, 3')}")
        top = t.fresh(f"shl i32 {found}, {unused}")
        signed = self._is(self._bits(reading, 2, 1), 0, "ne")
        extended = (t.fresh(f"ashr i32 {top}, {unused}"), t.fresh(f"lshr i32 {top}, {unused}"))
        value = t.fresh(f"select i1 {signed}, i32 {extended[0]}, i32 {extended[1]}")
        width = t.fresh(f"shl i32 8, {self._bits(reading, 3, 3)}")
        mask = t.fresh(f"lshr i32 -1, {t.fresh(f'sub i32 32, {width}')}")
        return t.fresh(f"and i32 {value}, {mask}")

    # -- handlers and records ------------------------------------------------------------------------------------------

    def _find(self) -> None:
        t = self.t
        length = t.fresh(f"sub i32 {self.get('at')}, {self.get('start')}")
        self._leave_if(t.fresh(f"icmp ugt i32 {self.get('at')}, {self._input('room')}"))
        self._leave_if(self._is(length, _MOST_BYTES, "ugt"))
        t.line(f"switch i32 {self.get('general')}, label %own [ i32 1, label %generalise i32 2, label %learned ]")
        t.label("generalise")
        self.set("key", t.fresh(f"and i64 {self.get('key', 64)}, {tables.general(-1) & ~tables.GENERAL}"), 64)
        self.include("key", str(tables.GENERAL))
        self._go("own")
        t.label("own")
        self._search("own", "@decode_keys", 8, _OWN_BITS, "absent")
        at = self.wide(self.get("place"), 2)
        place = t.fresh(f"getelementptr i8, ptr @decode_handlers, i64 {at}")
        here = t.fresh("sub i64 ptrtoint (ptr @decode_handlers to i64), ptrtoint (ptr @code_base to i64)")
        distance = t.fresh(f"add i32 {t.fresh(f'load i32, ptr {place}')}, {t.fresh(f'trunc i64 {here} to i32')}")
        self.set("handler", distance)
        self._go("found")
        t.label("absent")
        again, given_up = t.new_label(), t.new_label()
        t.branch(self._is(self.add("general", 1), 1), again, given_up)
        t.label(again)
        key = self.get("key", 64)
        self.set("exact", key, 64)
        self.set("key", t.fresh(f"and i64 {key}, {~(_ALL_HIGH << tables.KEY_HIGH)}"), 64)  # found anew
        self._go("operands")
        t.label(given_up)
        self.set("key", self.get("exact", 64), 64)
        self._go("operands")
        t.label("learned")
        learned = self._input("learned", "ptr")
        self._search("more", learned, ctypes.sizeof(Learned), LEARNED_BITS, "unknown")
        at = t.fresh(f"mul i64 {self.wide(self.get('place'))}, {ctypes.sizeof(Learned)}")
        place = t.fresh(f"getelementptr i8, ptr {learned}, i64 {at}")
        place = t.fresh(f"getelementptr i8, ptr {place}, i64 {Learned.handler.offset}")
        self.set("handler", t.fresh(f"load i32, ptr {place}"))
        self._go("found")
        t.label("unknown")
        self._output("key", self.get("key", 64), "i64")
        self._go("out")
        t.label("found")

    def _search(self, name: str, table: str, size: int, bits: int, failed: str) -> None:
        """Set `place` to that of the key in a hash table, or go to the label `failed`."""
        t, key = self.t, self.get("key", 64)
        multiplier = MULTIPLIER - (1 << 64)
        first = t.fresh(f"lshr i64 {t.fresh(f'mul i64 {key}, {multiplier}')}, {64 - bits}")
        self.set("place", t.fresh(f"trunc i64 {first} to i32"))
        again, other, follow, done = f"{name}_look", f"{name}_other", f"{name}_next", f"{name}_done"
        self._go(again)
        t.label(again)
        place = t.fresh(f"mul i64 {self.wide(self.get('place'))}, {size}")
        there = t.fresh(f"load i64, ptr {t.fresh(f'getelementptr i8, ptr {table}, i64 {place}')}")
        t.branch(t.fresh(f"icmp eq i64 {there}, {key}"), done, other)
        t.label(other)
        t.branch(t.fresh(f"icmp eq i64 {there}, 0"), failed, follow)
        t.label(follow)
        self.set("place", self._bits(t.fresh(f"add i32 {self.get('place')}, 1"), 0, (1 << bits) - 1))
        self._go(again)
        t.label(done)

    def _record(self) -> None:
        t = self.t
        rec = t.fresh(f"inttoptr i64 {self.get('rec', 64)} to ptr")
        length = t.fresh(f"sub i32 {self.get('at')}, {self.get('start')}")
        eip = t.fresh(f"add i32 {self._input('eip')}, {self.get('start')}")
        registers = self.get("word", 64)
        word = self._bits(t.fresh(f"trunc i64 {registers} to i32"), 0, 0xFFFFFF)
        word = t.fresh(f"or i32 {word}, {t.fresh(f'shl i32 {length}, 24')}")
        more = t.fresh(f"trunc i64 {t.fresh(f'lshr i64 {registers}, 24')} to i32")
        branches = self._is(t.fresh(f"and i32 {self.get('flags')}, {BRANCH}"), 0, "ne")
        values = [t.fresh(f"load i32, ptr {t.fresh(f'getelementptr i32, ptr %values, i64 {n}')}") for n in range(3)]
        third = t.fresh(f"select i1 {branches}, i32 0, i32 {t.fresh(f'or i32 {values[2]}, {more}')}")
        at = RECORD_OFFSETS
        for offset, value in (
            (at["handler"], self.get("handler")), (at["eip"], eip), (at["registers"], word), (at["values"], values[0]),
            (at["values"] + 4, values[1]), (at["link"], third),
        ):  # fmt: skip
            t.line(f"store i32 {value}, ptr {t.fresh(f'getelementptr i8, ptr {rec}, i64 {offset}')}")
        self.add("rec", RECORD_SIZE, 64)
        count = t.fresh(f"add i32 {self._input('count')}, 1")
        following = t.fresh(f"add i32 {eip}, {length}")
        flags = self.get("flags")
        for name, result in (("count", count), ("next", following), ("flow", flags), ("length", length)):
            self._output(name, result)
        with self._when(branches):
            target = t.fresh(f"add i32 {following}, {self.get('relative')}")
            cut = t.fresh(f"and i32 {target}, 65535")
            short = self._is(t.fresh(f"and i32 {self.get('context')}, 1"), 0, "ne")
            self._output("target", t.fresh(f"select i1 {short}, i32 {cut}, i32 {target}"))
        self._leave_if(self._is(t.fresh(f"and i32 {flags}, {ENDS}"), 0, "ne"))
        self._leave_if(t.fresh(f"icmp uge i32 {count}, {self._input('most')}"))
        self._leave_if(t.fresh(f"icmp uge i32 {self.get('at')}, {self._input('room')}"))
        at_stop = t.fresh(f"icmp eq i64 {self.wide(following)}, {self._input('stop', 'i64')}")
        t.branch(at_stop, "out", "insn")
