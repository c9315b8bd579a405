"""``compress``, and ``search`` by agreement: smaller live networks from unlabelled batches."""

import argparse
import sys
from pathlib import Path
from typing import Any

from ..evaluation._on_data import OnData
from ..models import SSMModel, save
from ..networks import Network, NumpyNetwork, save_module
from ..reduction import compress
from ..reduction.calibrated import search
from ._live import is_factory, live, own_modules
from ._shared import SCOPE, adapter_of, add_command, add_output, check_output, natural, smaller

_RECIPE = {"method": "sequential", "finish": "adam", "steps": 400, "seed": 0}


def add_compress(commands: Any) -> None:
    """The command ``compress``."""
    command = add_command(
        commands, "compress", _compress, "a smaller network from unlabelled batches; FILE is MODULE:FUNCTION"
    )
    add_output(command)
    command.add_argument("--ratio", type=float, default=0.8, help="share of the states to drop (%(default)s)")
    command.add_argument("--scope", choices=("layer", "system"), default="layer", help=SCOPE)
    command.add_argument("--min-states", type=natural, default=1, help="least number of states a layer (%(default)s)")
    add_recipe(command)


def add_recipe(command: Any) -> None:
    """Options that say how a live network is made smaller, of a command or a group of its options."""
    choices = {"method": ("eliminate", "sequential"), "finish": ("adam", "gauss_newton", "none")}
    for name, values in choices.items():
        command.add_argument(f"--{name}", choices=values, default=_RECIPE[name], help="(%(default)s)")
    command.add_argument("--steps", type=natural, default=_RECIPE["steps"], help="of the finish adam (%(default)s)")
    command.add_argument("--seed", type=natural, default=0, help="of the sequences kept apart (%(default)s)")


def recipe_given(args: argparse.Namespace) -> bool:
    """Whether one of these options differs from its default."""
    return any(getattr(args, name) != value for name, value in _RECIPE.items())


def _recipe(args: argparse.Namespace) -> dict[str, Any]:
    if not is_factory(args.file):
        args.fail(f"{args.file!r} is no MODULE:FUNCTION: a function that returns (network, batches) is needed")
    if args.finish != "adam" and args.steps != _RECIPE["steps"]:
        args.fail("argument --steps: only with --finish adam")
    return {
        "method": args.method,
        "finish": None if args.finish == "none" else args.finish,
        "scope": args.scope,
        "min_states": args.min_states,
        "steps": args.steps,
        "seed": args.seed,
        "progress": sys.stderr is not None and sys.stderr.isatty(),
    }


def _compress(args: argparse.Namespace) -> tuple[dict, Any]:
    recipe = _recipe(args)
    net, batches = _made(args)
    with own_modules():
        small = compress(net, batches, ratio=args.ratio, **recipe).model
    return _written(net, small, batches, args)


def search_by_agreement(args: argparse.Namespace) -> tuple[dict, Any]:
    """The command ``search`` with ``--agreement``."""
    recipe = _recipe(args)
    net, batches = _made(args)
    if args.tolerance is not None:
        recipe["tolerance"] = args.tolerance
    with own_modules():
        found = search(net, batches, agreement=args.agreement, **recipe)
    result, table = _written(net, found.model, batches, args)
    table.caption = f"agrees on {found.value:.2%} of the sequences kept apart; {table.caption}"
    return {**result, **found.to_dict()}, table


def _made(args: argparse.Namespace) -> tuple[Network, list[Any]]:
    """The network and its batches, after a look at where the result is to go."""
    folder = not Path(args.output).suffix
    if not folder:
        check_output(args.output, args)
    made = live(args.file, adapter_of(args))
    if folder and isinstance(made.net, NumpyNetwork):
        check_output(args.output, args)  # only a live module is written as a folder; this names the suffixes
    return made.net, made.data(args.file)


def _written(net: Network, small: SSMModel, batches: list[Any], args: argparse.Namespace) -> tuple[dict, Any]:
    """Write the result; what was done, with figures on the batches."""
    if not isinstance(net, NumpyNetwork) and Path(args.output).suffix in ("", ".safetensors"):
        save_module(net.with_model(small), args.output)
    else:
        save(small, args.output, form=args.form)
    found, table = smaller(net.model, small, args)
    error, agreement = OnData(net, batches).figures(small)
    said = "" if agreement is None else f"the same class on {agreement:.2%} of the sequences; "
    table.caption = f"{said}relative output error {error:.3g} (sequences of the fit among them)"
    return {**found, "network_error": error, "agreement": agreement}, table
