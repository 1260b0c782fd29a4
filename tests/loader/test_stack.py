"""The first stack, compared with the one that Linux gives to the same program."""

from __future__ import annotations

import ctypes
import struct
import subprocess
from pathlib import Path

import pytest

from aiopyvm.abi.errno import E2BIG, ENOMEM, Errno
from aiopyvm.isa.processors import PROCESSORS
from aiopyvm.loader.elf import parse_elf
from aiopyvm.loader.image import map_image
from aiopyvm.loader.stack import STACK_TOP, FirstStack, Identity, build_stack, check_size
from aiopyvm.loader.texts import Texts
from aiopyvm.mem.residence import SPACE_COST
from aiopyvm.mem.space import AddressSpace
from tests.loader.elves import program
from tests.mem.test_space import Limited
from tests.native import native_available

# write(1, esp, 0xffffe000 - esp); exit(0)
DUMP = bytes.fromhex("b804000000 bb01000000 89e1 ba00e0ffff 29e2 cd80 b801000000 31db cd80")
NOT_OURS = {32, 33, 51, 27, 28}  # vDSO, AT_MINSIGSTKSZ, rseq: there is none of these
CPU = {16, 26}  # AT_HWCAP and AT_HWCAP2 describe the CPU; AT_UID.. the user
WHO = {11, 12, 13, 14}
CASES = [
    (["x", "yy"], {"A": "b", "CC": "d"}),
    ([], {}),
    (["a" * n for n in range(20)], {f"E{n}": "v" * n for n in range(17)}),
    ([""], {"": ""}),
]


def ours(argv: list[bytes], envp: list[bytes], execfn: bytes) -> tuple[bytes, FirstStack]:
    space = AddressSpace()
    loaded = map_image(space, parse_elf(program(DUMP)))
    first = build_stack(space, loaded, argv, envp, execfn=execfn, random=bytes(16))
    return space.read(first.esp, STACK_TOP - first.esp), first


def words(stack: bytes) -> tuple[list[int], list[int], dict[int, int]]:
    """argv and envp pointers, and the auxiliary vector in order."""
    all_words = list(struct.unpack(f"<{len(stack) // 4}I", stack[: len(stack) & -4]))
    argc = all_words[0]
    assert all_words[argc + 1] == 0
    end = all_words.index(0, argc + 2)
    aux = iter(all_words[end + 1 :])
    auxv: dict[int, int] = {}
    for key, value in zip(aux, aux, strict=False):
        auxv[key] = value
        if key == 0:
            break
    return all_words[1 : argc + 1], all_words[argc + 2 : end], auxv


def without_randomness() -> None:
    ctypes.CDLL(None).personality(0x0040000)  # ADDR_NO_RANDOMIZE


@pytest.mark.parametrize(("args", "env"), CASES)
def test_linux_lays_the_stack_out_the_same_way(tmp_path: Path, args: list[str], env: dict[str, str]) -> None:
    if not native_available():
        pytest.skip("the host runs no i386 programs")
    path = tmp_path / "dump"
    path.write_bytes(program(DUMP))
    path.chmod(0o755)
    if "" in env:
        env = {"A": ""}
    run = subprocess.run([path, *args], env=env, capture_output=True, preexec_fn=without_randomness, check=True)
    native = run.stdout
    argv = [bytes(path), *(a.encode() for a in args)]
    envp = [f"{k}={v}".encode() for k, v in env.items()]
    mine, first = ours(argv, envp, bytes(path))
    n_argv, n_envp, n_auxv = words(native)
    argv_at, envp_at, auxv = words(mine)
    assert (argv_at, envp_at) == (n_argv, n_envp)
    assert list(auxv) == [key for key in n_auxv if key not in NOT_OURS]
    for key, value in auxv.items():
        if key not in CPU | WHO:
            assert value == n_auxv[key], f"AT_ {key}"
    strings = STACK_TOP - auxv[15]  # from AT_PLATFORM's string to the top
    assert mine[-strings:] == native[-strings:]
    assert first.esp % 16 == (STACK_TOP - len(native)) % 16 == 0


@pytest.mark.parametrize(("args", "env"), CASES)
def test_where_the_strings_are(args: list[str], env: dict[str, str]) -> None:
    argv = [b"prog", *(a.encode() for a in args)]
    envp = [f"{k}={v}".encode() for k, v in env.items()]
    stack, first = ours(argv, envp, b"/bin/prog")

    def part(start: int, end: int) -> bytes:
        return stack[start - first.esp : end - first.esp]

    assert part(first.arg_start, first.arg_end) == b"".join(a + b"\0" for a in argv)
    assert part(first.env_start, first.env_end) == b"".join(e + b"\0" for e in envp)
    assert stack.endswith(b"/bin/prog\0" + bytes(8))
    assert first.esp % 16 == 0
    assert first.auxv in stack


def test_no_arguments_become_one_empty_one() -> None:
    stack, _ = ours([], [], b"/x")
    assert struct.unpack_from("<I", stack) == (1,)


I486 = PROCESSORS["i486"]


def test_identity_is_told() -> None:
    space = AddressSpace()
    loaded = map_image(space, parse_elf(program(DUMP)))
    who = Identity(uid=1, euid=2, gid=3, egid=4)
    first = build_stack(space, loaded, [b"x"], [], execfn=b"x", random=b"R" * 16, identity=who, processor=I486)
    _, _, auxv = words(space.read(first.esp, STACK_TOP - first.esp))
    assert [auxv[key] for key in (11, 12, 13, 14, 23, 16)] == [1, 2, 3, 4, 1, I486.hwcap]
    assert space.read(auxv[25], 16) == b"R" * 16
    assert space.read_cstr(auxv[15]) == b"i486"


@pytest.mark.parametrize(("size", "fits"), [(131071, True), (131072, False)])
def test_one_string_has_at_most_32_pages(size: int, fits: bool) -> None:
    """MAX_ARG_STRLEN counts the NUL."""
    if fits:
        check_size(Texts([b"x" * size]), Texts(), b"x")
    else:
        with pytest.raises(Errno) as caught:
            check_size(Texts([b"x" * size]), Texts(), b"x")
        assert caught.value.number == E2BIG


def test_all_strings_have_a_quarter_of_the_stack_limit() -> None:
    argv = [b"x" * 9999] * 200
    check_size(Texts(argv), Texts(), b"x")
    for limit in (4 << 20, 1 << 20):
        with pytest.raises(Errno):
            check_size(Texts(argv), Texts(), b"x", limit)
    check_size(Texts([b"x" * 100000]), Texts(), b"x", 0)
    with pytest.raises(Errno):
        check_size(Texts([b""] * 1_000_000), Texts(), b"x", 1 << 40)


def test_big_arguments_get_a_big_stack() -> None:
    stack, first = ours([b"x" * 100000] * 15, [b"y" * 100000] * 5, b"/x")
    assert len(stack) > 2_000_000
    assert words(stack)[0][0] == first.arg_start


def test_a_refused_stack_is_enomem() -> None:
    space = AddressSpace(Limited(SPACE_COST + 2 * 4096))
    loaded = map_image(space, parse_elf(program(DUMP)))
    with pytest.raises(Errno) as caught:
        build_stack(space, loaded, [b"x" * 20000], [], execfn=b"x", random=bytes(16))
    assert caught.value.number == ENOMEM
