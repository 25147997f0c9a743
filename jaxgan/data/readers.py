"""One file in: TIFF, OME-TIFF, ImageJ TIFF and PNG, as planes of one dtype.

A file becomes planes `[N, H, W, C]`: `N` runs over its time points T and, within each,
its slices Z; `C` over its channels C and their samples S (red, green, blue).

- Axes come from `axes` or else from the file's own metadata. Pages of unknown meaning
  (a multi-page TIFF without metadata) are images of a series, T. A PNG needs no axes.
- Values stay as stored: 8- to 32-bit integers and float32. Booleans and 1- to 4-bit
  grey levels are spread over uint8 (False 0, True 255), other floats become float32;
  64-bit integers and complex numbers are refused.
- Alpha is dropped where it is opaque everywhere and refused elsewhere: what lies under
  a transparent pixel is not a measurement.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import imagecodecs
import numpy as np
import tifffile

from jaxgan.data import tiff_tags
from jaxgan.errors import UserError

SUFFIXES = (".tif", ".tiff", ".png")
LARGE = 4096**2  # pixels of a plane from which on `open_planes` leaves it on disk
AXES = "TZCYXS"  # the letters that are understood, in ImageJ's order

_VIEW = "TZYXCS"  # the order of the six-dimensional views below
_ALPHA = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)


@dataclasses.dataclass(frozen=True)
class Meta:
    """What a file says about its image, kept so that an output can say the same."""

    axes: str  # letters of AXES, one per dimension, S last
    shape: tuple[int, ...]  # their lengths
    format: Literal["imagej", "ome", "tiff", "png"] = "tiff"
    pixel_size: tuple[float, float] | None = None  # of Y and X, in `unit`
    unit: str = ""  # as the file spells it; "inch" or "cm" in a plain TIFF
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def length(self, axis: str) -> int:
        """Returns the length of an axis, 1 if the image has none of that name."""
        return dict(zip(self.axes, self.shape, strict=True)).get(axis, 1)


@dataclasses.dataclass(frozen=True)
class Image:
    """The content of one file."""

    planes: np.ndarray  # [N, H, W, C]
    meta: Meta


def read(path: str | os.PathLike, *, axes: str = "", plane: int | None = None) -> Image:
    """Reads one image file.

    `axes` names the dimensions of a stack, e.g. "TCYX" (`--axes`); where the file has
    fewer, the leading ones have length 1. With `plane`, `planes` holds that one alone,
    and no more is decoded than the file's layout asks for.

    Raises:
        UserError: what is wrong with the file, by name, if it cannot be read whole.
    """
    path = Path(path)
    try:
        if path.stat().st_size == 0:
            raise ValueError("the file is empty (0 bytes)")
        if path.suffix.lower() == ".png":
            return _read_png(path)
        return _read_tiff(path, axes, plane)
    except Exception as error:  # a damaged file can make a decoder raise anything
        reason = str(error) or type(error).__name__
        raise UserError(f"{path}: cannot be read: {reason}") from error


class OnDisk:
    """A plane `[H, W, C]` of which no more is read than what a slice asks for."""

    def __init__(self, view: np.ndarray):
        """Takes a view `[H, W, C, S]`, as on disk."""
        *size, channels, samples = view.shape
        self._view, self.dtype = view, _dtype(view.dtype)
        self.shape = (*size, channels * samples)

    def __getitem__(self, slices: tuple[slice, slice]) -> np.ndarray:
        """Returns rows and columns as `read` would have them."""
        part = self._view[slices]
        array = np.array(part, self.dtype, order="C")
        if part.dtype == bool:
            array *= 255
        return array.reshape(*part.shape[:2], -1)


def open_planes(
    path: str | os.PathLike, *, axes: str = ""
) -> tuple[list[OnDisk], Meta] | None:
    """Opens the planes of a TIFF that is too large for memory, None for other files.

    What `read` has to see whole, an alpha channel or a PNG, is such another file. A
    compressed TIFF is unpacked to a temporary file. Raises `UserError` as `read` does.
    """
    path = Path(path)
    if path.suffix.lower() == ".png":
        return None
    try:
        with tifffile.TiffFile(path) as tif:
            tiff_tags.check_complete(tif)
            series = _only_series(tif)
            axes, shape = _named_axes(axes, series)
            meta = Meta(axes, shape, **tiff_tags.scale(tif))
            if meta.length("Y") * meta.length("X") < LARGE or _has_alpha(series, axes):
                return None
            array = series.asarray(out="memmap", maxworkers=1)
            view = _view(array.reshape(shape), axes)
            planes = [OnDisk(plane) for stack in view for plane in stack]
    except Exception as error:  # a damaged file can make a decoder raise anything
        reason = str(error) or type(error).__name__
        raise UserError(f"{path}: cannot be read: {reason}") from error
    letters = axes.replace("S", "") + "S" * ("S" in axes)
    lengths = tuple(meta.length(axis) for axis in letters)
    return planes, dataclasses.replace(meta, axes=letters, shape=lengths)


def _read_png(path: Path) -> Image:
    data = path.read_bytes()
    # The decoder is content with a file that lacks its last bytes.
    if b"IEND" not in data[-4096:]:
        raise ValueError("the file is truncated")
    array = imagecodecs.png_decode(data)
    axes = "YXS"[: array.ndim]
    alpha = array.ndim == 3 and array.shape[-1] in (2, 4)
    return _image(_view(array, axes), Meta(axes, array.shape, "png"), alpha)


def _read_tiff(path: Path, axes: str, plane: int | None) -> Image:
    with tifffile.TiffFile(path) as tif:
        if plane is None:  # reading planes one by one comes after reading all
            tiff_tags.check_complete(tif)
        series = _only_series(tif)
        axes, shape = _named_axes(axes, series)
        view = _read_series(series, axes, shape, plane)
        alpha = _has_alpha(series, axes)
        return _image(view, Meta(axes, shape, **tiff_tags.scale(tif)), alpha)


def _only_series(tif: tifffile.TiffFile) -> tifffile.TiffPageSeries:
    if len(tif.series) != 1:
        shapes = ", ".join(str(series.shape) for series in tif.series)
        raise ValueError(f"it holds images of several kinds ({shapes}); split it")
    if tif.series[0].is_multifile:
        raise ValueError("it is one of several files of an OME-TIFF; join them")
    return tif.series[0]


def _has_alpha(series: tifffile.TiffPageSeries, axes: str) -> bool:
    extra = series.keyframe.extrasamples
    return "S" in axes and bool(extra) and extra[-1] in _ALPHA


def _named_axes(axes: str, series: tifffile.TiffPageSeries) -> tuple[str, tuple]:
    """Returns the letters of AXES that name a series' dimensions, and their lengths."""
    stored = series.axes.replace("I", "T").replace("Q", "T")
    letters = axes.upper() or stored
    missing = len(letters) - series.ndim
    if missing < 0:
        raise ValueError(f"--axes={axes} is too short for its shape {series.shape}")
    known = set(letters) <= set(AXES) and {"Y", "X"} <= set(letters)
    if not known or len(set(letters)) < len(letters):
        raise ValueError(
            f"the axes {axes or series.axes} of its shape {series.shape} are not "
            f"understood; name them by --axes with letters of {AXES}, e.g. --axes=TCYX"
        )
    return letters, (1,) * missing + series.shape


