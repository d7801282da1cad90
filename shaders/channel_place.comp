#version 460
// Which channel goes where in the part that is held: a subgroup has a KV head. The i-th wanted channel
// that is missing takes the i-th place that does not stay. moves[h][place]: the channel to copy, or -1.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(binding = 0) readonly buffer Want { int want[]; };
layout(binding = 1) coherent buffer Held { int held[]; };
layout(binding = 2) buffer Counts { int counts[]; };
layout(binding = 3) writeonly buffer Moves { int moves[]; };
layout(push_constant) uniform Push {
    uint want_first, held_first, counts_first; // bytes
    uint n_heads, k, keep;
};
const uint D_MAX = 512;
shared int missing[D_MAX]; // a workgroup is one subgroup

bool is_held(int id, uint list) {
    bool found = false;
    for (uint j = 0; j < k; j++) {
        found = found || held[list + j] == id;
    }
    return found && keep != 0;
}

bool is_wanted(int id, uint list) {
    bool found = false;
    for (uint j = 0; j < k; j++) {
        found = found || want[list + j] == id;
    }
    return found && keep != 0;
}

void main() {
    const uint h = gl_WorkGroupID.x, lane = lane_of();
    const uint wants = want_first / 4 + h * k, helds = held_first / 4 + h * k;
    uint n_missing = 0;
    for (uint base = 0; base < k; base += SUBGROUP) {
        const uint j = base + lane;
        const bool lacks = j < k && !is_held(want[wants + min(j, k - 1)], helds);
        const uvec4 all = subgroupBallot(lacks);
        if (lacks) {
            missing[n_missing + subgroupBallotExclusiveBitCount(all)] = want[wants + j];
        }
        n_missing += subgroupBallotBitCount(all);
    }
    barrier();
    uint before = 0;
    for (uint base = 0; base < k; base += SUBGROUP) {
        const uint j = base + lane;
        const bool leaves = j < k && !is_wanted(held[helds + min(j, k - 1)], wants);
        const uvec4 all = subgroupBallot(leaves);
        const uint rank = before + subgroupBallotExclusiveBitCount(all);
        subgroupBarrier();
        if (j < k) {
            const bool takes = leaves && rank < n_missing;
            moves[h * k + j] = takes ? missing[rank] : -1;
            if (takes) {
                held[helds + j] = missing[rank];
            }
        }
        before += subgroupBallotBitCount(all);
    }
    if (lane == 0) {
        atomicAdd(counts[counts_first / 4], int(k - n_missing));
        atomicAdd(counts[counts_first / 4 + 1], int(n_missing));
    }
}
