"""The object that is built ahead of time has a handler for what guests execute."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiopyvm import VM, Reason
from aiopyvm.engine.native.commonshapes import SHAPES
from aiopyvm.engine.native.engine import NativeEngine
from aiopyvm.engine.native.handlers import Shape
from aiopyvm.engine.native.handlertable import HandlerTable
from aiopyvm.engine.native.records import Form
from aiopyvm.engine.protocol import Core
from aiopyvm.isa.decode import decode
from aiopyvm.isa.insn import Insn
from aiopyvm.runtime import machine
from tests.conftest import GuestPaths
from tests.engine.common_shapes import guests, instructions
from tests.engine.engines import native_handlers
from tests.guests.programs import COMMITTED, Program


def test_every_instruction_of_the_committed_guests_has_a_common_shape() -> None:
    names = {Shape(decode(bytes.fromhex(code))).name for code in SHAPES.split()}
    missing = {
        f"{path.name}: {insn.code.hex()} {insn.row}"
        for path in guests()
        for code, insn in {insn.code: insn for insn in instructions(path)}.items()
        if Shape(insn).name not in names
    }
    assert not missing


def test_the_list_names_each_shape_once() -> None:
    names = [Shape(decode(bytes.fromhex(code))).name for code in SHAPES.split()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    "code",
    [
        "ff248500a00408",  # jmp [eax*4+0x804a000]
        "010c8500a00408",  # add [eax*4+0x804a000], ecx
        "d36b08",  # shr dword ptr [ebx+8], cl
        "8b4c8308",  # mov ecx, [ebx+eax*4+8]
        "0fb63408",  # movzx esi, byte ptr [eax+ecx]
    ],
)
def test_usual_addresses_are_there(code: str) -> None:
    assert Shape(decode(bytes.fromhex(code))).name in native_handlers().symbols


class Watched(HandlerTable):
    """Remembers the instructions that Python executed because their handler was not there yet."""

    def __init__(self, table: HandlerTable) -> None:
        super().__init__(table.loaded)
        self.used: set[str] = set()
        self.shapes: dict[str, str] = {}

    def form(self, insn: Insn) -> Form:
        form = super().form(insn)
        self.shapes[form.missing] = f"{insn.code.hex()} {insn.row}"
        return form

    def use(self, name: str, core: Core, allowed: frozenset[str] | None = None, *, hurry: bool = False) -> None:
        self.used.add(self.shapes[name])


@pytest.mark.anyio
async def test_guests_execute_nothing_that_has_no_handler_yet(
    guest: GuestPaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = Watched(native_handlers())
    monkeypatch.setitem(machine._engines, "native", NativeEngine(lambda: watched))
    programs: tuple[Program, ...] = (*COMMITTED, Program("fib", ("5",)), Program("bytecode", ("5",)))
    for program in programs:
        path: Path = guest(program.name)
        result = await VM(engine="native").run_elf(path, *program.args, stdin=program.stdin)
        assert result.reason in (Reason.EXITED, Reason.SIGNALED), program
    assert not watched.used
