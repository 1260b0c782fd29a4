"""Handlers made on demand, in a child of fork(2) too."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from aiopyvm.engine.native import worker
from aiopyvm.engine.native.demand import Demand
from aiopyvm.engine.native.engine import NativeEngine
from aiopyvm.engine.native.handlers import Shape
from aiopyvm.engine.native.handlertable import HandlerTable
from aiopyvm.isa.assemble import assemble
from aiopyvm.isa.decode import decode
from tests.engine.engines import BUILD_SECONDS, native_handlers
from tests.engine.test_code import BASE, machine

SHAPE = Shape(decode(bytes.fromhex("660fabd0")))  # bts ax, dx


def test_a_child_of_fork_has_made_what_the_parent_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    demand = Demand(native_handlers().loaded.symbols)
    demand.enough = 1
    compiler = worker.compiler
    monkeypatch.setattr(worker, "compiler", lambda: SimpleNamespace(submit_job=lambda job: job))  # it never ends
    assert demand.want(SHAPE)
    demand.use(SHAPE.name)
    waited_for = demand._job
    assert waited_for is not None
    with demand._lock:  # as another thread may have it
        child = os.fork()
        if not child:
            status = 1
            try:
                monkeypatch.setattr(worker, "compiler", compiler)
                assert not demand.made
                demand.use(SHAPE.name)
                (symbols,) = demand.collect(60)
                status = 0 if SHAPE.name in symbols else 2
            finally:
                os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert demand._job is waited_for


LACKING = """
    vpmaxsw ymm1, ymm2, ymm3
    vpminsw ymm2, ymm3, ymm1
    vpmaxub ymm3, ymm1, ymm2
    vpavgb ymm4, ymm1, ymm2
    vpsignb ymm5, ymm1, ymm2
    vpabsd ymm6, ymm1
"""


def test_a_loop_of_what_has_no_handler_soon_has_them() -> None:
    """The Python engine goes on in place of such a loop; however seldom one of it was wanted, all are made."""
    table = HandlerTable(native_handlers().loaded)
    engine = NativeEngine(lambda: table)
    core = machine(assemble(f"again:\n{LACKING}\njmp again", BASE))
    for _ in range(100):
        engine.run(core, 1200)
        table.collect(BUILD_SECONDS)
    before = engine.statistics()["instructions_python"]
    assert before < 100_000
    engine.run(core, 10_000)
    assert engine.statistics()["instructions_python"] == before
