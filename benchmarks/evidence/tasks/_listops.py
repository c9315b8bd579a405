"""ListOps after the description in the Long Range Arena: nested prefix operations on digits, ten classes."""

import numpy as np

from ._splits import Splits, divided

WORDS = ("<pad>", "[MIN", "[MAX", "[MED", "[SM", "]", *"0123456789")
"""The vocabulary; a token is the index of its word."""

TOKEN = {word: token for token, word in enumerate(WORDS)}
OPERATORS = {
    "[MIN": min,
    "[MAX": max,
    "[MED": lambda values: int(np.median(values)),
    "[SM": lambda values: sum(values) % 10,
}
NESTED, DEPTH, ARGUMENTS = 0.25, 8, 5  # share of nested arguments, deepest nesting, most arguments
BANDS = 4  # lengths are spread equally over so many bands


def listops(length: int = 64, sizes: tuple[int, int, int] = (15_500, 500, 1_000)) -> Splits:
    """Expressions of length / 2 ... length tokens, padded in front, with equally many in each band of lengths."""
    total = sum(sizes)
    rng = np.random.default_rng(64)
    edges = np.linspace(length // 2, length + 1, BANDS + 1).astype(int)
    room = np.full(BANDS, -(-total // BANDS))
    x, y, seen = [], [], set()
    while room.any():
        words, value = expression(rng, length)
        band = int(np.searchsorted(edges, len(words), side="right")) - 1
        if 0 <= band < BANDS and room[band] and (key := " ".join(words)) not in seen:
            seen.add(key)
            room[band] -= 1
            x.append([0] * (length - len(words)) + [TOKEN[word] for word in words])
            y.append(value)
    return Splits(*divided(np.array(x), np.array(y), sizes, seed=0), classes=10, tokens=len(WORDS))


def expression(rng: np.random.Generator, longest: int) -> tuple[list[str], int]:
    """Words and value of one random expression; it may stop growing as soon as it is too long."""
    words: list[str] = []

    def grow(depth: int) -> int:
        nested = depth == 1 or (depth < DEPTH and rng.random() < NESTED)
        if not nested or len(words) > longest:
            value = int(rng.integers(10))
            words.append(str(value))
            return value
        operator = WORDS[1 + rng.integers(4)]
        words.append(operator)
        values = [grow(depth + 1) for _ in range(rng.integers(2, ARGUMENTS + 1))]
        words.append("]")
        return OPERATORS[operator](values)

    value = grow(1)
    return words, value
