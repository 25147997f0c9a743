"""Images on two grids, and of two kinds: folders, faults, batches."""

import numpy as np
import pytest
import tifffile

from jaxgan.data import pipeline, scaled, unpaired
from jaxgan.data.imagesets import ImageSet
from jaxgan.data.options import DataConfig
from jaxgan.data.pairs import Pairs
from jaxgan.errors import UserError

CROP = {"crop_size": 8, "scale": 2}


def write(folder, names, size):
    """Writes images whose values say where a pixel lies; returns the folder."""
    folder.mkdir()
    for number, name in enumerate(names):
        y, x = np.indices((size, size)) * 64 // size
        image = (1000 * number + 100 * (y // 8) + x).astype(np.uint16)
        tifffile.imwrite(folder / f"{name}.tif", image)
    return str(folder)


@pytest.fixture
def folders(tmp_path):
    names = ["a", "b", "c", "d"]
    return (
        write(tmp_path / "small", names, 16),
        write(tmp_path / "large", names, 32),
    )


class TestScaled:
    def test_pairs_are_cut_at_the_same_place(self, folders):
        config = DataConfig(*folders, val_stems="d")
        split = scaled.open_scaled(config, **CROP)
        assert split.val.target.names == ("d",)
        batches = pipeline.batches(split.train, crop_size=8, batch_size=3, seed=0)
        corners = set()
        for step in range(20):
            batch = batches[step]
            assert batch["source"].shape == (3, 4, 4, 1)
            assert batch["target"].shape == (3, 8, 8, 1)
            # Every other pixel of the large image is that of the small one.
            np.testing.assert_array_equal(batch["target"][:, ::2, ::2], batch["source"])
            corners |= set(batch["source"][:, 0, 0, 0] % 100)
        assert len(corners) > 5

    def test_targets_alone_are_enough(self, folders):
        split = scaled.open_scaled(DataConfig(target=folders[1]), **CROP)
        assert isinstance(split.train, ImageSet)
        assert len(split.train) == 3
        assert len(split.val) == 1
        assert split.source_range == split.target_range
        batch = pipeline.batches(split.train, crop_size=8, batch_size=2, seed=0)[0]
        assert {k: x.shape for k, x in batch.items()} == {"image": (2, 8, 8, 1)}

    def test_held_out_folders(self, folders):
        config = DataConfig(*folders, val_source=folders[0], val_target=folders[1])
        split = scaled.open_scaled(config, **CROP)
        assert len(split.train) == len(split.val) == 4

    def test_every_fault_is_said(self, folders, tmp_path):
        with pytest.raises(UserError, match="a: --source is 16x16 and --target is 16x"):
            scaled.open_scaled(DataConfig(folders[0], folders[0]), **CROP)
        other = write(tmp_path / "other", ["a", "x"], 32)
        with pytest.raises(UserError) as error:
            scaled.open_scaled(DataConfig(folders[0], other), **CROP)
        assert "--source: no partner named b" in error.value.problems
        assert "--target: no partner named x" in error.value.problems
        with pytest.raises(UserError, match="--resize would make"):
            scaled.open_scaled(DataConfig(*folders, resize="8,8"), **CROP)
        with pytest.raises(UserError, match="below --crop_size=8"):
            write(tmp_path / "tiny", ["a", "b"], 4)
            scaled.open_scaled(DataConfig(target=str(tmp_path / "tiny")), **CROP)


class TestUnpaired:
    def test_kinds_have_numbers_sizes_and_orders_of_their_own(self, folders, tmp_path):
        other = write(tmp_path / "other", ["p", "q", "r", "s", "t"], 64)
        split = unpaired.open_unpaired(DataConfig(folders[0], other), crop_size=8)
        assert len(split.train) == 5
        assert split.val is None
        batches = pipeline.batches(split.train, crop_size=8, batch_size=1, seed=0)
        met = set()
        for step in range(200):
            batch = batches[step]
            met.add(tuple(int(x[0, 0, 0, 0]) // 1000 for x in batch.values()))
        assert met == {(a, b) for a in range(4) for b in range(5)}

    def test_every_image_comes_once_in_each_kind(self, folders):
        split = unpaired.open_unpaired(DataConfig(*folders), crop_size=16)
        batches = pipeline.batches(split.train, crop_size=16, batch_size=4, seed=0)
        for step in range(3):
            for image in batches[step].values():
                numbers = np.sort(image[:, 0, 0, 0] // 1000)
                np.testing.assert_array_equal(numbers, [0, 1, 2, 3])

    def test_separated_pairs_have_no_partner(self):
        arrays = [np.full((8, 8), i, np.float32) + np.eye(8) for i in range(11)]
        images = ImageSet.from_arrays(arrays)
        split = unpaired.separate(Pairs(images, images), DataConfig())
        sources, targets = set(split.train.source.names), set(split.train.target.names)
        assert len(sources) == len(targets) == 5
        assert sources.isdisjoint(targets)
        assert set(split.val.source.names).isdisjoint(sources | targets)

    def test_what_is_for_pairs_is_refused(self, folders):
        config = DataConfig(*folders, val_stems="a")
        with pytest.raises(UserError, match="--val_source and --val_target"):
            unpaired.open_unpaired(config, crop_size=8)
