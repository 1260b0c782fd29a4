"""Holds ARCHITECTURE.md's floors: who imports whom, read from the sources without running them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "aiopyvm"
ARCHITECTURE = PACKAGE.parent / "ARCHITECTURE.md"

# Where a pair is not in the order of the floors: the kernel knows neither engine nor host, the engine no kernel.
FORBIDDEN = {("kernel", "engine"), ("kernel", "host"), ("engine", "kernel"), ("engine", "abi")}
# Which modules outside the standard library a floor may use; nothing where it is not named.
ALLOWED_OUTSIDE = {
    "isa": {"mpmath"},
    "loader": {"elftools"},
    "host": {"anyio", "trio"},
    "runtime": {"anyio", "trio"},
    "streams": {"anyio"},
    "testing": {"anyio", "trio", "pytest"},
    "__init__": {"anyio"},
    "cli": {"anyio"},
}
SILENT = ("ir", "isa", "mem", "engine", "abi", "kernel", "loader", "syscalls")  # rule 3: no await, no I/O
# Of engine/native: it compiles and keeps code, in files and a process that have nothing of a guest's.
TOOLCHAIN = {"aot.py", "aot_builder.py", "cache.py", "compile_worker.py", "detached.py", "worker.py"}
IMPURE = {"asyncio", "socket", "select", "selectors", "subprocess", "random", "secrets", "time"}


def floors() -> dict[str, int]:
    """Return the packages and modules of ARCHITECTURE.md's table with the number of their row, lowest first."""
    rows = re.findall(r"^\| (`.*?) \|", ARCHITECTURE.read_text(), re.MULTILINE)
    names = [(number, name) for number, row in enumerate(rows) for name in re.findall(r"`([^`]+)`", row)]
    assert len(names) == len({name for _, name in names}), "a name stands in two rows"
    return {name.removesuffix("/").removesuffix(".py"): number for number, name in names}


def modules() -> Iterator[tuple[str, Path]]:
    """Yield every module: its floor, its path."""
    for path in sorted(PACKAGE.rglob("*.py")):
        yield floor_of(path.relative_to(PACKAGE.parent).with_suffix("").parts), path


def floor_of(parts: tuple[str, ...]) -> str:
    """Return the floor of the module `aiopyvm.x.y`: `x`; `__init__` for the package itself."""
    return parts[1] if len(parts) > 1 else "__init__"


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Yield dotted names and lines of what a module imports when it runs; `if TYPE_CHECKING:` blocks are left out."""
    todo: list[ast.AST] = [ast.parse(path.read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            todo += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            module = node.module or ""
            yield from ((f"{module}.{alias.name}", node.lineno) for alias in node.names)
        todo += ast.iter_child_nodes(node)


def test_every_package_has_its_floor() -> None:
    listed = set(floors())
    found = {floor for floor, _ in modules()} - {"__main__"}
    assert found <= listed, f"not in ARCHITECTURE.md's table: {sorted(found - listed)}"


def wrong_imports() -> Iterator[str]:
    order = floors()
    order["__main__"] = len(order)
    for floor, path in modules():
        for name, line in imports(path):
            parts = tuple(name.split("."))
            if parts[0] != "aiopyvm" or len(parts) < 2:
                continue
            target = floor_of(parts)
            if target not in order:
                target = "__init__"  # a name out of the package itself
            if order[target] > order[floor] or (floor, target) in FORBIDDEN:
                yield f"{path.relative_to(PACKAGE.parent)}:{line}: {floor} imports {name}, of {target}"


def test_each_floor_imports_only_from_the_floors_below() -> None:
    assert list(wrong_imports()) == []


def test_the_core_is_silent() -> None:
    wrong = []
    for floor, path in modules():
        if floor not in SILENT or (path.parent == PACKAGE / "engine" / "native" and path.name in TOOLCHAIN):
            continue
        wrong += [
            f"{path}:{line}: imports {name}" for name, line in imports(path) if name.split(".")[0] in IMPURE | {"anyio"}
        ]
        tree = ast.parse(path.read_text())
        wrong += [
            f"{path}:{node.lineno}: awaits"
            for node in ast.walk(tree)
            if isinstance(node, (ast.Await, ast.AsyncFunctionDef, ast.AsyncWith, ast.AsyncFor))
        ]
    assert wrong == []


def test_outside_packages_are_used_where_they_belong() -> None:
    import sys

    wrong = []
    for floor, path in modules():
        for name, line in imports(path):
            top = name.split(".")[0]
            if path.name == "compile_worker.py" and top == "llvmlite":
                continue  # runs in a process of its own, and nothing else may import it
            if top not in sys.stdlib_module_names | {"aiopyvm"} | ALLOWED_OUTSIDE.get(floor, set()):
                wrong.append(f"{path}:{line}: {floor} imports {name}")
    assert wrong == []


def test_no_file_is_longer_than_800_lines() -> None:
    long = [f"{path}: {n} lines" for _, path in modules() if (n := len(path.read_text().splitlines())) > 800]
    assert long == []


@pytest.mark.parametrize("wrong", ["from . import x", "from ..a import b"])
def test_relative_imports_are_seen(wrong: str, tmp_path: Path) -> None:
    source = tmp_path / "module.py"
    source.write_text(wrong)
    with pytest.raises(AssertionError, match="absolute"):
        list(imports(source))
