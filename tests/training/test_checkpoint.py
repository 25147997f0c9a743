"""Checkpoints: what was saved comes back, and what was damaged does not."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import chex
import jax
import ml_dtypes
import numpy as np
import optax
import pytest
import toy

from jaxgan.errors import NonFiniteError, UserError
from jaxgan.training import checkpoint, manifest, reader


def make_state(step: int = 1) -> toy.State:
    """A state whose arrays tell its step, with the kinds that real states have."""
    params = {
        "conv": {"kernel": np.full((3, 4), step, np.float32)},
        "half": np.full(5, step, ml_dtypes.bfloat16),
        "zero": np.array([-0.0, step], np.float32),
    }
    optimiser = jax.device_get(optax.adam(1e-3).init(params))
    gen = {"params": params, "opt": optimiser, "stats": {}}
    extra = (np.arange(4, dtype=np.uint8), np.bool_(step % 2), np.uint32(2**32 - 1))
    return toy.State(np.int32(step), gen, None, extra)


def save(directory: Path, steps: dict[int, float | None], **options) -> None:
    """Saves steps with the given "ssim", or none."""
    with checkpoint.Checkpoints(directory, metric="ssim", **options) as checkpoints:
        for step, ssim in steps.items():
            metrics = {} if ssim is None else {"ssim": ssim, "psnr": 0.0}
            checkpoints.save(step, make_state(step), metrics=metrics)


def kept(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def assert_same(actual, expected) -> None:
    chex.assert_trees_all_equal_structs(actual, expected)
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes()


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """Steps 1 and 2, to be copied rather than changed."""
    directory = tmp_path_factory.mktemp("saved") / "checkpoints"
    save(directory, {1: None, 2: None})
    return directory


@pytest.fixture
def directory(saved, tmp_path) -> Path:
    shutil.copytree(saved, tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def test_restores_every_kind_of_array_bit_by_bit(saved):
    state, step = reader.restore(saved, make_state())
    assert step == 2
    assert_same(state, make_state(2))


def test_shapes_alone_say_what_to_restore(saved):
    like = jax.eval_shape(make_state)
    state, _ = reader.restore(saved, like, step=1)
    assert_same(state, make_state(1))


def test_nothing_saved_is_nothing_restored(tmp_path):
    assert reader.restore(tmp_path / "none", make_state()) is None


def test_keeps_newest_and_best(tmp_path):
    save(tmp_path, {1: 0.2, 2: 0.9, 3: 0.1, 4: np.nan, 5: None, 6: None}, keep=2)
    assert kept(tmp_path) == ["2", "5", "6"]
    assert reader.restore(tmp_path, make_state(), step="best")[1] == 2
    assert reader.restore(tmp_path, make_state())[1] == 6


def test_best_may_be_the_lowest(tmp_path):
    save(tmp_path, {1: 0.2, 2: 0.9, 3: 0.4}, mode="min", keep=2)
    assert reader.restore(tmp_path, make_state(), step="best")[1] == 1


def test_best_is_the_newest_if_none_was_evaluated(saved):
    assert reader.read(saved, step="best")[1] == 2


def test_reads_only_the_branches_asked_for(saved):
    tree, step = reader.read(saved, only=["gen.params.conv", "gen.stats", "disc"])
    expected = make_state(2).gen["params"]["conv"]
    assert step == 2
    assert tree.keys() == {"gen", "disc"} and tree["disc"] is None
    assert tree["gen"].keys() == {"params", "stats"} and tree["gen"]["stats"] == {}
    chex.assert_trees_all_equal(tree["gen"]["params"], {"conv": expected})
    with pytest.raises(UserError, match="has no gen.nothing"):
        reader.read(saved, only=["gen.nothing"])


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip_a_bit, Path.unlink])
def test_any_damage_to_any_file_falls_back_to_the_step_before(directory, damage):
    files = [path for path in (directory / "2").rglob("*") if path.is_file()]
    assert len(files) > 5
    for path in files:
        original = path.read_bytes()
        damage(path)
        with pytest.warns(UserWarning, match=r"/2 is damaged.*using step 1 instead"):
            state, _ = reader.restore(directory, make_state())
        assert state.step == 1, path
        path.write_bytes(original)
    assert reader.restore(directory, make_state())[1] == 2


def test_a_damaged_step_can_be_saved_again(directory):
    flip_a_bit(directory / "2" / "default" / "_METADATA")
    with checkpoint.Checkpoints(directory) as checkpoints:
        with pytest.warns(UserWarning, match="using step 1 instead"):
            assert_same(checkpoints.restore(make_state())[0], make_state(1))
        with pytest.warns(UserWarning, match="now named 2.damaged"):
            checkpoints.save(2, make_state(2))
            checkpoints.wait()
        assert kept(directory) == ["1", "2", "2.damaged"]
        assert_same(checkpoints.restore(make_state())[0], make_state(2))


def test_a_step_without_manifest_is_not_trusted(directory):
    # What a kill between Orbax's commit and the manifest leaves.
    (directory / "2" / manifest.NAME).unlink()
    with pytest.warns(UserWarning, match="save was cut short; using step 1"):
        assert reader.restore(directory, make_state())[1] == 1


def test_a_first_save_cut_short_starts_from_scratch(directory):
    shutil.rmtree(directory / "1")
    (directory / "2" / manifest.NAME).unlink()
    with checkpoint.Checkpoints(directory) as checkpoints:
        with pytest.warns(UserWarning, match="there is no other"):
            assert checkpoints.restore(make_state()) is None
        with pytest.warns(UserWarning, match="now named 2.damaged"):
            checkpoints.save(2, make_state(2))
            checkpoints.wait()
    assert kept(directory) == ["2", "2.damaged"]


def test_work_is_not_thrown_away_when_all_is_damaged(directory):
    for step in "12":
        truncate(directory / step / "default" / "_METADATA")
    with pytest.raises(UserError, match=r"(?s)/2: .*/1: .*move .* away to start"):
        reader.restore(directory, make_state())
    assert kept(directory) == ["1", "2"]


def test_damage_to_an_older_step_does_not_stop_saving(directory):
    truncate(directory / "1" / "metrics" / "metrics")
    with checkpoint.Checkpoints(directory) as checkpoints:
        assert checkpoints.restore(make_state())[1] == 2
        with pytest.warns(UserWarning, match="now named 1.damaged"):
            checkpoints.save(3, make_state(3))
            checkpoints.wait()
    assert kept(directory) == ["1.damaged", "2", "3"]


def test_a_numbered_step_must_be_there_and_sound(directory):
    with pytest.raises(UserError, match="no checkpoint of step 7; kept: 1, 2"):
        reader.restore(directory, make_state(), step=7)
    truncate(directory / "1" / "default" / "_METADATA")
    with pytest.raises(UserError, match="_METADATA is truncated or altered"):
        reader.restore(directory, make_state(), step=1)


def test_another_network_is_told_apart(saved):
    other = make_state()
    del other.gen["params"]["half"]
    other.gen["params"]["conv"] = {
        "kernel": np.zeros((3, 5), np.float32),
        "bias": np.zeros(3, np.float32),
    }
    with pytest.raises(UserError) as error:
        reader.restore(saved, other)
    for line in (
        "gen.params.conv.bias is missing",
        "gen.params.half is unexpected",
        r"gen.params.conv.kernel is float32[3, 4], expected float32[3, 5]",
    ):
        assert line in str(error.value)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_state_that_is_not_finite_is_not_written(directory, value):
    state = make_state(3)
    state.gen["params"]["half"][2] = value
    with checkpoint.Checkpoints(directory) as checkpoints:
        with pytest.raises(NonFiniteError, match="gen.params.half.*after step 3"):
            checkpoints.save(3, state)
    assert kept(directory) == ["1", "2"]


def test_the_state_may_change_while_it_is_written(tmp_path):
    state = make_state(4)
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(4, state)
        state.gen["params"]["conv"]["kernel"][:] = 7
    assert_same(reader.restore(tmp_path, make_state())[0], make_state(4))


def test_a_step_that_exists_is_left_as_it_is(directory):
    with checkpoint.Checkpoints(directory) as checkpoints:
        checkpoints.save(2, make_state(7))
    assert_same(reader.restore(directory, make_state())[0], make_state(2))


def test_a_failed_save_is_reported_by_the_next(tmp_path, monkeypatch):
    def fail(directory):
        raise OSError("disk gone")

    monkeypatch.setattr(manifest, "write", fail)
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, make_state())
        with pytest.raises(OSError, match="disk gone"):
            checkpoints.save(2, make_state())


def test_a_full_disk_is_noticed_before_writing(tmp_path, monkeypatch):
    usage = shutil._ntuple_diskusage(10**9, 10**9, 10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with checkpoint.Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(UserError, match="no room"):
            checkpoints.save(1, make_state())


SHARE = """
import sys
import jax
jax.config.update("jax_platforms", "cpu")
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
sys.path.insert(0, sys.argv[3])
import test_checkpoint as tests
own_disk = tests.Path(sys.argv[4]) / sys.argv[2]
with tests.checkpoint.Checkpoints(own_disk) as checkpoints:
    assert checkpoints.restore(tests.make_state()) is None
    checkpoints.save(3, tests.make_state(3))
    checkpoints.wait()
    state, step = checkpoints.restore(jax.eval_shape(tests.make_state))
    tests.assert_same(state, tests.make_state(3))
assert step == 3
"""


@pytest.mark.slow
def test_one_process_writes_and_the_other_receives(tmp_path):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    here = str(Path(__file__).parent)
    command = [sys.executable, "-W", "error", "-c", SHARE, address]
    processes = [
        subprocess.Popen([*command, str(i), here, str(tmp_path)]) for i in range(2)
    ]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert kept(tmp_path) == ["0"] and kept(tmp_path / "0") == ["3"]


def test_one_checkpoint_is_too_few(tmp_path):
    with pytest.raises(UserError, match="--keep_checkpoints=1"):
        checkpoint.Checkpoints(tmp_path, keep=1)
