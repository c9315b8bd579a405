"""The search compiled where that pays, and as plain Python where there is too little to do."""

from collections.abc import Callable

from ..._support.compiled import Deferred, interpreted
from . import _circle, _plain, _search

_ON_ARRAYS: dict[str, Callable] = {
    "_respond": _plain.respond,
    "_transfer": _plain.transfer,
    "_square_sum": _plain.square_sum,
    "_conjugate": _plain.conjugated,
    "_state_sum": _plain.state_sum,
    "_feedthrough": _plain.feedthrough,
    "_dot": _plain.dot,
    "_real_dot": _plain.real_dot,
}
peak_gains = Deferred(_search.peak_gains, 20_000, _ON_ARRAYS)  # samples, about 3 s
proven_gain = interpreted(_circle.proven_gain, _ON_ARRAYS)
direction = interpreted(_circle.direction)
