"""Apply a trained generator to images of any size: python -m jaxgan.predict.

    python -m jaxgan.predict --workdir=W --input=DIR|FILE --output=DIR
    python -m jaxgan.predict --workdir=A --workdir=B ...   B on what A returned
    python -m jaxgan.predict --workdir=W --num_samples=N --output=DIR   from noise

Writes one TIFF per input file, with its name, shape, axes and pixel size and with the
dtype and range of the images the last workdir was trained towards. From Python,
`model = load(workdir)` and `model(image)` do the same for arrays.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import augment, cli, sampling
from jaxgan.config import from_dict, option
from jaxgan.data import masks, normalise, scan, writers
from jaxgan.data import options as data_options
from jaxgan.data.imagesets import ImageSet
from jaxgan.errors import UserError
from jaxgan.methods import pix2pix
from jaxgan.training import reader, workdir

METHODS = {"pix2pix": pix2pix}


def make_translate(
    generate: Callable[[Any, jax.Array], jax.Array],
    source_range: normalise.Range,
    *,
    multiple: int,
) -> Callable[[Any, np.ndarray], np.ndarray]:
    """Returns `translate(variables, image)`, for stored images `[H, W, I]` of any size.

    Args:
      generate: `(variables, source [1, h, w, I] in [-1, 1]) -> [1, h, w, O]`.
      source_range: what is stored as -1 and as 1.
      multiple: what `generate` needs h and w to divide by; images are padded to it by
        reflection, and the result `[H, W, O]`, in [-1, 1], is cropped back.

    Each new padded size is compiled once.
    """
    low, high = jnp.array(source_range.low), jnp.array(source_range.high)
    compiled = jax.jit(lambda v, x: generate(v, augment.decode(x, low, high)))

    def translate(variables: Any, image: np.ndarray) -> np.ndarray:
        height, width = image.shape[:2]
        pads = ((0, -height % multiple), (0, -width % multiple), (0, 0))
        # Reflection repeats as often as a small image asks.
        padded = np.pad(image, pads, mode="symmetric")
        return np.asarray(compiled(variables, padded[None]))[0, :height, :width]

    return translate


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained generator that takes and returns images as they are stored."""

    config: dict[str, Any]  # the workdir's config.json
    source_range: normalise.Range
    target_range: normalise.Range
    step: int  # of the checkpoint
    _translate: Callable[[np.ndarray], np.ndarray]

    @property
    def in_channels(self) -> int:
        """Channels of the images it takes."""
        return len(self.source_range.low)

    @property
    def out_channels(self) -> int:
        """Channels of the images it returns."""
        return len(self.target_range.low)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Translates an image `[H, W, I]`, in the units of the training sources.

        Returns float32 `[H, W, O]` in the units of the training targets; an image
        `[H, W]` counts as one channel. Raises `ValueError` for other channel counts.
        """
        image = image[..., None] if image.ndim == 2 else image
        if image.ndim != 3 or image.shape[-1] != self.in_channels:
            raise ValueError(
                f"expected an image [H, W, {self.in_channels}], got {image.shape}"
            )
        return normalise.to_units(self._translate(image), self.target_range)


def load(
    path: str,
    *,
    checkpoint: int | str = "best",
    statistics: str = "image",
    noise_seed: int | None = None,
) -> Model:
    """Loads the generator of a workdir.

    Args:
      path: the `--workdir` of a training run.
      checkpoint: "best", "latest" or a step.
      statistics: what batch normalisation uses, "image" or "running", as in
        `pix2pix.generate`.
      noise_seed: keeps dropout on as the paper does, drawn from this seed; without it
        the same image always gives the same result.

    Raises `UserError` if the workdir or its checkpoints cannot be used.
    """
    stored = workdir.read_config(path)
    if stored["method"] in sampling.METHODS:
        raise UserError(
            f"--workdir={path} is of {stored['method']}, which makes images of noise: "
            "give --num_samples, not --input"
        )
    ranges = workdir.Workdir(path).read_json("normalization.json")
    source, target = (normalise.from_json(ranges[k]) for k in ("source", "target"))
    method = METHODS[stored["method"]]
    config = from_dict(method.Config, stored["config"])
    gen = method.networks(config, out_channels=len(target.low)).gen
    variables, step = read_generator(path, checkpoint)
    key = None if noise_seed is None else jax.random.key(noise_seed)

    def generate(variables: Any, source: jax.Array) -> jax.Array:
        return method.generate(gen, variables, source, statistics=statistics, key=key)

    translate = make_translate(generate, source, multiple=method.size_multiple(config))
    return Model(
        stored,
        source,
        target,
        step,
        lambda image: translate(variables, image),
    )


def read_generator(path: str, checkpoint: int | str) -> tuple[dict[str, Any], int]:
    """Returns what a workdir's generator is applied with, and the checkpoint's step."""
    directory = workdir.Workdir(path).checkpoints
    tree, step = reader.read(
        directory, step=checkpoint, only=("gen.params", "gen.stats", "ema")
    )
    params = tree["gen"]["params"] if tree["ema"] is None else tree["ema"]
    return {"params": params, "batch_stats": tree["gen"]["stats"] or {}}, step


@dataclasses.dataclass(frozen=True)
class Options:
    """What to apply to what."""

    workdir: tuple[str, ...] = option(
        (), "of the training run; several: each takes what the one before it returned"
    )
    input: str = option("", "folder or file of images, as --source took them")
    output: str = option("", "folder for the results, a TIFF for each file")
    axes: str = option("", "axes of stacks, such as TYX (default: the file's own)")
    checkpoint: str = option("best", "best, latest or a step")
    statistics: str = option(
        "image",
        "what batch normalisation uses: each image's own or training's averages",
        choices=("image", "running"),
    )
    noise: bool = option(False, "keep dropout on, as the paper does at test time")
    num_samples: int = option(0, "images to draw from a generator that takes noise")
    size: int = option(0, "height and width of samples; 0: as in training")
    seed: int = option(0, "of noise and samples")
    output_dtype: str = option(
        "",
        "empty: that of the training targets; float32 keeps all",
        choices=("", "float32"),
    )


def main(*, options: Options) -> None:
    """Translates every image of the input folder, or draws samples."""
    if options.num_samples:
        draw_samples(options)
        return
    missing = [f for f in ("workdir", "input", "output") if not getattr(options, f)]
    if missing:
        raise UserError([f"--{flag} is missing (--help)" for flag in missing])
    models = [
        load(
            path,
            checkpoint=parse_checkpoint(options.checkpoint),
            statistics=options.statistics,
            noise_seed=options.seed if options.noise else None,
        )
        for path in options.workdir
    ]
    check_chain(options.workdir, models)
    images = open_input(options.input, models[0], axes=options.axes)
    dtype = np.dtype(options.output_dtype or models[-1].target_range.dtype)
    clipped = 0
    for file, planes in _by_file(images):
        translated = []
        for index in planes:
            image = images.load(index)
            for model in models:
                image = model(image)
            stored, count = normalise.store(image, dtype)
            translated.append(stored)
            clipped += count
        path = Path(options.output) / f"{file}.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        writers.write_tiff(path, np.stack(translated), like=images.meta(planes[0]))
        print(path)
    if clipped:
        print(f"{clipped} values lay outside the range of {dtype} and were clipped")


def draw_samples(options: Options) -> None:
    """Draws label maps, and writes them and a folder of masks for each class."""
    if len(options.workdir) != 1 or not options.output or options.input:
        raise UserError("--num_samples takes one --workdir, --output and no --input")
    (path,) = options.workdir
    variables, _ = read_generator(path, parse_checkpoint(options.checkpoint))
    sampler = sampling.load(path, variables)
    labels = sampler(options.num_samples, seed=options.seed, size=options.size)
    for written in masks.write_masks(options.output, labels, sampler.classes):
        print(written)


def open_input(spec: str, model: Model, *, axes: str = "") -> ImageSet:
    """Opens images the way a model's training opened its sources."""
    data = from_dict(data_options.DataConfig, model.config["data"])
    side = data_options.input_side(data, spec, axes=axes)
    return scan.open_images(side, channels=model.in_channels)


def parse_checkpoint(text: str) -> int | str:
    """Reads `--checkpoint`; raises `UserError` for what is not one."""
    if text in ("best", "latest"):
        return text
    if not text.isdigit():
        raise UserError(f"--checkpoint={text}: expected best, latest or a step")
    return int(text)


def check_chain(paths: Sequence[str], models: Sequence[Model]) -> None:
    """Raises `UserError` unless each model takes what the one before it returns."""
    for (a, first), (b, second) in itertools.pairwise(zip(paths, models, strict=True)):
        if first.out_channels != second.in_channels:
            raise UserError(
                f"--workdir={b} takes {second.in_channels} channel(s), but "
                f"--workdir={a} before it returns {first.out_channels}"
            )


def _by_file(images: ImageSet) -> list[tuple[str, list[int]]]:
    """Returns each file's name and the indices of its planes, in order."""
    groups = itertools.groupby(range(len(images)), key=lambda i: images.files[i])
    return [(file, list(planes)) for file, planes in groups]


if __name__ == "__main__":
    cli.start(main, {"options": Options}, usage=__doc__)
