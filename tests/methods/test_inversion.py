"""Algorithm 2 against a plain loop, property by property, and Levenberg-Marquardt."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgan import noise
from jaxgan.methods import adaptation, inversion

DIM, SIZE = 4, 8
CLIP = 1.5
RNG = np.random.default_rng(0)
WEIGHTS = {
    "first": RNG.normal(size=(DIM, 24)).astype("f4") / 2,
    "second": RNG.normal(size=(24, SIZE * SIZE)).astype("f4") / 5,
}
SMALL = dict(
    latent_dim=DIM, num_restarts=3, restart_steps=150, refine_steps=40, latent_clip=CLIP
)


def generate(weights, latent):
    x = jnp.tanh(jnp.tanh(latent @ weights["first"]) @ weights["second"])
    return 0.5 * x.reshape(SIZE, SIZE, 1) + 0.5


GENERATE = jax.tree_util.Partial(generate, WEIGHTS)


def target(seed=1, scale=0.7):
    latent = scale * np.random.default_rng(seed).normal(size=DIM)
    return np.asarray(GENERATE(latent.astype("f4")))


def noisy(seed=1):
    generator = np.random.default_rng(seed)
    return target(seed) + 0.1 * generator.normal(size=(SIZE, SIZE, 1)).astype("f4")


def loss(latent, image):
    made = GENERATE(jnp.clip(latent, -CLIP, CLIP))
    return jnp.sum((made - image) ** 2) / (SIZE * SIZE)


VALUE_AND_GRAD = jax.jit(jax.value_and_grad(loss))


def walk(latent, image, tx, steps, tolerance=-1.0):
    """Returns the last latent and the loss before each step: a plain loop."""
    state, losses = tx.init(latent), []
    for _ in range(steps):
        value, grad = VALUE_AND_GRAD(latent, image)
        losses.append(float(value))
        if value < tolerance:
            break
        updates, state = tx.update(grad, state, latent)
        latent = latent + updates
    return latent, losses


def plain_search(image, key, tolerance=-1.0):
    """Algorithm 2 as its authors wrote it down: one restart after the other."""
    key = jax.random.fold_in(key, 0)
    tx = optax.adam(0.01)
    finals, seen, curves = [], [], []
    for restart_key in jax.random.split(key, SMALL["num_restarts"]):
        start = jax.random.normal(restart_key, (DIM,))
        final, losses = walk(start, image, tx, SMALL["restart_steps"])
        finals.append(final)
        curves.append(losses)
        seen.append(min(losses[::100]))
    best = finals[int(np.argmin(seen))]
    latent, losses = walk(best, image, tx, SMALL["refine_steps"], tolerance)
    return latent, curves, losses


@pytest.fixture(scope="module")
def found():
    return inversion.search(GENERATE, noisy(), jax.random.key(0), **SMALL)


def test_equals_the_published_algorithm_run_step_by_step(found):
    """Also: the restarts are searched as ten sequential ones with their keys are."""
    latent, curves, losses = plain_search(noisy(), jax.random.key(0))
    np.testing.assert_allclose(found.restart_losses, curves, atol=1e-5)
    np.testing.assert_allclose(found.refine_losses, losses, atol=1e-5)
    np.testing.assert_allclose(found.latent, np.clip(latent, -CLIP, CLIP), atol=1e-4)
    assert int(found.num_steps) == SMALL["refine_steps"]
    np.testing.assert_allclose(found.image, GENERATE(found.latent), atol=1e-6)


def test_second_phase_starts_from_the_end_of_the_restart_with_the_least_seen(found):
    """Adam's state is new: the first step moves every coordinate by the rate."""
    seen = found.restart_losses[:, ::100].min(axis=1)
    best = int(np.argmin(seen))
    end = found.restart_latents[best]
    np.testing.assert_allclose(found.refine_losses[0], loss(end, noisy()), rtol=1e-4)
    one = inversion.search(
        GENERATE, noisy(), jax.random.key(0), **SMALL | {"refine_steps": 1}
    )
    np.testing.assert_allclose(np.abs(one.latent - end), 0.01, rtol=0.02)


