"""System calls, said once: `@syscall(number, name, man=...)` over a typed handler.

    @syscall(331, "pipe2", man="pipe(2)")
    def pipe2(t: Thread, fds: Out[FdPair], flags: PipeFlags) -> int: ...

How it works. A handler's annotations are its signature. The first parameter is the calling thread; each further one
takes the next argument registers (EBX ECX EDX ESI EDI EBP): one, or two for `I64` and `U64` (low word first). On a
row's first call the annotations are compiled into one Python function that decodes all arguments; the same
annotations give the strace text (`strace.py`). `TABLE` holds every row.

What always holds. Decoding eagerly reads only paths and strings (`CStr`: EFAULT, ENAMETOOLONG); every other pointer
becomes an `In`, `Out`, `InOut`, `Array` or `Iovec` object, or a plain address, and is read or written when the
handler asks for it, so that errors come in Linux's order. A handler returns its result (0 <= n < 2**32), raises
`Errno` or lets `MemoryFault` (EFAULT) through, or returns a `Wait`. It is then called again with the same decoded
arguments; `t.call` is its progress record.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Generic, TypeVar, get_args, get_origin

from aiopyvm.abi.errno import EINVAL, ENAMETOOLONG, Errno
from aiopyvm.abi.layout import CODECS, Codec

if TYPE_CHECKING:
    from aiopyvm.kernel.thread import Thread
    from aiopyvm.kernel.wait import Wait

    Handler = Callable[..., "int | Wait"]
    # Takes the thread and its EBX, which is a descriptor, ECX and EDX; returns how many bytes it moved, which is the
    # call's result. Where that is negative, or it raises Errno or MemoryFault, nothing was done, and the handler finds
    # out what there is to do; nothing was done either where it returns what the call waits for.
    AtOnce = Callable[[Thread, int, int, int], int | Wait]

T = TypeVar("T")
H = TypeVar("H", bound=Callable[..., Any])

PATH_MAX: Final = 4096
IOV_MAX: Final = 1024
MAX_RW_COUNT: Final = 0x7FFFF000  # most bytes that one read or write moves (read(2))


# --- kinds: how an argument is decoded (here) and shown (strace.py, by the kind's class) ------------------------------


Names = Mapping[int, str] | Mapping[str, int]  # of flags or values, either way round


def _by_value(names: Names) -> dict[int, str]:
    pairs: list[tuple[Any, Any]] = list(names.items())
    return dict(pairs) if pairs and isinstance(pairs[0][0], int) else {b: a for a, b in pairs}


class Kind:
    """How one parameter is decoded: `slots` argument registers, and an expression over `t` and `a` for its value."""

    slots = 1

    def source(self, i: int, ref: str) -> str:
        """Return the expression for the value whose first register is a[i]; `ref` names this kind in its namespace."""
        return f"a[{i}]"


class Unsigned(Kind):
    """A 32-bit word as it is; shown in decimal, or as `style` says: "d", "x", "o"."""

    def __init__(self, style: str = "d") -> None:
        self.style = style


class Pointer(Kind):
    """An address that the handler uses itself; shown as 0x... or NULL."""


class Signed(Kind):
    """A 32-bit two's complement integer."""

    def source(self, i: int, ref: str) -> str:
        return f"(a[{i}] ^ 0x80000000) - 0x80000000"


class FdKind(Signed):
    """A file descriptor; `at` allows AT_FDCWD."""

    def __init__(self, *, at: bool = False) -> None:
        self.at = at


class SignalKind(Signed):
    """A signal number, shown by name."""


class Wide(Kind):
    """A 64-bit integer in two registers, low word first."""

    slots = 2

    def __init__(self, *, signed: bool) -> None:
        self.signed = signed

    def source(self, i: int, ref: str) -> str:
        word = f"(a[{i}] | a[{i + 1}] << 32)"
        return f"({word} ^ 0x8000000000000000) - 0x8000000000000000" if self.signed else word


