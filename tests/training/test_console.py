"""What the start, the progress and the end of a run print."""

import numpy as np

from jaxgan.training import console

PARAMS = {
    "conv": {"kernel": np.zeros((3, 4), np.float32)},
    "head": np.zeros(1000, "f4"),
}


def test_start_up_tells_devices_batch_and_parameters(capsys):
    console.start_up(
        {"gen": PARAMS, "disc": {"conv": PARAMS["conv"]}},
        batch_size=8,
        steps_per_call=2,
        start_step=10,
        total_steps=30,
    )
    text = capsys.readouterr().out
    for part in ("4 x cpu", "8 images, 2 per device", "2 step(s)", "10 to 30", "1,012"):
        assert part in text


def test_results_stand_in_one_table(capsys):
    rows = {"input": {"psnr": 11.0, "ssim": 0.25}, "prediction": {"psnr": 20.5}}
    console.result_table("held-out images", rows)
    lines = capsys.readouterr().out.splitlines()
    assert any("psnr" in line and "ssim" in line for line in lines)
    assert any("prediction" in line and "20.5" in line for line in lines)


def test_progress_without_a_terminal_is_lines_now_and_then(capsys, monkeypatch):
    now = 100.0
    monkeypatch.setattr(console.time, "monotonic", lambda: now)
    with console.Progress(0, 40) as progress:
        for step in range(1, 41):
            now += 1
            row = {"train/gen_loss": 0.5, "perf/train_seconds": 3.0}
            progress.reach(step)
            progress.report(step, row | ({"eval/ssim": 0.75} if step == 20 else {}))
    lines = [x for x in capsys.readouterr().out.splitlines() if x]
    assert 5 < len(lines) < 12
    assert lines[0] == "step 6/40  gen_loss 0.5  0:00:34 left"
    assert any("step 20/40" in line and "ssim 0.75" in line for line in lines)
    assert lines[-1].startswith("step 40/40")


def test_other_processes_are_silent(capsys, monkeypatch):
    monkeypatch.setattr(console.jax, "process_index", lambda: 1)
    with console.Progress(0, 1) as progress:
        progress.say("hello")
        progress.report(1, {"a": 1.0})
    console.result_table("a", {"b": {"c": 1.0}})
    assert capsys.readouterr().out == ""
