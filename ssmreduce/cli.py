"""The command line: inspect, score, calibrate, prune, search, compare, with the verbs and the options of the API."""

import argparse
import importlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .adapters import ADAPTERS, Adapter
from .calibration import calibrate, load_calibration, save_calibration
from .checkpoints import read_file
from .errors import SSMReduceError, UnknownNameError
from .loading import load, save
from .model import FORMS, SSMModel
from .reduction import elimination_path, elimination_scores, prune, refit
from .report import compare, inspect, table_of
from .scores import ALLOCATIONS, CRITERIA, PRESETS, Scores, score
from .search import search
from .selection import select

_EPILOG = """examples:
  ssmreduce inspect model.safetensors --adapter s5 --set conj_sym=true --set discretization=zoh
  ssmreduce score model.safetensors --method last
  ssmreduce prune model.safetensors small.safetensors --method last --ratio 0.33
  ssmreduce calibrate model.safetensors inputs.npz calibration.npz
  ssmreduce prune model.safetensors small.safetensors --method calibrated --calibration calibration.npz --ratio 0.8
  ssmreduce compare model.safetensors small.safetensors

Files: npz, safetensors, Flax msgpack, PyTorch (weights only). A safetensors file written here remembers its adapter.
Exit codes: 0 done, 1 an error (nothing is written), 2 wrong usage."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments; by default those of the process.

    Returns
    -------
    int
        Exit code: 0 done, 1 an error that is said on standard error.

    Examples
    --------
    >>> main(["inspect", "no-such-file.npz"])
    1
    """
    args = _parser().parse_args(argv)
    try:
        result, table = args.run(args)
    except SSMReduceError as error:
        print(f"ssmreduce: error: {error}", file=sys.stderr)
        return 1
    try:
        _show(result, table, args.json)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _show(result: dict, table: Any, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        from rich.console import Console

        Console().print(table)
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ssmreduce",
        description="Make deep state-space models smaller.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="command")
    command = _command(commands, "inspect", _inspect, "sizes, slowest poles, largest state norms, unstable states")
    command.add_argument("file")
    command = _command(commands, "score", _score, "one value a state")
    command.add_argument("file")
    _add_score_options(command)
    command = _command(commands, "prune", _prune, "drop states and write a smaller checkpoint")
    command.add_argument("file")
    command.add_argument("output", help="its suffix names the format")
    _add_score_options(command)
    _add_select_options(command)
    command.add_argument(
        "--form", choices=FORMS, default="compact", help="how dropped states are written (%(default)s)"
    )
    _add_calibrated_commands(commands)
    command = _command(commands, "compare", _compare, "reduced checkpoints against the original")
    command.add_argument("file", help="the original")
    command.add_argument("reduced", nargs="+", help="reduced checkpoints")
    command.add_argument("--length", type=int, default=1024, help="steps of white noise (%(default)s)")
    command.add_argument("--seed", type=int, default=0, help="of the noise (%(default)s)")
    return parser


def _add_calibrated_commands(commands: Any) -> None:
    command = _command(commands, "calibrate", _calibrate, "sum second moments of the states on recorded layer inputs")
    command.add_argument("file")
    command.add_argument(
        "inputs", nargs="+", help="npz files: layer name -> (batch, L, width); 'mask' says what counts"
    )
    command.add_argument("output", help="npz file of the calibration")
    command = _command(commands, "search", _search, "drop as many states as a metric allows, by calibrated elimination")
    command.add_argument("file")
    command.add_argument("output", help="its suffix names the format")
    command.add_argument("--calibration", required=True, help="npz file that calibrate wrote")
    command.add_argument(
        "--evaluate", required=True, metavar="MODULE:FUNCTION", help="from a model to a number to keep high"
    )
    command.add_argument("--max-loss", type=float, required=True, help="what the number may lose")
    command.add_argument("--tolerance", type=float, default=0.01, help="of the ratio (%(default)s)")
    command.add_argument("--scope", choices=("layer", "system"), default="layer", help=_SCOPE)
    command.add_argument("--feedthrough", action="store_true", help=_FEEDTHROUGH)
    command.add_argument(
        "--form", choices=FORMS, default="compact", help="how dropped states are written (%(default)s)"
    )


def _command(commands: Any, name: str, run: Any, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(run=run)
    command.add_argument("--json", action="store_true", help="plain data for programs")
    command.add_argument("--adapter", choices=sorted(ADAPTERS), help="model family, where the file does not tell it")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FLAG=VALUE",
        help="flag of the adapter that the file does not hold, such as conj_sym=true",
    )
    return command


def _add_score_options(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--method", default="last", choices=[*PRESETS, *CRITERIA, "calibrated"], metavar="METHOD", help=_METHODS
    )
    command.add_argument("--calibration", help="npz file that calibrate wrote, for the method calibrated")
    command.add_argument("--feedthrough", action="store_true", help=_FEEDTHROUGH)
    command.add_argument("--allocation", choices=ALLOCATIONS, help="how layers compare (criteria only)")
    command.add_argument("--scope", choices=("layer", "system"), default="layer", help=_SCOPE)
    command.add_argument("--seed", type=int, default=0, help="of random methods (%(default)s)")


_METHODS = "preset or criterion: " + ", ".join([*PRESETS, *CRITERIA, "calibrated"]) + " (%(default)s)"
_FEEDTHROUGH = "calibrated: fit D as well as C"
_SCOPE = "treat a layer as a whole, or each of its systems (S4D features) alike (%(default)s)"


def _add_select_options(command: argparse.ArgumentParser) -> None:
    rule = command.add_mutually_exclusive_group(required=True)
    rule.add_argument("--ratio", type=float, help="share of the states to drop, in [0, 1)")
    rule.add_argument("--count", type=int, help="number of states of the whole model that stay")
    rule.add_argument("--threshold", type=float, help="states with at least this score stay")
    rule.add_argument("--orders", nargs="+", type=int, metavar="N", help="states that stay, a number a layer")
    command.add_argument("--min-states", type=int, default=1, help="least number of states a layer (%(default)s)")
    command.add_argument("--ties", choices=("stable", "keep"), help="which of equal scores stay")


def _load(path: str, args: argparse.Namespace) -> SSMModel:
    return load(path, adapter=_adapter(args))


def _adapter(args: argparse.Namespace) -> Adapter | None:
    if args.adapter is None:
        if args.set:
            raise UnknownNameError("--set gives flags of an adapter; name it with --adapter")
        return None
    return ADAPTERS[args.adapter].from_flags(dict(_flag(text) for text in args.set))


def _flag(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    words = {"true": True, "false": False}
    try:
        return name, words[value.lower()] if value.lower() in words else float(value)
    except ValueError:
        return name, value


def _inspect(args: argparse.Namespace) -> tuple[dict, Any]:
    inspection = inspect(_load(args.file, args))
    return inspection.to_dict(), inspection


def _scores(model: SSMModel, args: argparse.Namespace) -> Scores:
    if (args.method == "calibrated") != (args.calibration is not None):
        raise UnknownNameError(
            "the method calibrated and the option --calibration go together; calibrate makes the file"
        )
    if args.method == "calibrated":
        path = elimination_path(model, load_calibration(args.calibration), feedthrough=args.feedthrough)
        return elimination_scores(path, scope=args.scope)
    return score(model, args.method, allocation=args.allocation, scope=args.scope, seed=args.seed)


def _score(args: argparse.Namespace) -> tuple[dict, Any]:
    from rich.markup import escape

    scores = _scores(_load(args.file, args), args)
    table = table_of(
        f"{scores.method}, {scores.allocation}", "layer", "states", "smallest", "median", "largest", "infinite"
    )
    for name, value in scores.items():
        finite = value[np.isfinite(value)]
        summary = np.quantile(finite, [0.0, 0.5, 1.0]) if finite.size else [np.nan] * 3
        table.add_row(escape(name), str(value.size), *(f"{v:.4g}" for v in summary), str(value.size - finite.size))
    plain = {name: [v if np.isfinite(v) else None for v in value.ravel().tolist()] for name, value in scores.items()}
    return {"method": scores.method, "allocation": scores.allocation, "scores": plain}, table


def _prune(args: argparse.Namespace) -> tuple[dict, Any]:
    from rich.markup import escape

    model = _load(args.file, args)
    orders = None
    if args.orders is not None:
        if len(args.orders) != len(model):
            raise UnknownNameError(f"--orders needs {len(model)} numbers, one a layer, got {len(args.orders)}")
        orders = dict(zip(model, args.orders, strict=True))
    selection = select(
        _scores(model, args),
        ratio=args.ratio,
        count=args.count,
        threshold=args.threshold,
        orders=orders,
        min_states=args.min_states,
        ties=args.ties,
        scope=args.scope,
    )
    pruned = prune(model, selection)
    if args.method == "calibrated":
        pruned = refit(pruned, load_calibration(args.calibration), feedthrough=args.feedthrough)
    before = Path(args.file).stat().st_size
    save(pruned, args.output, form=args.form)
    after = Path(args.output).stat().st_size
    table = table_of(f"{args.file} -> {args.output} ({args.form})", "layer", "states before", "after")
    for name, count in model.orders.items():
        table.add_row(escape(name), str(count), str(selection.orders[name]))
    total = sum(selection.orders.values())
    table.add_section()
    table.add_row("all", str(sum(model.orders.values())), f"{total} ({selection.ratio:.1%} dropped)")
    table.add_row("bytes", f"{before:,}", f"{after:,}")
    result = {
        "output": args.output,
        "form": args.form,
        "orders": dict(selection.orders),
        "keep": {name: indices.tolist() for name, indices in selection.keep.items()},
        "ratio": selection.ratio,
        "threshold": selection.threshold if np.isfinite(selection.threshold) else None,
        "bytes_before": before,
        "bytes_after": after,
    }
    return result, table


def _progress(text: str) -> Any:
    """Progress bar on standard error, and a function that moves it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(text)
    return bar, lambda done, total: bar.update(task, completed=done, total=total)


def _calibrate(args: argparse.Namespace) -> tuple[dict, Any]:
    from rich.markup import escape

    model = _load(args.file, args)
    bar, move = _progress("calibrating")
    with bar:
        calibration = None
        for done, path in enumerate(args.inputs, start=1):
            arrays = dict(read_file(path)[0])
            mask = arrays.pop("mask", None)
            fresh = calibrate(model, arrays, mask=mask)
            calibration = fresh if calibration is None else calibration + fresh
            move(done, len(args.inputs))
    assert calibration is not None  # argparse asks for one file at least
    save_calibration(calibration, args.output)
    table = table_of(f"{args.file} -> {args.output}", "layer", "steps", "longest sequence")
    for name, moments in calibration.items():
        table.add_row(escape(name), str(moments.steps), str(moments.length))
    layers = {name: {"steps": m.steps, "length": m.length} for name, m in calibration.items()}
    return {"output": args.output, "layers": layers}, table


def _function(text: str) -> Any:
    """Function of the user's own module, found from the working directory."""
    module, _, name = text.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownNameError(f"--evaluate needs MODULE:FUNCTION, and {text!r} is not one: {error}") from error
    finally:
        sys.path.pop(0)
    return function


def _search(args: argparse.Namespace) -> tuple[dict, Any]:
    model = _load(args.file, args)
    calibration, evaluate = load_calibration(args.calibration), _function(args.evaluate)
    bar, move = _progress("searching")
    with bar:
        found = search(
            model,
            calibration,
            evaluate,
            max_loss=args.max_loss,
            tolerance=args.tolerance,
            scope=args.scope,
            feedthrough=args.feedthrough,
            progress=move,
        )
    save(found.model, args.output, form=args.form)
    table = table_of(f"{args.file} -> {args.output} (before: {found.reference:.6g})", "dropped", "states", "value", "")
    for point in found.points:
        table.add_row(f"{point.ratio:.1%}", str(point.states), f"{point.value:.6g}", "ok" if point.accepted else "")
    return {"output": args.output, "orders": found.model.orders, **found.to_dict()}, table


def _compare(args: argparse.Namespace) -> tuple[dict, Any]:
    candidates = {path: _load(path, args) for path in args.reduced}
    comparison = compare(_load(args.file, args), candidates, length=args.length, seed=args.seed)
    return comparison.to_dict(), comparison
