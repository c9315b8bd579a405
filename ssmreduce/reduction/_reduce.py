"""`reduce`: any method on the layers of a model."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from .._support.arguments import require_kind, whole_number
from ..calibration import Calibration
from ..errors import SelectionError, UnknownNameError
from ..models import SSMModel, replace_system
from ..models._model import MODEL_ADVICE
from ..systems import DiagonalSSM
from .calibrated._balanced import balance_calibrated
from .methods import (
    Reduction,
    balanced_truncation,
    compensated_truncation,
    exchange,
    greedy_elimination,
    h2_approximation,
    hankel_approximation,
    modal_truncation,
    singular_perturbation,
)

METHODS: dict[str, Callable[..., Reduction]] = {
    "modal": modal_truncation,
    "compensated": compensated_truncation,
    "greedy": greedy_elimination,
    "greedy_hankel": partial(greedy_elimination, rule="hankel"),
    "exchange": exchange,
    "balanced": balanced_truncation,
    "h2": h2_approximation,
    "singular_perturbation": singular_perturbation,
    "modal_perturbation": partial(singular_perturbation, basis="modal"),
    "hankel": hankel_approximation,
}
"""Methods by name: functions of a system and the number of stored states that may be left."""


def reduce(
    model: SSMModel,
    orders: Mapping[str, int] | None = None,
    *,
    method: str = "balanced",
    calibration: Calibration | None = None,
    **options: Any,
) -> SSMModel:
    """Re-realise layers with fewer states.

    Parameters
    ----------
    model : SSMModel
    orders : mapping, optional
        Layer name -> stored states that may be left, over all systems of a batch, as in `Selection.orders`; layers that
        are not named stay as they are. May be left out where the method finds the order (``tolerance=...``): then every
        layer is reduced.
    method : str
        ``balanced``, ``greedy``, ``greedy_hankel``, ``exchange``, ``compensated``, ``modal``, ``h2``; or, with a dense
        D, ``singular_perturbation``, ``modal_perturbation``, ``hankel``. See the page "How to choose".
    calibration : Calibration, optional
        With ``balanced`` and orders: the covariance of the states on data takes the place of the controllability
        Gramian (calibrated balanced truncation).
    **options
        Of the method's function.

    Returns
    -------
    SSMModel
        Its `orders` are what is stored, which may be less than asked for, never more. A layer that is asked for as many
        states as it has is left untouched.

    Raises
    ------
    ArgumentError
        No model, or orders that are not a mapping.
    UnknownNameError, UnknownLayerError
        A method, an option of it, or a layer that does not exist.
    SelectionError
        An order that the layer cannot have, or that does not split equally over its systems.
    UnattainableError
        A tolerance that cannot be met.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> model = sr.models.example()
    >>> keep = sr.select(sr.score(model, "last"), ratio=0.5)
    >>> reduced = reduce(model, keep.orders, method="balanced")
    >>> sum(keep.orders.values()), sum(reduced.orders.values())
    (128, 128)
    """
    require_kind(model, SSMModel, "model", MODEL_ADVICE)
    if orders is not None:
        require_kind(orders, Mapping, "orders", "layer name -> number of states is needed, such as keep.orders")
    if not isinstance(method, str) or method not in METHODS:
        raise UnknownNameError(f"there is no method {method!r}; choose from {', '.join(METHODS)}")
    if calibration is not None:
        if method != "balanced" or orders is None or options:
            raise SelectionError("calibration goes with method='balanced', orders, and no other option")
        return balance_calibrated(model, calibration, orders)
    if "tolerance" in options and method != "balanced":
        raise SelectionError(f"the method {method!r} takes orders, not a tolerance; method='balanced' takes both")
    _check_options(method, options)
    if orders is None and "tolerance" not in options:
        raise SelectionError("orders are needed: layer name -> stored states (or tolerance=... with method='balanced')")
    for name in orders or ():
        model.require(name)
    for name in model if orders is None else orders:
        ssm = model[name]
        order = None if orders is None else _one_order(ssm, orders[name], name)
        if order != ssm.order:
            model = replace_system(model, name, METHODS[method](ssm, order, **options).ssm)
    return model


def _check_options(method: str, options: Mapping[str, Any]) -> None:
    function = METHODS[method]
    taken = {"method", *getattr(function, "keywords", {})}  # by `reduce` itself, or by the method's name
    parameters = inspect.signature(function).parameters.values()
    known = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in taken]
    for name in options:
        if name not in known:
            choice = f"choose from {', '.join(known)}" if known else "it has none"
            raise UnknownNameError(f"the method {method!r} has no option {name!r}; {choice}")


def _one_order(ssm: DiagonalSSM, states: int, name: str) -> int:
    systems = ssm.systems
    order, rest = divmod(whole_number(states, f"the order of layer {name!r}", error=SelectionError), systems)
    if rest:
        raise SelectionError(
            f"layer {name!r} has {systems} systems, which cannot keep {states} states in equal parts; select with "
            "scope='system'"
        )
    return order
