"""MEGAN's mains: one workdir for all scales, resumed, and images made of edges."""

import json

import chex
import numpy as np
import pytest
import tifffile

from jaxgan import cli
from jaxgan.errors import UserError
from jaxgan.experiments import megan, megan_generate
from jaxgan.training import log, reader
from tests.experiments import runs

PROGRAMS = next(flag for flag in runs.TINY if flag.startswith("--compile_cache"))
TINY = (
    "--crop_size=64 --num_scales=2 --patch_size=28 --core_size=20 --width=2"
    " --num_blocks=1 --patch_batch=4 --batch_size=4 --low_steps=2 --high_steps=4"
    " --edge_factor=2 --num_simulated=5 --simulated_size=64 --log_every=1"
    f" --eval_every=2 --sample_every=6 --checkpoint_every=2"
    f" --distributed=off {PROGRAMS}"
).split()


def train(workdir, *flags):
    cache = f"--edge_cache={workdir / 'edges'}"
    argv = ["megan", f"--workdir={workdir}", cache, *TINY, *flags]
    return megan.main(**cli.parse(argv, megan.SECTIONS))


def generate(**options):
    megan_generate.main(options=megan_generate.Options(**options))


def state_at(workdir, step):
    return reader.read(workdir / "checkpoints", step=step)[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nothing disturbed, on simulated sections."""
    workdir = tmp_path_factory.mktemp("runs") / "megan"
    train(workdir)
    return workdir


def test_workdir_holds_all_scales(finished):
    assert json.loads((finished / "config.json").read_text())["method"] == "megan"
    rows = log.read_rows(finished / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert "eval/ssim_32" in rows[1] and "eval/ssim" not in rows[1]
    assert rows[5]["eval/ssim"] == rows[5]["eval/ssim_64"]
    assert {"eval/mse_64", "eval/seams_64"} <= set(rows[5])
    assert (finished / "samples" / "step_00000006.png").stat().st_size > 1000
    scores = json.loads((finished / "scores.json").read_text())
    assert list(scores) == ["32 pixels", "64 pixels"]
    assert {"psnr", "ssim", "mse"} <= set(scores["32 pixels"])
    assert len(list((finished / "edges").iterdir())) == 5


def test_a_scale_that_is_over_rests(finished):
    before, after = (state_at(finished, step)["gen"]["params"] for step in (2, 6))
    chex.assert_trees_all_equal(before["scale0"], after["scale0"])
    stem = [x["scale1"]["stem"]["kernel"] for x in (before, after)]
    assert (stem[0] != stem[1]).any()


def test_a_resumed_run_is_bit_equal(tmp_path, finished):
    """Stopped inside a scale, whose predecessor is over."""
    train(tmp_path, "--steps=4")
    train(tmp_path)
    chex.assert_trees_all_equal(state_at(tmp_path, 6), state_at(finished, 6))


def test_images_of_a_folder_of_edges(finished, tmp_path, capsys):
    """Larger than in training, and the same whether edges are given or found."""
    image = np.random.default_rng(0).integers(0, 255, (100, 132), np.uint8)
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", image)
    folders = {name: str(tmp_path / name) for name in ("images", "edges", "a", "b")}
    generate(input=folders["images"], output=folders["edges"], edges_only=True)
    lines = tifffile.imread(tmp_path / "edges" / "a.tif")
    assert lines.shape == image.shape and lines.dtype == np.uint8 and lines.any()
    model = {"workdir": str(finished)}
    generate(input=folders["edges"], output=folders["a"], **model)
    generate(input=folders["images"], output=folders["b"], find_edges=True, **model)
    made = [tifffile.imread(tmp_path / name / "a.tif") for name in "ab"]
    assert made[0].shape == (96, 128)  # what divides
    np.testing.assert_array_equal(*made)
    assert made[0].std() > 0
    assert "peak memory" in capsys.readouterr().out


def test_what_cannot_be_done_is_said(tmp_path, finished):
    with pytest.raises(UserError, match="--low_steps"):
        train(tmp_path / "run", "--epochs=3")
    with pytest.raises(UserError, match="--crop_size=100"):
        train(tmp_path / "run", "--crop_size=100")
    with pytest.raises(UserError, match="--simulated_size=32 is below"):
        train(tmp_path / "run", "--simulated_size=32")
    with pytest.raises(UserError, match="--workdir is missing"):
        generate(input="x", output="y")
    (tmp_path / "images").mkdir()
    tifffile.imwrite(tmp_path / "images" / "a.tif", np.ones((96, 96), np.float32))
    with pytest.raises(UserError, match="give --find_edges"):
        generate(input=str(tmp_path / "images"), output="y", workdir=str(finished))
    assert not (tmp_path / "run" / "config.json").exists()
