"""Limits of the machine that any command can reach, and what to do about them. Imports only the standard library."""

import re
import resource

LEAST_MEMORY = 256 << 20
"""Bytes of address space that loading the libraries takes, at least."""

_NO_MEMORY = re.compile("cannot allocate memory|failed to map segment|bad_alloc|memory allocation of", re.IGNORECASE)
_NO_THREADS = re.compile("can't start new thread|failed to spawn|resource temporarily unavailable", re.IGNORECASE)
_NO_FILES = re.compile("too many open files", re.IGNORECASE)
"""Messages of Python, the dynamic linker, and the libraries in Rust and C++."""


def advice(error: BaseException) -> str:
    """What to do about the limit that `error` comes from; empty for other errors."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or _NO_MEMORY.search(text):
        return "There is not enough memory. Use fewer --workers, or raise the limit that `ulimit -v` shows."
    if _NO_THREADS.search(text):
        return "No more threads can be started. Use fewer --workers, or raise the limit that `ulimit -u` shows."
    if _NO_FILES.search(text):
        return "No more files can be opened. Raise the limit that `ulimit -n` shows."
    return ""


def check_memory() -> None:
    """Raise MemoryError where `ulimit -v` leaves too little to load libraries: OpenBLAS would end the process."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_AS)
    if allowed != resource.RLIM_INFINITY and allowed < LEAST_MEMORY:
        raise MemoryError
