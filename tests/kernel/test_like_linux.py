"""Programs that print what each call returned and what each handler saw: the guest's bytes are the host's."""

from __future__ import annotations

import os
import re

import pytest

from aiopyvm import VM
from tests.native import NativeRun, glibc_path

_EXTENDED = ("xstatecalls",)  # programs that need what the default processor lacks
ROOTS = (
    "xattrcalls",
    "setidcalls",
    "proccalls",
    "threadidcalls",
    "leasebreaks",
    "threadprocs",
    "iopriocalls",
    "mqueuefiles",
    "openattributes",
)
_NICE = re.compile("priority|nice")


@pytest.mark.native
@pytest.mark.anyio
@pytest.mark.parametrize(
    "name",
    [
        "memorycalls",
        "signalcalls",
        "processcalls",
        "filecalls2",
        "waitcalls",
        "pythoncalls",
        "futexcalls",
        "lifecalls",
        "rawcalls",
        "busycalls",
        "vectorcalls",
        "unixcalls",
        "inetcalls",
        "multicalls",
        "udplitecalls",
        "urgentcalls",
        "unixurgent",
        "packetcalls",
        "packetpipes",
        "optcalls",
        "xstatecalls",
        "eventcalls",
        "timercalls",
        "ptycalls",
        "jobcalls",
        "ipccalls",
        "mqcalls",
        "inotifycalls",
        "walkcalls",
        "ptracecalls",
        "debugcalls",
        "corecalls",
        "bigcore",
        "sysctlcalls",
        "advicecalls",
        "offsetcalls",
        "manyargs",
        "requeuecalls",
        "rseqcalls",
        "synccalls",
        "leasecalls",
        "sigiocalls",
        "sharedfiles",
        "recvcalls",
    ],
)
async def test_calls_answer_as_the_host_does(name: str, native: NativeRun) -> None:
    path = glibc_path(name)
    if path is None:
        pytest.skip("gcc -m32 is not there")
    cpu = "max" if name in _EXTENDED else "default"
    result = await VM(root={"tmp": {}}, clock="virtual", cpu=cpu).run_elf(path, argv0=name)
    for _ in range(3):  # the host's clock is real: on a busy host a wait may take longer than the program allows for
        expected = native(path, argv0=name)
        if expected.stdout == result.stdout:
            break
    assert result.ok == (expected.returncode == 0), f"{result.reason} {result.detail}"
    assert _lines(result.stdout) == _lines(expected.stdout)
    assert result.returncode == expected.returncode
    assert not result.unknown_syscalls


@pytest.mark.native
@pytest.mark.anyio
@pytest.mark.parametrize(
    "name", ["xattrcalls", "setidcalls", "proccalls", "threadidcalls", "leasebreaks", "threadprocs", "openattributes"]
)
async def test_what_root_may_is_what_it_may_on_the_host(name: str, native: NativeRun) -> None:
    if os.geteuid():
        pytest.skip("the program needs root on the host")
    path = glibc_path(name)
    if path is None:
        pytest.skip("gcc -m32 is not there")
    result = await VM(root={"tmp": {}}, clock="virtual", user=0).run_elf(path)
    assert result.stdout == native(path).stdout


@pytest.mark.native
@pytest.mark.anyio
@pytest.mark.parametrize("cpu", ["pentium3", "max"])  # their signal frames end with what FXSAVE and XSAVE store
async def test_signal_frames_keep_vector_registers(cpu: str, native: NativeRun) -> None:
    path = glibc_path("vectorcalls")
    if path is None:
        pytest.skip("gcc -m32 is not there")
    result = await VM(root={"tmp": {}}, clock="virtual", cpu=cpu).run_elf(path, argv0="vectorcalls")
    assert result.stdout == native(path, argv0="vectorcalls").stdout


def _lines(output: bytes | None) -> list[str]:
    """The lines; without those that show the priority, where these tests run with another than the usual one."""
    return [line for line in (output or b"").decode().splitlines() if not os.nice(0) or not _NICE.search(line)]
