// The host half of the emulated device: memory, streams, events, graphs, errors. A stream is a queue;
// nothing runs before somebody waits, and then whichever stream may go on does. One lock holds for
// every call. Calls fail where emu_options say so.
#include "emu.h"
#include "fibers.hpp"

#include <csignal>
#include <deque>
#include <map>
#include <mutex>
#include <set>
#include <new>
#include <sys/mman.h>
#include <vector>

namespace {

enum {
    SHARED_BYTES_MAX = 99 << 10,  // sm_86
    SHARED_BYTES_FREE = 48 << 10, // without being asked for
    PARAM_BYTES_MAX = 4 << 10,    // of a kernel, on all that we compile for
    PAGE_BYTES = 4 << 10,
};

// One thing to do; records and waits name an event and its count of records.
struct entry {
    enum { WORK, RECORD, WAIT, GRAPH } kind;
    std::function<void()> work;
    emu_event *event;
    uint64_t number;
    emu_graph_exec *graph;
};

} // namespace

struct emu_event {
    uint64_t n_recorded, n_done;
    emu_graph *graph; // that it was last recorded in
};

struct emu_graph {
    std::vector<emu_stream *> streams;
    std::vector<std::vector<entry>> queues;
    bool broken;
};

struct emu_graph_exec {
    std::vector<std::vector<entry>> queues;
};

struct emu_stream {
    std::deque<entry> queue;
    emu_graph *graph; // being recorded
};

