"""Text read byte by byte: unwanted mail or not, from the bodies of the SpamAssassin corpus."""

import json
import re

import numpy as np

from ._packages import SPAM, unpacked
from ._splits import Splits, divided

GROUPS = {"easy-ham-1": 0, "easy-ham-2": 0, "hard-ham-1": 0, "spam-1": 1, "spam-2": 1}
SHORTEST = 64  # bytes of a body that takes part


def spam(length: int = 256) -> Splits:
    """The first bytes of each body, headers removed, padded in front; near-duplicates are dropped."""
    x, y, seen = [], [], set()
    for group, label in GROUPS.items():
        for path in sorted((unpacked(SPAM) / "package/data" / group).glob("*.json")):
            body = body_of(json.loads(path.read_text())["text"])
            key = re.sub(r"[^a-z]", "", body.lower())[:100]
            if len(body) < SHORTEST or key in seen:
                continue
            seen.add(key)
            x.append(tokens_of(body, length))
            y.append(label)
    count = len(y)
    sizes = (count - 1_250, 250, 1_000)
    return Splits(*divided(np.array(x), np.array(y), sizes, seed=0), classes=2, tokens=128)


def body_of(mail: str) -> str:
    """What follows the first empty line, without the blanks around it."""
    _, _, body = mail.replace("\r\n", "\n").partition("\n\n")
    return body.strip()


def tokens_of(text: str, length: int) -> np.ndarray:
    """ASCII codes of the first characters, 127 for others, 0 in front of short texts."""
    codes = np.frombuffer(text[:length].encode("utf-32-le"), np.uint32).astype(np.int64)
    return np.concatenate([np.zeros(length - len(codes), np.int64), np.clip(codes, 1, 127)])
