#version 460
// The k best rows of a KV head: a workgroup each. Values become keys whose order is that of unsigned
// numbers, 0 for what may never be chosen; the k-th largest key is found digit by digit; then rows are
// written in order, each subgroup those of its stretch.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(binding = 0) writeonly buffer Idx { int idx[]; };
layout(binding = 1) readonly buffer Score { float score[]; };
layout(binding = 2) readonly buffer Count { int n_rows[]; };
layout(binding = 3) coherent buffer Keys { uint keys[]; };
layout(binding = 4) readonly buffer Base { float base[]; };
layout(push_constant) uniform Push {
    uint idx_first, score_first, count_first, keys_first, base_first; // bytes
    uint k, group, cols;
    uint head;  // the window's first: score and keys begin there
    uint based; // 1: there is a base
};
const uint TEAMS = GROUP / SUBGROUP, GROUP_HEADS_MAX = 128;
shared float parts[TEAMS], best_of[GROUP_HEADS_MAX];
shared uint counts[256], chosen[2], team_counts[2 * TEAMS];

// The largest of a head's scores, NaNs left out.
float head_max(uint row, uint n) {
    float best = -INFINITY;
    for (uint t = gl_LocalInvocationID.x; t < n; t += GROUP) {
        const float x = score[row + t];
        best = x > best ? x : best;
    }
    best = subgroupMax(best);
    if (lane_of() == 0) {
        parts[gl_SubgroupID] = best;
    }
    barrier();
    best = parts[0];
    for (uint i = 1; i < TEAMS; i++) {
        best = max(best, parts[i]);
    }
    barrier();
    return best;
}

uint key_of(float value) {
    const uint bits = floatBitsToUint(value);
    if (is_nan(value) || bits == 0xff800000u) {
        return 0;
    }
    return (bits << 1) == 0 ? 0x80000000u : (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

// Keys of all rows, into this head's part of the scratch; heads_from: the group's first in base.
void make_keys(uint from, uint heads_from, uint to, uint n) {
    for (uint h = 0; h < group; h++) {
        const float best = head_max(from + h * cols, n);
        if (gl_LocalInvocationID.x == 0) {
            const float other = based != 0 ? base[base_first / 4 + heads_from + h] : -INFINITY;
            best_of[h] = other > best ? other : best;
        }
    }
    barrier();
    for (uint t = gl_LocalInvocationID.x; t < n; t += GROUP) {
        uint key = 0;
        for (uint h = 0; h < group; h++) {
            key = max(key, key_of(score[from + h * cols + t] - best_of[h]));
        }
        keys[to + t] = key;
    }
    barrier();
}

// The k-th largest key, and how many keys equal to it are chosen.
uvec2 find_bar(uint at, uint n) {
    uint prefix = 0, wanted = k;
    for (uint shift = 32; shift > 0;) {
        shift -= 8;
        for (uint i = gl_LocalInvocationID.x; i < 256; i += GROUP) {
            counts[i] = 0;
        }
        barrier();
        for (uint t = gl_LocalInvocationID.x; t < n; t += GROUP) {
            const uint key = keys[at + t];
            if (shift == 24 || key >> (shift + 8) == prefix >> (shift + 8)) {
                atomicAdd(counts[key >> shift & 255u], 1);
            }
        }
        barrier();
        if (gl_LocalInvocationID.x == 0) {
            uint digit = 255, above = 0;
            while (digit > 0 && above + counts[digit] < wanted) {
                above += counts[digit];
                digit--;
            }
            chosen[0] = prefix | digit << shift;
            chosen[1] = wanted - above;
        }
        barrier();
        prefix = chosen[0];
        wanted = chosen[1];
        barrier();
    }
    return uvec2(prefix, prefix == 0 ? 0 : wanted);
}

void main() {
    const uint kv_head = head + gl_WorkGroupID.x;
    const uint n = uint(max(n_rows[count_first / 4], 0));
    const uint at = keys_first / 4 + gl_WorkGroupID.x * cols, to = idx_first / 4 + kv_head * k;
    make_keys(score_first / 4 + gl_WorkGroupID.x * group * cols, kv_head * group, at, n);
    const uvec2 bar = find_bar(at, n);
    // Rows above the bar and at it, by subgroup.
    const uint stretch = (n + TEAMS * SUBGROUP - 1) / (TEAMS * SUBGROUP) * SUBGROUP;
    const uint begin = min(gl_SubgroupID * stretch, n), end = min(begin + stretch, n);
    uint above = 0, equal = 0;
    for (uint t = begin; t < end; t += SUBGROUP) {
        const uint key = t + lane_of() < end ? keys[at + t + lane_of()] : 0;
        above += subgroupBallotBitCount(subgroupBallot(key > bar.x));
        equal += subgroupBallotBitCount(subgroupBallot(key == bar.x && key != 0));
    }
    if (lane_of() == 0) {
        team_counts[2 * gl_SubgroupID] = above;
        team_counts[2 * gl_SubgroupID + 1] = equal;
    }
    barrier();
    above = 0;
    equal = 0;
    for (uint i = 0; i < gl_SubgroupID; i++) {
        above += team_counts[2 * i];
        equal += team_counts[2 * i + 1];
    }
    for (uint t = begin; t < end; t += SUBGROUP) {
        const uint key = t + lane_of() < end ? keys[at + t + lane_of()] : 0;
        const uvec4 over = subgroupBallot(key > bar.x);
        const uvec4 level = subgroupBallot(key == bar.x && key != 0);
        const uint my_above = above + subgroupBallotExclusiveBitCount(over);
        const uint my_equal = equal + subgroupBallotExclusiveBitCount(level);
        const bool mine = key > bar.x || (key == bar.x && key != 0 && my_equal < bar.y);
        if (mine) {
            idx[to + my_above + min(my_equal, bar.y)] = int(t + lane_of());
        }
        above += subgroupBallotBitCount(over);
        equal += subgroupBallotBitCount(level);
    }
    uint all_above = 0, all_equal = 0;
    for (uint i = 0; i < TEAMS; i++) {
        all_above += team_counts[2 * i];
        all_equal += team_counts[2 * i + 1];
    }
    const uint n_chosen = all_above + min(all_equal, bar.y);
    for (uint j = n_chosen + gl_LocalInvocationID.x; j < k; j += GROUP) {
        idx[to + j] = -1;
    }
}
