"""The errors of the library: one base class, and leaves that also inherit the builtin that a stranger would catch."""


def printable(text: object) -> str:
    """Text with its control characters escaped: names from a file must not move a terminal's cursor."""
    return "".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in str(text))


class SSMReduceError(Exception):
    """Base class of every error that ssmreduce raises on purpose."""

    def __init__(self, *args: object) -> None:
        super().__init__(*(printable(arg) if isinstance(arg, str) else arg for arg in args))


class ArgumentError(SSMReduceError, TypeError):
    """An argument of another kind than is needed: a path for a model, an array for a mapping, text for a number."""


class ShapeError(SSMReduceError, ValueError):
    """Arrays whose shapes do not fit together."""


class ArrayKindError(SSMReduceError, TypeError):
    """Complex numbers where real ones are needed, what is no number, another precision, or arrays of two libraries."""


class NonFiniteError(SSMReduceError, ValueError):
    """NaN or infinite values where numbers are needed."""


class UnstableSystemError(SSMReduceError, ValueError):
    """A norm or Gramian was asked of a system with poles on or outside the unit circle."""


class PrecisionWarning(UserWarning):
    """Input whose precision is too low for what is computed from it."""


class CaptureWarning(UserWarning):
    """Layer inputs recorded from a network in a state in which they differ from those of inference."""


class CheckpointWarning(UserWarning):
    """A checkpoint in which layers seem to be missing."""


class CacheWarning(UserWarning):
    """Compiled functions that cannot be kept on disk."""


class NotCausalError(SSMReduceError, ValueError):
    """A quantity of causal systems was asked of a bidirectional one."""


class NotRepresentableError(SSMReduceError, ValueError):
    """A system that the target form (a model family, a dense realisation, a file layout) cannot hold."""


class SelectionError(SSMReduceError, ValueError):
    """A selection that cannot be made: ratio outside [0, 1), more states than there are, ..."""


class UnattainableError(SSMReduceError, ValueError):
    """An accuracy that was asked for and cannot be met."""


class OptionError(SSMReduceError, ValueError):
    """An option outside its range, or one that does not go with the others."""


class UnknownNameError(OptionError):
    """A method, adapter, engine or option that does not exist."""


class UnknownLayerError(SSMReduceError, KeyError):
    """A layer name that the model does not have."""

    __str__ = Exception.__str__  # KeyError would show the message in quotes


class EvaluationError(SSMReduceError, RuntimeError):
    """A function of the user's own that failed, or returned what it must not."""


class MissingFileError(SSMReduceError, FileNotFoundError):
    """A checkpoint path that does not exist."""


class CheckpointFormatError(SSMReduceError, ValueError):
    """A file that is truncated, corrupted, or in a format that is not read here."""


class UnsafeFileError(SSMReduceError, ValueError):
    """A file that could only be read by executing what it contains (a pickle)."""


class FileTooLargeError(SSMReduceError, MemoryError):
    """A file whose tensors take more memory than they may (``max_bytes``)."""


class WriteError(SSMReduceError, OSError):
    """An output file that could not be written; whatever stood there before is untouched."""


class AdapterError(SSMReduceError, LookupError):
    """A checkpoint that no adapter, or more than one adapter, claims."""


class IncompleteLayerError(AdapterError):
    """A layer some of whose tensors are missing or have unexpected shapes."""


class FlagError(SSMReduceError, TypeError):
    """A flag that an adapter does not have, or a value that it cannot take."""


class MissingFlagError(FlagError):
    """A fact about the model that its checkpoint does not hold and that must be given."""


class MissingDependencyError(SSMReduceError, ImportError):
    """An optional package that this call needs is not installed."""
