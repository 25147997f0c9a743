import numpy as np
import pytest
import tifffile

from jaxgan.data import collection, labels, pipeline
from jaxgan.data.collection import CollectionConfig
from jaxgan.data.imagesets import ImageSet
from jaxgan.errors import UserError


def table(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def write_images(folder, names, *, size=8):
    rng = np.random.default_rng(0)
    for name in names:
        path = folder / f"{name}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(path, rng.integers(0, 255, (size, size), np.uint8))
    return str(folder)


def test_a_class_and_parameters(tmp_path):
    spec = table(
        tmp_path / "t.csv",
        "file,defocus,material,dose\nb,9,gold,2\na,5,oxide,2\nc,7,gold,2\nx,1,tin,9\n",
    )
    made, coding = labels.read_labels(spec, ["a", "b", "c"])
    assert coding.classes == ("gold", "oxide")  # those of images that are there
    assert coding.parameters == ("defocus", "dose")
    assert coding.size == made.shape[1] == 4
    assert made.dtype == np.float32
    deviation = np.std([5, 9, 7])
    expected = [
        [0, 1, -2 / deviation, 0],
        [1, 0, 2 / deviation, 0],
        [1, 0, 0, 0],  # a parameter that never changes stays 0
    ]
    np.testing.assert_allclose(made, expected, rtol=1e-6)


def test_numbers_named_class_are_classes(tmp_path):
    spec = table(tmp_path / "t.csv", "file,class\na,3\nb,11\n")
    made, coding = labels.read_labels(spec, ["a", "b"])
    assert coding.classes == ("11", "3")
    np.testing.assert_array_equal(made, [[0, 1], [1, 0]])


def test_each_folder_is_a_class():
    made, coding = labels.read_labels("folders", ["x/1", "y/1", "x/2"])
    assert coding.classes == ("x", "y")
    np.testing.assert_array_equal(made, [[1, 0], [0, 1], [1, 0]])
    with pytest.raises(UserError, match="3 is in no subfolder"):
        labels.read_labels("folders", ["x/1", "3"])


@pytest.mark.parametrize(
    "text, message",
    [
        ("file,defocus\na,1\n", "no row for the file b"),
        ("name,defocus\na,1\n", "needs a column named file, and others; it has name"),
        ("file\na\nb\n", "needs a column named file"),
        ("", "it has none"),
        ("file,x,y\na,p,q\nb,r,s\n", "one column of classes; these hold text: x, y"),
        ("file,class,x\na,p,1\nb,r,\n", "these hold text: class, x"),
    ],
)
def test_faults_of_tables_are_named(tmp_path, text, message):
    spec = table(tmp_path / "t.csv", text)
    with pytest.raises(UserError, match=message):
        labels.read_labels(spec, ["a", "b"])


def test_an_absent_table_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot read .*nowhere.csv"):
        labels.read_labels(str(tmp_path / "nowhere.csv"), ["a"])


def test_unknown_classes_are_refused():
    coding = labels.Coding(classes=("cat", "dog"))
    with pytest.raises(ValueError, match="called cow; there are cat, dog"):
        coding.encode(["cow"], None)


def test_labels_stay_with_their_images():
    images = ImageSet.from_arrays(np.arange(6, dtype="u1").repeat(16).reshape(6, 4, 4))
    values = np.arange(6, dtype="f4")[:, None]
    split = collection.divide(
        images, CollectionConfig(val_fraction=0.3, source_range="dtype"), labels=values
    )
    for part in (split.train, split.val):
        for i in range(len(part)):
            assert part.images.load(i)[0, 0, 0] == part.labels[i, 0]
    assert len(split.train) + len(split.val) == 6
    batch = pipeline.batches(split.train, crop_size=2, batch_size=4, seed=3)[0]
    np.testing.assert_array_equal(batch["image"][:, 0, 0, 0], batch["condition"][:, 0])
    with pytest.raises(ValueError, match="6 images need as many labels"):
        labels.Labelled(images, values[:5])


def test_folders_open_with_their_table(tmp_path):
    source = write_images(tmp_path / "images", ["a", "b", "c", "d"])
    spec = table(tmp_path / "t.csv", "file,defocus\na,1\nb,2\nc,3\nd,4\n")
    config = CollectionConfig(source=source, val_stems="b")
    opened = collection.open_collection(config, crop_size=8, labels=spec)
    assert opened.val.images.names == ("b",)
    assert opened.coding.parameters == ("defocus",)
    np.testing.assert_allclose(opened.coding.mean, [2.5])
    assert collection.open_collection(config, crop_size=8).coding is None


def test_all_problems_of_options_at_once():
    config = CollectionConfig(val_fraction=1.0, source_range="x", resize="4,4")
    with pytest.raises(UserError) as error:
        collection.open_collection(config, crop_size=8)
    text = str(error.value)
    for flag in ("--source is missing", "--val_fraction", "--source_range", "--resize"):
        assert flag in text
