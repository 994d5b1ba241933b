"""Limits of the machine that any command can run into, and what to do about them. Imports nothing but Python's own."""

import re

_NO_MEMORY = re.compile("cannot allocate memory|failed to map segment|bad_alloc|memory allocation of", re.IGNORECASE)
_NO_THREADS = re.compile("can't start new thread|failed to spawn|resource temporarily unavailable", re.IGNORECASE)
"""As Python, the dynamic linker, and the libraries in Rust and C++ word it."""


def advice(error: BaseException) -> str:
    """What to do about the limit that `error` comes from; empty for other errors."""
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError) or _NO_MEMORY.search(text):
        return "There is not enough memory. Use fewer --workers, or allow more: ulimit -v says what is allowed."
    if _NO_THREADS.search(text):
        return "No more threads can be started. Use fewer --workers, or allow more: ulimit -u says what is allowed."
    return ""
