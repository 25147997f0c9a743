"""Strict JAX for every test, on CPU devices whose number the tests share."""

import os

# Four devices, so that the pmapped paths are the ones that the tests take.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
)
os.environ["JAX_PLATFORMS"] = "cpu"
# Programs compile in half the time, to slower ones, also in processes of their own.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"

import jax  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)

import pytest  # noqa: E402


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    """Forgets a module's compiled programs at its end.

    Each takes about a thousand memory maps, and Linux ends a process of 65,530.
    """
    yield
    from tests import games

    games.forget_programs()


@pytest.fixture(scope="session")
def image_flags(tmp_path_factory):
    """Flags that name folders of pairs, `[24, 28]` uint16 to uint8."""
    from tests.experiments import runs

    return runs.write_pairs(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory, image_flags):
    """The workdir of a tiny pix2pix run that nothing disturbed."""
    from tests.experiments import runs

    workdir = tmp_path_factory.mktemp("runs") / "undisturbed"
    runs.train(workdir, *image_flags)
    return workdir
