"""``deploy``: a live network as a header in C or as an ONNX file."""

import argparse
from pathlib import Path
from typing import Any

from .._support.tables import table_of
from ..networks import export_c, export_onnx
from ._live import is_factory, live
from ._shared import adapter_of, add_command, natural


def add_deploy(commands: Any) -> None:
    """The command ``deploy``."""
    command = add_command(
        commands, "deploy", _deploy, "a network as a C99 header or an ONNX file; FILE is MODULE:FUNCTION"
    )
    command.add_argument("output", help="*.h or *.onnx")
    command.add_argument(
        "--form",
        choices=("step", "blocks", "scan"),
        default="step",
        help="one sample at a time, sequences of one length, of any length (%(default)s)",
    )
    command.add_argument("--length", type=natural, help="samples of a sequence, with --form blocks")
    command.add_argument("--name", help="of the functions in C (network)")
    command.add_argument("--width", type=natural, help="numbers of a sample, where the first linear map does not tell")


def _deploy(args: argparse.Namespace) -> tuple[dict, Any]:
    if not is_factory(args.file):
        args.fail(f"{args.file!r} is no MODULE:FUNCTION: a function that returns a live network is needed")
    suffix = Path(args.output).suffix
    if suffix not in (".h", ".onnx"):
        args.fail(f"{args.output!r} must end in .h (C) or .onnx")
    if (args.length is not None) != (args.form == "blocks"):
        args.fail("argument --length: needed with --form blocks, and only there")
    if suffix == ".h" and args.form != "step":
        args.fail("argument --form: a header in C holds the step")
    if suffix == ".onnx" and args.name is not None:
        args.fail("argument --name: only for a header in C")
    net = live(args.file, adapter_of(args)).net
    if suffix == ".h":
        export_c(net, args.output, name=args.name or "network", width=args.width)
    else:
        export_onnx(net, args.output, args.form, length=args.length, width=args.width)
    size = Path(args.output).stat().st_size
    table = table_of(f"{args.file} -> {args.output}", "form", "bytes")
    table.add_row(args.form, str(size))
    return {"output": args.output, "form": args.form, "bytes": size}, table
