"""One file out: a TIFF that says of itself what its input said.

Axes, shape, pixel size and format (ImageJ, OME or plain TIFF) are those of the image
that the output was made from; a PNG's output is a plain TIFF.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from jaxgan.data.readers import AXES, Meta

# A classic TIFF addresses 4 GiB; less some room for its tags.
_CLASSIC_BYTES = 2**32 - 2**25
_IMAGEJ_DTYPES = ("uint8", "uint16", "int16", "float32")
_OME_UNITS = dict.fromkeys(("um", "micron", "microns", r"\u00B5m"), "µm")
_TIFF_UNITS = {"inch": "INCH", "cm": "CENTIMETER"}


def write_tiff(path: str | os.PathLike, planes: np.ndarray, *, like: Meta) -> None:
    """Writes planes `[N, H, W, C]` as the TIFF that `like` describes.

    `N` is the number of planes of `like`, T times Z. Where the number of channels
    differs, they become an axis C, or S for the three samples of a colour image; where
    H and W differ, the pixel size scales. What ImageJ cannot hold (other dtypes,
    4 GiB) is written as OME-TIFF. The file gets its name only when it is whole; its
    folder is made.
    """
    form, axes = _layout(planes, like)
    options = _options(form, axes, planes, like)
    with _whole(path) as partial:
        tifffile.imwrite(partial, _arrange(planes, axes, like), **options)


class Rows:
    """A TIFF that is filled some rows at a time, of its full length from the start."""

    def __init__(self, file: Path, shape: tuple[int, ...], dtype: np.dtype, like: Meta):
        """Writes all of the file but its pixels, as `write_tiff` would."""
        self._shape, self._like = shape, like
        planes = np.broadcast_to(np.zeros((), dtype), shape)  # takes no memory
        form, self._axes = _layout(planes, like)
        options = _options(form, self._axes, planes, like)
        stored = _arrange(planes, self._axes, like).shape
        order = ">" if form == "imagej" else "<"  # as tifffile writes ImageJ's
        self._dtype = dtype.newbyteorder(order)
        offset, _ = tifffile.imwrite(
            file,
            data=None,
            shape=stored,
            dtype=self._dtype,
            returnoffset=True,
            byteorder=order,
            **options,
        )
        # Where each value of [N, H, W, C] goes, by the strides of the stored array.
        self._file, self._offset = file, offset
        lengths = dict(zip(self._axes, stored, strict=True))
        stride, self._strides = dtype.itemsize, {}
        for axis in reversed(self._axes):
            self._strides[axis] = stride
            stride *= lengths[axis]
        self._samples = lengths.get("S", 1)

    def put(self, plane: int, y: int, rows: np.ndarray) -> None:
        """Writes rows `[n, W, C]` of a plane from row y on."""
        t, z = divmod(plane, self._like.length("Z"))
        start = self._at("T", t) + self._at("Z", z) + self._at("Y", y)
        parts = rows.reshape(*rows.shape[:2], -1, self._samples)
        with open(self._file, "r+b") as file:
            for channel in range(parts.shape[2]):
                file.seek(self._offset + start + self._at("C", channel))
                file.write(parts[:, :, channel].astype(self._dtype).tobytes())

    def _at(self, axis: str, index: int) -> int:
        return self._strides.get(axis, 0) * index


@contextlib.contextmanager
def open_rows(
    path: str | os.PathLike, shape: tuple[int, ...], dtype: np.dtype, *, like: Meta
) -> Iterator[Rows]:
    """Opens a TIFF of planes `[N, H, W, C]` that is filled by rows.

    As with `write_tiff`, it gets its name at the end, and only then.
    """
    with _whole(path) as partial:
        yield Rows(partial, shape, np.dtype(dtype), like)


@contextlib.contextmanager
def _whole(path: str | os.PathLike) -> Iterator[Path]:
    """Yields where to write; what is there at the end gets the name `path`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _layout(planes: np.ndarray, like: Meta) -> tuple[str, str]:
    """Returns the format and the axes of what is written."""
    axes = _axes(like, planes.shape[-1])
    form = _format(like, axes, planes)
    if form == "imagej" or not axes.removesuffix("S").endswith("YX"):
        axes = "".join(axis for axis in AXES if axis in axes)
    return form, axes


