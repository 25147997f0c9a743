"""Compare mask GANs: python -m jaxgan.experiments.compare_masks --workdir=A ...

Draws from each workdir as many masks as from any other, all with one seed, and writes
to --output

    table.md, table.json   every set's statistics, and its Fréchet distances
    pca.png                real and generated masks on the principal axes of the real
    masks.png              examples side by side
    curves.png             the Fréchet distance over training, as each run logged it

The real masks are those of the first workdir. Runs may differ in anything but the size
and classes of their masks.
"""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np

from jaxgan import cli, distribution, predict, sampling
from jaxgan.config import from_dict, option
from jaxgan.data import imagesets
from jaxgan.data.masks import MaskConfig
from jaxgan.errors import UserError
from jaxgan.experiments import mask_judge, mask_plots
from jaxgan.experiments import maskgan as main_of_maskgan
from jaxgan.methods import maskgan
from jaxgan.training import console
from jaxgan.training.workdir import read_config

HELD_OUT = "real, held out"
TRAIN = "real, train"

_PCA_SIZE = 64  # pixels: the side that masks are shrunk to before they are projected


@dataclasses.dataclass(frozen=True)
class Options:
    """What to compare."""

    workdir: tuple[str, ...] = option((), "of a training run; give several")
    name: tuple[str, ...] = option((), "of each run, in the same order; or its path's")
    output: str = option("", "folder for table and plots")
    checkpoint: str = option("latest", "best, latest or a step, of every run")
    num_samples: int = option(mask_judge.SAMPLES, "masks to draw from each run")
    seed: int = option(0, "of the latents")


def main(*, options: Options) -> dict[str, dict[str, float]]:
    """Writes table and plots, and returns the table."""
    names = _names(options)
    real, classes = open_real(options.workdir[0])
    drawn = {
        name: draw(path, options, classes)
        for name, path in zip(names, options.workdir, strict=True)
    }
    sets = real | drawn
    rows, projections, basis = compare(sets, classes, real=list(real))
    curves = dict(zip(names, map(read_curve, options.workdir), strict=True))
    for name, curve in curves.items():
        rows[name] |= convergence(curve)
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.json").write_text(json.dumps(rows, indent=2) + "\n")
    (folder / "table.md").write_text(markdown(rows))
    mask_plots.scatter(folder / "pca.png", projections, basis.explained)
    mask_plots.examples(folder / "masks.png", sets)
    mask_plots.curves(folder / "curves.png", curves)
    console.result_table("masks", mask_judge.transposed(rows))
    return rows


def _names(options: Options) -> list[str]:
    problems = [
        f"--{flag} is missing (--help)"
        for flag in ("workdir", "output")
        if not getattr(options, flag)
    ]
    names = list(options.name) or [Path(path).name for path in options.workdir]
    if len(set(names)) != len(options.workdir):
        problems.append("--name: every --workdir needs a name of its own")
    if options.num_samples < 2:
        problems.append(f"--num_samples={options.num_samples}: a set has two or more")
    if problems:
        raise UserError(problems)
    return names


def open_real(path: str) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Returns the masks that a run was trained on and held out, and their classes."""
    stored = read_config(path)
    if stored["method"] != "maskgan":
        raise UserError(f"--workdir={path} is of {stored['method']}, not of maskgan")
    config = from_dict(maskgan.Config, stored["config"])
    simulation = from_dict(main_of_maskgan.SimulatedMasks, stored["simulation"])
    data = from_dict(MaskConfig, stored["data"])
    opened = main_of_maskgan.open_images(config, data, simulation)
    real = {TRAIN: opened.train, HELD_OUT: opened.val}
    return {
        name: mask_judge.tiles(images, size=config.crop_size)
        for name, images in real.items()
        if images is not None
    }, opened.classes


def draw(path: str, options: Options, classes: tuple[str, ...]) -> np.ndarray:
    """Returns masks of a run, one hot; `UserError` if they are of other classes."""
    checkpoint = predict.parse_checkpoint(options.checkpoint)
    variables, _ = predict.read_generator(path, checkpoint)
    sampler = sampling.load(path, variables)
    if sampler.classes != classes:
        raise UserError(
            f"--workdir={path} has classes {sampler.classes}, not {classes}"
        )
    labels = sampler(options.num_samples, seed=options.seed)
    return mask_judge.one_hot(labels, classes=len(classes))


def compare(
    sets: dict[str, np.ndarray], classes: tuple[str, ...], *, real: list[str]
) -> tuple[dict[str, dict[str, float]], dict[str, np.ndarray], distribution.Basis]:
    """Returns the table, each set's points along two principal axes, and the axes.

    The axes are those of the `real` sets together, so that they stay the same whatever
    is compared. Real masks count with their mirror images, as training shows them.
    """
    shown = {
        name: mask_judge.mirrored(masks) if name in real else masks
        for name, masks in sets.items()
    }
    features = {name: mask_judge.features(masks) for name, masks in shown.items()}
    pixels = {name: shrunk(masks) for name, masks in shown.items()}
    basis = distribution.principal_axes(np.concatenate([pixels[name] for name in real]))
    points = {name: distribution.project(basis, x) for name, x in pixels.items()}
    rows = {}
    for name, masks in sets.items():
        distances = {}
        for other in real:
            if other == name:
                continue
            frechet = distribution.frechet_distance(features[name], features[other])
            in_plane = distribution.frechet_distance(points[name], points[other])
            distances[f"Fréchet to {other}"] = frechet
            distances[f"Fréchet in the PCA plane to {other}"] = in_plane
        rows[name] = distances | mask_judge.describe(np.argmax(masks, axis=-1), classes)
    return rows, points, basis


def shrunk(masks: np.ndarray) -> np.ndarray:
    """Returns masks at 64x64 pixels, by area, as samples `[N, 64 * 64 * C]`."""
    small = [imagesets.resize(mask, (_PCA_SIZE, _PCA_SIZE)) for mask in masks]
    return np.stack(small).reshape(len(masks), -1)


def read_curve(path: str) -> list[tuple[int, float]]:
    """Returns the step and Fréchet distance of every evaluation of a run."""
    rows: list[dict[str, Any]] = [
        json.loads(line)
        for line in (Path(path) / "metrics.jsonl").read_text().splitlines()
    ]
    return [(r["step"], r["eval/frechet"]) for r in rows if "eval/frechet" in r]


def convergence(curve: list[tuple[int, float]], *, window: int = 5) -> dict[str, float]:
    """Returns where a curve ends, and the step at which it first came near."""
    if len(curve) < window:
        return {}
    steps, values = zip(*curve, strict=True)
    return {
        f"Fréchet, last {window} evaluations": float(np.mean(values[-window:])),
        "settled at step": steps[distribution.settled(values, window=window)],
    }


def markdown(rows: dict[str, dict[str, float]]) -> str:
    """Returns a table with a column for each set."""
    lines = ["| | " + " | ".join(rows) + " |", "|---" * (len(rows) + 1) + "|"]
    for name, cells in mask_judge.transposed(rows).items():
        values = [f"{cells[k]:.3g}" if k in cells else "" for k in rows]
        lines.append(f"| {name} | " + " | ".join(values) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.start(main, {"options": Options}, usage=__doc__)
