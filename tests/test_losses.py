"""Losses against closed forms, their signs, and their behaviour at the extremes."""

import jax
import jax.numpy as jnp
import numpy as np
from absl.testing import parameterized

from jaxgan import losses

LN2 = 0.693147  # -log(1/2): the price of not knowing
LN9 = 2.197225  # the logit of .9


def logits(value):
    """Returns a grid of verdicts `[2, 3, 3, 1]`, all the same."""
    return jnp.full((2, 3, 3, 1), value)


class ClosedFormTest(parameterized.TestCase):
    @parameterized.parameters(
        # At logits 0: -log(1/2) for each term, whatever the label.
        ("vanilla", 1.0, 0.0, 0.0, 2 * LN2, LN2),
        ("vanilla", 0.9, 0.0, 0.0, 2 * LN2, LN2),
        ("saturating", 1.0, 0.0, 0.0, 2 * LN2, -LN2),
        # The entropy H(.9) is the least that smoothing leaves, at ln 9; and there
        # -log(1 - .9) = ln 10, -log(.9).
        ("vanilla", 0.9, LN9, LN9, 0.325083 + 2.302585, 0.105361),
        ("saturating", 0.9, LN9, LN9, 0.325083 + 2.302585, -2.302585),
        # Squares of the distance to 1 and 0.
        ("lsgan", 1.0, 3.0, -2.0, 4.0 + 4.0, 9.0),
        ("lsgan", 1.0, 1.0, 0.0, 0.0, 1.0),
        # Beyond its margin the hinge is zero, inside it counts the distance.
        ("hinge", 1.0, 1.5, -1.5, 0.0, 1.5),
        ("hinge", 1.0, 0.25, 0.5, 0.75 + 1.5, -0.5),
        # Earth mover: fake minus real.
        ("wgan_gp", 1.0, 3.0, -2.0, -5.0, 2.0),
    )
    def test_values(self, name, real_target, real, fake, disc_loss, gen_loss):
        gan = losses.adversarial(name, real_target=real_target)
        actual = gan.disc(logits(real), logits(fake))
        np.testing.assert_allclose(actual, disc_loss, rtol=1e-5, atol=1e-6)
        actual = gan.gen(logits(fake))
        np.testing.assert_allclose(actual, gen_loss, rtol=1e-5, atol=1e-6)

    def test_smoothing_moves_the_best_logit_of_real_images_to_ln_9(self):
        gan = losses.adversarial("vanilla", real_target=0.9)
        slope = jax.grad(lambda real: gan.disc(real, jnp.zeros(())))
        np.testing.assert_allclose(slope(LN9), 0.0, atol=1e-6)
        assert slope(LN9 - 0.1) < 0 < slope(LN9 + 0.1)

    def test_l1_is_the_mean_absolute_difference(self):
        np.testing.assert_allclose(losses.l1(logits(-0.5), logits(1.0)), 1.5)
        halves = jnp.array([[1.0, -3.0]])
        np.testing.assert_allclose(losses.l1(halves, jnp.zeros((1, 2))), 2.0)


class SignTest(parameterized.TestCase):
    @parameterized.parameters(*losses.GAN_LOSSES)
    def test_players_pull_in_opposite_directions(self, name):
        """D wants real up and fake down, G wants fake up; all near logit 0."""
        gan = losses.adversarial(name)
        real_slope, fake_slope = jax.grad(gan.disc, argnums=(0, 1))(0.0, 0.1)
        assert real_slope < 0 < fake_slope
        assert jax.grad(gan.gen)(0.1) < 0

    def test_a_sure_discriminator_starves_only_the_saturating_generator(self):
        slopes = {
            name: jax.grad(losses.adversarial(name).gen)(-20.0)
            for name in ("vanilla", "saturating")
        }
        np.testing.assert_allclose(slopes["vanilla"], -1.0, rtol=1e-5)
        np.testing.assert_allclose(slopes["saturating"], 0.0, atol=1e-8)

    @parameterized.product(name=losses.GAN_LOSSES, logit=(-1e4, 1e4))
    def test_extreme_logits_are_finite(self, name, logit):
        gan = losses.adversarial(name)
        values, grads = jax.value_and_grad(gan.disc, argnums=(0, 1))(logit, -logit)
        assert np.isfinite([values, *grads]).all()
        assert np.isfinite(jax.value_and_grad(gan.gen)(logit)).all()


