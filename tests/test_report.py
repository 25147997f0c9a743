"""The quality report: what is counted, what is said, and that the page stands alone."""

import csv
import dataclasses
import json
import os
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tifffile
from skimage import metrics as skimage_metrics

from jaxgan import cli, config, evaluate, predict
from jaxgan.errors import UserError
from jaxgan.methods import cyclegan, pix2pix, srgan, supervised
from jaxgan.report import caveats, generators, images, measure, page, prose, study
from jaxgan.state import GANState, init_player
from jaxgan.training.checkpoint import Checkpoints

SIZE = 24
UNIT = {"low": [0.0], "high": [1.0], "dtype": "float32"}


def run(*flags):
    evaluate.main(**cli.parse(["evaluate", *flags], {"options": evaluate.Options}))


@pytest.fixture(scope="module")
def flags(image_flags):
    return image_flags


@pytest.fixture(scope="module")
def made(tmp_path_factory, finished, flags):
    """The report of a tiny pix2pix on its own images and one that it never saw."""
    folder = tmp_path_factory.mktemp("report")
    for flag in flags:
        role, path = flag.removeprefix("--").split("=")
        (folder / role).mkdir()
        for file in sorted(os.listdir(path)):
            image = tifffile.imread(f"{path}/{file}")
            # Names do not matter, what images show does.
            write(folder / role / f"copy_{file}", image)
        write(folder / role / "new.tif", image[::-1])
    sides = f"--source={folder / 'source'}", f"--target={folder / 'target'}"
    run(f"--workdir={finished}", *sides, f"--output={folder / 'report'}")
    return folder / "report"


def write(path, image, pixel=0.5):
    tifffile.imwrite(
        path,
        image,
        imagej=True,
        resolution=(1 / pixel, 1 / pixel),
        metadata={"axes": "YX", "unit": "um"},
    )


