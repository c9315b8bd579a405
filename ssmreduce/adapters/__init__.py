"""One adapter a model family: which arrays of a checkpoint are which system."""

from ._annotated import AnnotatedS4, AnnotatedS4D
from ._attenuate import ATENNuate, LrnnxS5
from ._base import Adapter
from ._call import Call, Kernel
from ._centaurus import Centaurus, CentaurusFull
from ._detect import detect, layers_of
from ._dropin import DropIn
from ._dss import DSS
from ._event_ssm import EventSSM
from ._flowstate import FlowState
from ._layout import ABSENT, Layout, Tensor
from ._linoss import LinOSS
from ._lru import LRU
from ._mamba import MambaAdapter, mamba_adapter, order_key
from ._mega import MegaEMA
from ._registry import ADAPTERS, families
from ._s4block import S4Block
from ._s4d import S4D
from ._s4dplr import S4DPLR
from ._s5 import S5, S5PyTorch
from ._typeseg import TypesegAdapter

__all__ = [
    "ABSENT",
    "ADAPTERS",
    "DSS",
    "LRU",
    "S4D",
    "S4DPLR",
    "S5",
    "ATENNuate",
    "Adapter",
    "AnnotatedS4",
    "AnnotatedS4D",
    "Call",
    "Centaurus",
    "CentaurusFull",
    "DropIn",
    "EventSSM",
    "FlowState",
    "Kernel",
    "Layout",
    "LinOSS",
    "LrnnxS5",
    "MambaAdapter",
    "MegaEMA",
    "S4Block",
    "S5PyTorch",
    "Tensor",
    "TypesegAdapter",
    "detect",
    "families",
    "layers_of",
    "mamba_adapter",
    "order_key",
]