class Flags(Kind):
    """A set of flags, shown by name; other bits in hexadecimal. `zero` is what 0 is called.

    The bits of `field` are one number, which is called `zero` when it is 0 and others are not.
    """

    def __init__(self, names: Names, *, zero: str = "0", field: int = 0) -> None:
        self.names = _by_value(names)
        self.zero = zero
        self.field = field


class Choice(Kind):
    """One value of an enumeration, shown by name."""

    def __init__(self, names: Names, *, signed: bool = True) -> None:
        self.names = _by_value(names)
        self.signed = signed

    def source(self, i: int, ref: str) -> str:
        return f"(a[{i}] ^ 0x80000000) - 0x80000000" if self.signed else f"a[{i}]"


class SocketType(Kind):
    """A type of socket with SOCK_NONBLOCK and SOCK_CLOEXEC, shown by name."""


class PathKind(Kind):
    """A NUL-terminated string, read at once: EFAULT, ENAMETOOLONG; NULL is None when `optional`, else EFAULT."""

    def __init__(self, *, optional: bool = False) -> None:
        self.optional = optional

    def source(self, i: int, ref: str) -> str:
        read = f"read_path(t, a[{i}])"
        return f"({read} if a[{i}] else None)" if self.optional else read


class BufferIn(Kind):
    """The address of bytes that the call takes; their count is the next argument. Shown as a string."""


class BufferOut(Kind):
    """The address of bytes that the call fills in; its result is their count. Shown as a string."""


class StringVector(Kind):
    """The address of a NULL-terminated array of strings (execve(2))."""


class Reference(Kind):
    """A pointer to a structure: `wrapper` is In, Out, InOut, Array."""

    def __init__(self, wrapper: type[Any], codec: Codec[Any]) -> None:
        self.wrapper = wrapper
        self.codec = codec

    def source(self, i: int, ref: str) -> str:
        return f"{ref}.wrapper(t, a[{i}], {ref}.codec)"


class IovecKind(Kind):
    """A pointer to an array of struct iovec, with the count in the next register (shown, and passed too)."""

    def __init__(self, *, out: bool) -> None:
        self.out = out

    def source(self, i: int, ref: str) -> str:
        return f"Iovec(t, a[{i}], (a[{i + 1}] ^ 0x80000000) - 0x80000000)"


# --- the annotations that handlers use --------------------------------------------------------------------------------

I32 = Annotated[int, Signed()]
U32 = Annotated[int, Unsigned()]
Hex = Annotated[int, Unsigned("x")]
Mode = Annotated[int, Unsigned("o")]
I64 = Annotated[int, Wide(signed=True)]
U64 = Annotated[int, Wide(signed=False)]
Size = Annotated[int, Unsigned()]
Ptr = Annotated[int, Pointer()]
Fd = Annotated[int, FdKind()]
DirFd = Annotated[int, FdKind(at=True)]
Pid = Annotated[int, Signed()]
Signo = Annotated[int, SignalKind()]
CStr = Annotated[bytes, PathKind()]
OptCStr = Annotated[bytes | None, PathKind(optional=True)]
InBuffer = Annotated[int, BufferIn()]
OutBuffer = Annotated[int, BufferOut()]
Strings = Annotated[int, StringVector()]

_SCALARS: Final[dict[tuple[type[Kind], bool], str]] = {
    (Signed, False): "<i",
    (FdKind, False): "<i",
    (Unsigned, False): "<I",
    (Pointer, False): "<I",
    (Wide, True): "<q",
    (Wide, False): "<Q",
}


class GuestPointer(Generic[T]):
    """A pointer to structures in the memory of `thread`. False when NULL."""

    __slots__ = ("_codec", "_thread", "address")

    def __init__(self, thread: Thread, address: int, codec: Codec[T]) -> None:
        self._thread = thread
        self.address = address
        self._codec = codec

    def __bool__(self) -> bool:
        return self.address != 0


