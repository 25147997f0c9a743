import pickle

import numpy as np
import pytest

from jaxgan.data import cifar
from jaxgan.errors import UserError


class Evil:
    """What a pickle that runs code looks like."""

    def __reduce__(self):
        return (print, ("code ran",))


def write(folder, *, name="train", content=None):
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (3, 3072), np.uint8)
    made = content or {b"data": data, b"fine_labels": [1, 0, 1]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(pickle.dumps(made, protocol=2))
    meta = {b"fine_label_names": [b"apple", b"bear"]}
    (folder / "meta").write_bytes(pickle.dumps(meta, protocol=2))
    return data


@pytest.mark.parametrize("folder", ["", "cifar-100-python"])
def test_pictures_and_classes(tmp_path, folder):
    data = write(tmp_path / folder)
    pictures, classes = cifar.read(str(tmp_path), "train")
    assert pictures.shape == (3, 32, 32, 3) and pictures.dtype == np.uint8
    # Planes of red, green and blue, each row by row.
    assert pictures[1, 2, 5, 0] == data[1, 2 * 32 + 5]
    assert pictures[1, 2, 5, 2] == data[1, 2048 + 2 * 32 + 5]
    assert classes == ["bear", "apple", "bear"]


def test_grey_is_luma(tmp_path):
    write(tmp_path)
    colour, _ = cifar.read(str(tmp_path), "train")
    grey, _ = cifar.read(str(tmp_path), "train", grey=True)
    expected = 0.299 * colour[..., 0] + 0.587 * colour[..., 1] + 0.114 * colour[..., 2]
    assert grey.shape == (3, 32, 32) and grey.dtype == np.uint8
    np.testing.assert_allclose(grey, expected, atol=0.5001)


def test_pickles_run_no_code(tmp_path, capsys):
    write(tmp_path, content={b"data": Evil(), b"fine_labels": []})
    with pytest.raises(UserError, match="it asks for .*print"):
        cifar.read(str(tmp_path), "train")
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "content", [b"no pickle", pickle.dumps([1]), pickle.dumps({b"data": [1, 2]}), b""]
)
def test_other_files_are_refused_by_name(tmp_path, content):
    write(tmp_path)
    (tmp_path / "train").write_bytes(content)
    with pytest.raises(UserError, match=f"--cifar_root: .*{tmp_path}/train"):
        cifar.read(str(tmp_path), "train")


def test_an_absent_archive_is_named(tmp_path):
    with pytest.raises(UserError, match="files train, test, meta"):
        cifar.read(str(tmp_path / "nowhere"), "test")