def rows(folder):
    with open(folder / "qc.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_every_checkpoint_meets_every_image(made, finished):
    steps = sorted(p.name for p in (finished / "checkpoints").iterdir())
    found = rows(made)
    names = {row["image"] for row in found}
    assert names == {*(f"copy_{i}" for i in range(6)), "new"}
    predictions = [row for row in found if row["what"] == study.PREDICTION]
    pairs = {(row["image"], row["checkpoint"]) for row in predictions}
    assert pairs == {(n, s) for n in names for s in steps if s.isdigit()}
    assert len(predictions) == len(pairs)
    # Each with its own weights.
    of_new = {row["psnr"] for row in predictions if row["image"] == "new"}
    assert len(of_new) == len({step for _, step in pairs})
    assert sum(row["what"] == study.INPUT for row in found) == len(names)


def test_images_are_what_they_were_to_the_run_whatever_their_names(made, finished):
    roles = {row["image"]: row["role"] for row in rows(made)}
    held = [name for name, role in roles.items() if role == images.SELECTION]
    assert len(held) == 1
    assert roles["new"] == images.INDEPENDENT
    assert sum(role == images.TRAINING for role in roles.values()) == 5
    split = images.what_was_seen(json.loads((finished / "config.json").read_text()))
    assert held == [f"copy_{split.held[0].names[0]}"]


def test_scores_are_those_of_the_model_that_predict_loads(made, finished):
    model = predict.load(str(finished))
    source = tifffile.imread(made.parent / "source" / "new.tif")
    target = tifffile.imread(made.parent / "target" / "new.tif")
    low, high = model.target_range.low[0], model.target_range.high[0]
    made_of, target = (
        np.clip(2 * (np.float64(x) - low) / (high - low) - 1, -1, 1)
        for x in (model(source)[..., 0], target)
    )
    (row,) = [row for row in rows(made) if row["image"] == "new" and row["used"] == "1"]
    assert int(row["checkpoint"]) == model.step
    psnr = skimage_metrics.peak_signal_noise_ratio(target, made_of, data_range=2)
    assert float(row["psnr"]) == pytest.approx(psnr, abs=1e-3)
    slope, offset = np.polyfit(made_of.ravel(), target.ravel(), 1)
    matched = skimage_metrics.peak_signal_noise_ratio(
        target, slope * made_of + offset, data_range=2
    )
    assert float(row["psnr_affine"]) == pytest.approx(matched, abs=1e-3)
    error = tifffile.imread(made / "maps" / "error" / "new.tif")
    stored = tifffile.imread(made.parent / "target" / "new.tif").astype("f4")
    np.testing.assert_allclose(error, model(source)[..., 0] - stored, atol=1e-3)
    ssim = tifffile.imread(made / "maps" / "ssim" / "new.tif")
    assert ssim.shape == source.shape and ssim.dtype == np.float32
    assert np.nanmean(ssim) == pytest.approx(float(row["ssim"]), abs=1e-5)


def test_page_stands_alone(made):
    text = (made / "index.html").read_text("utf-8")
    sources = re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?([^"'\s>]+)""", text)
    assert len(sources) > 8 and all(x.startswith("data:") for x in sources)
    assert "default-src 'none'" in text
    assert not re.search(r"fetch\(|XMLHttpRequest|import\s|<link rel=.stylesheet", text)
    # The images that nobody chose by come first.
    headings = re.findall(r"<h3>(\d+) images? ([^<]+)</h3>", text)
    roles = (images.INDEPENDENT, images.SELECTION, images.TRAINING)
    words = [prose.IN_WORDS[role] for role in roles]
    assert headings == list(zip(("1", "1", "5"), words, strict=True))
    assert "not a measurement" in text.replace("\n", " ")


def test_methods_name_every_parameter_and_version(made, finished):
    text = (made / "methods.txt").read_text("utf-8")
    for field in dataclasses.fields(pix2pix.Config):
        assert f" {field.name} " in text, field.name
    packages = json.loads((finished / "env.json").read_text())["starts"][0]["packages"]
    assert all(f"{name} {version}" in text for name, version in packages.items())
    cited = set(map(int, re.findall(r"\d+", " ".join(re.findall(r"\[[\d,]+\]", text)))))
    listed = list(map(int, re.findall(r"^\[(\d+)\]", text, flags=re.MULTILINE)))
    assert cited == set(listed) and listed == sorted(listed)


def test_names_are_text_and_not_markup():
    texts = "method version date chosen role enlarged power correlation fitted_on"
    names = (*texts.split(), "methods")
    content = dict.fromkeys(names, "<script>alert(1)</script>")
    lists = "checkpoints warnings groups columns examples curves limits rows".split()
    content |= {name: [] for name in (*lists, "parameters")}
    text = page.render(content | {"workdir": "<b>&</b>"})
    assert "&lt;b&gt;&amp;&lt;/b&gt;" in text
    assert text.count("<script>") == 1


def test_numbers_of_the_page_stand_below_their_names(made):
    text = (made / "index.html").read_text("utf-8")
    first = re.search(r"<table>(.*?)</table>", text, flags=re.DOTALL)[1]
    heads = re.findall(r"<th>([^<]+)</th>", first)
    assert heads[1:3] == ["SSIM", "NRMSE"] and heads[3] == "PSNR (dB), matched"
    line = re.search(r"<td>prediction</td>(.*?)</tr>", first, flags=re.DOTALL)[1]
    shown = [float(x.split(" ")[0]) for x in re.findall(r"<td>([^<]+)</td>", line)]
    (row,) = [r for r in rows(made) if r["image"] == "new" and r["used"] == "1"]
    names = (*measure.SCORES, *measure.MATCHED)
    assert shown == pytest.approx([float(row[name]) for name in names], rel=1e-3)


# Warnings


@pytest.fixture(scope="module")
def parts(finished, flags):
    generator = generators.load(str(finished))
    source, target = (flag.split("=")[1] for flag in flags)
    pair = images.open_pairs(generator, source, target)
    return generator, images.Images(*pair, (images.INDEPENDENT,) * 6)


def found_with(prediction, other, **changes):
    """A study in which all scores of a kind are one number."""
    levels = {study.INPUT: 0.1, study.FILTER: other, study.PREDICTION: prediction}
    made = [
        study.Row(
            str(i),
            images.INDEPENDENT,
            kind,
            20 if kind == study.PREDICTION else None,
            {
                name: -level if name.startswith("nrmse") else level
                for name in (*measure.SCORES, *measure.MATCHED)
            },
        )
        for kind, level in levels.items()
        for i in range(6)
    ]
    values = dict(
        rows=tuple(made),
        role=images.INDEPENDENT,
        examples=(),
        spectra=None,
        source_outside=0.0,
        target_outside=0.0,
        fitted_on="",
    )
    return study.Study(**values | changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, None),
        ({"prediction": 0.4}, "not better than the best linear filter"),
        ({"prediction": 0.05}, "not better than the input"),
        ({"source_outside": 0.3}, "30.0 % of the values of the inputs"),
        ({"target_outside": 0.02}, "2.0 % of the values of the targets"),
        ({"role": images.TRAINING}, "trained on every one"),
        ({"role": images.SELECTION}, "No image here is independent"),
        ({"role": images.UNKNOWN}, "cannot be told"),
    ],
)
def test_a_warning_is_given_when_it_is_due(parts, changes, words):
    generator, judged = parts
    generator = generator._replace(variables={20: {}}, chosen=20)
    role = changes.get("role", images.INDEPENDENT)
    judged = dataclasses.replace(judged, roles=(role,) * 6)
    found = found_with(**{"prediction": 0.6, "other": 0.5} | changes)
    found = dataclasses.replace(
        found, rows=tuple(dataclasses.replace(r, role=role) for r in found.rows)
    )
    first, *others = caveats.warnings(generator, judged, images.Seen(), found)
    assert "not a measurement" in " ".join(first.split())
    assert bool(others) == bool(words)
    assert not words or any(words in text for text in others), others