class In(GuestPointer[T]):
    """A pointer to a structure that the call reads."""

    __slots__ = ()

    def get(self) -> T:
        """Read the structure. Raises MemoryFault."""
        return self._codec.unpack(self._thread.memory.read(self.address, self._codec.size))


class Out(GuestPointer[T]):
    """A pointer to a structure that the call fills in."""

    __slots__ = ()

    def put(self, value: T) -> None:
        """Write the structure. Raises MemoryFault."""
        self._thread.memory.write(self.address, self._codec.pack(value))


class InOut(In[T], Out[T]):
    """A pointer to a structure that the call reads and writes."""

    __slots__ = ()


class Array(GuestPointer[T]):
    """A pointer to an array of structures; their count is another argument."""

    __slots__ = ()

    def get(self, count: int) -> list[T]:
        """Read `count` elements (the caller bounds it). Raises MemoryFault."""
        return self._codec.unpack_all(self._thread.memory.read(self.address, count * self._codec.size)) if count else []

    def put(self, values: list[T], first: int = 0) -> None:
        """Write `values` from element `first` on. Raises MemoryFault."""
        if values:
            pack = self._codec.pack
            self._thread.memory.write(self.address + first * self._codec.size, b"".join([pack(v) for v in values]))


class Iovec:
    """An array of struct iovec and its count (readv(2))."""

    __slots__ = ("_thread", "address", "count")

    def __init__(self, thread: Thread, address: int, count: int) -> None:
        self._thread = thread
        self.address = address
        self.count = count

    def get(self) -> list[tuple[int, int]]:
        """Read the (base, length) pairs, cut off at MAX_RW_COUNT bytes in all.

        Raises Errno(EINVAL) for more than IOV_MAX pairs or a length over 2 GiB, and MemoryFault.
        """
        if not 0 <= self.count <= IOV_MAX:
            raise Errno(EINVAL)
        words = self._thread.memory.read(self.address, 8 * self.count) if self.count else b""
        values = memoryview(words).cast("I").tolist()
        pairs = []
        left = MAX_RW_COUNT
        for base, length in zip(values[::2], values[1::2], strict=True):
            if length > 0x7FFFFFFF:
                raise Errno(EINVAL)
            pairs.append((base, min(length, left)))
            left -= pairs[-1][1]
        return pairs


InIovec = Annotated[Iovec, IovecKind(out=False)]
OutIovec = Annotated[Iovec, IovecKind(out=True)]


def read_path(t: Thread, address: int) -> bytes:
    """Read a path name of at most PATH_MAX bytes with its NUL. Raises MemoryFault and Errno(ENAMETOOLONG)."""
    return read_string(t, address, PATH_MAX, ENAMETOOLONG)


def read_string(t: Thread, address: int, limit: int, too_long: int) -> bytes:
    """Read a string of at most `limit` bytes with its NUL. Raises MemoryFault and Errno(`too_long`)."""
    text = t.memory.read_cstr(address, limit)
    if len(text) >= limit:
        raise Errno(too_long)
    return text


# --- the table --------------------------------------------------------------------------------------------------------


