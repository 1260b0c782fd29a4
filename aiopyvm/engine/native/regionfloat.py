"""The x87 in a region: the host's x87 is the guest's, instruction for instruction.

The region is entered with the one x87 stack that it was made for (`regionx87`). On the way in the registers that the
region uses are loaded into the same physical registers of the host, and TOP is made the same; on the way out those that
it sets are stored. In between each x87 instruction of the guest is the same instruction of the host, with the memory
operand's address computed as the trace says; what it does to general registers and to flags, and where it faults, is
lowered from the trace. No other generated code uses the host's x87 there. What always holds inside:

- The host's control word is the guest's. The host's exceptions are among the guest's: what is not is cleared first.
- `%l.codes` says which condition codes of the host's status word are the guest's (`FloatState.codes`: those that were
  set in this tree too); the others are as in the `CpuState`.
- What was popped stays in its register, as the hardware keeps it: so R0 to R7 are exact, empty or not.

A register that is empty cannot be stored by FSTP. An MMX instruction marks all of them as in use, and sets TOP to 0,
without a change of what they hold (SDM vol. 1, "MMX Instructions and the x87 FPU Tag Word").
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from aiopyvm.engine.native import lower_float
from aiopyvm.engine.native.calls import context_field
from aiopyvm.engine.native.layout import CPU_OFFSETS
from aiopyvm.engine.native.llvmtext import LIKELY, UNLIKELY
from aiopyvm.engine.native.lower_float import HOST_CONTROL
from aiopyvm.engine.native.regiondraft import Draft, FloatState
from aiopyvm.engine.native.regionnodes import Node
from aiopyvm.engine.native.regionplan import Stack, opcode_at
from aiopyvm.engine.native.regionstatus import set_codes
from aiopyvm.ir.builder import Value
from aiopyvm.isa.insn import Insn
from aiopyvm.isa.x87 import CONDITIONS, EXCEPTIONS

_REGISTER_SIZE: Final = 16  # bytes from one x87 register to the next
_APART: Final = " memory(inaccessiblemem: readwrite)"  # ordered among themselves, apart from all memory
_MEMORY: Final = {  # what GNU assemblers call the instructions with a memory operand, by opcode and ModRM's digit
    0xD8: "fadds fmuls fcoms fcomps fsubs fsubrs fdivs fdivrs",
    0xD9: "flds - fsts fstps - - - -",
    0xDA: "fiaddl fimull ficoml ficompl fisubl fisubrl fidivl fidivrl",
    0xDB: "fildl fisttpl fistl fistpl - fldt - fstpt",
    0xDC: "faddl fmull fcoml fcompl fsubl fsubrl fdivl fdivrl",
    0xDD: "fldl fisttpll fstl fstpl - - - -",
    0xDE: "fiadds fimuls ficoms ficomps fisubs fisubrs fidivs fidivrs",
    0xDF: "filds fisttps fists fistps - fildll - fistpll",
}


def memory_instruction(insn: Insn) -> str:
    """The assembler's name of an instruction with a memory operand."""
    at = opcode_at(insn.code)
    return _MEMORY[insn.code[at]].split()[insn.code[at + 1] >> 3 & 7]


