#version 460
// The scale of each block of turned rows, as core/vq.c finds it: the root mean square of its numbers, squares
// added up down each channel as floats, channels as doubles. It goes to `scales` as it is, into the block's
// header drawn out. A workgroup has a block.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "exact.glsl"

layout(binding = 0) writeonly buffer Dst { uint dst[]; };
layout(binding = 1) readonly buffer Turned { float turned[]; }; // blocks of (channels, 64)
layout(binding = 2) writeonly buffer Scales { float scales[]; };
layout(push_constant) uniform Push {
    uint dst_first, turned_first, scales_first; // bytes
    uint d, blocks, dst_cap, block_words;
    float stretch;
};

shared float sums[512]; // TL_HEAD_DIM_MAX

const float F16_MOST = 65504.0;

wide wide_of_float(float x) { // x >= 0 and finite
    const uint bits = floatBitsToUint(x), e = bits >> 23;
    return wide_of(uvec2((bits & 0x7fffffu) | (e > 0 ? 0x800000u : 0u), 0), int(e > 0 ? e : 1u) - 150);
}

wide sum_of(wide a, wide b) { return less(a, wide(!b.negative, b.e, b.m)); }

// The root of a number that is not negative: 54 bits of it and what is left over.
wide root_of(wide a) {
    if (a.m == uvec2(0)) {
        return a;
    }
    uvec3 of = uvec3(a.m, 0);
    if ((a.e & 1) != 0) {
        of = shift_up(of, 1);
        a.e--;
    }
    uvec3 rest = uvec3(0), root = uvec3(0);
    for (int i = 26; i >= -27; i--) {
        rest = shift_up(rest, 2);
        rest.x |= i >= 0 ? shift_down(of, uint(2 * i)).x & 3u : 0u;
        const uvec3 trial = plus(shift_up(root, 2), uvec3(1, 0, 0));
        const bool fits = !is_less(rest, trial);
        root = shift_up(root, 1);
        if (fits) {
            rest = minus(rest, trial);
            root.x |= 1u;
        }
    }
    return round_wide(false, (a.e - 54) / 2, root, rest != uvec3(0));
}

void main() {
    const uint at = gl_WorkGroupID.x, from = turned_first / 4 + at * d * 64;
    for (uint c = gl_LocalInvocationIndex; c < d; c += GROUP) {
        precise float sum = 0.0;
        for (uint t = 0; t < 64; t++) {
            precise const float x = turned[from + c * 64 + t];
            precise const float square = x * x;
            sum = sum + square;
        }
        sums[c] = sum;
    }
    barrier();
    if (gl_LocalInvocationIndex != 0) {
        return;
    }
    wide total = wide(false, 0, uvec2(0));
    for (uint c = 0; c < d; c++) {
        total = sum_of(total, wide_of_float(sums[c]));
    }
    const float root = float_of(root_of(over(total, 64 * d)));
    const float scale = half_of(f16_bits(root < F16_MOST ? root : F16_MOST));
    precise const float drawn = scale * stretch;
    scales[scales_first / 4 + at] = scale;
    dst[dst_first / 4 + (at / blocks * dst_cap + at % blocks) * block_words] =
        f16_bits(drawn < F16_MOST ? drawn : F16_MOST);
}
