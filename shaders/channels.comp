#version 460
// The channels that matter to a query: a subgroup has a KV head. A channel is chosen when fewer than k
// others weigh more, or as much and stand before it.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(binding = 0) writeonly buffer Ids { int ids[]; };
layout(binding = 1) readonly buffer Q { float q[]; };
layout(binding = 2) readonly buffer Most { uint16_t most[]; };
layout(binding = 3) readonly buffer Count { int n_blocks[]; };
layout(push_constant) uniform Push {
    uint ids_first, q_first, most_first, count_first; // bytes
    uint d, k, group, cap;
};
const uint D_MAX = 512;
shared float weight[D_MAX]; // a workgroup is one subgroup

void main() {
    const uint h = gl_WorkGroupID.x, lane = lane_of();
    const uint blocks = uint(max(n_blocks[count_first / 4], 0));
    for (uint c = lane; c < d; c += SUBGROUP) {
        const uint from = q_first / 4 + h * group * d + c;
        precise float sum = q[from];
        for (uint g = 1; g < group; g++) {
            sum += q[from + g * d];
        }
        const float size = blocks > 0 ? half_of(uint(most[most_first / 2 + (h * cap + blocks - 1) * d + c])) : 0.0;
        precise const float product = abs(sum) * size;
        weight[c] = is_nan(product) ? 0.0 : product;
    }
    barrier();
    uint before = 0;
    for (uint base = 0; base < d; base += SUBGROUP) {
        const uint c = base + lane;
        uint rank = c < d ? 0 : k;
        for (uint first = 0; first < d && c < d; first += 8) { // few rounds: see vk_least_teams
            [[unroll]] for (uint i = 0; i < 8; i++) {
                const uint other = first + i;
                const float its = weight[min(other, d - 1)];
                rank += other < d && (its > weight[c] || (its == weight[c] && other < c)) ? 1 : 0;
            }
        }
        const uvec4 chosen = subgroupBallot(rank < k);
        if (rank < k) {
            ids[ids_first / 4 + h * k + before + subgroupBallotExclusiveBitCount(chosen)] = int(c);
        }
        before += subgroupBallotBitCount(chosen);
    }
}
