"""An endless shuffled order of any number of records, in constant memory and time.

A permutation is a keyed Feistel network over the next power of four, walked until it lands inside the range (Black and
Rogaway, "Ciphers with Arbitrary Finite Domains", 2002). Shards are read well only in parts, so records are shuffled in
two levels: blocks of consecutive records come in shuffled order, and all records of a window of sixteen blocks are
shuffled among each other. What is left over after whole blocks joins a window that each epoch draws.
"""

from functools import lru_cache

from lora_core.randomness import seed_for

BLOCK = 1024
"""Consecutive records that stay in one window."""
WINDOW = 16
"""Blocks that are shuffled together."""
_ROUNDS = 6
_MASK = 2**64 - 1


def shuffled(position: int, size: int, *stream: int | str, block: int = BLOCK) -> int:
    """Which of `size` records comes at `position` of an endless stream that is reshuffled every `size` positions.

    Up to `WINDOW * block` records are one full permutation; of more, neighbours in the stream come from at most
    `WINDOW` blocks of consecutive records and the rest behind the last whole block.
    """
    epoch, place = divmod(position, size)
    blocks, rest = divmod(size, block)
    window_size = WINDOW * block
    windows = max(1, -(-blocks // WINDOW))
    with_rest = _keys(*stream, epoch, "rest")[0] % windows
    start = with_rest * window_size
    if place < start:
        window, place = divmod(place, window_size)
    else:
        window = max(with_rest, (place - rest) // window_size)
        place -= window * window_size + (rest if window > with_rest else 0)
    whole = (min(WINDOW, blocks - window * WINDOW)) * block
    place = permuted(place, whole + (rest if window == with_rest else 0), _keys(*stream, epoch, window))
    if place >= whole:
        return blocks * block + place - whole
    slot, inside = divmod(place, block)
    return permuted(window * WINDOW + slot, blocks, _keys(*stream, epoch, "blocks")) * block + inside


def permuted(place: int, size: int, keys: tuple[int, ...]) -> int:
    """Where a keyed permutation of range(size) puts `place`."""
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = place >> half, place & mask
        for key in keys:
            left, right = right, left ^ (_mixed(right, key) & mask)
        place = left << half | right
        if place < size:
            return place


def _mixed(value: int, key: int) -> int:
    """64 bits that depend on every bit of both (the finaliser of SplitMix64)."""
    value = (value + key) & _MASK
    value = ((value ^ value >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ value >> 27) * 0x94D049BB133111EB) & _MASK
    return value ^ value >> 31


@lru_cache(maxsize=256)
def _keys(*parts: int | str) -> tuple[int, ...]:
    return tuple(seed_for("order", *parts, number) for number in range(_ROUNDS))
