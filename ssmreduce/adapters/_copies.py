"""Copies of a model under other names (moving averages), and layers that a numbering lacks."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from ..errors import AdapterError, UnknownNameError
from ._layout import natural

_MARKS = {"average", "averaged", "avg", "ema", "polyak", "shadow", "swa", "target", "teacher"}
_PARTS = re.compile("([./])")


def below(root: str, name: str) -> bool:
    """Whether a name is that of a root or stands below it."""
    return name == root or name.startswith((f"{root}.", f"{root}/"))


def one_copy(layers: Sequence[str], root: str | None, size: Callable[[str], Any]) -> list[str]:
    """The layers of one copy of the model.

    Parameters
    ----------
    layers : sequence of str
    root : str or None
        Name below which the copy stands; ``""`` is the one that stands below no mark. None where there is but one.
    size : callable
        Anything that is equal for a layer and its copy.

    Raises
    ------
    AdapterError
        There are several copies, and no root was given; the message names their roots.
    UnknownNameError
        No layer below the root.
    """
    groups = _groups(layers)
    if root is not None:
        found = groups.get("", []) if root == "" else [name for name in layers if below(root, name)]
        if not found:
            raise UnknownNameError(f"there is no layer below the root {root!r}; the layers are {', '.join(layers)}")
        return found
    shapes = {key: {tail: size(name) for tail, name in _tails(names)} for key, names in groups.items()}
    copies = [key for key, shape in shapes.items() if sum(shape == other for other in shapes.values()) > 1]
    if len(copies) > 1:
        roots = " and ".join(f"root={key!r} ({groups[key][0]!r}, ...)" for key in sorted(copies))
        raise AdapterError(f"the file holds {len(copies)} copies of one model; name the one to read: {roots}")
    return list(layers)


def _groups(layers: Sequence[str]) -> dict[str, list[str]]:
    """Root that marks a copy, or ``""`` -> layers below it."""
    found: dict[str, list[str]] = {}
    for name in layers:
        found.setdefault(_root(name), []).append(name)
    return found


def _root(name: str) -> str:
    """The beginning of a name up to the last part that marks a copy, ``ema_model`` for instance."""
    parts = _PARTS.split(name)
    marked = [i for i in range(0, len(parts), 2) if _MARKS & set(re.split("[^a-z]+", parts[i].lower()))]
    return "".join(parts[: marked[-1] + 1]) if marked else ""


def _tails(names: Sequence[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """What tells the layers of one group from each other, and their names."""
    split = [name.replace("/", ".").split(".") for name in names]
    common = next((i for i, parts in enumerate(zip(*split, strict=False)) if len(set(parts)) > 1), None)
    for parts, name in zip(split, names, strict=True):
        yield tuple(parts[common:]) if common is not None else (), name


def missing_layers(params: Mapping[str, Any], layers: Sequence[str]) -> list[str]:
    """Gaps in the numbering of the layers, as text: numbers without tensors, or with only some of them.

    A number below which there is something else (attention between state-space layers, say) is no gap, nor is every
    second number where the layers are numbered themselves: a sequence of layers and activations.
    """
    said = []
    for (before, after), numbers in _numberings(layers).items():
        if not after and len({b - a for a, b in pairwise(sorted(numbers))}) == 1:
            continue
        for number in range(min(numbers), max(numbers)):
            block, name = f"{before}{number}", f"{before}{number}{after}"
            inside = [key for key in params if below(block, key)]
            part = sorted(key[len(name) + 1 :] for key in inside if below(name, key)) if after else []
            if number not in numbers and not inside:
                said.append(f"there is no {block!r}")
            elif number not in numbers and part:
                said.append(f"of {name!r} there is only {', '.join(part[:6])}")
    return said


def _numberings(layers: Sequence[str]) -> dict[tuple[str, str], set[int]]:
    """What stands before and behind a number that counts layers -> the numbers; at most 1000 apart."""
    found: dict[tuple[str, str], set[int]] = {}
    for name in sorted(layers, key=natural):
        for match in re.finditer("(?<![^./_])[0-9]{1,9}(?![^./])", name, re.ASCII):
            found.setdefault((name[: match.start()], name[match.end() :]), set()).add(int(match[0]))
    return {key: numbers for key, numbers in found.items() if len(numbers) > 1 and max(numbers) - min(numbers) < 1000}