def test_other_pixels_than_in_training_are_reported(tmp_path, parts):
    generator, _ = parts
    sets = {}
    for name, pixel in (("here", 0.2), ("there", 0.5)):
        (tmp_path / name).mkdir()
        write(
            tmp_path / name / "a.tif", np.arange(576, dtype="u2").reshape(24, 24), pixel
        )
        path = str(tmp_path / name)
        sets[name], _ = images.open_pairs(generator, path, path)
    judged = images.Images(sets["here"], sets["there"], ("",))
    seen = images.Seen((sets["there"], sets["there"]), (), paired=True)
    (text,) = caveats.pixel_size_problems(judged, seen)
    assert "0.2 µm" in text and "0.5 µm" in text and "source" in text


# Other methods


def write_workdir(path, method, settings, player, ranges):
    """Writes what a run of a method leaves, with untrained weights."""
    path.mkdir()
    content = {
        "format_version": 1,
        "method": method,
        "config": config.to_dict(settings),
        "data": {},
        "run": {"best_metric": "ssim"},
    }
    environment = {
        "jaxgan": "0",
        "python": "3",
        "packages": {"jax": "0"},
        "devices": ["cpu"],
    }
    for name, values in (
        ("config", content),
        ("normalization", ranges),
        ("env", {"starts": [environment]}),
    ):
        (path / f"{name}.json").write_text(json.dumps(values))
    with Checkpoints(path / "checkpoints") as checkpoints:
        for step in (1, 2):
            state = GANState(jnp.int32(step), player, None, ema=None)
            checkpoints.save(step, jax.device_get(state), metrics={})
        checkpoints.wait()


def untrained(network, *shape):
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    return init_player(network, optax.identity(), jax.random.key(0), image)


