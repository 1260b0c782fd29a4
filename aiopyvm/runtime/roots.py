"""Trees for a guest out of archives: tar files and OCI images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from aiopyvm.host.archivetree import ArchiveTree

Mode = Literal["ro", "cow"]


@dataclass(frozen=True)
class TarRoot:
    """What is in a tar file, plain or compressed (gzip, bzip2, xz; zstd with the package zstandard), as a tree.

    `mode` is "cow" (changes stay in the guest's memory) or "ro". Owners, permissions and times are the archive's.
    The file is read once per process, when a guest first uses it (or by `load`); it must not change then: opening
    something in a changed archive is ESTALE for the guest. Raises ValueError for another mode, TypeError for no path.
    """

    path: str | os.PathLike[str]
    mode: Mode = "cow"

    def __post_init__(self) -> None:
        _check(self.path, self.mode)

    def tree(self) -> ArchiveTree:
        """Return the tree, read if it was not. Raises OSError, ArchiveError."""
        from aiopyvm.host.archives import tar_tree

        return tar_tree(os.fspath(self.path))

    async def load(self) -> None:
        """Read the archive in a thread, so that the first guest need not. Raises OSError, ArchiveError."""
        await _in_thread(self)


@dataclass(frozen=True)
class OciRoot:
    """An image of an OCI image layout directory as a tree; `image` names one of several (its "ref.name").

    As `TarRoot`. `settings()` is what the image says about how to run it.
    """

    path: str | os.PathLike[str]
    image: str | None = None
    mode: Mode = "cow"

    def __post_init__(self) -> None:
        _check(self.path, self.mode)

    def tree(self) -> ArchiveTree:
        """Return the tree, read if it was not. Raises OSError, ArchiveError."""
        from aiopyvm.host.ociimage import image_tree, read_image

        path = os.fspath(self.path)
        return image_tree(path, read_image(path, self.image))

    def settings(self) -> ImageSettings:
        """Return the image's own command, environment, directory and user. Raises OSError, ArchiveError."""
        from aiopyvm.host.ociimage import read_image

        path = os.fspath(self.path)
        return _settings(path, read_image(path, self.image).config)

    async def load(self) -> None:
        """Read the image in a thread, so that the first guest need not. Raises OSError, ArchiveError."""
        await _in_thread(self)


@dataclass(frozen=True)
class ImageSettings:
    """What an image's config says: for `VM(env=, cwd=, user=)` and `vm.run(*command)`."""

    command: tuple[str, ...]
    env: dict[str, str]
    cwd: str
    user: str


def _settings(path: str, config: dict[str, Any]) -> ImageSettings:
    from aiopyvm.errors import ArchiveError

    given = config.get("config") or {}
    if not isinstance(given, dict):
        raise ArchiveError(path, None, "the image's config is no JSON object")
    lists = [given.get(name) or [] for name in ("Entrypoint", "Cmd", "Env")]
    texts = [given.get(name) or default for name, default in (("WorkingDir", "/"), ("User", "0"))]
    for strings in (*lists, texts):
        if not isinstance(strings, list) or not all(isinstance(text, str) and "\0" not in text for text in strings):
            raise ArchiveError(path, None, "the image's Entrypoint, Cmd and Env are no lists of strings")
    entrypoint, command, env = lists
    variables = dict(text.split("=", 1) for text in env if "=" in text[1:])
    return ImageSettings((*entrypoint, *command), variables, texts[0], texts[1])


def _check(path: object, mode: object) -> None:
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"an archive is named by a path, not {type(path).__name__}")
    if mode not in ("ro", "cow"):
        raise ValueError(f'the mode of a tree out of an archive is "ro" or "cow", not {mode!r}')


async def _in_thread(root: TarRoot | OciRoot) -> None:
    from anyio import to_thread

    await to_thread.run_sync(root.tree)
