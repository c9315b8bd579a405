"""`score`: one value per state of a model, by norms or by what data say."""

from .._support.arguments import require_kind
from ..calibration import Calibration
from ..calibration._moments import CALIBRATION_ADVICE
from ..errors import OptionError
from ..models import SSMModel
from ..models._model import MODEL_ADVICE
from ._calibrated import elimination_path, elimination_scores
from ._scores import Criterion, Scores, scored


def score(
    model: SSMModel,
    method: str | Criterion = "last",
    *,
    allocation: str | None = None,
    scope: str = "layer",
    seed: int = 0,
    calibration: Calibration | None = None,
) -> Scores:
    r"""Score every state of a model.

    Parameters
    ----------
    model : SSMModel
    method : str or callable
        A preset (``last``, ``aire``, ``lamp``, ``uniform_hinf``, ``global_hinf``, ``uniform_magnitude``,
        ``global_magnitude``, ``random``, ``last_reference``, ``aire_reference``), a criterion (``hinf``, ``h2``,
        ``magnitude``, ...), ``calibrated`` (what `eliminate` chooses by), or any function from a `DiagonalSSM` to one
        non-negative value per state.
    allocation : {"uniform", "global", "layer_adaptive"}, optional
        How values compare across layers; presets bring their own, criteria and callables default to ``global``.
        ``global`` leaves them as they are. ``layer_adaptive`` divides each value by the sum of the values of its layer
        that are not smaller (states sorted; LAMP, Lee et al., ICLR 2021, and LAST): the largest of each layer scores 1
        (if no value is negative).
    scope : {"layer", "system"}
        Over what ``layer_adaptive`` normalises: the whole layer, or each system of a batch (each S4D feature).
    seed : int
        For ``random``.
    calibration : Calibration, optional
        For ``calibrated``, which needs one: of this model, every layer.

    Returns
    -------
    Scores

    Raises
    ------
    UnknownNameError
        An unknown method, allocation or scope.
    OptionError
        An allocation beside a preset, or a calibration without the method ``calibrated``, or the reverse.
    ShapeError, ArrayKindError, NonFiniteError
        A callable whose values have the wrong shape, are complex, or are NaN.
    SelectionError
        A model whose batches of systems (S4D features) were pruned to different orders.

    Notes
    -----
    States on or outside the unit circle have no norm: they score ``inf`` and stay. The normalisation runs over the
    finite values. The reference methods give them the finite values of the released code.

    Examples
    --------
    >>> import ssmreduce as sr
    >>> model = sr.models.example()
    >>> scores = score(model, "last")
    >>> float(scores["layers.0.seq"].max())
    1.0
    """
    require_kind(model, SSMModel, "model", MODEL_ADVICE)
    if not isinstance(method, str) or method != "calibrated":
        if calibration is not None:
            raise OptionError(f"calibration goes with the method 'calibrated', not {method!r}")
        return scored(model, method, allocation, scope, seed)
    if allocation is not None:
        raise OptionError("the method 'calibrated' compares the layers by their output error; it takes no allocation")
    require_kind(calibration, Calibration, "calibration", CALIBRATION_ADVICE)
    assert calibration is not None
    return elimination_scores(elimination_path(model, calibration), scope=scope)
