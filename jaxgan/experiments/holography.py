"""Score the chain amplitude -> phase -> twin-free phase on simulated holograms.

    python -m jaxgan.experiments.holography --workdir=PHASE --workdir=TWIN --output=DIR

The workdirs are pix2pix runs, trained on --simulate=amplitude_to_phase and
--simulate=phase_to_twin_free (or one, on amplitude_to_twin_free). The holograms are
others than those of training. Prints, against the true phase, the mean SSIM of what was
back-propagated, of iterative retrieval and of the chain, and the time for one image.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from jaxgan import cli, metrics, predict
from jaxgan.config import option
from jaxgan.data.simulate import back_propagate, holograms, retrieve
from jaxgan.data.simulate.optics import Optics
from jaxgan.data.simulate.specimens import MAX_PHASE
from jaxgan.errors import UserError
from jaxgan.training import console, grid

# Training takes the first images of the series.
_FIRST_UNSEEN = 1_000_000
_EXAMPLES = 4


@dataclasses.dataclass(frozen=True)
class Options:
    """Which models to chain, and on how much to score them."""

    workdir: tuple[str, ...] = option((), "pix2pix runs, in the order of the chain")
    output: str = option("", "folder for table and pictures")
    checkpoint: str = option("latest", "best, latest or a step")
    num_images: int = option(32, "holograms to score")
    size: int = option(256, "height and width of each, in pixels")
    retrieval_steps: int = option(60, "of the iterative retrieval to compare with")


def main(*, options: Options) -> dict[str, dict[str, float]]:
    """Simulates holograms, reconstructs each in every way, and compares with truth."""
    if not options.workdir or not options.output:
        raise UserError("--workdir and --output are needed (--help)")
    models = [
        predict.load(path, checkpoint=predict.parse_checkpoint(options.checkpoint))
        for path in options.workdir
    ]
    predict.check_chain(options.workdir, models)
    seen = holograms(options.num_images, start=_FIRST_UNSEEN, size=options.size)
    optics = Optics()

    def chain(intensity: np.ndarray) -> np.ndarray:
        image = np.abs(back_propagate(intensity, optics))
        for model in models:
            image = model(image)
        return image[..., 0]

    ways = {
        "back-propagated": lambda x: np.angle(back_propagate(x, optics)),
        f"retrieval, {options.retrieval_steps} steps": lambda x: np.angle(
            retrieve(x, optics, steps=options.retrieval_steps)
        ),
        "chain": chain,
    }
    images = {name: reconstruct(way, seen.intensity) for name, way in ways.items()}
    rows = {
        name: {**score(phases, seen.truth), "ms per image": milliseconds}
        for name, (phases, milliseconds) in images.items()
    }
    console.result_table(f"{options.num_images} holograms against true phase", rows)
    phases = {name: result for name, (result, _) in images.items()}
    draw(Path(options.output), seen.amplitude, {**phases, "truth": seen.truth})
    return rows


def reconstruct(
    way: Callable[[np.ndarray], np.ndarray], intensities: Sequence[np.ndarray]
) -> tuple[np.ndarray, float]:
    """Returns the phases `[N, H, W]` and the median milliseconds for one image."""
    way(intensities[0])  # compiles, where there is something to compile
    results, times = [], []
    for intensity in intensities:
        began = time.perf_counter()
        results.append(way(intensity))
        times.append(time.perf_counter() - began)
    return np.stack(results), 1e3 * float(np.median(times))


def score(phases: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Returns mean SSIM and PSNR of phases `[N, H, W]`, and their RMSE in radians.

    The peak of both is the largest phase that a specimen may have.
    """
    pair = truth[..., None], np.float32(phases)[..., None]
    return {
        "mSSIM": float(np.mean(metrics.ssim(*pair, peak=MAX_PHASE))),
        "PSNR": float(np.mean(metrics.psnr(*pair, peak=MAX_PHASE))),
        "RMSE (rad)": float(np.sqrt(np.mean(metrics.mse(*pair)))),
    }


def draw(output: Path, amplitudes: np.ndarray, phases: dict[str, np.ndarray]) -> None:
    """Draws the first holograms: amplitude 0 to 2, phases 0 to the largest."""
    rows = [
        {"amplitude": amplitudes[i, ..., None] - 1}
        | {k: 2 * x[i, ..., None] / MAX_PHASE - 1 for k, x in phases.items()}
        for i in range(min(_EXAMPLES, len(amplitudes)))
    ]
    grid.image_grid(output / "chain.png", rows)


if __name__ == "__main__":
    cli.start(main, {"options": Options}, usage=__doc__)
