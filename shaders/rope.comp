#version 460
// Turns pair j of every head of row i by pos[i] * inv_freq[j]; an invocation has a pair of a row. The
// angle is reduced in two floats, so that it is good to 1e-6 where pos is 2^20.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(binding = 0) buffer X { float x[]; };
layout(binding = 1) readonly buffer Pos { int pos[]; };
layout(binding = 2) readonly buffer Freq { float inv_freq[]; };
layout(push_constant) uniform Push {
    uint x_first, pos_first, freq_first; // bytes
    uint n, cols, head_dim, pairs, halves; // halves: pairs are (j, j + pairs)
    float scale;
};

// (cos, sin) of pos * freq.
vec2 turn_of(float p, float freq) {
    const vec2 angle = two_product(p, freq);
    precise const float quarters = roundEven(angle.x * 0.636619772);
    // pi / 2 in two floats
    const vec2 away = two_product(quarters, 1.57079637);
    precise const float r = ((angle.x - away.x) - away.y) + (angle.y + quarters * 4.37113883e-8);
    const float s = r * r;
    const float sine = r + r * s * (-1.0 / 6.0 + s * (1.0 / 120.0 + s * (-1.0 / 5040.0 + s / 362880.0)));
    const float cosine =
        1.0 + s * (-0.5 + s * (1.0 / 24.0 + s * (-1.0 / 720.0 + s * (1.0 / 40320.0 - s / 3628800.0))));
    const uint quadrant = uint(int(quarters)) & 3u;
    const vec2 turned = (quadrant & 1u) == 0 ? vec2(cosine, sine) : vec2(-sine, cosine);
    return quadrant < 2u ? turned : -turned;
}

void main() {
    for (uint at = gl_GlobalInvocationID.x; at < n * pairs; at += gl_NumWorkGroups.x * GROUP) {
        const uint i = at / pairs, j = at % pairs;
        const vec2 t = turn_of(float(pos[pos_first / 4 + i]), inv_freq[freq_first / 4 + j]) * scale;
        const uint a = x_first / 4 + i * cols + (halves != 0 ? j : 2 * j);
        const uint step = halves != 0 ? pairs : 1;
        for (uint head = 0; head < cols; head += head_dim) {
            const float p = x[a + head], q = x[a + head + step];
            x[a + head] = p * t.x - q * t.y;
            x[a + head + step] = p * t.y + q * t.x;
        }
    }
}
