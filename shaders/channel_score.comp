#version 460
// Scores by the channels that are held: an invocation has two rows of a KV head, and loops.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(binding = 0) buffer Score { float score[]; };
layout(binding = 1) readonly buffer Q { float q[]; };
layout(binding = 2) readonly buffer Part { uint part[]; };
layout(binding = 3) readonly buffer Held { int held[]; };
layout(binding = 4) readonly buffer Count { int n_blocks[]; };
layout(push_constant) uniform Push {
    uint score_first, q_first, part_first, held_first, count_first; // bytes
    uint k, d, group, cols, strides;
    uint head, heads;   // the window: score and part begin at its head,
    uint place, places; // part at its first place; scores of places behind the first are added
};

void main() {
    const uint team = team_of(), stride = team % strides, local = team / strides;
    if (local >= heads) {
        return;
    }
    const uint words = uint(max(n_blocks[count_first / 4], 0)) * 32;
    const uint queries = q_first / 4 + (head + local) * group * d;
    for (uint base = stride * SUBGROUP; base < words; base += strides * SUBGROUP) {
        const uint at = min(base + lane_of(), words - 1);
        const uint to = score_first / 4 + local * cols + 2 * at;
        vec2 sum = place != 0 ? vec2(score[to], score[to + 1]) : vec2(0.0);
        for (uint j = place; j < place + places; j++) {
            const uint c = uint(held[held_first / 4 + (head + local) * k + j]);
            float mean = 0.0;
            for (uint g = 0; g < group; g++) {
                mean += q[queries + g * d + c];
            }
            sum += mean / float(group) * halves_of(part[part_first / 4 + (local * k + j - place) * (cols / 2) + at]);
        }
        if (base + lane_of() < words) {
            score[to] = sum.x;
            score[to + 1] = sum.y;
        }
    }
}
