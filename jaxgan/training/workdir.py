"""A run's directory: held by one process, described by small JSON files.

    config.json         what was run: the method and its configuration, in sections
    env.json            on what: versions, devices and command line of every start
    normalization.json  how stored images became numbers in [-1, 1]

A workdir is never deleted, and none of its files is ever seen half-written.
"""

import contextlib
import json
import os
import socket
import tempfile
import warnings
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from jaxgan import config as configs
from jaxgan.errors import UserError

try:
    import fcntl
except ImportError:  # Windows has no advisory locks of this kind
    fcntl = None

FORMAT_VERSION = 1

JSON = dict[str, Any]


class Workdir:
    """The directory of one run.

    Naming it touches nothing. Entering it (`with Workdir(path) as workdir`) creates it
    and holds it against every other process until the block ends; readers, such as
    prediction, do not enter.
    """

    def __init__(self, path: str | os.PathLike[str], *, writer: bool = True):
        """Names a workdir; of several processes only the `writer` locks and writes.

        Raises `UserError` if `path` is empty.
        """
        if not os.fspath(path):
            raise UserError("no workdir given: add --workdir=DIR")
        self.path = Path(path).expanduser().resolve()
        self._writer = writer
        self._held = contextlib.ExitStack()

    @property
    def checkpoints(self) -> Path:
        """Where `checkpoint.Checkpoints` keeps its steps."""
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        """Where grids of images go."""
        return self.path / "samples"

    @property
    def profile(self) -> Path:
        """Where `--profile_steps` writes its trace."""
        return self.path / "profile"

    def __enter__(self) -> "Workdir":
        """Creates and locks the directory; `UserError` if that cannot be done."""
        if self._writer:
            _create(self.path)
            self._held.enter_context(_locked(self.path))
        return self

    def __exit__(self, *exception: object) -> None:
        """Lets the next process in."""
        self._held.close()

    def configure(
        self,
        method: str,
        sections: Mapping[str, Any],
        *,
        changeable: Mapping[str, Collection[str]],
    ) -> None:
        """Writes `config.json`, once the run that is here is known to be the same.

        `sections` are dataclasses by name ("config", "data", "run"); `changeable` names
        the fields of a section that a resumed run may change. Fields that an older
        version did not know count as their defaults. Raises `UserError` with every
        difference.
        """
        if (self.path / "config.json").exists():
            _check_same(self.path, method, sections, changeable)
        values = {name: configs.to_dict(section) for name, section in sections.items()}
        content = {"format_version": FORMAT_VERSION, "method": method, **values}
        self.write_json("config.json", content)

    def record_environment(self, environment: JSON) -> None:
        """Adds this start to `env.json`."""
        starts = []
        if (self.path / "env.json").exists():
            starts = self.read_json("env.json")["starts"]
        self.write_json("env.json", {"starts": [*starts, environment]})

    def write_json(self, name: str, content: JSON) -> None:
        """Writes a JSON file of the workdir in one piece, on the writer alone."""
        if self._writer:
            replace_file(self.path / name, json.dumps(content, indent=2) + "\n")

    def read_json(self, name: str) -> JSON:
        """Reads a JSON file of the workdir; `UserError` if it is absent or torn."""
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(
                f"{self.path / name} does not exist: --workdir must name a directory"
                " in which a training run was started"
            ) from None
        except ValueError as error:
            raise UserError(f"{self.path / name} is not valid JSON: {error}") from error


def read_config(path: str | os.PathLike[str]) -> JSON:
    """Returns the `config.json` of a workdir: "method" and one dict per section.

    Raises `UserError` if there is none or a newer version of jaxgan wrote it.
    """
    workdir = Workdir(path)
    content = workdir.read_json("config.json")
    version = content.get("format_version")
    if version != FORMAT_VERSION:
        raise UserError(
            f"{workdir.path / 'config.json'} has format_version {version}, expected"
            f" {FORMAT_VERSION}: use the jaxgan that wrote it (see env.json)"
        )
    return content


def replace_file(path: Path, content: str) -> None:
    """Writes a text file so that a reader, or a crash, sees the old or the new one."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def _create(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise UserError(
            f"cannot write in {path}: {error.strerror}; --workdir must name a directory"
            " that you may create and write"
        ) from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the lock file of a workdir.

    The kernel frees the lock when the process ends, however it ends, so that no stale
    lock is possible; the file's content only tells people who holds it.
    """
    with open(path / ".lock", "a+", encoding="utf-8") as file:
        _acquire(file, path)
        file.seek(0)
        file.truncate()
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        yield


def _acquire(file: IO[str], path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        holder = file.read().strip() or "another process"
        raise UserError(
            f"{path} is in use by {holder}: wait for it to end, or choose another"
            " --workdir"
        ) from None
    except OSError as error:  # some network file systems know no locks
        warnings.warn(f"cannot lock {path}: {error.strerror}", stacklevel=2)


def _check_same(
    path: Path,
    method: str,
    sections: Mapping[str, Any],
    changeable: Mapping[str, Collection[str]],
) -> None:
    stored = read_config(path)
    differences = []
    if stored.get("method") != method:
        differences.append(f"method: {stored.get('method')} there, {method} now")
    else:
        for name, section in sections.items():
            allowed = changeable.get(name, ())
            differences += _differences(name, stored.get(name, {}), section, allowed)
    if differences:
        may_change = ", ".join(sorted(set().union(*changeable.values())))
        raise UserError(
            f"{path} holds a run of another configuration:\n"
            + "".join(f"    {line}\n" for line in differences)
            + "  Give the old values, or choose another --workdir. A resumed run may"
            f" change only: {may_change or 'nothing'}."
        )


def _differences(
    name: str, stored: JSON, section: Any, allowed: Collection[str]
) -> list[str]:
    try:
        before = configs.to_dict(configs.from_dict(type(section), stored))
    except ValueError as error:
        return [f"{name}: {error}"]
    # Through JSON, as the stored side went: tuples have become lists.
    before, now = (
        json.loads(json.dumps(x)) for x in (before, configs.to_dict(section))
    )
    return [
        f"{name}.{field}: {before[field]!r} there, {now[field]!r} now"
        for field in now
        if field not in allowed and before[field] != now[field]
    ]
