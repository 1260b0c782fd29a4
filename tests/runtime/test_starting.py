"""What a warm start does without: a short program pays for what it uses."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from aiopyvm.engine.native.aot import ahead_of_time
from aiopyvm.engine.native.codearena import unsupported
from tests.conftest import GuestPaths
from tests.native import glibc_path

# The instruction table and what is made of it, the Python engine, compilers, instruments, other commands, and what is
# long to import and was made unnecessary.
HEAVY = re.compile(
    r"""elftools|llvmlite|trio|json|pathlib|random|pkgutil
    |aiopyvm\.ir\b.*|aiopyvm\.isa\.(?!state$|vectors$|decode_faults$|cpuid$|processors$|xarea$).*|aiopyvm\.engine\.python\b.*
    |aiopyvm\.engine\.native\.(worker|compile_worker|detached|generate|handlers|decode_ir|lower.*|regions|regiontext)
    |aiopyvm\.runtime\.(hooks|instruments|steps|path|pipeline|lockstep|profile|debugger|hostdir)
    |aiopyvm\.syscalls\.(strace|table|signals|polling|time|ioctl|identity)
    |aiopyvm\.cli\.(cache|code|lockstep|pipeline)
    |aiopyvm\.host\.(files|ptrace)|aiopyvm\.kernel\.(hostfs|overlay)""",
    re.VERBOSE,
)
RUN = """
import sys
from aiopyvm.cli import main
sys.argv[1:] = ["run", "--engine", "native", sys.argv[1]]
status = main()
print(*sorted(sys.modules), file=sys.stderr)
sys.exit(status)
"""


def imported(program: str) -> list[str]:
    """Run `program` as `aiopyvm run` does; return the names of all modules that were imported."""
    done = subprocess.run([sys.executable, "-c", RUN, program], capture_output=True, check=True, timeout=60, text=True)
    assert done.stdout.lower().startswith("hello")
    return done.stderr.split()


@pytest.mark.skipif(unsupported() is not None, reason=str(unsupported()))
def test_a_warm_run_imports_what_it_uses_alone(guest: GuestPaths) -> None:
    ahead_of_time().wait(300)
    programs = [str(guest("hello"))]
    if (glibc := glibc_path("hello")) is not None:
        programs.append(str(glibc))
    for program in programs:
        imported(program)  # keeps what it translated
        names = imported(program)
        assert "aiopyvm.engine.native.engine" in names
        assert [name for name in names if HEAVY.fullmatch(name)] == []


def test_the_names_are_looked_for_as_they_are() -> None:
    for name in ("isa.insns.arith", "ir", "engine.python.code", "engine.native.lower_flags"):
        assert HEAVY.fullmatch(f"aiopyvm.{name}")
    for name in ("isa", "isa.state", "engine.native.records"):
        assert not HEAVY.fullmatch(f"aiopyvm.{name}")
