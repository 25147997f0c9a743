"""The mains of DCGAN and cGAN: workdir, resuming, samples, what they are judged by."""

import dataclasses
import json

import chex
import numpy as np
import pytest
import tifffile

from jaxgan import cli, predict
from jaxgan.data.collection import CollectionConfig
from jaxgan.data.imagesets import ImageSet
from jaxgan.data.labels import Coding, Labelled
from jaxgan.data.normalise import Range
from jaxgan.errors import UserError
from jaxgan.experiments import cgan, dcgan, sample_judge, samples
from jaxgan.experiments.condition_judge import Probe
from jaxgan.training import log, reader
from tests.data import test_cifar
from tests.experiments import runs

PROGRAMS = next(flag for flag in runs.TINY if flag.startswith("--compile_cache"))
TINY = (
    "--crop_size=32 --batch_size=4 --width=2 --latent_dim=3 --log_every=1"
    " --eval_every=1 --sample_every=4 --checkpoint_every=2 --num_simulated=8"
    f" --distributed=off {PROGRAMS}"
).split()


def train(main, workdir, *flags):
    name = main.__name__.rpartition(".")[-1]
    argv = [name, f"--workdir={workdir}", *TINY, *flags]
    return main.main(**cli.parse(argv, main.SECTIONS))


def run_predict(workdir, folder, **options):
    """Draws samples; returns them as one array."""
    predict.main(
        options=predict.Options(workdir=(str(workdir),), output=str(folder), **options)
    )
    return np.stack([tifffile.imread(path) for path in sorted(folder.iterdir())])


