"""Live networks on the command line: ``MODULE:FUNCTION``, a function that returns one, perhaps with batches."""

import contextlib
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ..adapters import Adapter
from ..errors import ArgumentError, EvaluationError, SSMReduceError, UnknownNameError
from ..networks import Network, network


class Live(NamedTuple):
    """What a factory gives: the network, and unlabelled batches where it has them."""

    net: Network
    batches: list[Any] | None

    def data(self, text: str) -> list[Any]:
        """The batches; an error that says how to give them where there are none."""
        if not self.batches:
            raise ArgumentError(f"{text} gives no batches: let it return the tuple (network, batches)")
        return self.batches


def is_factory(text: str) -> bool:
    """Whether a place is MODULE:FUNCTION and no file."""
    return re.fullmatch(r"[^\W\d][\w.]*:[^\W\d]\w*", text) is not None and not Path(text).exists()


def live(text: str, adapter: Adapter | None = None) -> Live:
    """Call the factory: it returns a network, or a tuple of a network and a list of batches."""
    with own_modules():
        function, _ = named_function(text, "a live network")
        try:
            made = function()
        except SSMReduceError:
            raise
        except Exception as error:  # a function of the user's own may raise anything
            raise EvaluationError(f"{text} raised {type(error).__name__}: {error}") from error
        batches = None
        if isinstance(made, tuple) and len(made) == 2:
            made, given = made
            batches = list(given)
        return Live(network(made) if adapter is None else network(made, adapter=adapter), batches)


@contextlib.contextmanager
def own_modules() -> Iterator[None]:
    """Modules are found from the working directory first, and what they print is no result."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.path.remove(folder)


def named_function(text: str, option: str) -> tuple[Any, ModuleType]:
    """The function of MODULE:FUNCTION, and its module."""
    module, _, name = text.partition(":")
    try:
        home = importlib.import_module(module)
        function = getattr(home, name)
    except Exception as error:  # a module of the user's own may raise anything
        raise UnknownNameError(
            f"{option} needs MODULE:FUNCTION, and {text!r} is not one: {type(error).__name__}: {error}"
        ) from error
    if not callable(function):
        raise UnknownNameError(f"{option} needs MODULE:FUNCTION, and {text!r} is not one: it cannot be called")
    return function, home
