#version 460
// (out, lse) := (out, lse) joined with (out_b, lse_b); a subgroup has a query head.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(binding = 0) buffer Out { float outs[]; };
layout(binding = 1) buffer Lse { float lses[]; };
layout(binding = 2) readonly buffer OutB { float outs_b[]; };
layout(binding = 3) readonly buffer LseB { float lses_b[]; };
layout(push_constant) uniform Push {
    uint out_first, lse_first, out_b_first, lse_b_first; // bytes
    uint n, d; // n: query heads of all queries
};

void main() {
    const uint me = team_of();
    if (me >= n) {
        return;
    }
    const float a = lses[lse_first / 4 + me], b = lses_b[lse_b_first / 4 + me], most = max(a, b);
    subgroupBarrier(); // lane 0 writes what all read
    if (most == -INFINITY) {
        return; // nothing joined with nothing
    }
    const float of_a = exp_of(a - most), of_b = exp_of(b - most), both = of_a + of_b;
    for (uint c = lane_of(); c < d; c += SUBGROUP) {
        const uint at = out_first / 4 + me * d + c;
        outs[at] = (of_a * outs[at] + of_b * outs_b[out_b_first / 4 + me * d + c]) / both;
    }
    if (lane_of() == 0) {
        lses[lse_first / 4 + me] = most + log_of(both);
    }
}
