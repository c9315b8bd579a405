"""Mutants of the CUDA kernels, and the scenarios that must find them; ``python mutants.py LIBRARY FIRST LAST``.

All mutants are compiled together, and one number turns one of them on. Memory fences are left out: the shim runs one
thread at a time and models no weak ordering of memory. A mutant may crash, so that they run in a process of their own.
"""

import ctypes
import sys
from functools import partial

import mpmath
import numpy as np
from cases import KINDS, assert_close, rounded_layer, rounded_scan
from shim import POLICIES, ShimDevice

from ssmreduce.engines import _reference
from ssmreduce.engines.cuda import _device
from ssmreduce.responses import _responses as responses


def swapped(first, second, space):
    return first + space + second, first + space + second, second + first


SWAPPED_AGGREGATE = swapped(
    "if (active) aggregates[chunk * columns + column] = total;", "publish(flag, AGGREGATE, lane);", "\n            "
)
SWAPPED_PREFIX = swapped(
    "if (active) prefixes[chunk * columns + column] = carry(jump[1], start, widen(total));",
    "publish(flag, PREFIX, lane);",
    "\n        ",
)
# What runs; a text that occurs once; what is replaced in it, a statement or an expression; by what.
MUTANTS = [
    ("scan", "x = narrow(exact);", "x = narrow(exact);", ";"),
    ("scan", "exact = advance(power, exact, widen(own))", "power", "widen(a)"),
    ("scan", "own = advance(a, own, batch[j]);", "batch[j]", "next[j]"),
    ("scan", "load(next, states, stride, count);", "states", "states + stride"),
    ("scan", "load(next, states + STEPS * stride, stride, left - STEPS);", "left - STEPS", "left - STEPS - 1"),
    ("scan", "if (STORE && j < left) states", "j < left", "j < left - 1"),
    ("scan", "states += STEPS * stride;", "STEPS * stride", "(STEPS + 1) * stride"),
    ("scan", "walk<true>(lambda[c.pole], starts[t]", "starts[t]", "starts[0]"),
    ("scan", "pole = row / rows * order + state", "row / rows * order + state", "row % rows * order + state"),
    ("scan", "offset = (row * length + (reverse ? length - 1 : 0))", "row * length", "row * (length - 1)"),
    ("scan", "offset = (row * length + (reverse ? length - 1 : 0))", "reverse", "!reverse"),
    ("scan", "stride = reverse ? -order : order;", "-order", "-1"),
    ("chunks", "walk<true>(lambda[c.pole], starts[t], states + c.offset + first * c.stride", "first", "(first - 1)"),
    ("chunks", "ends[t] = walk<false>", "ends[t]", "ends[t + 1]"),
    ("chunks", "= powers[2 * c.pole + 1], x = widen(state[column]);", "powers[2 * c.pole + 1]", "powers[2 * c.pole]"),
    ("chunks", "x = widen(state[column]);", "state[column]", "state[0]"),
    ("chunks", "end[j * columns] = narrow(x);", "narrow(x)", "batch[j]"),
    ("chunks", "load(batch, end, columns, chunks - 1);", "chunks - 1", "chunks - 2"),
    ("powers", "exponent = t % number * span", "t % number * span", "t % number"),
    ("powers", "fma(a.high, b.high, -p) +", "fma(a.high, b.high, -p)", "0.0"),
    ("powers", "(a - (s - t)) + (b - t)", "(a - (s - t)) + (b - t)", "0.0"),
    ("look-back", "shared->ticket = atomicAdd(tickets, 1ull);", "atomicAdd(tickets, 1ull)", "blockIdx.x"),
    ("look-back", "1ull);\n    __syncthreads();", "__syncthreads();", ";"),
    ("look-back", "shared->ends[warp][lane] = x;\n    __syncthreads();", "__syncthreads();", ";"),
    ("look-back", "shared->start[lane] = start;\n    }\n    __syncthreads();", "__syncthreads();", ";"),
    ("look-back", "__threadfence();\n    __syncwarp();", "__syncwarp();", ";"),
    ("look-back", "if (lane == 0) *flag = what;", "what", "PREFIX"),
    ("look-back", "(whole ? PREFIX : AGGREGATE)", "(whole ? PREFIX : AGGREGATE)", "EMPTY"),
    ("look-back", "what = __shfl_sync(ALL, what, 0);", "__shfl_sync(ALL, what, 0)", "__shfl_sync(ALL, what, 1)"),
    ("look-back", *SWAPPED_AGGREGATE),
    ("look-back", *SWAPPED_PREFIX),
    ("look-back", "start = carry(jump[back - 1],", "jump[back - 1]", "jump[back]"),
    ("look-back", "jump = jumps + c.pole * (REACH + 1);", "(REACH + 1)", "REACH"),
    ("look-back", "if (what == PREFIX) break;", "if (what == PREFIX) break;", ";"),
    ("look-back", "start = active && chunk == 0 ?", "chunk == 0", "chunk < 0"),
    ("look-back", "x = carry(power, x, shared->ends[w][lane]);", "carry(power, x, shared->ends[w][lane])", "x"),
    ("look-back", "w < warp; w++", "w < warp", "w < warp - 1"),
    ("look-back", "total = carry(power, total, shared->ends[w][lane])", "power", "powers[2 * c.pole]"),
    ("look-back", "if (active && first + j < length) own", "first + j < length", "true"),
    ("reach", "published(flags + before * groups + group, back == REACH, lane)", "back == REACH", "false"),
    ("fused", "systems + s] : 0;\n        }\n        __syncthreads();", "__syncthreads();", ";"),
    ("fused", "g < groups; g++) {\n            __syncthreads();", "__syncthreads();", ";"),
    ("fused", "sums[j];\n                }\n        }\n        __syncthreads();", "__syncthreads();", ";"),
    ("fused", "z = {gain * z.re, gain * z.im};", "z = {gain * z.re, gain * z.im};", ";"),
    ("fused", "Value other = shuffle_up(z, distance);", "shuffle_up(z, distance)", "shuffle_up(z, distance + 1)"),
    ("fused", "z = carry(powers[distance], other, z)", "powers[distance]", "powers[1]"),
    ("fused", "if (lane >= distance) z", "lane >= distance", "lane > distance"),
    ("fused", "*end = shuffle(z, LANES - 1);", "LANES - 1", "LANES - 2"),
    ("fused", "z = shuffle_up(z, 1);", "z = shuffle_up(z, 1);", ";"),
    ("fused", "lane == 0 ? Value{0, 0} : z", "lane == 0 ? Value{0, 0} : z", "z"),
    ("fused", "carry(powers[lane], before,", "powers[lane]", "powers[1]"),
    ("fused", "bool kept = base + lane < stop;", "base + lane < stop", "base + lane < stop - 1"),
    ("fused", "shuffle(rounded, q)", "shuffle(rounded, q)", "shuffle(rounded, 0)"),
    ("fused", "if (lane == q) ends = end;", "ends = end;", ";"),
    (
        "fused",
        "jumps[(pole + lane) * (LANES + 1) + LANES]",
        "(pole + lane) * (LANES + 1) + LANES",
        "(pole + lane) * (LANES + 1) + 1",
    ),
    ("fused", "base < stop; base += LANES", "base += LANES", "base += LANES - 1"),
    ("fused", "if (j <= tail)", "j <= tail", "j < tail"),
    ("fused", "d = group == 0 && system", "group == 0", "true"),
    ("fused", "g == 0 ? sums[j] : tile[at] + sums[j]", "tile[at] + sums[j]", "sums[j]"),
]


