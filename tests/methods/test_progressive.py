"""The train step of PGGAN: the game, its schedule, and what a stage moves."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import export

from jaxgan import losses
from jaxgan.methods import progressive
from jaxgan.state import GANState, Player
from tests import games

CONFIG = progressive.Config(
    crop_size=16,
    batch_size=4,
    batch_sizes="16:2",
    first_images=10,
    fade_images=20,
    stable_images=8,
    latent_dim=5,
    base_width=16,
    max_width=4,
)
STAGE = progressive.Stage(8, 4, first_step=3, fade_steps=4, last_step=10)
# With momentum, so that what an optimiser remembers shows.
GEN_TX, DISC_TX = optax.sgd(0.05, momentum=0.5), optax.sgd(0.02, momentum=0.5)
PARTS = {"gradient_penalty": 10.0, "drift": 0.1, "ema_decay": 0.9}


def make_step(stage=STAGE, axis_name=None):
    gen, disc = progressive.networks(
        CONFIG, out_channels=2, resolution=stage.resolution, axis_name=axis_name
    )
    return progressive.make_train_step(
        gen,
        disc,
        GEN_TX,
        DISC_TX,
        stage=stage,
        latent_dim=CONFIG.latent_dim,
        axis_name=axis_name,
        **PARTS,
    )


def play(*state_batch_key):
    return games.compiled_once(make_step)(*state_batch_key)


@functools.cache
def _weights():
    gen, disc = progressive.networks(CONFIG, out_channels=2)
    latent, image = np.zeros((1, 5), "f4"), np.zeros((1, 16, 16, 2), "f4")
    drawn = games.draw_variables(gen, latent, seed=1, alpha=1.0, train=False)
    drawn_disc = games.draw_variables(disc, image, seed=2, alpha=1.0, train=False)
    return tuple(jax.tree.map(_equalised, x["params"]) for x in (drawn, drawn_disc))


def _equalised(leaf):
    """Kernels of N(0, 1), as these layers store them."""
    return leaf if leaf.ndim == 1 else leaf * np.sqrt(leaf.size / leaf.shape[-1])


def make_state(step=5):
    gen, disc = _weights()
    players = [Player(gen, {}, GEN_TX.init(gen)), Player(disc, {}, DISC_TX.init(disc))]
    return GANState(jnp.int32(step), *players, ema=gen)


def make_batch(size=4, resolution=8):
    shape = (size, resolution, resolution, 2)
    return {"image": np.random.default_rng(0).uniform(-1, 1, shape).astype("f4")}


def naive_step(state, batch, key):
    """The game in the paper's words, with a forward of G for each player."""
    gen, disc = progressive.networks(CONFIG, out_channels=2, resolution=8)
    alpha = (state.step - STAGE.first_step) / STAGE.fade_steps
    latent_key, penalty_key = jax.random.split(jax.random.fold_in(key, state.step))
    keys = lambda key: [jax.random.fold_in(key, i) for i in range(4)]  # noqa: E731
    latent = jnp.stack([jax.random.normal(k, (5,)) for k in keys(latent_key)])
    mix = jnp.stack([jax.random.uniform(k) for k in keys(penalty_key)])
    mix = mix[:, None, None, None]
    real = batch["image"]
    coarse = real.reshape(4, 4, 2, 4, 2, 2).mean((2, 4)).repeat(2, 1).repeat(2, 2)
    real = (1 - alpha) * coarse + alpha * real
    make = lambda p: gen.apply({"params": p}, latent, alpha, train=True)  # noqa: E731
    judge = lambda p, x: disc.apply({"params": p}, x, alpha, train=True)  # noqa: E731

    def disc_loss(params):
        fake = make(state.gen.params)
        on_real, on_fake = judge(params, real), judge(params, fake)
        mixed = mix * real + (1 - mix) * fake
        slopes = jax.grad(lambda x: judge(params, x).sum())(mixed)
        norms = jnp.sqrt(jnp.sum(slopes**2, axis=(1, 2, 3)))
        loss = on_fake.mean() - on_real.mean() + 10 * jnp.mean((norms - 1) ** 2)
        return loss + 0.1 * jnp.mean(on_real**2)

    d_loss, grads = jax.value_and_grad(disc_loss)(state.disc.params)
    moved = jax.tree.map(lambda p, g: p - 0.02 * g, state.disc.params, grads)
    gen_loss = lambda p: -judge(moved, make(p)).mean()  # noqa: E731
    g_loss, grads = jax.value_and_grad(gen_loss)(state.gen.params)
    answered = jax.tree.map(lambda p, g: p - 0.05 * g, state.gen.params, grads)
    return answered, moved, g_loss, d_loss


