"""What the command line says about the guest's files: --root, --tar, --oci and --mount, and an image's own settings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiopyvm import HostDir, OciRoot, TarRoot


def root_of(arguments: Any) -> OciRoot | TarRoot | HostDir | None:
    """Return the guest's tree: what --oci, --tar or --root name, None where there is none of them.

    The directory is taken to stay as it is while the guest runs.
    """
    if arguments.oci is not None:
        return _image(arguments.oci)
    if arguments.tar is not None:
        from aiopyvm import TarRoot

        return TarRoot(arguments.tar)
    if arguments.root is not None:
        from aiopyvm import HostDir

        return HostDir(arguments.root, "cow", steady=True)
    return None


def _image(text: str) -> OciRoot:
    """DIR or DIR:NAME; a directory of the whole name is that."""
    from aiopyvm import OciRoot

    path, colon, name = text.rpartition(":")
    return OciRoot(path, name) if colon and path and not os.path.isdir(text) else OciRoot(text)


def use_image(arguments: Any) -> None:
    """Fill in what was left open from the --oci image: program, variables, directory, user. Raises ValueError where no
    program is named, OSError, ArchiveError."""
    if arguments.oci is not None:
        settings = _image(arguments.oci).settings()
        arguments.env = [*settings.env.items(), *arguments.env]
        arguments.cwd = arguments.cwd or settings.cwd
        arguments.user = arguments.user or settings.user
        if getattr(arguments, "program", None) == "" and settings.command:
            arguments.program, *arguments.arguments = settings.command
    if getattr(arguments, "program", None) == "":
        raise ValueError("no program to run" if arguments.oci is None else f"{arguments.oci}: names no command to run")


def mounts_of(arguments: Any) -> dict[str, HostDir]:
    """Return the directories of this host that the guest gets, by their place there."""
    from aiopyvm import HostDir

    return {guest: HostDir(host, mode) for host, guest, mode in arguments.mount}
