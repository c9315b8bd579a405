"""The one room of fast loops: the same names and signatures in each engine."""

from types import ModuleType

import array_api_compat

from .._support.arrays import Array
from ..errors import UnknownNameError
from ._layer import Layer

__all__ = ["ENGINES", "Layer", "engine_for"]


def _on_device(array: Array) -> bool:
    """Whether the CUDA engine can be asked for; where the array lies, that engine finds out."""
    kinds = (array_api_compat.is_cupy_array, array_api_compat.is_torch_array, array_api_compat.is_jax_array)
    return any(kind(array) for kind in kinds)


_SERVES = {
    "reference": ("any", lambda array: True),
    "numba": ("NumPy", array_api_compat.is_numpy_array),
    "cupy-look-back": ("CUDA", _on_device),
    "cupy": ("CUDA", _on_device),
    "torch": ("PyTorch", array_api_compat.is_torch_array),
    "jax": ("JAX", array_api_compat.is_jax_array),
}
ENGINES = tuple(_SERVES)
_BY_DEFAULT = ("numba", "jax", "torch", "cupy", "reference")


def engine_for(array: Array, engine: str | None) -> ModuleType:
    """Module of the named engine; by default that of the array's library, or the reference where it has none."""
    if engine is None:
        engine = next(name for name in _BY_DEFAULT if _SERVES[name][1](array))
    elif engine not in ENGINES:
        raise UnknownNameError(f"there is no engine {engine!r}; choose from {', '.join(ENGINES)}")
    library, serves = _SERVES[engine]
    if not serves(array):
        raise UnknownNameError(
            f"engine {engine!r} serves {library} arrays; convert the input, leave the engine to the library, or use "
            "engine='reference'"
        )
    return _module(engine)


def _module(engine: str) -> ModuleType:
    # statements, which torch.compile can follow where it cannot follow importlib
    if engine == "numba":
        from .numba import _engine

        return _engine
    if engine == "cupy":
        from .cuda import _cupy

        return _cupy
    if engine == "cupy-look-back":
        from .cuda import _cupy_look_back

        return _cupy_look_back
    if engine == "torch":
        from . import _torch

        return _torch
    if engine == "jax":
        from . import _jax

        return _jax
    from . import _reference

    return _reference
