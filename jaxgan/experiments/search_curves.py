"""How latent searches converge: python -m jaxgan.experiments.search_curves --help

    --gan_workdir=DIR --output=DIR [--target=generated|image] [--noise=poisson:25]

Searches one target with every optimiser and learning rate from the same latents, and
draws the PSNR of the generator's image, against what was searched for, over steps. The
target is an image that the generator made (it can be found exactly) or one that it has
never seen: a clean image (--clean) or a simulated micrograph, with noise or without. A
second picture shows the restarts, and which was chosen. With --trials, whole searches
from other latents tell whether they arrive at the same image.
"""

import dataclasses
import json
import time
from pathlib import Path

import jax
import numpy as np

from jaxgan import cli, noise, predict
from jaxgan.config import option
from jaxgan.errors import UserError
from jaxgan.experiments import denoise, denoise_table, priors
from jaxgan.experiments.priors import Prior, SearchConfig
from jaxgan.methods import inversion
from jaxgan.training import console

TARGETS = ("generated", "image")


@dataclasses.dataclass(frozen=True)
class Options:
    """What to search, and with what."""

    gan_workdir: str = option("", "of a dcgan run")
    checkpoint: str = option("latest", "best, latest or a step")
    target: str = option("generated", "what is searched", choices=TARGETS)
    clean: str = option("", "images for --target=image; empty: simulated micrographs")
    axes: str = option("", "axes of stacks, such as TYX (default: the file's own)")
    resize: str = option("", "HEIGHT,WIDTH of whole images after an area mean")
    noise: tuple[str, ...] = option(("none",), "on the target")
    clip: bool = option(True, "whether counts above the level of poisson are lost")
    optimizers: str = option("adam,adamw,sgd,asgd", "to compare, by commas")
    rates: str = option("1e-1,1e-2,1e-3", "their learning rates, by commas")
    simulated_pixel: float = option(0.0, "nm; 0: such that an image shows 2.46 nm")
    num_images: int = option(2, "images to open; the first is the target")
    trials: int = option(3, "whole searches from other latents")
    output: str = option("", "folder for pictures and numbers")
    seed: int = option(0, "of noise, target and latents")


SECTIONS = {"options": Options, "search": SearchConfig}


def main(*, options: Options, search: SearchConfig) -> dict[str, dict[str, float]]:
    """Searches in every way, draws the curves and returns a row for each."""
    missing = [f for f in ("gan_workdir", "output") if not getattr(options, f)]
    if missing:
        raise UserError([f"--{flag} is missing (--help)" for flag in missing])
    prior = priors.load_prior(
        options.gan_workdir, checkpoint=predict.parse_checkpoint(options.checkpoint)
    )
    target = make_target(options, prior)
    keys = jax.random.split(jax.random.key(options.seed), max(1, options.trials))
    first = jax.random.clone(keys)[:1]
    curves, rows = {}, {}
    for name, config in ways(options, search).items():
        curves[name], rows[name] = follow(prior, target, first, config)
        print(f"{name}: {rows[name]}", flush=True)
    trials = np.repeat(target[None], len(keys), axis=0)
    found = prior.find(trials, keys, search)
    rows["trials"] = agreement(found.image, found.loss)
    console.result_table(f"{prior.name}, target: {options.target}", rows)
    folder = Path(options.output)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "curves.json").write_text(json.dumps(rows, indent=1))
    draw(folder / "curves.png", curves, found.inversion)
    return rows


def make_target(options: Options, prior: Prior) -> np.ndarray:
    """Returns the image `[H, W, C]` to search, with its noise."""
    key = jax.random.fold_in(jax.random.key(options.seed), 1)
    target_key, noise_key = jax.random.split(key)
    if options.target == "generated":
        latent = jax.random.normal(target_key, (prior.latent_dim,))
        image = jax.jit(prior.forward)(prior.variables, latent)
    else:
        like = denoise.Options(
            clean=options.clean,
            axes=options.axes,
            resize=options.resize,
            simulated_pixel=options.simulated_pixel,
            num_images=options.num_images,
        )
        opened = denoise.open_clean if options.clean else denoise.simulate
        image = opened(like, prior.size).images[0]
    try:
        model = noise.parse(options.noise[0], clip=options.clip)
    except ValueError as error:
        raise UserError(f"--noise: {error}") from error
    return denoise_table.add_noise(np.asarray(image)[None], noise_key, model)[0]


