"""Host side of the CUDA kernels: which kernel, how many threads, which tables; on any device that can launch them."""

from collections.abc import Iterator
from importlib.resources import files
from typing import Any, Protocol

from ..._support.arrays import Array
from .._layer import Layer, Products, Response

LANES, WARPS, REACH = 32, 8, 32  # as in the kernels
THREADS = 128
_WORKSPACE_BYTES = 2**28  # states of one block of `DeviceProducts`
_SHORTEST = 64  # steps of a chunk


class Device(Protocol):
    """What the host side needs of a device: its array module, and a way to launch kernels and to multiply.

    `processors` is the number of multiprocessors.
    """

    xp: Any

    @property
    def processors(self) -> int: ...

    def launch(self, kernel: str, blocks: int, threads: int, args: tuple, shared: int = 0) -> None:
        """Launch a kernel of `source(precision of its arrays)`; arrays go as pointers, Python integers as 64 bits."""

    def accumulate(self, a: Array, b: Array, out: Array) -> None:
        """Add the matrix product a b to `out`, all contiguous matrices."""


def source() -> str:
    """CUDA C++ text of all kernels; compiled with REAL defined as float or double."""
    folder = files(__package__)
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in ("complex.cuh", "scan.cu", "fused.cu"))


def steps(itemsize: int) -> int:
    """Samples that a thread holds in registers, by the size of a complex number."""
    return 16 if itemsize == 8 else 8


