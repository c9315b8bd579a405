"""Networks as ONNX files, and as PyTorch modules of plain operations."""

import os
from typing import Any

from .._support.arguments import positive_integer, require_path
from .._support.whole import write_whole
from ..errors import NotRepresentableError, OptionError, UnknownNameError
from ._program import Program
from ._recurrent import require_torch

FORMS = ("step", "blocks", "scan")


def exportable(network: Any, form: str = "step", *, length: int | None = None, width: int | None = None) -> Any:
    """The network as a PyTorch module of plain real operations, for `torch.export` and what reads its graphs.

    A reduced network itself is exported by `torch.export` too, of any length, with the operator ``ssmreduce::respond``
    in place of its layers, which asks for this library where it is loaded. The modules made here do not.

    Parameters
    ----------
    network : torch.nn.Module or TorchNetwork
        Causal, of operations that `stepper` compiles. Its weights are copied.
    form : {"step", "blocks"}
        ``step``: ``forward(u, state) -> (y, state)`` on (batch, width) and (batch, states), with ``initial_state``.
        ``blocks``: ``forward(u) -> y`` on (batch, length, width), in parallel.
    length : int, optional
        Samples of a sequence, for the form ``blocks``.
    width : int, optional
        Numbers of a sample; see `stepper`.

    Returns
    -------
    torch.nn.Module

    Raises
    ------
    ArgumentError
        No PyTorch network.
    OptionError
        A form that there is not, or a length where none or one is needed.
    NotRepresentableError, NotCausalError
        Operations that look at several samples, or that are unknown.

    Examples
    --------
    >>> import torch, ssmreduce as sr
    >>> layer = sr.networks.SSMLayer(sr.models.example()["layers.0.seq"])
    >>> module = torch.nn.Sequential(torch.nn.Linear(1, 32), layer, torch.nn.GELU())
    >>> step = sr.networks.exportable(module)
    >>> y, state = step(torch.zeros(2, 1), step.initial_state(2))
    >>> y.shape
    torch.Size([2, 32])
    """
    length = _checked(network, form, FORMS[:2], length)
    from ._torch_forms import module_form

    return module_form(network, form, length, width)


def export_onnx(
    network: Any, path: str | os.PathLike, form: str = "step", *, length: int | None = None, width: int | None = None
) -> None:
    """Write a network as an ONNX file, in real single-precision arithmetic.

    Parameters
    ----------
    network : torch.nn.Module or TorchNetwork
        Causal, of operations that `stepper` compiles.
    path : path
    form : {"step", "blocks", "scan"}
        ``step``: inputs ``u`` (batch, width) and ``state`` (batch, states), zeros to begin with; outputs ``y`` and
        ``next_state``. For streams.
        ``blocks``: ``u`` (batch, length, width) to ``y``, in parallel: cumulative sums inside blocks, short enough for
        the fastest pole of each layer. For sequences of one length.
        ``scan``: the same by a loop over the steps. For sequences of any length.
    length : int, optional
        Samples of a sequence, for the form ``blocks``.
    width : int, optional
        Numbers of a sample; see `stepper`.

    Raises
    ------
    ArgumentError
        No PyTorch network.
    OptionError
        A form that there is not, or a length where none or one is needed.
    NotRepresentableError, NotCausalError
        Operations that look at several samples, or that are unknown.
    MissingDependencyError
        The package onnx is not installed: ``pip install 'ssmreduce[export]'``.
    WriteError
        A file that could not be written.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import torch, ssmreduce as sr
    >>> layer = sr.networks.SSMLayer(sr.models.example()["layers.0.seq"])
    >>> module = torch.nn.Sequential(torch.nn.Linear(1, 32), layer, torch.nn.GELU())
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     sr.networks.export_onnx(module, pathlib.Path(folder) / "digits.onnx")
    """
    require_path(path)
    length = _checked(network, form, FORMS, length)
    from ._onnx import model
    from ._torch_stepper import module_program

    program = with_states(module_program(network, width))
    data = model(program, form, length).SerializeToString()
    write_whole(path, lambda file: file.write(data))


def with_states(program: Program) -> Program:
    """The program, if it carries anything from sample to sample."""
    if not program.states:
        raise NotRepresentableError("no layer of the network has a state left: torch.onnx.export takes it as it is")
    return program


def _checked(network: Any, form: str, forms: tuple[str, ...], length: int | None) -> int | None:
    require_torch(network)
    if form not in forms:
        raise UnknownNameError(f"there is no form {form!r} here; choose from {', '.join(forms)}")
    if (length is not None) != (form == "blocks"):
        raise OptionError(
            f"length={length} and form={form!r}: a length is needed for the form 'blocks', and for no other"
        )
    return None if length is None else positive_integer(length, "length")
