"""The mains of supervised denoisers and of denoising with a prior."""

import json

import chex
import jax
import numpy as np
import pytest
import tifffile

from jaxgan import cli, noise, predict
from jaxgan.errors import UserError
from jaxgan.experiments import dcgan, denoise, priors, search_curves, supervised
from jaxgan.methods import supervised as supervised_method
from jaxgan.training import log, reader
from tests.experiments import runs

PROGRAMS = next(flag for flag in runs.TINY if flag.startswith("--compile_cache"))
COMMON = f"--batch_size=4 --crop_size=32 --num_simulated=6 --log_every=1 {PROGRAMS}"
PRIOR = f"{COMMON} --width=2 --latent_dim=3 --steps=2 --ema_decay=0.9".split()
DENOISER = (
    f"{COMMON} --network=dncnn --depth=3 --width=4 --nobias --steps=4 --eval_every=2"
    " --sample_every=4 --checkpoint_every=2 --ema_decay=.9 --decay_fraction=0"
).split()
SEARCH = (
    "--num_restarts=2 --restart_steps=3 --refine_steps=4 --adapt_steps=3"
    " --num_images=2 --image_chunk=1"
).split()


def train(workdir, *flags):
    argv = ["supervised", f"--workdir={workdir}", *DENOISER, *flags]
    return supervised.main(**cli.parse(argv, supervised.SECTIONS))


def run(*flags):
    argv = ["denoise", *SEARCH, *flags]
    return denoise.main(**cli.parse(argv, denoise.SECTIONS))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def prior(folder):
    """A generator that has hardly learned."""
    argv = ["dcgan", f"--workdir={folder / 'prior'}", *PRIOR]
    dcgan.main(**cli.parse(argv, dcgan.SECTIONS))
    return folder / "prior"


@pytest.fixture(scope="module")
def network(folder):
    train(folder / "network")
    return folder / "network"


def test_supervised_workdir(network):
    config = json.loads((network / "config.json").read_text())
    assert config["method"] == "supervised"
    assert (network / "samples" / "step_00000004.png").stat().st_size > 1000
    assert set(json.loads((network / "scores.json").read_text())) == {
        "noisy",
        "denoised",
    }
    rows = log.read_rows(network / "metrics.jsonl")
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert {"eval/psnr", "eval/input_psnr", "train/gen_loss"} <= set(rows[-1])


def test_a_denoiser_is_applied_by_predict(network):
    """In the units of its training, of any size, as the method itself does it."""
    model, trained = predict.load(str(network)), predict.read_trained(str(network))
    image = np.random.default_rng(0).random((37, 18), np.float32)
    low, high = (
        np.float32(x) for x in (model.source_range.low, model.source_range.high)
    )
    pads = ((0, -37 % trained.multiple), (0, -18 % trained.multiple))
    padded = np.pad(image, pads, mode="symmetric")
    expected = supervised_method.denoise(
        trained.gen, trained.variables, ((padded - low) / (high - low))[None, ..., None]
    )
    expected = np.asarray(expected)[0, :37, :18] * (high - low) + low
    np.testing.assert_allclose(model(image), expected, atol=1e-4)


def test_resumed_supervised_run_is_bit_equal(network, folder):
    train(folder / "resumed", "--steps=2")
    train(folder / "resumed", "--steps=4")
    first, second = (
        reader.read(path / "checkpoints", step=4)[0]
        for path in (network, folder / "resumed")
    )
    chex.assert_trees_all_equal(first, second)
    assert first["disc"] is None


def test_table_of_denoisers(prior, network, folder):
    table = run(
        f"--gan_workdir={prior}",
        f"--supervised_workdir={network}",
        "--noise=poisson:1",
        "--likelihood=poisson",
        f"--output={folder / 'table'}",
    )
    assert list(table) == ["poisson:1"]
    classical = ["constant", "Gaussian blur", "Wiener", "wavelet", "total variation"]
    common = ["clean", "noisy", *classical, "non-local means", "network", "prior"]
    assert list(table["poisson:1"]) == [*common, "prior, Poisson", "prior, adapted"]
    for rows in table.values():
        assert rows["clean"]["PSNR"] == np.inf and rows["clean"]["SSIM"] > 0.9999
        blur, constant, noisy = (
            rows[name]["PSNR"] for name in ("Gaussian blur", "constant", "noisy")
        )
        assert min(blur, constant) > noisy
        # The peak is lower by the contrast of the clean images.
        lost = rows["noisy"]["PSNR"] - rows["noisy"]["PSNR, range"]
        assert 5 < lost < 25
        assert rows["constant"]["PSNR"] - rows["constant"][
            "PSNR, range"
        ] == pytest.approx(lost, abs=1e-3)
    written = json.loads((folder / "table" / "table.json").read_text())
    assert set(written) == set(table)
    text = (folder / "table" / "table.md").read_text()
    assert "| prior, adapted |" in text and "PSNR, range" in text
    assert (folder / "table" / "table.png").stat().st_size > 1000