def test_the_choice_looks_at_every_hundredth_loss_only():
    """A restart that is best in the end, but was worse at step 0, is not chosen."""

    def two_slopes(latent):
        steep = jnp.maximum(14 - 7 * latent, 0.01)
        return jnp.where(latent > 0, steep, 2 + 0.1 * latent).reshape(1, 1, 1)

    small = dict(latent_dim=1, num_restarts=6, restart_steps=99, refine_steps=1)
    run = inversion.search(
        two_slopes, np.zeros((1, 1, 1), "f4"), jax.random.key(3), **small
    )
    first, last = (run.restart_losses[:, i] for i in (0, -1))
    assert int(np.argmin(first)) != int(np.argmin(last))
    chosen = run.restart_latents[int(np.argmin(first))]
    np.testing.assert_allclose(run.refine_losses[0], two_slopes(chosen).item() ** 2)


def test_early_stop_keeps_the_latent_that_was_good_enough():
    short = SMALL | {"restart_steps": 20}
    key = jax.random.key(0)
    free = inversion.search(GENERATE, noisy(), key, **short, tolerance=-1.0)
    level = float(free.refine_losses[0] + free.refine_losses[-1]) / 2
    run = inversion.search(GENERATE, noisy(), key, **short, tolerance=level)
    steps = int(run.num_steps)
    assert 1 < steps < int(free.num_steps) == 40
    assert run.refine_losses[steps - 1] < level <= run.refine_losses[steps - 2]
    assert np.isnan(run.refine_losses[steps:]).all()
    np.testing.assert_allclose(
        loss(run.latent, noisy()), run.refine_losses[steps - 1], rtol=1e-4
    )


@pytest.mark.parametrize("optimizer", ["adam", "levenberg_marquardt"])
def test_latents_are_clipped_before_the_generator(optimizer):
    """A target beyond the clip pulls them there; what comes out is what G saw."""
    run = inversion.search(
        GENERATE,
        target(scale=5.0),
        jax.random.key(0),
        **SMALL | {"latent_clip": 0.3, "restart_steps": 60},
        optimizer=optimizer,
    )
    for latent, losses in zip(run.restart_latents, run.restart_losses, strict=True):
        last = float(losses[np.isfinite(losses)][-1])
        assert float(loss(latent, target(scale=5.0))) == pytest.approx(last, rel=0.02)
    assert np.abs(run.latent).max() == pytest.approx(0.3)
    assert np.abs(run.restart_latents).max() <= 0.3
    np.testing.assert_allclose(run.image, GENERATE(run.latent), atol=1e-6)


def test_chunks_and_stacks_change_nothing(found):
    """Image i of a stack is searched as image 0 is with the i-th key."""
    stack = np.stack([noisy(1), noisy(2), noisy(3)])
    key = jax.random.key(0)
    every = inversion.search(GENERATE, stack, key, **SMALL)
    chunks = inversion.search(
        GENERATE, stack, key, **SMALL, image_chunk=2, restart_chunk=2
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), every, chunks
    )
    np.testing.assert_allclose(every.image[0], found.image, atol=1e-5)
    assert every.restart_losses.shape == (3, 3, 150)
    assert np.ptp(every.image, axis=0).max() > 0.05


def test_one_program_without_a_loop_in_python():
    """Steps and restarts are loops of the device: more of them add no operation."""

    def operations(restarts, steps):
        def run(image, key):
            options = SMALL | dict(
                num_restarts=restarts, restart_steps=steps, refine_steps=steps
            )
            return inversion.search(GENERATE, image, key, **options)

        jaxpr = jax.make_jaxpr(run)(noisy(), jax.random.key(0))
        return str(jaxpr).count("=")

    assert operations(2, 120) == operations(7, 900)


