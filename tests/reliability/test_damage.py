"""Checkpoints with damage anywhere, and disks that refuse anywhere.

JAXGAN_CASES=2000 tries more places than the suite does.
"""

import contextlib
import json
import os
import resource
import shutil
import warnings
import zipfile
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
import toy

from jaxgan import predict
from jaxgan.data import writers
from jaxgan.data.readers import Meta
from jaxgan.errors import UserError
from jaxgan.training import manifest, reader, workdir

CASES = int(os.environ.get("JAXGAN_CASES", "200"))
GOLDEN = Path(__file__).parents[1] / "goldens" / "workdir_0.zip"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workdir with checkpoints of several steps."""
    folder = tmp_path_factory.mktemp("trained")
    toy.train(folder, total=8)
    return folder


def test_any_byte_of_a_checkpoint_is_missed(trained, tmp_path):
    """Flipped or cut off there, the step is known to be damaged."""
    shutil.copytree(trained / "checkpoints" / "8", tmp_path / "8")
    files = [p for p in (tmp_path / "8").rglob("*") if p.is_file()]
    places = [(p, i) for p in files for i in range(p.stat().st_size)]
    rng = np.random.default_rng(0)
    chosen = rng.permutation(len(places))[:CASES]
    assert manifest.problem(tmp_path / "8") is None
    for number in chosen:
        path, at = places[number]
        content = path.read_bytes()
        altered = bytearray(content)
        altered[at] ^= 1 << int(rng.integers(8))
        for damaged in (altered, content[:at]):
            path.write_bytes(damaged)
            problem = manifest.problem(tmp_path / "8")
            assert problem, (path, at)
        path.write_bytes(content)
    assert manifest.problem(tmp_path / "8") is None


def test_any_bit_of_the_manifest_itself_is_missed(trained, tmp_path):
    shutil.copytree(trained / "checkpoints" / "8", tmp_path / "8")
    path = tmp_path / "8" / manifest.NAME
    content = path.read_bytes()
    breaks = [i for i, byte in enumerate(content) if byte == ord("\n")]
    for at in breaks[:2] + breaks[-1:]:
        for bit in range(8):
            altered = bytearray(content)
            altered[at] ^= 1 << bit
            path.write_bytes(altered)
            assert manifest.problem(tmp_path / "8"), (at, bit)


@pytest.mark.parametrize("region", [0.0, 0.5, 0.999])
@pytest.mark.parametrize("kind", ["flipped", "cut", "zeroed"])
def test_the_newest_intact_step_is_used_and_the_damage_named(
    trained, tmp_path, kind, region
):
    shutil.copytree(trained, tmp_path / "w")
    checkpoints = tmp_path / "w" / "checkpoints"
    steps = reader.steps(checkpoints)
    newest = checkpoints / str(steps[-1])
    path = max((newest / "default" / "d").iterdir(), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    at = int(region * len(content))
    if kind == "flipped":
        content[at] ^= 0x10
    elif kind == "cut":
        del content[at:]
    else:
        content[at : at + 64] = bytes(min(64, len(content) - at))
        content[at] ^= 1  # what was zero before is damaged too
    path.write_bytes(content)
    name = path.relative_to(newest).as_posix()
    with pytest.warns(UserWarning, match=f"{newest} is damaged: {name}"):
        state, step = reader.restore(checkpoints, toy.init())
    assert step == steps[-2]
    intact, _ = reader.restore(trained / "checkpoints", toy.init(), step=step)
    chex.assert_trees_all_equal(state, intact)


@contextlib.contextmanager
def small_disk(size):
    """Lets no file grow beyond so many bytes, not even the output of the tests."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size", [0, 10, 300, 2000])
def test_an_image_that_does_not_fit_leaves_nothing(tmp_path, size):
    planes = np.random.default_rng(0).integers(0, 255, (2, 40, 50, 1)).astype("u1")
    like = Meta("TYX", (2, 40, 50), format="imagej")
    path = tmp_path / "a.tif"
    writers.write_tiff(path, planes, like=like)
    before = path.read_bytes()
    with small_disk(size), pytest.raises(OSError, match="too large"):
        writers.write_tiff(path, planes[::-1], like=like)
    with small_disk(size), pytest.raises(OSError, match="too large"):
        with writers.open_rows(path, planes.shape, planes.dtype, like=like) as rows:
            for n in range(2):
                rows.put(n, 0, planes[n])
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def test_a_json_that_does_not_fit_leaves_the_old_one(tmp_path):
    with workdir.Workdir(tmp_path / "w") as held:
        held.write_json("a.json", {"old": 1})
        with small_disk(5), pytest.raises(OSError, match="too large"):
            held.write_json("a.json", {"new": list(range(100))})
    assert json.loads((tmp_path / "w" / "a.json").read_text()) == {"old": 1}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("size", [20, 400])
def test_a_run_that_the_disk_stopped_goes_on_bit_equal(tmp_path, trained, size, capsys):
    del capsys  # what the run prints goes to memory, not to a file
    with small_disk(size), pytest.raises(Exception):  # noqa: B017  Orbax's own
        toy.train(tmp_path, total=8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the save that was cut short
        state = toy.train(tmp_path, total=8)
    expected, _ = reader.restore(trained / "checkpoints", toy.init())
    chex.assert_trees_all_equal(jax.device_get(state), expected)


def test_a_workdir_of_an_earlier_version_predicts_as_it_did(tmp_path):
    """Written by version 0.1 of this package; never to be made anew."""
    with zipfile.ZipFile(GOLDEN) as golden:
        golden.extractall(tmp_path)
    expected = np.load(tmp_path / "expected.npz")
    model = predict.load(str(tmp_path / "workdir"))
    assert model.step == int(expected["step"])
    result = model(expected["image"])
    np.testing.assert_allclose(result, expected["result"], atol=1e-2)
    config = workdir.read_config(tmp_path / "workdir")
    assert config["method"] == "pix2pix"


def test_a_file_that_is_no_checkpoint_is_not_unpickled(tmp_path, trained):
    """Nothing in a workdir is a pickle, and none that is put there is opened."""
    shutil.copytree(trained, tmp_path / "w")
    trap = tmp_path / "w" / "checkpoints" / "9"
    trap.mkdir()
    (trap / "state.pkl").write_bytes(b"cos\nsystem\n(S'touch " + bytes(tmp_path / "x"))
    with pytest.warns(UserWarning, match="damaged"):
        _, step = reader.restore(tmp_path / "w" / "checkpoints", toy.init())
    assert step == 8 and not (tmp_path / "x").exists()
    with pytest.raises(UserError):
        reader.restore(tmp_path / "w" / "checkpoints", toy.init(), step=9)
