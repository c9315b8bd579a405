"""Files of reduced networks: a description of their layers beside the arrays, and the way back."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .._support.arguments import described, require_path
from .._support.trees import Params, flatten
from .._support.whole import write_whole
from ..errors import ArgumentError, CheckpointFormatError
from ..models._checkpoints import read_contents, write_file
from ._card import model_card
from ._protocol import RECORD, Network, network
from ._torch import TorchNetwork, is_module

LAYERS_KEY = "ssmreduce.layers"
"""Key of the metadata of a safetensors file under which the description of the layers stands, as JSON."""


def describe(module: Any) -> dict[str, Any]:
    """What makes the drop-in layers of a reduced network anew, as plain data for JSON.

    Parameters
    ----------
    module : torch.nn.Module, ReducedFlax, flax.nnx.Module, equinox.Module or Network

    Returns
    -------
    dict
        ``layers``: name of the layer -> its sizes and how it is called, in PyTorch the keyword arguments of
        `empty_layer`; ``record``: what was done to the network, where it is known; ``framework``.

    Raises
    ------
    ArgumentError
        No network, or one without drop-in layers.
    """
    return _contents(module)[0]


def save_module(module: Any, path: str | os.PathLike, *, evidence: Mapping[str, Any] | None = None) -> None:
    """Write a reduced network: one safetensors file, or a folder in the style of Hugging Face.

    Parameters
    ----------
    module : torch.nn.Module, ReducedFlax, flax.nnx.Module, equinox.Module or Network
        What `compress`, `replace_layers` or ``rebuild`` returned. Modules of nnx and Equinox hold no record of what was
        done to them; the network that ``compress(network(module), ...)`` returns does.
    path : path
        ``*.safetensors`` for one file; anything else is a folder, which gets ``model.safetensors``, ``config.json`` and
        a model card, ``README.md``.
    evidence : mapping, optional
        Numbers or text for the model card: accuracies, agreement, certificates.

    Raises
    ------
    ArgumentError
        A network without drop-in layers.
    WriteError
        A file that could not be written.
    """
    require_path(path)
    description, arrays, name = _contents(module)
    metadata = {LAYERS_KEY: json.dumps(description["layers"]), "ssmreduce.adapter": json.dumps({"name": "dropin"})}
    metadata |= {"format": "pt"} if description["framework"] == "torch" else {}
    if description["record"] is not None:
        metadata[RECORD] = json.dumps(description["record"])
    target = Path(path)
    if target.suffix == ".safetensors":
        write_file(target, arrays, metadata)
        return
    target.mkdir(parents=True, exist_ok=True)
    write_file(target / "model.safetensors", arrays, metadata)
    config = {"architectures": [name], "model_type": "ssmreduce", "ssmreduce": description}
    write_whole(target / "config.json", lambda file: file.write(f"{json.dumps(config, indent=2)}\n".encode()))
    card = model_card(name, description, {} if evidence is None else evidence)
    write_whole(target / "README.md", lambda file: file.write(card.encode()))


def restore(
    module: Any, path: str | os.PathLike, *, description: Mapping[str, Any] | None = None, **options: Any
) -> Any:
    """The reduced network again, from its file and a network of the original architecture.

    Parameters
    ----------
    module : torch.nn.Module, flax.linen.Module, flax.nnx.Module, equinox.Module or Network
        As its own code makes it, of any weights and numbers of states; it is not changed.
    path : path
        What `save_module` wrote, a folder or a safetensors file, or a state dict of ``torch.save``.
    description : mapping, optional
        What `describe` returned. By default it is read from the file or folder; for a state dict from the file of the
        same name with the suffix ``.json``.
    **options
        Of `network`, for Flax and Equinox: ``variables``, ``adapter``, ``call``.

    Returns
    -------
    object
        A PyTorch module in evaluation mode; what ``rebuild`` returns of Flax and Equinox networks.

    Raises
    ------
    ArgumentError
        Something else than a network.
    MissingFileError, CheckpointFormatError
        A file that is not there, is none of these, or does not fit the network.
    UnknownLayerError
        A layer that the module does not have.
    """
    require_path(path)
    arrays, found = _read(Path(path))
    found = found if description is None else description
    if not isinstance(found, Mapping) or "layers" not in found:
        raise CheckpointFormatError(f"{path} holds no description of its layers; give description=describe(module)")
    module = module.module if isinstance(module, TorchNetwork) else module
    if is_module(module):
        from . import _torch_files

        if options:
            raise ArgumentError(f"a PyTorch module is restored without {', '.join(options)}")
        return _torch_files.restore(module, arrays, found, Path(path))
    net = _live(network(module, **options))
    from . import _jax_files

    return _jax_files.restore(net, arrays, found, Path(path))


def _contents(module: Any) -> tuple[dict[str, Any], Params, str]:
    """Description, arrays and name of the class of a reduced network."""
    if isinstance(module, TorchNetwork):
        module = module.rebuild(module.model)
    if is_module(module):
        from . import _torch_files

        found, arrays, named = _torch_files.describe(module), flatten(module), module
    else:
        net = _live(network(module))
        from . import _jax_files

        live = net.rebuild(net.model)
        found, arrays = _jax_files.describe(net, live), _jax_files.contents(net, live)
        named = net.module
    if not found["layers"]:
        raise ArgumentError("the network has no drop-in layer: give what compress or replace_layers returned")
    return found, arrays, type(named).__name__


def _live(net: Network) -> Any:
    """The network, which must be one of a Flax or Equinox module."""
    if not hasattr(net, "framework"):
        raise ArgumentError(
            f"module is {described(net)}, whose model is all that can be written: save(network.model, path)"
        )
    return net


def _read(path: Path) -> tuple[Params, Any]:
    """Arrays, and the description where one is beside them."""
    if path.is_dir():
        path = path / "model.safetensors"
    arrays, metadata, _ = read_contents(path)
    layers, record, beside = metadata.get(LAYERS_KEY), metadata.get(RECORD), path.with_suffix(".json")
    try:
        if path.suffix == ".safetensors":
            found = {"layers": json.loads(layers), "record": json.loads(record) if record else None} if layers else None
        else:
            found = json.loads(beside.read_text(encoding="utf-8")) if beside.is_file() else None
    except (ValueError, RecursionError, OSError) as error:
        raise CheckpointFormatError(f"the description of {str(path)!r} cannot be read: {error}") from error
    return arrays, found
