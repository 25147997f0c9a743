"""The images of a report: pairs to judge by, and what the run had seen of them."""

import dataclasses
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxgan.config import from_dict
from jaxgan.data import options, pairs, scaled, scan
from jaxgan.data.folders import Budget, Side
from jaxgan.data.imagesets import ImageSet
from jaxgan.errors import UserError
from jaxgan.report.generators import Generator

# What an image was to the run, from what counts most to what counts least.
INDEPENDENT = "independent"
SELECTION = "chose the checkpoint"
TRAINING = "trained on"
UNKNOWN = "unknown"
ROLES = (INDEPENDENT, UNKNOWN, SELECTION, TRAINING)

MIN_SIZE = 11  # pixels, of SSIM's window


@dataclasses.dataclass(frozen=True)
class Images:
    """Sources and their targets, `target[i]` larger by the scale, and their roles."""

    source: ImageSet
    target: ImageSet
    roles: tuple[str, ...]

    def __len__(self) -> int:
        """Returns the number of pairs."""
        return len(self.source)

    def having(self, role: str) -> list[int]:
        """Returns the indices of the images with a role."""
        return [i for i, other in enumerate(self.roles) if other == role]


@dataclasses.dataclass(frozen=True)
class Seen:
    """What a run trained on, and what it was judged by while it ran."""

    train: Sequence[ImageSet] = ()  # its source, its target or both, as it has
    held: Sequence[ImageSet] = ()
    paired: bool = False  # whether `train` is a source and its target
    problem: str = ""  # why nothing is known


def open_pairs(
    generator: Generator, source: str, target: str, *, axes: str = ""
) -> tuple[ImageSet, ImageSet]:
    """Opens two folders that match by file stem; `UserError` with all that is wrong."""
    data = _data_config(generator.stored, source=source, target=target, axes=axes)
    sides = [
        dataclasses.replace(side, may_be_constant=True)
        for side in options.train_sides(data)
    ]
    report, budget = scan.Report(), Budget()
    # What is opened together must be of one size.
    groups = [sides] if generator.scale == 1 else [[side] for side in sides]
    opened = [
        images
        for group in groups
        for images in scan.open_sides(group, report=report, budget=budget)
    ]
    ranges = generator.source_range, generator.target_range
    for side, images, range_ in zip(sides, opened, ranges, strict=False):
        if images.channels != len(range_.low):
            report.whole(
                f"{side.flag}={side.spec}: images have {images.channels} channel(s),"
                f" but the run's had {len(range_.low)}"
            )
    sizes = zip(opened[-1].names, opened[-1].shapes, strict=True) if opened else ()
    for name, shape in sizes:
        if min(shape) < MIN_SIZE:
            report.files(
                [
                    f"--target={target}: {name} is {shape[0]}x{shape[1]}; similarity is"
                    f" measured in windows of {MIN_SIZE} pixels a side"
                ]
            )
    report.close()
    if generator.scale == 1:
        return opened[0], opened[1]
    matched = scaled.match(opened, generator.scale, ("--source", "--target"))
    return matched.source, matched.target


def _data_config(
    stored: Mapping[str, Any], *, source: str, target: str, axes: str
) -> options.DataConfig:
    """Returns options that open folders as the run opened its own."""
    data = stored.get("data", {})
    return options.DataConfig(
        source=source,
        target=target,
        axes=axes or data.get("axes", ""),
        resize=data.get("resize", ""),
        one_hot=data.get("one_hot", False),
    )


def what_was_seen(stored: Mapping[str, Any]) -> Seen:
    """Opens the folders that a run was given, as far as they are still there."""
    known = {field.name for field in dataclasses.fields(options.DataConfig)}
    values = {k: v for k, v in stored.get("data", {}).items() if k in known}
    data = from_dict(options.DataConfig, values)
    if not (data.source or data.target or data.aligned):
        return Seen(problem="its images were simulated, or its weights imported")
    denoiser = stored["method"] == "supervised"
    paired = stored["method"] == "pix2pix" or (data.source and not denoiser)
    try:
        if denoiser:
            sides = options.train_sides(dataclasses.replace(data, target=data.source))
            trained, held = _open(sides[:1], together=False), []
        elif not data.source and not data.aligned:  # super-resolution of targets alone
            trained = _open(options.train_sides(data)[1:], together=False)
            held = _open(_val_sides(data)[1:], together=False)
        else:
            together = stored["method"] == "pix2pix"
            trained = _open(options.train_sides(data), together=together)
            held = _open(_val_sides(data), together=together)
        return _split(stored["method"], data, trained, held, bool(paired))
    except UserError as error:
        return Seen(problem="; ".join(error.problems))


def _val_sides(data: options.DataConfig) -> list[Side]:
    return options.val_sides(data) if data.val_source or data.val_target else []


def _open(sides: Sequence[Side], *, together: bool) -> list[ImageSet]:
    groups = [list(sides)] if together else [[side] for side in sides]
    report, budget = scan.Report(skip_bad_files=True), Budget()
    opened = [
        images
        for group in groups
        if group
        for images in scan.open_sides(group, report=report, budget=budget)
    ]
    report.close()
    return opened


def _split(
    method: str,
    data: options.DataConfig,
    trained: Sequence[ImageSet],
    held: Sequence[ImageSet],
    paired: bool,
) -> Seen:
    if method == "cyclegan":  # holds out nothing of its folders
        return Seen(trained, held, paired=False)
    if not held:
        out = pairs.hold_out(
            trained[-1].files,
            stems=data.val_stems.split(",") if data.val_stems else (),
            fraction=data.val_fraction,
        )
        kept = [i for i in range(len(trained[-1])) if i not in out]
        held = [images.subset(sorted(out)) for images in trained] if out else []
        trained = [images.subset(kept) for images in trained]
    return Seen(trained, held, paired)


def with_roles(source: ImageSet, target: ImageSet, seen: Seen) -> Images:
    """Says of each pair what it was to the run.

    An image that equals one of the run's pixel by pixel, whatever its name, is that
    image: of pairs the source counts, else any of the two.
    """
    if seen.problem:
        return Images(source, target, (UNKNOWN,) * len(source))
    sides = [source] if seen.paired else [source, target]
    digests = list(zip(*(_digests(side) for side in sides), strict=True))
    first = slice(0, 1) if seen.paired else slice(None)
    held, trained = (
        {digest for images in sets[first] for digest in _digests(images)}
        for sets in (seen.held, seen.train)
    )

    def role(own: tuple[bytes, ...]) -> str:
        if trained.intersection(own):
            return TRAINING
        return SELECTION if held.intersection(own) else INDEPENDENT

    return Images(source, target, tuple(map(role, digests)))


def _digests(images: ImageSet) -> list[bytes]:
    return [_digest(images.load(index)) for index in range(len(images))]


def _digest(image: np.ndarray) -> bytes:
    content = hashlib.sha256(f"{image.shape} {image.dtype}".encode())
    content.update(np.ascontiguousarray(image).data)
    return content.digest()