def test_task_one_adam_and_levenberg_marquardt():
    """A target that the generator made is found: < 1e-6 and < 1e-10."""
    options = dict(latent_dim=DIM, num_restarts=4, restart_steps=300, tolerance=1e-7)
    adam = inversion.search(GENERATE, target(), jax.random.key(0), **options)
    newton = inversion.search(
        GENERATE,
        target(),
        jax.random.key(0),
        **options,
        optimizer="levenberg_marquardt",
        tangent_chunk=3,
    )
    assert loss(adam.latent, target()) < 1e-6
    exact = jnp.sum((newton.image - target()) ** 2) / (SIZE * SIZE)
    assert exact < 1e-10
    assert np.nanmin(newton.restart_losses) < 1e-10
    made = np.isfinite(newton.restart_losses).sum(axis=1)
    assert made.max() <= 25
    assert (np.diff(newton.restart_losses[:, :3], axis=1) <= 0).all()


def test_levenberg_marquardt_finds_what_adam_finds_in_noise(found):
    newton = inversion.search(
        GENERATE,
        noisy(),
        jax.random.key(0),
        **SMALL,
        optimizer="levenberg_marquardt",
    )
    best = float(loss(newton.latent, noisy()))
    assert best <= float(loss(found.latent, noisy())) + 1e-6
    assert int(newton.num_steps) < 40


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "asgd"])
def test_other_optimisers_are_those_of_optax(optimizer):
    small = SMALL | dict(num_restarts=1, restart_steps=6, refine_steps=4)
    run = inversion.search(
        GENERATE,
        noisy(),
        jax.random.key(0),
        **small,
        optimizer=optimizer,
        learning_rate=0.3,
        tolerance=-1.0,
    )
    tx = optax.adamw(0.3, weight_decay=0.01) if optimizer == "adamw" else optax.sgd(0.3)
    (key,) = jax.random.split(jax.random.fold_in(jax.random.key(0), 0), 1)
    latent = jax.random.normal(key, (DIM,))
    for steps in (6, 4):
        path = [walk(latent, noisy(), tx, n)[0] for n in range(steps + 1)]
        half = path[steps // 2 + 1 :]
        latent = sum(half) / len(half) if optimizer == "asgd" else path[-1]
    np.testing.assert_allclose(run.latent, np.clip(latent, -CLIP, CLIP), atol=1e-4)


def test_bad_options_are_said():
    with pytest.raises(ValueError, match="optimizer must be one of"):
        inversion.search(
            GENERATE, noisy(), jax.random.key(0), latent_dim=DIM, optimizer="newton"
        )
    with pytest.raises(ValueError, match="takes no other loss"):
        inversion.search(
            GENERATE,
            noisy(),
            jax.random.key(0),
            latent_dim=DIM,
            optimizer="levenberg_marquardt",
            loss=noise.PoissonDeviance(1.0),
        )
    with pytest.raises(ValueError, match=r"\[H, W, C\]"):
        inversion.search(GENERATE, noisy()[..., 0], jax.random.key(0), latent_dim=DIM)


def test_adaptation_stops_at_the_noise(found):
    """It gets below what the latent could, and no further than it is told."""
    generator = np.random.default_rng(5)
    image = noisy() + 0.2 * np.sin(np.arange(SIZE)).reshape(-1, 1, 1).astype("f4")
    run = jax.jit(
        lambda level: adaptation.adapt(
            generate, WEIGHTS, found.latent, image, level, steps=60, learning_rate=3e-3
        )
    )
    free = run(-1.0)
    assert int(free.num_steps) == 60
    assert free.losses[-1] < 0.5 * free.losses[0]
    level = float(free.losses[15])
    stopped = run(level)
    assert int(stopped.num_steps) == 16
    residual = np.mean((stopped.image - image) ** 2)
    assert residual == pytest.approx(level, rel=1e-3)
    np.testing.assert_allclose(
        free.losses[0], loss(found.latent, image), rtol=1e-4, err_msg=str(generator)
    )
