#version 460
// Every row of a page gets the page's score: a lane has a page, a subgroup a query head and every
// `strides`-th stretch of its pages.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(constant_id = 2) const uint MOMENTS = 0;

layout(binding = 0) writeonly buffer Score { float score[]; };
layout(binding = 1) readonly buffer Q { float q[]; };
layout(binding = 2) readonly buffer Pages { uint pages[]; };
layout(binding = 2) readonly buffer Pages16 { uint16_t halves[]; };
layout(binding = 3) readonly buffer Count { int n_blocks[]; };
layout(push_constant) uniform Push {
    uint score_first, q_first, pages_first, count_first; // bytes
    uint d, group, cap, page, cols, strides;             // cap: pages of a head
    uint head, heads, row, rows;                         // the window of pages; score begins at its head
    float scale, softcap, sigmas;
};

void main() {
    const uint team = team_of(), stride = team % strides, local = team / strides;
    if (local >= heads * group) {
        return;
    }
    const uint seen = uint(max(n_blocks[count_first / 4], 0)) * (64 / page);
    const uint end = min(seen, row + rows), from = q_first / 4 + (head * group + local) * d;
    for (uint base = row + stride * SUBGROUP; base < end; base += strides * SUBGROUP) {
        const uint i = min(base + lane_of(), end - 1);
        const uint at = pages_first / 4 + (local / group * cap + i - row) * d;
        vec2 sum = vec2(0.0), squares = vec2(0.0);
        for (uint c = 0; c + 1 < d; c += 2) {
            const vec2 x = vec2(q[from + c], q[from + c + 1]);
            const vec2 a = x * halves_of(pages[at + c / 2]);
            const vec2 b = x * ((d & 1) == 0 ? halves_of(pages[at + (d + c) / 2])
                                             : vec2(half_of(uint(halves[2 * at + d + c])),
                                                    half_of(uint(halves[2 * at + d + c + 1]))));
            sum += MOMENTS != 0 ? a : max(a, b);
            squares += b * b;
        }
        if ((d & 1) != 0) {
            const float x = q[from + d - 1], a = x * half_of(uint(halves[2 * at + d - 1]));
            const float b = x * half_of(uint(halves[2 * at + 2 * d - 1]));
            sum.x += MOMENTS != 0 ? a : max(a, b);
            squares.x += b * b;
        }
        float value = sum.x + sum.y;
        value += MOMENTS != 0 ? sigmas * sqrt(squares.x + squares.y) : 0.0;
        value = cap_softly(value * scale, softcap);
        if (base + lane_of() < end) {
            for (uint t = 0; t < page; t++) {
                score[score_first / 4 + local * cols + i * page + t] = value;
            }
        }
    }
}
