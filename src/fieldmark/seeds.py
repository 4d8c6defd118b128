"""Addressed randomness: a seed is computed from where it is used, never consumed from a stream.

So a result depends on (seed, epoch, sample) alone: not on the number of workers or processes, and
not on whether a run was interrupted.
"""

from __future__ import annotations

import hashlib

Address = int | str


def derive_seed(*address: Address) -> int:
    """Return a 63-bit seed for an address such as `(seed, "augment", epoch, row)`.

    Different addresses give independent seeds; the same one gives the same on every machine.
    """
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in address)
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
