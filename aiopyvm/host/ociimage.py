"""Images in OCI image layout directories (OCI image-spec: image-layout, manifest, config, layer).

Of an index with several manifests that for linux/386 is taken, or the only one. Every blob's size and digest are
checked before anything in it is used, and each layer's against the config's `diff_ids`.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from typing import Any, Final

from aiopyvm.errors import ArchiveError
from aiopyvm.host.archives import TREES
from aiopyvm.host.archivetree import ArchiveTree, TreeBuilder
from aiopyvm.host.tarmembers import members
from aiopyvm.host.unpack import CHUNK, identity_of, open_plain, unpack

MOST_JSON: Final = 4 << 20  # bytes of an index, manifest or config
MOST_LAYERS: Final = 256
MOST_INDEXES: Final = 4  # one in the other
REF_NAME: Final = "org.opencontainers.image.ref.name"
_DIGEST: Final = re.compile(r"(sha256):([0-9a-f]{64})|(sha512):([0-9a-f]{128})")


@dataclass(frozen=True)
class Image:
    """An image: its config as JSON has it, and its layers' files, lowest first."""

    config: dict[str, Any]
    layers: tuple[str, ...]
    diff_ids: tuple[str, ...]


def read_image(path: str, name: str | None) -> Image:
    """Read index, manifest and config of the layout in directory `path`; `name` says which of several images.

    Raises OSError, ArchiveError.
    """
    manifest = _manifest(path, name)
    config = _blob_json(path, _mapping(path, manifest, "config"))
    layers = manifest.get("layers")
    diff_ids = _mapping(path, config, "rootfs").get("diff_ids")
    if not isinstance(layers, list) or not isinstance(diff_ids, list) or len(layers) != len(diff_ids):
        raise ArchiveError(path, None, "the manifest's layers are not those of the config")
    if len(layers) > MOST_LAYERS:
        raise ArchiveError(path, None, f"more than {MOST_LAYERS} layers")
    return Image(config, tuple(_checked_blob(path, layer) for layer in layers), tuple(map(str, diff_ids)))


def image_tree(path: str, image: Image) -> ArchiveTree:
    """Return the tree that an image's layers make. Raises OSError, ArchiveError."""
    key: list[object] = ["oci", *image.diff_ids]
    for layer in image.layers:
        with open_plain(layer) as file:
            key.append(identity_of(file.fileno()))
    return TREES.get(tuple(key), lambda: _read_layers(image))


def _read_layers(image: Image) -> ArchiveTree:
    builder = TreeBuilder()
    for layer, diff_id in zip(image.layers, image.diff_ids, strict=True):
        archive = unpack(layer)
        found = archive.unpacked_sha256 or os.path.basename(layer)
        if diff_id.startswith("sha256:") and len(found) == 64 and diff_id != f"sha256:{found}":
            raise ArchiveError(layer, None, f"the config says that it unpacks to {diff_id}, not sha256:{found}")
        builder.add_layer(archive, members(archive))
    return ArchiveTree(builder.root)


def _manifest(path: str, name: str | None) -> dict[str, Any]:
    found = _parse(path, _read(os.path.join(path, "index.json")))
    for depth in range(MOST_INDEXES):
        if "manifests" not in found:
            return found
        listed = found["manifests"]
        if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
            raise ArchiveError(path, None, "an index whose manifests are no list")
        found = _blob_json(path, _choose(path, listed, name if depth == 0 else None))
    raise ArchiveError(path, None, "indexes that lead to no manifest")


def _choose(path: str, listed: list[dict[str, Any]], name: str | None) -> dict[str, Any]:
    if name is not None:
        listed = [one for one in listed if _mapping(path, one, "annotations").get(REF_NAME) == name]
    ours = [one for one in listed if _is_ours(path, one)] if len(listed) > 1 else listed
    if len(ours) != 1:
        which = f"named {name!r}" if name is not None else "for linux/386; say which by its name"
        raise ArchiveError(path, None, f"{len(ours)} images {which}")
    return ours[0]


def _is_ours(path: str, one: dict[str, Any]) -> bool:
    platform = _mapping(path, one, "platform")
    return (platform.get("os"), platform.get("architecture")) == ("linux", "386")


def _mapping(path: str, parent: dict[str, Any], name: str) -> dict[str, Any]:
    value = parent.get(name) or {}
    if not isinstance(value, dict):
        raise ArchiveError(path, None, f"{name} is no JSON object")
    return value


def _blob_json(path: str, descriptor: dict[str, Any]) -> dict[str, Any]:
    blob = _checked_blob(path, descriptor)
    return _parse(blob, _read(blob))


def _read(path: str) -> bytes:
    with open_plain(path) as file:
        data = file.read(MOST_JSON + 1)
    if len(data) > MOST_JSON:
        raise ArchiveError(path, MOST_JSON, "more JSON than an image may have")
    return data


def _parse(path: str, data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ArchiveError(path, getattr(error, "pos", None), f"no JSON: {error}") from None
    if not isinstance(value, dict):
        raise ArchiveError(path, 0, "no JSON object")
    return value


def _checked_blob(path: str, descriptor: object) -> str:
    """Return the file of a blob whose size and digest are those of its descriptor. Raises OSError, ArchiveError."""
    if not isinstance(descriptor, dict):
        raise ArchiveError(path, None, "a descriptor is no JSON object")
    parts = _DIGEST.fullmatch(str(descriptor.get("digest")))
    if parts is None:
        raise ArchiveError(path, None, f"no digest that is understood: {descriptor.get('digest')!r}")
    algorithm, expected = (part for part in parts.groups() if part)
    blob = os.path.join(path, "blobs", algorithm, expected)
    digest = hashlib.new(algorithm)
    with open_plain(blob) as file:
        size = os.fstat(file.fileno()).st_size
        if size != descriptor.get("size"):
            raise ArchiveError(blob, size, f"has {size} bytes, not {descriptor.get('size')!r}")
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != expected:
        raise ArchiveError(blob, None, f"its content is not what its digest says, but {digest.hexdigest()}")
    return blob
