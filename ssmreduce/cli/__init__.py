"""The command line, with the verbs and the options of the API."""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ..errors import SSMReduceError, printable
from ..evaluation import compare, inspect
from ._calibrated import add_calibrate, add_search
from ._deploy import add_deploy
from ._live import live
from ._networks import add_compress
from ._prune import add_prune, add_score
from ._reduce import add_reduce, add_sweep
from ._report import add_report
from ._shared import adapter_of, add_command, load_model, natural, progress

__all__ = ["main"]

_EPILOG = """examples:
  ssmreduce inspect model.safetensors --adapter s5 --set conj_sym=true --set discretization=zoh
  ssmreduce score model.safetensors --method last
  ssmreduce prune model.safetensors small.safetensors --method last --ratio 0.33
  ssmreduce calibrate model.safetensors inputs.npz calibration.npz
  ssmreduce prune model.safetensors small.safetensors --method calibrated --calibration calibration.npz --ratio 0.8
  ssmreduce reduce model.safetensors small.safetensors --method balanced --ratio 0.5
  ssmreduce compress my_network:make small.safetensors --ratio 0.8
  ssmreduce search my_network:make small.safetensors --agreement 0.99
  ssmreduce sweep my_network:make --methods last eliminate
  ssmreduce compare model.safetensors small.safetensors --network my_network:make
  ssmreduce report model.safetensors small.safetensors report.html --network my_network:make
  ssmreduce deploy my_network:make network.onnx --form blocks --length 1024

Files: npz, safetensors, Flax msgpack, PyTorch (weights only). A safetensors file written here remembers its adapter.
Exit codes: 0 done; 1 an error; 2 wrong usage (an option that would do nothing, too); 3 done, but the result could not
be shown; 130 interrupted. A file is written whole or not at all, and whether it was is said where the code is not 0."""


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
    args.argv = sys.argv[1:] if argv is None else list(argv)
    before = _stamp(args)
    try:
        result, table = args.run(args)
    except SSMReduceError as error:
        _say(f"ssmreduce: error: {error}{_written(args, before, '; ')}")
        return 1
    except KeyboardInterrupt:
        _say(f"ssmreduce: interrupted, {_written(args, before) or 'nothing was written'}")
        return 130
    try:
        _show(result, table, args.json)
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if text := _written(args, before):
            _say(f"ssmreduce: {text}")
    except OSError as error:
        _say(f"ssmreduce: done, but the result could not be shown ({error}){_written(args, before, '; ')}")
        return 3
    return 0


def _stamp(args: argparse.Namespace) -> tuple | None:
    """What changes where a command writes its output."""
    try:
        info = os.stat(args.output)
    except (AttributeError, OSError, ValueError):
        return None
    return info.st_ino, info.st_mtime_ns, info.st_size


def _written(args: argparse.Namespace, before: tuple | None, begin: str = "") -> str:
    """What was written, or nothing."""
    return "" if _stamp(args) == before else f"{begin}{args.output!r} was written"


def _say(text: str) -> None:
    """Print on standard error, if there is one."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            print(printable(text), file=sys.stderr, flush=True)


def _show(result: dict, table: Any, as_json: bool) -> None:
    if sys.stdout is None:
        raise OSError("standard output is closed")
    if hasattr(sys.stdout, "reconfigure"):  # names that the terminal cannot show are escaped
        sys.stdout.reconfigure(errors="backslashreplace")
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        from rich.console import Console

        Console().print(table)
    sys.stdout.flush()


class _Parser(argparse.ArgumentParser):
    """A parser whose messages hold no control characters."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="ssmreduce",
        description="Make deep state-space models smaller.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = sys.modules[__package__.partition(".")[0]].__version__
    parser.add_argument("--version", action="version", version=f"ssmreduce {version}")
    commands = parser.add_subparsers(required=True, metavar="command")
    add_command(commands, "inspect", _inspect, "sizes, slowest poles, largest state norms, unstable states")
    add_score(commands)
    add_prune(commands)
    add_reduce(commands)
    add_compress(commands)
    add_calibrate(commands)
    add_search(commands)
    add_sweep(commands)
    add_deploy(commands)
    command = add_command(commands, "compare", _compare, "reduced checkpoints against the original")
    command.add_argument("reduced", nargs="+", help="reduced checkpoints")
    command.add_argument(
        "--network", metavar="MODULE:FUNCTION", help="returns (network, batches), on which outputs are compared first"
    )
    command.add_argument("--quick", action="store_true", help="without the worst-case certificates")
    command.add_argument("--length", type=int, default=1024, help="steps of white noise (%(default)s)")
    command.add_argument("--seed", type=natural, default=0, help="of the noise (%(default)s)")
    add_report(commands)
    return parser


def _inspect(args: argparse.Namespace) -> tuple[dict, Any]:
    inspection = inspect(load_model(args.file, args))
    return inspection.to_dict(), inspection


def _compare(args: argparse.Namespace) -> tuple[dict, Any]:
    made = None if args.network is None else live(args.network, adapter_of(args))
    model = load_model(args.file, args)
    candidates = {path: load_model(path, args) for path in args.reduced}
    with progress("comparing") as move:
        given: dict[str, Any] = {} if made is None else {"network": made.net, "batches": made.data(args.network)}
        comparison = compare(
            model, candidates, length=args.length, seed=args.seed, certificates=not args.quick, progress=move, **given
        )
    return comparison.to_dict(), comparison
