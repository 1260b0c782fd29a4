"""A few programs of the campaign over slices: registers, memory, counts and output do not depend on them."""

from __future__ import annotations

import pytest

from aiopyvm.runtime.slices import usual_quantum
from tests.engine.engines import engine_of
from tests.runtime.campaign_slices import QUANTUM, Ran, compare, run, setups

LENGTHS = (1, 2, 3, 7, 61, 997, 65_536)
CASES = (
    ("structs", "native", LENGTHS),
    ("calculator", "native", LENGTHS),
    ("glibc signals", "native", (7, 997)),
    ("busybox printf %05d 42", "native", (3, 61)),
    ("fib-12", "hot", LENGTHS),
    ("bubblesort-25", "hot", (1, 61, 997)),
    ("crash-null", "hot", (2, 61)),
    ("bubblesort-25", "guarded", LENGTHS),
    ("crash-null", "guarded", (2, 61)),
)


@pytest.mark.parametrize(("name", "engine", "lengths"), CASES)
def test_slices_do_not_show(name: str, engine: str, lengths: tuple[int, ...]) -> None:
    setup = setups().get(name)
    if setup is None:
        pytest.skip(f"{name} is not here")
    _, wrong = compare(name, setup, {engine: engine_of(engine)}, 2, lengths)
    assert not wrong


def test_the_python_engine_is_cut_as_well() -> None:
    _, wrong = compare("structs", setups()["structs"], {"auto": engine_of("auto")}, 2, (2, 61))
    assert not wrong


def test_what_differs_is_seen() -> None:
    """A digest is of registers and memory: programs that differ in their arguments alone do not have the same."""
    found = setups()
    engine = engine_of("native")
    one, other = (run(found[name], engine, lambda: QUANTUM) for name in ("grep-fox", "grep-wolf"))
    assert one.digest != other.digest
    assert isinstance(one, Ran)


def test_the_usual_quantum_is_long_where_no_order_is_to_be_kept() -> None:
    assert usual_quantum(ordered=False, generated=True) > usual_quantum(ordered=False, generated=False)
    assert usual_quantum(ordered=True, generated=True) == usual_quantum(ordered=True, generated=False)
