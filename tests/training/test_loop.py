"""The loop: rows, saves, stops and resumptions of a toy run."""

import os
import signal
import subprocess
import sys
import types

import chex
import jax
import numpy as np
import pytest
import toy

from jaxgan.errors import NonFiniteError, Preempted, UserError
from jaxgan.training import log, reader, record, signals
from jaxgan.training.run import RunConfig
from jaxgan.training.trace import Trace


def rows_of(workdir) -> list[dict]:
    """Rows without what depends on the clock."""
    rows = log.read_rows(workdir / "metrics.jsonl")
    return [{n: x for n, x in row.items() if "perf/" not in n} for row in rows]


def saved(workdir) -> list[int]:
    return reader.steps(workdir / "checkpoints")


def ssim(state) -> dict[str, float]:
    """A metric whose best is at step 4."""
    return {"ssim": 1 / (1 + abs(int(state.step) - 4)), "psnr": float(state.step)}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of 12 steps without interruption: its state and its workdir."""
    workdir = tmp_path_factory.mktemp("whole")
    return toy.train(workdir, evaluate=ssim), workdir


def test_rows_hold_the_values_of_their_step(whole):
    _, workdir = whole
    state, expected = toy.init(), {}
    for step, batch in enumerate(toy.batches(0, 12), 1):
        state, metrics = toy.update(state, batch, jax.random.key(0))
        expected[step] = {f"train/{n}": float(x[0]) for n, x in metrics.items()}
    rows = rows_of(workdir)
    assert [row["step"] for row in rows] == [2, 4, 6, 8, 10, 12]
    for row in rows:
        for name, value in expected[row["step"]].items():
            np.testing.assert_allclose(row[name], value, rtol=1e-6)
    assert [row["step"] for row in rows if "eval/ssim" in row] == [4, 8, 12]


def test_rows_do_not_depend_on_steps_per_call(tmp_path, whole):
    toy.train(tmp_path, k=5, run=RunConfig(log_every=2, eval_every=100))
    for row, expected in zip(rows_of(tmp_path), rows_of(whole[1]), strict=True):
        assert row["step"] == expected["step"]
        for name, value in row.items():
            if name.startswith("train/"):
                np.testing.assert_allclose(value, expected[name], rtol=1e-5)


def test_rates_and_times_are_logged(whole):
    rows = log.read_rows(whole[1] / "metrics.jsonl")
    assert all(row["perf/images_per_sec"] > 0 for row in rows)
    assert all(0 <= row["perf/data_wait_frac"] <= 1 for row in rows)
    seconds = [row["perf/train_seconds"] for row in rows]
    assert seconds == sorted(seconds) and seconds[0] > 0
    assert ["perf/data_seconds" in row for row in rows] == [False] * 5 + [True]


def test_saves_at_intervals_at_the_best_and_at_the_end(whole):
    # Every 3 steps in calls of 2: at 4, 6, 10, 12; the best, 4, outlives the newest 3.
    state, workdir = whole
    assert saved(workdir) == [4, 6, 10, 12]
    restored, step = reader.restore(workdir / "checkpoints", toy.init())
    assert step == 12
    chex.assert_trees_all_equal(restored, jax.device_get(state))


def test_only_the_best_so_far_is_saved_between_intervals(tmp_path):
    run = RunConfig(eval_every=2, checkpoint_every=100)
    toy.train(tmp_path, total=10, run=run, evaluate=ssim)
    assert saved(tmp_path) == [2, 4, 10]
    toy.train(tmp_path, total=14, run=run, evaluate=ssim)  # remembers the best, 4
    assert saved(tmp_path) == [4, 10, 14]


def test_training_on_goes_on(tmp_path, whole):
    toy.train(tmp_path, total=6, evaluate=ssim)
    state = toy.train(tmp_path, total=12, evaluate=ssim)
    chex.assert_trees_all_equal(state, whole[0])
    steps = [row["step"] for row in rows_of(tmp_path)]
    assert steps == [2, 4, 6, 8, 10, 12]
    seconds = [
        r["perf/train_seconds"] for r in log.read_rows(tmp_path / "metrics.jsonl")
    ]
    assert seconds == sorted(seconds)  # it accumulates


def test_a_finished_run_changes_nothing(tmp_path):
    toy.train(tmp_path, total=4)
    before = rows_of(tmp_path), saved(tmp_path)
    toy.train(tmp_path, total=4)
    assert (rows_of(tmp_path), saved(tmp_path)) == before


def stopping_batches(number: int, at: int):
    """Batches during which this process sends itself a signal."""

    def batches(start, total, k):
        for i, batch in enumerate(toy.batches(start, total, k)):
            if start + i * k == at:
                os.kill(os.getpid(), number)
            yield batch

    return batches


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
def test_a_signal_saves_and_the_same_command_goes_on(tmp_path, whole, name):
    number = getattr(signal, name)
    handler = signal.getsignal(number)
    with pytest.raises(Preempted, match="stopped at step 8 of 12"):
        toy.train(tmp_path, evaluate=ssim, batches=stopping_batches(number, at=6))
    assert signal.getsignal(number) is handler
    assert saved(tmp_path)[-1] == 8
    state = toy.train(tmp_path, evaluate=ssim)
    chex.assert_trees_all_equal(state, whole[0])
    assert rows_of(tmp_path) == rows_of(whole[1])


def test_a_kill_in_the_middle_of_a_save_costs_one_interval(tmp_path, whole):
    process = subprocess.run([sys.executable, toy.__file__, str(tmp_path)])
    assert process.returncode == -signal.SIGKILL
    left = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert left == ["4", "6.orbax-checkpoint-tmp"]
    state = toy.train(tmp_path, evaluate=ssim)
    chex.assert_trees_all_equal(state, whole[0])
    assert saved(tmp_path)[-1] == 12
    kept = [path.name for path in (tmp_path / "checkpoints").iterdir()]
    assert all(name.isdigit() for name in kept)
    trained = [
        {n: x for n, x in r.items() if "eval/" not in n} for r in rows_of(tmp_path)
    ]
    expected = [
        {n: x for n, x in r.items() if "eval/" not in n} for r in rows_of(whole[1])
    ]
    assert trained == expected


def test_a_second_signal_ends_at_once():
    script = (
        "import os, signal, time\n"
        "from jaxgan.training.signals import StopRequest\n"
        "with StopRequest() as stop:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    assert stop.signal == 'SIGTERM'\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.run([sys.executable, "-c", script], stderr=subprocess.PIPE)
    assert process.returncode == -signal.SIGTERM
    assert b"SIGTERM: saving after this step; once more ends at once" in process.stderr


def poisoned(step: int, part: str):
    """An update whose metrics or weights become NaN at a step."""

    def update(state, batch, key):
        before = int(state.step)
        state, metrics = toy.update(state, batch, key)
        if before < step <= int(state.step):
            if part == "metrics":
                loss = metrics["gen_loss"].at[step - before - 1].set(np.nan)
                metrics = {**metrics, "gen_loss": loss}
            else:
                weights = state.gen["params"]["w"].at[1, 2].set(np.inf)
                state = state.replace(gen={"params": {"w": weights}})
        return state, metrics

    return update


@pytest.mark.parametrize("step", [5, 6, 12])
def test_a_metric_that_is_not_finite_ends_the_run_unsaved(tmp_path, step):
    with pytest.raises(NonFiniteError, match=rf"at step {step}: .*train/gen_loss nan"):
        toy.train(tmp_path, update=poisoned(step, "metrics"))
    assert max(saved(tmp_path)) < step
    assert max(row["step"] for row in rows_of(tmp_path)) < step


def test_a_state_that_is_not_finite_is_not_saved(tmp_path):
    # The losses of step 6 are those of the weights before it, and finite.
    with pytest.raises(NonFiniteError, match="gen.params.w is not finite after step 6"):
        toy.train(tmp_path, update=poisoned(6, "weights"))
    assert saved(tmp_path) == [4]


def test_metrics_are_read_one_call_late(tmp_path):
    dispatched, lag = 0, []

    class Metric:
        def __init__(self, value):
            self.call, self.value = dispatched, value

        def __len__(self):
            return 1

        def __array__(self, dtype=None, copy=None):
            lag.append(dispatched - self.call)
            return np.array([self.value], dtype)

    def update(state, batch, key):
        nonlocal dispatched
        dispatched += 1
        return state, {"loss": Metric(1.0)}

    run = RunConfig(log_every=1, eval_every=4, checkpoint_every=4, sample_every=4)
    toy.train(tmp_path, total=8, k=1, run=run, update=update)
    assert lag == [1, 1, 1, 0, 1, 1, 1, 0]  # only events need the latest at once


def test_samples_are_drawn_when_due(tmp_path):
    steps = []
    run = RunConfig(sample_every=4, checkpoint_every=12)
    toy.train(tmp_path, run=run, sample=lambda state, step: steps.append(step))
    assert steps == [4, 8, 12]


def test_too_little_memory_names_the_flags(tmp_path):
    def update(state, batch, key):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory\nstack")

    with pytest.raises(UserError, match="lower --batch_size .now 4. or --crop_size"):
        toy.train(tmp_path, update=update)


def test_batches_that_end_early_are_an_error(tmp_path):
    with pytest.raises(ValueError, match="batches ended at step 6, before step 12"):
        toy.train(tmp_path, batches=lambda start, total, k: toy.batches(start, 6, k))


def test_compilation_is_announced_once(tmp_path, capsys):
    toy.train(tmp_path, total=4)
    out = capsys.readouterr().out
    assert out.count("compiling ...") == 1 and out.count("compiled in ") == 1


def test_evaluation_and_compilation_count_for_the_time_but_not_for_the_rate(
    tmp_path, monkeypatch
):
    now = 0.0

    def taking(seconds, call):
        def slowly(*args):
            nonlocal now
            now += seconds
            return call(*args)

        return slowly

    def batches(*args):
        for batch in toy.batches(*args):
            taking(1, int)()
            yield batch

    monkeypatch.setattr(record, "time", types.SimpleNamespace(monotonic=lambda: now))
    options = {"evaluate": taking(100, ssim), "update": taking(3, toy.update)}
    run = RunConfig(log_every=4, eval_every=4, sample_every=4, checkpoint_every=4)
    toy.train(tmp_path, k=2, run=run, batches=batches, data_seconds=50, **options)
    rows = log.read_rows(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [4, 8, 12]
    # Sixteen images and two calls, eight seconds, from row to row; but the time of the
    # first call counts as compilation.
    rates = [row["perf/images_per_sec"] for row in rows]
    waits = [row["perf/data_wait_frac"] for row in rows]
    assert rates == [16 / 4, 16 / 8, 16 / 8]
    assert waits == [1 / 4, 2 / 8, 2 / 8]
    assert [row["perf/train_seconds"] for row in rows] == [108, 216, 324]
    assert rows[-1]["perf/data_seconds"] == 50


def test_the_steps_asked_for_are_profiled(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda path: calls.append(path))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: calls.append("stop"))
    trace = Trace((3, 7), tmp_path / "profile")
    for step in range(2, 13, 2):
        trace.reach(step, np.zeros(2))
        calls.append(step)
    assert calls == [2, str(tmp_path / "profile"), 4, 6, "stop", 8, 10, 12]


def test_no_handlers_outside_the_main_thread(monkeypatch):
    monkeypatch.setattr(signals.threading, "main_thread", lambda: None)
    before = signal.getsignal(signal.SIGTERM)
    with signals.StopRequest():
        assert signal.getsignal(signal.SIGTERM) is before
