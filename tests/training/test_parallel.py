"""Devices: many train as one does, the state stays where it is, processes join."""

import functools
import os
import pathlib
import socket
import subprocess
import sys
from unittest import mock

import jax
import numpy as np
import parallel_worker as worker
import pytest
from absl.testing import parameterized

from jaxgan.errors import UserError
from jaxgan.training import parallel

ROOT = pathlib.Path(__file__).parents[2]


@functools.cache
def train(norm, *, devices, steps_per_call):
    """Returns the state and the metrics `[steps]` of a short game, each flat.

    On one device the same update is given states and batches with one leading entry.
    """
    config = worker.make_config(norm)
    state, batches = worker.draw_state(config), worker.draw_batches(config)
    if devices == 1:
        place = lambda batch: jax.tree.map(lambda x: x[None], batch)  # noqa: E731
        state = place(jax.tree.map(np.asarray, state))
    else:
        place, state = parallel.shard, parallel.replicate(state)
    update, rows = make_update(norm), []
    for step in range(0, worker.STEPS, steps_per_call):
        batch = {k: x[step : step + steps_per_call] for k, x in batches.items()}
        state, metrics = update(state, place(batch), jax.random.key(5))
        assert {x.shape for x in metrics.values()} == {(steps_per_call,)}
        rows.append(np.stack([np.asarray(x) for x in metrics.values()], axis=-1))
    assert jax.tree.leaves(state)[0].shape[0] == devices
    return worker.flat(parallel.unreplicate(state)), np.concatenate(rows)


@functools.cache
def make_update(norm):
    return worker.make_update(worker.make_config(norm))


class DevicesTest(parameterized.TestCase):
    @parameterized.parameters(("batch", 1), ("batch", 4), ("instance", 4))
    def test_four_train_as_one(self, norm, steps_per_call):
        """With the same global batch, augmented; one step per call or four."""
        one = train(norm, devices=1, steps_per_call=1)
        four = train(norm, devices=4, steps_per_call=steps_per_call)
        for actual, expected in zip(four, one, strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)

    def test_training_moves_the_state(self):
        """Or the others would compare nothing."""
        before = worker.flat(worker.draw_state(worker.make_config("batch")))
        after, _ = train("batch", devices=4, steps_per_call=1)
        assert np.mean(np.abs(after - before) > 1e-3) > 0.5


class DonationTest(parameterized.TestCase):
    def test_the_state_is_updated_where_it_lies(self):
        config, update = worker.make_config("batch"), make_update("batch")
        batch = {k: x[:1] for k, x in worker.draw_batches(config).items()}
        batch, key = parallel.shard(batch), jax.random.key(5)
        state = parallel.replicate(worker.draw_state(config))
        before, _ = update(state, batch, key)
        assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
        # What lay in the host's memory had to be copied once; from now on nothing is.
        places = places_on_first_device(before)
        after, _ = update(before, batch, key)
        assert places_on_first_device(after) == places


def places_on_first_device(tree):
    """Returns the addresses of a tree's buffers."""
    leaves = [leaf.addressable_data(0) for leaf in jax.tree.leaves(tree)]
    return {leaf.unsafe_buffer_pointer() for leaf in leaves}


class LayoutTest(parameterized.TestCase):
    def test_replicas_are_equal_and_come_back(self):
        tree = {"w": np.arange(6.0, dtype=np.float32).reshape(2, 3), "n": np.int32(7)}
        copies = parallel.replicate(tree)
        assert copies["w"].shape == (4, 2, 3)
        assert copies["n"].shape == (4,)
        assert len(copies["w"].sharding.device_set) == 4
        for device in range(4):
            np.testing.assert_array_equal(copies["w"][device], tree["w"])
        back = parallel.unreplicate(copies)
        assert isinstance(back["w"], np.ndarray)
        np.testing.assert_array_equal(back["w"], tree["w"])
        np.testing.assert_array_equal(back["n"], 7)

    def test_shards_take_examples_in_order(self):
        """Device d has the examples d B/D .. (d+1) B/D of each of K steps."""
        batch = {"source": np.arange(2 * 8).reshape(2, 8, 1)}
        shards = parallel.shard(batch)["source"]
        assert shards.shape == (4, 2, 2, 1)
        expected = [[[0, 1], [8, 9]], [[2, 3], [10, 11]]]
        np.testing.assert_array_equal(shards[:2, ..., 0], expected)

    @parameterized.parameters(0, 1, 2, 5)
    def test_prefetching_keeps_every_batch_and_the_order(self, count):
        taken = []

        def batches():
            for index in range(count):
                taken.append(index)
                yield {"x": np.full((1, 4), index)}

        ahead = []
        for index, batch in enumerate(parallel.prefetch(batches(), size=2)):
            ahead.append(len(taken) - index)
            np.testing.assert_array_equal(batch["x"], np.full((4, 1, 1), index))
        assert len(ahead) == len(taken) == count
        assert max(ahead, default=0) <= 3

    def test_batches_must_divide(self):
        parallel.check_batch_size(8)
        with pytest.raises(UserError, match="--batch_size=6 .* over 4 devices"):
            parallel.check_batch_size(6)


class InitializeTest(parameterized.TestCase):
    @parameterized.parameters(
        ("on", {}, 1),
        ("off", {"JAX_COORDINATOR_ADDRESS": "here:1"}, 0),
        ("auto", {}, 0),
        ("auto", {"JAX_COORDINATOR_ADDRESS": "here:1"}, 1),
        ("auto", {"SLURM_STEP_NODELIST": "node[1-2]"}, 1),
    )
    def test_joins_when_asked_or_launched(self, mode, environment, calls):
        with (
            mock.patch.dict(os.environ, environment, clear=True),
            mock.patch.object(jax.distributed, "initialize") as join,
        ):
            parallel.initialize(mode)
        assert join.call_count == calls

    def test_alone_is_first(self):
        assert parallel.is_first_process()


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    """Two processes of two devices each, joined as a launcher joins them."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": "2",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    path = tmp_path / "first.npz"
    command = [sys.executable, worker.__file__, str(path)]
    processes = [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment | {"JAX_PROCESS_ID": str(index)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    try:
        errors = [process.communicate(timeout=300)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], errors
    state, metrics = train("batch", devices=1, steps_per_call=1)
    with np.load(path) as first:
        np.testing.assert_allclose(first["state"], state, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(first["metrics"], metrics, rtol=1e-5, atol=1e-5)
