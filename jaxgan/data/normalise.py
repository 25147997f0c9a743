"""Ranges: which stored values become -1 and 1, the only place that knows.

A range is fitted once, to the training images, per channel; it lies in the workdir as
normalization.json, is applied on the device (`augment.decode`) and inverted on output
(`to_units`, `store`). It is written as one of

    percentile           the .1 and 99.9 percentiles of each channel, over all images
    percentile:LOW,HIGH  other percentiles
    dtype                all that an integer type holds; 0 to 1 for floats
    LOW,HIGH             numbers, or -pi and pi

Nothing is clipped on the way in: values beyond the range become less than -1 or more
than 1, which a tanh cannot reach.
"""

import concurrent.futures
import dataclasses
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, TypeVar

import numpy as np
from numpy.typing import DTypeLike

from jaxgan.data.imagesets import ImageSet

T = TypeVar("T")

# Percentiles are exact for 8- and 16-bit integers, from a histogram, and for other
# dtypes up to so many pixels; beyond, so many are drawn evenly from all images, with a
# fixed seed, which puts the .1 percentile between .097 and .103.
SAMPLE = 2**22


@dataclasses.dataclass(frozen=True)
class Range:
    """The stored values of each channel that become -1 (`low`) and 1 (`high`)."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    dtype: str = "float32"  # in which the values are stored


class Spec(NamedTuple):
    """A range as users write it, read."""

    kind: Literal["percentile", "dtype", "values"]
    low: float = 0.0
    high: float = 1.0


def parse(spec: str) -> Spec:
    """Reads what users write; raises `ValueError` with what is wrong with it."""
    if spec == "dtype":
        return Spec("dtype")
    if spec == "percentile":
        return Spec("percentile", 0.1, 99.9)
    kind = "percentile" if spec.startswith("percentile:") else "values"
    try:
        low, high = map(_number, spec.removeprefix("percentile:").split(","))
    except ValueError:
        low, high = math.nan, math.nan
    bounds = (0, 100) if kind == "percentile" else (-math.inf, math.inf)
    if not bounds[0] <= low < high <= bounds[1]:
        raise ValueError(
            "a range is percentile, percentile:LOW,HIGH (0 to 100), dtype or LOW,HIGH"
            f" (numbers, -pi, pi), LOW below HIGH; got {spec!r}"
        )
    return Spec(kind, low, high)


def _number(text: str) -> float:
    constants = {"pi": math.pi, "-pi": -math.pi}
    text = text.strip()
    return constants[text] if text in constants else float(text)


def fit(spec: str, images: ImageSet) -> Range:
    """Returns the range that `spec` gives for a set of images.

    A channel whose two percentiles are equal takes its minimum and maximum instead,
    with a warning. Raises `ValueError` if `spec` cannot be read.
    """
    kind, low, high = parse(spec)
    if kind == "percentile":
        values = _percentiles(images, (low, high))
    else:
        if kind == "dtype" and images.dtype.kind in "iu":
            limits = np.iinfo(images.dtype)
            low, high = float(limits.min), float(limits.max)
        values = np.tile((low, high), (images.channels, 1))
    lows, highs = values.T.tolist()
    return Range(tuple(lows), tuple(highs), images.dtype.name)


def _percentiles(images: ImageSet, percents: tuple[float, float]) -> np.ndarray:
    """Returns `[C, 2]` percentiles, the second above the first."""
    countable = images.dtype.kind in "iu" and images.dtype.itemsize <= 2
    values = (_exact if countable else _sampled)(images, percents)
    for channel, (low, high) in enumerate(values):
        if low < high:
            continue
        extremes = _map(lambda x, c=channel: (x[..., c].min(), x[..., c].max()), images)
        lows, highs = zip(*extremes, strict=True)
        values[channel] = min(lows), max(highs)
        if min(lows) == max(
            highs
        ):  # a constant channel carries nothing: any width does
            values[channel, 1] += 1
        warnings.warn(
            f"the {percents[0]:g} and {percents[1]:g} percentiles of channel {channel}"
            f" are both {low:g}: its range is {values[channel, 0]:g} to"
            f" {values[channel, 1]:g} instead",
            stacklevel=4,
        )
    return values


def _exact(images: ImageSet, percents: tuple[float, float]) -> np.ndarray:
    """Returns the percentiles of all values, as `np.percentile` defines them."""
    limits = np.iinfo(images.dtype)
    bins = int(limits.max) - int(limits.min) + 1

    def count(image: np.ndarray) -> np.ndarray:
        values = image.reshape(-1, images.channels).T.astype(np.intp) - limits.min
        return np.stack([np.bincount(v, minlength=bins) for v in values])

    at_most = np.cumsum(sum(_map(count, images)), axis=1)
    ranks = np.array(percents) / 100 * (at_most[0, -1] - 1)
    below = np.floor(ranks)

    def value(rank: np.ndarray) -> np.ndarray:  # of these ranks in each channel
        found = [np.searchsorted(counts, rank, side="right") for counts in at_most]
        return np.array(found, float) + limits.min

    low, high = value(below), value(np.ceil(ranks))
    return low + (ranks - below) * (high - low)


def _sampled(images: ImageSet, percents: tuple[float, float]) -> np.ndarray:
    pixels = sum(height * width for height, width in images.shapes)

    def draw(image: np.ndarray, index: int) -> np.ndarray:
        values = image.reshape(-1, images.channels)
        if pixels <= SAMPLE:
            return values
        count = math.ceil(len(values) * SAMPLE / pixels)
        return values[
            np.random.default_rng((0, index)).integers(len(values), size=count)
        ]

    drawn = np.concatenate(list(_map(draw, images, range(len(images)))))
    return np.percentile(drawn.astype(np.float64), percents, axis=0).T


def _map(
    function: Callable[..., T], images: ImageSet, *others: Iterable
) -> Iterator[T]:
    """Yields `function` of each image, in order, worked out by several threads."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(
            lambda index, *rest: function(images.load(index), *rest),
            range(len(images)),
            *others,
        )


