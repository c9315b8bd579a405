// CUDA on one CPU thread, for tests: every CUDA thread is a fiber, and a schedule says which fiber goes on at each
// barrier, shuffle, atomic, fence and sleep. Shared memory begins as NaN. It models no weak memory ordering.
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __launch_bounds__(...)
#define SHARED_MEMORY(type, name) type* name = reinterpret_cast<type*>(shim::current->block->shared.data())
#define threadIdx (shim::current->thread)
#define blockIdx (shim::current->block->index)
#define blockDim (shim::size)

using std::fma;
using std::min;

namespace shim {

enum Policy { ASCENDING, DESCENDING, RANDOM, STARVED, LAGGING, EAGER, EAGER_DESCENDING };
enum Outcome { FINISHED, DEADLOCK, OVERRUN };
constexpr size_t STACK = 1 << 16, GUARD = 256, WARP = 32;
constexpr size_t FAIR = 4;  // passes until the first block is starved: it has taken its ticket, others wait for it

struct Index {
    unsigned x;
};

struct Barrier {
    size_t expected = 0, arrived = 0, generation = 0;
};

struct Warp {
    Barrier barrier;
    double slots[2][WARP];
};

struct Block {
    Index index;
    std::vector<char> shared;
    std::vector<Warp> warps;
    Barrier barrier;
    size_t running = 0;
};

struct Fiber {
    Index thread;
    Block* block = nullptr;
    Warp* warp = nullptr;
    Barrier* waiting = nullptr;
    size_t generation = 0, shuffles = 0;
    bool started = false, finished = true, spinning = false, lagging = false;
    ucontext_t context;
    jmp_buf resume;
    std::unique_ptr<char[]> stack{new char[STACK]};
};

inline Fiber* current;
inline Index size;
inline jmp_buf scheduler;
inline ucontext_t origin;
inline std::function<void()> body;

__attribute__((noinline)) inline void yield() {
    if (_setjmp(current->resume) == 0) _longjmp(scheduler, 1);
}

inline void arrive(Barrier& barrier) {
    if (++barrier.arrived == barrier.expected) {
        barrier.arrived = 0;
        barrier.generation++;
    } else {
        current->waiting = &barrier;
        current->generation = barrier.generation;
    }
    yield();
}

inline void enter() {
    body();
    current->finished = true;
    current->block->running--;
    _longjmp(scheduler, 1);
}

// Run the fiber up to its next stop; whether it got anywhere.
__attribute__((noinline)) inline bool go_on(Fiber* pointer) {
    Fiber& fiber = *pointer;
    if (fiber.finished) return false;
    if (fiber.waiting && fiber.waiting->generation == fiber.generation) return false;
    fiber.waiting = nullptr;
    fiber.spinning = false;
    current = &fiber;
    if (_setjmp(scheduler) == 0) {
        if (fiber.started) _longjmp(fiber.resume, 1);
        fiber.started = true;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = STACK;
        makecontext(&fiber.context, enter, 0);
        swapcontext(&origin, &fiber.context);
    }
    return !current->spinning;
}

struct Device {
    std::vector<Block> blocks;
    std::vector<std::vector<Fiber>> fibers;
    std::vector<unsigned> order;  // in which the blocks of the grid start
    size_t next = 0, shared;
    Policy policy;
    std::mt19937 random;
    Outcome outcome = FINISHED;

    void fill(size_t slot) {
        Block& block = blocks[slot];
        for (size_t i = shared; i < block.shared.size(); i++)
            if (block.shared[i] != char(0xff)) outcome = OVERRUN;
        if (next == order.size()) return;
        block.index = {order[next++]};
        block.shared.assign(shared + GUARD, char(0xff));
        block.warps.assign((size.x + WARP - 1) / WARP, Warp());
        block.running = size.x;
        block.barrier = Barrier();
        block.barrier.expected = size.x;
        bool lagging = policy == LAGGING && random() % 2 == 0;
        for (unsigned t = 0; t < size.x; t++) {
            Fiber& fiber = fibers[slot][t];
            fiber.thread = {t};
            fiber.block = &block;
            fiber.warp = &block.warps[t / WARP];
            fiber.warp->barrier.expected++;
            fiber.waiting = nullptr;
            fiber.shuffles = 0;
            fiber.started = fiber.finished = false;
            fiber.lagging = lagging && random() % 8 == 0;
        }
    }

