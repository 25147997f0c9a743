import numpy as np
import pytest
import tifffile

from jaxgan import cli, predict
from jaxgan.apply import files, tiled
from jaxgan.apply.tiled import Seams
from jaxgan.data import normalise, readers
from jaxgan.errors import UserError


def run(*flags):
    argv = ["predict", *flags]
    predict.main(**cli.parse(argv, {"options": predict.Options}))


def image(*shape, dtype=np.uint16):
    return np.random.default_rng(0).integers(0, 4000, shape).astype(dtype)


def test_output_has_the_geometry_of_the_input_and_the_dtype_of_the_target(
    tmp_path, finished
):
    path = tmp_path / "in" / "deep" / "cell.tif"
    path.parent.mkdir(parents=True)
    stack = image(3, 17, 23)
    tifffile.imwrite(
        path,
        stack,
        imagej=True,
        resolution=(1 / 0.1, 1 / 0.2),
        metadata={"axes": "TYX", "unit": "um"},
    )
    run(f"--workdir={finished}", f"--input={path.parents[1]}", f"--output={tmp_path}")
    with tifffile.TiffFile(tmp_path / "deep" / "cell.tif") as tif:
        assert tif.series[0].axes == "TYX"
        result = tif.asarray()
        numerator, denominator = tif.pages[0].tags["XResolution"].value
        assert numerator / denominator == pytest.approx(1 / 0.1, rel=1e-4)
        assert tif.imagej_metadata["unit"] == "um"
    assert result.dtype == np.uint8
    assert result.shape == stack.shape
    assert result.std() > 0


def test_main_and_loaded_model_agree(tmp_path, finished):
    tifffile.imwrite(tmp_path / "a.tif", image(21, 30))
    flags = f"--workdir={finished}", f"--input={tmp_path / 'a.tif'}"
    run(*flags, f"--output={tmp_path / 'out'}", "--output_dtype=float32")
    written = tifffile.imread(tmp_path / "out" / "a.tif")
    model = predict.load(str(finished))
    np.testing.assert_array_equal(model(image(21, 30))[..., 0], written)
    assert written.dtype == np.float32


def test_result_is_in_units_of_the_target(finished):
    model = predict.load(str(finished))
    low, high = model.target_range.low[0], model.target_range.high[0]
    result = model(image(16, 16))
    assert low <= result.min() < result.max() <= high


def test_size_does_not_change_what_is_far_from_the_border(finished):
    """Padding to a multiple must not shift or rescale the image."""
    model = predict.load(str(finished), statistics="running")
    large = image(32, 32)
    np.testing.assert_allclose(
        model(large[:30, :29])[:16, :16], model(large)[:16, :16], rtol=1e-5
    )


def test_statistics_of_the_image_and_of_training_differ(finished):
    results = [
        predict.load(str(finished), statistics=name)(image(16, 16))
        for name in ("image", "running")
    ]
    assert np.abs(results[0] - results[1]).max() > 1e-3


def test_a_chain_feeds_each_model_with_the_one_before(tmp_path, finished):
    tifffile.imwrite(tmp_path / "a.tif", image(16, 16))
    flags = [f"--workdir={finished}"] * 2
    run(*flags, f"--input={tmp_path}", f"--output={tmp_path / 'out'}")
    model = predict.load(str(finished))
    expected = np.rint(model(model(image(16, 16))))
    written = tifffile.imread(tmp_path / "out" / "a.tif")
    np.testing.assert_array_equal(written, expected[..., 0])


def restarting():
    """Returns a model that runs out of memory when its first rows have left."""
    unit = normalise.Range((-1.0,), (1.0,), "uint8")

    def translate(image, sink):
        ramp = np.linspace(-9, 3, image.size, dtype=np.float32).reshape(image.shape)
        sink(0, ramp[:8])
        sink(8, ramp[8:12])
        for y in range(0, len(ramp), 4):
            sink(y, ramp[y : y + 4])
        return Seams(exact=True)

    return predict.Model({}, unit, unit, 0, 1, translate)


def test_rows_that_come_again_count_once(tmp_path):
    model, stored = restarting(), image(16, 10, 1, dtype=np.uint8)
    result = model(stored)
    assert result.shape == stored.shape
    path = tmp_path / "out.tif"
    file = files.File(path, readers.Meta("YX", (16, 10)), [lambda: stored])
    clipped = predict.translate_file(file, [model], np.dtype("uint8"))
    expected, count = normalise.store(result, "uint8")
    np.testing.assert_array_equal(tifffile.imread(path), expected[..., 0])
    assert clipped == count > 0


def test_an_image_that_memory_does_not_hold_whole_is_cut(finished, monkeypatch):
    stored = image(70, 90)
    expected = predict.load(str(finished), tile=64)(stored)

    def full(*args):
        raise MemoryError

    monkeypatch.setattr(predict, "make_translate", lambda *args, **kwargs: full)
    cut = tiled.Tiled._cut

    def small(self, stored, grid, place):
        return cut(self, stored, grid, place) if grid.rows.size <= 64 else full()

    monkeypatch.setattr(tiled.Tiled, "_cut", small)
    result = predict.load(str(finished), tile=128)(stored)
    np.testing.assert_array_equal(result, expected)


def test_other_channels_than_in_training_are_refused(tmp_path, finished):
    tifffile.imwrite(tmp_path / "a.tif", image(16, 16, 3), photometric="rgb")
    with pytest.raises(UserError, match=r"a.*3 channel.*trained on 1"):
        run(f"--workdir={finished}", f"--input={tmp_path}", f"--output={tmp_path}/o")
    with pytest.raises(ValueError, match=r"expected an image \[H, W, 1\]"):
        predict.load(str(finished))(image(16, 16, 3))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--input=a", "--output=b"], "--workdir is missing"),
        (["--workdir=/nowhere", "--input=a", "--output=b"], "config.json does not"),
    ],
)
def test_bad_flags(flags, message):
    with pytest.raises(UserError, match=message):
        run(*flags)


@pytest.mark.parametrize("text", ["newest", "-3"])
def test_bad_checkpoint(finished, text):
    flags = f"--workdir={finished}", "--input=a", "--output=b"
    with pytest.raises(UserError, match="--checkpoint"):
        run(*flags, f"--checkpoint={text}")