def mutated(source):
    """The source with every mutant in it; `mutant` is the number of the one that is on."""
    edits = []
    for number, (_, context, original, other) in enumerate(MUTANTS, 1):
        assert (source.count(context), context.count(original)) == (1, 1), (context, original)
        edits.append((source.index(context) + context.index(original), number, original, other))
    for start, number, original, other in sorted(edits, reverse=True):
        if original.endswith(";"):
            text = f"if (mutant == {number}) {{ {other} }} else {{ {original} }}"
        else:
            text = f"(mutant == {number} ? ({other}) : ({original}))"
        source = source[:start] + text + source[start + len(original) :]
    return f'extern "C" int mutant;\nint mutant = 0;\n{source}'


def scans(device, rng, length, processors, *, look_back=False, radius=(0.9, 1.0)):
    Lambda, inputs, state = rounded_scan(rng, (2, 2, length, 20), "float", radius=radius)
    for reverse in (False, True):
        double = [a.astype(np.complex128) for a in (Lambda, inputs, state)]
        expected = _reference.scan(*double, reverse=reverse)
        used = device(processors=processors)
        states = _device.scan(used, Lambda, inputs.copy(), state, reverse=reverse, look_back=look_back)
        assert_close(states, expected, KINDS["float"][2])


def long_scan(device, rng):
    """Where rounding at every step shows."""
    Lambda, inputs, state = rounded_scan(rng, (1, 1, 8192, 4), "float", radius=(1 - 1e-6, 1 - 1e-6))
    expected = _reference.scan(*(a.astype(np.complex128) for a in (Lambda, inputs, state)), reverse=False)
    assert_close(_device.scan(device(processors=1e-9), Lambda, inputs, state, reverse=False), expected, 5e-7)