def test_equals_the_naive_step():
    state, batch, key = make_state(), make_batch(), jax.random.key(1)
    after, metrics = play(state, batch, key)
    gen, disc, g_loss, d_loss = jax.jit(naive_step)(state, batch, key)
    chex.assert_trees_all_close(after.gen.params, gen, rtol=1e-4, atol=1e-5)
    chex.assert_trees_all_close(after.disc.params, disc, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(metrics["gen_loss"], g_loss, rtol=1e-4)
    np.testing.assert_allclose(metrics["disc_loss"], d_loss, rtol=1e-4)
    assert metrics["alpha"] == 0.5
    mix = lambda old, new: old + (1 - 6 / 15) * (new - old)  # noqa: E731
    expected = jax.tree.map(mix, state.ema, after.gen.params)
    chex.assert_trees_all_close(after.ema, expected, rtol=1e-5, atol=1e-6)


def test_a_stage_moves_what_it_needs_and_nothing_else():
    state = make_state()
    after, _ = play(state, make_batch(), jax.random.key(1))
    for player in ("gen", "disc"):
        old, new = (getattr(s, player).params for s in (state, after))
        for name in old:
            still = name.endswith(("16", "16_0", "16_1"))
            moved = (old[name]["kernel"] != new[name]["kernel"]).any()
            assert moved != still, (player, name)


def test_optimisers_start_anew_at_the_first_step_of_a_stage_only():
    step, batch, key = play, make_batch(), jax.random.key(1)
    used = step(make_state(5), batch, key)[0]
    begun = step(used.replace(step=jnp.int32(3)), batch, key)[0]
    fresh = make_state(3).replace(ema=used.ema)
    fresh = fresh.replace(
        gen=fresh.gen.replace(params=used.gen.params),
        disc=fresh.disc.replace(params=used.disc.params),
    )
    chex.assert_trees_all_equal(begun, step(fresh, batch, key)[0])
    later = step(used, batch, key)[0]
    forgetful = step(fresh.replace(step=used.step), batch, key)[0]
    for player, rate in (("gen", 0.05), ("disc", 0.02)):
        old, new, other = (getattr(s, player) for s in (used, later, forgetful))
        memory = old.opt_state[0].trace["conv4"]["bias"]
        values = [x.params["conv4"]["bias"] for x in (new, other)]
        if player == "disc":  # the generator answers another discriminator
            np.testing.assert_allclose(
                values[0], values[1] - rate * 0.5 * memory, atol=1e-6
            )
        assert (values[0] != values[1]).any()


def test_one_program_serves_the_whole_stage():
    """Resumed steps repeat; each has fresh noise and its own alpha."""
    step, batch, key = play, make_batch(), jax.random.key(1)
    state, alphas = make_state(3), []
    for _ in range(3):
        before = state
        state, metrics = step(before, batch, key)
        alphas.append(float(metrics["alpha"]))
    assert alphas == [0.0, 0.25, 0.5]
    chex.assert_trees_all_equal(step(before, batch, key)[0], state)
    again = step(before.replace(step=jnp.int32(9)), batch, key)[1]
    assert again["alpha"] == 1


def test_devices_agree_with_one_that_takes_the_whole_batch():
    batch, key, state = make_batch(), jax.random.key(1), make_state()
    whole = play(state, batch, key)
    step = make_step(axis_name="devices")
    parts = {"image": batch["image"].reshape(4, 1, 8, 8, 2)}
    split = jax.jit(jax.vmap(step, (None, 0, None), axis_name="devices"))(
        state, parts, key
    )
    for device in (0, 3):
        one = jax.tree.map(lambda x, device=device: x[device], split)
        chex.assert_trees_all_close(one, whole, rtol=1e-4, atol=1e-5)


def test_the_penalty_is_finite_where_the_gradient_is_zero():
    image = make_batch()["image"]
    keys = jax.random.split(jax.random.key(0), 4)

    def penalty(weight):
        judge = lambda x: (weight * x).sum((1, 2, 3))  # noqa: E731
        return losses.gradient_penalty(judge, image, -image, keys)

    value, slope = jax.value_and_grad(penalty)(0.0)
    np.testing.assert_allclose(value, 1, rtol=1e-5)
    assert np.isfinite(slope)


def test_reals_are_faded_as_fakes_are():
    image = make_batch()["image"]
    np.testing.assert_array_equal(progressive.fade_real(image, 1.0), image)
    coarse = progressive.fade_real(image, 0.0)
    np.testing.assert_array_equal(coarse[:, ::2, ::2], coarse[:, 1::2, 1::2])
    np.testing.assert_allclose(coarse.mean((1, 2)), image.mean((1, 2)), atol=1e-6)


def test_the_schedule_counts_images():
    found = progressive.stages(CONFIG)
    assert found == [
        progressive.Stage(4, 4, 0, 0, 3),  # 10 images in fours
        progressive.Stage(8, 4, 3, 5, 10),
        progressive.Stage(16, 2, 10, 10, 24),
    ]
    assert [float(found[1].alpha(s)) for s in (3, 4, 8, 9)] == [
        0.0, np.float32(0.2), 1.0, 1.0
    ]  # fmt: skip
    assert found[0].alpha(0) == 1
    paper = progressive.stages(progressive.Config(crop_size=1024))
    assert [s.batch_size for s in paper[-3:]] == [14, 6, 3]
    images = sum((s.last_step - s.first_step) * s.batch_size for s in paper)
    assert abs(images - 600_000 * 17) < 60


def test_prepare_shrinks_to_the_stage():
    prepare = progressive.make_prepare(
        CONFIG, low=jnp.zeros(2), high=jnp.full(2, 10.0), resolution=4
    )
    stored = np.random.default_rng(0).integers(0, 14, (2, 16, 16, 2), np.uint8)
    seen = prepare({"image": stored}, jax.random.key(0))["image"]
    clipped = np.clip(stored / 5.0 - 1, -1, 1)
    means = clipped.reshape(2, 4, 4, 4, 4, 2).mean((2, 4))
    np.testing.assert_allclose(seen, means, atol=1e-6)


def test_the_step_lowers_for_every_platform():
    shapes = jax.eval_shape(lambda: (make_state(), make_batch(), jax.random.key(0)))
    exported = export.export(jax.jit(make_step()), platforms=["cpu", "cuda", "tpu"])
    assert exported(*shapes).platforms == ("cpu", "cuda", "tpu")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"crop_size": 100}, "--crop_size=100"),
        ({"batch_sizes": "256=4"}, "--batch_sizes=256=4"),
        ({"stable_images": 0}, "one image or more"),
    ],
)
def test_configurations_that_cannot_train(options, message):
    with pytest.raises(ValueError, match=message):
        progressive.Config(**options)
