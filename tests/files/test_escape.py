"""Nothing outside what was granted is reached, whatever a guest tries, as an audit hook sees it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import GlibcGuests
from tests.files.escape import SECRET, attempt, generated, grant, written

pytestmark = pytest.mark.anyio
_seen: list[tuple[str, Any]] = []
_watching = [False]


def _hook(event: str, args: tuple[Any, ...]) -> None:
    if _watching[0] and (event == "open" or event.startswith(("os.", "socket.", "subprocess."))):
        _seen.append((event, args))


@pytest.fixture
def audited() -> Any:
    """What the process asks of its host meanwhile: (event, arguments)."""
    if not hasattr(sys, "_escape_hook"):
        sys.addaudithook(_hook)
        sys._escape_hook = True  # type: ignore[attr-defined]
    _seen.clear()
    _watching[0] = True
    yield _seen
    _watching[0] = False


async def test_no_path_leads_out(tmp_path: Path, glibc_guest: GlibcGuests, audited: list[tuple[str, Any]]) -> None:
    glibc_guest("escape")
    granted = grant(tmp_path)
    audited.clear()
    paths = [*written(granted), *generated(granted, 300, 11)]
    assert len(paths) > 1000
    said = await attempt(granted, paths)
    asked = list(audited)  # what comes now are this test's own questions
    assert said.endswith(b"%d paths tried\n" % len(paths))
    assert b"for guests" in said
    assert SECRET not in said
    assert (tmp_path / "secret").read_bytes() == SECRET
    assert sorted(os.listdir(tmp_path)) == ["granted", "secret"]
    opened = [os.fspath(args[0]) for event, args in asked if event == "open" and isinstance(args[0], (str, bytes))]
    names = {os.fsdecode(name) for name in opened}
    assert not [name for name in names if ".." in name.split("/")]
    assert not [name for name in names if name.endswith(("passwd", "shadow", "secret")) and "/" in name]
    assert not [event for event, _ in asked if event in ("socket.connect", "socket.bind", "socket.sendto")]
    started = {args[0] for event, args in asked if event == "subprocess.Popen"}
    assert started <= {sys.executable}  # the engine's own compiler
