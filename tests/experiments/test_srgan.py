"""SRGAN's main: two stages, resuming, another sampling, and what judges it."""

import json

import chex
import numpy as np
import pytest
import tifffile

from jaxgan import bicubic, cli, predict
from jaxgan.data import scaled
from jaxgan.data.options import DataConfig
from jaxgan.errors import UserError
from jaxgan.experiments import sr_judge, srgan
from jaxgan.training import log, reader
from tests.experiments import runs

PROGRAMS = next(flag for flag in runs.TINY if flag.startswith("--compile_cache"))
TINY = (
    "--scale=2 --crop_size=16 --batch_size=4 --width=2 --num_blocks=1"
    " --disc_head=pooled --steps=4 --log_every=1 --eval_every=2 --sample_every=4"
    " --checkpoint_every=2 --num_simulated=6 --simulated_size=32 --val_fraction=0.2"
    f" --distributed=off {PROGRAMS}"
).split()


def train(workdir, *flags):
    argv = ["srgan", f"--workdir={workdir}", *TINY, *flags]
    return srgan.main(**cli.parse(argv, srgan.SECTIONS))


def state_at(workdir, step):
    return reader.read(workdir / "checkpoints", step=step)[0]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """A first stage on simulated lenses that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("runs") / "stage1"
    train(workdir)
    return workdir


def test_workdir_holds_what_the_readme_promises(pretrained):
    config = json.loads((pretrained / "config.json").read_text())
    assert config["method"] == "srgan"
    assert config["config"]["stage"] == "pretrain"
    ranges = json.loads((pretrained / "normalization.json").read_text())
    assert set(ranges) == {"source", "target"}
    assert (pretrained / "samples" / "step_00000004.png").stat().st_size > 1000
    scores = json.loads((pretrained / "scores.json").read_text())
    assert list(scores) == ["bicubic", "bicubic, best linear filter", "prediction"]
    assert set(scores["prediction"]) == {"psnr", "ssim"}
    row = log.read_rows(pretrained / "metrics.jsonl")[-1]
    assert {"eval/psnr", "eval/bicubic_psnr", "train/mse"} <= set(row)
    assert "train/disc_loss" not in row


def test_a_resumed_run_is_bit_equal(tmp_path, pretrained):
    train(tmp_path, "--steps=2")
    train(tmp_path, "--steps=4")
    chex.assert_trees_all_equal(state_at(tmp_path, 4), state_at(pretrained, 4))


def test_the_game_starts_from_the_first_stage(tmp_path, pretrained, capsys):
    """Its generator at another sampling; the discriminator is new."""
    flags = ("--stage=adversarial", "--steps=1", "--learning_rate=1e-9", "--flip=both")
    coarser = ("--pixel=0.22", "--simulated_size=16")
    train(tmp_path, *flags, *coarser, f"--init_from={pretrained}")
    printed = capsys.readouterr().out
    assert "0 of another shape" in printed
    assert "missing disc.params" in printed.replace("\n", " ")
    before, after = state_at(pretrained, 4), state_at(tmp_path, 1)
    chex.assert_trees_all_close(
        after["gen"]["params"], before["gen"]["params"], atol=1e-6
    )
    assert "train/disc_loss" in log.read_rows(tmp_path / "metrics.jsonl")[-1]


def test_predictions_are_larger_by_the_scale(pretrained, tmp_path):
    """And their pixels are smaller: of averages of training, not of the image's own."""
    (tmp_path / "in").mkdir()
    image = np.random.default_rng(0).uniform(0, 0.5, (9, 7)).astype(np.float32)
    tifffile.imwrite(
        tmp_path / "in" / "x.tif", image, imagej=True, resolution=(2.0, 2.0)
    )
    out = tmp_path / "out"
    predict.main(
        options=predict.Options(
            workdir=(str(pretrained),), input=str(tmp_path / "in"), output=str(out)
        )
    )
    with tifffile.TiffFile(out / "x.tif") as tiff:
        assert tiff.series[0].shape == (18, 14)
        resolution = tiff.pages[0].tags["XResolution"].value
    assert resolution[0] / resolution[1] == 4.0
    default, running = (
        predict.load(str(pretrained), **options)(image)
        for options in ({}, {"statistics": "running"})
    )
    np.testing.assert_array_equal(default, running)


def test_colour_is_judged_by_its_luma_within_a_border():
    """An error of .1 of the full range of all channels: 219 of 255 levels."""
    target = np.random.default_rng(0).uniform(-0.5, 0.5, (16, 16, 3)).astype("f4")
    image = target + 0.2
    image[:2] = image[:, -2:] = 9  # shaved
    found = sr_judge.score(image, target, border=2)["psnr"]
    np.testing.assert_allclose(found, 20 * np.log10(255 / 21.9), rtol=1e-3)
    grey = sr_judge.score(image[..., :1], target[..., :1], border=2)["psnr"]
    np.testing.assert_allclose(grey, 20 * np.log10(2 / 0.2), rtol=1e-3)


def test_interpolation_is_of_made_or_real_sources_in_units_of_the_target(tmp_path):
    rng = np.random.default_rng(0)
    for name, size, shape in (("hr", 18, (2, 18, 18)), ("lr", 9, (2, 9, 9))):
        (tmp_path / name).mkdir()
        for i, image in enumerate(rng.integers(0, 4000, shape, np.uint16)):
            tifffile.imwrite(tmp_path / name / f"{i}.tif", image)
        del size
    hr, lr = str(tmp_path / "hr"), str(tmp_path / "lr")
    ranges = {"source_range": "0,1000", "target_range": "0,4000", "val_fraction": 0.5}
    alone, pairs = (
        scaled.open_scaled(
            DataConfig(target=hr, source=source, **ranges), crop_size=8, scale=2
        )
        for source in ("", lr)
    )
    (made,) = sr_judge.read(alone.val, alone, scale=4)
    assert made.target.shape == (16, 16, 1)  # divides by the scale
    expected = bicubic.resize(made.target, factor=1 / 4)
    np.testing.assert_allclose(made.source, expected, atol=1e-6)
    (real,) = sr_judge.read(pairs.val, pairs, scale=2)
    stored = np.float32(pairs.val.source.load(0))
    np.testing.assert_allclose(real.source, stored / 500 - 1, rtol=1e-5)
    enlarged = bicubic.resize(stored / 2000 - 1, factor=2)
    np.testing.assert_allclose(real.bicubic, enlarged, atol=1e-5)


def test_bad_options_end_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match="does not divide by --scale=2"):
        train(tmp_path / "run", "--simulated_size=33")
    with pytest.raises(UserError, match="which --content=vgg54 needs"):
        train(tmp_path / "run", "--content=vgg54")
    with pytest.raises(UserError, match="/nowhere"):
        train(tmp_path / "run", "--target=/nowhere")
    assert not (tmp_path / "run" / "config.json").exists()


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.parse(["srgan", "--help"], srgan.SECTIONS, usage=srgan.__doc__)
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    for flag in ("--vgg_weights", "--low_na", "--init_from", "--target", "--steps"):
        assert flag in printed
