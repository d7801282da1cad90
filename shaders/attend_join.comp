#version 460
// One softmax of its parts, as attend.comp and attend_sketch.comp leave them: maximum, sum of weights,
// d weighted sums. A subgroup has a query head.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(binding = 0) readonly buffer Parts { float parts[]; };
layout(binding = 1) writeonly buffer Out { float outs[]; };
layout(binding = 2) writeonly buffer Lse { float lses[]; };
layout(push_constant) uniform Push {
    uint out_first, lse_first; // bytes
    uint n, d, n_parts, with_lse; // n: query heads of all queries
};

void main() {
    const uint me = team_of();
    if (me >= n) {
        return;
    }
    const uint first = me * n_parts * (d + 2);
    float most = -INFINITY, weights = 0.0;
    for (uint s = 0; s < n_parts; s++) {
        most = max(most, parts[first + s * (d + 2)]);
    }
    for (uint s = 0; s < n_parts; s++) {
        const float its = parts[first + s * (d + 2)];
        weights += its == -INFINITY ? 0.0 : exp_of(its - most) * parts[first + s * (d + 2) + 1];
    }
    if (with_lse != 0 && lane_of() == 0) {
        lses[lse_first / 4 + me] = weights > 0.0 ? most + log_of(weights) : -INFINITY;
    }
    for (uint c = lane_of(); c < d; c += SUBGROUP) {
        float sum = 0.0;
        for (uint s = 0; s < n_parts; s++) {
            const float its = parts[first + s * (d + 2)];
            sum += its == -INFINITY ? 0.0 : exp_of(its - most) * parts[first + s * (d + 2) + 2 + c];
        }
        outs[out_first / 4 + me * d + c] = weights > 0.0 ? sum / weights : 0.0;
    }
}