def _read_series(
    series: tifffile.TiffPageSeries, axes: str, shape: tuple, plane: int | None
) -> np.ndarray:
    """Returns `[T, Z, Y, X, C, S]`, with T = Z = 1 if only one plane is asked for."""
    contiguous = series.dataoffset is not None
    inner = series.keyframe.ndim
    pages = len(series) == np.prod(shape[:-inner], dtype=int)
    if plane is None or contiguous or not pages or set(axes[-inner:]) - set("YXS"):
        array = series.asarray(out="memmap" if contiguous else None, maxworkers=1)
        return _pick(_view(array.reshape(shape), axes), plane)
    # Compressed: decode the pages of this plane alone, one per channel.
    numbers = np.arange(len(series)).reshape(*shape[:-inner], *[1] * inner)
    wanted = _pick(_view(numbers, axes), plane).ravel().tolist()
    array = series.asarray(key=wanted, maxworkers=1)
    return _view(array.reshape(-1, *shape[-inner:]), "C" + axes[-inner:])


def _view(array: np.ndarray, axes: str) -> np.ndarray:
    """Returns a view `[T, Z, Y, X, C, S]`; axes that `array` lacks have length 1."""
    present = [axes.index(axis) for axis in _VIEW if axis in axes]
    lacking = [i for i, axis in enumerate(_VIEW) if axis not in axes]
    return np.expand_dims(array.transpose(present), lacking)


def _pick(view: np.ndarray, plane: int | None) -> np.ndarray:
    if plane is None:
        return view
    t, z = divmod(plane, view.shape[1])
    return view[t : t + 1, z : z + 1]


def _image(view: np.ndarray, meta: Meta, alpha: bool) -> Image:
    """Copies a view `[T, Z, Y, X, C, S]` into planes of a dtype that training takes."""
    axes = meta.axes.replace("S", "") + "S" * ("S" in meta.axes)  # planar colour: SYX
    lengths = {axis: meta.length(axis) for axis in axes}
    if alpha:
        view, lengths["S"] = _without_alpha(view), lengths["S"] - 1
        if lengths["S"] == 1:
            axes = axes.replace("S", "")
    t, z, height, width, channels, samples = view.shape
    planes = np.array(view, _dtype(view.dtype), order="C")
    planes = planes.reshape(t * z, height, width, channels * samples)
    if view.dtype == bool:
        planes *= 255
    shape = tuple(lengths[axis] for axis in axes)
    return Image(planes, dataclasses.replace(meta, axes=axes, shape=shape))


def _without_alpha(view: np.ndarray) -> np.ndarray:
    alpha = view[..., -1]
    integer = np.issubdtype(view.dtype, np.integer)
    if (alpha != (np.iinfo(view.dtype).max if integer else 1)).any():
        raise ValueError("it has transparent pixels; save it without an alpha channel")
    return view[..., :-1]


def _dtype(stored: np.dtype) -> np.dtype:
    """Returns the dtype, of native byte order, in which stored values are kept."""
    if np.issubdtype(stored, np.bool_):
        return np.dtype(np.uint8)
    if np.issubdtype(stored, np.floating):
        return np.dtype(np.float32)
    if stored.itemsize > 4 or not np.issubdtype(stored, np.integer):
        raise ValueError(f"{stored.name} values are not supported; save it as float32")
    return stored.newbyteorder("=")