class ChoiceTest(parameterized.TestCase):
    def test_unknown_names_are_refused(self):
        with self.assertRaisesRegex(ValueError, "one of .*lsgan.*, got 'lsgam'"):
            losses.adversarial("lsgam")

    @parameterized.parameters("lsgan", "hinge", "wgan_gp")
    def test_smoothing_belongs_to_cross_entropy(self, name):
        with self.assertRaisesRegex(ValueError, f"'{name}' needs real_target 1"):
            losses.adversarial(name, real_target=0.9)


class GradientPenaltyTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        generator = np.random.default_rng(0)
        self.real, self.fake = np.float32(generator.normal(size=(2, 3, 4, 4, 2)))
        self.keys = jax.random.split(jax.random.key(0), 3)

    def penalty(self, judge, **options):
        return losses.gradient_penalty(
            judge, self.real, self.fake, self.keys, **options
        )

    @parameterized.parameters(1.0, 0.0)
    def test_closed_form_of_a_linear_critic(self, target):
        """D(x) = <w, x> has the gradient w everywhere, so (|w| - target)^2."""
        weights = np.linspace(-1, 1, 32, dtype=np.float32).reshape(1, 4, 4, 2)
        judge = lambda image: jnp.sum(weights * image, axis=(1, 2, 3))  # noqa: E731
        expected = (np.linalg.norm(weights) - target) ** 2
        actual = self.penalty(judge, target=target)
        np.testing.assert_allclose(actual, expected, rtol=1e-5)

    def test_sums_over_the_grid_of_a_patch_critic(self):
        """Two verdicts of x each make a gradient of 2: (2 sqrt(32) - 1)^2."""
        judge = lambda image: jnp.stack([image, image], axis=-1)  # noqa: E731
        expected = (2 * 32**0.5 - 1) ** 2
        np.testing.assert_allclose(self.penalty(judge), expected, rtol=1e-5)

    def test_finite_where_the_critic_is_flat(self):
        """(0 - 1)^2 at w = 0, where the square root has no derivative."""
        loss = lambda weight: self.penalty(lambda image: weight * image)  # noqa: E731
        value, slope = jax.value_and_grad(loss)(0.0)
        np.testing.assert_allclose(value, 1.0, atol=1e-5)
        np.testing.assert_allclose(slope, 0.0, atol=1e-5)

    def test_mixes_each_example_by_its_own_key(self):
        """D(x) = |x|^2 / 2 has the gradient x: the penalty shows where it was taken."""
        self.real, self.fake = np.ones_like(self.real), np.zeros_like(self.fake)
        judge = lambda image: jnp.sum(image**2, axis=(1, 2, 3)) / 2  # noqa: E731
        actual = self.penalty(judge, target=0.0)
        mix = np.array([jax.random.uniform(jax.random.clone(k)) for k in self.keys])
        np.testing.assert_allclose(actual, np.mean(32 * mix**2), rtol=1e-5)


class ContentTest(parameterized.TestCase):
    def test_mse_is_a_mean_over_everything(self):
        a, b = jnp.zeros((2, 2, 2, 1)), jnp.full((2, 2, 2, 1), 3.0)
        assert losses.mse(a, b) == losses.mse(b, a) == 9

    def test_feature_distance_sums_over_channels(self):
        """Ledig et al., eq. 5: |(1, 2)|^2 = 5 at each place."""
        a = jnp.broadcast_to(jnp.array([1.0, 2.0]), (3, 2, 4, 2))
        assert losses.feature_distance(a, jnp.zeros_like(a)) == 5

    def test_total_variation_counts_neighbours(self):
        """A step of height 2 between two columns of three pixels, in one of two."""
        image = jnp.zeros((2, 3, 4, 1)).at[0, :, 2:].set(2.0)
        assert losses.total_variation(image) == 3 * 4 / 2
        turned = image.transpose(0, 2, 1, 3)
        assert losses.total_variation(turned) == losses.total_variation(image)
        assert losses.total_variation(image + 5) == losses.total_variation(image)
