import ctypes
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

from concord.errors import ConcordError


def version() -> str:
    """Return the installed version of concord, or ``0+source`` when it runs from a checkout."""
    return package_version("concord-distill") or "0+source"


@cache
def package_version(distribution: str) -> str | None:
    """Return the installed version of a distribution without importing it, or None where it is missing."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def timed(work: Callable[[], object], device: str = "cpu") -> float:
    """Do some work; return the seconds that it takes on a machine with nothing else to do.

    They are those of the clock; where another process took the processor away meanwhile, which makes a short step many
    times as long, no more than the processor time of this one. device: what works; of a GPU, the clock alone is asked.
    """
    taken, clock, own = _taken_away(), time.perf_counter(), time.process_time()
    work()
    clock, own = time.perf_counter() - clock, time.process_time() - own
    return min(clock, own) if device == "cpu" and _taken_away() > taken else clock


def timed_steps(steps: Iterable[Callable[[], object]], device: str = "cpu") -> tuple[float, float]:
    """Do steps alike; return the seconds of the fastest and of the slowest, as `timed` has them.

    The first, where there are more, is not counted: it prepares what the others find there.
    """
    seconds = [timed(step, device) for step in steps]
    return min(seconds[1:] or seconds), max(seconds[1:] or seconds)


def _taken_away() -> int:
    """How often the processor was taken from this process; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


def quartiles(times: Sequence[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper quartile of timed steps: a disturbed one hardly moves them."""
    if len(times) < 2:
        return times[0], times[0], times[0]
    low, middle, high = statistics.quantiles(times, n=4, method="inclusive")
    return low, middle, high


def resolve_device(device: str) -> str:
    """Return the device to compute on (a ConcordError if it is not here); ``auto`` is CUDA, else MPS, else the CPU."""
    if device == "cpu" or (device == "auto" and "torch" not in sys.modules and _without_gpu()):
        return "cpu"
    import torch  # imported here: planning and real-image methods never need it

    cuda = torch.cuda.is_available()
    mps = torch.backends.mps.is_available()
    if device == "auto":
        return "cuda" if cuda else "mps" if mps else "cpu"
    kind, _, number = device.partition(":")
    there = {"cuda": cuda, "mps": mps}.get(kind, False)
    if there and kind == "cuda" and number:
        there = number.isdigit() and int(number) < torch.cuda.device_count()
    if not there:
        here = ", ".join(name for name, is_there in (("cuda", cuda), ("mps", mps), ("cpu", True)) if is_there)
        raise ConcordError(f'device "{device}" is not available here (there is: {here}); give device=auto')
    return device


@cache
def _without_gpu() -> bool:
    """Whether this machine surely has no GPU that torch could use, so that it need not be asked.

    To import it takes seconds and half a gigabyte. On Linux it uses none without the driver's library (CUDA) or device
    (ROCm); elsewhere this knows nothing.
    """
    if sys.platform != "linux" or Path("/dev/kfd").exists():
        return False
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return True
    return False


def resolve_dtype(dtype: str, device: str) -> str:
    """Return what the networks compute in: what was asked for, or for ``auto`` bfloat16 on CUDA and float32 elsewhere.

    A GPU without bfloat16 of its own (before Ampere) computes in float32: float16 lets CLIP's gradients underflow.
    """
    if dtype != "auto":
        return dtype
    if not device.startswith("cuda"):
        return "float32"
    import torch

    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"


def slow_dtype(dtype: str, device: str) -> list[str]:
    """What to tell where a CPU has no instructions for the dtype that was asked for; nothing elsewhere.

    Two small products are timed: no list of processors has to be kept.
    """
    if device != "cpu" or dtype not in ("bfloat16", "float16"):
        return []
    times = _product(dtype) / _product("float32")
    if times < EMULATED:
        return []
    return [
        f"dtype={dtype}: this CPU emulates it, {times:.0f} times as slow in a small product; float32 is faster here"
    ]


EMULATED = 3.0
"""Times as long as in float32 that a product in half precision takes where it is not the processor's own, at least."""


def _product(dtype: str, side: int = 128) -> float:
    """Seconds of a matrix product, the fastest of three."""
    import torch

    one = torch.ones(side, side, dtype=getattr(torch, dtype))
    return min(timed(lambda: one @ one) for _ in range(3))


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine() -> str:
    """This machine in a few words: ``Linux x86_64, 2 CPU cores``."""
    return f"{platform.system()} {platform.machine()}, {cores()} CPU cores"


def memory() -> int:
    """Return the bytes of memory that this process may hope for, a container's limit included."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 8 * 2**30
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            text = Path(limit).read_text().strip()
        except OSError:
            continue
        if text.isdigit():
            total = min(total, int(text))
    return total


def free_memory(device: str) -> int:
    """Return the bytes of memory that a device has left for this process; of the CPU, what other processes leave."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    if device == "mps":
        import torch

        return torch.mps.recommended_max_memory()
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return memory()
    return min(free, memory())


def begin_peak(device: str) -> None:
    """Begin to watch the largest memory of a device, for `peak_memory`; where it cannot, it is that of all before."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.reset_peak_memory_stats(device)
    elif device == "cpu":
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def peak_memory(device: str) -> int:
    """Return the largest memory since `begin_peak`, in bytes: of a GPU what torch had of it, of the CPU all that this
    process held."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.max_memory_reserved(device)
    if device == "mps":
        import torch

        return torch.mps.driver_allocated_memory()  # no peak is kept: what is held now
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
