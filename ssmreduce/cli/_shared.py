"""What the commands share: options of every command, the model that a file holds, usage errors, progress bars."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .._support.whole import check_place
from ..adapters import Adapter, families
from ..errors import UnknownNameError
from ..models import SSMModel, load
from ..models._checkpoints import format_of
from ..models._model import FORMS

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
    command.add_argument("file")
    return command


def add_output(command: argparse.ArgumentParser) -> None:
    """Where the smaller checkpoint goes, and how."""
    command.add_argument("output", help="its suffix names the format")
    command.add_argument(
        "--form", choices=FORMS, default="compact", help="how dropped states are written (%(default)s)"
    )


def check_output(path: str) -> None:
    """Fail before the work is done, not after it, where the checkpoint cannot be written."""
    format_of(path)
    check_place(Path(path))


def natural(text: str) -> int:
    """A number that is not negative, for argparse."""
    if (number := int(text)) < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, got {text}")
    return number


def load_model(path: str, args: argparse.Namespace) -> SSMModel:
    """The model of a file, with the adapter that the options name."""
    return load(path, adapter=_adapter(args))


def _adapter(args: argparse.Namespace) -> Adapter | None:
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


def progress(text: str) -> Any:
    """Progress bar on standard error, and a function that moves it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(text)
    return bar, lambda done, total: bar.update(task, completed=done, total=total)
