"""What all tests share: event loops, guests, and native runs to compare with.

Async tests say on which loop they run, so that the two plugins never claim the same test:

- `@pytest.mark.anyio`: asyncio, through anyio's plugin;
- `@pytest.mark.trio`: trio, through pytest-trio (with its `nursery` and `autojump_clock`);
- `@pytest.mark.both_loops`: twice, once on each, through the same two plugins.

With `--hot`, machines on the native engine make a region of all code that is executed twice, and wait for it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.debian import debian_root
from tests.native import NativeRun, busybox_path, glibc_path, native_available, run_native

GUESTS = Path(__file__).parents[1] / "guests" / "bin"
_LOOPS = ("asyncio", "trio")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """asyncio alone: trio's tests belong to pytest-trio."""
    return "asyncio"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make two of every test marked `both_loops`."""
    if metafunc.definition.get_closest_marker("both_loops"):
        if "event_loop_name" not in metafunc.fixturenames:
            metafunc.fixturenames.append("event_loop_name")
        metafunc.parametrize("event_loop_name", _LOOPS, indirect=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--hot`."""
    parser.addoption("--hot", action="store_true", help="run guests in compiled regions wherever that can be")


@pytest.fixture(autouse=True, scope="session")
def _hot_machines(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("hot"):
        from aiopyvm.runtime import machine
        from tests.engine.engines import hot_engine

        machine._engines["native"] = machine._engines["auto"] = hot_engine()


@pytest.fixture
def event_loop_name(request: pytest.FixtureRequest) -> str:
    """The event loop of a `both_loops` test: "asyncio" or "trio"."""
    name: str = request.param
    return name


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each half of a `both_loops` test to its plugin; refuse a test that both would claim."""
    for item in items:
        if item.get_closest_marker("both_loops") and isinstance(item, pytest.Function):
            if item.callspec.params["event_loop_name"] == "trio":
                item.add_marker("trio")
            else:
                item.add_marker("anyio")
                item.fixturenames = [*item.fixturenames, "anyio_backend"]
        if item.get_closest_marker("anyio") and item.get_closest_marker("trio"):
            raise pytest.UsageError(f"{item.nodeid} is marked for anyio and for trio: use both_loops")


@pytest.fixture(scope="session")
def guest() -> GuestPaths:
    """`guest("hello")` is the path of the committed guest of that name."""
    return GuestPaths(GUESTS)


class GuestPaths:
    """Looks up committed guests by name."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, name: str) -> Path:
        """Return the guest's path. Raises FileNotFoundError, with the command that makes it."""
        path = self.directory / name
        if not path.exists():
            raise FileNotFoundError(f"{path} is missing: python guests/build.py {name}")
        return path


@pytest.fixture(scope="session")
def native() -> NativeRun:
    """`native(path, *args, stdin=b"")` runs a program on the host; skips where the host cannot run i386 programs."""
    if not native_available():
        pytest.skip("this host does not run i386 Linux programs")
    return run_native


@pytest.fixture(scope="session")
def glibc_guest() -> GlibcGuests:
    """`glibc_guest("floats")` builds tests/guests/glibc/floats.c statically; skips where `gcc -m32` cannot."""
    return GlibcGuests()


class GlibcGuests:
    """Builds static glibc programs, once for each source and compiler."""

    def __call__(self, name: str) -> Path:
        """Return the built program's path, or skip the test."""
        path = glibc_path(name)
        if path is None:
            pytest.skip("no static i386 glibc here: install gcc-multilib")
        return path


@pytest.fixture(scope="session")
def debian() -> Path:
    """A root directory of Debian i386 programs; skips where `python tests/debian.py` has not fetched it."""
    path = debian_root()
    if path is None:
        pytest.skip("no root of Debian i386 programs here: run `python tests/debian.py` (needs apt-get and dpkg-deb)")
    return path


@pytest.fixture(scope="session")
def busybox() -> Path:
    """A static i386 busybox; skips where it was not fetched (`python tests/busybox.py` fetches it)."""
    path = busybox_path()
    if path is None:
        pytest.skip("no i386 busybox here: run `python tests/busybox.py` (needs apt-get)")
    return path
