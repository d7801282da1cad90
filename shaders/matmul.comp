#version 460
// y (+)= x w^T + bias for few rows of x: a subgroup takes rows of w, TOKENS rows of x at a time.
// SPLIT 1: a lane has a row of w to itself, and x is the same address for all lanes; best where loads
// are scalar code (lavapipe: 7 times as fast). SPLIT SUBGROUP: all lanes share a row of w, neighbours
// read neighbouring bytes, and the parts are added up at the end; best on hardware.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(constant_id = 3) const uint TOKENS = 1;
layout(constant_id = 4) const uint SPLIT = 1;
#include "matmul.glsl"

void main() {
    const uint rows = SUBGROUP / SPLIT; // of w, for this subgroup
    const uint mine = team_of() * rows + (SPLIT == 1 ? lane_of() : 0);
    if (team_of() * rows >= cols) {
        return;
    }
    const uint row = w_first + min(mine, cols - 1) * row_bytes(k);
    const uint first = gl_WorkGroupID.y * TOKENS, units = (k + UNIT - 1) / UNIT;
    float sums[TOKENS];
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        sums[t] = 0.0;
    }
    for (uint unit = SPLIT == 1 ? 0 : lane_of(); unit < units; unit += SPLIT) {
        float v[32];
        decode(row, unit, k, v);
        [[unroll]] for (uint t = 0; t < TOKENS; t++) {
            const uint i = min(first + t, n - 1), at = x_first / 4 + i * k + unit * UNIT;
            vec4 sum = vec4(0.0);
            if ((unit + 1) * UNIT <= k) {
                [[unroll]] for (uint e = 0; e < 32; e += 4) {
                    sum += vec4(x[at + e], x[at + e + 1], x[at + e + 2], x[at + e + 3]) *
                           vec4(v[e], v[e + 1], v[e + 2], v[e + 3]);
                }
            } else {
                for (uint e = 0; e < k - unit * UNIT; e++) {
                    sum.x += x[at + e] * v[e];
                }
            }
            sums[t] += (sum.x + sum.y) + (sum.z + sum.w);
        }
    }
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        const float sum = SPLIT == 1 ? sums[t] : subgroupAdd(sums[t]);
        if (first + t < n && mine < cols && (SPLIT == 1 || lane_of() == 0)) {
            store(first + t, col + mine, sum);
        }
    }
}
