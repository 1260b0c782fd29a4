"""OCI image layouts as roots: layers with whiteouts, digests, and what the config says."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import anyio
import pytest

from aiopyvm import VM, ArchiveError, ImageSettings, OciRoot
from aiopyvm.cli import main
from aiopyvm.host.ociimage import REF_NAME
from tests.files.archives import Layout, entry, tar_of

LOWER = tar_of(
    entry("a", b"lower a"),
    entry("gone", b""),
    entry("dir/one", b"1"),
    entry("dir/two", b"2"),
    entry("full/deep/x", b""),
    entry("link", kind=tarfile.SYMTYPE, linkname="dir"),
)
UPPER = tar_of(
    entry("a", b"upper a"),
    entry(".wh.gone"),
    entry("dir/.wh.one"),
    entry("full/new", b"n"),
    entry("full/.wh..wh..opq"),
    entry("link/three", b"3"),
    entry(".wh..wh.plnk"),
    entry("dir", kind=tarfile.DIRTYPE, mode=0o711),
)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "image")


async def names(vm: VM, path: str) -> set[str]:
    return {found.name async for found in vm.path(path).iterdir()}


@pytest.mark.parametrize("pack", [False, True])
def test_layers_lie_one_over_the_other(layout: Layout, pack: bool) -> None:
    root = OciRoot(layout.index(layout.image(LOWER, UPPER, pack=pack)))

    async def check() -> None:
        vm = VM(root=root)
        assert await names(vm, "/") - {"dev", "proc"} == {"a", "dir", "full", "link"}
        assert await names(vm, "/dir") == {"two", "three"}
        assert await names(vm, "/full") == {"new"}
        assert await vm.path("/a").read_bytes() == b"upper a"
        assert (await vm.path("/dir").stat()).st_mode == 0o40711

    anyio.run(check)


def test_of_several_images_one_is_chosen(layout: Layout) -> None:
    one, other = layout.image(LOWER), layout.image(LOWER, UPPER)
    ours = {"platform": {"os": "linux", "architecture": "386"}}
    amd64 = {"platform": {"os": "linux", "architecture": "amd64"}}
    nested = layout.blob(json.dumps({"manifests": [other | amd64, one | ours]}).encode(), "index")
    path = layout.index(one | {"annotations": {REF_NAME: "one"}}, nested | {"annotations": {REF_NAME: "many"}})
    assert OciRoot(path, "one").tree() is OciRoot(path, "many").tree()
    for name in (None, "none"):
        with pytest.raises(ArchiveError, match="0 images"):
            OciRoot(path, name).tree()


def test_what_is_not_what_its_digest_says_is_refused(layout: Layout) -> None:
    path = layout.index(layout.image(LOWER))
    blobs = list((path / "blobs" / "sha256").iterdir())
    assert len(blobs) == 3
    for blob in blobs:
        data = blob.read_bytes()
        blob.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(ArchiveError, match=blob.name[:20]):
            OciRoot(path).tree()
        blob.write_bytes(data[:-1])
        with pytest.raises(ArchiveError, match="bytes, not"):
            OciRoot(path).tree()
        blob.write_bytes(data)


@pytest.mark.parametrize(
    "index",
    [
        "", "[]", "[" * 100_000, '{"manifests": 5}', '{"manifests": []}', '{"manifests": [5]}',
        '{"manifests": [{"digest": "sha256:../../../etc/passwd", "size": 1}]}', '{"config": []}', '{"config": 5}',
        '{"layers": []}', '{"manifests": [{"digest": null}]}',
    ],
)  # fmt: skip
def test_an_index_that_is_none(layout: Layout, index: str) -> None:
    layout.index()
    (layout.path / "index.json").write_text(index)
    with pytest.raises(ArchiveError):
        OciRoot(layout.path).tree()


def test_an_index_in_itself_ends(layout: Layout) -> None:
    """It cannot hold its own digest, but many of them can lie one in the other."""
    inner = layout.image(LOWER)
    for _ in range(10):
        inner = layout.blob(json.dumps({"manifests": [inner]}).encode(), "index")
    with pytest.raises(ArchiveError, match="no manifest"):
        OciRoot(layout.index(inner)).tree()


def test_a_layer_that_is_not_the_configs(layout: Layout) -> None:
    image = layout.image(LOWER, pack=True)
    manifest = layout.path / "blobs" / "sha256" / image["digest"][7:]
    document: dict[str, Any] = json.loads(manifest.read_text())
    document["layers"] = [layout.blob(UPPER, "layer")]
    with pytest.raises(ArchiveError, match="the config says"):
        OciRoot(layout.index(layout.blob(json.dumps(document).encode(), "manifest"))).tree()


def test_what_the_config_says(layout: Layout) -> None:
    described = layout.image(
        LOWER, Entrypoint=["/a", "-x"], Cmd=["y"], Env=["A=1=2", "=B", "C"], WorkingDir="/dir", User="7:8"
    )
    settings = OciRoot(layout.index(described)).settings()
    assert settings == ImageSettings(("/a", "-x", "y"), {"A": "1=2"}, "/dir", "7:8")
    assert OciRoot(layout.index(layout.image(LOWER))).settings() == ImageSettings((), {}, "/", "0")
    with pytest.raises(ArchiveError):
        OciRoot(layout.index(layout.image(LOWER, Cmd="x"))).settings()


def test_the_command_line_runs_an_image(
    layout: Layout, busybox: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    layer = tar_of(entry("bin/busybox", busybox.read_bytes(), mode=0o755), entry("work", kind=tarfile.DIRTYPE))
    command = ["/bin/busybox", "sh", "-c", "echo $NAME; pwd; /bin/busybox id -u"]
    path = layout.index(layout.image(layer, Cmd=command, Env=["NAME=image"], WorkingDir="/work", User="5"))
    assert main(["run", "--oci", str(path), "--"]) == 0
    assert capfdbinary.readouterr().out == b"image\n/work\n5\n"
    assert main(["run", "--oci", str(path), "--user", "6", "--cwd", "/", *command]) == 0
    assert capfdbinary.readouterr().out == b"image\n/\n6\n"
    archive = path / "a.tar"
    archive.write_bytes(layer)
    assert main(["run", "--tar", str(archive), "/bin/busybox", "echo", "--"]) == 0
    assert main(["run", "--tar", str(archive), "/bin/busybox", "echo", "x", "--"]) == 0
    assert main(["run", "--tar", str(archive), "--"]) == 125
    assert main(["run", "--tar", str(path), "x"]) == 125
    assert capfdbinary.readouterr().out == b"--\nx --\n"
