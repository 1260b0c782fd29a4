"""Objects of generated code: what is loaded runs, what is damaged or not supported is refused, pages are never both."""

from __future__ import annotations

import ctypes
import errno
import random
import re
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from aiopyvm.engine.native.codearena import FIXED_END, FIXED_START, PAGE, CodeArena, LinuxMemory, unsupported
from aiopyvm.engine.native.objectfile import BadObjectError, LoadedObject, ObjectFile, load, place
from aiopyvm.engine.native.worker import Compiler, Options
from aiopyvm.errors import EngineUnavailableError, HostRefusedError

pytestmark = pytest.mark.skipif(unsupported() is not None, reason=str(unsupported()))
pytest.importorskip("llvmlite")

SIZE = FIXED_END + (1 << 20)
TEXT = """
@code_base = external hidden global i8
declare hidden i64 @outer(i64)
define i64 @base() {
  ret i64 ptrtoint (ptr @code_base to i64)
}
define i64 @call(i64 %x) {
  %y = call i64 @outer(i64 %x)
  %z = call i64 @twice(i64 %y)
  ret i64 %z
}
define i64 @twice(i64 %x) noinline {
  %y = add i64 %x, %x
  ret i64 %y
}
define i32 @choose(i32 %x) {
  switch i32 %x, label %d [i32 0, label %a i32 1, label %b i32 2, label %c i32 3, label %e i32 4, label %a]
a: ret i32 10
b: ret i32 17
c: ret i32 33
e: ret i32 2
d: ret i32 -1
}
"""
OUTER = "define i64 @outer(i64 %x) {\n %y = add i64 %x, 7\n ret i64 %y\n}"


@pytest.fixture(scope="module")
def compiler() -> Iterator[Compiler]:
    compiler = Compiler()
    yield compiler
    compiler.close()


@pytest.fixture
def arena() -> Iterator[CodeArena]:
    arena = CodeArena(SIZE)
    yield arena
    arena.close()


@pytest.fixture(scope="module")
def outer(compiler: Compiler) -> bytes:
    return compiler.compile(OUTER)


@pytest.fixture(scope="module")
def data(compiler: Compiler) -> bytes:
    return compiler.compile(TEXT, Options(level=2))


def call(loaded: LoadedObject, name: str, *arguments: int) -> int:
    result: int = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * len(arguments))(loaded.address(name))(*arguments)
    return result


def access(address: int) -> str:
    """What the host lets be done with the page at `address`: "rw-p", ..."""
    with open("/proc/self/maps") as file:
        for line in file:
            start, end, kind = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+)", line).groups()
            if int(start, 16) <= address < int(end, 16):
                return kind
    return "not mapped"


# --- what is loaded runs ----------------------------------------------------------------------------------------------


def test_an_object_runs_where_it_was_put(arena: CodeArena, data: bytes, outer: bytes) -> None:
    first = load(outer, {}, arena)
    loaded = load(data, first.symbols, arena)
    assert call(loaded, "base") == arena.base
    assert call(loaded, "call", 5) == 24
    assert [call(loaded, "choose", x) & 0xFFFFFFFF for x in range(6)] == [10, 17, 33, 2, 10, 0xFFFFFFFF]
    assert loaded.symbols.keys() == {"base", "call", "twice", "choose"}
    assert all(loaded.at <= place < loaded.at + loaded.size for place in loaded.symbols.values())


