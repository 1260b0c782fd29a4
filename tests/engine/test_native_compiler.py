"""The compile worker: jobs end in order, each with an object or an error of its own; nothing of it outlives us."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from aiopyvm.engine.native.codearena import unsupported
from aiopyvm.engine.native.objectfile import ObjectFile
from aiopyvm.engine.native.worker import CompileError, Compiler, Job, Options
from tests.engine.test_native_objects import OUTER

pytestmark = pytest.mark.skipif(unsupported() is not None, reason=str(unsupported()))
pytest.importorskip("llvmlite")


@pytest.fixture(scope="module")
def compiler() -> Iterator[Compiler]:
    compiler = Compiler()
    yield compiler
    compiler.close()


def generated(name: str, cpu_seconds: float = 20.0) -> Job:
    return Job("", generator=f"tests.engine.worker_jobs:{name}", cpu_seconds=cpu_seconds, callback=lambda job: None)


def test_llvm_s_complaints_are_the_job_s_alone(compiler: Compiler) -> None:
    assert compiler.compile(OUTER)
    started = compiler.started
    with pytest.raises(CompileError, match="expected top-level entity"):
        compiler.compile("nonsense")
    with pytest.raises(CompileError, match="no_such"):
        compiler.compile(OUTER, Options(passes=("no_such",)))
    assert compiler.compile(OUTER)
    assert compiler.started == started


def test_passes_are_run(compiler: Compiler) -> None:
    text = "define i32 @f(i32 %x) {\n %p = alloca i32\n store i32 %x, ptr %p\n %y = load i32, ptr %p\n ret i32 %y\n}"
    plain = compiler.compile(text, Options(codegen=0))
    small = compiler.compile(text, Options(codegen=0, passes=("sroa",)))
    assert ObjectFile(small).size < ObjectFile(plain).size
    assert ObjectFile(compiler.compile(text, Options(level=2))).size < ObjectFile(plain).size


def test_jobs_end_in_order_and_are_polled(compiler: Compiler) -> None:
    compiler.poll()
    seen: list[Job] = []
    jobs = [compiler.submit(OUTER.replace("7", str(n))) for n in range(3)]
    last = compiler.submit(OUTER, callback=seen.append)
    assert last.result(60)
    polled = compiler.poll()
    assert polled == jobs
    assert seen == [last]
    assert all(job.done and job.result() for job in jobs)
    assert compiler.poll() == []
    assert compiler.pending == 0


def test_a_worker_that_dies_fails_its_job_alone() -> None:
    compiler = Compiler()
    with pytest.raises(CompileError, match="died of SIGKILL"):
        compiler.submit_job(generated("kill")).result(60)
    assert compiler.compile(OUTER, timeout=60)
    assert compiler.started == 2
    compiler.close()


def test_an_internal_error_of_llvm_ends_the_worker_alone() -> None:
    """Assembly that there is not: LLVM's code generator ends the process that it is in."""
    compiler = Compiler()
    text = """
define i32 @f() {
  %y = call i32 asm "bogus $0", "=r"()
  ret i32 %y
}"""
    with pytest.raises(CompileError, match="died"):
        compiler.compile(text, timeout=60)
    assert compiler.compile(OUTER, timeout=60)
    compiler.close()


@pytest.mark.parametrize(("name", "cause"), [("spin", "SIGXCPU"), ("eat", "out of memory"), ("leave", "status 3")])
def test_a_job_has_limits(name: str, cause: str) -> None:
    compiler = Compiler(memory_bytes=1 << 30)
    with pytest.raises(CompileError, match=cause):
        compiler.submit_job(generated(name, cpu_seconds=0.5 if name == "spin" else 20)).result(60)
    assert compiler.compile(OUTER, timeout=60)
    compiler.close()


def test_a_worker_that_does_not_answer_is_given_up() -> None:
    compiler = Compiler()
    with pytest.raises(CompileError, match="did not answer in time"):
        compiler.submit_job(generated("sleep", cpu_seconds=0.1)).result(60)
    assert compiler.compile(OUTER, timeout=60)
    assert (compiler.started, compiler.compiled, compiler.failed, compiler.pending) == (2, 1, 1, 0)
    assert compiler.seconds > 1
    compiler.close()


AT_WORK = """
import os, sys, time
from aiopyvm.engine.native.worker import Job, compiler
compiler().compile("define void @f() { ret void }")
print(compiler()._worker._process.pid, flush=True)
if sys.argv[1] != "idle":
    compiler().submit_job(Job("", generator="tests.engine.worker_jobs:sleep"))
    time.sleep(0.3)
if sys.argv[1] == "killed":
    os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("how", ["idle", "busy", "killed"])
def test_no_worker_outlives_its_process(how: str) -> None:
    run = subprocess.run([sys.executable, "-c", AT_WORK, how], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (-9 if how == "killed" else 0, "")
    deadline = time.monotonic() + 30
    while os.path.exists(f"/proc/{int(run.stdout)}") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{int(run.stdout)}")


def test_a_worker_inherits_nothing_and_has_its_own_session() -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    compiler = Compiler()
    with pytest.raises(CompileError, match="IR parsing error") as caught:
        compiler.submit_job(generated("describe")).result(60)
    compiler.close()
    os.close(reader)
    os.close(writer)
    text = str(caught.value)
    session, descriptors = re.search(r"session=(\d+) fds=\[([\d, ]*)\]", text).groups()
    assert int(session) != os.getsid(0)
    assert len(descriptors.split(",")) <= 6, text  # 0 to 2, the two pipes, and the listing of them itself


def test_closing_fails_what_is_pending() -> None:
    compiler = Compiler()
    jobs = [compiler.submit_job(generated("sleep")), compiler.submit(OUTER)]
    compiler.close()
    for job in jobs:
        with pytest.raises(CompileError):
            job.result(10)
    with pytest.raises(CompileError, match="closed"):
        compiler.compile(OUTER, timeout=10)


def test_an_idle_worker_is_let_go_and_comes_back() -> None:
    compiler = Compiler(idle_seconds=0.05)
    assert compiler.compile(OUTER, timeout=60)
    deadline = time.monotonic() + 30
    while compiler.running and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not compiler.running
    assert compiler.compile(OUTER, timeout=60)
    assert compiler.started == 2
    compiler.close()


def test_the_compiler_leaves_llvmlite_to_its_worker() -> None:
    script = f"""
import sys
from aiopyvm.engine.native.objectfile import load
from aiopyvm.engine.native.worker import compiler
load(compiler().compile({OUTER!r}), {{}})
print("llvmlite" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stdout, run.stderr) == (0, "False\n", "")
