// Systems of one input and one output (S4D) without ever storing a state: z_k = lambda z_{k-1} + g u_k, g >= 0, and
// y_k = Re(c z_k) + d u_k. A warp takes one system of one sequence: each lane holds STEPS samples, the lanes follow each
// other in time. It loops over its states, and over spans of LANES x STEPS samples. A block is `width` neighbouring
// systems, as they lie side by side in u and y, times `groups` shares of their states.

constexpr int SPAN = LANES * STEPS;

// Place of a sample in shared memory: one word of padding a lane keeps the lanes on different banks.
__device__ inline int place(int system, int sample) { return system * (SPAN + LANES + 4) + sample + sample / STEPS; }

__device__ inline Value shuffle_up(Value x, int distance) {
    return {__shfl_up_sync(ALL, x.re, distance), __shfl_up_sync(ALL, x.im, distance)};
}

__device__ inline Value shuffle(Value x, int lane) {
    return {__shfl_sync(ALL, x.re, lane), __shfl_sync(ALL, x.im, lane)};
}

// Add Re(c z_k) to y, from the state z before the first sample; `strict`: z_{k-1} instead of z_k.
template <bool STRICT>
__device__ inline void observe(Value a, REAL gain, Value c, Value z, const REAL* u, REAL* y) {
#pragma unroll
    for (int j = 0; j < STEPS; j++) {
        if (STRICT) y[j] = fma(c.re, z.re, fma(-c.im, z.im, y[j]));
        z = advance(a, z, {gain * u[j], 0});
        if (!STRICT) y[j] = fma(c.re, z.re, fma(-c.im, z.im, y[j]));
    }
}

// State before the first sample of each lane, from the one before the span; `end`: after the last lane, from zero.
// `powers` holds lambda^(STEPS j), j <= LANES.
__device__ inline Value warp_scan(Value a, REAL gain, const Value* powers, Value before, const REAL* u, int lane,
                                  Value* end) {
    Value z = {0, 0};
#pragma unroll
    for (int j = 0; j < STEPS; j++) z = advance(a, z, {u[j], 0});
    z = {gain * z.re, gain * z.im};
#pragma unroll
    for (int distance = 1; distance < LANES; distance *= 2) {
        Value other = shuffle_up(z, distance);
        if (lane >= distance) z = carry(powers[distance], other, z);
    }
    *end = shuffle(z, LANES - 1);
    z = shuffle_up(z, 1);
    return carry(powers[lane], before, lane == 0 ? Value{0, 0} : z);
}

extern "C" __global__ void __launch_bounds__(512)
    respond(const REAL* u, const REAL* feed, const Value* lambda, const REAL* gains, const Value* C,
            const Value* powers, const Wide* jumps, Wide* carries, Value* last, REAL* y, long long length,
            long long systems, long long order, long long width, long long groups, long long reverse, long long strict) {
    SHARED_MEMORY(REAL, tile);
    int lane = threadIdx.x % LANES, warp = threadIdx.x / LANES, own = warp % int(width), group = warp / int(width);
    long long blocks = (systems + width - 1) / width, row = blockIdx.x / blocks, first = blockIdx.x % blocks * width;
    long long system = first + own, stop = system < systems ? order * (group + 1) / groups : 0;
    for (long long start = 0; start < length; start += SPAN) {
        for (int e = threadIdx.x; e < SPAN * width; e += blockDim.x) {
            long long step = start + e / width, k = reverse ? length - 1 - step : step, s = first + e % width;
            tile[place(e % width, e / width)] = step < length && s < systems ? u[(row * length + k) * systems + s] : 0;
        }
        __syncthreads();
        REAL samples[STEPS], sums[STEPS], d = group == 0 && system < systems && !reverse ? feed[system] : 0;
#pragma unroll
        for (int j = 0; j < STEPS; j++) {
            samples[j] = tile[place(own, lane * STEPS + j)];
            sums[j] = d * samples[j];
        }
        long long tail = length - 1 - start - lane * STEPS;  // the last sample of all, counted from this lane's first
        for (long long base = order * group / groups; base < stop; base += LANES) {
            // The lanes carry one state each from span to span, in double: see carry_chunks.
            long long pole = system * order + base, kept_at = row * systems * order + pole;
            bool kept = base + lane < stop;
            Wide before = kept ? carries[kept_at + lane] : Wide{0, 0};
            Value rounded = narrow(before), end, ends = {0, 0};
            for (int q = 0; q < LANES && base + q < stop; q++) {
                Value a = lambda[pole + q], c = C[pole + q];
                REAL gain = gains[pole + q];
                const Value* power = powers + (pole + q) * (LANES + 1);
                Value z = warp_scan(a, gain, power, shuffle(rounded, q), samples, lane, &end);
                if (lane == q) ends = end;
                if (strict)
                    observe<true>(a, gain, c, z, samples, sums);
                else
                    observe<false>(a, gain, c, z, samples, sums);
                if (tail >= 0 && tail < STEPS) {
                    for (int j = 0; j < STEPS; j++)
                        if (j <= tail) z = advance(a, z, {gain * samples[j], 0});
                    last[kept_at + q] = z;
                }
            }
            if (kept)
                carries[kept_at + lane] =
                    carry(jumps[(pole + lane) * (LANES + 1) + LANES], before, widen(ends));
        }
        for (int g = 0; g < groups; g++) {
            __syncthreads();
            if (group == g)
#pragma unroll
                for (int j = 0; j < STEPS; j++) {
                    int at = place(own, lane * STEPS + j);
                    tile[at] = g == 0 ? sums[j] : tile[at] + sums[j];
                }
        }
        __syncthreads();
        for (int e = threadIdx.x; e < SPAN * width; e += blockDim.x) {
            long long step = start + e / width, k = reverse ? length - 1 - step : step, s = first + e % width;
            long long at = (row * length + k) * systems + s;
            if (step < length && s < systems) y[at] = (reverse ? y[at] : 0) + tile[place(e % width, e / width)];
        }
    }
}
