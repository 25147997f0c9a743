"""The mask GAN's main: workdir, resuming, and the way from noise to a micrograph."""

import json

import chex
import numpy as np
import pytest
import tifffile

from jaxgan import cli, predict
from jaxgan.data import readers
from jaxgan.errors import UserError
from jaxgan.experiments import compare_masks, maskgan, pix2pix
from jaxgan.training import log, reader
from tests.experiments import runs

PROGRAMS = next(flag for flag in runs.TINY if flag.startswith("--compile_cache"))
TINY = (
    "--crop_size=64 --batch_size=4 --width=2 --disc_width=2 --steps=6 --log_every=1"
    " --eval_every=1 --sample_every=6 --checkpoint_every=3 --num_simulated=4"
    f" --simulated_size=128 --distributed=off {PROGRAMS}"
).split()


def train(workdir, *flags):
    argv = ["maskgan", f"--workdir={workdir}", *TINY, *flags]
    return maskgan.main(**cli.parse(argv, maskgan.SECTIONS))


def run_predict(**options):
    predict.main(options=predict.Options(**options))


def state_at(workdir, step):
    return reader.read(workdir / "checkpoints", step=step)[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that nothing disturbed, on simulated sections."""
    workdir = tmp_path_factory.mktemp("runs") / "maskgan"
    train(workdir)
    return workdir


@pytest.fixture(scope="module")
def drawn(finished, tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn")
    run_predict(workdir=(str(finished),), num_samples=5, output=str(folder))
    return folder


def test_workdir_holds_what_the_readme_promises(finished):
    config = json.loads((finished / "config.json").read_text())
    assert config["method"] == "maskgan"
    assert config["run"]["best_metric"] == "frechet"
    classes = json.loads((finished / "normalization.json").read_text())["classes"]
    assert classes == ["mitochondria", "membranes", "background"]
    assert (finished / "samples" / "step_00000006.png").stat().st_size > 1000
    scores = json.loads((finished / "scores.json").read_text())
    assert set(scores) == {"train", "held out", "generated"}
    rows = log.read_rows(finished / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    names = {"eval/frechet", "eval/frechet_train", "eval/giveaway", "train/gen_loss"}
    assert names <= set(rows[-1])


def test_a_resumed_run_is_bit_equal(tmp_path, finished):
    train(tmp_path, "--steps=3")
    train(tmp_path, "--steps=6")
    chex.assert_trees_all_equal(state_at(tmp_path, 6), state_at(finished, 6))
    resumed, undisturbed = (
        [row["train/gen_loss"] for row in log.read_rows(path / "metrics.jsonl")]
        for path in (tmp_path, finished)
    )
    assert resumed == undisturbed


def test_the_best_step_has_the_least_distance(finished):
    rows = log.read_rows(finished / "metrics.jsonl")
    distances = {row["step"]: row["eval/frechet"] for row in rows}
    _, best = reader.read(finished / "checkpoints", step="best")
    assert best == min(distances, key=distances.get)


def test_samples_are_label_maps_and_masks(drawn):
    labels = readers.read(drawn / "labels" / "00004.tif").planes[0, ..., 0]
    assert labels.shape == (64, 64)
    assert labels.dtype == np.uint8
    assert set(np.unique(labels)) <= {0, 1, 2}
    for index, name in enumerate(("mitochondria", "membranes")):
        mask = tifffile.imread(drawn / name / "00004.tif")
        np.testing.assert_array_equal(mask, np.where(labels == index, 255, 0))
    assert len(list((drawn / "labels").iterdir())) == 5


def test_a_sample_depends_on_its_number_and_the_seed_alone(finished, drawn, tmp_path):
    common = {"workdir": (str(finished),), "num_samples": 2}
    run_predict(**common, output=str(tmp_path / "same"))
    run_predict(**common, output=str(tmp_path / "other"), seed=1)
    run_predict(**common, output=str(tmp_path / "large"), size=128)
    name = "labels/00001.tif"
    same, other, large = (
        tifffile.imread(tmp_path / kind / name) for kind in ("same", "other", "large")
    )
    np.testing.assert_array_equal(same, tifffile.imread(drawn / name))
    assert (same != other).any()
    assert large.shape == (128, 128)


def test_from_noise_to_a_micrograph(drawn, tmp_path):
    """The command chain of the README, on folders throughout."""
    rng = np.random.default_rng(0)
    (tmp_path / "em").mkdir()
    for path in (drawn / "labels").iterdir():
        image = rng.integers(0, 255, (64, 64), np.uint8)
        tifffile.imwrite(tmp_path / "em" / path.name, image)
    folders = f"{drawn}/mitochondria,{drawn}/membranes"
    flags = (
        f"--workdir={tmp_path / 'run'} --source={folders} --target={tmp_path / 'em'}"
        " --one_hot --crop_size=64 --depth=2 --width=2 --norm=instance --dropout=0"
        " --discriminator=skip_patch --crop_area=.98 --batch_size=4 --steps=1"
        f" --distributed=off {PROGRAMS}"
    )
    pix2pix.main(**cli.parse(["pix2pix", *flags.split()], pix2pix.SECTIONS))
    out = tmp_path / "out"
    run_predict(workdir=(str(tmp_path / "run"),), input=folders, output=str(out))
    assert sorted(path.name for path in out.iterdir()) == sorted(
        path.name for path in (drawn / "labels").iterdir()
    )
    assert tifffile.imread(out / "00000.tif").shape == (64, 64)


def test_comparison_of_runs(finished, tmp_path):
    options = compare_masks.Options(
        workdir=(str(finished), str(finished)),
        name=("latest", "again"),
        output=str(tmp_path),
        num_samples=4,
    )
    table = compare_masks.main(options=options)
    assert set(table) == {"real, train", "real, held out", "latest", "again"}
    assert table["latest"] == table["again"]
    held_out = "Fréchet to real, held out"
    assert table["real, train"][held_out] < table["latest"][held_out]
    for name in ("table.md", "table.json", "pca.png", "masks.png", "curves.png"):
        assert (tmp_path / name).stat().st_size > 100, name


@pytest.mark.parametrize(
    "options, message",
    [
        ({"num_samples": 2, "output": "x", "input": "y"}, "no --input"),
        ({"num_samples": 2, "output": "x", "size": 100}, "multiples of 64"),
        ({"input": "x", "output": "y"}, "give --num_samples"),
    ],
)
def test_what_cannot_be_drawn_is_said(finished, options, message):
    with pytest.raises(UserError, match=message):
        run_predict(workdir=(str(finished),), **options)


def test_bad_options_end_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="--crop_size=100"):
        train(tmp_path / "run", "--crop_size=100")
    with pytest.raises(UserError, match="below --crop_size=64"):
        train(tmp_path / "run", "--simulated_size=32")
    with pytest.raises(UserError, match="/nowhere"):
        train(tmp_path / "run", "--source=/nowhere,/neither")
    assert not (tmp_path / "run" / "config.json").exists()
