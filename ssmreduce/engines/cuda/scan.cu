// States x_k = lambda x_{k-1} + v_k in place. A column is one state of one sequence: the states of a sequence lie side
// by side, so that neighbouring threads read neighbouring words; columns beyond the last sequence do not exist, whatever
// the order. "Step" counts in walking direction, from the end of the sequence if `reverse`.

struct Column {
    long long pole, offset, stride;  // its place in lambda, and that of step 0 in the states

    __device__ Column(long long column, long long length, long long order, long long rows, long long reverse) {
        long long row = column / order, state = column % order;
        pole = row / rows * order + state;
        offset = (row * length + (reverse ? length - 1 : 0)) * order + state;
        stride = reverse ? -order : order;
    }
};

__device__ inline void load(Value* batch, const Value* first, long long stride, long long left) {
#pragma unroll
    for (int j = 0; j < STEPS; j++) batch[j] = j < left ? first[j * stride] : Value{0, 0};
}

// Walk `count` steps from x; the next batch is on its way while one is worked on. Returns the last state if the count is
// a multiple of STEPS. In single precision the state goes from batch to batch in double: rounded at every step, it would
// lose a digit over 16384 of them.
template <bool STORE>
__device__ Value walk(Value a, Value x, Value* states, long long stride, long long count) {
    constexpr bool SINGLE = sizeof(REAL) == 4;
    Wide power = widen(a), exact = widen(x);
    for (int span = 1; SINGLE && span < STEPS; span *= 2) power = advance(power, power, {0, 0});
    Value batch[STEPS], next[STEPS];
    load(next, states, stride, count);
    for (long long left = count; left > 0; left -= STEPS) {
#pragma unroll
        for (int j = 0; j < STEPS; j++) batch[j] = next[j];
        load(next, states + STEPS * stride, stride, left - STEPS);
        Value own = {0, 0};
#pragma unroll
        for (int j = 0; j < STEPS; j++) {
            own = advance(a, own, batch[j]);
            x = advance(a, x, batch[j]);
            if (STORE && j < left) states[j * stride] = x;
        }
        if (SINGLE) {
            exact = advance(power, exact, widen(own));
            x = narrow(exact);
        }
        states += STEPS * stride;
    }
    return x;
}

// Every chunk of every column from its start, starts[chunk][column]. With one chunk: the whole scan.
extern "C" __global__ void
    scan_chunks(const Value* lambda, const Value* starts, Value* states, long long length, long long order,
                long long rows, long long columns, long long chunk, long long reverse) {
    long long t = blockIdx.x * (long long)blockDim.x + threadIdx.x, first = t / columns * chunk;
    if (first >= length) return;
    Column c(t % columns, length, order, rows, reverse);
    walk<true>(lambda[c.pole], starts[t], states + c.offset + first * c.stride, c.stride, min(chunk, length - first));
}

// Last state of every chunk but the last from zero, ends[chunk][column].
extern "C" __global__ void
    chunk_ends(const Value* lambda, Value* states, Value* ends, long long length, long long order, long long rows,
               long long columns, long long chunk, long long reverse) {
    long long t = blockIdx.x * (long long)blockDim.x + threadIdx.x, first = t / columns * chunk;
    if (first + chunk >= length) return;
    Column c(t % columns, length, order, rows, reverse);
    ends[t] = walk<false>(lambda[c.pole], {0, 0}, states + c.offset + first * c.stride, c.stride, chunk);
}

// From the ends of the chunks to their starts, in place. In double: a rounded power would be applied to each chunk
// again, and its error would add up. `powers` holds lambda^0 and lambda^chunk.
extern "C" __global__ void
    carry_chunks(const Wide* powers, const Value* state, Value* ends, long long order, long long rows,
                 long long columns, long long chunks) {
    long long column = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (column >= columns) return;
    Column c(column, 1, order, rows, 0);
    Wide power = powers[2 * c.pole + 1], x = widen(state[column]);
    Value batch[STEPS];
    for (Value* end = ends + column; chunks > 0; chunks -= STEPS, end += STEPS * columns) {
        load(batch, end, columns, chunks - 1);
#pragma unroll
        for (int j = 0; j < STEPS; j++)
            if (j < chunks) {
                end[j * columns] = narrow(x);
                x = carry(power, x, widen(batch[j]));
            }
    }
}

