"""Trees that nobody changes: what was looked up is kept, within bounds, and never hides what the guest did."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from aiopyvm import VM, HostDir
from aiopyvm.abi.errno import Errno
from aiopyvm.abi.stat import S_IFREG
from aiopyvm.host.archivetree import ArchiveTree, Node, TreeBuilder
from aiopyvm.host.files import open_host_tree
from aiopyvm.kernel.hostfs import MOST_RECENT, HostFs


def test_a_steady_directory_is_asked_once(tmp_path: Path) -> None:
    """What the guest changes is seen at once; what the host changes all the same need not be."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"1")

    async def check() -> None:
        vm = VM(mounts={"/m": HostDir(tmp_path, "cow", steady=True)}, user=0)
        assert not await vm.path("/m/d/none").exists()
        assert await vm.path("/m/d/f").read_bytes() == b"1"
        await vm.path("/m/d/none").write_bytes(b"made")
        assert await vm.path("/m/d/none").read_bytes() == b"made"
        await vm.path("/m/d/f").write_bytes(b"22")
        assert (await vm.path("/m/d/f").stat()).st_size == 2
        await vm.path("/m/d/none").rename("/m/d/f")
        assert await vm.path("/m/d/f").read_bytes() == b"made"
        assert not await vm.path("/m/d/none").exists()
        await vm.path("/m/d/f").unlink()
        assert not await vm.path("/m/d/f").exists()
        await vm.path("/m/d").rename("/m/e")
        assert not await vm.path("/m/d").exists()
        assert await vm.path("/m/e").is_dir()

    anyio.run(check)
    assert (tmp_path / "d" / "f").read_bytes() == b"1"
    with pytest.raises(ValueError, match="steady"):
        HostDir(tmp_path, "rw", steady=True)


def test_what_a_steady_directory_keeps_is_bounded(tmp_path: Path) -> None:
    fs = HostFs(open_host_tree(tmp_path, steady=True))
    for n in range(2 * MOST_RECENT + 10):
        with pytest.raises(Errno):
            fs.root.find(b"%d" % n)
        assert len(fs.absent) <= MOST_RECENT
    tree = TreeBuilder()
    assert tree.root.children is not None
    for n in range(MOST_RECENT + 10):
        tree.root.children[b"%d" % n] = Node(n + 2, S_IFREG)
    kept = HostFs(ArchiveTree(tree.root))
    for n in range(MOST_RECENT + 10):
        assert kept.root.find(b"%d" % n) is kept.root.find(b"%d" % n)
    assert len(kept.recent) == MOST_RECENT
