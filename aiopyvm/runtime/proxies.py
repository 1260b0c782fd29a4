"""A guest's registers and memory, as users of a `Process` see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from aiopyvm.errors import GuestMemoryError
from aiopyvm.isa.state import FLAG_BITS, GPR8, GPR16, GPR32, SEGMENTS, CpuState

if TYPE_CHECKING:
    from aiopyvm.kernel.thread import Thread

_PARTS: Final = {
    **{name: (GPR32[i], 0, 0xFFFF) for i, name in enumerate(GPR16)},
    **{name: (GPR32[i & 3], 8 * (i >> 2), 0xFF) for i, name in enumerate(GPR8)},
}
"""16- and 8-bit registers: (the 32-bit one, shift, mask)."""

_SYSTEM_BITS: Final = {"tf": 1 << 8, "if": 1 << 9, "nt": 1 << 14, "rf": 1 << 16, "ac": 1 << 18, "id": 1 << 21}
_WORDS: Final = frozenset((*GPR32, "eip", "eflags"))
NAMES: Final = (*GPR32, "eip", "eflags", *GPR16, *GPR8, *FLAG_BITS, *_SYSTEM_BITS, *SEGMENTS)


def _nothing() -> None:
    """What has to be waited for where nobody but the event loop's thread runs the guest."""


class Registers:
    """Registers by name (`r.eax`, `r["ax"]`) or number (`r[0]` is EAX, in the encoding's order).

    32-bit: eax ecx edx ebx esp ebp esi edi eip eflags; their 16- and 8-bit parts; flags: cf pf af zf sf of df tf ...;
    segment selectors (read only). Values set are taken modulo the register's width; a flag is 0 or 1. Raises
    AttributeError, KeyError or IndexError for what is none, TypeError for a value that is no integer.
    """

    __slots__ = ("_cpu", "_settle")
    _cpu: CpuState
    _settle: Callable[[], None]

    def __init__(self, cpu: CpuState, settle: Callable[[], None] = _nothing) -> None:
        object.__setattr__(self, "_cpu", cpu)
        object.__setattr__(self, "_settle", settle)  # returns when no worker changes them

    def __reduce__(self) -> tuple[Any, ...]:
        return _registers_from, (bytes(self._cpu),)

    def _get(self, name: str) -> int:
        self._settle()
        cpu = self._cpu
        if name in _PARTS:
            whole, shift, mask = _PARTS[name]
            return int(getattr(cpu, whole)) >> shift & mask
        if name in _SYSTEM_BITS:
            return int(bool(cpu.eflags & _SYSTEM_BITS[name]))
        return int(getattr(cpu, name))

    def _set(self, name: str, value: int) -> None:
        if not isinstance(value, int):
            raise TypeError(f"{name} takes an integer, not {type(value).__name__}")
        self._settle()
        cpu = self._cpu
        if name in _PARTS:
            whole, shift, mask = _PARTS[name]
            setattr(cpu, whole, (getattr(cpu, whole) & ~(mask << shift)) | (value & mask) << shift)
        elif name in _WORDS:
            setattr(cpu, name, value & 0xFFFFFFFF)
        elif name in FLAG_BITS:
            setattr(cpu, name, int(bool(value)))
        elif name in _SYSTEM_BITS:
            bit = _SYSTEM_BITS[name]
            cpu.eflags = (cpu.eflags | bit) if value else (cpu.eflags & ~bit)
        else:
            raise AttributeError(f"{name} can only be read")

    def __getattr__(self, name: str) -> int:
        if name not in NAMES:
            raise AttributeError(f"no register is called {name!r}")
        return self._get(name)

    def __setattr__(self, name: str, value: int) -> None:
        if name not in NAMES:
            raise AttributeError(f"no register is called {name!r}")
        self._set(name, value)

    def __getitem__(self, key: str | int) -> int:
        return self._get(self._name(key))

    def __setitem__(self, key: str | int, value: int) -> None:
        self._set(self._name(key), value)

    @staticmethod
    def _name(key: str | int) -> str:
        if isinstance(key, int):
            if not 0 <= key < len(GPR32):
                raise IndexError(f"general registers have the numbers 0 to 7, not {key}")
            return GPR32[key]
        if key not in NAMES:
            raise KeyError(key)
        return key

    def __iter__(self) -> Iterator[str]:
        return iter((*GPR32, "eip", "eflags"))

    def as_dict(self) -> dict[str, int]:
        """The 32-bit registers, by name."""
        return {name: self._get(name) for name in self}

    def __repr__(self) -> str:
        return "<Registers " + " ".join(f"{name}={value:#010x}" for name, value in self.as_dict().items()) + ">"


