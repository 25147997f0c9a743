"""Players, averages and keys: what every method's step is built of."""

import chex
import flax.errors
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl.testing import parameterized

from jaxgan import state


class Network(nn.Module):
    """A dense layer, and what else a state must carry for it."""

    norm: bool = True
    dropout: float = 0.0

    @nn.compact
    def __call__(self, image, *, train):
        x = nn.Dense(3, name="dense")(image)
        if self.norm:
            x = nn.BatchNorm(not train, momentum=0.9, name="norm")(x)
        return nn.Dropout(self.dropout, deterministic=not train)(x)


def make_game(*, ema=None):
    """Returns a state whose players are numbers that tell them apart."""
    gen = state.Player({"w": 1}, {"mean": 2}, ())
    disc = state.Player({"w": 3}, {"mean": 4}, ())
    return state.GANState(jnp.int32(0), gen, disc, ema=ema)


class PlayerTest(parameterized.TestCase):
    def test_update_is_one_optimiser_step(self):
        """Momentum .9: the second step's velocity is g2 + .9 g1."""
        tx = optax.sgd(0.5, momentum=0.9)
        params = {"w": jnp.array([1.0, 2.0])}
        start = state.Player(params, {"mean": 0}, tx.init(params))
        first = start.update({"w": jnp.array([1.0, 0.0])}, {"mean": 3}, tx)
        second = first.update({"w": jnp.array([0.0, 2.0])}, {"mean": 4}, tx)
        np.testing.assert_allclose(first.params["w"], [0.5, 2.0])
        np.testing.assert_allclose(second.params["w"], [0.5 - 0.45, 1.0], rtol=1e-5)
        assert (first.stats["mean"], second.stats["mean"]) == (3, 4)
        np.testing.assert_array_equal(start.params["w"], [1.0, 2.0])

    @parameterized.parameters(True, False)
    def test_init_needs_no_more_than_shapes(self, norm):
        image = jax.ShapeDtypeStruct((2, 4, 4, 2), jnp.float32)
        init = lambda key: state.init_player(  # noqa: E731
            Network(norm), optax.adam(1e-3), key, image
        )
        player = jax.eval_shape(init, jax.random.key(0))
        assert player.params["dense"]["kernel"].shape == (2, 3)
        chex.assert_trees_all_equal_shapes(player.opt_state[0].mu, player.params)
        assert (
            (player.stats["norm"]["mean"].shape == (3,)) if norm else not player.stats
        )

    def test_the_average_is_what_predicts_where_one_is_kept(self):
        assert make_game().gen_variables == {
            "params": {"w": 1},
            "batch_stats": {"mean": 2},
        }
        assert make_game(ema={"w": 9}).gen_variables["params"] == {"w": 9}


class TrainApplyTest(parameterized.TestCase):
    def setUp(self):
        super().setUp()
        generator = np.random.default_rng(0)
        self.image = np.float32(generator.normal(size=(4, 2)))
        dense = {"kernel": jnp.eye(2, 3), "bias": jnp.zeros(3)}
        self.norm = {"scale": jnp.ones(3), "bias": jnp.zeros(3)}
        self.params = {"dense": dense}
        self.stats = {"norm": {"mean": jnp.zeros(3), "var": jnp.ones(3)}}

    def test_returns_the_statistics_one_batch_later(self):
        params = self.params | {"norm": self.norm}
        output, stats = state.train_apply(Network(), params, self.stats, self.image)
        x = self.image @ np.eye(2, 3, dtype=np.float32)
        np.testing.assert_allclose(np.mean(output, axis=0), np.zeros(3), atol=1e-6)
        np.testing.assert_allclose(stats["norm"]["mean"], 0.1 * x.mean(0), atol=1e-6)
        expected = 0.9 + 0.1 * x.var(0)
        np.testing.assert_allclose(stats["norm"]["var"], expected, atol=1e-6)

    def test_no_statistics_in_and_none_out(self):
        output, stats = state.train_apply(Network(False), self.params, {}, self.image)
        assert output.shape == (4, 3)
        assert stats == {}

    def test_the_key_feeds_dropout(self):
        network = Network(False, dropout=0.5)
        args = (network, self.params, {}, self.image)
        first, second = (
            state.train_apply(*args, key=jax.random.key(seed))[0] for seed in (0, 1)
        )
        assert (np.asarray(first) != np.asarray(second)).any()
        with self.assertRaises(flax.errors.InvalidRngError):
            state.train_apply(*args)


class AverageTest(parameterized.TestCase):
    @parameterized.parameters((0, 0.1), (1, 2 / 11), (40, 41 / 50), (10**6, 0.9))
    def test_warms_up(self, step, decay):
        """min(.9, (1 + t) / (10 + t)) of the old, the rest of the new."""
        old, new = {"w": jnp.array([1.0, 0.0])}, {"w": jnp.array([0.0, 1.0])}
        ema = state.update_ema(old, new, jnp.int32(step), decay=0.9)
        np.testing.assert_allclose(ema["w"], [decay, 1 - decay], rtol=1e-5)

    def test_none_stays_none(self):
        assert state.update_ema(None, {"w": 1.0}, 3, decay=0.9) is None


class ExampleKeysTest(parameterized.TestCase):
    def test_depend_on_the_global_index_only(self):
        """4 devices of 2 examples draw what one device of 8 draws."""
        key = jax.random.key(0)

        def draw(_):
            keys = state.example_keys(key, 2, "devices")
            return jax.random.key_data(keys)

        divided = jax.vmap(draw, axis_name="devices")(jnp.arange(4))
        whole = jax.random.key_data(state.example_keys(key, 8, None))
        np.testing.assert_array_equal(divided.reshape(whole.shape), whole)

    def test_differ_between_examples_and_between_keys(self):
        keys = [state.example_keys(jax.random.key(seed), 8, None) for seed in range(2)]
        data = np.concatenate([jax.random.key_data(k) for k in keys])
        assert len(np.unique(data, axis=0)) == 16


class AllReduceMeanTest(parameterized.TestCase):
    def test_averages_over_devices(self):
        reduce = lambda x: state.all_reduce_mean({"x": x}, "devices")  # noqa: E731
        means = jax.vmap(reduce, axis_name="devices")(jnp.array([1.0, 2.0, 6.0]))
        np.testing.assert_allclose(means["x"], [3.0, 3.0, 3.0])

    def test_without_devices_changes_nothing(self):
        tree = {"x": jnp.ones(3)}
        assert state.all_reduce_mean(tree, None) is tree
