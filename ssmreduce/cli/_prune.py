"""``score`` and ``prune``: by norms, or by what data say."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from .._support.tables import shown, table_of
from ..calibration import Calibration, load_calibration
from ..models import SSMModel, save
from ..reduction.calibrated import refit
from ..selection import Scores, Selection, elimination_path, elimination_scores, prune, score, select
from ..selection._scores import ALLOCATIONS, CRITERIA, PRESETS
from ._live import is_factory
from ._shared import (
    FEEDTHROUGH,
    SCOPE,
    add_command,
    add_output,
    check_output,
    load_model,
    named_orders,
    natural,
    progress,
)

_METHODS = [*PRESETS, *CRITERIA, "calibrated"]


def add_score(commands: Any) -> None:
    """The command ``score``."""
    _add_score_options(add_command(commands, "score", _score, "one value a state"))


def add_prune(commands: Any) -> None:
    """The command ``prune``."""
    command = add_command(commands, "prune", _prune, "drop states and write a smaller checkpoint")
    add_output(command)
    _add_score_options(command)
    rule = command.add_mutually_exclusive_group(required=True)
    rule.add_argument("--ratio", type=float, help="share of the states to drop, in [0, 1)")
    rule.add_argument("--count", type=int, help="number of states of the whole model that stay")
    rule.add_argument("--threshold", type=float, help="states with at least this score stay")
    rule.add_argument("--orders", nargs="+", metavar="N", help="states that stay: a number a layer, or LAYER=N")
    command.add_argument("--min-states", type=int, help="least number of states a layer, not with --orders (1)")
    command.add_argument(
        "--ties", choices=("stable", "keep"), help="with --ratio or --count: which of equal scores stay"
    )


def _add_score_options(command: argparse.ArgumentParser) -> None:
    text = "preset or criterion: " + ", ".join(_METHODS) + " (%(default)s)"
    command.add_argument("--method", default="last", choices=_METHODS, metavar="METHOD", help=text)
    command.add_argument("--calibration", help="npz file that calibrate wrote, for the method calibrated")
    command.add_argument("--feedthrough", action="store_true", help=FEEDTHROUGH)
    command.add_argument("--allocation", choices=ALLOCATIONS, help="how layers compare (criteria only)")
    command.add_argument("--scope", choices=("layer", "system"), default="layer", help=SCOPE)
    command.add_argument("--seed", type=natural, help="of the method random (0)")


def _check_score_options(args: argparse.Namespace) -> None:
    """Wrong usage rather than an option that does nothing."""
    calibrated = args.method == "calibrated"
    if calibrated and args.calibration is None:
        args.fail("--method calibrated and --calibration go together; the command calibrate makes the file")
    if calibrated and args.allocation is not None:
        args.fail(
            "argument --allocation: not with --method calibrated, which compares the layers by their output error"
        )
    if args.seed is not None and args.method != "random":
        args.fail(f"argument --seed: only with --method random, not {args.method}")
    for option, given in (("--calibration", args.calibration is not None), ("--feedthrough", args.feedthrough)):
        if given and not calibrated:
            args.fail(f"argument {option}: --method calibrated and {option} go together, not {args.method}")


def _check_select_options(args: argparse.Namespace) -> None:
    if args.min_states is not None and args.orders is not None:
        args.fail("argument --min-states: not with --orders, which says what every layer keeps")
    if args.ties is not None and args.ratio is None and args.count is None:
        args.fail("argument --ties: only with --ratio or --count")


def _calibration(args: argparse.Namespace) -> Calibration | None:
    return None if args.calibration is None else load_calibration(args.calibration)


def _scores(model: SSMModel, calibration: Calibration | None, args: argparse.Namespace) -> Scores:
    if calibration is not None:
        path = elimination_path(model, calibration, feedthrough=args.feedthrough)
        return elimination_scores(path, scope=args.scope)
    return score(model, args.method, allocation=args.allocation, scope=args.scope, seed=args.seed or 0)


def _score(args: argparse.Namespace) -> tuple[dict, Any]:
    _check_score_options(args)
    with progress("scoring"):
        scores = _scores(load_model(args.file, args), _calibration(args), args)
    table = table_of(
        f"{scores.method}, {scores.allocation}", "layer", "states", "smallest", "median", "largest", "infinite"
    )
    for name, value in scores.items():
        finite = value[np.isfinite(value)]
        summary = np.quantile(finite, [0.0, 0.5, 1.0]) if finite.size else [np.nan] * 3
        table.add_row(shown(name), str(value.size), *(f"{v:.4g}" for v in summary), str(value.size - finite.size))
    plain = {name: [v if np.isfinite(v) else None for v in value.ravel().tolist()] for name, value in scores.items()}
    return {"method": scores.method, "allocation": scores.allocation, "scores": plain}, table


def _selected(model: SSMModel, scores: Scores, args: argparse.Namespace) -> Selection:
    orders = None if args.orders is None else named_orders(model, args)
    return select(
        scores,
        ratio=args.ratio,
        count=args.count,
        threshold=args.threshold,
        orders=orders,
        min_states=1 if args.min_states is None else args.min_states,
        ties=args.ties,
        scope=args.scope,
    )


def _prune(args: argparse.Namespace) -> tuple[dict, Any]:
    _check_score_options(args)
    _check_select_options(args)
    check_output(args.output, args)
    model = load_model(args.file, args)
    with progress("pruning"):
        calibration = _calibration(args)
        selection = _selected(model, _scores(model, calibration, args), args)
        pruned = prune(model, selection)
        if calibration is not None:
            pruned = refit(pruned, calibration=calibration, feedthrough=args.feedthrough)
    before = None if is_factory(args.file) else Path(args.file).stat().st_size
    save(pruned, args.output, form=args.form)
    after = Path(args.output).stat().st_size
    table = table_of(f"{args.file} -> {args.output} ({args.form})", "layer", "states before", "after")
    for name, count in model.orders.items():
        table.add_row(shown(name), str(count), str(selection.orders[name]))
    total = sum(selection.orders.values())
    table.add_section()
    table.add_row("all", str(sum(model.orders.values())), f"{total} ({selection.ratio:.1%} dropped)")
    table.add_row("bytes", "-" if before is None else f"{before:,}", f"{after:,}")
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
