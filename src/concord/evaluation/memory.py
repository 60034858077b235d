"""Memory between the steps of a training."""

from __future__ import annotations

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4  # glibc's malloc.h
_OWN = ((_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 64 << 20), (_MMAP_MAX, 65536))  # where glibc itself settles


def keep_freed(keep: bool = True) -> bool:
    """Have the C library keep the memory that tensors free, and say whether it does as told.

    A training on the CPU frees and takes the same large blocks at every layer. glibc returns the largest to the
    system, which clears them page by page when they are taken again: 15 to 30 % of a ConvNet's pass
    (benchmarks/results/evaluation_speed.json, `memory`). Kept, they stay with the process until it ends, at most what
    it held at its peak. It concerns the process, not a thread. Other C libraries have no such setting.

    keep: False goes back to what glibc does by itself.
    """
    set_option = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if set_option is None:
        return False
    options = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, -1)) if keep else _OWN
    return all([set_option(option, value) for option, value in options])
