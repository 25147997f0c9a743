"""CycleGAN's main: workdir, pools that survive a stop, and the lens report."""

import json

import chex
import numpy as np
import pytest

from jaxgan import cli, predict
from jaxgan.errors import UserError
from jaxgan.experiments import cycle_judge, cyclegan, lenses
from jaxgan.training import log, reader
from tests.experiments import runs

PROGRAMS = next(flag for flag in runs.TINY if flag.startswith("--compile_cache"))
TINY = (
    "--crop_size=16 --batch_size=4 --width=2 --num_blocks=0 --discriminator=pixel"
    " --decay_fraction=0"
    " --pool_size=6 --steps=4 --log_every=1 --eval_every=4 --sample_every=4"
    " --checkpoint_every=2 --num_simulated=9 --simulated_size=32 --val_fraction=0.2"
    f" --distributed=off {PROGRAMS}"
).split()


def train(workdir, *flags):
    argv = ["cyclegan", f"--workdir={workdir}", *TINY, *flags]
    return cyclegan.main(**cli.parse(argv, cyclegan.SECTIONS))


def state_at(workdir, step):
    return reader.read(workdir / "checkpoints", step=step)[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run on four devices that nothing disturbed; its pools are full at step 2."""
    workdir = tmp_path_factory.mktemp("runs") / "cyclegan"
    train(workdir)
    return workdir


def test_workdir_holds_what_the_readme_promises(finished):
    config = json.loads((finished / "config.json").read_text())
    assert config["method"] == "cyclegan"
    assert (finished / "samples" / "step_00000004.png").stat().st_size > 1000
    scores = json.loads((finished / "scores.json").read_text())
    assert set(scores) == {"input", "prediction", "without pairs"}
    alone = scores["without pairs"]
    assert set(alone) == {"cycle", "pearson", "cycle_after_noise", "noise_gain"}
    row = log.read_rows(finished / "metrics.jsonl")[-1]
    assert {"eval/ssim", "eval/cycle", "eval/pearson", "train/identity"} <= set(row)


def test_the_pools_survive_a_stop_bit_for_bit(tmp_path, finished):
    train(tmp_path, "--steps=2")
    halfway = state_at(tmp_path, 2)["extra"]
    assert halfway["a"]["count"] == halfway["b"]["count"] == 6
    train(tmp_path, "--steps=4")
    chex.assert_trees_all_equal(state_at(tmp_path, 4), state_at(finished, 4))
    images = state_at(finished, 4)["extra"]["b"]["images"]
    assert (np.ptp(images, axis=(1, 2, 3)) > 0).all()


def test_prediction_goes_there(finished):
    model = predict.load(str(finished))
    image = np.random.default_rng(0).uniform(0, 0.5, (9, 14)).astype(np.float32)
    assert model(image).shape == (9, 14, 1)


def test_correlation_tells_inversion():
    image = np.random.default_rng(0).uniform(-1, 1, (8, 8, 2)).astype(np.float32)
    assert np.isclose(cycle_judge.correlation(image, 3 * image + 1), 1)
    assert np.isclose(cycle_judge.correlation(image, -image), -1)
    assert cycle_judge.correlation(image, np.zeros_like(image)) == 0


def test_the_lens_report(finished, tmp_path, capsys):
    options = lenses.Options(
        workdir=(str(finished),), name=("tiny",), output=str(tmp_path), num_images=2
    )
    table = lenses.main(options=options)
    assert list(table) == [
        "NA 0.3 as recorded",
        "Richardson-Lucy",
        "Wiener",
        "tiny",
        "NA 0.7 as recorded",
    ]
    assert table["NA 0.7 as recorded"]["FRC beyond"] > 0.8
    assert abs(table["NA 0.3 as recorded"]["FRC beyond"]) < 0.5
    assert table["Richardson-Lucy"]["PSNR"] > table["NA 0.3 as recorded"]["PSNR"]
    printed = " ".join(capsys.readouterr().out.split())
    assert "tiny: beyond the cut-off of NA 0.3, 1.13 cycles per" in printed
    for name in ("table.md", "table.json", "spectra.png", "answers.png"):
        assert (tmp_path / name).stat().st_size > 100, name


def test_the_lens_report_takes_runs_of_one_kind(finished, tmp_path):
    with pytest.raises(UserError, match="every --workdir needs a name of its own"):
        twice = (str(finished), str(finished))
        lenses.main(options=lenses.Options(twice, output=str(tmp_path)))
    with pytest.raises(UserError, match="--output is missing"):
        lenses.main(options=lenses.Options((str(finished),)))


def test_bad_options_end_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="--crop_size=30"):
        train(tmp_path / "run", "--crop_size=30")
    with pytest.raises(UserError, match="two images or more"):
        train(tmp_path / "run", "--num_simulated=2", "--val_fraction=0.5")
    with pytest.raises(UserError, match="--target is missing"):
        train(tmp_path / "run", "--source=/nowhere")
    assert not (tmp_path / "run" / "config.json").exists()


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.parse(["cyclegan", "--help"], cyclegan.SECTIONS, usage=cyclegan.__doc__)
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    for flag in ("--identity_weight", "--low_na", "--init_from", "--target", "--steps"):
        assert flag in printed
