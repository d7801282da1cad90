#version 460
// Scores of every row that each query sees, for mass.comp: a lane has a row, a subgroup a query head of
// a query and every `strides`-th stretch of its rows. The window of keys is as in attend.comp.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(constant_id = 2) const uint K_DTYPE = 1;
const uint V_DTYPE = 1; // not read

layout(binding = 0) writeonly buffer Scores { float scores[]; }; // (queries, some_heads, cap)
layout(binding = 1) readonly buffer Q { float q[]; };
layout(binding = 2) readonly buffer Pos { int q_pos[]; };
layout(binding = 3) readonly buffer Count { int n_rows[]; };
layout(binding = 4) readonly buffer K_32 { uint K32[]; };
layout(binding = 4) readonly buffer K_16 { uint16_t K16[]; };
layout(binding = 4) readonly buffer V_32 { uint V32[]; };
layout(binding = 4) readonly buffer V_16 { uint16_t V16[]; };
layout(push_constant) uniform Push {
    uint q_first, pos_first, count_first, k_first; // bytes
    uint query, queries, first_head, some_heads;   // queries [query, query + queries); query heads
    uint n_heads, group, d;
    uint head, heads, cap, row, rows;              // the window, of the KV heads of some_heads
    uint strides, window;
    float scale, softcap;
};
#include "kv.glsl"

void main() {
    const uint team = team_of(), lane = lane_of();
    if (team >= strides * queries * heads * group) {
        return;
    }
    const uint stride = team % strides, local = team / strides % (heads * group);
    const uint i = team / strides / (heads * group), h = head * group + local; // of some_heads
    const int pos = q_pos[pos_first / 4 + query + i];
    const int end = min(min(max(min(pos, 0x7ffffffe) + 1, 0), max(n_rows[count_first / 4], 0)), int(row + rows));
    const int first = max(window != 0 ? max(pos - int(window) + 1, 0) : 0, int(row));
    const uint from = q_first / 4 + ((query + i) * n_heads + first_head + h) * d;
    for (int base = first + int(stride * SUBGROUP); base < end; base += int(strides * SUBGROUP)) {
        const int t = min(base + int(lane), end - 1);
        const uint key = k_first + (local / group * cap + uint(t) - row) * kv_row_bytes(K_DTYPE, d);
        vec4 s = vec4(0.0);
        for (uint c = 0; c < d; c += 8) {
            vec4 a, b;
            keys_at(key, c, d, a, b);
            for (uint e = 0; e < min(8, d - c); e++) {
                s[e & 3] += q[from + c + e] * (e < 4 ? a[e] : b[e - 4]);
            }
        }
        if (base + int(lane) < end) {
            scores[(i * some_heads + h) * cap + uint(t)] =
                cap_softly(((s.x + s.y) + (s.z + s.w)) * scale, softcap);
        }
    }
}
