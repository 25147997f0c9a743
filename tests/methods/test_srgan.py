"""The train step of SRGAN in its two stages: who moves, in which order, against what.

Players are linear with running statistics that count, so that a step can be written
down; the main's tests play with real networks.
"""

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from absl.testing import parameterized

from jaxgan import bicubic, losses, state
from jaxgan.methods import srgan

GEN_TX, DISC_TX = optax.sgd(0.3), optax.sgd(0.2)
WEIGHT, TV = 0.1, 0.01


class Counting(nn.Module):
    """Keeps the mean of what it has seen in training."""

    @nn.compact
    def __call__(self, x, *, train):
        seen = self.variable("batch_stats", "seen", lambda: jnp.zeros(()))
        if train and not self.is_initializing():
            seen.value = 0.5 * seen.value + jnp.mean(x)
        return x


class LinearGenerator(nn.Module):
    """Pixels repeated twice, times a weight."""

    @nn.compact
    def __call__(self, image, *, train):
        image = Counting(name="norm")(image, train=train)
        image = jnp.repeat(jnp.repeat(image, 2, axis=1), 2, axis=2)
        return image * self.param("w", nn.ones, (1, 1, 1, 1))


class SquareDiscriminator(nn.Module):
    """The mean square of an image times a weight, and another."""

    @nn.compact
    def __call__(self, image, *, train):
        image = Counting(name="norm")(image, train=train)
        power = jnp.mean(image**2, axis=(1, 2))
        slope = self.param("v", nn.ones, (1, 1))
        return power * slope + self.param("c", nn.ones, (1, 1))


def make_toy(*, adversarial=True, content="pixel", **options):
    """Returns `(train_step, state, batch)` of a linear game; the step is compiled."""
    gen, disc = LinearGenerator(), SquareDiscriminator() if adversarial else None
    options = {"adversarial_weight": WEIGHT, "tv_weight": TV} | options
    train_step = srgan.make_train_step(
        gen,
        disc,
        GEN_TX,
        DISC_TX,
        content=srgan.content_loss(content),
        gan=losses.vanilla(),
        **options,
    )
    axis_name = options.get("axis_name")
    if axis_name is not None:
        train_step = jax.vmap(train_step, (None, 0, None), axis_name=axis_name)
    one = lambda x: np.full((1, 1), x, np.float32)  # noqa: E731
    params = {"w": one(0.4).reshape(1, 1, 1, 1)}, {"v": one(-0.7), "c": one(0.2)}
    stats = {"norm": {"seen": np.float32(0.5)}}
    gen_player = state.Player(params[0], stats, GEN_TX.init(params[0]))
    disc_player = state.Player(params[1], stats, DISC_TX.init(params[1]))
    rng = np.random.default_rng(0)
    start = state.GANState(
        np.int32(0),
        gen_player,
        disc_player if adversarial else None,
        ema=gen_player.params,
    )
    batch = {
        "source": rng.uniform(0, 1, (4, 3, 3, 1)).astype(np.float32),
        "target": rng.uniform(-1, 1, (4, 6, 6, 1)).astype(np.float32),
    }
    return jax.jit(train_step), start, batch


def naive_step(start, batch, *, adversarial=True):
    """Plays one step in the paper's words, with two passes through the generator."""
    source, target = batch["source"], batch["target"]
    large = np.kron(source, np.ones((1, 2, 2, 1), np.float32))

    def judge(disc, image):
        power = jnp.mean(image**2, axis=(1, 2))
        return jax.nn.sigmoid(power * disc["v"] + disc["c"])

    def disc_loss(disc):
        fake = large * start.gen.params["w"]
        on_real = -jnp.mean(jnp.log(judge(disc, target)))
        return on_real - jnp.mean(jnp.log(1 - judge(disc, fake)))

    def gen_loss(gen, disc):
        fake = large * gen["w"]
        loss = jnp.mean((fake - target) ** 2)
        edges = [jnp.sum((fake[:, 1:] - fake[:, :-1]) ** 2)]
        edges.append(jnp.sum((fake[:, :, 1:] - fake[:, :, :-1]) ** 2))
        loss += TV * sum(edges) / len(fake)
        if disc is not None:
            loss -= WEIGHT * jnp.mean(jnp.log(judge(disc, fake)))
        return loss

    disc, result = None, {}
    if adversarial:
        disc = start.disc.params
        result["disc_loss"], grads = jax.value_and_grad(disc_loss)(disc)
        disc = jax.tree.map(lambda p, g: p - 0.2 * g, disc, grads)
    result["gen_loss"], grads = jax.value_and_grad(gen_loss)(start.gen.params, disc)
    gen = jax.tree.map(lambda p, g: p - 0.3 * g, start.gen.params, grads)
    return result | {"gen": gen, "disc": disc}


