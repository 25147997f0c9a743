"""The training step of supervised denoisers."""

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan import noise
from jaxgan.methods import supervised
from jaxgan.state import GANState
from jaxgan.training import parallel
from tests import games

CONFIG = supervised.Config(
    crop_size=16, batch_size=4, network="dncnn", depth=3, width=4, bias=False
)
MODEL = noise.parse("gaussian:0.3")
KEY = 5


def make_step(axis_name=None):
    (gen,) = supervised.networks(CONFIG, out_channels=1, axis_name=axis_name)
    return supervised.make_train_step(
        gen, games.TX, model=MODEL, ema_decay=0.9, axis_name=axis_name
    )


def draw_batch():
    y, x = np.mgrid[:16, :16]
    waves = [0.5 + 0.4 * np.sin(x / (2 + i)) * np.cos(y / 3) for i in range(4)]
    return {"image": np.stack(waves)[..., None].astype("f4")}


def draw_state(rate=0.05):
    (gen,) = supervised.networks(CONFIG, out_channels=1)
    player = games.draw_player(gen, draw_batch()["image"], seed=1, rate=rate)
    return GANState(jnp.int32(0), player, None, ema=player.params)


@pytest.fixture(scope="module")
def step():
    return games.compiled_once(make_step)


def test_the_loss_is_that_of_images_with_this_noise_and_falls(step):
    state, batch = draw_state(), draw_batch()
    losses = []
    for _ in range(30):
        state, metrics = step(state, batch, jax.random.key(KEY))
        losses.append(float(metrics["gen_loss"]))
        assert float(metrics["noise"]) == pytest.approx(0.09, rel=0.2)
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    assert int(state.step) == 30 and state.disc is None
    assert state.gen.stats["norm1"]["var"].min() > 0


def test_one_step_by_hand(step):
    """Noise from the example's key and the step; SGD on the mean squared error."""
    state, batch = draw_state(), draw_batch()
    (gen,) = supervised.networks(CONFIG, out_channels=1)
    key = jax.random.fold_in(jax.random.key(KEY), 0)
    keys = [jax.random.fold_in(key, i) for i in range(4)]
    drawn = [jax.random.normal(k, (16, 16, 1)) for k in keys]
    noisy = batch["image"] + 0.3 * np.stack(drawn)

    def loss(params):
        variables = {"params": params, "batch_stats": state.gen.stats}
        clean, _ = gen.apply(variables, noisy, train=True, mutable=["batch_stats"])
        return jnp.mean((clean - batch["image"]) ** 2)

    value, grads = jax.jit(jax.value_and_grad(loss))(state.gen.params)
    after, metrics = step(state, batch, jax.random.key(KEY))
    assert float(metrics["gen_loss"]) == pytest.approx(float(value), rel=1e-5)
    jax.tree.map(
        lambda new, old, g: np.testing.assert_allclose(new, old - 0.05 * g, atol=1e-6),
        after.gen.params,
        state.gen.params,
        grads,
    )
    warm = 1 / 10  # the decay of the average at step 0
    jax.tree.map(
        lambda ema, old, new: np.testing.assert_allclose(
            ema, warm * old + (1 - warm) * new, atol=1e-6
        ),
        after.ema,
        state.gen.params,
        after.gen.params,
    )


def test_noise_is_new_at_every_step(step):
    state, batch = draw_state(rate=0.0), draw_batch()
    _, first = step(state, batch, jax.random.key(KEY))
    later = state.replace(step=jnp.int32(1))
    _, second = step(later, batch, jax.random.key(KEY))
    assert float(first["gen_loss"]) != float(second["gen_loss"])


def test_four_devices_do_what_one_does(step):
    state, batch = draw_state(), draw_batch()
    update = parallel.make_update(make_step(parallel.AXIS), lambda batch, key: batch)
    key = jax.random.key(KEY)
    many, metrics = update(
        parallel.replicate(state), parallel.shard({"image": batch["image"][None]}), key
    )
    _, step_key = jax.random.split(jax.random.fold_in(key, 0))
    one, alone = step(state, batch, step_key)
    assert float(metrics["gen_loss"][0]) == pytest.approx(float(alone["gen_loss"]))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        parallel.unreplicate(many),
        one,
    )


def test_lowers_for_every_platform():
    lowered = jax.export.export(jax.jit(make_step()), platforms=["cpu", "cuda", "tpu"])(
        draw_state(), draw_batch(), jax.random.key(0)
    )
    assert lowered.platforms == ("cpu", "cuda", "tpu")


def test_stored_images_become_intensities():
    prepare = supervised.make_prepare(CONFIG, low=jnp.zeros(1), high=jnp.full(1, 255.0))
    image = np.full((2, 4, 4, 1), 51, np.uint8)
    batch = prepare({"image": image}, jax.random.key(0))
    np.testing.assert_allclose(batch["image"], 0.2, atol=1e-6)


def test_rates_fall_to_zero():
    tx = supervised.optimizer(supervised.Config(learning_rate=0.1), steps=4)
    params, sizes = jnp.zeros(()), []
    state = tx.init(params)
    for _ in range(4):
        update, state = tx.update(jnp.ones(()), state)
        sizes.append(-float(update))
    cosine = 0.05 * (1 + np.cos(np.pi * np.arange(4) / 4))
    np.testing.assert_allclose(sizes, cosine, rtol=1e-4)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"noise": "none"}, "leaves nothing to learn"),
        ({"noise": "salt"}, "--noise: noise is"),
        ({"scales": 5}, "must be 4 or 6"),
        ({"scales": 6, "crop_size": 32}, "below the 64 pixels"),
    ],
)
def test_what_cannot_train_is_said(options, message):
    with pytest.raises(ValueError, match=message):
        supervised.Config(**options)
