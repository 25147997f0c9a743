"""Devices: the one place that spells `jax.pmap`.

`D` is the number of local devices, `K` the steps per dispatch, `B` this process's part
of the global batch. A replicated tree has a leading axis of D equal copies. JAX runs
`pmap` on jit and shard_map; arrays that already lie on the devices as it wants them are
used, and donated, without a copy.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgan.errors import UserError

AXIS = "devices"

PyTree = Any
Step = Callable[[PyTree, PyTree, jax.Array], tuple[PyTree, dict[str, jax.Array]]]

# What a launcher of several processes leaves in the environment.
_CLUSTER_VARIABLES = (
    "JAX_COORDINATOR_ADDRESS",
    "COORDINATOR_ADDRESS",
    "SLURM_STEP_NODELIST",
    "OMPI_MCA_orte_hnp_uri",
    "TPU_WORKER_HOSTNAMES",
)


def initialize(mode: str) -> None:
    """Joins the processes of a distributed run; call before anything touches a device.

    `mode` "on" joins, "off" does not, "auto" joins where a launcher (Slurm, Open MPI, a
    TPU pod, `JAX_COORDINATOR_ADDRESS` with `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`)
    has set its variables. Joining is `jax.distributed.initialize`, nothing else.
    """
    launched = any(name in os.environ for name in _CLUSTER_VARIABLES)
    if mode == "off" or (mode == "auto" and not launched):
        return
    processes, index = (
        int(os.environ[name]) if name in os.environ else None
        for name in ("JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    )
    jax.distributed.initialize(num_processes=processes, process_id=index)


def is_first_process() -> bool:
    """Whether this process speaks and writes for all; touches no device if alone."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def check_batch_size(batch_size: int) -> None:
    """Raises `UserError` unless the global batch divides over all devices."""
    devices = jax.device_count()
    if batch_size % devices:
        raise UserError(
            f"--batch_size={batch_size} does not divide over {devices} devices: use a "
            f"multiple of {devices}, or fewer devices (CUDA_VISIBLE_DEVICES)"
        )


def replicate(tree: PyTree) -> PyTree:
    """Copies a host tree to every local device: leaves `[...]` become `[D, ...]`."""
    copies = lambda x: np.broadcast_to(x, (jax.local_device_count(), *np.shape(x)))  # noqa: E731
    return jax.device_put(jax.tree.map(copies, tree), _sharding())


def unreplicate(tree: PyTree) -> PyTree:
    """Returns the first local copy of a replicated tree, on the host."""
    return jax.tree.map(lambda x: np.asarray(x.addressable_data(0))[0], tree)


def shard(batch: PyTree) -> PyTree:
    """Puts host leaves `[K, B, ...]` on the local devices as `[D, K, B/D, ...]`."""
    devices = jax.local_device_count()

    def split(x: np.ndarray) -> np.ndarray:
        x = x.reshape(x.shape[0], devices, x.shape[1] // devices, *x.shape[2:])
        return x.swapaxes(0, 1)

    return jax.device_put(jax.tree.map(split, batch), _sharding())


def prefetch(batches: Iterable[PyTree], *, size: int = 2) -> Iterator[PyTree]:
    """Shards batches ahead of their use, so that transfers overlap computation."""
    ready = []
    for batch in batches:
        ready.append(shard(batch))
        if len(ready) > size:
            yield ready.pop(0)
    yield from ready


def make_update(train_step: Step, prepare: Callable) -> Step:
    """Returns `update(state, batches, key) -> (state, metrics)`: K steps, one dispatch.

    Args:
      train_step: `(state, batch, key) -> (state, metrics)`, made with `axis_name=AXIS`.
      prepare: `(batch, key) -> batch`, from stored images to those the step takes.

    `update` takes a replicated state, which it donates, and sharded batches `[D, K,
    B/D, ...]`; the metrics are `[K]`. `key` is the same at every call, for the step
    number makes it fresh.
    """

    def one_step(state: PyTree, batch: PyTree, key: jax.Array):
        key = jax.random.fold_in(key, state.step)
        prepare_key, step_key = jax.random.split(key)
        return train_step(state, prepare(batch, prepare_key), step_key)

    def steps(state: PyTree, batches: PyTree, key: jax.Array):
        return jax.lax.scan(lambda s, batch: one_step(s, batch, key), state, batches)

    return jax.pmap(
        steps, AXIS, in_axes=(0, 0, None), out_axes=(0, None), donate_argnums=0
    )


def map_examples(function: Callable, examples: PyTree, *shared: PyTree) -> PyTree:
    """Returns `function(examples, *shared)`, of which each local device does a part.

    Args:
      function: maps leaves `[n, ...]` to leaves `[n, ...]`, example by example.
      examples: leaves `[N, ...]`; the last is repeated where N does not divide.
      shared: what all devices get.

    The result is on the host. Give the same function again and it is not compiled anew.
    """
    devices = jax.local_device_count()
    count = jax.tree.leaves(examples)[0].shape[0]
    each = -(-count // devices)
    places = np.minimum(np.arange(devices * each), count - 1)
    split = lambda x: x[places].reshape(devices, each, *x.shape[1:])  # noqa: E731
    axes = (0, *[None] * len(shared))
    mapped = jax.pmap(function, AXIS, in_axes=axes)
    result = mapped(jax.tree.map(split, examples), *shared)
    join = lambda x: np.asarray(x).reshape(-1, *x.shape[2:])[:count]  # noqa: E731
    return jax.tree.map(join, result)


def _sharding() -> NamedSharding:
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    return NamedSharding(mesh, PartitionSpec(AXIS))