def _registers_from(state: bytes) -> Registers:
    """Return registers that are a copy: what pickling and copying a `Result` gives."""
    return Registers(CpuState.from_buffer_copy(state))


class Memory:
    """A guest's memory: addresses are linear, 32 bits; numbers are little-endian and unsigned.

    Everything raises GuestMemoryError (an IndexError) where nothing is mapped, whatever the guest's own permissions
    are.
    """

    __slots__ = ("_settle", "_thread")

    def __init__(self, thread: Thread, settle: Callable[[], None] = _nothing) -> None:
        self._thread = thread
        self._settle = settle  # returns when no worker changes it

    def read(self, address: int, length: int) -> bytes:
        """Return `length` bytes at `address`. Raises ValueError for a negative length."""
        if length < 0:
            raise ValueError(f"a length is not negative: {length}")
        self._settle()
        return self._thread.memory.peek(address, length)

    def write(self, address: int, data: bytes) -> None:
        """Store `data` at `address`. Raises TypeError for what is no bytes."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"memory takes bytes, not {type(data).__name__}")
        self._settle()
        self._thread.memory.poke(address, bytes(data))

    def fill(self, address: int, length: int, value: int = 0) -> None:
        """Store `length` bytes `value` at `address`. Raises ValueError for a value that is no byte."""
        if length < 0 or not 0 <= value <= 255:
            raise ValueError(f"cannot fill {length} bytes with {value}")
        if not self._thread.memory.is_mapped(address, length):
            raise GuestMemoryError(f"{length} bytes at guest address {address:#010x} are not all mapped")
        self.write(address, bytes((value,)) * length)

    def read_u8(self, address: int) -> int:
        """Return the byte at `address`."""
        return self.read(address, 1)[0]

    def read_u16(self, address: int) -> int:
        """Return the 16-bit word at `address`."""
        return int.from_bytes(self.read(address, 2), "little")

    def read_u32(self, address: int) -> int:
        """Return the 32-bit word at `address`."""
        return int.from_bytes(self.read(address, 4), "little")

    def write_u8(self, address: int, value: int) -> None:
        """Store a byte, `value` modulo 2**8."""
        self.write(address, (value & 0xFF).to_bytes(1, "little"))

    def write_u16(self, address: int, value: int) -> None:
        """Store a 16-bit word, `value` modulo 2**16."""
        self.write(address, (value & 0xFFFF).to_bytes(2, "little"))

    def write_u32(self, address: int, value: int) -> None:
        """Store a 32-bit word, `value` modulo 2**32."""
        self.write(address, (value & 0xFFFFFFFF).to_bytes(4, "little"))

    def push(self, value: int) -> None:
        """Push a 32-bit value on the stack."""
        self._settle()
        cpu = self._thread.core.cpu
        esp = cpu.esp - 4 & 0xFFFFFFFF
        self.write_u32(esp, value)
        cpu.esp = esp

    def pop(self) -> int:
        """Pop a 32-bit value off the stack."""
        self._settle()
        cpu = self._thread.core.cpu
        value = self.read_u32(cpu.esp)
        cpu.esp = cpu.esp + 4 & 0xFFFFFFFF
        return value