def _axes(like: Meta, channels: int) -> str:
    if channels == like.length("C") * like.length("S"):
        return like.axes
    bare = like.axes.replace("C", "").replace("S", "")
    if channels == 1:
        return bare
    if channels == 3 and "S" in like.axes:
        return bare + "S"
    return bare.replace("Y", "CY")


def _format(like: Meta, axes: str, planes: np.ndarray) -> str:
    if like.format == "png":
        return "tiff"
    fits = planes.dtype.name in _IMAGEJ_DTYPES and planes.nbytes < _CLASSIC_BYTES
    fits = fits and planes.shape[2] > 1  # a width of 1 is lost on the way back
    if "S" in axes:  # colour, to ImageJ, is three or four bytes
        fits = fits and planes.dtype == np.uint8 and like.length("S") in (3, 4)
    return "ome" if like.format == "imagej" and not fits else like.format


def _arrange(planes: np.ndarray, axes: str, like: Meta) -> np.ndarray:
    """Returns the array that `axes` names."""
    t, z = like.length("T"), like.length("Z")
    n, height, width, channels = planes.shape
    if n != t * z:
        raise ValueError(f"{n} planes cannot be {t} times {z} slices")
    samples = _samples(axes, channels, like)
    lengths = (t, z, height, width, channels // samples, samples)
    view = planes.reshape(lengths)
    order = ["TZYXCS".index(axis) for axis in axes]
    lacking = [i for i in range(6) if i not in order]  # all of length 1
    return view.transpose(order + lacking).reshape([lengths[i] for i in order])


def _samples(axes: str, channels: int, like: Meta) -> int:
    if "S" not in axes:
        return 1
    return channels // like.length("C") if "C" in axes else channels


def _options(form: str, axes: str, planes: np.ndarray, like: Meta) -> dict[str, Any]:
    """Returns the arguments of `tifffile.imwrite` for a format."""
    samples = _samples(axes, planes.shape[-1], like)
    options = {
        "software": "jaxgan",
        "bigtiff": planes.nbytes >= _CLASSIC_BYTES,
        "photometric": "rgb" if samples >= 3 else "minisblack",
    }
    if "S" in axes:
        options["planarconfig"] = "contig"
        colours = 3 if samples >= 3 else 1
        options["extrasamples"] = ["unspecified"] * (samples - colours)
    size = _pixel_size(planes, like)
    if form == "ome":
        return options | {"ome": True, "metadata": _ome(axes, size, like)}
    if size is not None:
        options["resolution"] = (1 / size[1], 1 / size[0])
    if form == "imagej":
        unit = {"unit": like.unit} if like.unit else {}
        metadata = {"axes": axes, **unit, **like.extra}
        return options | {"imagej": True, "metadata": metadata}
    options["resolutionunit"] = _TIFF_UNITS.get(like.unit, "NONE")
    return options | {"metadata": {"axes": axes} if set(axes) - set("YXS") else None}


def _pixel_size(planes: np.ndarray, like: Meta) -> tuple[float, float] | None:
    """Returns the size of an output pixel in Y and X, in the unit of `like`."""
    if like.pixel_size is None:
        return None
    height, width = planes.shape[1:3]
    y, x = like.pixel_size
    return y * like.length("Y") / height, x * like.length("X") / width


def _ome(axes: str, size: tuple[float, float] | None, like: Meta) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": axes}
    if like.format == "ome":
        metadata |= like.extra
    if size is not None:
        unit = _OME_UNITS.get(like.unit, like.unit)
        metadata |= {"PhysicalSizeY": size[0], "PhysicalSizeX": size[1]}
        if unit:
            metadata |= {"PhysicalSizeYUnit": unit, "PhysicalSizeXUnit": unit}
    return metadata
