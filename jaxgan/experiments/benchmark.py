"""Measure training: python -m jaxgan.experiments.benchmark --method=pix2pix

Times whole training steps on random images, case by case: every combination of
--sizes, --widths, --batches and --dtypes. With --peer=torch the same networks train in
PyTorch in turn, in the same minutes, once both are seen to compute the same losses.
"""

import dataclasses
import itertools
import json
import math
import os
import re
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgan import cli
from jaxgan.config import option
from jaxgan.errors import UserError
from jaxgan.experiments import games
from jaxgan.training import environment, parallel, tuning

Clock = Callable[[], float]

_CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclasses.dataclass(frozen=True)
class Config:
    """What to measure, and how long."""

    method: str = option("pix2pix", "what trains", choices=tuple(games.GAMES))
    sizes: str = option("256", "sides of the images in pixels, with commas")
    batches: str = option("1", "batch sizes, with commas")
    dtypes: str = option("float32", "float32, bfloat16 or both, with a comma")
    widths: str = option("64", "channels of the first layers, with commas")
    steps_per_call: int = option(1, "steps that one dispatch runs on the device")
    windows: int = option(5, "timed windows of each side")
    seconds: float = option(2.0, "least length of a window")
    peer: str = option(
        "none",
        "what to compare with; torch-compile: with bfloat16 autocast, channels last",
        choices=("none", "torch", "torch-compile"),
    )
    clock: str = option(
        "wall",
        "of the timing; cpu: what this process spent on all cores, which other programs"
        " on the machine do not disturb: for one core each (taskset -c 0, --threads=1)",
        choices=tuple(_CLOCKS),
    )
    threads: int = option(0, "of PyTorch on a CPU; 0: as many as there are cores")
    output: str = option("", "folder for benchmark.json and benchmark.png")

    def __post_init__(self):
        """Raises `ValueError` for what is no list of numbers."""
        for name in ("sizes", "batches", "widths"):
            values = getattr(self, name).split(",")
            if not all(value.isdigit() and int(value) > 0 for value in values):
                raise ValueError(f"--{name}={getattr(self, name)}: expected 128,256")
        unknown = set(self.dtypes.split(",")) - {"float32", "bfloat16"}
        if unknown:
            raise ValueError(f"--dtypes={self.dtypes}: expected float32,bfloat16")


SECTIONS = {"config": Config}


def main(*, config: Config) -> list[dict[str, Any]]:
    """Measures every case, prints a table and writes it; returns the cases."""
    tuning.keep_freed_memory()
    peaks: dict[str, float] = {}
    cases = []
    numbers = [
        [int(n) for n in text.split(",")]
        for text in (config.sizes, config.widths, config.batches)
    ]
    for size, width, batch, dtype in itertools.product(
        *numbers, config.dtypes.split(",")
    ):
        if dtype not in peaks:
            peaks[dtype] = matmul_peak(dtype, clock=_CLOCKS[config.clock])
            print(f"matrix products in {dtype}: {peaks[dtype] / 1e9:,.0f} GFLOP/s")
        case = measure(config, size=size, width=width, batch=batch, dtype=dtype)
        case["fraction_of_peak"] = case["flops_per_sec"] / peaks[dtype]
        cases.append(case)
        print(describe(case), flush=True)
        if config.output:
            write(Path(config.output), cases)
    return cases


def measure(
    config: Config, *, size: int, width: int, batch: int, dtype: str
) -> dict[str, Any]:
    """Returns one entry of benchmark.json, still without its fraction of the peak.

    Raises `UserError` for a method without a peer, and where the peer's losses differ.
    """
    game = games.GAMES[config.method](
        crop_size=size, width=width, batch_size=batch, dtype=dtype
    )
    parallel.check_batch_size(batch)
    host_state = jax.device_get(jax.jit(game.init)(jax.random.key(0)))
    key = jax.random.key(1)
    batches = host_batches(game, batch, config.steps_per_call)
    first = next(batches)
    flops = count_flops(game, host_state, first)
    began = time.perf_counter()
    state = parallel.replicate(host_state)
    update = parallel.make_update(game.train_step, games.prepare)
    lowered = update.lower(state, parallel.shard(first), key)
    update = lowered.compile()
    compile_seconds = time.perf_counter() - began
    memory = update.memory_analysis()
    peer = None
    if config.peer != "none":
        peer = make_peer(config, game, host_state)
    state, metrics = update(state, parallel.shard(first), key)
    if peer is not None:
        latents = _first_latents(game, key)
        check_losses(metrics, peer(_one_step(first), latents), dtype)

    ours = Side(update, state, parallel.prefetch(batches), key)
    theirs = None if peer is None else (lambda: peer(_one_step(first), latents))
    images, clock = batch * config.steps_per_call, _CLOCKS[config.clock]
    rates, peer_rates = [], []
    calls = _calls(ours.call, config.seconds, clock)
    peer_calls = 0 if theirs is None else _calls(theirs, config.seconds, clock)
    ours.waited = ours.spent = 0.0
    for _ in range(config.windows):
        rates.append(calls * images / _seconds(ours.call, calls, clock))
        if theirs is not None:
            peer_rates.append(peer_calls * batch / _seconds(theirs, peer_calls, clock))
    rate = statistics.median(rates)
    case = {
        "method": config.method,
        "size": size,
        "width": width,
        "batch": batch,
        "dtype": dtype,
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "clock": config.clock,
        "steps_per_call": config.steps_per_call,
        "compile_seconds": compile_seconds,
        "images_per_sec": rate,
        "images_per_sec_min": min(rates),
        "images_per_sec_max": max(rates),
        "flops": flops,
        "flops_per_sec": flops * rate / batch,
        "peak_bytes": peak_bytes(memory),
        "copied_state_bytes": copied_bytes(memory),
        "reduced_bytes": reduced_bytes(lowered.as_text()),
        "data_wait_frac": ours.waited / ours.spent,
        "peer": config.peer,
    }
    if peer_rates:
        ratios = [a / b for a, b in zip(rates, peer_rates, strict=True)]
        case |= {
            "peer_images_per_sec": statistics.median(peer_rates),
            "ratio_median": statistics.median(ratios),
            "ratio_min": min(ratios),
            "ratio_max": max(ratios),
        }
    return case


