"""CIFAR-100 from its python version: pickles, of which nothing but arrays is loaded."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from jaxgan.errors import UserError

_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue
# All that the archive's pickles are made of; anything else might run code.
_SAFE = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("_codecs", "encode"),
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _SAFE:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def read(root: str, part: str, *, grey: bool = False) -> tuple[np.ndarray, list[str]]:
    """Returns pictures `[N, 32, 32, 3]`, or `[N, 32, 32]` if grey, and their classes.

    Args:
      root: folder of `train`, `test` and `meta`, or the one that holds it.
      part: "train" or "test".
      grey: luma, L = .299 R + .587 G + .114 B, rounded.

    uint8. Raises `UserError` if the files are absent or are something else.
    """
    folder = Path(root).expanduser()
    if (folder / "cifar-100-python").is_dir():
        folder /= "cifar-100-python"
    content, meta = _load(folder / part), _load(folder / "meta")
    try:
        pictures = np.asarray(content[b"data"], np.uint8).reshape(-1, 3, 32, 32)
        names = [name.decode() for name in meta[b"fine_label_names"]]
        classes = [names[number] for number in content[b"fine_labels"]]
    except (KeyError, ValueError, IndexError, TypeError, AttributeError) as error:
        raise UserError(
            f"--cifar_root: {folder / part} is not of CIFAR-100 ({error!r})"
        ) from error
    pictures = pictures.transpose(0, 2, 3, 1)
    if grey:
        pictures = np.rint(pictures @ np.array(_LUMA)).astype(np.uint8)
    return pictures, classes


def _load(path: Path) -> dict[bytes, Any]:
    try:
        with open(path, "rb") as file:
            content = _ArraysOnly(file, encoding="bytes").load()
    except (OSError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise UserError(
            f"--cifar_root: cannot read {path}: {error}; give the folder of CIFAR-100's"
            " python version (files train, test, meta)"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"--cifar_root: {path} is not of CIFAR-100")
    return content