def state_at(workdir, step):
    return reader.read(workdir / "checkpoints", step=step)[0]


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A run that nothing disturbed, on simulated micrographs."""
    workdir = tmp_path_factory.mktemp("runs") / "dcgan"
    train(dcgan, workdir, "--steps=4")
    return workdir


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """A conditional run on a folder with a table: a class and a number."""
    folder = tmp_path_factory.mktemp("told")
    rng = np.random.default_rng(0)
    lines = ["file,kind,dose"]
    for i in range(12):
        image = rng.integers(0, 100, (32, 32)) + 100 * (i % 2)
        path = folder / "images" / f"{i:02d}.tif"
        path.parent.mkdir(exist_ok=True)
        tifffile.imwrite(path, (image / 200).astype(np.float32))
        lines.append(f"{i:02d},{('dark', 'light')[i % 2]},{i}")
    (folder / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    workdir = folder / "run"
    flags = (
        f"--source={folder / 'images'} --labels={folder / 'table.csv'} --steps=2"
        " --ema_decay=0.9 --val_fraction=0.25 --source_range=0,1"
    ).split()
    train(cgan, workdir, *flags)
    return workdir


def test_workdir_holds_what_the_readme_promises(plain):
    config = json.loads((plain / "config.json").read_text())
    assert config["method"] == "dcgan"
    assert config["run"]["best_metric"] == "frechet"
    assert (plain / "samples" / "step_00000004.png").stat().st_size > 1000
    scores = json.loads((plain / "scores.json").read_text())
    names = {"frechet", "frechet_train", "spread", "duplicates"}
    assert set(scores["samples"]) == names
    assert np.isfinite(list(scores["samples"].values())).all()
    rows = log.read_rows(plain / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert {f"eval/{name}" for name in names} <= set(rows[-1])


def test_a_resumed_run_is_bit_equal(tmp_path, plain):
    train(dcgan, tmp_path, "--steps=2")
    train(dcgan, tmp_path, "--steps=4")
    chex.assert_trees_all_equal(state_at(tmp_path, 4), state_at(plain, 4))
    resumed, undisturbed = (
        [row["train/gen_loss"] for row in log.read_rows(path / "metrics.jsonl")]
        for path in (tmp_path, plain)
    )
    assert resumed == undisturbed


def test_samples_are_images_like_those_of_training(plain, tmp_path):
    drawn = run_predict(plain, tmp_path / "five", num_samples=5)
    assert drawn.shape == (5, 32, 32)
    assert drawn.dtype == np.float32
    assert 0 < drawn.min() and drawn.max() < 1  # intensities
    fewer = run_predict(plain, tmp_path / "two", num_samples=2)
    np.testing.assert_array_equal(fewer, drawn[:2])
    other = run_predict(plain, tmp_path / "other", num_samples=2, seed=1)
    assert (other != fewer).any()
    with pytest.raises(UserError, match="--condition is for a cgan"):
        run_predict(plain, tmp_path / "x", num_samples=1, condition="cat")
    with pytest.raises(UserError, match="makes one size only"):
        run_predict(plain, tmp_path / "x", num_samples=1, size=64)


def test_samples_of_what_was_asked_for(told, tmp_path):
    scores = json.loads((told / "scores.json").read_text())
    names = {"accuracy", "r_dose", "rmse_dose"}
    assert names <= set(scores["samples"])
    held_out = scores["held out images"]
    assert set(held_out) == names
    assert held_out["accuracy"] == 1.0

    def draw(name, condition):
        options = dict(num_samples=2, condition=condition)
        return run_predict(told, tmp_path / name, **options)

    turns = draw("turns", "")  # every class in turn, at the mean dose
    dark, light = draw("dark", "dark,5.5"), draw("light", "light,5.5")
    np.testing.assert_allclose(turns[0], dark[0], atol=1e-3)
    np.testing.assert_allclose(turns[1], light[1], atol=1e-3)
    assert (dark != light).any() and (dark != draw("dose", "dark,900")).any()
    for condition, message in (
        ("grey,5", "no class is called grey; there are dark, light"),
        ("dark", "expected a class, dose"),
        ("dark,much", "could not convert"),
    ):
        with pytest.raises(UserError, match=message):
            draw("x", condition)


def test_pictures_of_cifar(tmp_path):
    data = test_cifar.write(tmp_path)
    pictures = samples.SimulatedParticles(cifar_root=str(tmp_path), cifar_grey=True)
    options = CollectionConfig(val_fraction=0, source_range="dtype")
    opened = samples.open_images(32, options, pictures, labelled=True)
    assert opened.coding.classes == ("apple", "bear")
    assert opened.train.images.channels == 1 and opened.val is None
    np.testing.assert_array_equal(opened.train.labels, [[0, 1], [1, 0], [0, 1]])
    plain = samples.open_images(
        32, options, dataclasses.replace(pictures, cifar_grey=False)
    )
    assert plain.train.channels == 3 and plain.coding is None
    assert plain.train.load(1)[2, 5, 1] == data[1, 1024 + 2 * 32 + 5]
    with pytest.raises(UserError, match="--crop_size=64 exceeds"):
        samples.open_images(64, options, pictures)


def test_bad_options_end_before_anything_is_written(tmp_path):
    run = tmp_path / "run"
    with pytest.raises(UserError, match="--crop_size=100"):
        train(dcgan, run, "--crop_size=100")
    with pytest.raises(UserError, match="/nowhere"):
        train(dcgan, run, "--source=/nowhere")
    with pytest.raises(UserError, match="--source and --labels belong together"):
        train(cgan, run, "--labels=folders")
    with pytest.raises(UserError, match="/nowhere/train"):
        train(dcgan, run, "--cifar_root=/nowhere")
    assert not (run / "config.json").exists()


class Winner:
    """What a judge takes for a state."""

    def __init__(self, lost):
        self.gen_variables, self.extra = None, np.int32(lost)


def make_judge(tmp_path, *, early_stop):
    images = np.random.default_rng(0).random((6, 32, 32), np.float32)
    split = type("Split", (), {})()
    split.train, split.val = ImageSet.from_arrays(images), None
    split.range, split.coding = Range((0.0,), (1.0,), "float32"), None
    draw = lambda *_, **__: 2 * images[..., None] - 1  # noqa: E731
    return sample_judge.Judge(draw, split, None, size=32, early_stop=early_stop)


def test_a_game_that_is_lost_ends(tmp_path):
    judge = make_judge(tmp_path, early_stop=50)
    scores = judge.score(Winner(50))
    np.testing.assert_allclose(scores["spread"], 1)
    assert scores["frechet"] < 1e-6
    with pytest.raises(UserError, match="0.0000 for 51 steps, .*--early_stop=50"):
        judge.score(Winner(51))
    assert make_judge(tmp_path, early_stop=0).score(Winner(999))


def test_tiles_mix_the_classes_of_folders():
    images = np.arange(20, dtype="u1").repeat(40 * 70).reshape(20, 40, 70)
    labelled = Labelled(
        ImageSet.from_arrays(images), np.arange(20, dtype="f4")[:, None]
    )
    range_ = Range((0.0,), (20.0,), "uint8")
    cut, labels = sample_judge.tiles(labelled, range_, size=32)
    assert cut.shape == (40, 32, 32, 1)
    np.testing.assert_allclose(cut[:, 0, 0, 0], labels[:, 0] / 10 - 1, atol=1e-6)
    assert len(np.unique(labels[:10])) == 5 and (np.diff(labels[:, 0]) < 0).any()


def test_a_probe_reads_conditions_off_images():
    rng = np.random.default_rng(0)
    count = 200
    kinds, dose = np.arange(count) % 2, rng.standard_normal(count)
    y, x = np.mgrid[:16, :16]
    waves = np.where(kinds[:, None, None] == 1, np.sin(y), np.sin(x))
    images = (0.5 + 0.1 * dose)[:, None, None] * waves
    images = (images + 0.02 * rng.standard_normal(images.shape))[..., None]
    conditions = np.stack([kinds == 0, kinds == 1, dose], axis=1).astype("f4")
    coding = Coding(("x", "y"), ("dose",), (3.0,), (2.0,))
    slopes = [np.abs(np.diff(images, axis=i)).mean(axis=(1, 2)) for i in (1, 2)]
    features = np.concatenate(slopes, axis=1)
    probe = Probe(images[:150], features[:150], conditions[:150], coding)
    scores = probe.score(images[150:], features[150:], conditions[150:])
    assert scores["accuracy"] == 1
    assert scores["r_dose"] > 0.85
    coarse = dataclasses.replace(coding, deviation=(4.0,))
    doubled = Probe(images[:150], features[:150], conditions[:150], coarse)
    error = doubled.score(images[150:], features[150:], conditions[150:])["rmse_dose"]
    np.testing.assert_allclose(error, 2 * scores["rmse_dose"])
    wrong = conditions[150:][:, [1, 0, 2]]
    assert probe.score(images[150:], features[150:], wrong)["accuracy"] == 0