class Side:
    """Our side of the comparison: a state that trains on, and the time it waited."""

    def __init__(self, update: Callable, state: Any, batches: Iterator, key: jax.Array):
        """Takes a compiled update, a replicated state and batches on the devices."""
        self._update, self._state = update, state
        self._batches, self._key = batches, key
        self._last: Any = None
        self.waited = self.spent = 0.0

    def call(self) -> None:
        """Dispatches one call and waits for the one before, as training does."""
        began = time.perf_counter()
        batch = next(self._batches)
        self.waited += time.perf_counter() - began
        self._state, metrics = self._update(self._state, batch, self._key)
        if self._last is not None:
            jax.block_until_ready(self._last)
        self._last = metrics
        self.spent += time.perf_counter() - began

    def finish(self) -> None:
        """Waits for the last call."""
        jax.block_until_ready(self._last)


def host_batches(game: games.Game, batch: int, steps: int) -> Iterator[games.Batch]:
    """Yields batches `[K, B, ...]` for ever, each other images of a small stock."""
    generator = np.random.default_rng(0)
    stock = [game.draw(generator, batch) for _ in range(4)]
    for start in itertools.count():
        chosen = [stock[(start + i) % len(stock)] for i in range(steps)]
        yield {name: np.stack([x[name] for x in chosen]) for name in game.shapes}


def count_flops(game: games.Game, state: Any, batches: games.Batch) -> float:
    """Returns the FLOPs of one step over all devices, as XLA counts them for a GPU.

    Those of the native convolutions, whatever the device's own form of them adds.
    """
    one = {name: x[0] for name, x in batches.items()}

    def step(state, batch, key):
        with_axis = jax.vmap(
            lambda x: game.train_step(state, games.prepare(x, key), key),
            axis_name=parallel.AXIS,
            axis_size=1,
        )
        return with_axis(jax.tree.map(lambda x: x[None], batch))

    traced = jax.jit(step).trace(state, one, jax.random.key(0))
    cost = traced.lower(lowering_platforms=("cuda",)).cost_analysis()
    return float((cost or {}).get("flops", 0.0))


def matmul_peak(dtype: str, *, clock: Clock = time.perf_counter) -> float:
    """Returns the FLOP/s of the best of some products of square matrices."""
    side = 2048 if jax.default_backend() == "cpu" else 8192
    a = jnp.ones((side, side), dtype)
    product = jax.jit(jnp.matmul).lower(a, a).compile()
    jax.block_until_ready(product(a, a))
    twice = lambda: jax.block_until_ready([product(a, a), product(a, a)])  # noqa: E731
    best = min(_seconds(twice, 1, clock) / 2 for _ in range(5))
    return 2 * side**3 / best


def peak_bytes(memory: Any) -> int:
    """Returns the most memory of one device: its own account, or the compiler's."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    own = memory.argument_size_in_bytes + memory.temp_size_in_bytes
    return own + memory.output_size_in_bytes - memory.alias_size_in_bytes


def copied_bytes(memory: Any) -> int:
    """Returns how much of an update's output is not its donated input."""
    return memory.output_size_in_bytes - memory.alias_size_in_bytes


def reduced_bytes(text: str) -> int:
    """Returns what a StableHLO program's all-reduces add up over devices, in bytes.

    That of a loop over K steps is what one step reduces.
    """
    total = 0
    for operation in text.split('"stablehlo.all_reduce"')[1:]:
        types = re.search(r"\}\) : \((.*?)\) ->", operation, re.DOTALL)
        for dims, bits in re.findall(r"tensor<([\dx]*?)x?[a-z]+(\d+)>", types[1]):
            shape = [int(n) for n in dims.split("x") if n]
            total += math.prod(shape) * int(bits) // 8
    return total