class StepTest(parameterized.TestCase):
    @parameterized.parameters(True, False)
    def test_equals_the_naive_step(self, adversarial):
        train_step, start, batch = make_toy(adversarial=adversarial)
        after, metrics = train_step(start, batch, jax.random.key(1))
        naive = naive_step(start, batch, adversarial=adversarial)
        chex.assert_trees_all_close(after.gen.params, naive["gen"], rtol=1e-5)
        assert np.isclose(metrics["gen_loss"], naive["gen_loss"])
        if adversarial:
            chex.assert_trees_all_close(after.disc.params, naive["disc"], rtol=1e-5)
            assert np.isclose(metrics["disc_loss"], naive["disc_loss"])
        else:
            assert after.disc is None
            assert "disc_loss" not in metrics
        assert after.step == 1

    def test_statistics_are_carried_on(self):
        """G's over its one pass, D's over the real images and then the fakes."""
        train_step, start, batch = make_toy()
        after, _ = train_step(start, batch, jax.random.key(1))
        source, target = batch["source"].mean(), batch["target"].mean()
        gen, disc = (p.stats["norm"]["seen"] for p in (after.gen, after.disc))
        np.testing.assert_allclose(gen, 0.25 + source, rtol=1e-5)
        expected = 0.5 * (0.25 + target) + 0.4 * source
        np.testing.assert_allclose(disc, expected, rtol=1e-5)

    def test_the_game_draws_the_generator_to_what_looks_real(self):
        still = {"adversarial_weight": 0.0, "tv_weight": 0.0}
        rates = []
        for options in (still, {"tv_weight": 0.0, "adversarial_weight": 10.0}):
            train_step, start, batch = make_toy(**options)
            after, _ = train_step(start, batch, jax.random.key(1))
            rates.append(float(after.gen.params["w"].item() - 0.4))
        # D finds weak images real here: the game makes the weight smaller.
        assert rates[1] < rates[0] - 0.01

    def test_the_average_follows_the_generator(self):
        train_step, start, batch = make_toy(ema_decay=0.9)
        after, _ = train_step(start, batch, jax.random.key(1))
        mixed = 0.1 * start.ema["w"] + 0.9 * after.gen.params["w"]
        np.testing.assert_allclose(after.ema["w"], mixed, rtol=1e-5)

    def test_devices_agree_with_one_that_takes_the_whole_batch(self):
        options = {"ema_decay": 0.9, "tv_weight": 0.0}
        train_step, start, batch = make_toy(**options)
        whole = train_step(start, batch, jax.random.key(1))
        train_step, *_ = make_toy(**options, axis_name="devices")
        parts = {k: x.reshape(4, 1, *x.shape[1:]) for k, x in batch.items()}
        split = train_step(start, parts, jax.random.key(1))
        for device in range(4):
            one = jax.tree.map(lambda x, device=device: x[device], split)
            chex.assert_trees_all_close(one[1], whole[1], rtol=1e-5)
            for player in ("gen", "disc"):
                params = [getattr(s, player).params for s in (one[0], whole[0])]
                chex.assert_trees_all_close(*params, rtol=1e-5)


class ContentTest(parameterized.TestCase):
    def test_features_are_scaled_and_summed_over_channels(self):
        """With weights of zero and biases of b, every channel of a map is b."""
        features = {
            name: {"kernel": np.zeros((3, 3, i, o), "f4"), "bias": np.zeros(o, "f4")}
            for name, i, o in (
                ("conv1_1", 3, 64),
                ("conv1_2", 64, 64),
                ("conv2_1", 64, 128),
                ("conv2_2", 128, 128),
            )
        }
        # From the first channel of the image straight through to the last map.
        for name in features:
            features[name]["kernel"][1, 1, 0, 0] = 1
        content = jax.jit(srgan.content_loss("vgg22"))
        bright, dark = np.ones((1, 4, 4, 1), "f4"), np.zeros((1, 4, 4, 1), "f4")
        # In [0, 1] they are 1 and 1/2, of mean .485 and deviation .229.
        difference = (1 - 0.5) / 0.229 / 12.75
        np.testing.assert_allclose(
            content(features, bright, dark), difference**2, rtol=1e-4
        )

    def test_pixels_need_no_features(self):
        content = srgan.content_loss("pixel")
        assert content(None, jnp.ones((1, 2, 2, 1)), jnp.zeros((1, 2, 2, 1))) == 1


