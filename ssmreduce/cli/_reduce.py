"""``reduce``, ``compress`` and ``sweep``: other realisations, a smaller live network, trade-off tables."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._support.tables import shown, table_of
from ..calibration import load_calibration
from ..evaluation import sweep
from ..evaluation._on_data import OnData
from ..models import SSMModel, save
from ..networks import TorchNetwork
from ..reduction import METHODS, compress, hankel_orders, reduce
from ._calibrated import evaluation
from ._live import is_factory, live, own_modules
from ._shared import (
    SCOPE,
    adapter_of,
    add_command,
    add_output,
    check_output,
    load_model,
    named_orders,
    natural,
    progress,
)


def add_reduce(commands: Any) -> None:
    """The command ``reduce``."""
    command = add_command(commands, "reduce", _reduce, "re-realise layers with fewer states")
    add_output(command)
    text = "how: " + ", ".join(METHODS) + " (%(default)s)"
    command.add_argument("--method", default="balanced", choices=METHODS, metavar="METHOD", help=text)
    rule = command.add_mutually_exclusive_group(required=True)
    rule.add_argument("--ratio", type=float, help="share of the states to drop, shared out by Hankel singular values")
    rule.add_argument("--orders", nargs="+", metavar="N", help="states that stay: a number a layer, or LAYER=N")
    rule.add_argument("--tolerance", type=float, help="relative error of each layer (method balanced)")
    command.add_argument("--calibration", help="npz file that calibrate wrote (method balanced)")


def add_compress(commands: Any) -> None:
    """The command ``compress``."""
    command = add_command(
        commands, "compress", _compress, "a smaller network from unlabelled batches; FILE is MODULE:FUNCTION"
    )
    add_output(command)
    command.add_argument("--ratio", type=float, default=0.8, help="share of the states to drop (%(default)s)")
    command.add_argument("--method", choices=("eliminate", "sequential"), default="sequential")
    command.add_argument("--finish", choices=("adam", "gauss_newton", "none"), default="adam", help="(%(default)s)")
    command.add_argument("--scope", choices=("layer", "system"), default="layer", help=SCOPE)
    command.add_argument("--min-states", type=natural, default=1, help="least number of states a layer (%(default)s)")
    command.add_argument("--steps", type=natural, default=400, help="of the finish adam (%(default)s)")
    command.add_argument("--seed", type=natural, default=0, help="of the sequences kept apart (%(default)s)")


def add_sweep(commands: Any) -> None:
    """The command ``sweep``."""
    command = add_command(commands, "sweep", _sweep, "several methods at several ratios, each evaluated")
    command.add_argument(
        "--evaluate",
        metavar="MODULE:FUNCTION",
        help="from a model to a number; by default how often a live network says what the original says",
    )
    command.add_argument("--methods", nargs="+", default=["last", "aire", "uniform_hinf", "global_hinf"])
    command.add_argument("--ratios", nargs="+", type=float, default=[0.0, 0.2, 0.4, 0.6, 0.8, 0.9])
    command.add_argument("--calibration", help="npz file that calibrate wrote, for the calibrated methods")
    command.add_argument("--seed", type=natural, default=0, help="of the random methods (%(default)s)")


def _reduce(args: argparse.Namespace) -> tuple[dict, Any]:
    check_output(args.output, args)
    if args.tolerance is not None and args.method != "balanced":
        args.fail("argument --tolerance: only with --method balanced")
    if args.calibration is not None and (args.method != "balanced" or args.tolerance is not None):
        args.fail("argument --calibration: only with --method balanced and --orders or --ratio")
    model = load_model(args.file, args)
    with progress("reducing") as move:
        small = _reduced(model, args, move)
    save(small, args.output, form=args.form)
    return _smaller(model, small, args)


def _reduced(model: SSMModel, args: argparse.Namespace, move: Any) -> SSMModel:
    """A layer at a time, so that the bar moves."""
    if args.tolerance is not None:
        return reduce(model, method=args.method, tolerance=args.tolerance)
    orders = named_orders(model, args) if args.orders else hankel_orders(model, ratio=args.ratio)
    if args.calibration is not None:
        return reduce(model, orders, calibration=load_calibration(args.calibration))
    small = model
    for done, (name, order) in enumerate(orders.items(), start=1):
        small = reduce(small, {name: order}, method=args.method)
        move(done, len(orders))
    return small


def _smaller(model: SSMModel, small: SSMModel, args: argparse.Namespace) -> tuple[dict, Any]:
    """Orders before and after."""
    before, after = sum(model.orders.values()), sum(small.orders.values())
    table = table_of(f"{args.file} -> {args.output}", "layer", "states before", "after")
    for name, count in model.orders.items():
        table.add_row(shown(name), str(count), str(small.orders[name]))
    table.add_section()
    table.add_row("all", str(before), f"{after} ({1 - after / before:.1%} dropped)")
    return {"output": args.output, "orders": small.orders, "ratio": 1 - after / before}, table


def _compress(args: argparse.Namespace) -> tuple[dict, Any]:
    if not is_factory(args.file):
        args.fail(f"{args.file!r} is no MODULE:FUNCTION: a function that returns (network, batches) is needed")
    if args.finish != "adam" and args.steps != 400:
        args.fail("argument --steps: only with --finish adam")
    folder = not Path(args.output).suffix
    if not folder:
        check_output(args.output, args)
    net, batches = (made := live(args.file, adapter_of(args))).net, made.data(args.file)
    if folder and not isinstance(net, TorchNetwork):
        check_output(args.output, args)  # only a PyTorch network is written as a folder; this names the suffixes
    with own_modules():
        result = compress(
            net,
            batches,
            ratio=args.ratio,
            method=args.method,
            finish=None if args.finish == "none" else args.finish,
            scope=args.scope,
            min_states=args.min_states,
            steps=args.steps,
            seed=args.seed,
            progress=sys.stderr is not None and sys.stderr.isatty(),
        )
    if isinstance(net, TorchNetwork) and (folder or Path(args.output).suffix == ".safetensors"):
        from ..networks._torch_files import save_module

        save_module(result.rebuild(result.model), args.output)
    else:
        save(result.model, args.output, form=args.form)
    found, table = _smaller(net.model, result.model, args)
    error, agreement = OnData(net, batches).figures(result.model)
    said = "" if agreement is None else f"the same class on {agreement:.2%} of the sequences; "
    table.caption = f"{said}relative output error {error:.3g} (sequences of the fit among them)"
    return {**found, "network_error": error, "agreement": agreement}, table


def _sweep(args: argparse.Namespace) -> tuple[dict, Any]:
    if args.evaluate is None and not is_factory(args.file):
        args.fail("argument --evaluate: needed where FILE is no MODULE:FUNCTION that returns (network, batches)")
    calibration = None if args.calibration is None else load_calibration(args.calibration)
    evaluate: Callable[[SSMModel], float]
    with progress("sweeping") as move, own_modules():
        if args.evaluate is None:
            made = live(args.file, adapter_of(args))
            model, evaluate = made.net.model, OnData(made.net, made.data(args.file)).agreement
        else:
            model, evaluate = load_model(args.file, args), evaluation(args.evaluate)
        found = sweep(
            model,
            evaluate,
            methods=args.methods,
            ratios=args.ratios,
            calibration=calibration,
            seed=args.seed,
            progress=move,
        )
    return found.to_dict(), found
