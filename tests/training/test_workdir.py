"""One run, one directory, one process; and its JSON files."""

import dataclasses
import json
import subprocess
import sys

import pytest

from jaxgan.config import option
from jaxgan.errors import UserError
from jaxgan.training import environment, workdir


@dataclasses.dataclass(frozen=True)
class Config:
    width: int = option(64, "channels")
    norm: str = option("batch", "normalisation")


@dataclasses.dataclass(frozen=True)
class Run:
    steps: int = option(100, "length")
    seed: int = option(0, "of everything")


def configure(path, *, method="pix2pix", config=Config(), run=Run()) -> dict:  # noqa: B008
    """Enters a workdir as a main does, and returns its config.json."""
    with workdir.Workdir(path) as held:
        sections = {"config": config, "run": run}
        held.configure(method, sections, changeable={"run": {"steps"}})
    return workdir.read_config(path)


def test_naming_a_workdir_touches_nothing(tmp_path):
    workdir.Workdir(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_paths_are_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert workdir.Workdir("runs/a").checkpoints == tmp_path / "runs/a/checkpoints"


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_a_file_is_no_workdir(tmp_path, name):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        UserError, match=f"cannot write in {tmp_path / name}: .*workdir"
    ):
        workdir.Workdir(tmp_path / name).__enter__()


def test_a_read_only_directory_is_said_to_be_so(tmp_path, monkeypatch):
    def refuse(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(workdir.tempfile, "TemporaryFile", refuse)
    with pytest.raises(UserError, match="Read-only file system; --workdir"):
        workdir.Workdir(tmp_path).__enter__()


def test_an_empty_name_asks_for_the_flag():
    with pytest.raises(UserError, match="--workdir=DIR"):
        workdir.Workdir("")


HOLD = """
import sys
from jaxgan.training.workdir import Workdir
with Workdir(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_told_who_is_there(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=f"in use by process {holder.pid} on "):
            workdir.Workdir(tmp_path).__enter__()
        workdir.Workdir(tmp_path, writer=False).__enter__()  # its other processes
        holder.kill()  # however it ends, no stale lock stays
        holder.wait()
        with workdir.Workdir(tmp_path):
            pass


def test_the_same_configuration_may_come_again(tmp_path):
    content = configure(tmp_path)
    assert content == {
        "format_version": 1,
        "method": "pix2pix",
        "config": {"width": 64, "norm": "batch"},
        "run": {"steps": 100, "seed": 0},
    }
    assert configure(tmp_path) == content


def test_what_may_change_is_stored_as_it_was_last(tmp_path):
    configure(tmp_path)
    assert configure(tmp_path, run=Run(steps=200))["run"]["steps"] == 200


def test_differences_are_listed_field_by_field(tmp_path):
    configure(tmp_path)
    with pytest.raises(UserError) as error:
        configure(tmp_path, config=Config(width=32, norm="none"), run=Run(seed=1))
    for line in (
        "config.width: 64 there, 32 now",
        "config.norm: 'batch' there, 'none' now",
        "run.seed: 0 there, 1 now",
        "may change only: steps",
    ):
        assert line in str(error.value)
    assert workdir.read_config(tmp_path)["config"]["width"] == 64


def test_another_method_is_one_difference(tmp_path):
    configure(tmp_path)
    with pytest.raises(UserError, match="method: pix2pix there, cyclegan now"):
        configure(tmp_path, method="cyclegan", config=Run())


def edit(path, change) -> None:
    content = json.loads((path / "config.json").read_text())
    change(content)
    (path / "config.json").write_text(json.dumps(content))


def test_fields_of_a_later_version_count_as_their_defaults(tmp_path):
    configure(tmp_path)
    edit(tmp_path, lambda content: content["config"].pop("norm"))
    configure(tmp_path)
    with pytest.raises(UserError, match="config.norm: 'batch' there, 'none' now"):
        configure(tmp_path, config=Config(norm="none"))


def test_a_config_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match=r"config.json does not exist: --workdir"):
        workdir.read_config(tmp_path)
    configure(tmp_path)
    edit(tmp_path, lambda content: content.update(format_version=9))
    with pytest.raises(UserError, match="format_version 9, expected 1"):
        workdir.read_config(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        workdir.read_config(tmp_path)


def test_every_start_adds_its_environment(tmp_path):
    with workdir.Workdir(tmp_path) as held:
        held.record_environment(environment.describe())
        held.record_environment(environment.describe())
    starts = held.read_json("env.json")["starts"]
    assert len(starts) == 2
    assert starts[0]["packages"]["jax"][0].isdigit()
    assert starts[0]["devices"][0].startswith("cpu")


def test_a_crash_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    workdir.replace_file(tmp_path / "a", "old")

    def crash(source, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(workdir.os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        workdir.replace_file(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"


def test_only_the_writer_writes(tmp_path):
    with workdir.Workdir(tmp_path / "new", writer=False) as other:
        other.write_json("normalization.json", {})
    assert not (tmp_path / "new").exists()
