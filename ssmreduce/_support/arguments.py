"""Argument checks with clear error messages."""

import numbers
import os
from collections.abc import Callable
from typing import Any

import array_api_compat
import numpy as np

from ..errors import ArgumentError, OptionError


def require_kind(value: Any, kind: type | tuple[type, ...], name: str, advice: str) -> None:
    """Raise `ArgumentError` unless the value is of a kind; `advice` says what is needed."""
    if not isinstance(value, kind):
        raise ArgumentError(f"{name} is {described(value)}; {advice}")


def require_callable(value: Callable | Any, name: str, advice: str) -> None:
    """Raise `ArgumentError` unless the value can be called."""
    if not callable(value):
        raise ArgumentError(f"{name} is {described(value)}; {advice}")


def require_batches(value: Any) -> None:
    """Raise `ArgumentError` where one array is given for several batches: its rows would be taken for them."""
    if array_api_compat.is_array_api_obj(value):
        raise ArgumentError(f"batches is {described(value)}; give a list of batches, such as [x]")


def require_path(value: Any) -> None:
    """Raise `ArgumentError` unless the value names a file."""
    require_kind(value, (str, os.PathLike), "path", "the path of a file is needed")


def random_numbers(seed: Any) -> np.random.Generator:
    """Generator of a seed."""
    try:
        return np.random.default_rng(seed)
    except (TypeError, ValueError):
        raise ArgumentError(f"seed must be a whole number, 0 or larger, got {described(seed)}") from None


def described(value: Any) -> str:
    """A value in a few words, for messages: its kind, and its shape or text."""
    kind = type(value).__name__
    if value is None or isinstance(value, str | bytes | bool | int | float | complex):
        text = repr(value)
        return text if len(text) <= 60 else f"{text[:57]}..."
    shape = getattr(value, "shape", None)
    article = "an" if kind[:1].lower() in "aeiou" else "a"
    return f"{article} {kind}" if shape is None else f"{article} {kind} of shape {tuple(shape)}"


def real_number(value: Any, name: str) -> float:
    """The value as a float; `ArgumentError` where it is none."""
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError):  # RuntimeError: a PyTorch tensor of several values
        raise ArgumentError(f"{name} must be a number, got {described(value)}") from None


def whole_number(value: Any, name: str, *, error: type[Exception] = OptionError) -> int:
    """The value as an integer that is not negative; 3.0 counts as one, "3" does not."""
    number = real_number(value, name)
    if number < 0:
        raise error(f"{name} must not be negative, got {value}")
    if not number.is_integer():
        raise error(f"{name} must be a whole number, got {value}")
    return int(number)


def share(
    value: Any, name: str, *, zero: bool = False, one: bool = False, error: type[Exception] = OptionError
) -> float:
    """The value as a float between 0 and 1, which count themselves only if `zero` and `one` say so."""
    number = real_number(value, name)
    if not (0 < number < 1 or (zero and number == 0) or (one and number == 1)):
        raise error(f"{name} must be in {'[' if zero else '('}0, 1{']' if one else ')'}, got {value}")
    return number


def positive_integer(value: Any, name: str) -> int:
    """The value as a positive integer; `OptionError` if it is none."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < 1:
        raise OptionError(f"{name} must be a positive integer, got {value!r}")
    return int(value)
