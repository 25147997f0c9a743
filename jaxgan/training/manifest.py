"""Checksums of a checkpoint, so that one flipped bit does not go unseen.

Orbax restores a file with a flipped bit without a word, and trips over a truncated one.
`SHA256SUMS` names every file of a directory; `sha256sum --check` understands it.
"""

import hashlib
from pathlib import Path

from jaxgan.training import workdir

NAME = "SHA256SUMS"


def write(directory: Path) -> None:
    """Writes the manifest of a directory that is complete, in one piece."""
    names = sorted(_files(directory))
    lines = [f"{_digest(directory / name)}  {name}\n" for name in names]
    workdir.replace_file(directory / NAME, "".join(lines))


def exists(directory: Path) -> bool:
    """Whether the save of this directory came to its end."""
    return (directory / NAME).exists()


def problem(directory: Path) -> str | None:
    """Returns what is wrong with a directory, or None if it is as it was written."""
    if not exists(directory):
        return f"it has no {NAME}, so its save was cut short"
    try:
        expected = _parse((directory / NAME).read_text(encoding="ascii"))
    except ValueError:
        return f"{NAME} is damaged"
    found = _files(directory)
    if missing := sorted(set(expected) - found):
        return f"{missing[0]} is missing"
    if unlisted := sorted(found - set(expected)):
        return f"{unlisted[0]} is not in {NAME}"
    for name, digest in expected.items():
        if _digest(directory / name) != digest:
            return f"{name} is truncated or altered"
    return None


def _parse(text: str) -> dict[str, str]:
    """Maps file names to digests; ValueError if a line is not of that kind."""
    # Not splitlines: a break whose bit flipped may be one of its other breaks.
    *lines, rest = text.split("\n")
    if rest or not lines:
        raise ValueError("the last line is cut short")
    pairs = [line.split("  ", 1) for line in lines]
    return {name: digest for digest, name in pairs}


def _files(directory: Path) -> set[str]:
    """All files by relative name, without the manifest and what desktops leave."""
    return {
        path.relative_to(directory).as_posix()
        for path in directory.rglob("*")
        if path.is_file() and path.name != NAME and not path.name.startswith(".")
    }


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
