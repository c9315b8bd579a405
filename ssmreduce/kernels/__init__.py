"""The one room of fast loops: the same names and signatures in each engine."""

from types import ModuleType

from .._arrays import Array
from ..errors import UnknownNameError
from ._layer import Layer

__all__ = ["ENGINES", "Layer", "engine_for"]

ENGINES = ("reference", "numba")


def engine_for(array: Array, engine: str | None) -> ModuleType:
    """Module of the named engine; by default Numba for NumPy arrays and the reference for other namespaces."""
    if engine not in (None, *ENGINES):
        raise UnknownNameError(f"there is no engine {engine!r}; choose from {', '.join(ENGINES)}")
    import array_api_compat

    host = array_api_compat.is_numpy_array(array)
    if engine == "numba" and not host:
        raise UnknownNameError("engine 'numba' serves NumPy arrays; convert the input or use engine='reference'")
    if engine == "reference" or not host:
        from . import _reference

        return _reference
    from . import _numba

    return _numba
