"""Vector code of the S4D kernel: a lane is a channel, and products with runs of inputs stay in vector registers.

A tile is an array of vectors, one a step. Steps go in groups of T. What the inputs of a group make of the states, and
what outputs follow from the states before it, are matrix products (a matrix a lane) that take several groups at once;
in between, states jump over groups, x <- lambda^T x + v. For n states that is 4 n + 8 n / T + T / 2 multiplications and
additions a step instead of 6 n, at the speed of matrix products, and without rounding errors that pile up.

``shape`` is four tuples of None, whose lengths are part of their type, and a number: the rows of a product, the groups
that it takes at once, T, the lanes of a vector, and a number of its precision. The tables that belong to it are those
of `_channels.Tables`. They, tiles and states are given as addresses: references to arrays would be counted at every
call, by locked additions that wait for every store before them.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils

from ._vector_ir import INDEX, accumulated, bypass, fetch, fma, intrinsic, rotated


class _Vectors:
    """Loads and stores of vectors of a width."""

    def __init__(self, context, builder, scalar, width):
        self.context, self.builder, self.width = context, builder, width
        self.scalar, self.item = context.get_value_type(scalar), scalar.bitwidth // 8
        self.type = ir.VectorType(self.scalar, width)

    def pointer(self, address):
        """Pointer to the vector at an address."""
        return self.builder.inttoptr(address, self.type.as_pointer())

    def at(self, pointer, index, scale=1):
        """Pointer to the vector with the number index * scale."""
        if isinstance(index, ir.Value):
            return self.builder.gep(pointer, [self.builder.mul(index, INDEX(scale))])
        return self.builder.gep(pointer, [INDEX(index * scale)])

    def load(self, pointer, index, aligned=True):
        return self.builder.load(self.at(pointer, index), align=self.item * (self.width if aligned else 1))

    def store(self, value, pointer, index, aligned=True):
        return self.builder.store(value, self.at(pointer, index), align=self.item * (self.width if aligned else 1))


class _Run(_Vectors):
    """Groups that are taken at once: so many `columns`, each of `group` steps."""

    def __init__(self, context, builder, shape):
        self.rows, self.columns, self.group, lanes = (part.count for part in shape[:4])
        super().__init__(context, builder, shape[4], lanes)
        self.wide = _Vectors(context, builder, types.float64, lanes)
        self.tall = min(self.rows, self.group)  # rows of a product that gives outputs
        self.parts = range(self.group // self.tall)

    def products(self, sums, weights, values, strides, count):
        """Sums [r][c] + the sum over k < count of weights[k, r] values[k strides[0] + c strides[1]]; count >= 1."""
        rows, columns = range(len(sums)), range(self.columns)

        def term(k, parts):
            factors = [self.load(self.at(values, k, strides[0]), c * strides[1]) for c in columns]
            own = self.at(weights, k, len(rows))
            return [
                fma(self.builder, self.load(own, r), factors[c], parts[r * self.columns + c])
                for r in rows
                for c in columns
            ]

        totals = accumulated(self.builder, [part for row in sums for part in row], count, term)
        return [totals[r * self.columns : (r + 1) * self.columns] for r in rows]

    def drive(self, u, inject, jump, leap, states, work):
        """Take the states of `rows` rows over the groups; those before each group go to `work`.

        States are carried in double precision. Over the groups they are what they would be after a start from 0, and
        what becomes of the start, apart: rounding errors do not pile up.
        """
        last = [self.load(u, (c + 1) * self.group - 1) for c in range(self.columns)]  # excites each state with weight 1
        sums = [[ir.Constant(self.type, None)] * self.columns if r % 2 else last for r in range(self.rows)]
        if self.group > 1:
            sums = self.products(sums, inject, u, (1, self.group), INDEX(self.group - 1))
        pairs = range(0, self.rows, 2)
        start = [[self.wide.load(states, i + part) for part in range(2)] for i in pairs]
        before = [[self.builder.fptrunc(part, self.type) for part in pair] for pair in start]
        local = [[sums[i][0], sums[i + 1][0]] for i in pairs]
        for c in range(self.columns):  # the states take turns: each waits for its own multiplications
            for i in pairs:
                state = before[i // 2]
                if c:
                    state = rotated(self.builder, self._pole(jump, c, i), state, local[i // 2])
                    local[i // 2] = rotated(
                        self.builder, self._pole(jump, 1, i), local[i // 2], (sums[i][c], sums[i + 1][c])
                    )
                for part in range(2):
                    self.store(state[part], work, (i + part) * self.columns + c)
        for i in pairs:
            pole = [self.wide.load(leap, i + part) for part in range(2)]
            added = [self.builder.fpext(part, self.wide.type) for part in local[i // 2]]
            for part, value in enumerate(rotated(self.builder, pole, start[i // 2], added)):
                self.wide.store(value, states, i + part)

    def _pole(self, jump, groups, i):
        """Power of the pole that takes a state over so many groups."""
        return [self.load(jump, (groups - 1) * self.rows + i + part) for part in range(2)]

    def places(self, part):
        """Steps of one part of every group, [r][c]: outputs of one product."""
        return [[c * self.group + part * self.tall + r for c in range(self.columns)] for r in range(self.tall)]

    def read(self, y, part):
        return [[self.load(y, place) for place in row] for row in self.places(part)]

    def write(self, sums, y, part):
        for row, places in zip(sums, self.places(part), strict=True):
            for value, place in zip(row, places, strict=True):
                self.store(value, y, place)


def _entries(builder, value, count):
    """Entries of a tuple of integers."""
    return [builder.extract_value(value, i) for i in range(count)]


@intrinsic
def advance(typingctx, shape, tile, tables, places, sizes, ahead):
    """Add to the tile y what some states contribute, and take them over `runs` times the steps of the shape.

    The arguments are tuples: `tile` the addresses y, u; `tables` those of inject, jump, leap, observe; `places` those
    of the states and of space for as many vectors for each of the groups; `sizes` are units, order, runs and pace: the
    states are `units` times the rows of the shape, of `order` rows in all. Meanwhile `pace` of the next inputs, which
    begin ahead[1] numbers behind the address ahead[0] with a stride of ahead[2], are fetched for each unit.
    """

    def codegen(context, builder, signature, args):
        run = _Run(context, builder, shape)
        y, u = map(run.pointer, _entries(builder, args[1], 2))
        inject, jump, leap, observe = _entries(builder, args[2], 4)
        states, work = _entries(builder, args[3], 2)
        units, order, runs, pace = _entries(builder, args[4], 4)
        inputs, start, stride = _entries(builder, args[5], 3)
        inject, jump, observe, work = map(run.pointer, (inject, jump, observe, work))
        leap, states = map(run.wide.pointer, (leap, states))
        inputs = builder.inttoptr(inputs, run.scalar.as_pointer())
        with cgutils.for_range(builder, runs) as turn:
            y_here, u_here = (run.at(tile, turn.index, run.columns * run.group) for tile in (y, u))
            with cgutils.for_range(builder, units) as unit:
                sizes = run.group - 1, run.columns - 1, 1, 1, run.columns
                tables = zip((inject, jump, leap, states, work), sizes, strict=True)
                run.drive(u_here, *(run.at(table, unit.index, size * run.rows) for table, size in tables))
                count = builder.add(builder.mul(turn.index, units), unit.index)
                with cgutils.for_range(builder, pace) as row:
                    step = builder.add(builder.mul(count, pace), row.index)
                    fetch(builder, inputs, builder.add(start, builder.mul(step, stride)))
            count = builder.mul(units, INDEX(run.rows))
            for part in run.parts:
                weights = run.at(observe, order, part * run.tall)
                sums = run.products(run.read(y_here, part), weights, work, (run.columns, 1), count)
                run.write(sums, y_here, part)
        return context.get_dummy_value()

    return types.void(shape, tile, tables, places, sizes, ahead), codegen


@intrinsic
def feed_through(typingctx, shape, y, u, taps, runs, add):
    """Fill the tile y, or add to it, with what inputs contribute to the outputs of their own group."""

    def codegen(context, builder, signature, args):
        run = _Run(context, builder, shape)
        y, u, taps = map(run.pointer, args[1:4])
        add, zero = builder.trunc(args[5], ir.IntType(1)), ir.Constant(run.type, None)
        with cgutils.for_range(builder, args[4]) as turn:
            y_here, u_here = (run.at(tile, turn.index, run.columns * run.group) for tile in (y, u))
            for part in run.parts:
                starts = [[builder.select(add, value, zero) for value in row] for row in run.read(y_here, part)]
                weights, count = run.at(taps, part * run.group * run.tall), INDEX((part + 1) * run.tall)
                run.write(run.products(starts, weights, u_here, (1, run.group), count), y_here, part)
        return context.get_dummy_value()

    return types.void(shape, *[types.int64] * 4, types.boolean), codegen


@intrinsic
def load(typingctx, shape, tiles, inputs):
    """The vector at the address `tiles` = the numbers from the address `inputs` on."""

    def codegen(context, builder, signature, args):
        vectors = _Vectors(context, builder, shape[4], shape[3].count)
        tiles, inputs = map(vectors.pointer, args[1:])
        vectors.store(vectors.load(inputs, 0, aligned=False), tiles, 0)
        return context.get_dummy_value()

    return types.void(shape, types.int64, types.int64), codegen


@intrinsic
def store(typingctx, shape, outputs, tiles, stream):
    """The way back; past the caches if `stream`, which takes vectors that are whole cache lines."""

    def codegen(context, builder, signature, args):
        vectors = _Vectors(context, builder, shape[4], shape[3].count)
        outputs, tiles = map(vectors.pointer, args[1:3])
        value = vectors.load(tiles, 0)
        with builder.if_else(builder.trunc(args[3], ir.IntType(1))) as (streaming, cached):
            with streaming:
                bypass(builder, vectors.store(value, outputs, 0))
            with cached:
                vectors.store(value, outputs, 0, aligned=False)
        return context.get_dummy_value()

    return types.void(shape, types.int64, types.int64, types.boolean), codegen
