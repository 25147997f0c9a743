import numpy as np
import pytest
import tifffile

from jaxgan.data import masks, pipeline, readers
from jaxgan.data.imagesets import ImageSet
from jaxgan.data.masks import MaskConfig
from jaxgan.errors import UserError


def write_folders(path, *, count=3, size=8):
    """Writes two overlapping masks per image; the first has grey edges."""
    for name in ("mito", "membrane"):
        (path / name).mkdir(parents=True)
    for i in range(count):
        mito = np.zeros((size, size), np.uint8)
        mito[:, i], mito[:, i + 1] = 255, 60
        membrane = np.zeros((size, size), np.uint8)
        membrane[:, i : i + 2] = 1
        tifffile.imwrite(path / "mito" / f"{i:02d}.tif", mito)
        tifffile.imwrite(path / "membrane" / f"{i:02d}.tif", membrane)
    return f"{path}/mito,{path}/membrane"


def test_first_folder_wins_and_the_rest_is_background(tmp_path):
    config = MaskConfig(source=write_folders(tmp_path), val_fraction=0)
    opened = masks.open_masks(config, crop_size=8)
    assert opened.classes == ("mito", "membrane", "background")
    assert opened.val is None
    labels = np.argmax(opened.train.load(1), axis=-1)
    np.testing.assert_array_equal(labels[0], [2, 0, 1, 2, 2, 2, 2, 2])


def test_named_files_are_held_out(tmp_path):
    config = MaskConfig(source=write_folders(tmp_path), val_stems="00,02")
    opened = masks.open_masks(config, crop_size=8)
    assert opened.val.names == ("00", "02")
    assert opened.train.names == ("01",)


def test_all_problems_at_once(tmp_path):
    config = MaskConfig(val_fraction=1.0, resize="4")
    with pytest.raises(UserError) as error:
        masks.open_masks(config, crop_size=8)
    assert len(error.value.problems) == 3
    source = write_folders(tmp_path)
    (tmp_path / "membrane" / "01.tif").unlink()
    with pytest.raises(UserError, match="01"):
        masks.open_masks(MaskConfig(source=source), crop_size=8)
    config = MaskConfig(source=source, skip_bad_files=True)
    assert len(masks.open_masks(config, crop_size=8).skipped) == 1
    with pytest.raises(UserError, match="below --crop_size=16"):
        masks.open_masks(MaskConfig(source=source, resize="8,8"), crop_size=16)


def test_twin_names_are_numbered(tmp_path):
    source = write_folders(tmp_path / "a")
    twins = ",".join(part.replace("membrane", "mito") for part in source.split(","))
    opened = masks.open_masks(MaskConfig(source=twins), crop_size=8)
    assert opened.classes == ("0-mito", "1-mito", "background")


def test_what_is_written_opens_as_it_was(tmp_path):
    labels = np.random.default_rng(0).integers(0, 3, (2, 8, 6)).astype(np.uint8)
    classes = ("mito", "membrane", "background")
    paths = masks.write_masks(tmp_path, labels, classes, first=7)
    assert [path.name for path in paths] == ["00007.tif", "00008.tif"]
    planes = [readers.read(path).planes[0, ..., 0] for path in paths]
    np.testing.assert_array_equal(planes, labels)
    source = f"{tmp_path}/mito,{tmp_path}/membrane"
    config = MaskConfig(source=source, val_fraction=0)
    opened = masks.open_masks(config, crop_size=6)
    again = [np.argmax(opened.train.load(i), axis=-1) for i in range(2)]
    np.testing.assert_array_equal(again, labels)


def test_batches_of_images_without_partners():
    arrays = [np.full((6, 6, 3), i, np.uint8) for i in range(4)]
    images = ImageSet.from_arrays(arrays)
    dataset = pipeline.batches(images, crop_size=4, batch_size=2, seed=0)
    drawn = [dataset[i]["image"] for i in range(2)]
    assert drawn[0].shape == (2, 4, 4, 3)
    assert sorted(np.concatenate(drawn)[:, 0, 0, 0]) == [0, 1, 2, 3]
    np.testing.assert_array_equal(dataset[1]["image"], drawn[1])
