"""Runs inside the root, on the host or in a guest: one module of CPython's tests, a line of JSON for each test.

`python3 inside.py MODULE REPORT [TEST...]`: the TESTs are left out. A test is announced before it runs, so that a
report that ends early names the test that did not end.
"""

import json
import os
import sys
import time
import unittest
from collections.abc import Iterator
from typing import IO, Any

SLOW = 90.0  # seconds: what ends within them was not too slow, as regrtest --timeout has it for slow machines


class Report(unittest.TestResult):
    """Writes verdicts as they come: ok, failed, error, skipped, expected, unexpected; "started" ahead of each."""

    def __init__(self, stream: IO[str]) -> None:
        super().__init__()
        self._to = stream
        self._begun = 0.0

    def _tell(self, test: Any, verdict: str, text: str = "") -> None:
        line = {"test": test.id(), "verdict": verdict, "s": round(time.monotonic() - self._begun, 3), "text": text}
        print(json.dumps(line), file=self._to, flush=True)

    def startTest(self, test: Any) -> None:
        super().startTest(test)
        self._begun = time.monotonic()
        self._tell(test, "started")

    def addSuccess(self, test: Any) -> None:
        self._tell(test, "ok")

    def addError(self, test: Any, err: Any) -> None:
        super().addError(test, err)
        self._tell(test, "error", self.errors[-1][1])

    def addFailure(self, test: Any, err: Any) -> None:
        super().addFailure(test, err)
        self._tell(test, "failed", self.failures[-1][1])

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            problems = self.failures if issubclass(err[0], test.failureException) else self.errors
            self._tell(test, "failed", problems[-1][1])

    def addSkip(self, test: Any, reason: str) -> None:
        self._tell(test, "skipped", reason)

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        self._tell(test, "expected")

    def addUnexpectedSuccess(self, test: Any) -> None:
        self._tell(test, "unexpected")


def each(suite: Any) -> Iterator[Any]:
    """Yield the single tests of a suite."""
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from each(test)
        else:
            yield test


def main() -> None:
    """Run and report; the last line has the verdict "end"."""
    module, report, *left_out = sys.argv[1:]
    from test import support  # type: ignore[import-not-found]
    from test.support import os_helper  # type: ignore[import-not-found]

    support.use_resources = []
    support.SHORT_TIMEOUT = max(support.SHORT_TIMEOUT, SLOW)
    os.chdir("/tmp")
    with open(report, "w", encoding="utf-8") as stream, os_helper.temp_cwd():
        suite = unittest.defaultTestLoader.loadTestsFromName(f"test.{module}")
        chosen = [test for test in each(suite) if test.id() not in left_out]
        unittest.TestSuite(chosen).run(Report(stream))
        print(json.dumps({"test": module, "verdict": "end", "s": 0, "text": ""}), file=stream, flush=True)


if __name__ == "__main__":
    main()