def chunk_length(columns: int, length: int, processors: int, batch: int) -> int:
    """Steps of a chunk such that the chunks of all columns occupy the device: `length` where the columns alone do.

    At least four blocks for each multiprocessor; a multiple of `batch`, the steps that a thread loads together.
    """
    chunks = -(-4 * processors * THREADS // columns)
    chunk = max(_SHORTEST, -(-length // chunks))
    return min(length, -(-chunk // batch) * batch)


def fused_shape(rows: int, systems: int, order: int, processors: int) -> tuple[int, int]:
    """Neighbouring systems, and shares of their states, that a block of `respond` takes: a warp each, at most 16.

    Eight systems fill a memory sector. Fewer, with their states shared out, where the device would have too few warps.
    """
    shapes = ((8, 1), (8, 2), (4, 4), (2, 8), (1, 16))
    enough = (s for s in shapes if rows * -(-systems // s[0]) * s[0] * s[1] >= 32 * processors)
    width, groups = next(enough, shapes[-1])
    return width, max(1, min(groups, order))


def pole_powers(device: Device, Lambda: Array, span: int, number: int) -> tuple[Array, Array]:
    """Powers lambda^(span j), j < number, (S, n, number): rounded to the precision of `Lambda`, and in double."""
    xp = device.xp
    rounded = xp.empty((*Lambda.shape, number), dtype=Lambda.dtype)
    wide = xp.empty(rounded.shape, dtype=xp.complex128)
    args = (Lambda, rounded, wide, Lambda.size, span, number)
    device.launch("pole_powers", -(-rounded.size // THREADS), THREADS, args)
    return rounded, wide


def scan(
    device: Device, Lambda: Array, inputs: Array, state: Array, *, reverse: bool, look_back: bool = False
) -> Array:
    """See `_reference.scan`; contiguous arrays, in place.

    Bitwise reproducible on one kind of device, unless `look_back`, which reads short input once where the other reads
    it twice, and adds up in the order in which the chunks happen to be ready.
    """
    length, order = inputs.shape[2:]
    columns = state.size
    if columns == 0:
        return inputs
    batch = steps(inputs.itemsize)
    chunk = chunk_length(columns, length, device.processors, batch)
    if look_back and chunk < length:
        _look_back(device, Lambda, inputs, state, reverse)
        return inputs
    sizes = (length, order, inputs.shape[1], columns, chunk, int(reverse))
    chunks = -(-length // chunk)
    blocks = -(-columns * chunks // THREADS)
    if chunks > 1:
        ends = device.xp.empty((chunks, columns), dtype=inputs.dtype)
        device.launch("chunk_ends", blocks, THREADS, (Lambda, inputs, ends, *sizes))
        wide = pole_powers(device, Lambda, chunk, 2)[1]
        args = (wide, state, ends, order, inputs.shape[1], columns, chunks)
        device.launch("carry_chunks", -(-columns // THREADS), THREADS, args)
        state = ends
    device.launch("scan_chunks", blocks, THREADS, (Lambda, state, inputs, *sizes))
    return inputs


def _look_back(device: Device, Lambda: Array, inputs: Array, state: Array, reverse: bool) -> None:
    xp, columns, batch = device.xp, state.size, steps(inputs.itemsize)
    length, order = inputs.shape[2:]
    groups, chunks = -(-columns // LANES), -(-length // (WARPS * batch))
    powers = pole_powers(device, Lambda, batch, 2)[0]
    jumps = pole_powers(device, Lambda, WARPS * batch, REACH + 1)[1]
    aggregates = xp.empty((chunks, columns), dtype=inputs.dtype)
    prefixes = xp.empty((chunks, columns), dtype=xp.complex128)
    flags, tickets = xp.zeros((chunks, groups), dtype=xp.int32), xp.zeros(1, dtype=xp.uint64)
    shared = 16 * LANES + WARPS * LANES * inputs.itemsize + 16
    args = (Lambda, powers, jumps, state, inputs, aggregates, prefixes, flags, tickets)
    sizes = (length, order, inputs.shape[1], columns, int(reverse))
    device.launch("scan_look_back", chunks * groups, WARPS * LANES, (*args, *sizes), shared)


def prepare(device: Device, layer: Layer, *, look_back: bool = False) -> "FusedLayer | DeviceProducts":
    """The layer ready to run: the fused kernel for systems of one input and one output, else products and a scan."""
    layer = Layer(*(None if array is None else device.xp.ascontiguousarray(array) for array in layer))
    if layer.D.shape[1:] == (1, 1):
        return FusedLayer(device, layer)
    return DeviceProducts(device, layer, look_back=look_back)


class FusedLayer:
    """Systems of one input and one output (S4D): one kernel a direction, states never stored.

    The kernel drives its states with real numbers: they are turned by the phase of B, which goes into C.
    """

    def __init__(self, device: Device, layer: Layer) -> None:
        xp = device.xp
        self.device, self.Lambda = device, layer.Lambda
        b = layer.B[..., 0]
        self.gain = xp.abs(b)
        self.phase = xp.where(self.gain > 0, b / xp.where(self.gain > 0, self.gain, 1), 1).astype(b.dtype)
        self.C = layer.C[:, 0, :] * self.phase
        self.C_reverse = None if layer.C_reverse is None else layer.C_reverse[:, 0, :] * self.phase
        self.D = layer.D.reshape(-1)
        self.powers, self.jumps = pole_powers(device, self.Lambda, steps(self.Lambda.itemsize), LANES + 1)

    def run(self, u: Array, state: Array, state_reverse: Array | None, *, strict: bool = False) -> Response:
        """See `Products.run`."""
        u = self.device.xp.ascontiguousarray(u)
        y = self.device.xp.empty(u.shape, dtype=u.dtype)
        last = self._respond(u, y, self.C, state, reverse=False, strict=False)
        if self.C_reverse is None:
            return Response(y, last, None)
        return Response(y, last, self._respond(u, y, self.C_reverse, state_reverse, reverse=True, strict=strict))

    def _respond(self, u: Array, y: Array, C: Array, state: Array, *, reverse: bool, strict: bool) -> Array:
        """Write the causal half into y, or add the reverse one; the last state."""
        rows, length, systems = u.shape
        order = self.Lambda.shape[1]
        xp = self.device.xp
        carries = xp.ascontiguousarray((state * self.phase.conj()).astype(xp.complex128))
        last = xp.empty(state.shape, dtype=self.Lambda.dtype)
        width, groups = fused_shape(rows, systems, order, self.device.processors)
        arrays = (u, self.D, self.Lambda, self.gain, C, self.powers, self.jumps, carries, last, y)
        sizes = (length, systems, order, width, groups, int(reverse), int(strict))
        shared = width * (LANES * steps(self.Lambda.itemsize) + LANES + 4) * u.itemsize
        blocks, threads = rows * -(-systems // width), LANES * width * groups
        self.device.launch("respond", blocks, threads, (*arrays, *sizes), shared)
        return last * self.phase


class DeviceProducts:
    """Products packed as real ones, and the scan between them in place (S5); `accumulate` saves a pass over y."""

    def __init__(self, device: Device, layer: Layer, *, look_back: bool) -> None:
        xp, packed = device.xp, Products(layer, scan)
        self.device, self.Lambda, self.look_back = device, layer.Lambda, look_back
        self.B, self.C, self.D = (xp.ascontiguousarray(a[:, 0]) for a in (packed.B, packed.C, packed.D))
        self.C_reverse: Array = None if packed.C_reverse is None else xp.ascontiguousarray(packed.C_reverse[:, 0])
        diagonal = xp.diagonal(self.D, axis1=1, axis2=2)
        if packed.inputs == packed.outputs and xp.count_nonzero(diagonal) == xp.count_nonzero(self.D):
            self.D = xp.ascontiguousarray(diagonal)  # as S5 has it: spares a product

    def run(self, u: Array, state: Array, state_reverse: Array | None, *, strict: bool = False) -> Response:
        """See `Products.run`."""
        xp, (rows, length, _), (systems, order) = self.device.xp, u.shape, self.Lambda.shape
        u = xp.ascontiguousarray(xp.moveaxis(u.reshape(rows, length, systems, self.B.shape[1]), 2, 0))
        y = xp.empty((systems, rows, length, self.C.shape[2]), dtype=u.dtype)
        last = xp.array(state)
        last_reverse: Array = None if self.C_reverse is None else xp.array(state_reverse)
        samples = max(_SHORTEST, _WORKSPACE_BYTES // max(1, order * self.Lambda.itemsize))
        for s, row, spans in _blocks(systems, rows, length, samples):
            for span in spans:
                self._feed(s, u[s, row, span], y[s, row, span])
                last[row, s] = self._half(s, u[s, row, span], last[row, s], y[s, row, span])
            for span in reversed(spans if last_reverse is not None else []):
                part = (u[s, row, span], last_reverse[row, s], y[s, row, span])
                last_reverse[row, s] = self._reverse_half(s, *part, strict=strict)
        return Response(xp.moveaxis(y, 0, 2).reshape(rows, length, systems * y.shape[3]), last, last_reverse)

    def _feed(self, s: int, u: Array, y: Array) -> None:
        """Write D u into y."""
        if self.D.ndim == 2:
            self.device.xp.multiply(u, self.D[s], out=y)
        else:
            self.device.xp.matmul(u, self.D[s], out=y)

    def _states(self, s: int, u: Array, state: Array, *, reverse: bool) -> Array:
        """States (rows, L, n) of system s."""
        xp, (rows, length, _) = self.device.xp, u.shape
        Lambda, state = self.Lambda[s : s + 1], xp.ascontiguousarray(state)[None]
        driven = xp.matmul(_samples(u), self.B[s]).view(Lambda.dtype)
        driven = driven.reshape(1, rows, length, Lambda.shape[1])
        return scan(self.device, Lambda, driven, state, reverse=reverse, look_back=self.look_back)[0]

    def _half(self, s: int, u: Array, state: Array, y: Array) -> Array:
        """Add Re(C x_k) to y; the last state."""
        states = self._states(s, u, state, reverse=False)
        self._observe(self.C[s], _samples(states), _samples(y))
        return states[:, -1]

    def _reverse_half(self, s: int, u: Array, state: Array, y: Array, *, strict: bool) -> Array:
        """Add Re(C x_k), or Re(C x_{k+1}) if `strict`, to y; the state at the first sample."""
        states = self._states(s, u, state, reverse=True)
        last = states[:, 0].copy()
        flat, out = _samples(states), _samples(y)
        if strict:
            # One sample later in the flat list of samples, where a row begins after the last sample of the row before.
            states[1:, 0] = state[:-1]
            self._observe(self.C_reverse[s], flat[1:], out[:-1])
            self._observe(self.C_reverse[s], self.device.xp.ascontiguousarray(state[-1:]), out[-1:])
        else:
            self._observe(self.C_reverse[s], flat, out)
        return last

    def _observe(self, C: Array, states: Array, out: Array) -> None:
        if C.size:  # there may be no state
            self.device.accumulate(states.view(C.dtype), C, out)


def _samples(array: Array) -> Array:
    """Matrix of all samples of all rows; the same memory."""
    rows, length, width = array.shape
    return array.reshape(rows * length, width)


def _blocks(systems: int, rows: int, length: int, samples: int) -> Iterator[tuple[int, slice, list[slice]]]:
    """Systems, whole sequences and spans of one long sequence, of at most so many samples: contiguous in memory."""
    block, chunk = max(1, samples // length), min(length, samples)
    spans = [slice(k, k + chunk) for k in range(0, length, chunk)]
    for s in range(systems):
        for i in range(0, rows, block):
            yield s, slice(i, i + block), spans