def other(method):
    """Returns a tiny configuration, its generator's state, and the ranges it keeps."""
    ranges = {"source": UNIT, "target": UNIT}
    if method == "srgan":
        settings = srgan.Config(scale=2, width=2, num_blocks=1, crop_size=16)
        player = untrained(srgan.networks(settings, out_channels=1).gen, 1, 8, 8, 1)
        return settings, player, ranges
    if method == "supervised":
        settings = supervised.Config(
            width=2, network="dncnn", depth=3, crop_size=16, batch_size=4
        )
        player = untrained(
            supervised.networks(settings, out_channels=1).gen, 1, 16, 16, 1
        )
        return settings, player, {"image": UNIT}
    settings = cyclegan.Config(width=2, num_blocks=1, crop_size=16)
    networks = cyclegan.networks(settings, in_channels=1, out_channels=1)
    player = untrained(networks.gen.ab, 1, 16, 16, 1)
    return (
        settings,
        player.replace(params=dict.fromkeys(("ab", "ba"), player.params)),
        ranges,
    )


@pytest.mark.parametrize("method", ["cyclegan", "srgan", "supervised"])
def test_other_methods_are_judged_too(tmp_path, method):
    settings, player, ranges = other(method)
    write_workdir(tmp_path / "w", method, settings, player, ranges)
    generator = np.random.default_rng(0)
    scale = 2 if method == "srgan" else 1
    for i in range(2):
        target = generator.random((SIZE, SIZE), np.float32)
        for role, image in (("source", target[::scale, ::scale]), ("target", target)):
            (tmp_path / role).mkdir(exist_ok=True)
            tifffile.imwrite(tmp_path / role / f"{i}.tif", image)
    sides = f"--source={tmp_path / 'source'}", f"--target={tmp_path / 'target'}"
    run(f"--workdir={tmp_path / 'w'}", *sides)
    report = tmp_path / "w" / "report"
    found = rows(report)
    assert len(found) == 2 * (2 + 1 + 1)  # two checkpoints, the input, the filter
    assert {row["role"] for row in found} == {images.UNKNOWN}
    if scale == 1:  # a perfect image
        (exact, _) = [row for row in found if row["what"] == study.INPUT]
        assert float(exact["ssim"]) == pytest.approx(1, abs=1e-6)
    assert tifffile.imread(report / "maps" / "error" / "0.tif").shape == (SIZE, SIZE)
    assert "cannot be told" in (report / "index.html").read_text("utf-8")


# Errors


def test_folders_that_do_not_fit_are_refused(tmp_path, finished, flags):
    shapes = {"colour": (24, 28, 3), "other": (24, 20), "small": (9, 24)}
    for name, shape in shapes.items():
        (tmp_path / name).mkdir()
        for i in range(6):
            image = np.random.default_rng(i).integers(0, 255, shape).astype(np.uint8)
            tifffile.imwrite(tmp_path / name / f"{i}.tif", image)
    base = f"--workdir={finished}", flags[0]
    with pytest.raises(UserError, match="--target.*3 channel"):
        run(*base, f"--target={tmp_path / 'colour'}")
    with pytest.raises(UserError, match="24x28.*24x20"):
        run(*base, f"--target={tmp_path / 'other'}")
    with pytest.raises(UserError, match="9x24; similarity .* 11 pixels"):
        small = tmp_path / "small"
        run(base[0], f"--source={small}", f"--target={small}")
    with pytest.raises(UserError, match="--target is missing"):
        run(*base)


def test_spectra_tell_what_two_images_share():
    noise = np.random.default_rng(0).normal(size=(2, 64, 64, 1))
    blurred = np.fft.ifft2(
        np.fft.fft2(noise[0, ..., 0])
        * (np.hypot(*np.meshgrid(np.fft.fftfreq(64), np.fft.fftfreq(64))) < 0.25)
    ).real[..., None]
    example = {
        "input": noise[1],
        "prediction": blurred + 0.05 * noise[1],
        "target": noise[0],
    }
    spectra = measure.spectra([example])
    limit = measure.common_until(spectra.frequencies, spectra.correlation["prediction"])
    assert 0.23 < limit < 0.3
    assert spectra.correlation["input"].mean() < 0.2
