import json
import os
import signal
import stat

import chex
import numpy as np
import pytest
import tifffile

from jaxgan.errors import NonFiniteError, UserError
from jaxgan.training import log, reader
from tests.experiments import runs


def test_workdir_holds_what_the_readme_promises(finished):
    config = json.loads((finished / "config.json").read_text())
    assert config["method"] == "pix2pix"
    assert config["config"]["width"] == 4
    ranges = json.loads((finished / "normalization.json").read_text())
    assert ranges["target"]["dtype"] == "uint8"
    assert json.loads((finished / "env.json").read_text())["starts"][0]["packages"]
    assert (finished / "samples" / "step_00000020.png").stat().st_size > 1000
    scores = json.loads((finished / "scores.json").read_text())
    assert set(scores) == {"input", "best linear filter", "prediction"}


def test_rows_of_the_log(finished):
    assert runs.logged_steps(finished) == [3, 6, 9, 10, 12, 15, 18, 20]
    rows = log.read_rows(finished / "metrics.jsonl")
    names = {"psnr", "ssim", "nrmse", "input_psnr", "input_ssim", "input_nrmse"}
    assert {f"eval/{name}" for name in names} <= set(rows[-1])
    assert {"perf/train_seconds", "perf/data_seconds"} <= set(rows[-1])
    assert {"train/gen_loss", "train/disc_loss", "train/l1"} <= set(rows[0])


def test_same_command_again_changes_nothing(finished, image_flags):
    before = runs.last_state(finished)
    state = runs.train(finished, *image_flags)
    chex.assert_trees_all_equal(state.gen.params, before["gen"]["params"])
    assert runs.logged_steps(finished) == [3, 6, 9, 10, 12, 15, 18, 20]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_goes_on_bit_equal(tmp_path, image_flags, finished, number):
    process = runs.start(tmp_path, *image_flags)
    checkpoints = tmp_path / "checkpoints"

    def in_mid_save():  # of step 8 or a later one
        names = os.listdir(checkpoints) if checkpoints.exists() else []
        return any("8.orbax" in name or "2.orbax" in name for name in names)

    def at_step_ten():
        return (tmp_path / "metrics.jsonl").exists() and (
            10 in runs.logged_steps(tmp_path)
        )

    runs.wait_until(in_mid_save if number == signal.SIGKILL else at_step_ten, process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=900)
    expected = -signal.SIGKILL if number == signal.SIGKILL else 143
    assert process.returncode == expected, output

    runs.train(tmp_path, *image_flags)
    chex.assert_trees_all_equal(runs.last_state(tmp_path), runs.last_state(finished))
    assert runs.logged_steps(tmp_path) == runs.logged_steps(finished)
    pairs = zip(
        log.read_rows(tmp_path / "metrics.jsonl"),
        log.read_rows(finished / "metrics.jsonl"),
        strict=True,
    )
    for row, undisturbed in pairs:
        kept = {k: v for k, v in row.items() if not k.startswith("perf/")}
        assert kept == {k: undisturbed[k] for k in kept}


def test_a_run_goes_on_with_another_number_of_devices(tmp_path, image_flags, finished):
    """Dropout's masks depend on it, so that only numbers near by can be expected."""
    runs.train(tmp_path, *image_flags, "--steps=10")
    process = runs.start(tmp_path, *image_flags, devices=1)
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    assert runs.logged_steps(tmp_path) == runs.logged_steps(finished)
    resumed, undisturbed = (
        log.read_rows(path / "metrics.jsonl")[-1]["train/l1"]
        for path in (tmp_path, finished)
    )
    np.testing.assert_allclose(resumed, undisturbed, rtol=0.2)


def test_another_configuration_is_refused(finished, image_flags):
    with pytest.raises(UserError, match="config.l1_weight: 100.0 there, 7.0 now"):
        runs.train(finished, *image_flags, "--l1_weight=7")


def test_a_loss_that_is_not_finite_ends_the_run_unsaved(tmp_path, image_flags):
    with pytest.raises(NonFiniteError, match="step"):
        runs.train(tmp_path, *image_flags, "--learning_rate=1e30")
    with pytest.raises(UserError, match="no finished checkpoint"):
        reader.read(tmp_path / "checkpoints", step="latest")


def test_init_from_loads_the_weights_that_fit(tmp_path, image_flags, finished, capsys):
    runs.train(
        tmp_path, *image_flags, f"--init_from={finished}", "--learning_rate=1e-12"
    )
    stored, new = runs.last_state(finished), runs.last_state(tmp_path)
    chex.assert_trees_all_close(
        new["gen"]["params"], stored["gen"]["params"], atol=1e-9
    )
    assert "0 missing" in capsys.readouterr().out


def test_resume_from_goes_on_in_another_workdir(tmp_path, image_flags, finished):
    state = runs.train(
        tmp_path, *image_flags, f"--resume_from={finished}", "--steps=22"
    )
    assert int(state.step) == 22
    assert runs.logged_steps(tmp_path) == [21, 22]


def test_bad_options_end_before_anything_is_written(tmp_path, image_flags):
    workdir = tmp_path / "new"
    for bad, message in {
        "--crop_size=18": "does not divide by 2.depth",
        "--gan_loss=wgan_gp": "batch normalisation",
        "--steps_per_call=-1": "negative",
        "--target_range=percentile:9": "--target_range",
    }.items():
        with pytest.raises(UserError, match=message):
            runs.train(workdir, *image_flags, bad)
    assert not (workdir / "config.json").exists()


def test_bad_images_are_all_named_at_once(tmp_path):
    image_flags = runs.write_pairs(tmp_path, count=7)
    source = tmp_path / "source"
    (source / "0.tif").write_bytes(b"")
    whole = (source / "1.tif").read_bytes()
    (source / "1.tif").write_bytes(whole[: len(whole) // 2])
    tifffile.imwrite(source / "2.tif", np.zeros((8, 8), np.uint16))
    tifffile.imwrite(source / "3.tif", np.zeros((24, 28, 3), np.uint16))
    (source / "4.tif").rename(source / "other.tif")
    with pytest.raises(UserError) as caught:
        runs.train(tmp_path / "run", *image_flags)
    for name in ("0.tif", "1.tif", "2.tif", "3.tif", "4.tif", "other.tif"):
        assert name in str(caught.value), name
    assert not (tmp_path / "run" / "config.json").exists()


def test_nan_is_found_before_training(tmp_path):
    image_flags = runs.write_pairs(tmp_path)
    for i in range(6):
        image = np.random.default_rng(i).random((24, 28), np.float32)
        image[3, 4] = np.nan if i == 2 else 0.5
        tifffile.imwrite(tmp_path / "target" / f"{i}.tif", image)
    with pytest.raises(UserError, match=r"2\.tif"):
        runs.train(tmp_path / "run", *image_flags)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_workdir_is_refused(tmp_path, image_flags):
    tmp_path.chmod(stat.S_IREAD | stat.S_IEXEC)
    with pytest.raises(UserError, match="cannot write"):
        runs.train(tmp_path / "run", *image_flags)


def test_the_program_exits_with_2_and_no_traceback(tmp_path):
    process = runs.start(tmp_path / "run", "--source=/nowhere", "--target=/nowhere")
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 2
    assert "/nowhere" in output
    assert "Traceback" not in output
