// Runs a grid: every CUDA thread of a block is a fiber with a stack of its own, all on one thread of
// the host. A fiber runs until it meets others; the order in which they are resumed is drawn for
// each launch. Sanitizers know the fibers: ThreadSanitizer takes each for a thread that only
// barriers and warp operations order, so it finds a barrier that is missing in a kernel.
#include "fibers.hpp"

#include "mma.h"

#include <cstdio>
#include <new>
#include <vector>

#if defined(__SANITIZE_THREAD__)
extern "C" {
void *__tsan_create_fiber(unsigned);
void __tsan_destroy_fiber(void *);
void *__tsan_get_current_fiber();
void __tsan_switch_to_fiber(void *, unsigned);
void __tsan_acquire(void *);
void __tsan_release(void *);
}
#define TSAN(...) __VA_ARGS__
#define UNSEEN __attribute__((no_sanitize("thread")))
#else
#define TSAN(...)
#define UNSEEN
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) (void)0
#endif

namespace emu {
namespace {

enum : unsigned { LANES = 32, MEETINGS = 8, STACK_BYTES = 256 << 10, GARBAGE = 0xCB };
enum state { READY, AT_BARRIER, AT_MEETING, DONE };

struct fiber {
    void *stack_pointer;
    void *stack; // owned
    state at;
    unsigned number;
    TSAN(void *tsan;)
};

struct meeting {
    uint32_t mask, arrived;
    void *brought[LANES];
};

struct warp {
    meeting meetings[MEETINGS];
    uint32_t live;
};

struct block {
    std::vector<fiber> fibers;
    std::vector<warp> warps;
    std::vector<unsigned char> shared;
    unsigned n, n_live, n_waiting;
    fiber *current;
    void *scheduler;
    const std::function<void()> *kernel;
    TSAN(void *tsan; char begun, waited, ended;)
    ~block() {
        for (fiber &f : fibers) {
            operator delete(f.stack, std::align_val_t(4096));
        }
    }
};

block the_block;
uint64_t draw_state = 1;

uint64_t draw() {
    uint64_t z = draw_state += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    return z ^ (z >> 31);
}

extern "C" void emu_switch(void **save, void *to);
asm(R"(.text
.globl emu_switch
.type emu_switch,@function
emu_switch:
 pushq %rbp
 pushq %rbx
 pushq %r12
 pushq %r13
 pushq %r14
 pushq %r15
 movq %rsp,(%rdi)
 movq %rsi,%rsp
 popq %r15
 popq %r14
 popq %r13
 popq %r12
 popq %rbx
 popq %rbp
 ret
.size emu_switch,.-emu_switch
)");

UNSEEN void set_thread(unsigned i) {
    threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
}

UNSEEN void leave() {
    block &b = the_block;
    fiber *const f = b.current;
    TSAN(__tsan_switch_to_fiber(b.tsan, 1);)
    emu_switch(&f->stack_pointer, b.scheduler);
}

UNSEEN void open_barrier(block &b) {
    if (b.n_live > 0 && b.n_waiting == b.n_live) {
        for (fiber &f : b.fibers) {
            f.at = f.at == AT_BARRIER ? READY : f.at;
        }
        b.n_waiting = 0;
    }
}

// A fiber's first function; it never returns.
UNSEEN void begin() {
    block &b = the_block;
    TSAN(__tsan_acquire(&b.begun);)
    (*b.kernel)();
    fiber *const f = b.current;
    f->at = DONE;
    b.n_live--;
    b.warps[f->number / LANES].live &= ~(1u << f->number % LANES);
    open_barrier(b);
    TSAN(__tsan_release(&b.ended);)
    leave();
    abort();
}

void prepare(block &b, unsigned n, size_t shared_bytes) {
    while (b.fibers.size() < n) {
        fiber f = {};
        f.stack = operator new(STACK_BYTES, std::align_val_t(4096));
        b.fibers.push_back(f);
    }
    for (size_t i = n; i < b.fibers.size(); i++) {
        b.fibers[i].at = DONE;
    }
    b.warps.resize((n + LANES - 1) / LANES);
    b.shared.assign(shared_bytes + 128, GARBAGE);
    b.n = n;
}

UNSEEN void reset(block &b) {
    b.n_live = b.n;
    b.n_waiting = 0;
    TSAN(b.tsan = __tsan_get_current_fiber(); __tsan_release(&b.begun);)
    for (unsigned i = 0; i < b.n; i++) {
        fiber &f = b.fibers[i];
        f.at = READY;
        f.number = i;
        // begin() never returns, so what AddressSanitizer marked around its variables stays.
        ASAN_UNPOISON_MEMORY_REGION((char *)f.stack + STACK_BYTES - 4096, 4096);
        void **top = (void **)((char *)f.stack + STACK_BYTES) - 2;
        top[0] = (void *)begin;
        top[1] = nullptr;
        top -= 6;
        memset(top, 0, 6 * sizeof *top);
        f.stack_pointer = top;
        TSAN(f.tsan = __tsan_create_fiber(0);)
    }
    for (unsigned i = 0; i < b.warps.size(); i++) {
        const unsigned n = b.n - i * LANES;
        b.warps[i].live = n >= LANES ? ~0u : (1u << n) - 1;
        for (meeting &m : b.warps[i].meetings) {
            m.arrived = 0;
        }
    }
}

[[noreturn]] void stuck(const block &b) {
    unsigned counts[4] = {};
    for (unsigned i = 0; i < b.n; i++) {
        counts[b.fibers[i].at]++;
    }
    fprintf(stderr,
            "emu: block (%u, %u, %u) is stuck: %u threads at a barrier, %u in a warp operation, %u "
            "at their end\n",
            blockIdx.x, blockIdx.y, blockIdx.z, counts[AT_BARRIER], counts[AT_MEETING],
            counts[DONE]);
    abort();
}

UNSEEN void run_block(block &b, unsigned first, unsigned step) {
    reset(b);
    while (b.n_live > 0) {
        bool any = false;
        for (unsigned k = 0, i = first; k < b.n; k++, i = (i + step) % b.n) {
            fiber &f = b.fibers[i];
            if (f.at == READY) {
                any = true;
                b.current = &f;
                set_thread(i);
                TSAN(__tsan_switch_to_fiber(f.tsan, 1);)
                emu_switch(&b.scheduler, f.stack_pointer);
            }
        }
        if (!any) {
            stuck(b);
        }
    }
    TSAN(__tsan_acquire(&b.ended); for (unsigned i = 0; i < b.n; i++) {
        __tsan_destroy_fiber(b.fibers[i].tsan);
    })
}

unsigned gcd(unsigned a, unsigned b) {
    while (b != 0) {
        const unsigned c = a % b;
        a = b;
        b = c;
    }
    return a;
}

// A step that visits all of n.
unsigned draw_step(unsigned n) {
    unsigned step = n > 1 ? 1 + (unsigned)(draw() % (n - 1)) : 1;
    while (gcd(step, n) != 1) {
        step = step % n + 1;
    }
    return step;
}

} // namespace

void complain(const char *what) {
    fprintf(stderr, "emu: %s: block (%u, %u, %u), thread %u\n", what, blockIdx.x, blockIdx.y,
            blockIdx.z, the_block.current->number);
    abort();
}

unsigned lane() { return the_block.current->number % LANES; }

unsigned char *dynamic_shared() {
    const uintptr_t at = (uintptr_t)the_block.shared.data();
    return (unsigned char *)((at + 127) / 128 * 128);
}

UNSEEN __attribute__((noinline)) void barrier() {
    block &b = the_block;
    fiber *const f = b.current;
    TSAN(__tsan_release(&b.waited);)
    f->at = AT_BARRIER;
    b.n_waiting++;
    open_barrier(b);
    leave();
    TSAN(__tsan_acquire(&b.waited);)
}

UNSEEN void meet(uint32_t mask, void *mine, warp_function *op) {
    block &b = the_block;
    fiber *const f = b.current;
    const unsigned l = f->number % LANES;
    warp &w = b.warps[f->number / LANES];
    if (!(mask >> l & 1)) {
        complain("a lane that is not in its own mask");
    }
    meeting *m = nullptr;
    for (meeting &each : w.meetings) {
        if (each.arrived != 0 && each.mask == mask) {
            m = &each;
        }
    }
    for (meeting &each : w.meetings) {
        if (m == nullptr && each.arrived == 0) {
            m = &each;
            m->mask = mask;
        }
    }
    m->brought[l] = mine;
    m->arrived |= 1u << l;
    TSAN(__tsan_release(m);)
    const uint32_t needed = mask & w.live;
    if ((m->arrived & needed) == needed) {
        const uint32_t arrived = m->arrived;
        TSAN(__tsan_acquire(m);)
        op(m->brought, arrived);
        TSAN(__tsan_release(m);)
        m->arrived = 0;
        for (unsigned i = 0; i < LANES; i++) {
            if (arrived >> i & 1) {
                b.fibers[f->number / LANES * LANES + i].at = READY;
            }
        }
        return;
    }
    f->at = AT_MEETING;
    leave();
    TSAN(__tsan_acquire(m);)
}

void set_seed(uint64_t seed) { draw_state = seed; }

uint64_t draw_below(uint64_t n) { return draw() % n; }

void run_grid(dim3 grid, dim3 size, size_t shared_bytes, const std::function<void()> &kernel) {
    block &b = the_block;
    gridDim = grid;
    blockDim = size;
    b.kernel = &kernel;
    prepare(b, size.x * size.y * size.z, shared_bytes);
    const uint64_t n = (uint64_t)grid.x * grid.y * grid.z;
    const uint64_t begin = draw() % n;
    const bool backwards = draw() % 2 == 0;
    for (uint64_t k = 0; k < n; k++) {
        const uint64_t i = backwards ? (begin + n - k) % n : (begin + k) % n;
        blockIdx = {(unsigned)(i % grid.x), (unsigned)(i / grid.x % grid.y),
                    (unsigned)(i / ((uint64_t)grid.x * grid.y))};
        run_block(b, (unsigned)(draw() % b.n), draw_step(b.n));
    }
}

} // namespace emu

namespace nvcuda::wmma {

// d += a b of 16 x 16 matrices spread over the lanes, products and sums in float.
void multiply(void **of_lane, uint32_t arrived) {
    if (arrived != ~0u) {
        emu::complain("a tensor core's product with absent lanes");
    }
    float a[16][16], b[16][16];
    for (unsigned e = 0; e < 256; e++) {
        a[e / 16][e % 16] = __half2float(((const product *)of_lane[e / 8])->a[e % 8]);
        b[e / 16][e % 16] = __half2float(((const product *)of_lane[e / 8])->b[e % 8]);
    }
    for (unsigned i = 0; i < 16; i++) {
        float sums[16] = {};
        for (unsigned k = 0; k < 16; k++) {
            for (unsigned j = 0; j < 16; j++) {
                sums[j] += a[i][k] * b[k][j];
            }
        }
        for (unsigned j = 0; j < 16; j++) {
            ((const product *)of_lane[(16 * i + j) / 8])->d[j % 8] += sums[j];
        }
    }
}

}
