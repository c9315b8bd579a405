"""How live layers are called."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Kernel:
    """The submodule of a layer that gives its convolution kernel: what to replace where the layer does more than that.

    Attributes
    ----------
    name : str
        Of the submodule, which is called with the length ``L``.
    axes : str
        Axes of the kernel: ``h`` features, ``c`` channels, ``l`` lags.
    returns : tuple of str
        ``("k",)``, or ``("k", "state")`` where a state or None follows the kernel.
    """

    name: str
    axes: str
    returns: tuple[str, ...] = ("k",)


@dataclass(frozen=True)
class Call:
    """How the live layer of a family is called: plain data, for whatever runs or replaces the layer in a network.

    Attributes
    ----------
    framework : {"torch", "flax", "equinox"}
        What the implementation is written in.
    input, output : str
        Axes of the main argument and of the output, in order: ``b`` batch, ``l`` time, ``h`` features. ``"bhl"`` has
        channels first, ``"lh"`` takes one sequence.
    returns : tuple of str
        What the call returns: ``("y",)``, or ``("y", "state")`` where a state or None follows the output.
    arguments : tuple of str
        Further arguments that the call needs, in order (``"scale_factor"``); empty for most.
    after : tuple of str
        What the module whose parameters these are applies to the system's output itself, in order, by the names of its
        submodules; empty where its output is the system's.
    kernel : Kernel, optional
        The submodule that gives the convolution kernel, if there is one.
    transposed : str
        Attribute of the module that says whether channels come before time, where `input` and `output` hold for the
        default alone; empty where there is none.
    live : bool
        Whether `ssmreduce.network` runs the layer; where not, this is for those who call it themselves.

    Examples
    --------
    >>> from ssmreduce.adapters import S4D
    >>> S4D.calls[0].input, S4D.calls[0].after
    ('bhl', ('activation', 'dropout', 'output_linear'))
    """

    framework: str
    input: str
    output: str
    returns: tuple[str, ...] = ("y",)
    arguments: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    kernel: Kernel | None = None
    transposed: str = ""
    live: bool = True
