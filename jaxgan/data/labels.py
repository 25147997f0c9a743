"""What is known of each image: its class, or parameters of the microscope.

A table is a CSV with a column "file" (the stem of the image) and further columns. Where
it has one of text, or one named "class", that is a class; all others are numbers.
"""

import csv
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxgan.data.imagesets import ImageSet
from jaxgan.errors import UserError

FOLDERS = "folders"  # stands for a table: each subfolder of --source is a class


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Images and a vector for each, `[N, K]` float32."""

    images: ImageSet
    labels: np.ndarray

    def __post_init__(self):
        """Raises `ValueError` unless there is one vector for each image."""
        if self.labels.ndim != 2 or len(self.labels) != len(self.images):
            raise ValueError(
                f"{len(self.images)} images need as many labels [K], got an array of "
                f"shape {self.labels.shape}"
            )

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.images)

    def subset(self, indices: Sequence[int]) -> "Labelled":
        """Returns these images and their labels, in this order."""
        return Labelled(self.images.subset(indices), self.labels[list(indices)])


@dataclasses.dataclass(frozen=True)
class Coding:
    """How labels became numbers: one-hot classes, then standardised parameters."""

    classes: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()  # of each parameter, as is the other
    deviation: tuple[float, ...] = ()

    @property
    def size(self) -> int:
        """The length K of a label."""
        return len(self.classes) + len(self.parameters)

    def encode(
        self, classes: Sequence[str] | None, parameters: np.ndarray | None
    ) -> np.ndarray:
        """Returns labels `[N, K]`; raises `ValueError` for a class that is unknown."""
        parts = []
        if self.classes:
            unknown = sorted(set(classes) - set(self.classes))
            if unknown:
                raise ValueError(
                    f"no class is called {', '.join(unknown)}; there are "
                    f"{', '.join(self.classes)}"
                )
            numbers = [self.classes.index(name) for name in classes]
            parts.append(np.eye(len(self.classes), dtype=np.float32)[numbers])
        if self.parameters:
            scaled = (np.asarray(parameters) - self.mean) / self.deviation
            parts.append(scaled.astype(np.float32))
        return np.concatenate(parts, axis=1)


def fit(
    classes: Sequence[str] | None, parameters: np.ndarray | None, names: Sequence[str]
) -> Coding:
    """Returns the coding of these labels; `parameters` `[N, P]` have `names`."""
    mean = deviation = ()
    if names:
        mean = tuple(map(float, np.mean(parameters, axis=0)))
        spread = np.std(parameters, axis=0)
        deviation = tuple(map(float, np.where(spread > 0, spread, 1.0)))
    return Coding(tuple(sorted(set(classes or ()))), tuple(names), mean, deviation)


def read_labels(spec: str, files: Sequence[str]) -> tuple[np.ndarray, Coding]:
    """Returns the labels `[N, K]` of files, by their stems, and their coding.

    `spec` is the path of a CSV, or `FOLDERS`. Raises `UserError` naming the files that
    have no label, and the cells that are not numbers.
    """
    if spec == FOLDERS:
        classes = [file.rpartition("/")[0] for file in files]
        if not all(classes):
            raise UserError(
                f"--labels={FOLDERS}: {files[classes.index('')]} is in no subfolder of"
                " --source; each class needs one"
            )
        coding = fit(classes, None, ())
        return coding.encode(classes, None), coding
    classes, parameters, names = _read_table(Path(spec), files)
    coding = fit(classes, parameters, names)
    return coding.encode(classes, parameters), coding


def _read_table(path: Path, files: Sequence[str]):
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--labels: cannot read {path}: {error}") from error
    columns = [name for name in (rows[0] if rows else {}) if name]
    if "file" not in columns or len(columns) < 2:
        raise UserError(
            f"--labels: {path} needs a column named file, and others; it has "
            f"{', '.join(columns) or 'none'}"
        )
    by_file = {row["file"]: row for row in rows}
    absent = sorted(set(files) - set(by_file))
    if absent:
        raise UserError(
            [f"--labels: {path} has no row for the file {name}" for name in absent]
        )
    rows = [by_file[name] for name in files]
    columns.remove("file")
    kind = [n for n in columns if n == "class" or not all(_number(r[n]) for r in rows)]
    if len(kind) > 1:
        raise UserError(
            f"--labels: {path} may have one column of classes; these hold text: "
            f"{', '.join(kind)}"
        )
    names = [name for name in columns if name not in kind]
    parameters = np.array([[float(row[name]) for name in names] for row in rows])
    classes = [row[kind[0]] for row in rows] if kind else None
    return classes, parameters if names else None, names


def _number(text: str | None) -> bool:
    try:
        return bool(np.isfinite(float(text or "")))
    except ValueError:
        return False