class Floats:
    """Writes what the x87 does into a draft. `used`: the registers that the region reads or sets, and those it sets."""

    def __init__(self, draft: Draft, used: tuple[frozenset[int], frozenset[int]], stack: Stack) -> None:
        self._draft = draft
        self._text = draft.text
        self._used, self._written = used
        self._stack = stack

    @property
    def _state(self) -> FloatState:
        return self._draft.state.x87

    # -- the function --------------------------------------------------------------------------------------------------

    def variables(self) -> dict[str, str]:
        """The local variables and their types."""
        return {"codes": "i16", "fip": "i32"}

    def enters(self) -> str:
        """Whether (i1) the stack is the one that the region was made for, and all exceptions are masked."""
        text, place = self._text, self._field("ftop")
        assert CPU_OFFSETS["fvalid"] == CPU_OFFSETS["ftop"] + 1
        same = text.fresh(f"icmp eq i16 {text.fresh(f'load i16, ptr {place}')}, {_word(self._stack)}")
        control = self._field("fcw")
        masked = text.fresh(f"and i16 {text.fresh(f'load i16, ptr {control}')}, {EXCEPTIONS}")
        return text.fresh(f"and i1 {same}, {text.fresh(f'icmp eq i16 {masked}, {EXCEPTIONS}')}")

    def enter(self) -> None:
        """The region is entered: give the host the guest's x87."""
        text = self._text
        text.line("store i16 0, ptr %l.codes")
        last = text.fresh(f"load i32, ptr {self._field('fip')}")
        text.line(f"store i32 {last}, ptr %l.fip")
        lower_float.forget(text, text.fresh(f"load i16, ptr {self._field('fsw')}"))
        text.line(f'call void asm sideeffect "{"; ".join(self._loads())}", "r"(ptr {self._field("fpr")})')
        self._unusual(self._load_control)

    def _loads(self) -> Iterator[str]:
        """Load the registers, R7 first, from the initial TOP, 0; those that are empty are marked so."""
        top, valid = self._stack
        yield "emms"
        at = 8
        for n in sorted(self._used, reverse=True):
            yield from ["fdecstp"] * (at - n - 1)
            yield f"fldt {_REGISTER_SIZE * n}($0)"
            if not valid >> n & 1:
                yield "ffree %st(0)"
            at = n
        up = (top - at) % 8
        yield from ["fincstp"] * up if up <= 4 else ["fdecstp"] * (8 - up)

    def _stores(self) -> Iterator[str]:
        """Store the registers, R0 first."""
        yield "movd %mm0, %eax"
        at = 0
        for n in sorted(self._written):
            yield from ["fincstp"] * (n - at)
            yield f"fstpt {_REGISTER_SIZE * n}($0)"
            at = n + 1
        yield "emms"

    def leave(self) -> None:
        """Where all ways out meet: take the guest's x87 back, give the host its own."""
        text = self._text
        host = self._host_status()
        text.line(f'call void asm sideeffect "{"; ".join(self._stores())}", "r,~{{eax}}"(ptr {self._field("fpr")})')
        text.line(f"store i16 {text.fresh(f'and i16 {host}, {EXCEPTIONS}')}, ptr {context_field(text, 'x87')}")
        status = self._guest_status(host, text.fresh("load i16, ptr %l.codes"))
        text.line(f"store i16 {status}, ptr {self._field('fsw')}")
        self._unusual(lambda control: self._load_control(str(HOST_CONTROL)))

    def _unusual(self, write: Callable[[str], None]) -> None:
        """What is to be done where the guest's control word is not the host's."""
        text = self._text
        control = text.fresh(f"load i16, ptr {self._field('fcw')}")
        other, same = text.new_label(), text.new_label()
        text.branch(text.fresh(f"icmp eq i16 {control}, {HOST_CONTROL}"), same, other, LIKELY)
        text.label(other)
        write(control)
        text.line(f"br label %{same}")
        text.label(same)

    def _load_control(self, control: str) -> None:
        slot = self._text.slot("control", "i16", 2)
        self._text.line(f"store i16 {control}, ptr {slot}")
        self._text.line(f'call void asm sideeffect "fldcw $0", "*m"(ptr elementtype(i16) {slot})')

    def _host_status(self) -> str:
        return self._text.fresh(f'call i16 asm sideeffect "fnstsw %ax", "={{ax}}"(){_APART}')

    def _guest_status(self, host: str, codes: str) -> str:
        """The guest's status word (i16): with the host's exceptions, and those of its condition codes that count."""
        text = self._text
        before = text.fresh(f"load i16, ptr {self._field('fsw')}")
        changed = text.fresh(f"and i16 {text.fresh(f'xor i16 {before}, {host}')}, {codes}")
        raised = text.fresh(f"and i16 {host}, {EXCEPTIONS}")
        return text.fresh(f"or i16 {text.fresh(f'xor i16 {before}, {changed}')}, {raised}")

    def _field(self, name: str) -> str:
        return self._text.value(f"getelementptr i8, ptr %cpu, i64 {CPU_OFFSETS[name]}")

    # -- between trees, and out ----------------------------------------------------------------------------------------

    def arrive(self) -> None:
        """Another tree is entered from here: bring the local variables up to date."""
        if self._state.codes:
            self._text.line(f"store i16 {self._codes()}, ptr %l.codes")
        if "fip" in self._state.fields:
            self._text.line(f"store i32 {self._draft.name(self._state.fields['fip'])}, ptr %l.fip")

    def _codes(self) -> str:
        """Which condition codes (i16) are the host's here."""
        known = self._state.codes
        if known == CONDITIONS:
            return str(known)
        before = self._text.fresh("load i16, ptr %l.codes")
        return self._text.fresh(f"or i16 {before}, {known}") if known else before

    def store(self) -> None:
        """At a way out: write to the `CpuState` what is the same there for all registers."""
        text, fields = self._text, self._state.fields
        if self._state.codes:
            text.line(f"store i16 {self._codes()}, ptr %l.codes")
        last = self._draft.name(fields["fip"]) if "fip" in fields else text.fresh("load i32, ptr %l.fip")
        text.line(f"store i32 {last}, ptr {self._field('fip')}")
        top, valid = (
            int(fields[field].attr) if field in fields else known
            for field, known in zip(("ftop", "fvalid"), _stack_of(self._draft.state.tree), strict=True)
        )
        text.line(f"store i16 {_word((top, valid))}, ptr {self._field('ftop')}")

    # -- one instruction -----------------------------------------------------------------------------------------------

    def set(self, name: str, value: Value) -> None:
        """A field is set; of the status word, what the host's has not."""
        if name == "fsw":
            self._state.codes |= set_codes(value)
        else:
            self._state.fields[name] = value

    def set_control(self, control: str, refused: str) -> None:
        """The control word is set, here and in the host; `refused`: where to go if it unmasks an exception."""
        text, fine = self._text, self._text.new_label()
        masks = text.value(f"and i16 {control}, {EXCEPTIONS}")
        text.branch(text.value(f"icmp ne i16 {masks}, {EXCEPTIONS}"), refused, fine, UNLIKELY)
        text.label(fine)
        text.line(f"store i16 {control}, ptr {self._field('fcw')}")
        self._load_control(control)

    def status(self) -> str:
        """The guest's status word (i16) without TOP."""
        return self._guest_status(self._host_status(), self._codes())

    def execute(self, insn: Insn) -> None:
        """An instruction without a memory operand, that has to do with nothing else than the x87."""
        self._text.line(f'call void asm sideeffect "{_bytes(insn)}", ""(){_APART}')

    def compare(self, insn: Insn) -> str:
        """An instruction that sets EFLAGS: 0 greater, 1 less, 2 equal, 3 unordered (i8)."""
        text = self._text
        template = f"{_bytes(insn)}; setb $0; sete $1"
        flags = text.fresh(f'call {{i8, i8}} asm sideeffect "{template}", "=q,=q,~{{flags}}"(){_APART}')
        less, equal = (text.fresh(f"extractvalue {{i8, i8}} {flags}, {n}") for n in range(2))
        return text.fresh(f"or i8 {less}, {text.fresh(f'shl i8 {equal}, 1')}")

    def move_if(self, insn: Insn, condition: str) -> None:
        """FCMOVcc, where `condition` (i1) holds."""
        text = self._text
        other = insn.code[opcode_at(insn.code) + 1] & 7
        wide = text.value(f"zext i1 {condition} to i8")
        template = f"testb $$1, $0; fcmovne %st({other}), %st"
        text.line(f'call void asm sideeffect "{template}", "q,~{{flags}}"(i8 {wide}){_APART}')

    def access(self, insn: Insn, place: str, *, write: bool) -> None:
        """An instruction with a memory operand at `place`, which may be accessed."""
        kind = "=*m" if write else "*m"
        asm = f'"{memory_instruction(insn)} $0", "{kind}"(ptr elementtype([10 x i8]) {place})'
        self._text.line(f"call void asm sideeffect {asm}")


def _bytes(insn: Insn) -> str:
    at = opcode_at(insn.code)
    return f".byte {insn.code[at]}, {insn.code[at + 1]}"


def _word(stack: Stack) -> int:
    """TOP and the registers in use as they stand in the `CpuState`, one behind the other (signed, 16 bits)."""
    word = stack[0] | stack[1] << 8
    return word - (1 << 16) if word >> 15 else word


def _stack_of(node: Node) -> Stack:
    assert node.stack is not None
    return node.stack


__all__ = ["Floats", "memory_instruction"]
