#version 460
// Encodes cache rows, block by block, to the bytes that core/codec.c makes. Two passes, since a header is
// made from all numbers of its group and codes are packed over groups: HEADERS, an invocation a group;
// and codes, an invocation a word, from the headers.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(constant_id = 2) const uint BITS = 1;
layout(constant_id = 3) const uint HEADERS = 1;
layout(constant_id = 4) const uint VALUES = 0;
layout(constant_id = 5) const uint SQUARES = 0; // the fit
layout(constant_id = 6) const uint STRETCH = 16; // tl_codec_stretch

layout(binding = 0) buffer Dst { uint SK32[]; };
layout(binding = 1) readonly buffer Src { uint src[]; };
layout(push_constant) uniform Push {
    uint dst_first, src_first;  // bytes
    uint d, heads, blocks;      // to encode: block b of the window's head h is dst block h * dst_cap + b
    uint dst_cap, src_cap;      // blocks, rows of a head
};
#include "sketch.glsl"
#include "exact.glsl"

const uint LEVELS = (1u << BITS) - 1u;
const float F16_MOST = 65504.0;

struct header {
    uint bits;      // scale, minimum
    float minimum;  // as stored
    float divisor;  // the scale as stored, infinity for 0
};

header header_of_bits(uint bits) {
    const vec2 both = halves_of(bits);
    return header(bits, both.y, both.x > 0.0 ? both.x : INFINITY);
}

header new_header(float minimum, float scale) {
    return header_of_bits(f16_bits(scale < F16_MOST ? scale : F16_MOST) | f16_bits(minimum) << 16);
}

// A number of the source, which is f16: infinities are the largest, NaN is 0.
uint half_at(uint row, uint c) {
    const uint at = (src_first >> 1) + row * d + c;
    return src[at >> 1] >> 16 * (at & 1) & 0xffffu;
}
float clean(uint bits) {
    const uint size = bits & 0x7fffu;
    const float x = half_of(size == 0x7c00u ? (bits & 0x8000u) | 0x7bffu : bits);
    return size > 0x7c00u ? 0.0 : x;
}

uint code_of(float x, header h) {
    const float steps = divide(x - h.minimum, h.divisor);
    return uint(roundEven(clamp(steps, 0.0, float(LEVELS))));
}
uint code_in(float x, header h) { return h.divisor == INFINITY ? 0 : code_of(x, h); }

// Where number i of a group is: keys' groups run over rows, values' over channels.
struct group_place {
    uint row, c; // of its first
};
uint half_of_group(group_place g, uint i) {
    return VALUES != 0 ? half_at(g.row, g.c + i) : half_at(g.row + i, g.c);
}

// x in units of 2^-24, two's complement, times a small factor.
uvec2 units_of(uint half_bits, uint factor) {
    const uint e = half_bits >> 10 & 31u, m = (half_bits & 0x3ffu) | (e > 0 ? 0x400u : 0u);
    const uvec2 size = shift_up(uvec3(m * factor, 0, 0), e > 0 ? e - 1 : 0).xy;
    return (half_bits & 0x8000u) != 0 ? minus(uvec3(0, 0, 1), uvec3(size, 0)).xy : size;
}
uint clean_bits(uint bits) {
    const uint size = bits & 0x7fffu;
    return size > 0x7c00u ? 0 : size == 0x7c00u ? (bits & 0x8000u) | 0x7bffu : bits;
}

// The line through numbers and codes that leaves the least squares, as header_of_squares.
header better_header(header h, group_place g, uint n, uvec2 total, uint sixteenths) {
    uint codes = 0, squares = 0;
    uvec2 products = uvec2(0);
    for (uint i = 0; i < n; i++) {
        const uint bits = clean_bits(half_of_group(g, i)), code = code_in(half_of(bits), h);
        codes += code;
        squares += code * code;
        products = plus(uvec3(products, 0), uvec3(units_of(bits, code), 0)).xy;
    }
    const uint spread = n * squares - codes * codes;
    if (spread == 0) {
        return h;
    }
    const wide all = wide_of(total, -24);
    wide scale = times(over(less(times(wide_of(products, -24), n), times(all, codes)), spread), sixteenths);
    scale.e -= 4;
    const wide minimum = over(less(all, times(scale, codes)), n);
    const header better = new_header(float_of(minimum), float_of(scale));
    const uint stored = better.bits & 0xffffu;
    const uint stored_minimum = better.bits >> 16 & 0x7fffu;
    return stored > 0 && stored < 0x7c00u && stored_minimum < 0x7c00u ? better : h;
}

header fit(group_place g, uint n) {
    float low = clean(half_of_group(g, 0)), high = low;
    uvec2 total = uvec2(0);
    for (uint i = 0; i < n; i++) {
        const uint bits = clean_bits(half_of_group(g, i));
        const float x = half_of(bits);
        low = x < low ? x : low;
        high = x > high ? x : high;
        total = plus(uvec3(total, 0), uvec3(units_of(bits, 1), 0)).xy;
    }
    const float minimum = new_header(low, 0.0).minimum;
    const float range = high > low && high > minimum ? high - minimum : 0.0;
    header h = new_header(low, divide(range, float(LEVELS)));
    if (SQUARES != 0 && (h.bits & 0xffffu) != 0) {
        for (uint i = 0; i < 3; i++) {
            h = better_header(h, g, n, total, i == 2 ? STRETCH : 16);
        }
    }
    return h;
}

void main() {
    const uint width = value_group(d), row_groups = VALUES != 0 ? d / width : 1;
    const uint groups = VALUES != 0 ? BLOCK * row_groups : d, words = 2 * BITS * d;
    const uint items = HEADERS != 0 ? groups : words, block_words = groups + words;
    for (uint at = gl_GlobalInvocationID.x; at < items * blocks * heads;
         at += gl_NumWorkGroups.x * GROUP) {
        const uint item = at % items, b = at / items % blocks, h = at / items / blocks;
        const uint block = dst_first / 4 + (h * dst_cap + b) * block_words;
        const uint row = h * src_cap + b * BLOCK;
        if (HEADERS != 0) {
            const group_place g = VALUES != 0
                                      ? group_place(row + item / row_groups, item % row_groups * width)
                                      : group_place(row, item);
            SK32[block + item] = fit(g, VALUES != 0 ? width : BLOCK).bits;
            continue;
        }
        uint word = 0;
        for (uint i = 0; i < 32 / BITS; i++) {
            const uint number = item * (32 / BITS) + i; // of all codes of the block
            const uint t = VALUES != 0 ? number / d : number % BLOCK;
            const uint c = VALUES != 0 ? number % d : number / BLOCK;
            const uint its = VALUES != 0 ? t * row_groups + c / width : c;
            const float x = clean(half_at(row + t, c));
            word |= code_in(x, header_of_bits(SK32[block + its])) << i * BITS;
        }
        SK32[block + groups + item] = word;
    }
}
