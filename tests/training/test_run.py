"""Options of a run: what is automatic, what is refused."""

import jax
import pytest

from jaxgan.errors import UserError
from jaxgan.training import run
from jaxgan.training.run import RunConfig


def test_automatic_intervals_follow_the_length():
    every = run.intervals(RunConfig(), 2000)
    assert every == run.Intervals(
        log=50, evaluate=200, sample=200, save=200, total=2000
    )
    assert run.intervals(RunConfig(), 3) == run.Intervals(1, 1, 1, 1, 3)


def test_intervals_given_are_taken():
    config = RunConfig(log_every=1, eval_every=2, sample_every=3, checkpoint_every=4)
    assert run.intervals(config, 100) == run.Intervals(1, 2, 3, 4, 100)


def test_events_fall_due_at_the_end_of_the_call_that_contains_them():
    every = run.Intervals(log=1, evaluate=5, sample=100, save=8, total=31)
    due = {step: every.due(step - 4, step) for step in range(4, 29, 4)}
    assert due == {
        4: set(),
        8: {"evaluate", "save"},
        12: {"evaluate"},
        16: {"evaluate", "save"},
        20: {"evaluate"},
        24: {"save"},
        28: {"evaluate"},
    }
    assert every.due(28, 31) == {"evaluate", "sample", "save"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, 70), ({"epochs": 3}, 30), ({"steps": 8}, 8)],
)
def test_length(options, expected):
    config = RunConfig(**options)
    assert run.count_steps(config, steps_per_epoch=10, default_epochs=7) == expected


def test_all_problems_are_listed_with_their_flags():
    config = RunConfig(
        steps=5, epochs=2, log_every=-1, keep_checkpoints=1, profile_steps="9:3"
    )
    text = "\n".join(run.problems(config))
    for flag in (
        "--steps",
        "--log_every=-1",
        "--keep_checkpoints=1",
        "--profile_steps",
    ):
        assert flag in text
    assert run.problems(RunConfig()) == []


def test_profile_range():
    assert run.profile_range(RunConfig(profile_steps="10:15")) == (10, 15)
    assert run.profile_range(RunConfig()) is None
    with pytest.raises(UserError, match="--profile_steps=ten: expected FIRST:LAST"):
        run.profile_range(RunConfig(profile_steps="ten"))


def test_one_step_per_call_on_a_cpu():
    assert run.steps_per_call(RunConfig()) == 1
    assert run.steps_per_call(RunConfig(steps_per_call=4)) == 4


def test_a_resumed_run_may_not_change_what_makes_it_this_run():
    assert not {"seed", "best_metric", "best_mode"} & run.CHANGEABLE
    assert {"steps", "epochs", "eval_every", "steps_per_call"} <= run.CHANGEABLE


def test_the_cache_of_programs_is_where_it_is_asked_for(tmp_path):
    before = jax.config.jax_compilation_cache_dir
    try:
        run.use_compile_cache(RunConfig(compile_cache=str(tmp_path)))
        assert jax.config.jax_compilation_cache_dir == str(tmp_path)
        run.use_compile_cache(RunConfig(compile_cache="off"))
        assert jax.config.jax_compilation_cache_dir is None
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
