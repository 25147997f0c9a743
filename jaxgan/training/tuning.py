"""Settings of the process that make training on a CPU faster."""

import ctypes

# Of glibc's mallopt, see malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3


def keep_freed_memory() -> None:
    """Makes glibc keep the memory that a step frees for the next one.

    By default large arrays go back to the system at once, which then clears each page
    anew. Without glibc nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_MMAP_THRESHOLD, 2**30)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
