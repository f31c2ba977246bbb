"""One setting of the C library that makes training on a Linux CPU about a tenth faster.

A step allocates and frees the same 8 MB activations again and again.  By default glibc gives such
blocks back to the kernel at once, which then hands out zeroed pages anew, one page fault per 4 KB.
"""

from __future__ import annotations

import ctypes
import sys

# <malloc.h>
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEEP_BYTES = 1 << 30


def keep_freed_memory() -> bool:
    """Let this process keep up to 1 GB that it has freed, for the next step; False where unsupported.

    The setting is the process's and stays.  It changes no result, only where memory comes from.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library, such as musl
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES) and mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES))