def ways(options: Options, search: SearchConfig) -> dict[str, SearchConfig]:
    """Returns the configurations to compare, by name."""
    found = {}
    try:
        for optimizer in options.optimizers.split(","):
            for rate in options.rates.split(","):
                config = dataclasses.replace(
                    search, optimizer=optimizer, search_learning_rate=float(rate)
                )
                found[f"{optimizer} {rate}"] = config
        newton = dataclasses.replace(search, optimizer="levenberg_marquardt")
    except ValueError as error:
        raise UserError(f"--optimizers, --rates: {error}") from error
    return {**found, "levenberg_marquardt": newton}


def follow(
    prior: Prior, target: np.ndarray, keys: jax.Array, config: SearchConfig
) -> tuple[np.ndarray, dict[str, float]]:
    """Searches a target; returns the losses over steps, and what came of it.

    The losses are those of the chosen restart and then of the second phase. The search
    runs twice: the second time without compiling, for the clock.
    """
    prior.find(target[None], keys, config)
    began = time.perf_counter()
    found = prior.find(target[None], keys, config)
    seconds = time.perf_counter() - began
    losses = found.inversion.restart_losses[0]
    newton = config.optimizer == "levenberg_marquardt"
    logged = losses[:, :: 1 if newton else 100]
    best = losses[int(np.argmin(np.nanmin(logged, axis=1)))]
    curve = np.concatenate([best, found.inversion.refine_losses[0]])
    evaluations = np.isfinite(losses).sum() + found.inversion.num_steps[0]
    return curve[np.isfinite(curve)], {
        "loss": float(found.loss[0]),
        "PSNR": float(-10 * np.log10(max(found.loss[0], 1e-20))),
        "steps": int(evaluations),
        "seconds": seconds,
    }


def agreement(images: np.ndarray, losses: np.ndarray) -> dict[str, float]:
    """Returns how far whole searches from other latents are from each other."""
    pairs = [
        np.sqrt(np.mean((a - b) ** 2)) for i, a in enumerate(images) for b in images[:i]
    ]
    row = {"loss": float(np.mean(losses)), "PSNR": float(np.mean(_psnr(losses)))}
    return {**row, "RMS between": float(np.mean(pairs))} if pairs else row


def draw(path: Path, curves: dict[str, np.ndarray], found: inversion.Inversion) -> None:
    """Draws PSNR over steps: the ways on the left, the restarts of one on the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for name, losses in curves.items():
        steps = 1 + np.arange(len(losses))
        style = {"linewidth": 2.5} if name.startswith("lev") else {"linewidth": 1}
        left.plot(steps, _psnr(losses), label=name, **style)
    left.set(title="a. optimisers and rates", xscale="log")
    left.legend(fontsize=7)
    restarts = found.restart_losses[0]
    for losses in restarts:
        right.plot(_psnr(losses), color="0.6", linewidth=0.8)
    best = int(np.nanargmin(np.nanmin(restarts[:, ::100], axis=1)))
    right.plot(_psnr(restarts[best]), label="chosen restart")
    refined = found.refine_losses[0]
    refined = refined[np.isfinite(refined)]
    steps = restarts.shape[1] + np.arange(len(refined))
    right.plot(steps, _psnr(refined), label="second phase")
    right.set(title="b. restarts and selection")
    right.legend(fontsize=7)
    for axes in (left, right):
        axes.set(xlabel="step", ylabel="PSNR to the target (dB, peak 1)")
    figure.savefig(path, dpi=110)


def _psnr(losses: np.ndarray) -> np.ndarray:
    return -10 * np.log10(np.maximum(losses, 1e-20))


if __name__ == "__main__":
    cli.start(main, SECTIONS, usage=__doc__)
