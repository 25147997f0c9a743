"""How long and how often: the options of a run that say nothing of the method."""

import dataclasses
import re
from pathlib import Path

import jax

from jaxgan.config import option
from jaxgan.errors import UserError


@dataclasses.dataclass(frozen=True)
class RunConfig:
    """Length, intervals, saving and devices of a run; counts are in steps.

    A resumed run may change all of it but the fields outside `CHANGEABLE`.
    """

    steps: int = option(0, "length of the run in steps (0: by --epochs)")
    epochs: int = option(0, "length of the run in passes over the training images")
    seed: int = option(0, "of initial weights, order, crops and noise")
    steps_per_call: int = option(
        0, "steps that one dispatch runs on the device (0: 1 on a CPU, 16 elsewhere)"
    )
    log_every: int = option(0, "steps between rows (0: 20 rows a run, or every 50)")
    eval_every: int = option(0, "steps between evaluations (0: ten a run)")
    sample_every: int = option(0, "steps between image grids (0: ten a run)")
    checkpoint_every: int = option(0, "steps between checkpoints (0: ten a run)")
    keep_checkpoints: int = option(3, "newest checkpoints to keep, besides the best")
    best_metric: str = option("ssim", "evaluation metric that chooses the best step")
    best_mode: str = option("max", "which value of it is best", choices=("max", "min"))
    distributed: str = option(
        "auto",
        "whether to join other processes; auto: where a launcher asks for it",
        choices=("auto", "on", "off"),
    )
    compile_cache: str = option(
        "auto",
        "directory that keeps compiled programs, or off; auto: ~/.cache/jaxgan, but off"
        " on a CPU",
    )
    profile_steps: str = option("", "FIRST:LAST, steps to profile into WORKDIR/profile")


# Seed and best step would be of two runs if they changed halfway.
CHANGEABLE = frozenset(field.name for field in dataclasses.fields(RunConfig)) - {
    "seed",
    "best_metric",
    "best_mode",
}


@dataclasses.dataclass(frozen=True)
class Intervals:
    """Steps between the events of a run; each also happens at the end, `total`."""

    log: int
    evaluate: int
    sample: int
    save: int
    total: int

    def passed(self, name: str, before: int, step: int) -> bool:
        """Whether an event fell due in the call from step `before` to `step`."""
        interval = getattr(self, name)
        return step >= self.total or step // interval > before // interval

    def due(self, before: int, step: int) -> set[str]:
        """Returns which of "evaluate", "sample" and "save" fell due in that call."""
        names = ("evaluate", "sample", "save")
        return {name for name in names if self.passed(name, before, step)}


def intervals(run: RunConfig, total_steps: int) -> Intervals:
    """Returns the intervals of a run of `total_steps`, the automatic ones filled in."""
    tenth = max(1, total_steps // 10)
    return Intervals(
        log=run.log_every or min(50, max(1, total_steps // 20)),
        evaluate=run.eval_every or tenth,
        sample=run.sample_every or tenth,
        save=run.checkpoint_every or tenth,
        total=total_steps,
    )


def problems(run: RunConfig) -> list[str]:
    """Returns what is wrong with the options, each with its flag."""
    found = [
        f"--{field.name}={getattr(run, field.name)} is negative"
        for field in dataclasses.fields(run)
        if field.type is int and getattr(run, field.name) < 0
    ]
    if run.steps and run.epochs:
        found.append(
            f"--steps={run.steps} and --epochs={run.epochs} both say how long: give one"
        )
    if run.keep_checkpoints < 2:
        found.append(
            f"--keep_checkpoints={run.keep_checkpoints}: keep at least 2, for a crash"
            " while one is written leaves only the one before it"
        )
    try:
        profile_range(run)
    except UserError as error:
        found += error.problems
    return found


def count_steps(run: RunConfig, *, steps_per_epoch: int, default_epochs: int) -> int:
    """Returns the length of the run in steps, `default_epochs` if no option says."""
    return run.steps or steps_per_epoch * (run.epochs or default_epochs)


def steps_per_call(run: RunConfig) -> int:
    """Returns K, the steps of one dispatch; asks JAX for its backend if automatic."""
    return run.steps_per_call or (1 if jax.default_backend() == "cpu" else 16)


def use_compile_cache(run: RunConfig) -> None:
    """Sets where JAX keeps compiled programs, so that the next start is a quick one."""
    directory = run.compile_cache
    if directory == "auto":
        # On a CPU compiling is quick, and cached programs are tied to its features.
        on_cpu = jax.default_backend() == "cpu"
        directory = "off" if on_cpu else "~/.cache/jaxgan"
    path = None if directory == "off" else str(Path(directory).expanduser().resolve())
    jax.config.update("jax_compilation_cache_dir", path)


def profile_range(run: RunConfig) -> tuple[int, int] | None:
    """Returns the first and last step to profile, or None."""
    if not run.profile_steps:
        return None
    match = re.fullmatch(r"(\d+):(\d+)", run.profile_steps)
    first, last = map(int, match.groups()) if match else (0, 0)
    if not first < last:
        raise UserError(
            f"--profile_steps={run.profile_steps}: expected FIRST:LAST, as in 10:15"
        )
    return first, last