    bool pass(std::vector<Fiber*>& list, bool eager) {
        bool any = false;
        for (size_t begin = 0; begin < list.size(); begin += eager ? WARP : list.size()) {
            size_t end = eager ? min(begin + WARP, list.size()) : list.size();
            for (bool again = true; again;) {
                again = false;
                for (size_t i = begin; i < end; i++) again |= go_on(list[i]);
                any |= again;
                again &= eager;
            }
        }
        return any;
    }

    Outcome run() {
        bool eager = policy >= EAGER, descending = policy == DESCENDING || policy == EAGER_DESCENDING;
        for (size_t passes = 0;; passes++) {
            bool running = false;
            for (size_t slot = 0; slot < blocks.size(); slot++) {
                if (blocks[slot].running == 0) fill(slot);
                running |= blocks[slot].running > 0;
            }
            if (!running || outcome != FINISHED) return outcome;
            std::vector<Fiber*> list, starved;
            for (auto& block : fibers)
                for (Fiber& fiber : block) {
                    bool late = policy == STARVED ? passes >= FAIR && &block == &fibers[0] : fiber.lagging;
                    (late ? starved : list).push_back(&fiber);
                }
            if (descending) std::reverse(list.begin(), list.end());
            if (policy == RANDOM) {  // half of them go on, so that any one may fall behind by many stops
                std::shuffle(list.begin(), list.end(), random);
                starved.assign(list.begin() + list.size() / 2, list.end());
                list.resize(list.size() / 2);
            }
            if (!pass(list, eager) && std::none_of(starved.begin(), starved.end(), go_on)) return DEADLOCK;
        }
    }
};

inline Outcome launch(unsigned grid, unsigned threads, size_t shared, unsigned resident, int policy, unsigned seed) {
    size = {threads};
    Device device;
    device.shared = shared;
    device.policy = Policy(policy);
    device.random.seed(seed);
    for (unsigned i = 0; i < grid; i++) device.order.push_back(i);
    if (policy == DESCENDING || policy == EAGER_DESCENDING) std::reverse(device.order.begin(), device.order.end());
    if (policy == RANDOM) std::shuffle(device.order.begin(), device.order.end(), device.random);
    device.blocks.resize(min(resident, grid));
    device.fibers.resize(device.blocks.size());
    for (auto& fibers : device.fibers) fibers.resize(threads);
    return device.run();
}

template <class T>
T exchange(T value, int from) {
    int parity = current->shuffles++ % 2, lane = current->thread.x % WARP;
    Warp& warp = *current->warp;
    memcpy(&warp.slots[parity][lane], &value, sizeof value);
    arrive(warp.barrier);
    memcpy(&value, &warp.slots[parity][from], sizeof value);
    return value;
}

template <class... A, size_t... I>
void call(void (*kernel)(A...), void** args, std::index_sequence<I...>) {
    kernel(*static_cast<A*>(args[I])...);
}

template <class... A>
std::function<void()> bound(void (*kernel)(A...), void** args) {
    return [=] { call(kernel, args, std::index_sequence_for<A...>()); };
}

}  // namespace shim

inline void __syncthreads() { shim::arrive(shim::current->block->barrier); }
inline void __syncwarp() { shim::arrive(shim::current->warp->barrier); }
inline void __threadfence() { shim::yield(); }

inline void __nanosleep(unsigned) {
    shim::current->spinning = true;
    shim::yield();
}

template <class T>
T __shfl_sync(unsigned, T value, int lane) {
    return shim::exchange(value, lane);
}

template <class T>
T __shfl_up_sync(unsigned, T value, unsigned distance) {
    int lane = shim::current->thread.x % shim::WARP;
    return shim::exchange(value, lane < int(distance) ? lane : lane - int(distance));
}

template <class T>
T atomicAdd(T* address, T value) {
    shim::yield();
    T old = *address;
    *address += value;
    return old;
}
