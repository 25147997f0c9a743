"""What the compiler is given: dtypes, transfers, reductions, memory."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan import convolution
from jaxgan.experiments import benchmark, games
from jaxgan.state import accumulate, rematerialise
from jaxgan.training import parallel


@functools.cache
def lowered(platform, dtype="float32", **options):
    """Returns the StableHLO of a call of two steps."""
    devices = jax.device_count()
    game = games.make_pix2pix(
        crop_size=32, width=4, batch_size=devices, dtype=dtype, **options
    )
    state = jax.eval_shape(game.init, jax.random.key(0))
    batches = next(benchmark.host_batches(game, devices, 2))
    if platform == "cpu":
        update = parallel.make_update(game.train_step, games.prepare)
        many = lambda x: jax.ShapeDtypeStruct((devices, *x.shape), x.dtype)  # noqa: E731
        args = jax.tree.map(many, state), parallel.shard(batches)
        return update.lower(*args, jax.random.key(0)), state

    def step(state, batch, key):
        return jax.vmap(
            lambda x: game.train_step(state, games.prepare(x, key), key),
            axis_name=parallel.AXIS,
        )(batch)

    batch = {name: x[:1] for name, x in batches.items()}
    traced = jax.jit(step).trace(state, batch, jax.random.key(0))
    return traced.lower(lowering_platforms=(platform,)), state


def test_bfloat16_leaves_no_convolution_in_float32():
    text = lowered("cuda", "bfloat16")[0].as_text()
    operands = re.findall(r"stablehlo\.convolution.*? : \((.*?)\) ->", text)
    assert len(operands) > 30
    assert all(x.count("xbf16>") == 2 for x in operands)
    assert "stablehlo.dot_general" not in text


def test_images_travel_as_they_are_stored():
    text = lowered("cpu")[0].as_text()
    (arguments,) = re.findall(r"func public @main\((.*?)\) ->", text)
    images = [x for x in arguments.split("%arg") if "x32x32x1x" in x]
    assert len(images) == 2 and all("xui8>" in x for x in images)


def test_each_gradient_is_reduced_once_and_nothing_else_is_large():
    program, state = lowered("cpu", norm="instance")
    gradients = sum(
        4 * leaf.size
        for player in (state.gen, state.disc)
        for leaf in jax.tree.leaves(player.params)
    )
    reduced = benchmark.reduced_bytes(program.as_text())
    metrics = 6 * 4
    assert reduced == gradients + metrics


@pytest.mark.parametrize("platform", ["cpu", "cuda"])
def test_no_step_calls_back_to_the_host(platform):
    text = lowered(platform)[0].as_text()
    assert "callback" not in text
    assert "outfeed" not in text and "send" not in text


def test_rematerialising_computes_no_convolution_twice():
    program, _ = lowered("cuda", remat=True)
    convolutions = [
        x[0].as_text().count("stablehlo.convolution")
        for x in (lowered("cuda"), (program,))
    ]
    assert convolutions[0] == convolutions[1]
    assert "optimization_barrier" in program.as_text()
    assert "optimization_barrier" not in lowered("cuda")[0].as_text()


def test_rematerialised_gradients_are_the_same():
    image, kernel = jnp.ones((1, 4, 4, 2)), jnp.full((3, 3, 2, 2), 0.1)

    def apply(kernel):
        x = convolution.conv(image, kernel, stride=1, padding=((1, 1), (1, 1)))
        return jnp.sum(jnp.tanh(x) ** 2)

    grads = [jax.grad(f)(kernel) for f in (apply, rematerialise(apply))]
    np.testing.assert_allclose(*grads, rtol=1e-6)


def test_accumulated_steps_make_one_move_by_their_mean_gradient():
    tx = accumulate(optax.sgd(1.0), 2)
    params = {"w": jnp.zeros(3)}
    state = tx.init(params)
    for gradient in (np.array([1.0, 2, 3]), np.array([3.0, 2, 5])):
        assert not np.any(params["w"])
        updates, state = tx.update({"w": jnp.asarray(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["w"], [-2.0, -2.0, -4.0])
    same = optax.sgd(1.0)
    assert accumulate(same, 1) is same
