"""Skip-patch discriminator: the windows it sees, its size, its grid."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgan.models import patch, skip_patch


def shapes(size: int, channels: int, **options):
    """Returns `(logits, parameters)` as shapes, without arithmetic."""
    disc = skip_patch.SkipPatchDiscriminator(**options)
    init = functools.partial(disc.init_with_output, train=False)
    image = jax.ShapeDtypeStruct((2, size, size, channels), jnp.float32)
    logits, variables = jax.eval_shape(init, jax.random.key(0), image)
    return logits.shape, variables["params"]


def footprint(module, image_size: int, select=lambda params: params):
    """Returns rows and columns that the central logit depends on, and its cell.

    Ones as weights and input keep every feature positive, so that nothing cancels and
    leaky ReLU passes all.
    """
    image = jnp.ones((1, image_size, image_size, 1))
    init = functools.partial(module.init, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), image)
    params = jax.tree.map(lambda x: jnp.ones(x.shape), variables["params"])
    params = select(params)

    @jax.jit
    def gradient(image):
        def logit(image):
            logits = module.apply({"params": params}, image, train=False)
            return logits[0, logits.shape[1] // 2, logits.shape[2] // 2, 0]

        return jax.grad(logit)(image)[0, :, :, 0]

    rows, columns = np.nonzero(np.asarray(gradient(image)))
    return (rows.min(), rows.max() + 1), (columns.min(), columns.max() + 1)


def only(path: int):
    """Cuts all paths but one, before the logit."""

    def select(params):
        kernel = params["logits"]["kernel"]
        width = kernel.shape[2] // len(skip_patch.PATCHES)
        on = jnp.arange(kernel.shape[2]) // width == path
        kernel = kernel * on.astype(kernel.dtype).reshape(1, 1, -1, 1)
        return params | {"logits": params["logits"] | {"kernel": kernel}}

    return select


@pytest.mark.parametrize("path", range(4))
def test_each_path_sees_its_patch_around_the_cell(path):
    disc = skip_patch.SkipPatchDiscriminator(width=1, norm="none")
    rows, columns = footprint(disc, 512, only(path))
    assert rows == columns
    assert rows[1] - rows[0] == (16, 20, 32, 70)[path]
    cell = 8 * (512 // 16)
    assert abs((rows[0] + rows[1]) / 2 - (cell + 4)) <= 1


def test_all_paths_together_see_70_pixels():
    disc = skip_patch.SkipPatchDiscriminator(width=1, norm="none")
    rows, columns = footprint(disc, 512)
    assert rows == columns
    assert rows[1] - rows[0] == 70


@pytest.mark.parametrize("num_layers, pixels", [(1, 16), (3, 70)])
def test_baselines_see_what_they_are_named_after(num_layers, pixels):
    disc = patch.PatchDiscriminator(width=1, num_layers=num_layers, norm="none")
    rows, columns = footprint(disc, 256)
    assert rows[1] - rows[0] == columns[1] - columns[0] == pixels


@pytest.mark.parametrize("channels, count", [(3, 4_342_657), (4, 4_343_681)])
def test_parameters_and_grid_at_512(channels, count):
    logits, params = shapes(512, channels)
    assert logits == (2, 64, 64, 1)
    assert sum(x.size for x in jax.tree.leaves(params)) == count


def test_a_bias_before_batch_norm_would_be_idle():
    _, params = shapes(64, 3, norm="batch")
    assert "bias" not in params["trunk1"]
    assert "bias" in params["patch70"]


@pytest.mark.parametrize("size", [8, 20])
def test_other_sizes_say_what_is_needed(size):
    with pytest.raises(ValueError, match=f"divide by 8, at least 16, got {size}"):
        shapes(size, 3)