class OptimizersTest(parameterized.TestCase):
    @parameterized.parameters(
        ("pretrain", [1, 1, 1, 1]), ("adversarial", [1, 1, 0.1, 0.1])
    )
    def test_the_rate_drops_in_the_second_stage_only(self, stage, expected):
        config = srgan.Config(stage=stage, learning_rate=1.0, beta1=0.0)
        for tx in srgan.optimizers(config, steps=4):
            opt_state, updates = tx.init(jnp.zeros(())), []
            for _ in range(4):
                update, opt_state = tx.update(jnp.ones(()), opt_state)
                updates.append(-float(update))
            np.testing.assert_allclose(updates, expected, rtol=1e-4)


class PrepareTest(parameterized.TestCase):
    def prepare(self, batch, **options):
        config = srgan.Config(scale=2, crop_size=8, flip="both", rotate=True)
        bounds = {"low": 0.0, "high": 4.0}
        low, high = (
            {role: jnp.full(1, x) for role in ("source", "target")}
            for x in bounds.values()
        )
        prepare = srgan.make_prepare(config, low=low, high=high)
        return jax.jit(prepare)(batch, jax.random.key(0))

    def test_sources_are_made_of_targets(self):
        image = np.random.default_rng(0).uniform(0, 4, (8, 8, 8, 1)).astype("f4")
        batch = self.prepare({"image": image})
        expected = bicubic.resize(batch["target"], factor=1 / 2)
        np.testing.assert_allclose(batch["source"], expected, atol=1e-5)
        assert batch["source"].shape == (8, 4, 4, 1)
        assert (np.asarray(batch["target"]) != image / 2 - 1).any()

    def test_real_pairs_stay_pairs(self):
        source = np.random.default_rng(0).uniform(0, 4, (8, 4, 4, 1)).astype("f4")
        target = np.kron(source, np.ones((1, 2, 2, 1), "f4"))
        batch = self.prepare({"source": source, "target": target})
        large = np.kron(batch["source"], np.ones((1, 2, 2, 1), "f4"))
        np.testing.assert_allclose(batch["target"], large, atol=1e-6)


def test_lowers_for_every_platform():
    """The step of real networks, traced but not compiled here."""
    config = srgan.Config(
        stage="adversarial",
        scale=2,
        crop_size=16,
        width=2,
        num_blocks=1,
        content="vgg22",
        disc_head="pooled",
        ema_decay=0.9,
        dtype="bfloat16",
    )
    networks = srgan.networks(config, out_channels=1)
    optimizers = srgan.optimizers(config, steps=10)
    widths = (3, 64, 64, 128, 128)
    features = {
        f"conv{i}_{j}": {
            "kernel": jax.ShapeDtypeStruct((3, 3, a, b), jnp.float32),
            "bias": jax.ShapeDtypeStruct((b,), jnp.float32),
        }
        for i, j, a, b in zip(
            (1, 1, 2, 2), (1, 2, 1, 2), widths[:-1], widths[1:], strict=True
        )
    }
    start = jax.eval_shape(
        lambda key, features: srgan.init(
            config, networks, optimizers, key, 1, features=features
        ),
        jax.random.key(0),
        features,
    )
    step = srgan.make_train_step(
        *networks,
        *optimizers,
        content=srgan.content_loss("vgg22"),
        gan=losses.vanilla(),
    )
    batch = {
        "source": jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32),
        "target": jax.ShapeDtypeStruct((2, 16, 16, 1), jnp.float32),
    }
    export = jax.export.export(jax.jit(step), platforms=["cpu", "cuda", "tpu"])
    exported = export(start, batch, jax.random.key(0))
    assert set(exported.platforms) == {"cpu", "cuda", "tpu"}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"scale": 3}, "--scale=3 is none of"),
        ({"crop_size": 98}, "does not divide by --scale=4"),
        ({"vgg_weights": "x"}, "goes with --content=vgg54"),
        ({"drop_fraction": 1.5}, "not in"),
    ],
)
def test_what_cannot_train_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        srgan.Config(**options)