def test_an_image_is_linked_once_for_its_place(arena: CodeArena, data: bytes, outer: bytes) -> None:
    first = place(ObjectFile(outer).link(FIXED_START, {}), arena)
    image = ObjectFile(data).link(FIXED_START + PAGE, first.symbols)
    assert call(place(image, arena), "call", 1) == 16
    for at in (FIXED_START, FIXED_START + 1, 0, FIXED_END, FIXED_END - PAGE // 2):
        with pytest.raises(ValueError, match="code arena"):
            place(ObjectFile(data).link(at, first.symbols), arena)


def test_code_is_never_writable(arena: CodeArena, outer: bytes) -> None:
    loaded = load(outer, {}, arena)
    assert access(loaded.address("outer")) == "r-xp"
    assert access(arena.base) == "---p"
    loaded.free()
    assert access(arena.base + loaded.at) == "---p"


def test_pages_are_writable_only_while_nobody_can_run_them(arena: CodeArena) -> None:
    seen = []

    class Watched(LinuxMemory):
        def make_writable(self, address: int, size: int) -> None:
            super().make_writable(address, size)
            seen.append(access(address))

        def make_executable(self, address: int, size: int) -> None:
            super().make_executable(address, size)
            seen.append(access(address))

    watched = CodeArena(SIZE, Watched())
    at = watched.allocate(5000)
    watched.fill(at, bytes(5000))
    watched.close()
    assert seen == ["rw-p", "r-xp"]


SPIN = """
define i64 @spin(ptr %stop) {
  br label %again
again:
  %n = phi i64 [0, %0], [%m, %again]
  %m = add i64 %n, 1
  %x = load volatile i32, ptr %stop
  %over = icmp ne i32 %x, 0
  br i1 %over, label %out, label %again
out:
  ret i64 %m
}"""


def test_neighbours_run_on_while_objects_come_and_go(arena: CodeArena, compiler: Compiler, outer: bytes) -> None:
    spin = load(compiler.compile(SPIN), {}, arena)
    stop = ctypes.c_int32(0)
    counts: list[int] = []
    function = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(spin.address("spin"))
    threads = [threading.Thread(target=lambda: counts.append(function(ctypes.addressof(stop)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    held = []
    for n in range(300):
        held.append(load(outer, {}, arena))
        assert call(held[-1], "outer", n) == n + 7
        if n % 3 == 2:
            held.pop(n % len(held)).free()
    stop.value = 1
    for thread in threads:
        thread.join(60)
    assert len(counts) == 2
    assert min(counts) > 0


# --- the arena --------------------------------------------------------------------------------------------------------


def test_ranges_do_not_overlap_and_come_back() -> None:

    arena = CodeArena(FIXED_END + 64 * PAGE)
    rng = random.Random(1)
    held: dict[int, int] = {}
    for _ in range(2000):
        if held and rng.random() < 0.5:
            at = rng.choice(list(held))
            arena.free(at, held.pop(at))
            continue
        size = rng.randrange(1, 6 * PAGE)
        try:
            at = arena.allocate(size)
        except HostRefusedError:
            assert arena.used >= 10 * PAGE  # less leaves six pages in a row somewhere
            continue
        end = at + -(-size // PAGE) * PAGE
        assert at % PAGE == 0
        assert FIXED_END <= at < end <= arena.size
        assert all(end <= other or other + length <= at for other, length in held.items())
        held[at] = end - at
        assert arena.used == sum(held.values())
    for at, size in held.items():
        arena.free(at, size)
    assert arena.allocate(64 * PAGE) == FIXED_END
    arena.close()


class Refusing(LinuxMemory):
    def __init__(self, number: int, when: str) -> None:
        super().__init__()
        self.number, self.when = number, when

    def reserve(self, size: int) -> int:
        if self.when == "reserve":
            raise OSError(self.number, "refused")
        return super().reserve(size)

    def make_executable(self, address: int, size: int) -> None:
        if self.when == "execute":
            raise OSError(self.number, "refused")
        super().make_executable(address, size)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM])
def test_no_executable_memory_is_told(number: int, outer: bytes) -> None:
    arena = CodeArena(SIZE, Refusing(number, "execute"))
    with pytest.raises(EngineUnavailableError, match="executable"):
        load(outer, {}, arena)
    assert arena.used == 0
    assert access(arena.base + FIXED_END) == "---p"
    image = ObjectFile(outer).link(FIXED_START, {})
    for _ in range(2):
        with pytest.raises(EngineUnavailableError, match="executable"):
            place(image, arena)
    arena.close()


@pytest.mark.parametrize("when", ["reserve", "execute"])
def test_no_memory_is_told(when: str, outer: bytes) -> None:
    with pytest.raises(HostRefusedError) as caught:
        load(outer, {}, CodeArena(SIZE, Refusing(errno.ENOMEM, when)))
    assert caught.value.errno == errno.ENOMEM


REFUSED_BY_THE_KERNEL = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(65, 1, 0, 0, 0):  # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN
    print("no MDWE")
    raise SystemExit
from aiopyvm.engine.native.codearena import CodeArena
from aiopyvm.errors import EngineUnavailableError
arena = CodeArena()
try:
    arena.fill(arena.allocate(1), b"x")
except EngineUnavailableError as error:
    print("refused:", error)
"""


def test_a_kernel_that_refuses_executable_memory() -> None:
    output = subprocess.run([sys.executable, "-c", REFUSED_BY_THE_KERNEL], capture_output=True, text=True, check=True)
    if "no MDWE" in output.stdout:
        pytest.skip("this kernel has no PR_SET_MDWE")
    assert output.stdout.startswith("refused: the host allows no executable memory"), output


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("@x = global i32 1\ndefine ptr @f() {\n ret ptr @x\n}", "section .data"),
        ("@x = global [4096 x i8] zeroinitializer\ndefine ptr @f() {\n ret ptr @x\n}", "section .bss"),
        ("declare i64 @missing(i64)\ndefine i64 @f() {\n %x = call i64 @missing(i64 1)\n ret i64 %x\n}", "'missing'"),
        ("@x = external global i8\ndefine ptr @f() {\n ret ptr @x\n}", "'x'"),
        ("@code_base = external global i8\ndefine ptr @f() {\n ret ptr @code_base\n}", "R_X86_64_REX_GOTPCRELX"),
        ("define double @f(double %x) {\n %y = frem double %x, 3.0\n ret double %y\n}", "'fmod'"),
        ("@x = thread_local global i32 1\ndefine i32 @f() {\n %y = load i32, ptr @x\n ret i32 %y\n}", "section .tdata"),
        ("@t = hidden constant ptr @f\ndefine void @f() {\n ret void\n}", "section .data.rel.ro"),
        ("@x = external global i8", "no code"),
    ],
)
def test_what_is_not_supported_is_refused(compiler: Compiler, arena: CodeArena, text: str, what: str) -> None:
    data = compiler.compile(text)
    with pytest.raises(BadObjectError, match=re.escape(what)):
        load(data, {}, arena)
    assert arena.used == 0


def test_constants_are_loaded(compiler: Compiler, arena: CodeArena) -> None:
    text = """
@t = hidden constant [3 x i64] [i64 5, i64 6, i64 7]
define i64 @f(i64 %n) {
  %p = getelementptr i64, ptr @t, i64 %n
  %x = load i64, ptr %p
  ret i64 %x
}"""
    loaded = load(compiler.compile(text), {}, arena)
    assert [call(loaded, "f", n) for n in range(3)] == [5, 6, 7]
    at, size = loaded.sections[".rodata"]
    assert (at, size) == (loaded.symbols["t"], 24)


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"\x7fELF\x02\x01\x01" + bytes(57), b"MZ" + bytes(100)])
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(BadObjectError):
        ObjectFile(data)


def test_a_distance_that_does_not_fit_is_refused(arena: CodeArena, data: bytes) -> None:
    with pytest.raises(BadObjectError, match="does not fit"):
        load(data, {"outer": 1 << 40}, arena)


def test_no_damage_does_more_than_a_typed_error(data: bytes) -> None:
    """Every byte of the heads and tables, and random ones: an image that stays in its bounds, or BadObjectError."""
    rng = random.Random(2)
    places = [*range(64), *(rng.randrange(len(data)) for _ in range(1500))]
    refused = 0
    for at in places:
        damaged = bytearray(data)
        damaged[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, damaged[at] ^ 1 << rng.randrange(8)))
        if rng.random() < 0.2:
            del damaged[rng.randrange(len(damaged)) :]
        try:
            found = ObjectFile(bytes(damaged))
            image = found.link(FIXED_END, {"outer": FIXED_START})
        except BadObjectError:
            refused += 1
            continue
        assert len(image.code) == found.size <= len(data) + (1 << 20)
        assert all(FIXED_END <= where <= FIXED_END + found.size for where in image.symbols.values())
    assert refused > 100


def test_sizes_out_of_this_world_are_refused(data: bytes) -> None:
    table = struct.unpack_from("<Q", data, 40)[0]
    count = struct.unpack_from("<H", data, 60)[0]
    for section in range(count):
        for field in (24, 32, 48):  # offset, size, alignment
            for value in (1 << 63, (1 << 64) - 1, 1 << 32):
                damaged = bytearray(data)
                struct.pack_into("<Q", damaged, table + 64 * section + field, value)
                try:
                    assert ObjectFile(bytes(damaged)).size < 1 << 20
                except BadObjectError:
                    pass
