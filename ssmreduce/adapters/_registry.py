"""The families that are known: those of this library, and those that other packages register."""

from functools import cache
from importlib.metadata import entry_points

from ..errors import AdapterError
from ._annotated import AnnotatedS4, AnnotatedS4D
from ._attenuate import ATENNuate, LrnnxS5
from ._base import Adapter
from ._centaurus import Centaurus, CentaurusFull
from ._dropin import DropIn
from ._dss import DSS
from ._event_ssm import EventSSM
from ._flowstate import FlowState
from ._linoss import LinOSS
from ._lru import LRU
from ._mega import MegaEMA
from ._s4block import S4Block
from ._s4d import S4D
from ._s4dplr import S4DPLR
from ._s5 import S5, S5PyTorch

ENTRY_POINTS = "ssmreduce.adapters"
"""Group of entry points under which other packages register an `Adapter` subclass."""

_OURS: tuple[type[Adapter], ...] = (
    S5,
    S5PyTorch,
    S4D,
    LRU,
    S4Block,
    S4DPLR,
    FlowState,
    LinOSS,
    DSS,
    AnnotatedS4D,
    AnnotatedS4,
    ATENNuate,
    LrnnxS5,
    Centaurus,
    CentaurusFull,
    MegaEMA,
    EventSSM,
    DropIn,
)

ADAPTERS: dict[str, type[Adapter]] = {cls.name: cls for cls in _OURS}
"""The families of this library, by name."""


@cache
def families() -> dict[str, type[Adapter]]:
    """Every known family by name: those of this library, and those that installed packages register.

    A package registers its adapter under the entry point group ``ssmreduce.adapters``; the entry point's object is a
    subclass of `Adapter`. Families of this library keep their names.

    Returns
    -------
    dict
        Name -> subclass of `Adapter`.

    Raises
    ------
    AdapterError
        An entry point that cannot be imported, is no adapter, or has a name that is taken.

    Examples
    --------
    >>> families()["lru"]
    <class 'ssmreduce.adapters._lru.LRU'>
    """
    known = dict(ADAPTERS)
    for entry in entry_points(group=ENTRY_POINTS):
        where = f"the entry point {entry.name!r} ({entry.value}) of the group {ENTRY_POINTS}"
        try:
            cls = entry.load()
        except Exception as error:
            raise AdapterError(f"{where} cannot be imported: {type(error).__name__}: {error}") from error
        if not (isinstance(cls, type) and issubclass(cls, Adapter)):
            raise AdapterError(f"{where} is not a subclass of ssmreduce.adapters.Adapter, but {cls!r}")
        if known.get(cls.name, cls) is not cls:
            raise AdapterError(f"{where} calls its family {cls.name!r}, a name that is taken by {known[cls.name]!r}")
        known[cls.name] = cls
    return known


def call_of(cls: type[Adapter]) -> str:
    """How an adapter of the family is made, for messages."""
    module = "adapters." if ADAPTERS.get(cls.name) is cls else f"{cls.__module__}."
    flags = ", ".join(f"{flag}=..." for flag in cls.flag_help)
    return f"{module}{cls.__name__}({flags})"
