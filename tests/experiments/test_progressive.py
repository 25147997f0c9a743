"""PGGAN's main: one workdir for all stages, resumed inside and across them."""

import json

import chex
import jax
import numpy as np
import pytest
import tifffile

from jaxgan import cli, predict
from jaxgan.errors import UserError
from jaxgan.experiments import progressive
from jaxgan.training import log, reader
from tests.experiments import runs

PROGRAMS = next(flag for flag in runs.TINY if flag.startswith("--compile_cache"))
TINY = (
    "--crop_size=8 --batch_size=4 --batch_sizes=8:8 --first_images=8 --fade_images=16"
    " --stable_images=16 --latent_dim=4 --base_width=8 --max_width=2"
    " --num_simulated=20 --log_every=1 --eval_every=2 --sample_every=6"
    f" --checkpoint_every=2 --distributed=off {PROGRAMS}"
).split()  # 2 steps of four images, 2 + 2 of eight


def train(workdir, *flags):
    argv = ["progressive", f"--workdir={workdir}", *TINY, *flags]
    return progressive.main(**cli.parse(argv, progressive.SECTIONS))


def state_at(workdir, step):
    return reader.read(workdir / "checkpoints", step=step)[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nothing disturbed, on simulated cells."""
    workdir = tmp_path_factory.mktemp("runs") / "progressive"
    train(workdir)
    return workdir


def test_workdir_holds_all_stages(finished):
    assert json.loads((finished / "config.json").read_text())["method"] == "progressive"
    rows = log.read_rows(finished / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["train/alpha"] for row in rows] == [1, 1, 0, 0.5, 1, 1]
    assert {"eval/frechet_4"} <= set(rows[1]) and "eval/frechet" not in rows[1]
    assert rows[5]["eval/frechet"] == rows[5]["eval/frechet_8"]
    for step in (2, 6):
        assert (finished / "samples" / f"step_{step:08d}.png").stat().st_size > 1000
    assert "training images" in json.loads((finished / "scores.json").read_text())


def test_a_resumed_run_is_bit_equal(tmp_path, finished):
    """Stopped where a stage ends, and inside one."""
    for stop in (2, 4):
        train(tmp_path, f"--steps={stop}")
        assert reader.steps(tmp_path / "checkpoints")[-1] == stop
    train(tmp_path)
    chex.assert_trees_all_equal(state_at(tmp_path, 6), state_at(finished, 6))
    resumed, undisturbed = (
        [row["train/gen_loss"] for row in log.read_rows(path / "metrics.jsonl")]
        for path in (tmp_path, finished)
    )
    assert resumed == undisturbed


def test_samples_are_images_in_the_units_of_the_data(finished, tmp_path):
    options = {"workdir": (str(finished),), "num_samples": 2}
    predict.main(options=predict.Options(**options, output=str(tmp_path)))
    image = tifffile.imread(tmp_path / "00001.tif")
    assert image.shape == (8, 8) and image.dtype == np.float32
    assert 0 <= image.min() < image.max() < 3.2  # radians


def test_colour_images_of_a_folder(tmp_path):
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        image = rng.integers(0, 255, (10, 12, 3), np.uint8)
        tifffile.imwrite(tmp_path / "images" / f"{i}.tif", image, photometric="rgb")
    flags = [f"--source={tmp_path / 'images'}", "--crop_size=4", "--workdir=-"]
    given = cli.parse(["progressive", *TINY, *flags], progressive.SECTIONS)
    config = given["config"]
    opened = progressive.open_source(config, given["data"], given["simulation"])
    game = progressive.make_game(config, given["run"], opened.data, None, None)
    state = jax.eval_shape(game.init, jax.random.key(0))
    assert state.gen.params["to_image4"]["bias"].shape == (3,)


def test_bad_options_end_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="stages count images"):
        train(tmp_path / "run", "--epochs=3")
    with pytest.raises(UserError, match="--crop_size=100"):
        train(tmp_path / "run", "--crop_size=100")
    assert not (tmp_path / "run").exists()
