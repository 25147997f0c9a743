import numpy as np
import pytest
import tifffile

from jaxgan.data import pairs
from jaxgan.data.imagesets import ImageSet, Plane
from jaxgan.data.options import DataConfig
from jaxgan.data.pairs import Pairs
from jaxgan.errors import UserError


def random_set(count, *, size=8, dtype=np.uint8, names=None):
    rng = np.random.default_rng(count)
    images = [rng.integers(1, 255, (size, size)).astype(dtype) for _ in range(count)]
    return ImageSet.from_arrays(images, names)


def write_pairs(tmp_path, stems, folders=("a", "b"), *, dtype=np.uint8, shape=(8, 8)):
    rng = np.random.default_rng(0)
    for folder in folders:
        (tmp_path / folder).mkdir(exist_ok=True)
        for stem in stems:
            image = rng.integers(0, 200, shape).astype(dtype)
            tifffile.imwrite(tmp_path / folder / f"{stem}.tif", image)


def config(tmp_path, **options):
    return DataConfig(source=str(tmp_path / "a"), target=str(tmp_path / "b"), **options)


@pytest.mark.parametrize(
    ("count", "fraction", "held"),
    [(20, 0.1, 2), (16, 0.2, 3), (3, 0.01, 1), (2, 0.9, 1)],
)
def test_a_fraction_is_held_out_and_at_least_one_image(count, fraction, held):
    source, target = random_set(count), random_set(count)
    split = pairs.pair_images(source, target, val_fraction=fraction)
    assert (len(split.train), len(split.val)) == (count - held, held)
    names = split.train.source.names + split.val.source.names
    assert sorted(names) == list(source.names)
    assert split.val.target.names == split.val.source.names
    again = pairs.pair_images(source, target, val_fraction=fraction)
    assert again.val.source.names == split.val.source.names


def test_nothing_is_held_out_if_asked():
    split = pairs.pair_images(random_set(1), random_set(1), val_fraction=0)
    assert split.val is None and len(split.train) == 1
    with pytest.raises(UserError, match="--val_fraction=0"):
        pairs.pair_images(random_set(1), random_set(1))


def stack_set(planes_of):
    """Returns a set with so many planes of each file, all different."""
    planes = []
    for file, count in planes_of.items():
        for number in range(count):
            image = np.full((8, 8, 1), len(planes), np.uint8)
            name = f"{file}[{number}]"
            planes.append(Plane(name, file, image.shape, image.dtype, image))
    return ImageSet(planes)


def test_planes_of_a_file_are_held_out_together():
    images = stack_set({"s": 5, "t": 5, "u": 5})
    split = pairs.pair_images(images, images, val_fraction=0.1)
    assert len(split.val) == 5 and len(set(split.val.source.files)) == 1
    assert not set(split.val.source.files) & set(split.train.source.files)


def test_of_a_single_stack_the_last_planes_are_held_out():
    images = stack_set({"s": 10})
    split = pairs.pair_images(images, images, val_fraction=0.2)
    assert split.val.source.names == images.names[-2:]


def test_ranges_are_fitted_to_the_training_images_alone():
    source, target = random_set(6), random_set(6, dtype=np.uint16)
    split = pairs.pair_images(
        source, target, source_range="percentile:0,100", target_range="20,100"
    )
    trained = [split.train.source.load(i) for i in range(len(split.train))]
    assert split.source_range.low == (float(np.min(trained)),)
    assert split.source_range.high == (float(np.max(trained)),)
    assert split.target_range.low == (20.0,)
    values = np.stack([split.train.target.load(i) for i in range(len(split.train))])
    outside = np.mean((values < 20) | (values > 100))
    assert split.target_outside == pytest.approx(outside)
    bright = [source.load(i).copy() for i in range(6)]
    bright[source.names.index(split.val.source.names[0])][:] = 255
    again = pairs.pair_images(
        ImageSet.from_arrays(bright), target, source_range="percentile:0,100"
    )
    assert again.source_range == split.source_range
    held = Pairs(random_set(2, size=9), random_set(2, size=9))
    with_val = pairs.pair_images(source, source, val=held)
    assert with_val.val is held and len(with_val.train) == 6


