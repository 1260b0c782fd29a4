"""The campaign of CPython's own tests (tests/guests/cpython), with one short module of them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import anyio
import pytest

from tests.guests.cpython.__main__ import Guest, run_module
from tests.guests.cpython.compare import differences, lost_test, table, verdicts

MODULE = "test_bool"


def report(*lines: tuple[str, str]) -> str:
    return "".join(json.dumps({"test": name, "verdict": verdict, "s": 0, "text": ""}) + "\n" for name, verdict in lines)


def test_a_report_that_ends_early_names_the_test_that_did_not_end() -> None:
    whole = report(("a", "started"), ("a", "ok"), ("b", "started"))
    assert lost_test(whole) == "b"
    assert lost_test("") == ""
    assert lost_test(whole + report(("b", "ok"), ("module", "end"))) is None


def test_a_failed_subtest_decides() -> None:
    told = verdicts(report(("a", "started"), ("a", "failed"), ("a", "ok"), ("module", "end")))
    assert told == {"a": ("failed", "")}


def test_verdicts_are_compared_by_test(tmp_path: Path) -> None:
    (tmp_path / "m.native").write_text(report(("a", "ok"), ("b", "ok"), ("m", "end")))
    (tmp_path / "m.guest").write_text(report(("a", "ok"), ("b", "lost"), ("m", "end")))
    assert differences(tmp_path, "m") == [("b", "ok", "lost", "")]
    assert table(tmp_path, ["m"]).splitlines()[-1] == "| m | 2 ok | 1 lost, 1 ok | 1 |"


def test_a_module_in_a_guest(debian: Path, tmp_path: Path) -> None:
    if not any(debian.glob(f"usr/lib/python3*/test/{MODULE}.py")):
        pytest.skip("the root has no libpython3-testsuite")
    shutil.copyfile(Path(__file__).parent / "cpython" / "inside.py", tmp_path / "inside.py")
    anyio.run(run_module, Guest(debian, tmp_path), MODULE, 300)
    found = {verdict for verdict, _ in verdicts((tmp_path / f"{MODULE}.guest").read_text()).values()}
    assert found == {"ok"}
