"""Score answers to what a better lens would have shown, on simulated specimens.

    python -m jaxgan.experiments.lenses --workdir=RUN --workdir=RUN --output=DIR

The workdirs are runs of srgan, cyclegan or pix2pix on simulated lenses; the specimens
are others than those of training. Every answer is compared with what the high aperture
showed before noise, beside interpolation and deconvolution. Writes to --output

    table.md, table.json   scores, and what each answer holds beyond the low cut-off
    spectra.png            radial power and Fourier ring correlation, cut-offs marked
    answers.png            examples side by side

and says of each run how much of what it drew beyond the cut-off was invented.
"""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxgan import bicubic, cli, evaluate, metrics, predict, spectrum
from jaxgan.config import from_dict, option
from jaxgan.data import normalise
from jaxgan.data.normalise import Range
from jaxgan.data.simulate.lenses import Lenses, LensPair, lens_pairs
from jaxgan.data.simulate.options import LensConfig
from jaxgan.errors import UserError
from jaxgan.experiments import deconvolve, lens_plots
from jaxgan.methods import cyclegan, pix2pix, srgan
from jaxgan.training import console, grid
from jaxgan.training.workdir import Workdir, read_config

METHODS = {"srgan": srgan, "cyclegan": cyclegan, "pix2pix": pix2pix}

# Training takes the first images of the series.
_FIRST_UNSEEN = 1_000_000
_EXAMPLES = 3
_BRIGHTEST = 0.7  # what is shown as white and taken for the peak of PSNR and SSIM


@dataclasses.dataclass(frozen=True)
class Options:
    """Which runs to score, and on how much."""

    workdir: tuple[str, ...] = option((), "of a training run; give several")
    name: tuple[str, ...] = option((), "of each run, in the same order; or its path's")
    output: str = option("", "folder for table and plots")
    checkpoint: str = option("latest", "best, latest or a step, of every run")
    num_images: int = option(16, "specimens to score on")


@dataclasses.dataclass(frozen=True)
class Answer:
    """A trained generator from one aperture's image `[h, w]` to the other's."""

    scale: int
    size: int  # of the images it was trained on, whole
    lenses: Lenses
    _source_range: Range
    _target_range: Range
    _generate: Callable[[jax.Array], jax.Array]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Returns brightnesses `[H, W]`."""
        source = evaluate.decode(image[None, ..., None], self._source_range)
        made = np.asarray(self._generate(source))[0]
        return normalise.to_units(made, self._target_range)[..., 0]


def main(*, options: Options) -> dict[str, dict[str, float]]:
    """Writes table and plots, prints what was invented, and returns the table."""
    names = _names(options)
    answers = {
        name: load(path, options.checkpoint)
        for name, path in zip(names, options.workdir, strict=True)
    }
    lenses, size = _common(answers)
    seen = {
        scale: lens_pairs(
            options.num_images,
            start=_FIRST_UNSEEN,
            size=size,
            scale=scale,
            lenses=lenses,
        )
        for scale in sorted({answer.scale for answer in answers.values()})
    }
    truth = next(iter(seen.values())).truth
    images = classical(seen, lenses, truth)
    for name, answer in answers.items():
        images[name] = np.stack([answer(low) for low in seen[answer.scale].low])
    images["NA 0.7 as recorded"] = next(iter(seen.values())).high
    rows = {name: score(image, truth, lenses) for name, image in images.items()}
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.json").write_text(json.dumps(rows, indent=2) + "\n")
    (folder / "table.md").write_text(markdown(rows))
    draw(folder, images, truth, lenses)
    console.result_table(f"{options.num_images} specimens", rows)
    for name in answers:
        print(invention(name, rows[name], lenses))
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
    if problems:
        raise UserError(problems)
    return names


def load(path: str, checkpoint: str) -> Answer:
    """Loads a run; `UserError` if it was not trained on simulated lenses."""
    stored = read_config(path)
    method = METHODS.get(stored["method"])
    data, simulation = stored.get("data", {}), stored.get("simulation", {})
    if method is None or data.get("source") or data.get("target"):
        raise UserError(f"--workdir={path} was not trained on simulated lenses")
    if method is pix2pix:
        if simulation["simulate"] != "low_to_high_na":
            raise UserError(f"--workdir={path}: --simulate was not low_to_high_na")
        simulation = {"simulated_size": simulation["simulated_size"]}
    seen = from_dict(LensConfig, simulation)
    config = from_dict(method.Config, stored["config"])
    ranges = Workdir(path).read_json("normalization.json")
    source, target = (normalise.from_json(ranges[k]) for k in ("source", "target"))
    variables, _ = predict.read_generator(path, predict.parse_checkpoint(checkpoint))
    gen = method.networks(config, out_channels=1).gen
    generate = jax.jit(lambda variables, image: method.generate(gen, variables, image))
    return Answer(
        scale=config.scale if method is srgan else 1,
        size=seen.simulated_size,
        lenses=seen.lenses,
        _source_range=source,
        _target_range=target,
        _generate=lambda image: generate(variables, image),
    )


def _common(answers: dict[str, Answer]) -> tuple[Lenses, int]:
    """Returns the lenses and size of all runs; `UserError` if they differ."""
    kinds = {(answer.lenses, answer.size) for answer in answers.values()}
    if len(kinds) > 1:
        raise UserError("the runs differ in their lenses or in --simulated_size")
    return kinds.pop()


def classical(
    seen: dict[int, LensPair], lenses: Lenses, truth: np.ndarray
) -> dict[str, np.ndarray]:
    """Returns what needs no training, `[N, H, W]` by name, for each sampling."""
    images = {}
    for scale, pairs in seen.items():
        low, of = pairs.low, f" of 1/{scale} the pixels" if scale > 1 else ""
        if scale > 1:
            low = np.asarray(bicubic.resize(low[..., None], factor=scale))[..., 0]
        images[f"bicubic{of}" if scale > 1 else "NA 0.3 as recorded"] = low
        for name, settings in deconvolve.estimators(lenses).items():
            images[name + of] = deconvolve.best(settings, low, truth)
    return images


def score(images: np.ndarray, truth: np.ndarray, lenses: Lenses) -> dict[str, float]:
    """Returns the mean scores of images `[N, H, W]`, against those before noise.

    "spectrum (dB)" is the mean distance of radial powers up to the high cut-off;
    "power beyond" and "FRC beyond" are of what lies between the two cut-offs: its power
    against the true one, and how it correlates with it.
    """
    pair = truth[..., None], np.float32(images)[..., None]
    power, true_power = (mean_power(x) for x in (images, truth))
    correlation = mean_correlation(images, truth)
    rings = spectrum.frequencies(truth.shape[1:]) / lenses.pixel
    passed = rings <= lenses.high_cutoff
    beyond = passed & (rings > lenses.low_cutoff)
    decibels = np.abs(10 * np.log10(power / true_power))
    weights = true_power[beyond] * rings[beyond]
    return {
        "PSNR": float(np.mean(metrics.psnr(*pair, peak=_BRIGHTEST))),
        "SSIM": float(np.mean(metrics.ssim(*pair, peak=_BRIGHTEST))),
        "spectrum (dB)": float(np.mean(decibels[passed])),
        "power beyond": float(np.sum(power[beyond] * rings[beyond]) / np.sum(weights)),
        "FRC beyond": float(np.average(correlation[beyond], weights=weights)),
    }


def mean_power(images: np.ndarray) -> np.ndarray:
    """Returns the radial power `[R]`, a mean over images `[N, H, W]`."""
    return np.mean([spectrum.radial_power(image) for image in images], axis=0)


def mean_correlation(images: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Returns the ring correlation `[R]`, a mean over images `[N, H, W]`."""
    pairs = zip(images, truth, strict=True)
    return np.mean([spectrum.ring_correlation(x, y) for x, y in pairs], axis=0)


