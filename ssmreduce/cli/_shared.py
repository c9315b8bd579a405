"""What the commands share: options of every command, the model that a file holds, usage errors, progress bars."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .._support.tables import shown, table_of
from .._support.whole import check_place
from ..adapters import Adapter, families
from ..errors import UnknownNameError, WriteError
from ..models import SSMModel, load
from ..models._checkpoints import format_of
from ..models._model import FORMS
from ._live import is_factory, live

SCOPE = "treat a layer as a whole, or each of its systems (S4D features) alike (%(default)s)"
FEEDTHROUGH = "calibrated: fit D as well as C"


def add_command(commands: Any, name: str, run: Callable, text: str) -> argparse.ArgumentParser:
    """A command with the options that all have; ``args.fail`` ends it as wrong usage."""
    command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    command.set_defaults(run=run, fail=command.error)
    command.add_argument("--json", action="store_true", help="plain data for programs")
    command.add_argument("--adapter", choices=sorted(families()), help="model family, where the file does not tell it")
    command.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="FLAG=VALUE",
        help="flag of the adapter that the file does not hold, such as conj_sym=true",
    )
    command.add_argument("--root", help="name below which the layers stand, where the file holds several copies")
    command.add_argument("file", help="a checkpoint, or MODULE:FUNCTION, which returns a live network")
    return command


def add_output(command: argparse.ArgumentParser) -> None:
    """Where the smaller checkpoint goes, and how."""
    command.add_argument("output", help="its suffix names the format")
    command.add_argument(
        "--form", choices=FORMS, default="compact", help="how dropped states are written (%(default)s)"
    )
    command.add_argument("--force", action="store_true", help="let the output take the place of the input")


def check_output(path: str, args: argparse.Namespace) -> None:
    """Fail before the work is done, not after it, where the checkpoint cannot be written or is the input."""
    format_of(path)
    check_place(Path(path))
    if not args.force and Path(path).exists() and Path(args.file).exists() and Path(path).samefile(args.file):
        raise WriteError(f"{path!r} is the input, which would be lost; give another output, or --force")


def named_orders(model: SSMModel, args: argparse.Namespace) -> dict[str, int]:
    """What ``--orders`` says: a number a layer, or LAYER=N, where layers that are not named keep what they have."""
    texts: list[str] = args.orders
    pairs = [text.rpartition("=") for text in texts]
    names = [name for name, equals, _ in pairs if equals]
    if any(not number.isdecimal() for _, _, number in pairs) or len(names) not in (0, len(texts)):
        args.fail(f"argument --orders: numbers, or LAYER=N throughout, are needed, got {' '.join(texts)}")
    if len(set(names)) < len(names):
        args.fail("argument --orders: a layer is named twice")
    numbers = [int(number) for _, _, number in pairs]
    if names:
        for name in names:
            model.require(name)
        return {**model.orders, **dict(zip(names, numbers, strict=True))}
    if len(numbers) != len(model):
        raise UnknownNameError(f"--orders needs {len(model)} numbers, one a layer, got {len(numbers)}")
    return dict(zip(model, numbers, strict=True))


def smaller(model: SSMModel, small: SSMModel, args: argparse.Namespace) -> tuple[dict, Any]:
    """Orders before and after."""
    before, after = sum(model.orders.values()), sum(small.orders.values())
    table = table_of(f"{args.file} -> {args.output}", "layer", "states before", "after")
    for name, count in model.orders.items():
        table.add_row(shown(name), str(count), str(small.orders[name]))
    table.add_section()
    table.add_row("all", str(before), f"{after} ({1 - after / before:.1%} dropped)")
    return {"output": args.output, "orders": small.orders, "ratio": 1 - after / before}, table


def natural(text: str) -> int:
    """A number that is not negative, for argparse."""
    if (number := int(text)) < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, got {text}")
    return number


def load_model(path: str, args: argparse.Namespace) -> SSMModel:
    """The model of a file or of a live network, with the adapter that the options name."""
    adapter = adapter_of(args)
    return live(path, adapter).net.model if is_factory(path) else load(path, adapter=adapter, root=args.root)


def adapter_of(args: argparse.Namespace) -> Adapter | None:
    """The adapter that the options name."""
    if args.adapter is None:
        if args.set:
            raise UnknownNameError("--set gives flags of an adapter; name it with --adapter")
        return None
    flags: dict[str, Any] = {}
    for text in args.set:
        name, equals, value = text.partition("=")
        if not equals or name in flags:
            args.fail(f"argument --set: {name} is given twice" if equals else f"argument --set: {text!r} has no '='")
        flags[name] = _flag(value)
    return families()[args.adapter].from_flags(flags)


def _flag(value: str) -> Any:
    words = {"true": True, "false": False}
    try:
        return words[value.lower()] if value.lower() in words else float(value)
    except ValueError:
        return value


@contextlib.contextmanager
def progress(text: str) -> Iterator[Callable[[float, int], None]]:
    """A bar on standard error, where that is a terminal, and the function that moves it; it goes when all is done."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    if sys.stderr is None or not (console := Console(stderr=True)).is_terminal:
        yield lambda done, total: None
        return
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
