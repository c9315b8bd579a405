"""How live layers are called."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Call:
    """How the live layer of a family is called: plain data, for whatever runs or replaces the layer in a network.

    Attributes
    ----------
    framework : {"torch", "flax", "equinox"}
        What the original implementation is written in.
    input, output : str
        Axes of the main argument and of the output, in order: ``b`` batch, ``l`` time, ``h`` features. ``"bhl"`` has
        channels first, ``"lh"`` takes one sequence.
    returns : tuple of str
        What the call returns: ``("y",)``, or ``("y", "state")`` where a state or None follows the output.
    arguments : tuple of str
        Further arguments that the call needs, in order (``"scale_factor"``, ``"key"``); empty for most.
    after : tuple of str
        What the module whose parameters these are applies to the system's output itself, in order, by the names of its
        submodules; empty where its output is the system's.
    """

    framework: str
    input: str
    output: str
    returns: tuple[str, ...] = ("y",)
    arguments: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
