"""What surrounds the step: configuration, schedules, preparation, prediction."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized

from jaxgan import config as configs
from jaxgan import losses, state
from jaxgan.methods import pix2pix
from jaxgan.models import patch, unet
from tests import games


def shapes_of_game(config, networks, optimizers, *, channels=(1, 1), ema=False):
    """Returns the shapes of state and batch; nothing is computed."""
    side, size = config.crop_size, config.batch_size
    images = (
        jax.ShapeDtypeStruct((size, side, side, c), jnp.float32) for c in channels
    )
    batch = dict(zip(("source", "target"), images, strict=True))
    init = lambda key: pix2pix.init(networks, optimizers, key, **batch, ema=ema)  # noqa: E731
    return jax.eval_shape(init, jax.random.key(0)), batch


class ConfigTest(parameterized.TestCase):
    @parameterized.parameters(
        (256, 8), (512, 8), (384, 7), (128, 7), (64, 6), (16, 4), (6, 1)
    )
    def test_depth_is_the_most_that_divides(self, crop_size, depth):
        assert pix2pix.Config(crop_size=crop_size).depth == depth

    @parameterized.parameters((100, 8), (64, 7), (96, 6))
    def test_crops_must_divide(self, crop_size, depth):
        message = rf"--crop_size={crop_size} .*\(--depth={depth}\): use --depth="
        with self.assertRaisesRegex(ValueError, message):
            pix2pix.Config(crop_size=crop_size, depth=depth)

    @parameterized.parameters(({"norm": "batch"},), ({"disc_norm": "batch"},))
    def test_a_penalised_critic_has_no_batch_norm(self, options):
        options = {"norm": "instance", "gan_loss": "wgan_gp"} | options
        with self.assertRaisesRegex(ValueError, "--gan_loss=wgan_gp .*--disc_norm="):
            pix2pix.Config(**options)
        options |= {"norm": "batch", "disc_norm": "none"}
        assert pix2pix.Config(**options).disc_norm == "none"

    def test_smoothing_needs_cross_entropy(self):
        with self.assertRaisesRegex(ValueError, "real_target 1, got 0.9"):
            pix2pix.Config(gan_loss="lsgan", real_target=0.9)

    def test_survives_json(self):
        config = pix2pix.Config(crop_size=64, rotate=True)
        assert configs.from_dict(pix2pix.Config, configs.to_dict(config)) == config


class NetworksTest(parameterized.TestCase):
    def test_the_defaults_are_the_papers(self):
        config = pix2pix.Config()
        gen, disc = pix2pix.networks(config, out_channels=3)
        assert gen == unet.UNet(3, width=64, depth=8, norm="batch", dropout=0.5)
        assert disc == patch.PatchDiscriminator(width=64, num_layers=3, norm="batch")

    @parameterized.parameters(
        ("patch16", patch.PatchDiscriminator(num_layers=1)),
        ("patch70", patch.PatchDiscriminator(num_layers=3)),
        ("patch286", patch.PatchDiscriminator(num_layers=5)),
        ("pixel", patch.PixelDiscriminator()),
    )
    def test_names_of_discriminators(self, name, expected):
        config = pix2pix.Config(discriminator=name)
        assert pix2pix.networks(config, out_channels=1).disc == expected

    def test_either_player_has_its_own_width_and_norm(self):
        config = pix2pix.Config(
            width=8, disc_width=16, norm="batch", disc_norm="none", dtype="bfloat16"
        )
        gen, disc = pix2pix.networks(config, out_channels=1, axis_name="devices")
        assert (gen.width, gen.norm) == (8, "batch")
        assert (disc.width, disc.norm) == (16, "none")
        for player in (gen, disc):
            assert player.axis_name == "devices"
            assert player.dtype == jnp.bfloat16

    def test_state_at_the_start(self):
        config = games.CONFIG
        networks = pix2pix.networks(config, out_channels=2)
        optimizers = pix2pix.Optimizers(optax.adam(1.0), optax.sgd(1.0))
        start, _ = shapes_of_game(config, networks, optimizers, channels=(3, 2))
        assert start.disc.params["conv0"]["kernel"].shape == (4, 4, 3 + 2, 4)
        assert start.gen.params["up0"]["kernel"].shape[2] == 2
        assert start.step.dtype == jnp.int32
        assert start.ema is None
        # Each player has the state of its own optimiser.
        mu = start.gen.opt_state[0].mu
        assert jax.tree.map(jnp.shape, mu) == jax.tree.map(jnp.shape, start.gen.params)
        assert jax.tree.leaves(start.disc.opt_state) == []
        start, _ = shapes_of_game(config, networks, optimizers, ema=True)
        assert jax.tree.map(jnp.shape, start.ema) == jax.tree.map(
            jnp.shape, start.gen.params
        )


class OptimizersTest(parameterized.TestCase):
    def rates(self, config, *, steps, steps_per_epoch):
        """Returns the learning rates of G and D `[steps]`.

        At a gradient that is always 1, Adam's step is its learning rate.
        """
        optimizers = pix2pix.optimizers(
            config, steps=steps, steps_per_epoch=steps_per_epoch
        )

        @jax.jit
        def run(params):
            def step(opt_state, _):
                updates, opt_state = zip(
                    *(
                        tx.update(jnp.ones(()), s)
                        for tx, s in zip(optimizers, opt_state, strict=True)
                    ),
                    strict=True,
                )
                return opt_state, -jnp.array(updates)

            opt_state = tuple(tx.init(params) for tx in optimizers)
            return jax.lax.scan(step, opt_state, length=steps)[1]

        return np.asarray(run(jnp.zeros(()))).T

    @parameterized.parameters(
        (20, 3, 0.5), (20, 1, 0.25), (7, 2, 0.5), (10, 2, 1.0), (1, 4, 0.5)
    )
    def test_constant_then_falling_linearly(self, epochs, steps_per_epoch, fraction):
        """1 - max(0, epoch + 1 - constant) / (falling + 1), as the reference code."""
        config = pix2pix.Config(
            learning_rate=0.25, disc_learning_rate=0.5, decay_fraction=fraction
        )
        gen_rates, disc_rates = self.rates(
            config, steps=epochs * steps_per_epoch, steps_per_epoch=steps_per_epoch
        )
        falling = int(epochs * fraction)
        constant = epochs - falling
        epoch = np.repeat(np.arange(epochs), steps_per_epoch)
        factor = 1 - np.maximum(0, epoch + 1 - constant) / (falling + 1)
        np.testing.assert_allclose(gen_rates, 0.25 * factor, rtol=1e-4)
        np.testing.assert_allclose(disc_rates, 0.5 * factor, rtol=1e-4)

    def test_without_decay_the_rate_stays(self):
        config = pix2pix.Config(decay_fraction=0.0, learning_rate=0.25)
        rates = self.rates(config, steps=4, steps_per_epoch=1)
        np.testing.assert_allclose(rates, 0.25, rtol=1e-4)

    def test_momentum_is_the_papers(self):
        """m = (1 - b1) g = .5, v = (1 - b2) g^2 = .001 after one gradient of 1."""
        tx = pix2pix.optimizers(pix2pix.Config(), steps=10).gen
        _, (adam, *_) = tx.update(jnp.ones(()), tx.init(jnp.zeros(())))
        np.testing.assert_allclose([adam.mu, adam.nu], [0.5, 0.001], rtol=1e-5)


class PrepareTest(parameterized.TestCase):
    def test_decodes_clips_targets_and_keeps_pairs(self):
        config = dataclasses.replace(
            games.CONFIG, flip="both", rotate=True, crop_area=0.5
        )
        prepare = jax.jit(
            pix2pix.make_prepare(
                config,
                low={"source": jnp.zeros(1), "target": jnp.array([0.0, 100.0])},
                high={"source": jnp.full(1, 100.0), "target": jnp.array([100.0, 200])},
            )
        )
        stored = np.random.default_rng(0).integers(0, 201, (2, 16, 16, 1), np.uint8)
        batch = {"source": stored, "target": np.repeat(stored, 2, axis=-1)}
        one, again, other = (prepare(batch, jax.random.key(seed)) for seed in (0, 0, 1))
        np.testing.assert_array_equal(one["source"], again["source"])
        assert (np.asarray(one["source"]) != np.asarray(other["source"])).any()
        # Sources reach 3, targets are clipped, each channel by its own range.
        source, target = np.asarray(one["source"]), np.asarray(one["target"])
        assert source.max() > 2
        assert (target.min(), target.max()) == (-1.0, 1.0)

    def test_devices_agree_with_one_that_takes_the_whole_batch(self):
        """Flips and crops are drawn by the global index of an example."""
        ranges = {"source": jnp.zeros(1)}, {"source": jnp.ones(1)}
        low, high = ({**r, "target": r["source"]} for r in ranges)
        make = functools.partial(
            pix2pix.make_prepare,
            dataclasses.replace(games.CONFIG, rotate=True, crop_area=0.5),
            low=low,
            high=high,
        )
        image = np.random.default_rng(0).uniform(0, 1, (4, 6, 6, 1))
        batch = {"source": image, "target": image}
        whole = jax.jit(make())(batch, jax.random.key(0))["target"]
        split = jax.vmap(make(axis_name="devices"), (0, None), axis_name="devices")
        parts = {name: x.reshape(2, 2, *x.shape[1:]) for name, x in batch.items()}
        parts = jax.jit(split)(parts, jax.random.key(0))["target"]
        np.testing.assert_allclose(parts.reshape(whole.shape), whole, atol=1e-5)

    def test_without_augmentation_it_is_decode_alone(self):
        config = dataclasses.replace(games.CONFIG, flip="none")
        low, high = {}, {}
        for name, top in (("source", 100.0), ("target", 50.0)):
            low[name], high[name] = jnp.zeros(1), jnp.full(1, top)
        prepare = pix2pix.make_prepare(config, low=low, high=high)
        stored = np.full((2, 4, 4, 1), 100, np.uint8)
        batch = prepare({"source": stored, "target": stored // 2}, jax.random.key(0))
        np.testing.assert_array_equal(batch["source"], np.ones((2, 4, 4, 1)))
        np.testing.assert_array_equal(batch["target"], np.ones((2, 4, 4, 1)))


class NoisyGenerator(nn.Module):
    """The image, and noise if there is a key for it."""

    norm: str = "none"

    def __call__(self, image, *, train):
        assert not train
        if not self.has_rng("dropout"):
            return image
        return image + jax.random.uniform(self.make_rng("dropout"), image.shape)


@functools.partial(jax.jit, static_argnames=("gen", "statistics"))
def generate(gen, variables, source, *, statistics="image"):
    return pix2pix.generate(gen, variables, source, statistics=statistics)


class GenerateTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        self.gen = unet.UNet(2, width=4, depth=2)
        self.batch = games.draw_batch()["source"]
        self.variables = games.draw_variables(self.gen, self.batch, train=False)

    def test_by_default_each_image_has_its_own_statistics(self):
        """A batch gives what its images give; one image, what training gives."""
        both = generate(self.gen, self.variables, self.batch)
        for index in range(2):
            alone = generate(self.gen, self.variables, self.batch[index : index + 1])
            np.testing.assert_allclose(alone[0], both[index], atol=1e-5)
        weights = (self.variables["params"], self.variables["batch_stats"])
        train_apply = jax.jit(state.train_apply, static_argnums=0)
        trained, _ = train_apply(self.gen, *weights, self.batch[:1])
        np.testing.assert_allclose(both[:1], trained, atol=1e-5)

    def test_running_statistics_are_trainings(self):
        args = (self.gen, self.variables, self.batch)
        image = generate(*args, statistics="running")
        expected = jax.jit(functools.partial(self.gen.apply, train=False))(
            self.variables, self.batch
        )
        np.testing.assert_allclose(image, expected, atol=1e-5)
        assert np.abs(image - generate(*args)).max() > 0.01

    def test_other_norms_do_not_care(self):
        gen = self.gen.clone(norm="instance_affine")
        one, other = (
            generate(gen, self.variables, self.batch, statistics=statistics)
            for statistics in ("image", "running")
        )
        np.testing.assert_array_equal(one, other)

    def test_noise_only_with_a_key(self):
        noisy = lambda key=None: pix2pix.generate(  # noqa: E731
            NoisyGenerator(), {}, self.batch, key=key
        )
        np.testing.assert_array_equal(noisy(), self.batch)
        one, other, again = (noisy(jax.random.key(seed)) for seed in (0, 1, 0))
        np.testing.assert_array_equal(one, again)
        assert (one != other).any()

    def test_unknown_statistics_are_refused(self):
        with self.assertRaisesRegex(ValueError, "image or running, got 'batch'"):
            pix2pix.generate(self.gen, {}, self.batch, statistics="batch")

    def test_size_multiple(self):
        assert pix2pix.size_multiple(pix2pix.Config(crop_size=128)) == 2**7


class LoweringTest(parameterized.TestCase):
    @parameterized.parameters(
        {},
        {"crop_size": 64, "depth": 2, "gan_loss": "wgan_gp", "norm": "instance"},
    )
    def test_the_step_lowers_for_every_platform(self, **options):
        """The paper's own networks, and a penalty."""
        config = pix2pix.Config(**options)
        networks = pix2pix.networks(config, out_channels=1)
        optimizers = pix2pix.optimizers(config, steps=100)
        train_step = pix2pix.make_train_step(
            *networks,
            *optimizers,
            gan=losses.adversarial(config.gan_loss),
            gradient_penalty=10.0 * (config.gan_loss == "wgan_gp"),
            ema_decay=0.999,
        )
        args = shapes_of_game(config, networks, optimizers, ema=True)
        key = jax.eval_shape(lambda: jax.random.key(0))
        platforms = ["cpu", "cuda", "tpu"]
        exported = jax.export.export(jax.jit(train_step), platforms=platforms)(
            *args, key
        )
        assert exported.platforms == tuple(platforms)
        assert exported.out_avals[0].dtype == jnp.int32
