"""Draw what a step costs: python -m jaxgan.experiments.cost_curves --results=A,B

Reads benchmark.json files of `jaxgan.experiments.benchmark` and draws time and memory
of a step against size, batch and width, with the line t = overhead + FLOPs / rate that
fits each method best.
"""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgan import cli
from jaxgan.config import option
from jaxgan.errors import UserError


@dataclasses.dataclass(frozen=True)
class Config:
    """What to draw."""

    results: str = option("", "folders with a benchmark.json each, with commas")
    output: str = option("cost_curves.png", "picture to write")


SECTIONS = {"config": Config}


def main(*, config: Config) -> dict[str, tuple[float, float]]:
    """Draws the curves; returns overhead and rate of each method and dtype."""
    cases = []
    for folder in filter(None, config.results.split(",")):
        path = Path(folder) / "benchmark.json"
        if not path.exists():
            raise UserError(f"--results: {path} does not exist")
        cases += json.loads(path.read_text())
    if not cases:
        raise UserError("--results: name folders of jaxgan.experiments.benchmark")
    kinds: dict[str, list] = {}
    for case in cases:
        kinds.setdefault(f"{case['method']} {case['dtype']}", []).append(case)
    fits = {kind: fit(chosen) for kind, chosen in kinds.items()}
    for kind, (overhead, rate) in fits.items():
        line = f"{kind}: {1e3 * overhead:.1f} ms + FLOPs / {rate / 1e9:,.0f} GFLOP/s"
        print(line)
    draw(Path(config.output), kinds, fits)
    return fits


def fit(cases: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Returns seconds of overhead and FLOP/s such that relative errors are least.

    One case alone has no overhead. Neither is negative.
    """
    flops = np.array([case["flops"] for case in cases])
    seconds = np.array([case["batch"] / case["images_per_sec"] for case in cases])
    if np.ptp(flops) == 0:
        return 0.0, float(np.mean(flops / seconds))
    terms = np.stack([1 / seconds, flops / seconds], axis=1)
    (overhead, slope), *_ = np.linalg.lstsq(terms, np.ones(len(cases)))
    if overhead < 0:
        overhead, slope = 0.0, np.sum(terms[:, 1]) / np.sum(terms[:, 1] ** 2)
    return float(overhead), float(1 / slope)


def draw(
    path: Path,
    kinds: dict[str, list[dict[str, Any]]],
    fits: dict[str, tuple[float, float]],
) -> None:
    """Draws time against FLOPs with the fits, and memory against pixels of a batch."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    times, memory = figure.subplots(1, 2)
    for kind, cases in kinds.items():
        flops = np.array([case["flops"] for case in cases])
        seconds = [case["batch"] / case["images_per_sec"] for case in cases]
        (points,) = times.loglog(flops / 1e9, seconds, "o", label=kind)
        overhead, rate = fits[kind]
        line = np.geomspace(flops.min(), flops.max(), 50)
        times.loglog(line / 1e9, overhead + line / rate, color=points.get_color())
        pixels = [case["batch"] * case["size"] ** 2 for case in cases]
        memory.loglog(pixels, [case["peak_bytes"] / 2**20 for case in cases], "o")
    times.set(xlabel="GFLOPs of a step", ylabel="seconds of a step")
    memory.set(xlabel="pixels of a batch", ylabel="MiB")
    times.legend()
    figure.savefig(path, dpi=100)


if __name__ == "__main__":
    cli.start(main, SECTIONS, usage=__doc__)