constexpr int WARPS = 8;                   // of a block of the look-back kernel, one after the other in time
constexpr int REACH = 32;                  // chunks that are looked back at most
enum { EMPTY, AGGREGATE, PREFIX };         // what a chunk has published

struct LookBack {
    Wide start[LANES];
    Value ends[WARPS][LANES];
    long long ticket;
};

__device__ inline void publish(volatile int* flag, int what, int lane) {
    __threadfence();
    __syncwarp();
    if (lane == 0) *flag = what;
}

// What the chunk has published, waiting for the prefix if `whole`.
__device__ inline int published(volatile int* flag, bool whole, int lane) {
    int what = EMPTY;
    if (lane == 0)
        while ((what = *flag) < (whole ? PREFIX : AGGREGATE)) __nanosleep(32);
    what = __shfl_sync(ALL, what, 0);
    __threadfence();
    return what;
}

// One pass with decoupled look-back (Merrill and Garland, 2016): a block takes LANES columns and WARPS x STEPS steps,
// keeps them in registers, and finds its start from what the blocks before it have published. Tickets are given in the
// order of the chunks, so that a block only ever waits for blocks that run. `powers` holds lambda^(STEPS j), j < 2, and
// `jumps` lambda^(WARPS STEPS j), j <= REACH; aggregates and prefixes are [chunk][column].
extern "C" __global__ void __launch_bounds__(WARPS* LANES)
    scan_look_back(const Value* lambda, const Value* powers, const Wide* jumps, const Value* state, Value* states,
                   Value* aggregates, Wide* prefixes, int* flags, unsigned long long* tickets, long long length,
                   long long order, long long rows, long long columns, long long reverse) {
    SHARED_MEMORY(LookBack, shared);
    int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
    if (threadIdx.x == 0) shared->ticket = atomicAdd(tickets, 1ull);
    __syncthreads();
    long long groups = (columns + LANES - 1) / LANES, chunk = shared->ticket / groups, group = shared->ticket % groups;
    long long column = group * LANES + lane, first = (chunk * WARPS + warp) * STEPS;
    bool active = column < columns;
    Column c(active ? column : 0, length, order, rows, reverse);
    Value a = lambda[c.pole], power = powers[2 * c.pole + 1], batch[STEPS], x = {0, 0};
    const Wide* jump = jumps + c.pole * (REACH + 1);
    Value* own = states + c.offset + first * c.stride;
    load(batch, own, c.stride, active ? length - first : 0);
#pragma unroll
    for (int j = 0; j < STEPS; j++) x = advance(a, x, batch[j]);
    shared->ends[warp][lane] = x;
    __syncthreads();
    if (warp == 0) {
        Value total = {0, 0};
        for (int w = 0; w < WARPS; w++) total = carry(power, total, shared->ends[w][lane]);
        int* flag = flags + chunk * groups + group;
        Wide start = active && chunk == 0 ? widen(state[column]) : Wide{0, 0};
        if (chunk > 0) {
            if (active) aggregates[chunk * columns + column] = total;
            publish(flag, AGGREGATE, lane);
        }
        for (int back = 1; back <= chunk; back++) {
            long long before = chunk - back, at = before * columns + column;
            int what = published(flags + before * groups + group, back == REACH, lane);
            if (active) start = carry(jump[back - 1], what == PREFIX ? prefixes[at] : widen(aggregates[at]), start);
            if (what == PREFIX) break;
        }
        if (active) prefixes[chunk * columns + column] = carry(jump[1], start, widen(total));
        publish(flag, PREFIX, lane);
        shared->start[lane] = start;
    }
    __syncthreads();
    x = narrow(shared->start[lane]);
    for (int w = 0; w < warp; w++) x = carry(power, x, shared->ends[w][lane]);
#pragma unroll
    for (int j = 0; j < STEPS; j++) {
        x = advance(a, x, batch[j]);
        if (active && first + j < length) own[j * c.stride] = x;
    }
}
