"""What MEGAN costs as images grow: python -m jaxgan.experiments.megan_scaling

    ... --output=DIR --sizes=256,512,1024,2048,4096,8192 --generate_to=2048

For every size of image: the memory of a training step of the highest scale, as the
compiler plans it, on patches and, for comparison, on the whole image; and the time in
which an untrained generator makes the image, patch by patch. Writes table.json,
table.md and a plot.
"""

import dataclasses
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import cli, losses
from jaxgan.config import option
from jaxgan.errors import UserError
from jaxgan.experiments.megan_chain import Chain
from jaxgan.methods import megan


@dataclasses.dataclass(frozen=True)
class Options:
    """What to measure."""

    output: str = option("", "folder for table and plot")
    sizes: str = option("256,512,1024,2048,4096,8192", "sides of images, in pixels")
    generate_to: int = option(2048, "largest side at which an image is made and timed")
    whole_to: int = option(8192, "largest side of a step on a whole image")


def main(*, config: megan.Config, options: Options) -> dict[str, dict[str, float]]:
    """Measures, prints and writes; returns a row for each size."""
    if not options.output:
        raise UserError("--output is missing (--help)")
    if config.num_scales < 2:
        raise UserError("--num_scales=1 has no higher scale")
    # The same at every size: a step takes patches, wherever they were cut.
    patches = step_memory(config, config.patch_size, config.patch_batch)
    rows = {}
    for size in (int(part) for part in options.sizes.split(",")):
        row = {"patches_mb": patches}
        if size <= options.whole_to:
            row["whole_mb"] = step_memory(config, size, 1)
        if size <= options.generate_to:
            row["seconds"] = generation_seconds(config, size)
        rows[str(size)] = row
        print(size, {name: round(value, 2) for name, value in row.items()}, flush=True)
    write(rows, Path(options.output))
    return rows


def step_memory(config: megan.Config, side: int, batch: int) -> float:
    """Returns what a step of the highest scale holds, in MB, as it is compiled.

    Temporary buffers, arguments and results, less what is donated; nothing is run.
    """
    scale = config.num_scales - 1
    optimizers = megan.optimizers(config)
    step = megan.make_train_step(
        *megan.networks(config, scale, out_channels=1),
        *optimizers,
        scale=scale,
        gan=losses.adversarial(config.gan_loss),
        edge_noise=config.edge_noise,
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    init = lambda key: megan.init(config, optimizers, key, channels=1)  # noqa: E731
    image = jax.ShapeDtypeStruct((batch, side, side, 1), jnp.float32)
    shapes = (jax.eval_shape(init, key), {"source": image, "target": image}, key)
    compiled = jax.jit(step, donate_argnums=0).lower(*shapes).compile()
    memory = compiled.memory_analysis()
    held = memory.temp_size_in_bytes + memory.argument_size_in_bytes
    held += memory.output_size_in_bytes - memory.alias_size_in_bytes
    return held / 2**20


def generation_seconds(config: megan.Config, size: int) -> float:
    """Returns the time of the highest scale of an image, once it is compiled."""
    chain = Chain(config, out_channels=1)
    scale = config.num_scales - 1
    init = lambda key: megan.init(config, megan.optimizers(config), key, channels=1)  # noqa: E731
    params = jax.jit(init)(jax.random.key(0)).gen.params
    rng = np.random.default_rng(0)
    seconds = []
    for side in (2 * config.patch_size, size):
        edges = rng.integers(0, 255, (side, side, 1), np.uint8)
        below = rng.uniform(-1, 1, (side // 2, side // 2, 1)).astype(np.float32)
        began = time.monotonic()
        for _ in chain.high(params, scale, edges, below):
            pass
        seconds.append(time.monotonic() - began)
    return seconds[-1]


def write(rows: dict[str, dict[str, float]], folder: Path) -> None:
    """Writes table.json, table.md and scaling.png."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.json").write_text(json.dumps(rows, indent=2) + "\n")
    names = {
        "patches_mb": "step on patches, MB",
        "whole_mb": "step on the whole image, MB",
        "seconds": "generation, s",
    }
    lines = ["| side | " + " | ".join(names.values()) + " |", "|---" * 4 + "|"]
    for side, row in rows.items():
        cells = [f"{row[name]:.4g}" if name in row else "" for name in names]
        lines.append(f"| {side} | " + " | ".join(cells) + " |")
    (folder / "table.md").write_text("\n".join(lines) + "\n")
    figure = Figure(figsize=(8, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for axes, shown in ((left, ("patches_mb", "whole_mb")), (right, ("seconds",))):
        for name in shown:
            points = [(int(s), row[name]) for s, row in rows.items() if name in row]
            axes.loglog(*np.array(points).T, "o-", label=names[name])
        axes.set_xlabel("side of the image, pixels")
        axes.legend()
    left.set_ylabel("MB")
    right.set_ylabel("s")
    figure.savefig(folder / "scaling.png", dpi=110)


if __name__ == "__main__":
    cli.start(main, {"config": megan.Config, "options": Options}, usage=__doc__)
