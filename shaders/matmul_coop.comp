#version 460
// y (+)= x w^T + bias for many rows of x by the device's matrix units: a workgroup makes a tile of y, TILE
// columns by TILE tokens, its subgroups FRAGMENTS matrices of M tokens by N columns each. UNIT elements of
// each row at a time lie in shared memory as two halves, what the first rounds off in the second, so that
// three products of halves have nearly float's precision; both are scaled by a power of two, of all that
// is loaded at once, so that nothing leaves the range of a half.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#pragma use_vulkan_memory_model
#include "common.glsl"
#include "matmul.glsl"
layout(constant_id = 3) const uint M = 16; // tokens of a matrix
layout(constant_id = 4) const uint N = 16; // columns
layout(constant_id = 5) const uint K = 16; // elements

const uint TILE = 64, PITCH = UNIT + 8, TEAMS = GROUP / SUBGROUP;
const uint FRAGMENTS = TILE / M * (TILE / N) / TEAMS;
shared float16_t w_high[TILE * PITCH], w_low[TILE * PITCH], x_high[TILE * PITCH], x_low[TILE * PITCH];
shared float stage[TEAMS * M * N];
shared float peaks[2 * TEAMS];

// The exponent that brings a peak to 2^14.
int shift_of(float peak) {
    const int e = int(floatBitsToUint(peak) >> 23 & 255u);
    return peak == 0.0 ? 0 : 14 - (e - 127);
}

// 2^n in two factors, each in range for any n that shift_of gives.
vec2 powers(int n) { return vec2(power_of_2(n / 2), power_of_2(n - n / 2)); }

// A number as a half and what that leaves. By its bits, since Mesa (26.2) takes
// float(half(x)) for x, and the second half for nothing.
f16vec2 split(float x) {
    const uint bits = f16_bits(x);
    return f16vec2(unpackFloat2x16(bits).x, float16_t(x - half_of(bits)));
}

// Loads a unit; what its products must be multiplied with.
float load(uint unit, uint row0, uint token0) {
    const uint id = gl_LocalInvocationID.x;
    float v[32], peak = 0.0, x_peak = 0.0;
    if (id < TILE) {
        decode(w_first + min(row0 + id, cols - 1) * row_bytes(k), unit, k, v);
        [[unroll]] for (uint e = 0; e < UNIT; e++) {
            peak = max(peak, abs(v[e]));
        }
    }
    for (uint i = id; i < UNIT * TILE; i += GROUP) {
        const uint e = unit * UNIT + i % UNIT;
        x_peak = max(x_peak, e < k ? abs(x[x_first / 4 + min(token0 + i / UNIT, n - 1) * k + e]) : 0.0);
    }
    peak = subgroupMax(peak);
    x_peak = subgroupMax(x_peak);
    if (lane_of() == 0) {
        peaks[gl_SubgroupID] = peak;
        peaks[TEAMS + gl_SubgroupID] = x_peak;
    }
    barrier();
    for (uint i = 0; i < TEAMS; i++) {
        peak = max(peak, peaks[i]);
        x_peak = max(x_peak, peaks[TEAMS + i]);
    }
    const int up = shift_of(peak), x_up = shift_of(x_peak), down = -up - x_up;
    const vec2 w_scale = powers(up), x_scale = powers(x_up), back = powers(clamp(down, -252, 252));
    if (id < TILE) {
        [[unroll]] for (uint e = 0; e < UNIT; e++) {
            const f16vec2 both = split(v[e] * w_scale.x * w_scale.y);
            w_high[id * PITCH + e] = both.x;
            w_low[id * PITCH + e] = both.y;
        }
    }
    for (uint i = id; i < UNIT * TILE; i += GROUP) {
        const uint e = unit * UNIT + i % UNIT, at = i / UNIT * PITCH + i % UNIT;
        const float its = x[x_first / 4 + min(token0 + i / UNIT, n - 1) * k + min(e, k - 1)];
        const float scaled = e < k ? its * x_scale.x * x_scale.y : 0.0;
        const f16vec2 both = split(scaled);
        x_high[at] = both.x;
        x_low[at] = both.y;
    }
    return back.x * back.y;
}

void main() {
    const uint row0 = gl_WorkGroupID.x * TILE, token0 = gl_WorkGroupID.y * TILE;
    coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> sums[FRAGMENTS];
    for (uint f = 0; f < FRAGMENTS; f++) {
        sums[f] = coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(0.0);
    }
    for (uint unit = 0; unit < (k + UNIT - 1) / UNIT; unit++) {
        const float scale = load(unit, row0, token0);
        barrier();
        for (uint f = 0; f < FRAGMENTS; f++) {
            const uint which = gl_SubgroupID * FRAGMENTS + f;
            const uint token = which / (TILE / N) * M * PITCH, row = which % (TILE / N) * N * PITCH;
            coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator> part =
                coopmat<float, gl_ScopeSubgroup, M, N, gl_MatrixUseAccumulator>(0.0);
            for (uint e = 0; e < UNIT; e += K) {
                coopmat<float16_t, gl_ScopeSubgroup, M, K, gl_MatrixUseA> xh, xl;
                coopmat<float16_t, gl_ScopeSubgroup, K, N, gl_MatrixUseB> wh, wl;
                coopMatLoad(xh, x_high, token + e, PITCH, gl_CooperativeMatrixLayoutRowMajor);
                coopMatLoad(xl, x_low, token + e, PITCH, gl_CooperativeMatrixLayoutRowMajor);
                coopMatLoad(wh, w_high, row + e, PITCH, gl_CooperativeMatrixLayoutColumnMajor);
                coopMatLoad(wl, w_low, row + e, PITCH, gl_CooperativeMatrixLayoutColumnMajor);
                part = coopMatMulAdd(xl, wh, part);
                part = coopMatMulAdd(xh, wl, part);
                part = coopMatMulAdd(xh, wh, part);
            }
            sums[f] = sums[f] + part * scale;
        }
        barrier();
    }
    for (uint f = 0; f < FRAGMENTS; f++) {
        const uint which = gl_SubgroupID * FRAGMENTS + f, mine = gl_SubgroupID * M * N;
        coopMatStore(sums[f], stage, mine, N, gl_CooperativeMatrixLayoutRowMajor);
        barrier();
        for (uint i = lane_of(); i < M * N; i += SUBGROUP) {
            const uint token = token0 + which / (TILE / N) * M + i / N;
            const uint row = row0 + which % (TILE / N) * N + i % N;
            if (row < cols && token < n) {
                store(token, col + row, stage[mine + i]);
            }
        }
        barrier();
    }
}
