"""Tiny training runs on files, for the tests of the mains."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from jaxgan import cli
from jaxgan.experiments import pix2pix
from jaxgan.training import log, reader

STEPS = 20
# All of these runs are the same few programs, which are compiled once.
_CACHE = Path(tempfile.gettempdir()) / "jaxgan-test-programs"
TINY = (
    "--crop_size=16 --batch_size=4 --width=4 --depth=2 --discriminator=patch16"
    f" --steps={STEPS} --log_every=3 --eval_every=10 --sample_every=20"
    f" --checkpoint_every=4 --ema_decay=0.9 --compile_cache={_CACHE}"
).split()


def write_pairs(
    directory: Path, *, count: int = 6, size: tuple[int, int] = (24, 28)
) -> list[str]:
    """Writes pairs of TIFFs, the target a function of the source; returns flags."""
    rng = np.random.default_rng(0)
    for name in ("source", "target"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        source = rng.integers(0, 4000, size, dtype=np.uint16)
        tifffile.imwrite(directory / "source" / f"{i}.tif", source)
        target = (source // 16).astype(np.uint8)
        tifffile.imwrite(directory / "target" / f"{i}.tif", target)
    return [f"--source={directory / 'source'}", f"--target={directory / 'target'}"]


def train(workdir: Path, *flags: str) -> Any:
    """Runs the main in this process and returns its state."""
    argv = ["pix2pix", f"--workdir={workdir}", *TINY, *flags]
    return pix2pix.main(**cli.parse(argv, pix2pix.SECTIONS))


def start(workdir: Path, *flags: str, devices: int = 4) -> subprocess.Popen:
    """Starts the same main as a program of its own, on so many devices."""
    count = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-m", "jaxgan.experiments.pix2pix", f"--workdir={workdir}"]
        + [*TINY, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} {count}"},
    )


def wait_until(
    condition: Callable[[], bool], process: subprocess.Popen, *, seconds: float = 900
) -> None:
    """Polls until `condition` holds; fails if the process ends before, or in vain."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


def logged_steps(workdir: Path) -> list[int]:
    """Returns the steps of the rows of a run's log, in their order."""
    return [row["step"] for row in log.read_rows(workdir / "metrics.jsonl")]


def last_state(workdir: Path) -> dict[str, Any]:
    """Returns all that the newest checkpoint of a finished run holds."""
    tree, step = reader.read(workdir / "checkpoints", step="latest")
    assert step == STEPS
    return tree
