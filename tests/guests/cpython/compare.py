"""Reports of one module's tests, side by side."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path


def verdicts(text: str) -> dict[str, tuple[str, str]]:
    """Return each test's verdict and its text, out of a report; a failed subtest decides."""
    found: dict[str, tuple[str, str]] = {}
    for line in text.splitlines():
        told = json.loads(line)
        before = found.get(told["test"], ("", ""))[0]
        if before in ("", "started", "skipped") and told["verdict"] != "end":
            found[told["test"]] = (told["verdict"], told["text"])
    return found


def lost_test(text: str) -> str | None:
    """Return the test that began and has no verdict in a report that has no end; "" where none had begun."""
    if text.endswith('"verdict": "end", "s": 0, "text": ""}\n'):
        return None
    open_tests = [name for name, (verdict, _) in verdicts(text).items() if verdict == "started"]
    return open_tests[-1] if open_tests else ""


def _both(reports: Path, module: str) -> tuple[dict[str, tuple[str, str]], dict[str, tuple[str, str]]]:
    native, guest = (reports / f"{module}.{side}" for side in ("native", "guest"))
    return tuple(verdicts(path.read_text()) if path.exists() else {} for path in (native, guest))  # type: ignore[return-value]


def differences(reports: Path, module: str) -> list[tuple[str, str, str, str]]:
    """Return (test, native verdict, guest's verdict, guest's text) where the verdicts differ."""
    native, guest = _both(reports, module)
    nothing = ("absent", "")
    return [
        (name, native.get(name, nothing)[0], *guest.get(name, nothing))
        for name in sorted({*native, *guest})
        if native.get(name, nothing)[0] != guest.get(name, nothing)[0]
    ]


def show(reports: Path, module: str) -> None:
    """Print what differs, each with the last line of what it said."""
    if not (reports / f"{module}.guest").exists():
        print(f"{module}: has no guest's report")
        return
    for name, native, guest, text in differences(reports, module):
        print(f"{name}: {native} / {guest}: {text.strip().splitlines()[-1] if text.strip() else ''}")


def table(reports: Path, modules: list[str]) -> str:
    """Return a Markdown table: counts of verdicts on both sides, and how many tests differ."""
    rows = ["| module | native | guest | differ |", "| --- | --- | --- | --- |"]
    for module in modules:
        counts = [Counter(verdict for verdict, _ in side.values()) for side in _both(reports, module)]
        native, guest = (", ".join(f"{n} {verdict}" for verdict, n in sorted(count.items())) for count in counts)
        rows.append(f"| {module} | {native} | {guest} | {len(differences(reports, module))} |")
    return "\n".join(rows)