def invention(name: str, row: dict[str, float], lenses: Lenses) -> str:
    """Returns a sentence about what a run drew that the low aperture had not passed.

    A ring that correlates with the truth by c has c^2 of its power in common with it.
    """
    shared = max(row["FRC beyond"], 0.0) ** 2
    return (
        f"{name}: beyond the cut-off of NA {lenses.low_na:g}, "
        f"{lenses.low_cutoff * 1e-6:.2f} cycles per micrometre, it draws "
        f"{row['power beyond']:.0%} of the true power, of which {shared:.0%} agrees "
        f"with the truth and {1 - shared:.0%} is invented."
    )


def draw(
    folder: Path, images: dict[str, np.ndarray], truth: np.ndarray, lenses: Lenses
) -> None:
    """Draws spectra and examples."""
    micrometre = spectrum.frequencies(truth.shape[1:]) / lenses.pixel * 1e-6
    shown = {**images, "truth": truth}
    lens_plots.spectra(
        folder / "spectra.png",
        micrometre,
        {name: mean_power(x) for name, x in shown.items()},
        {name: mean_correlation(x, truth) for name, x in images.items()},
        {
            f"NA {lenses.low_na:g}": lenses.low_cutoff * 1e-6,
            f"NA {lenses.high_na:g}": lenses.high_cutoff * 1e-6,
        },
    )
    rows = [
        {name: 2 * x[i, ..., None] / _BRIGHTEST - 1 for name, x in shown.items()}
        for i in range(min(_EXAMPLES, len(truth)))
    ]
    grid.image_grid(folder / "answers.png", rows)


def markdown(rows: dict[str, dict[str, float]]) -> str:
    """Returns a table with a line for each answer."""
    names: list[Any] = list(next(iter(rows.values())))
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for label, row in rows.items():
        lines.append(
            f"| {label} | " + " | ".join(f"{row[k]:.3g}" for k in names) + " |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    cli.start(main, {"options": Options}, usage=__doc__)