def powers(device, rng):
    Lambda = rounded_scan(rng, (2, 1, 1, 3), "float", radius=(1 - 1e-6, 1.0))[0]
    wide = _device.pole_powers(device(), Lambda, 16, 1025)[1][..., -1]
    expected = [complex(mpmath.mpc(complex(pole)) ** 16384) for pole in Lambda.ravel()]
    assert_close(wide.ravel(), np.array(expected), 5e-16)


def fused(device, rng):
    for case, processors in (((1, 1100, 5, 4, 1, 1), 2), ((1, 530, 1, 40, 1, 1), 0.2)):
        ssm, u, state, state_reverse = rounded_layer(rng, case, "float", radius=(0.99, 0.999))
        response = _device.prepare(device(processors=processors), responses._layer(ssm, u)).run(u, state, state_reverse)
        double = _reference.prepare(responses._layer(ssm, u.astype(float))).run(u.astype(float), state, state_reverse)
        for actual, value in zip(response, double, strict=True):
            assert_close(actual, value, KINDS["float"][2])


def reach(device, rng):
    scans(device, rng, 128 * 36, 1000, look_back=True, radius=(0.9999, 1.0))


SCENARIOS = {
    "scan": lambda device, rng: (scans(device, rng, 50, 1e-9), long_scan(device, rng)),
    "chunks": lambda device, rng: scans(device, rng, 200, 100),
    "powers": powers,
    "look-back": lambda device, rng: scans(device, rng, 420, 100, look_back=True),
    "reach": reach,
    "fused": fused,
}


def schedules(scenario):
    """Schedules of a scenario, the most telling first."""
    if scenario == "reach":  # the first chunk is held back, all others are there
        return [{"policy": "starved", "resident": 100}]
    lagging = [{"policy": "lagging", "resident": 6, "seed": seed} for seed in range(8)]
    return [{"policy": policy, "resident": n} for n in (2, 6) for policy in sorted(POLICIES, reverse=True)] + lagging


def complaint(library, scenario, schedule, number=0):
    """What a scenario finds wrong under a schedule; None if all is well."""
    ctypes.c_int.in_dll(library, "mutant").value = number
    try:
        with np.errstate(all="ignore"):
            SCENARIOS[scenario](partial(ShimDevice, library, **schedule), np.random.default_rng(1))
    except AssertionError as error:
        return " ".join(str(error).split()) or "assertion"
    return None


def main(path, first, last):
    """Print for each mutant the first complaint under any schedule, or a line without one."""
    library = ctypes.CDLL(path)
    for number in range(int(first), int(last)):
        scenario = MUTANTS[number - 1][0]
        found = (complaint(library, scenario, schedule, number) for schedule in schedules(scenario))
        print(number, next(filter(None, found), ""), sep="\t", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