namespace {

struct less_text {
    bool operator()(const char *a, const char *b) const { return strcmp(a, b) < 0; }
};

struct device {
    emu_options options;
    emu_counts counts;
    std::map<void *, uint64_t> device_memory, pinned_memory;
    std::vector<emu_stream *> streams;
    std::map<const char *, uint64_t, less_text> entries; // calls of each
    std::set<const void *> kernels;          // that were launched
    cudaError_t sticky, last;
};

std::mutex lock;

device new_device() {
    device d = {};
    d.options = emu_defaults();
    return d;
}
device the_device = new_device();

typedef std::lock_guard<std::mutex> guard;

cudaError_t answer(cudaError_t err) {
    the_device.last = err != cudaSuccess ? err : the_device.last;
    return err;
}

bool fails(uint64_t *countdown) { return *countdown > 0 && --*countdown == 0; }

// While a kernel is watched pinned memory is out of bounds; the first touch of a piece is noticed and
// opens it.
bool was_touched;

void open_pinned(int rights) {
    for (const auto &piece : the_device.pinned_memory) {
        mprotect(piece.first, (piece.second + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES, rights);
    }
}

void on_touch(int, siginfo_t *info, void *) {
    const uintptr_t at = (uintptr_t)info->si_addr;
    for (const auto &piece : the_device.pinned_memory) {
        const uintptr_t first = (uintptr_t)piece.first;
        if (at >= first && at < first + (piece.second + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES) {
            was_touched = true;
            open_pinned(PROT_READ | PROT_WRITE);
            return;
        }
    }
    signal(SIGSEGV, SIG_DFL); // somebody else's: it happens again
}

void run_watched(const std::function<void()> &run) {
    struct sigaction watch = {}, before = {};
    watch.sa_sigaction = on_touch;
    watch.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &watch, &before);
    was_touched = false;
    open_pinned(PROT_NONE);
    run();
    open_pinned(PROT_READ | PROT_WRITE);
    sigaction(SIGSEGV, &before, nullptr);
    the_device.counts.n_far += was_touched;
}

// Of calls that need the card: an earlier fault, somebody else's card, a failure that was asked for.
cudaError_t admitted(const char *entry) {
    device &d = the_device;
    d.counts.n_other++;
    const uint64_t call = ++d.entries[entry];
    if (d.sticky != cudaSuccess) {
        return d.sticky;
    }
    if (d.options.busy) {
        return cudaErrorDevicesUnavailable;
    }
    const bool named = d.options.fail_entry != nullptr && call == d.options.fail_entry_call &&
                       strcmp(d.options.fail_entry, entry) == 0;
    return named || fails(&d.options.fail_other) ? cudaErrorLaunchFailure : cudaSuccess;
}

#define ADMIT()                                    \
    do {                                           \
        const cudaError_t admitted_ = admitted(__func__); \
        if (admitted_ != cudaSuccess) {            \
            return answer(admitted_);              \
        }                                          \
    } while (0)

void run_graph(emu_graph_exec &g) {
    std::vector<size_t> next(g.queues.size(), 0);
    for (auto &q : g.queues) {
        for (size_t i = q.size(); i-- > 0;) {
            if (q[i].kind == entry::RECORD) {
                q[i].event->n_done = q[i].number - 1;
            }
        }
    }
    for (;;) {
        std::vector<size_t> ready;
        bool left = false;
        for (size_t i = 0; i < g.queues.size(); i++) {
            if (next[i] < g.queues[i].size()) {
                const entry &e = g.queues[i][next[i]];
                left = true;
                if (e.kind != entry::WAIT || e.event->n_done >= e.number) {
                    ready.push_back(i);
                }
            }
        }
        if (!left) {
            return;
        }
        if (ready.empty()) {
            abort(); // the graph waits for itself
        }
        const size_t i = ready[emu::draw_below(ready.size())];
        const entry &e = g.queues[i][next[i]++];
        if (e.kind == entry::WORK) {
            e.work();
        } else if (e.kind == entry::RECORD) {
            e.event->n_done = e.number;
        }
    }
}

bool may_run(const emu_stream *s) {
    return !s->queue.empty() && (s->queue.front().kind != entry::WAIT ||
                                 s->queue.front().event->n_done >= s->queue.front().number);
}

// One entry of any stream that has one to run.
void run_some() {
    std::vector<emu_stream *> ready;
    for (emu_stream *s : the_device.streams) {
        if (may_run(s)) {
            ready.push_back(s);
        }
    }
    if (ready.empty()) {
        abort(); // the streams wait for each other
    }
    emu_stream *const s = ready[emu::draw_below(ready.size())];
    const entry e = s->queue.front();
    s->queue.pop_front();
    if (the_device.sticky != cudaSuccess) {
        return;
    }
    if (e.kind == entry::WORK) {
        e.work();
    } else if (e.kind == entry::RECORD) {
        e.event->n_done = e.number;
    } else if (e.kind == entry::GRAPH) {
        run_graph(*e.graph);
    }
}

void drain(emu_stream *s) {
    while (!s->queue.empty() && the_device.sticky == cudaSuccess) {
        run_some();
    }
    if (the_device.sticky != cudaSuccess) {
        s->queue.clear();
    }
}

void drain_all() {
    for (emu_stream *s : the_device.streams) {
        drain(s);
    }
}

cudaError_t enqueue(emu_stream *s, entry e) {
    if (s->graph == nullptr) {
        s->queue.push_back(std::move(e));
        return cudaSuccess;
    }
    for (size_t i = 0; i < s->graph->streams.size(); i++) {
        if (s->graph->streams[i] == s) {
            s->graph->queues[i].push_back(std::move(e));
        }
    }
    return cudaSuccess;
}

cudaError_t enqueue_work(emu_stream *s, std::function<void()> work) {
    return enqueue(s, entry{entry::WORK, std::move(work), nullptr, 0, nullptr});
}

cudaError_t allocate(void **out, size_t bytes, std::map<void *, uint64_t> &of, uint64_t &used,
                     uint64_t most, uint64_t *countdown) {
    if (fails(countdown) || bytes > most - used) {
        return answer(cudaErrorMemoryAllocation);
    }
    // Not malloc: tests count what the engine allocates on the host, and make it fail.
    void *const p = operator new((bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES,
                                 std::align_val_t(PAGE_BYTES), std::nothrow);
    if (p == nullptr) {
        return answer(cudaErrorMemoryAllocation);
    }
    memset(p, 0xCB, bytes < 1 << 16 ? bytes : 1 << 16); // nobody promised zeros
    of[p] = bytes;
    used += bytes;
    *out = p;
    return cudaSuccess;
}

cudaError_t release(void *p, std::map<void *, uint64_t> &of, uint64_t &used) {
    if (p == nullptr) {
        return cudaSuccess;
    }
    const auto at = of.find(p);
    if (at == of.end()) {
        return answer(cudaErrorInvalidValue);
    }
    drain_all();
    used -= at->second;
    of.erase(at);
    operator delete(p, std::align_val_t(PAGE_BYTES));
    return cudaSuccess;
}

} // namespace

namespace emu {
static std::map<const void *, size_t> shared_allowed;

cudaError_t allow_shared(const void *kernel, int bytes) {
    const guard held(lock);
    ADMIT();
    if (bytes < 0 || bytes > SHARED_BYTES_MAX) {
        return answer(cudaErrorInvalidValue);
    }
    shared_allowed[kernel] = (size_t)bytes;
    return cudaSuccess;
}

cudaError_t launch(cudaStream_t s, dim3 grid, dim3 block, size_t shared_bytes, const void *kernel,
                   size_t param_bytes, std::function<void()> fn) {
    const guard held(lock);
    ADMIT();
    device &d = the_device;
    const uint64_t threads = (uint64_t)block.x * block.y * block.z;
    if (threads == 0 || threads > 1024 || (uint64_t)grid.x * grid.y * grid.z == 0 ||
        grid.y > 65535 || grid.z > 65535 || grid.x > 0x7fffffffu || shared_bytes > SHARED_BYTES_MAX ||
        (shared_bytes > SHARED_BYTES_FREE && shared_bytes > shared_allowed[kernel]) ||
        param_bytes > PARAM_BYTES_MAX) {
        return answer(cudaErrorInvalidValue);
    }
    d.counts.n_launches++;
    const bool is_new = d.kernels.insert(kernel).second;
    d.counts.n_kernels = d.kernels.size();
    const bool fault =
        fails(&d.options.fault_launch) || (is_new && fails(&d.options.fault_kernel));
    return enqueue_work(s, [grid, block, shared_bytes, fn, fault] {
        the_device.counts.n_run++;
        if (the_device.sticky != cudaSuccess) {
            return; // inside a graph that broke it
        }
        if (fault || fails(&the_device.options.fault_run)) {
            the_device.sticky = cudaErrorIllegalAddress;
        } else if (the_device.options.watch_pinned) {
            run_watched([&] { run_grid(grid, block, shared_bytes, fn); });
        } else {
            run_grid(grid, block, shared_bytes, fn);
        }
    });
}
}

extern "C" {

struct emu_options emu_defaults(void) {
    emu_options o = {};
    o.seed = 1;
    o.n_devices = 1;
    o.capability = 86;
    o.n_sms = 3;
    o.device_bytes = o.pinned_bytes = 8ull << 30;
    return o;
}

void emu_configure(const struct emu_options *options) {
    const guard held(lock);
    the_device.options = *options;
    the_device.sticky = the_device.last = cudaSuccess;
    the_device.counts.n_launches = the_device.counts.n_other = the_device.counts.n_far = 0;
    the_device.counts.n_kernels = the_device.counts.n_run = 0;
    the_device.entries.clear();
    the_device.kernels.clear();
    emu::set_seed(options->seed);
}

uint32_t emu_entries(struct emu_entry *out, uint32_t cap) {
    const guard held(lock);
    uint32_t n = 0;
    for (const auto &entry : the_device.entries) {
        if (n < cap) {
            out[n++] = {entry.first, entry.second};
        }
    }
    return n;
}

struct emu_counts emu_count(void) {
    const guard held(lock);
    return the_device.counts;
}

const char *cudaGetErrorString(cudaError_t err) {
    switch (err) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorDevicesUnavailable: return "CUDA-capable device(s) is/are busy or unavailable";
    case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
    case cudaErrorLaunchFailure: return "unspecified launch failure";
    default: return "an error of the emulated device";
    }
}

cudaError_t cudaGetLastError(void) {
    const guard held(lock);
    const cudaError_t err = the_device.last;
    the_device.last = the_device.sticky;
    return err;
}

cudaError_t cudaGetDeviceCount(int *n) {
    const guard held(lock);
    *n = (int)the_device.options.n_devices;
    return *n > 0 ? cudaSuccess : answer(cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int ordinal) {
    const guard held(lock);
    if (the_device.sticky != cudaSuccess) {
        return answer(the_device.sticky);
    }
    return (unsigned)ordinal < the_device.options.n_devices ? cudaSuccess
                                                            : answer(cudaErrorInvalidDevice);
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attr, int ordinal) {
    const guard held(lock);
    (void)ordinal;
    switch (attr) {
    case cudaDevAttrMultiProcessorCount: *value = (int)the_device.options.n_sms; break;
    case cudaDevAttrComputeCapabilityMajor:
        *value = (int)the_device.options.capability / 10;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *value = (int)the_device.options.capability % 10;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = SHARED_BYTES_MAX; break;
    default: *value = 1;
    }
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *out, int ordinal) {
    (void)ordinal;
    strcpy(out->name, "emulated card");
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
    const guard held(lock);
    *total_bytes = the_device.options.device_bytes;
    *free_bytes = *total_bytes - the_device.counts.device_bytes;
    return cudaSuccess;
}

cudaError_t cudaMalloc(void **out, size_t bytes) {
    const guard held(lock);
    device &d = the_device;
    ADMIT();
    return allocate(out, bytes, d.device_memory, d.counts.device_bytes, d.options.device_bytes,
                    &d.options.fail_device_alloc);
}

cudaError_t cudaFree(void *p) {
    const guard held(lock);
    device &d = the_device;
    if (p == nullptr) {
        ADMIT();
    }
    return release(p, d.device_memory, d.counts.device_bytes);
}

cudaError_t cudaMemset(void *p, int value, size_t bytes) {
    const guard held(lock);
    ADMIT();
    memset(p, value, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s) {
    const guard held(lock);
    ADMIT();
    return enqueue_work(s, [p, value, bytes] { memset(p, value, bytes); });
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t s) {
    const guard held(lock);
    (void)kind;
    ADMIT();
    return enqueue_work(s, [dst, src, bytes] { memcpy(dst, src, bytes); });
}

cudaError_t cudaHostAlloc(void **out, size_t bytes, unsigned flags) {
    const guard held(lock);
    (void)flags;
    device &d = the_device;
    ADMIT();
    return allocate(out, bytes, d.pinned_memory, d.counts.pinned_bytes, d.options.pinned_bytes,
                    &d.options.fail_pinned_alloc);
}

cudaError_t cudaFreeHost(void *p) {
    const guard held(lock);
    return release(p, the_device.pinned_memory, the_device.counts.pinned_bytes);
}

cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned flags) {
    const guard held(lock);
    (void)flags;
    device &d = the_device;
    ADMIT();
    if (fails(&d.options.fail_pinned_alloc) ||
        bytes > d.options.pinned_bytes - d.counts.pinned_bytes) {
        return answer(cudaErrorMemoryAllocation);
    }
    d.pinned_memory[p] = bytes;
    d.counts.pinned_bytes += bytes;
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *p) {
    const guard held(lock);
    device &d = the_device;
    const auto at = d.pinned_memory.find(p);
    if (at == d.pinned_memory.end()) {
        return answer(cudaErrorInvalidValue);
    }
    drain_all();
    d.counts.pinned_bytes -= at->second;
    d.pinned_memory.erase(at);
    return cudaSuccess;
}

cudaError_t cudaHostGetDevicePointer(void **out, void *host, unsigned flags) {
    (void)flags;
    *out = host;
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags) {
    const guard held(lock);
    (void)flags;
    ADMIT();
    *out = new emu_stream();
    the_device.streams.push_back(*out);
    the_device.counts.n_objects++;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t s) {
    const guard held(lock);
    auto &all = the_device.streams;
    drain(s);
    all.erase(std::find(all.begin(), all.end(), s));
    delete s;
    the_device.counts.n_objects--;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    const guard held(lock);
    ADMIT();
    if (s != nullptr && s->graph != nullptr) { // waiting for what is only recorded
        s->graph->broken = true;
        return answer(cudaErrorStreamCaptureInvalidated);
    }
    if (s != nullptr) {
        drain(s);
    }
    return answer(the_device.sticky);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags) {
    const guard held(lock);
    (void)flags;
    ADMIT();
    *out = new emu_event();
    the_device.counts.n_objects++;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t e) {
    const guard held(lock);
    delete e;
    the_device.counts.n_objects--;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
    const guard held(lock);
    ADMIT();
    e->graph = s->graph;
    return enqueue(s, entry{entry::RECORD, nullptr, e, ++e->n_recorded, nullptr});
}

// A stream that waits for an event of a capture joins it.
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned flags) {
    const guard held(lock);
    (void)flags;
    ADMIT();
    if (e->graph != nullptr && s->graph == nullptr) {
        s->graph = e->graph;
        s->graph->streams.push_back(s);
        s->graph->queues.emplace_back();
    }
    if (s->graph != e->graph) {
        s->graph->broken = true;
        return answer(cudaErrorStreamCaptureInvalidated);
    }
    return enqueue(s, entry{entry::WAIT, nullptr, e, e->n_recorded, nullptr});
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode mode) {
    const guard held(lock);
    (void)mode;
    ADMIT();
    s->graph = new emu_graph();
    s->graph->streams.push_back(s);
    s->graph->queues.emplace_back();
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *out) {
    const guard held(lock);
    emu_graph *const g = s->graph;
    bool joined = true; // all others end with the record of an event that the first waits for
    for (size_t i = 1; i < g->streams.size(); i++) {
        const auto &q = g->queues[i];
        bool waited = false;
        for (const entry &e : g->queues[0]) {
            waited |= !q.empty() && e.kind == entry::WAIT && q.back().kind == entry::RECORD &&
                      e.event == q.back().event && e.number == q.back().number;
        }
        joined &= waited;
    }
    for (emu_stream *each : g->streams) {
        each->graph = nullptr;
    }
    if (admitted(__func__) != cudaSuccess || g->broken || !joined) {
        delete g;
        *out = nullptr;
        return answer(cudaErrorStreamCaptureInvalidated);
    }
    *out = g;
    the_device.counts.n_objects++;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *out, cudaGraph_t graph,
                                 unsigned long long flags) {
    const guard held(lock);
    (void)flags;
    ADMIT();
    *out = new emu_graph_exec{graph->queues};
    the_device.counts.n_objects++;
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
    const guard held(lock);
    delete graph;
    the_device.counts.n_objects--;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s) {
    const guard held(lock);
    ADMIT();
    if (s->graph != nullptr) { // tl_capture_begin allows none
        s->graph->broken = true;
        return answer(cudaErrorStreamCaptureInvalidated);
    }
    return enqueue(s, entry{entry::GRAPH, nullptr, nullptr, 0, exec});
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    const guard held(lock);
    drain_all();
    delete exec;
    the_device.counts.n_objects--;
    return cudaSuccess;
}

} // extern "C"
