"""``report``: one HTML file of a model and of its reduced checkpoints."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from .._support.whole import check_place
from ..calibration import load_calibration
from ..errors import WriteError
from ..evaluation import Sweep, inspect, sweep
from ..evaluation._on_data import OnData
from ..models import SSMModel
from ..reporting import report
from ._live import Live, live, own_modules
from ._shared import adapter_of, add_command, load_model, natural, progress


def add_report(commands: Any) -> None:
    """The command ``report``."""
    command = add_command(commands, "report", _report, "one HTML file of a model and of its reduced checkpoints")
    command.add_argument("reduced", nargs="*", help="reduced checkpoints")
    command.add_argument("output", help="the HTML file")
    command.add_argument(
        "--network", metavar="MODULE:FUNCTION", help="returns (network, batches), on which outputs are compared"
    )
    command.add_argument("--calibration", help="npz file that calibrate wrote: shows the calibrated error")
    command.add_argument(
        "--sweep", nargs="+", metavar="METHOD", help="trade-off curves of these methods, needs --network"
    )
    command.add_argument("--layers", nargs="+", metavar="LAYER", help="those that get a section of their own (all)")
    command.add_argument("--quick", action="store_true", help="without the worst-case certificates")
    command.add_argument("--length", type=natural, default=1024, help="steps of noise (%(default)s)")
    command.add_argument("--seed", type=natural, default=0, help="of the noise (%(default)s)")
    command.add_argument("--title", help="of the page; by default the name of FILE")


def _report(args: argparse.Namespace) -> tuple[dict, Any]:
    if args.sweep is not None and args.network is None:
        args.fail("argument --sweep: needs --network, whose agreement with the original the curves show")
    if args.network is not None and not (args.reduced or args.sweep):
        args.fail("argument --network: would do nothing without a reduced checkpoint or --sweep")
    if Path(args.output).suffix not in (".html", ".htm"):
        raise WriteError(f"{args.output!r}, the last argument, is where the page goes: it must end in .html")
    check_place(Path(args.output))
    made = None if args.network is None else live(args.network, adapter_of(args))
    model = load_model(args.file, args)
    candidates = {path: load_model(path, args) for path in args.reduced}
    calibration = None if args.calibration is None else load_calibration(args.calibration)
    given: dict[str, Any] = {}
    if made is not None and candidates:
        given = {"network": made.net, "batches": made.data(args.network)}
    with progress("reporting") as move:
        page = report(
            model,
            candidates,
            sweep=None if made is None or args.sweep is None else _swept(model, made, calibration, args),
            calibration=calibration,
            layers=args.layers,
            certificates=not args.quick,
            length=args.length,
            seed=args.seed,
            title=Path(args.file).name if args.title is None else args.title,
            command=shlex.join(["ssmreduce", *args.argv]),
            progress=move,
            **given,
        )
    page.save(args.output)
    shown = inspect(model) if page.comparison is None else page.comparison
    return {"output": args.output, "bytes": Path(args.output).stat().st_size, **shown.to_dict()}, shown


def _swept(model: SSMModel, made: Live, calibration: Any, args: argparse.Namespace) -> Sweep:
    """How often the reduced network says what the original says, by method and ratio."""
    with own_modules():
        agreement = OnData(made.net.with_model(model), made.data(args.network)).agreement
        return sweep(model, agreement, methods=args.sweep, calibration=calibration, seed=args.seed)
