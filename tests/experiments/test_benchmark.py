"""The benchmark measures what it says it does, on games of the smallest size."""

import importlib.util
import json

import jax
import numpy as np
import pytest

from jaxgan.errors import UserError
from jaxgan.experiments import benchmark, cost_curves, games

SMALL = {"sizes": "32", "batches": "4", "widths": "2", "windows": 2, "seconds": 0.01}


def test_a_case_is_measured_beside_its_peer_and_written(tmp_path):
    peer = "torch" if importlib.util.find_spec("torch") else "none"
    config = benchmark.Config(
        output=str(tmp_path), steps_per_call=2, peer=peer, **SMALL
    )
    benchmark.main(config=config)
    (case,) = json.loads((tmp_path / "benchmark.json").read_text())
    assert (case["method"], case["size"], case["batch"]) == ("pix2pix", 32, 4)
    assert (
        0
        < case["images_per_sec_min"]
        <= case["images_per_sec"]
        <= case["images_per_sec_max"]
    )
    assert case["flops"] > 0 and 0 < case["fraction_of_peak"]
    assert 0 <= case["data_wait_frac"] <= 1
    if peer == "torch":  # which computed the same losses, or this had ended
        assert 0 < case["ratio_min"] <= case["ratio_median"] <= case["ratio_max"]
    assert (tmp_path / "benchmark.png").stat().st_size > 1000
    # The state is donated: what is new of an update's output are its metrics.
    assert case["copied_state_bytes"] < 0.01 * case["peak_bytes"]


def test_flops_are_those_of_the_native_convolutions():
    """Twice the batch is twice the work, but for what the optimisers do."""
    counts = []
    for batch in (4, 8):
        game = games.make_pix2pix(crop_size=32, width=8, batch_size=batch)
        state = jax.eval_shape(game.init, jax.random.key(0))
        batches = next(benchmark.host_batches(game, batch, 1))
        counts.append(benchmark.count_flops(game, state, batches))
    assert 1.5 < counts[1] / counts[0] <= 2.0


def test_losses_that_differ_end_the_comparison():
    metrics = {"gen_loss": np.ones(1), "disc_loss": np.ones(1)}
    benchmark.check_losses(metrics, {"gen_loss": 1.0, "disc_loss": 1.0}, "float32")
    with pytest.raises(UserError, match="disc_loss of the first step: 1.0 here, 1.01"):
        benchmark.check_losses(metrics, {"gen_loss": 1.0, "disc_loss": 1.01}, "float32")


@pytest.mark.parametrize("method", games.GAMES)
def test_every_game_can_be_built_and_drawn(method):
    game = games.GAMES[method](crop_size=64, width=2, batch_size=2)
    batch = game.draw(np.random.default_rng(0), 2)
    state = jax.eval_shape(game.init, jax.random.key(0))
    assert {x.dtype for x in batch.values()} == {np.dtype(np.uint8)}
    assert (state.disc is None) == (method in ("search", "denoise"))


def test_lists_are_lists():
    with pytest.raises(ValueError, match="--sizes=big"):
        benchmark.Config(sizes="big")
    with pytest.raises(ValueError, match="--dtypes=float16"):
        benchmark.Config(dtypes="float16")


def test_cost_curves_find_overhead_and_rate(tmp_path):
    cases = [
        {
            "method": "pix2pix",
            "dtype": "float32",
            "size": 32,
            "batch": batch,
            "flops": 1e9 * batch,
            "images_per_sec": batch / (0.002 + batch * 1e9 / 50e9),
            "peak_bytes": 2**20 * batch,
        }
        for batch in (1, 2, 8)
    ]
    (tmp_path / "benchmark.json").write_text(json.dumps(cases))
    picture = tmp_path / "curves.png"
    config = cost_curves.Config(results=str(tmp_path), output=str(picture))
    overhead, rate = cost_curves.main(config=config)["pix2pix float32"]
    np.testing.assert_allclose([overhead, rate], [0.002, 50e9], rtol=1e-6)
    assert picture.stat().st_size > 1000
    with pytest.raises(UserError, match="does not exist"):
        cost_curves.main(config=cost_curves.Config(results=str(tmp_path / "no")))
