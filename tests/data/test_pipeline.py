import itertools

import numpy as np
import pytest
import tifffile

from jaxgan.data import pairs, pipeline
from jaxgan.data.imagesets import ImageSet, Plane
from jaxgan.data.options import DataConfig
from jaxgan.data.pairs import Pairs


def coordinates(count, *, size=12):
    """Returns pairs whose pixels tell image, row and column; targets are 1000 more."""
    y, x = np.mgrid[:size, : size + 3]
    source = [np.stack([np.full_like(y, i), y, x], -1) for i in range(count)]
    source = [image.astype(np.uint16) for image in source]
    target = [image[..., :1] + np.uint16(1000) for image in source]
    return Pairs(ImageSet.from_arrays(source), ImageSet.from_arrays(target))


def make(count=5, *, crop_size=4, batch_size=2, seed=0, **options):
    return pipeline.batches(
        coordinates(count),
        crop_size=crop_size,
        batch_size=batch_size,
        seed=seed,
        **options,
    )


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert a[name].dtype == b[name].dtype
        np.testing.assert_array_equal(a[name], b[name])


def images_in(batch):
    return batch["source"][..., 0, 0, 0].ravel().tolist()


def test_a_batch_is_stored_values_cut_at_one_place_from_both():
    batch = make(batch_size=3, crop_size=5)[0]
    assert batch["source"].shape == (3, 5, 5, 3)
    assert batch["target"].shape == (3, 5, 5, 1)
    assert batch["source"].dtype == np.uint16
    np.testing.assert_array_equal(
        batch["target"][..., 0], batch["source"][..., 0] + 1000
    )
    rows, columns = batch["source"][..., 1], batch["source"][..., 2]
    assert (np.diff(rows, axis=1) == 1).all()
    assert (np.diff(columns, axis=2) == 1).all()


def test_batch_i_is_a_function_of_seed_and_i():
    ds, same, other = make(), make(), make(seed=1)
    later = same[7]
    for i in range(7):
        ds[i]
    assert_same(ds[7], later)
    assert_same(ds[7], ds[7])
    assert any((ds[i]["source"] != other[i]["source"]).any() for i in range(3))
    one = make(1, batch_size=4)
    assert (one[0]["source"] != one[1]["source"]).any()  # other crops of the same image


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 8])
def test_every_image_comes_once_in_each_epoch(batch_size):
    ds = make(batch_size=batch_size)
    order = list(itertools.chain(*[images_in(ds[i]) for i in range(40)]))
    epochs = [order[i : i + 5] for i in range(0, 40, 5)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(5))
    assert len({tuple(epoch) for epoch in epochs}) > 4  # reshuffled


def test_crops_differ_between_epochs_and_reach_every_corner():
    ds = make(1, batch_size=64, crop_size=10)
    corners = {tuple(crop[0, 0, 1:]) for i in range(4) for crop in ds[i]["source"]}
    assert corners == set(itertools.product(range(3), range(6)))


def test_a_crop_may_be_the_whole_image():
    images = ImageSet.from_arrays([np.arange(16, dtype=np.uint8).reshape(4, 4)])
    ds = pipeline.batches(Pairs(images, images), crop_size=4, batch_size=1, seed=0)
    np.testing.assert_array_equal(ds[0]["source"][0], images.load(0))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_shards_are_the_contiguous_parts_of_the_batch(count):
    whole = make(batch_size=4)
    parts = [make(batch_size=4, shard=(index, count)) for index in range(count)]
    for i in range(5):
        for name in ("source", "target"):
            joined = np.concatenate([part[i][name] for part in parts])
            np.testing.assert_array_equal(joined, whole[i][name])


def test_a_batch_must_divide_among_processes():
    with pytest.raises(ValueError, match="4 does not divide by 3"):
        make(batch_size=4, shard=(0, 3))


@pytest.mark.parametrize("num_threads", [0, 1, 3])
def test_calls_stack_the_batches_in_order(num_threads):
    ds = make()
    calls = list(
        pipeline.host_batches(ds, steps=8, steps_per_call=3, num_threads=num_threads)
    )
    assert [len(call["source"]) for call in calls] == [3, 3, 2]
    assert calls[0]["target"].shape == (3, 2, 4, 4, 1)
    for i in range(8):
        assert_same({k: v[i % 3] for k, v in calls[i // 3].items()}, ds[i])


@pytest.mark.parametrize("num_threads", [0, 2])
def test_resuming_at_a_step_gives_the_same_batches(num_threads):
    options = {"steps_per_call": 2, "num_threads": num_threads}
    calls = list(pipeline.host_batches(make(), steps=10, **options))
    resumed = list(pipeline.host_batches(make(), start_step=4, steps=10, **options))
    assert len(resumed) == 3
    for a, b in zip(calls[2:], resumed, strict=True):
        assert_same(a, b)
    assert list(pipeline.host_batches(make(), start_step=10, steps=10)) == []


def test_calls_may_be_left_early():
    calls = pipeline.host_batches(make(), steps=10**6, steps_per_call=4, num_threads=2)
    assert_same({k: v[0] for k, v in next(calls).items()}, make()[0])
    calls.close()


def test_an_error_in_a_thread_reaches_the_loop():
    def vanished():
        raise OSError("the disk is gone")

    plane = Plane("a", "a", (8, 8, 1), np.dtype(np.uint8), vanished)
    pair = Pairs(ImageSet([plane]), ImageSet([plane]))
    ds = pipeline.batches(pair, crop_size=4, batch_size=1, seed=0)
    with pytest.raises(OSError, match="the disk is gone"):
        list(pipeline.host_batches(ds, steps=2, num_threads=1))


def test_no_image_may_be_smaller_than_the_crop():
    with pytest.raises(ValueError, match="crop_size 13 exceeds an image side of 12"):
        make(crop_size=13)


def test_from_files_to_batches(tmp_path):
    rng = np.random.default_rng(0)
    stored = {}
    for folder, dtype in (("a", np.uint16), ("b", np.float32)):
        (tmp_path / folder).mkdir()
        for stem in "123":
            image = rng.integers(0, 1000, (9, 11)).astype(dtype)
            stored[folder, stem] = image
            tifffile.imwrite(tmp_path / folder / f"{stem}.tif", image)
    config = DataConfig(source=f"{tmp_path}/a", target=f"{tmp_path}/b", val_fraction=0)
    train = pairs.open_paired(config, crop_size=9).train
    batch = pipeline.batches(train, crop_size=9, batch_size=3, seed=0)[0]
    assert (batch["source"].dtype, batch["target"].dtype) == (np.uint16, np.float32)
    for source, target in zip(batch["source"], batch["target"], strict=True):
        places = [
            (stem, x)
            for stem, x in itertools.product("123", range(3))
            if (stored["a", stem][:, x : x + 9] == source[..., 0]).all()
        ]
        ((stem, x),) = places
        np.testing.assert_array_equal(target[..., 0], stored["b", stem][:, x : x + 9])