def make_peer(config: Config, game: games.Game, state: Any) -> Callable:
    """Returns `step(batch, latents) -> losses` of the twin in PyTorch, as floats."""
    try:
        import torch

        from jaxgan.experiments import torch_games
    except ImportError as error:
        raise UserError("--peer=torch: pip install 'jaxgan[bench]'") from error
    if config.method not in torch_games.PEERS:
        raise UserError(f"--peer={config.peer}: {config.method} has no peer")
    device = "cuda" if jax.default_backend() == "gpu" else "cpu"
    torch.set_num_threads(config.threads or os.cpu_count() or 1)
    step = torch_games.PEERS[config.method](game.config, state, device)
    fast = config.peer == "torch-compile"
    if fast:
        step = torch.compile(step)
    layout = torch.channels_last if fast else torch.contiguous_format

    def run(batch: games.Batch, latents: np.ndarray | None) -> dict[str, float]:
        images = {
            name: torch.from_numpy(2.0 * x.transpose(0, 3, 1, 2) / 255.0 - 1.0)
            .float()
            .to(device, memory_format=layout)
            for name, x in batch.items()
        }
        if latents is not None:
            images["latent"] = torch.from_numpy(latents).to(device)
        with torch.autocast(device, torch.bfloat16, enabled=fast):
            losses = step(**images)
        return {name: float(loss) for name, loss in losses.items()}

    return run


def check_losses(
    metrics: dict[str, jax.Array], peer: dict[str, float], dtype: str
) -> None:
    """Raises `UserError` unless the first step's losses are the peer's."""
    tolerance = 1e-3 if dtype == "float32" else 0.05
    for name in {"gen_loss", "disc_loss"} & metrics.keys():
        ours = float(metrics[name][0])
        if not np.isclose(ours, peer[name], rtol=tolerance):
            raise UserError(
                f"{name} of the first step: {ours} here, {peer[name]} there"
            )


def describe(case: dict[str, Any]) -> str:
    """Returns a line for people."""
    text = (
        f"{case['method']} {case['size']}² x{case['batch']} {case['dtype']}: "
        f"{case['images_per_sec']:.3g} images/s, "
        f"{case['flops_per_sec'] / 1e9:,.0f} GFLOP/s "
        f"({case['fraction_of_peak']:.0%} of the peak), "
        f"{case['peak_bytes'] / 2**20:,.0f} MiB, compiled in "
        f"{case['compile_seconds']:.0f} s"
    )
    if "ratio_median" in case:
        text += (
            f", {case['ratio_median']:.2f} x {case['peer']} "
            f"({case['ratio_min']:.2f}-{case['ratio_max']:.2f})"
        )
    return text


def write(folder: Path, cases: list[dict[str, Any]]) -> None:
    """Writes benchmark.json, benchmark.png and env.json."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(cases, indent=1)
    (folder / "benchmark.json").write_text(text + "\n")
    (folder / "env.json").write_text(json.dumps(environment.describe(), indent=1))
    plot(folder / "benchmark.png", cases)


def plot(path: Path, cases: list[dict[str, Any]]) -> None:
    """Draws the rates of all cases, and the peer's beside them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 1 + 0.5 * len(cases)), layout="constrained")
    axes = figure.subplots()
    names = [f"{c['method']} {c['size']}² x{c['batch']} {c['dtype']}" for c in cases]
    rows = np.arange(len(cases))
    axes.barh(rows - 0.2, [c["images_per_sec"] for c in cases], 0.4, label="jaxgan")
    if any("ratio_median" in c for c in cases):
        peers = [c.get("peer_images_per_sec", 0.0) for c in cases]
        axes.barh(rows + 0.2, peers, 0.4, label=cases[0]["peer"])
    axes.set_yticks(rows, names)
    axes.invert_yaxis()
    axes.set_xlabel("images per second")
    axes.legend()
    figure.savefig(path, dpi=100)


def _one_step(batches: games.Batch) -> games.Batch:
    return {name: x[0] for name, x in batches.items()}


def _first_latents(game: games.Game, key: jax.Array) -> np.ndarray | None:
    """Draws what the first step drew, whose key `parallel.make_update` made."""
    if game.latents is None:
        return None
    step_key = jax.random.split(jax.random.fold_in(key, 0))[1]
    return np.array(game.latents(step_key))


def _calls(call: Callable[[], Any], seconds: float, clock: Clock) -> int:
    """Returns how many calls fill a window; the first two are to warm up."""
    _seconds(call, 2, clock)
    return max(1, round(seconds / _seconds(call, 1, clock)))


def _seconds(call: Callable[[], Any], times: int, clock: Clock) -> float:
    began = clock()
    for _ in range(times):
        call()
    owner = getattr(call, "__self__", None)
    if isinstance(owner, Side):
        owner.finish()
    return clock() - began


if __name__ == "__main__":
    cli.start(main, SECTIONS, usage=__doc__)