class Syscall:
    """One row: number, name, manual page and handler; `decode` and `kinds` are compiled when first needed."""

    __slots__ = ("_kinds", "decode", "handler", "hex_result", "man", "name", "note", "number", "refusal")

    def __init__(self, number: int, name: str, man: str, handler: Handler, hex_result: bool, note: str = "") -> None:
        self.number = number
        self.name = name
        self.man = man
        self.handler = handler
        self.hex_result = hex_result
        self.note = note  # what a program must not expect of it; empty: it is all there
        self.refusal = 0  # the error of a call that is refused on purpose; `note` says why
        self._kinds: tuple[Kind, ...] | None = None
        # Turns (thread, argument registers) into the handler's arguments. Raises Errno and MemoryFault.
        self.decode: Callable[[Thread, tuple[int, ...]], tuple[Any, ...]] = self._compile_and_decode

    def __repr__(self) -> str:
        return f"<syscall {self.number} {self.name}>"

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of the handler's parameters, the thread left out."""
        if self._kinds is None:
            self._kinds = _kinds_of(self.handler)
        return self._kinds

    @property
    def waits(self) -> bool:
        """Whether the handler can return a `Wait`, as its return annotation says."""
        return "Wait" in str(self.handler.__annotations__.get("return", ""))

    def _compile_and_decode(self, t: Thread, a: tuple[int, ...]) -> tuple[Any, ...]:
        namespace: dict[str, Any] = {"read_path": read_path, "Iovec": Iovec}
        parts, register = [], 0
        for n, kind in enumerate(self.kinds):
            namespace[f"k{n}"] = kind
            parts.append(kind.source(register, f"k{n}"))
            register += kind.slots
        if register > 6:
            raise TypeError(f"{self.name}: {register} argument registers, 6 exist")
        code = compile(f"lambda t, a: ({''.join(part + ', ' for part in parts)})", f"<syscall {self.name}>", "eval")
        self.decode = eval(code, namespace)
        return self.decode(t, a)


REFUSED: Final = "aiopyvm.syscalls.refused"  # the module of all calls that are refused on purpose
TABLE: Final[dict[int, Syscall]] = {}
AT_ONCE: Final[dict[int, AtOnce]] = {}  # by number; see `syscall`


def syscall(
    number: int, name: str, *, man: str, hex_result: bool = False, at_once: AtOnce | None = None, note: str = ""
) -> Callable[[H], H]:
    """Enter a handler in the table. `hex_result`: strace shows the result as an address. `at_once` is tried first: it
    does what the handler would, for a call that moves bytes and neither waits nor fails. `note` says what is missing,
    for the page of system calls.

    Decorators may be stacked where two numbers share one meaning. Raises ValueError when the number is taken.
    """

    def register(handler: H) -> H:
        if number in TABLE:
            raise ValueError(f"system call {number} is {TABLE[number].name} already, not {name}")
        TABLE[number] = Syscall(number, name, man, handler, hex_result, note)
        if at_once is not None:
            AT_ONCE[number] = at_once
        return handler

    return register


def refuse(number: int, name: str, error: int, note: str, *, man: str) -> None:
    """Enter a call that always fails with `error`, on purpose; `note` says why. Raises ValueError as `syscall`."""

    def refused(t: Thread, first: Hex, second: Hex, third: Hex, fourth: Hex, fifth: Hex) -> int:
        """Refuse."""
        raise Errno(error)

    refused.__module__ = REFUSED
    syscall(number, name, man=man, note=note)(refused)
    TABLE[number].refusal = error


def _kinds_of(handler: Handler) -> tuple[Kind, ...]:
    names = [name for name in handler.__annotations__ if name != "return"][1:]
    hints = eval(f"({''.join(handler.__annotations__[name] + ', ' for name in names)})", handler.__globals__)
    return tuple(_kind_of(hint, f"{handler.__name__}({name})") for name, hint in zip(names, hints, strict=True))


def _kind_of(hint: Any, where: str) -> Kind:
    for extra in getattr(hint, "__metadata__", ()):
        if isinstance(extra, Kind):
            return extra
    origin = get_origin(hint)
    if origin in (In, Out, InOut, Array):
        return Reference(origin, _codec_of(get_args(hint)[0], where))
    raise TypeError(f"{where}: {hint!r} is no kind of system call argument")


def _codec_of(hint: Any, where: str) -> Codec[Any]:
    if hint in CODECS:
        return CODECS[hint]
    kind = _kind_of(hint, where)
    fmt = _SCALARS.get((type(kind), getattr(kind, "signed", False)))
    if fmt is None:
        raise TypeError(f"{where}: {hint!r} has no byte layout")
    return Codec(int, fmt, scalar=True)
