"""Handlers made on demand, in a child of fork(2) too."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from aiopyvm.engine.native import worker
from aiopyvm.engine.native.demand import Demand
from aiopyvm.engine.native.handlers import Shape
from aiopyvm.isa.decode import decode
from tests.engine.engines import native_handlers

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