def fraction_outside(range_: Range, images: ImageSet) -> float:
    """Returns the part of all values that lies outside a range."""
    low, high = np.array(range_.low), np.array(range_.high)
    counts = _map(lambda x: np.count_nonzero((x < low) | (x > high)), images)
    pixels = sum(height * width for height, width in images.shapes)
    return sum(counts) / (pixels * images.channels)


def to_units(image: np.ndarray, range_: Range) -> np.ndarray:
    """Maps `[..., C]` floats, -1 to `low` and 1 to `high`, to float32 stored values."""
    low, high = np.array(range_.low), np.array(range_.high)
    return (low + (np.asarray(image, np.float64) + 1) / 2 * (high - low)).astype("f4")


def store(values: np.ndarray, dtype: DTypeLike) -> tuple[np.ndarray, int]:
    """Returns values in a dtype, and how many an integer type could not hold.

    For integers, values are rounded, and clipped where the type ends. Raises
    `ValueError` if they are not finite.
    """
    dtype = np.dtype(dtype)
    if not np.isfinite(values).all():
        raise ValueError(f"values that are not finite cannot be stored as {dtype}")
    if dtype.kind not in "iu":
        return values.astype(dtype), 0
    limits = np.iinfo(dtype)
    rounded = np.rint(values.astype(np.float64))
    clipped = np.clip(rounded, limits.min, limits.max)
    return clipped.astype(dtype), int(np.count_nonzero(clipped != rounded))


def to_json(range_: Range) -> dict[str, Any]:
    """Returns a range as plain JSON values."""
    return dataclasses.asdict(range_)


def from_json(values: Mapping[str, Any]) -> Range:
    """Reads what `to_json` returned."""
    return Range(tuple(values["low"]), tuple(values["high"]), values["dtype"])
