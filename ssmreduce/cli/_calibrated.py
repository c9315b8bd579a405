"""``calibrate`` and ``search``: second moments of recorded layer inputs, and the largest ratio that a metric allows."""

import argparse
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from .._support.tables import shown, table_of
from .._support.whole import check_place
from ..calibration import Calibration, calibrate, load_calibration, save_calibration
from ..errors import CheckpointFormatError, EvaluationError, ShapeError, WriteError
from ..models import SSMModel, save
from ..models._checkpoints import read_file
from ..reduction.calibrated import search
from ._live import named_function, own_modules
from ._networks import add_recipe, recipe_given, search_by_agreement
from ._shared import FEEDTHROUGH, SCOPE, add_command, add_output, check_output, load_model, natural, progress


def add_calibrate(commands: Any) -> None:
    """The command ``calibrate``."""
    command = add_command(
        commands, "calibrate", _calibrate, "sum second moments of the states on recorded layer inputs"
    )
    command.add_argument(
        "inputs", nargs="+", help="npz files: layer name -> (batch, L, width); 'mask' says what counts"
    )
    command.add_argument("output", help="npz file of the calibration")


def add_search(commands: Any) -> None:
    """The command ``search``."""
    command = add_command(
        commands, "search", _search, "drop as many states as a metric allows, or as agreement of a live network does"
    )
    add_output(command)
    command.add_argument("--calibration", help="npz file that calibrate wrote")
    command.add_argument("--evaluate", metavar="MODULE:FUNCTION", help="from a model to a number to keep high")
    command.add_argument("--max-loss", type=float, help="what the number may lose")
    command.add_argument(
        "--agreement", type=float, help="for a live network instead: share of its sequences on which the class stays"
    )
    command.add_argument("--tolerance", type=float, help="of the ratio (0.01; with --agreement 0.02)")
    command.add_argument("--min-states", type=natural, default=1, help="least number of states a layer (%(default)s)")
    command.add_argument("--scope", choices=("layer", "system"), default="layer", help=SCOPE)
    command.add_argument("--feedthrough", action="store_true", help=FEEDTHROUGH)
    add_recipe(command.add_argument_group("with --agreement, as in compress"))


def _calibrate(args: argparse.Namespace) -> tuple[dict, Any]:
    _check_calibration_output(args.output)
    model = load_model(args.file, args)
    with progress("calibrating") as move:
        calibration = _of_files(model, args.inputs, move)
    save_calibration(calibration, args.output)
    table = table_of(f"{args.file} -> {args.output}", "layer", "steps", "longest sequence")
    for name, moments in calibration.items():
        table.add_row(shown(name), str(moments.steps), str(moments.length))
    layers = {name: {"steps": m.steps, "length": m.length} for name, m in calibration.items()}
    return {"output": args.output, "layers": layers}, table


def _of_files(model: SSMModel, paths: list[str], move: Callable[[float, int], None]) -> Calibration:
    """Sum over files, a layer at a time so that the bar moves."""
    calibration = Calibration({})
    for done, path in enumerate(paths):
        arrays: dict[str, Any] = dict(read_file(path)[0])
        mask = arrays.pop("mask", None)
        if not arrays:
            raise ShapeError(f"{path!r} holds no layer: it needs layer name -> array (batch, L, width)")
        for layers, (name, u) in enumerate(arrays.items(), start=1):
            calibration += calibrate(model, {name: u}, mask=mask)
            move(done + layers / len(arrays), len(paths))
    return calibration


def _check_calibration_output(path: str) -> None:
    """Fail early; and with the output forgotten, the last file of inputs must not be written over."""
    check_place(Path(path))
    if Path(path).exists():
        try:
            load_calibration(path)
        except CheckpointFormatError:
            raise WriteError(
                f"{path!r}, the last argument, is where the calibration goes; it is there and is no calibration"
            ) from None


_BY_METRIC = ("calibration", "evaluate", "max_loss", "feedthrough")


def _search(args: argparse.Namespace) -> tuple[dict, Any]:
    given = [f"--{name.replace('_', '-')}" for name in _BY_METRIC if getattr(args, name) not in (None, False)]
    if args.agreement is not None:
        if given:
            args.fail(f"argument {given[0]}: not with --agreement, which a live network is searched by")
        return search_by_agreement(args)
    if len({"--calibration", "--evaluate", "--max-loss"} & set(given)) < 3:
        args.fail("--calibration, --evaluate and --max-loss are needed, or --agreement for a live network")
    if recipe_given(args):
        args.fail("arguments --method, --finish, --steps and --seed: only with --agreement")
    return _search_by_metric(args)


def _search_by_metric(args: argparse.Namespace) -> tuple[dict, Any]:
    module, _, name = args.evaluate.partition(":")
    if not (module and name):
        args.fail(f"argument --evaluate: MODULE:FUNCTION is needed, got {args.evaluate!r}")
    check_output(args.output, args)
    model = load_model(args.file, args)
    if args.scope == "layer" and args.form == "compact" and any(ssm.systems > 1 for ssm in model.values()):
        args.fail(
            "the systems of a layer (S4D features) will keep different numbers of states: give --scope system, or "
            "--form mask or padded"
        )
    calibration = load_calibration(args.calibration)
    with progress("searching") as move, own_modules():
        found = search(
            model,
            calibration,
            evaluation(args.evaluate),
            max_loss=args.max_loss,
            tolerance=0.01 if args.tolerance is None else args.tolerance,
            min_states=args.min_states,
            scope=args.scope,
            feedthrough=args.feedthrough,
            progress=move,
        )
    save(found.model, args.output, form=args.form)
    return {"output": args.output, "orders": found.model.orders, **found.to_dict()}, found


def evaluation(text: str) -> Callable[[SSMModel], float]:
    """The user's function; what it raises becomes an error that says where."""
    function, home = named_function(text, "--evaluate")

    def evaluate(model: SSMModel) -> float:
        try:
            return function(model)
        except Exception as error:
            raise EvaluationError(
                f"{text} raised {type(error).__name__}: {error}{_place(error, home)}, on the model with "
                f"{sum(model.orders.values())} states"
            ) from error

    return evaluate


def _place(error: Exception, module: ModuleType) -> str:
    """The last line of the user's module that the error went through."""
    file = getattr(module, "__file__", None)
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" ({Path(file).name}, line {lines[-1]})" if file and lines else ""
