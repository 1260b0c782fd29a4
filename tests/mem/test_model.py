"""Random operations on a family of forked spaces, compared with a model that copies everything."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from aiopyvm.errors import GuestMemoryError
from aiopyvm.mem.backing import BytesBacking, ImageBacking, SharedBacking
from aiopyvm.mem.budget import Unlimited
from aiopyvm.mem.faults import Access, MemoryFault
from aiopyvm.mem.layout import EXEC, PAGES, READ, TOUCHED, WRITE
from aiopyvm.mem.reservation import HOST_MAPPINGS, HostMappings
from aiopyvm.mem.space import AddressSpace
from tests.mem.model import PAGE, Model

BASE = 0x20000 - 4 * PAGE  # a window over a granule's boundary
COUNT = 10
CONTENT = bytes(range(1, 252)) * 70  # 4.3 pages, its last one partly
pages = st.integers(0, COUNT - 1)
counts = st.integers(1, 6)
prots = st.sampled_from([7, 3, 3, 7, 7, 5, 1, 2, 4, 0])
addresses = st.builds(lambda page, at: BASE + page * PAGE + at, st.integers(-1, COUNT), st.integers(0, PAGE - 1))
edges = st.builds(lambda page, at: BASE + page * PAGE + at, st.integers(0, COUNT), st.integers(-5, 5))
starts = st.builds(lambda page: BASE + page * PAGE, pages)
places = starts | edges | addresses
sizes = st.sampled_from([1, 2, 4, 8, 10, 16])


class Family(RuleBasedStateMachine):
    """Spaces and their models; index 0 exists at first."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = Unlimited()
        self.spaces: list[AddressSpace] = []
        self.models: list[Model] = []
        self.image = ImageBacking(CONTENT)

    @initialize()
    def start(self) -> None:
        self.spaces.append(AddressSpace(self.budget))
        self.models.append(Model())
        self.map(0, 0, 3, 7, "zero")
        self.map(0, 3, 4, 3, "image")
        self.write(0, BASE, b"first" * 3000)

    def pick(self, n: int) -> tuple[AddressSpace, Model]:
        return self.spaces[n % len(self.spaces)], self.models[n % len(self.models)]

    @rule(n=st.integers(0, 9), page=pages, count=counts, prot=prots, kind=st.sampled_from(["zero", "bytes", "image"]))
    def map(self, n: int, page: int, count: int, prot: int, kind: str) -> None:
        space, model = self.pick(n)
        count = min(count, COUNT - page)
        skip = page % 3 * PAGE
        backing = {"zero": None, "bytes": BytesBacking(CONTENT), "image": self.image}[kind]
        space.map(BASE + page * PAGE, count * PAGE, prot, backing, skip if backing else 0)
        model.map(BASE + page * PAGE, count * PAGE, prot, CONTENT[skip:] if backing else None)

    @rule(n=st.integers(0, 9), page=pages, again=pages, count=counts, prot=prots)
    def map_shared(self, n: int, page: int, again: int, count: int, prot: int) -> None:
        """Shared memory, seen at two places."""
        space, model = self.pick(n)
        data = [bytearray(PAGE) for _ in range(count)]
        backing = SharedBacking(count * PAGE)
        for at in (page, again):
            at = min(at, COUNT - count)
            space.map(BASE + at * PAGE, count * PAGE, prot, backing, shared=True)
            model.share(BASE + at * PAGE, data, prot)

    @rule(n=st.integers(0, 9), page=pages, count=counts)
    def unmap(self, n: int, page: int, count: int) -> None:
        space, model = self.pick(n)
        space.unmap(BASE + page * PAGE, count * PAGE)
        model.unmap(BASE + page * PAGE, count * PAGE)

    @rule(n=st.integers(0, 9), page=pages, count=counts, prot=prots)
    def protect(self, n: int, page: int, count: int, prot: int) -> None:
        space, model = self.pick(n)
        whole = all(BASE // PAGE + page + i in model.pages for i in range(count))
        expected: AbstractContextManager[Any] = nullcontext() if whole else pytest.raises(GuestMemoryError)
        with expected:
            space.protect(BASE + page * PAGE, count * PAGE, prot)
        model.protect(BASE + page * PAGE, count * PAGE, prot)

    @rule(n=st.integers(0, 9), page=pages, count=counts)
    def discard(self, n: int, page: int, count: int) -> None:
        space, model = self.pick(n)
        space.discard(BASE + page * PAGE, count * PAGE)
        model.discard(BASE + page * PAGE, count * PAGE)

    @rule(n=st.integers(0, 9), page=pages, to=pages, count=counts)
    def move(self, n: int, page: int, to: int, count: int) -> None:
        space, model = self.pick(n)
        old, new, length = BASE + page * PAGE, BASE + to * PAGE, count * PAGE
        if abs(page - to) < count:
            with pytest.raises(ValueError):
                space.move(old, length, new)
        elif not all(BASE // PAGE + page + i in model.pages for i in range(count)):
            with pytest.raises(GuestMemoryError):
                space.move(old, length, new)
        else:
            space.move(old, length, new)
            model.move(old, length, new)

    @rule(n=st.integers(0, 9), address=places, size=sizes, value=st.integers(0, (1 << 128) - 1))
    def store(self, n: int, address: int, size: int, value: int) -> None:
        space, model = self.pick(n)
        value &= (1 << 8 * size) - 1
        self.same_fault(model.check(address, size, "w"), lambda: space.store(address, size, value))
        if model.check(address, size, "w") is None:
            model.write(address, value.to_bytes(size, "little"))

    @rule(n=st.integers(0, 9), address=places, data=st.binary(min_size=1, max_size=9).map(lambda d: d * (1 + d[0] * 4)))
    def write(self, n: int, address: int, data: bytes) -> None:
        space, model = self.pick(n)
        fault = model.check(address, len(data), "w")
        self.same_fault(fault, lambda: space.write(address, data))
        model.write(address, data if fault is None else data[: fault.address - address])

    @rule(n=st.integers(0, 9), address=places, data=st.binary(min_size=1, max_size=20))
    def poke(self, n: int, address: int, data: bytes) -> None:
        space, model = self.pick(n)
        over = [model.pages.get(a // PAGE) for a in (address, address + len(data) - 1)]
        if all(page is not None and not page.bus for page in over):
            space.poke(address, data)
            model.write(address, data)
        elif any(page is None for page in over):
            with pytest.raises(GuestMemoryError):
                space.poke(address, data)

    @rule(n=st.integers(0, 9), address=places, size=sizes)
    def load(self, n: int, address: int, size: int) -> None:
        space, model = self.pick(n)
        self.same_fault(model.check(address, size, "r"), lambda: space.load(address, size))
        if model.check(address, size, "r") is None:
            assert space.load(address, size) == int.from_bytes(model.read(address, size), "little")

    @rule(n=st.integers(0, 9), address=places, limit=st.integers(1, 15))
    def fetch(self, n: int, address: int, limit: int) -> None:
        space, model = self.pick(n)
        fault = model.check(address, limit, "x")
        if fault is not None and fault.address == address:
            self.same_fault(fault, lambda: space.fetch(address, limit))
        else:
            n = limit if fault is None else fault.address - address
            assert space.fetch(address, limit) == model.read(address, n)

    @rule(n=st.integers(0, 9), address=places, length=st.integers(1, 200))
    def track(self, n: int, address: int, length: int) -> None:
        space, model = self.pick(n)
        if model.check(address, length, "x") is None:
            space.probe(address, length, write=False)
            space.track_code(address, length)

    @rule(n=st.integers(0, 9))
    def fork(self, n: int) -> None:
        space, model = self.pick(n)
        if len(self.spaces) < 6:
            self.spaces.append(space.fork(self.budget))
            self.models.append(model.fork())

    @rule(n=st.integers(0, 9))
    def close(self, n: int) -> None:
        if len(self.spaces) > 1:
            self.spaces.pop(n % len(self.spaces)).close()
            self.models.pop(n % len(self.models))

    @rule(n=st.integers(0, 9))
    def compare(self, n: int) -> None:
        """All of a space, as a debugger sees it and as the kernel copies it."""
        space, model = self.pick(n)
        for number, page in model.pages.items():
            assert space.peek(number * PAGE, PAGE) == page.data
            if page.prot and not page.bus:
                assert space.read(number * PAGE, PAGE) == page.data
        assert sum(m.end - m.start for m in space.mappings()) == PAGE * len(model.pages)

    @invariant()
    def table_is_right(self) -> None:
        for space, model in zip(self.spaces, self.models, strict=True):
            table = {n: bits for n, bits in enumerate(bytes(space.pages[: BASE // PAGE + 2 * COUNT])) if bits}
            assert space.readable == {n * PAGE for n, bits in table.items() if bits & READ}
            assert space.writable == {n * PAGE for n, bits in table.items() if bits & WRITE}
            assert space.resident_pages == sum(1 for bits in table.values() if bits & TOUCHED)
            for n, bits in table.items():
                assert not bits & READ or model.check(n * PAGE, 1, "r") is None
                assert not bits & WRITE or model.check(n * PAGE, 1, "w") is None
                assert not bits & EXEC or model.check(n * PAGE, 1, "x") is None

    def same_fault(self, expected: MemoryFault | None, do: Callable[[], object]) -> None:
        seen = None
        try:
            do()
        except MemoryFault as fault:
            seen = (fault.address, fault.access, fault.present, fault.bus)
        assert seen == (expected and (expected.address, expected.access, expected.present, expected.bus))

    def teardown(self) -> None:
        for n in range(len(self.spaces)):
            self.compare(n)
        while self.spaces:
            self.spaces.pop().close()
        self.models.clear()
        gc.collect()
        assert self.budget.used == 0


def _settings() -> settings:
    examples = int(os.environ.get("AIOPYVM_MEM_EXAMPLES", "60"))
    return settings(
        max_examples=examples,
        stateful_step_count=50,
        deadline=None,
        derandomize=examples == 60,
        suppress_health_check=[HealthCheck.too_slow],
    )


def test_family_agrees_with_the_model() -> None:
    before = HOST_MAPPINGS.used
    run_state_machine_as_test(Family, settings=_settings())
    gc.collect()
    assert HOST_MAPPINGS.used == before


def test_family_agrees_where_the_host_attaches_nothing() -> None:
    with mock.patch("aiopyvm.mem.reservation.HOST_MAPPINGS", HostMappings(0)):
        run_state_machine_as_test(Family, settings=_settings())


def test_the_table_covers_the_address_space() -> None:
    space = AddressSpace()
    assert len(space.pages) == PAGES
    access: Access = "r"
    with pytest.raises(MemoryFault) as caught:
        space.load(0xFFFFFFFF, 4)
    assert (caught.value.address, caught.value.access) == (0xFFFFFFFF, access)
    space.close()
