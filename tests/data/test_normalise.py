import json
import math

import numpy as np
import pytest

from jaxgan.data import normalise
from jaxgan.data.imagesets import ImageSet
from jaxgan.data.normalise import Range


def random_set(dtype, *, channels=2, count=3):
    """Returns images of several sizes whose channels are distributed differently."""
    rng = np.random.default_rng(0)
    images = []
    for i in range(count):
        values = rng.gamma(2.0, 10.0, (20 + i, 30, channels)) * (
            1 + np.arange(channels)
        )
        images.append((values + 5).astype(dtype))
    return ImageSet.from_arrays(images)


def pooled(images):
    return np.concatenate(
        [images.load(i).reshape(-1, images.channels) for i in range(3)]
    )


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "uint32", "float32"])
@pytest.mark.parametrize(
    "spec", ["percentile", "percentile:2,99.8", "percentile:0,100"]
)
def test_percentiles_are_those_of_all_values_per_channel(dtype, spec):
    images = random_set(dtype)
    percents = {"percentile": (0.1, 99.9), "percentile:2,99.8": (2, 99.8)}
    wanted = np.percentile(
        pooled(images).astype(np.float64), percents.get(spec, (0, 100)), axis=0
    )
    found = normalise.fit(spec, images)
    np.testing.assert_allclose([found.low, found.high], wanted, rtol=1e-12)
    assert found.dtype == dtype


def test_negative_integers_have_percentiles_too():
    values = np.array([[-300, -2, -1, 0, 5]], np.int16)
    found = normalise.fit("percentile:0,50", ImageSet.from_arrays([values]))
    assert (found.low, found.high) == ((-300.0,), (-1.0,))


def test_a_sample_of_many_floats_is_close_and_always_the_same(monkeypatch):
    monkeypatch.setattr(normalise, "SAMPLE", 1000)
    images = random_set(np.float32)
    found = normalise.fit("percentile:10,90", images)
    wanted = np.percentile(pooled(images), (10, 90), axis=0)
    np.testing.assert_allclose([found.low, found.high], wanted, rtol=0.1)
    assert not np.allclose([found.low, found.high], wanted, rtol=1e-9)
    assert normalise.fit("percentile:10,90", images) == found


def test_equal_percentiles_give_way_to_the_extremes():
    sparse = np.zeros((100, 100, 3), np.uint8)
    sparse[0, 0, 0] = 255
    sparse[..., 1] = np.arange(100)
    with pytest.warns(UserWarning) as warned:
        found = normalise.fit("percentile", ImageSet.from_arrays([sparse]))
    assert (found.low[0], found.high[0]) == (0.0, 255.0)
    assert (found.low[2], found.high[2]) == (0.0, 1.0)  # constant: any width will do
    assert found.low[1] < found.high[1] and len(warned) == 2
    assert "channel 0" in str(warned[0].message)


@pytest.mark.parametrize(
    ("spec", "dtype", "low", "high"),
    [
        ("dtype", "uint8", 0, 255),
        ("dtype", "uint16", 0, 65535),
        ("dtype", "int16", -32768, 32767),
        ("dtype", "float32", 0, 1),
        ("-pi,pi", "float32", -math.pi, math.pi),
        ("-1.5, 2e3", "uint16", -1.5, 2000),
    ],
)
def test_ranges_that_need_no_data(spec, dtype, low, high):
    found = normalise.fit(spec, random_set(dtype))
    assert found == Range((float(low),) * 2, (float(high),) * 2, dtype)


@pytest.mark.parametrize(
    "spec",
    ["", "min,max", "1", "1,2,3", "2,1", "1,1", "nan,1", "percentile:", "percentiles"]
    + ["percentile:-1,50", "percentile:5,101", "percentile:90,10", "Dtype"],
)
def test_what_is_no_range_is_refused(spec):
    with pytest.raises(ValueError, match="percentile:LOW,HIGH"):
        normalise.parse(spec)


def test_to_units_inverts_the_range():
    range_ = Range((10.0, -math.pi), (20.0, math.pi))
    image = np.array([[-1, 0], [1, 1]], np.float32)
    stored = normalise.to_units(image, range_)
    np.testing.assert_allclose(stored, [[10, 0], [20, math.pi]], rtol=1e-6)
    assert stored.dtype == np.float32


def test_every_byte_survives_the_way_in_and_out():
    stored = np.arange(256, dtype=np.uint8)[:, None]
    low, high = np.float32(13.7), np.float32(201.3)
    encoded = 2 * (stored.astype(np.float32) - low) / (high - low) - 1
    units = normalise.to_units(encoded, Range((13.7,), (201.3,)))
    back, clipped = normalise.store(units, np.uint8)
    np.testing.assert_array_equal(back, stored)
    assert clipped == 0


def test_storing_rounds_clips_and_counts():
    values = np.array([-0.4, -0.6, 1.6, 255.4, 255.6, 300.0], np.float32)
    stored, clipped = normalise.store(values, np.uint8)
    np.testing.assert_array_equal(stored, [0, 0, 2, 255, 255, 255])
    assert (stored.dtype, clipped) == (np.uint8, 3)
    stored, clipped = normalise.store(values, np.float32)
    np.testing.assert_array_equal(stored, values)
    assert clipped == 0
    with pytest.raises(ValueError, match="not finite"):
        normalise.store(np.array([np.nan]), np.uint8)


def test_values_outside_are_counted_over_channels():
    image = np.stack([np.arange(10), np.arange(10)], axis=-1)[None].astype(np.uint8)
    images = ImageSet.from_arrays([image, image])
    range_ = Range((2.0, 0.0), (9.0, 6.0))
    assert normalise.fraction_outside(range_, images) == pytest.approx(5 / 20)


def test_a_range_survives_json():
    range_ = Range((0.1, 2.0), (3.0, 4.5), "uint16")
    text = json.dumps(normalise.to_json(range_))
    assert normalise.from_json(json.loads(text)) == range_
