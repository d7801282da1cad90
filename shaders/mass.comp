#version 460
// How much the largest weights of a query hold: a workgroup has a query head of a query. The smallest of
// the r largest scores is found digit by digit; what lies above it is added up, and as many of those at
// it as are missing. MEAN: the other pass, the mean over the queries, an invocation a number.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(constant_id = 2) const uint MEAN = 0;

layout(binding = 0) buffer Held { float held[]; };           // (all queries, n_heads, n_parts)
layout(binding = 1) readonly buffer Scores { float scores[]; }; // (queries, heads, cap)
layout(binding = 2) readonly buffer Pos { int q_pos[]; };
layout(binding = 3) readonly buffer Count { int n_rows[]; };
layout(binding = 4) writeonly buffer Mass { float mass[]; };
layout(push_constant) uniform Push {
    uint pos_first, count_first, mass_first;    // bytes
    uint query, queries, head, heads;           // queries [query, query + queries); in MEAN all; query heads
    uint n_heads, cap, window;
    uint n_parts;
    uint parts[8]; // two in each
};
const uint TEAMS = GROUP / SUBGROUP;
shared float team_sums[TEAMS];
shared uint counts[256], chosen[2];

uint key_of(float x) {
    const uint bits = floatBitsToUint(x);
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
float of_key(uint key) {
    return uintBitsToFloat((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
}

float sum_of_all(float mine) {
    const float sum = subgroupAdd(mine);
    if (lane_of() == 0) {
        team_sums[gl_SubgroupID] = sum;
    }
    barrier();
    float all = 0.0;
    for (uint i = 0; i < TEAMS; i++) {
        all += team_sums[i];
    }
    barrier();
    return all;
}

// The smallest of the `wanted` largest keys, and how many keys equal to it are among these.
uvec2 find_bar(uint at, uint first, uint end, uint wanted) {
    uint prefix = 0;
    for (uint shift = 32; shift > 0;) {
        shift -= 8;
        for (uint i = gl_LocalInvocationID.x; i < 256; i += GROUP) {
            counts[i] = 0;
        }
        barrier();
        for (uint t = first + gl_LocalInvocationID.x; t < end; t += GROUP) {
            const uint key = key_of(scores[at + t]);
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
    return uvec2(prefix, wanted);
}

// The weights above a bar, or all; four sums a lane for rounding's sake.
float weights_above(uint at, uint first, uint end, uint bar, bool all, float most) {
    vec4 sums = vec4(0.0);
    uint turn = 0;
    for (uint t = first + gl_LocalInvocationID.x; t < end; t += GROUP) {
        const float s = scores[at + t];
        sums[turn & 3] += all || key_of(s) > bar ? exp_of(s - most) : 0.0;
        turn++;
    }
    return sum_of_all((sums.x + sums.y) + (sums.z + sums.w));
}

void one_query(uint i, uint h) {
    const int pos = q_pos[pos_first / 4 + query + i];
    const uint end = uint(min(max(min(pos, 0x7ffffffe) + 1, 0), max(n_rows[count_first / 4], 0)));
    const uint oldest = uint(window != 0 ? max(pos - int(window) + 1, 0) : 0), first = min(oldest, end);
    const uint at = (i * heads + h) * cap, n = end - first;
    const uint to = ((query + i) * n_heads + head + h) * n_parts;
    const float most = n > 0 ? of_key(find_bar(at, first, end, 1).x) : 0.0;
    const float all = n > 0 ? weights_above(at, first, end, 0, true, most) : 1.0;
    for (uint j = 0; j < n_parts; j++) {
        const uint part = parts[j / 2] >> 16 * (j & 1) & 0xffffu;
        const uint wanted = n / 10000 * part + (n % 10000 * part + 9999) / 10000;
        float its = 1.0;
        if (n > 0) {
            const uvec2 bar = find_bar(at, first, end, wanted);
            const float above = weights_above(at, first, end, bar.x, false, most);
            its = (above + float(bar.y) * exp_of(of_key(bar.x) - most)) / all;
        }
        if (gl_LocalInvocationID.x == 0) {
            held[to + j] = its;
        }
    }
}

void main() {
    if (MEAN == 0) {
        one_query(gl_WorkGroupID.x / heads, gl_WorkGroupID.x % heads);
        return;
    }
    for (uint at = gl_GlobalInvocationID.x; at < n_heads * n_parts; at += gl_NumWorkGroups.x * GROUP) {
        float sum = 0.0;
        for (uint i = 0; i < queries; i++) {
            sum += held[i * n_heads * n_parts + at];
        }
        mass[mass_first / 4 + at] = sum / float(queries);
    }
}
