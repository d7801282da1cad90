#version 460
// y (+)= x w^T + bias for few rows of x on hardware: a subgroup takes a row of w, TOKENS rows of x at a
// time; neighbouring lanes read neighbouring units, and the parts are added up at the end.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(constant_id = 3) const uint TOKENS = 1;
#include "matmul.glsl"

void main() {
    const uint mine = team_of();
    if (mine >= cols) {
        return;
    }
    const uint row = w_first + mine * row_bytes(k);
    const uint first = gl_WorkGroupID.y * TOKENS, units = (k + UNIT - 1) / UNIT;
    float sums[TOKENS];
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        sums[t] = 0.0;
    }
    for (uint unit = lane_of(); unit < units; unit += SUBGROUP) {
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
        const float sum = subgroupAdd(sums[t]);
        if (first + t < n && lane_of() == 0) {
            store(first + t, col + mine, sum);
        }
    }
}
