"""Every step's row once, across stops and kills."""

import json
import sys

import numpy as np
import pytest

from jaxgan.training import log


def write(directory, steps, *, start=0) -> list[dict]:
    """Opens the log after step `start`, writes rows, returns what the file then has."""
    with log.MetricLog(directory, step=start) as rows:
        for step in steps:
            rows.write(step, {"train/gen_loss": step / 10})
    return log.read_rows(directory / "metrics.jsonl")


def steps_of(rows) -> list[int]:
    return [row["step"] for row in rows]


def test_a_row_is_one_json_object(tmp_path):
    rows = write(tmp_path, [5])
    text = (tmp_path / "metrics.jsonl").read_text()
    assert text == '{"step": 5, "train/gen_loss": 0.5}\n'
    assert rows == [{"step": 5, "train/gen_loss": 0.5}]


def test_rows_are_on_disk_at_once(tmp_path):
    with log.MetricLog(tmp_path, step=0) as rows:
        rows.write(1, {"a": 1.0})
        assert steps_of(log.read_rows(tmp_path / "metrics.jsonl")) == [1]


def test_resuming_drops_the_rows_that_will_come_again(tmp_path):
    write(tmp_path, range(1, 9))
    assert steps_of(write(tmp_path, [6, 7], start=5)) == [1, 2, 3, 4, 5, 6, 7]


def test_starting_afresh_drops_all_rows(tmp_path):
    write(tmp_path, range(1, 4))
    assert steps_of(write(tmp_path, [1], start=0)) == [1]


@pytest.mark.parametrize("torn", ['{"step": 3, "train/ge', '{"step": 3}', "\0\0\0"])
def test_a_row_torn_by_a_kill_is_dropped(tmp_path, torn):
    write(tmp_path, [1, 2])
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write(torn)
    assert steps_of(write(tmp_path, [3], start=2)) == [1, 2, 3]


def test_float32_values_survive_exactly(tmp_path):
    value = np.float32(1) / 3
    with log.MetricLog(tmp_path, step=0) as rows:
        rows.write(1, {"a": value})
    assert np.float32(log.read_rows(tmp_path / "metrics.jsonl")[0]["a"]) == value


def test_what_is_not_finite_is_null(tmp_path):
    with log.MetricLog(tmp_path, step=0) as rows:
        rows.write(1, {"eval/psnr": np.inf, "eval/ssim": np.nan})
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line) == {"step": 1, "eval/psnr": None, "eval/ssim": None}


def test_finds_best_and_last_among_the_rows_kept(tmp_path):
    with log.MetricLog(tmp_path, step=0) as rows:
        for step, ssim in enumerate([0.3, 0.8, np.nan, 0.5, 0.9], 1):
            rows.write(step, {"eval/ssim": ssim, "perf/train_seconds": step})
        rows.write(6, {"train/gen_loss": 0})
    with log.MetricLog(tmp_path, step=4) as rows:
        assert rows.best("eval/ssim", mode="max") == 0.8
        assert rows.best("eval/ssim", mode="min") == 0.3
        assert rows.best("eval/fid", mode="min") is None
        assert rows.last("perf/train_seconds", 0.0) == 4
        assert rows.last("perf/other", 7.0) == 7.0


def test_tensorboard_sees_the_same_values(tmp_path):
    write(tmp_path, [1, 2])
    (events,) = tmp_path.glob("events.out.tfevents.*")
    assert b"train/gen_loss" in events.read_bytes()


def test_tensorboard_is_not_needed(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert steps_of(write(tmp_path, [1])) == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_failing_events_do_not_end_a_run(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    with log.MetricLog(tmp_path, step=0) as rows:
        monkeypatch.setattr(rows._events, "add_scalar", fail)
        with pytest.warns(UserWarning, match="no more TensorBoard events: disk full"):
            rows.write(1, {"a": 1.0})
        rows.write(2, {"a": 1.0})
    assert steps_of(log.read_rows(tmp_path / "metrics.jsonl")) == [1, 2]


def test_other_processes_write_nothing(tmp_path, monkeypatch):
    write(tmp_path, [1, 2])
    monkeypatch.setattr(log.jax, "process_index", lambda: 1)
    with log.MetricLog(tmp_path, step=1) as rows:
        rows.write(2, {"a": 1.0})
        rows.sync()
        assert steps_of(rows.history) == [1]
    assert steps_of(log.read_rows(tmp_path / "metrics.jsonl")) == [1, 2]
