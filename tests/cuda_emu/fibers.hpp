// Between the two halves of the emulated device.
#pragma once
#include "cuda_runtime.h"

namespace emu {
void set_seed(uint64_t seed);
uint64_t draw_below(uint64_t n);
// Runs fn as every thread of the grid and returns when all are done.
void run_grid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &kernel);
}