def test_a_stack_is_denoised_with_its_metadata(prior, folder, capsys):
    """Tiles of 32 pixels cover 32 x 48, two frames at once."""
    noisy = np.random.default_rng(0).normal(0.4, 0.1, (2, 32, 48)).astype("f4")
    path = folder / "in" / "movie.tif"
    path.parent.mkdir()
    tifffile.imwrite(
        path, noisy, imagej=True, resolution=(4, 4), metadata={"axes": "TYX"}
    )
    run(
        f"--gan_workdir={prior}",
        f"--input={path}",
        "--noise=none",
        f"--output={folder / 'out'}",
    )
    for kind in ("denoised", "latent", "uncertainty"):
        with tifffile.TiffFile(folder / "out" / kind / "movie.tif") as file:
            series = file.series[0]
            assert (series.axes, series.shape) == ("TYX", (2, 32, 48))
            assert file.pages[0].tags["XResolution"].value == (4, 1)
            assert file.imagej_metadata is not None
            values = series.asarray()
        assert np.isfinite(values).all()
        assert kind != "uncertainty" or (values.min() >= 0 and values.max() > 0)
    said = capsys.readouterr().out
    assert "estimated" in said
    assert ("WARNING" in said) == ("not in the generator's range" in said)


def test_curves_of_optimisers(prior, folder):
    """Adam's and SGD's are there, and Levenberg-Marquardt's, from the same latents."""
    flags = [
        *SEARCH,
        f"--gan_workdir={prior}",
        "--optimizers=adam",
        "--rates=1e-2",
        "--trials=1",
        f"--output={folder / 'curves'}",
    ]
    rows = search_curves.main(
        **cli.parse(["search_curves", *flags], search_curves.SECTIONS)
    )
    assert set(rows) == {"adam 1e-2", "levenberg_marquardt", "trials"}
    assert 2 * 3 < rows["adam 1e-2"]["steps"] <= 2 * 3 + 4
    newton, adam = (rows[k]["loss"] for k in ("levenberg_marquardt", "adam 1e-2"))
    assert newton <= adam + 1e-9
    assert json.loads((folder / "curves" / "curves.json").read_text()) == rows
    assert (folder / "curves" / "curves.png").stat().st_size > 1000


def test_warning_only_where_more_than_noise_is_left(capsys):
    known = noise.parse("gaussian:.1")
    denoise.warn(np.array([0.011, 0.0102]), np.array([0.01, 0.01]), known)
    assert "WARNING" not in capsys.readouterr().out
    denoise.warn(np.array([0.011, 0.05]), np.array([0.01, 0.01]), known)
    assert "WARNING: 1 of 2 tiles are not in the generator's range" in (
        capsys.readouterr().out
    )


def test_tiles_cover_every_pixel_and_come_back():
    stack = np.random.default_rng(0).normal(size=(2, 40, 70, 1)).astype("f4")
    corners = denoise._corners(stack.shape[1:3], 32)
    assert len(corners) == 2 * 3
    tiles = np.concatenate([denoise._cut(stack, corner, 32) for corner in corners])
    np.testing.assert_allclose(denoise._join(tiles, corners, stack.shape), stack)


def test_devices_share_the_images(prior):
    """Each of four devices searches its part, with the keys of the whole."""
    opened = priors.load_prior(str(prior))
    search = cli.parse(["denoise", *SEARCH], denoise.SECTIONS)["search"]
    noisy = np.random.default_rng(0).normal(0.4, 0.1, (4, 32, 32, 1))
    keys = jax.random.split(jax.random.key(0), 4)
    every = opened.find(noisy, keys, search)
    one = opened.find(noisy[3:4], keys[3:4], search)
    assert every.image.shape == (4, 32, 32, 1)
    np.testing.assert_allclose(every.latent[3], one.latent[0], atol=1e-4)
    np.testing.assert_allclose(every.image[3], one.image[0], atol=1e-5)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--noise=none"], "--gan_workdir is missing"),
        (["--gan_workdir=w", "--output=o", "--noise=salt"], "--noise: noise is"),
        (
            ["--gan_workdir=w", "--output=o", "--noise=none", "--input=i", "--clean=c"],
            "--input denoises with generators alone",
        ),
        (["--likelihood=poisson", "--optimizer=levenberg_marquardt"], "fits squares"),
    ],
)
def test_bad_flags_are_said(flags, message):
    with pytest.raises(UserError, match=message):
        run(*flags)


def test_workdirs_of_other_methods_and_small_images_are_said(prior, network, folder):
    with pytest.raises(UserError, match="is of supervised, expected dcgan"):
        priors.load_prior(str(network))
    with pytest.raises(UserError, match="is of dcgan, expected supervised"):
        priors.load_network(str(prior))
    small = folder / "small.tif"
    tifffile.imwrite(small, np.random.default_rng(0).normal(size=(20, 40)))
    with pytest.raises(UserError, match="the generator makes 32"):
        run(
            f"--gan_workdir={prior}",
            f"--input={small}",
            "--noise=none",
            f"--output={folder}",
        )


def test_help_names_every_flag(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    text = capsys.readouterr().out
    for flag in ("--gan_workdir", "--likelihood", "--adapt_steps", "--noise"):
        assert flag in text


def test_agreement_of_trials():
    images = np.stack([np.full((2, 2, 1), value) for value in (0.0, 0.1, 0.2)])
    row = search_curves.agreement(images, np.array([0.1, 0.1, 0.1]))
    assert row["PSNR"] == pytest.approx(10)
    assert row["RMS between"] == pytest.approx((0.1 + 0.1 + 0.2) / 3)
