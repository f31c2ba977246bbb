"""Settings of the C library that make training on a Linux CPU faster, by some tenth.

A step allocates and frees the same 8 MB activations again and again.  By default glibc gives such
blocks back to the kernel at once, which then hands out zeroed pages anew, one page fault per 4 KB.
And in pages of 4 KB a step's maps are tens of thousands, more than the processor can keep addresses of:
in pages of 2 MB, which Linux gives where it is asked to, they are some fifty.

These settings are the process's, so only processes of our own take them: the command ``cifar`` and the
workers that it starts or is given.  Whoever imports us and trains keeps a process as it was.

And where memory comes to its end, it is said in one line what would need less.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import sys
from collections.abc import Iterator

import torch

from theory.errors import RequestError, WorkError

# <malloc.h>
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEEP_BYTES = 1 << 30
_HUGE_PAGE = 1 << 21


def keep_freed_memory() -> bool:
    """Let this process keep up to 1 GB that it has freed, for the next step; False where unsupported.

    What it allocates after this call comes in huge pages where the kernel has them.  The setting is the
    process's and stays.  It changes no result, only where memory comes from.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        library = ctypes.CDLL(None)
        mallopt = library.mallopt
    except (OSError, AttributeError):  # another C library, such as musl
        return False
    kept = mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES) and mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)
    if kept:
        _ask_for_huge_pages(library)
    return bool(kept)


def _ask_for_huge_pages(library: ctypes.CDLL) -> None:
    """Mark the part of the heap that comes next: a block of it, not touched and freed at once."""
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.free.restype, library.free.argtypes = None, [ctypes.c_void_p]
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    size = _KEEP_BYTES - _HUGE_PAGE  # below the sizes that would be a mapping of their own
    block = library.malloc(size)
    if block:
        begin = -(-block // _HUGE_PAGE) * _HUGE_PAGE
        end = (block + size) // _HUGE_PAGE * _HUGE_PAGE
        library.madvise(begin, end - begin, mmap.MADV_HUGEPAGE)  # refused: small pages, as before
        library.free(block)


def memory_of_the_machine() -> int | None:
    """Bytes; None where the system, as Windows, does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError):
        return None


@contextlib.contextmanager
def memory_that_may_end() -> Iterator[None]:
    """Turn an allocation that failed into a ``WorkError``."""
    try:
        yield
    except (RequestError, WorkError):
        raise
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        first = str(error).strip().splitlines()[0] if str(error).strip() else "allocation failed"
        raise WorkError(
            f"out of memory ({first[:160]}): choose a smaller batch size, fewer filters or a lower "
            "depth; finished cells are intact"
        ) from error


def _is_out_of_memory(error: MemoryError | RuntimeError) -> bool:
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text
