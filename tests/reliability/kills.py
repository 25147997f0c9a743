"""Kill a training run again and again: what it ends with must be what it would have.

    python tests/reliability/kills.py [KILLS] [SEED]

Runs the toy of tests/training through the real loop, log and checkpoints. Each process
is killed (SIGKILL) at a random moment, every second one while a checkpoint is being
written, and the next goes on; finished runs are compared bit by bit with one that
nothing disturbed. Prints where the kills hit.
"""

import collections
import os
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

import toy  # noqa: E402

from jaxgan.training import log, manifest, reader  # noqa: E402
from jaxgan.training.run import RunConfig  # noqa: E402

STEPS = 40


def train(workdir: Path) -> None:
    """Trains to the end from wherever the workdir stands, not too fast to be hit."""

    def batches(start, total, k):
        for batch in toy.batches(start, total, k):
            time.sleep(0.01)
            yield batch

    jax.config.update("jax_compilation_cache_dir", str(workdir.parent / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    run = RunConfig(log_every=2, checkpoint_every=4, eval_every=100)
    workdir.mkdir(exist_ok=True)
    toy.train(workdir, total=STEPS, run=run, batches=batches)


def start(workdir: Path) -> int:
    """Trains in a child; returns its process id. The parent never touches a device."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        train(workdir)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def ended(child: int) -> bool:
    """Whether a child has ended by itself; raises if it failed."""
    done, status = os.waitpid(child, os.WNOHANG)
    if done and os.waitstatus_to_exitcode(status):
        raise AssertionError(f"a run failed: {os.waitstatus_to_exitcode(status)}")
    return bool(done)


def kill(child: int, workdir: Path, *, after: float, in_save: bool) -> str:
    """Kills a child and says where it was; "" if it ended before."""
    began, seen = time.monotonic(), None
    while True:
        if ended(child):
            return ""
        unfinished = _unfinished(workdir)
        seen = unfinished if seen is None else seen
        waited = time.monotonic() - began > after
        if waited if not in_save else (waited and unfinished - seen):
            break
        time.sleep(0.001)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if _unfinished(workdir) - (seen or set()):
        return "during a save"
    return "between saves" if reader.steps(workdir / "checkpoints") else "before any"


def _unfinished(workdir: Path) -> set[str]:
    """Returns the saves that are under way, or were when their process died."""
    try:
        found = list((workdir / "checkpoints").iterdir())
    except FileNotFoundError:
        return set()
    return {p.name for p in found if not (p.name.isdigit() and manifest.exists(p))}


def outcome(workdir: Path) -> tuple:
    """Returns the bits of the last state and the rows of the log, without times."""
    tree, step = reader.read(workdir / "checkpoints", step="latest")
    arrays = {n: np.asarray(x).tobytes() for n, x in reader.by_name(tree).items()}
    rows = [
        {k: v for k, v in row.items() if not k.startswith("perf/")}
        for row in log.read_rows(workdir / "metrics.jsonl")
    ]
    return step, arrays, rows


def main(kills: int, seed: int) -> collections.Counter:
    """Kills so often, checks every run that came to its end, and returns the counts."""
    rng = np.random.default_rng(seed)
    counts = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (child,) = [start(root / "whole")]
        while not ended(child):
            time.sleep(0.01)
        finished, number = [], 0
        while counts.total() < kills or not finished:
            workdir = root / str(number)
            enough = counts.total() >= kills
            child = start(workdir)
            place = kill(
                child,
                workdir,
                after=1e9 if enough else rng.uniform(0, 2.5),
                in_save=bool(rng.integers(2)),
            )
            if place:
                counts[place] += 1
            else:
                finished.append(workdir)
                number += 1
        # In a child of its own: reading starts Orbax, and with it threads.
        reading = os.fork()
        if not reading:
            expected = outcome(root / "whole")
            same = all(outcome(workdir) == expected for workdir in finished)
            os._exit(0 if same and expected[0] == STEPS else 1)
        assert os.waitpid(reading, 0)[1] == 0, "a killed run ended differently"
    counts["runs finished, all bit-equal"] = len(finished)
    return counts


if __name__ == "__main__":
    arguments = [int(x) for x in sys.argv[1:]] + [50, 0][len(sys.argv) - 1 :]
    for place, count in main(*arguments).items():
        print(f"{count:5d} {place}")