def test_pairs_must_match():
    with pytest.raises(ValueError, match="equal in number and sizes"):
        Pairs(random_set(2), random_set(3))
    with pytest.raises(ValueError, match="equal in number and sizes"):
        Pairs(random_set(2), random_set(2, size=9))


def test_open_paired_by_fraction(tmp_path):
    write_pairs(tmp_path, "abcde")
    split = pairs.open_paired(config(tmp_path, source_range="dtype"), crop_size=8)
    assert (len(split.train), len(split.val)) == (4, 1)
    assert split.source_range.high == (255.0,) and split.target_range.high[0] < 200
    assert split.source_range.dtype == "uint8" and split.skipped == ()


def test_open_paired_by_folders(tmp_path):
    write_pairs(tmp_path, "abc")
    write_pairs(tmp_path, "xy", ("va", "vb"))
    held = {"val_source": str(tmp_path / "va"), "val_target": str(tmp_path / "vb")}
    split = pairs.open_paired(config(tmp_path, **held), crop_size=8)
    assert split.train.source.names == ("a", "b", "c")
    assert split.val.target.names == ("x", "y")


def test_held_out_images_must_be_of_the_kind_trained_on(tmp_path):
    write_pairs(tmp_path, "abc")
    write_pairs(tmp_path, "xy", ("va",), dtype=np.uint16)
    write_pairs(tmp_path, "xy", ("vb",))
    held = {"val_source": str(tmp_path / "va"), "val_target": str(tmp_path / "vb")}
    with pytest.raises(UserError, match="--val_source: images are uint16") as caught:
        pairs.open_paired(config(tmp_path, **held), crop_size=8)
    assert len(caught.value.problems) == 1


def test_problems_of_training_and_held_out_folders_come_together(tmp_path):
    write_pairs(tmp_path, "abc")
    write_pairs(tmp_path, "xy", ("va", "vb"))
    (tmp_path / "a" / "a.tif").write_bytes(b"")
    (tmp_path / "vb" / "y.tif").write_bytes(b"")
    held = {"val_source": str(tmp_path / "va"), "val_target": str(tmp_path / "vb")}
    with pytest.raises(UserError) as caught:
        pairs.open_paired(config(tmp_path, **held), crop_size=8)
    first, second = caught.value.problems
    assert "a.tif" in first and "y.tif" in second
    split = pairs.open_paired(
        config(tmp_path, skip_bad_files=True, **held), crop_size=8
    )
    assert split.train.source.names == ("b", "c") and split.val.source.names == ("x",)
    assert split.skipped == (first, second)


def test_problems_of_flags_come_before_files_are_read(tmp_path):
    with pytest.raises(UserError) as caught:
        pairs.open_paired(config(tmp_path, resize="4", val_fraction=2), crop_size=8)
    assert len(caught.value.problems) == 2


def test_classes_range_from_0_to_1_whatever_the_flag_says(tmp_path):
    write_pairs(tmp_path, "abc", ("m", "n", "b"))
    masks = DataConfig(
        source=f"{tmp_path}/m,{tmp_path}/n",
        target=str(tmp_path / "b"),
        one_hot=True,
        source_range="dtype",
    )
    split = pairs.open_paired(masks, crop_size=8)
    assert split.source_range.low == (0.0,) * 3
    assert split.source_range.high == (1.0,) * 3
    np.testing.assert_array_equal(split.train.source.load(0).sum(-1), 1)


def test_open_aligned(tmp_path):
    write_pairs(tmp_path, "ab", ("ab",), shape=(8, 16))
    split = pairs.open_paired(DataConfig(aligned=str(tmp_path / "ab")), crop_size=8)
    assert split.train.source.shapes == split.train.target.shapes == ((8, 8),)


def test_named_files_are_held_out():
    images = random_set(4, names=["0", "1", "2", "3"])
    split = pairs.pair_images(images, images, val_stems=["1", "3"])
    assert split.train.source.names == ("0", "2")
    assert split.val.source.names == ("1", "3")


@pytest.mark.parametrize("stems", [["7"], ["0", "1", "2", "3"]])
def test_stems_that_hold_out_nothing_or_all_are_refused(stems):
    images = random_set(4, names=["0", "1", "2", "3"])
    with pytest.raises(UserError, match="--val_stems"):
        pairs.pair_images(images, images, val_stems=stems)
