#version 460
// What is known of the keys of a page: least and largest, or mean and deviation, channel by channel; an
// invocation has a channel of a page. Sums are whole numbers of 2^-24, so nothing is rounded before the
// end.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "exact.glsl"
layout(constant_id = 2) const uint MOMENTS = 0;

layout(binding = 0) writeonly buffer Pages { uint16_t pages[]; };
layout(binding = 1) readonly buffer Src { uint16_t src[]; };
layout(push_constant) uniform Push {
    uint pages_first, src_first; // bytes
    uint d, heads, cap, src_cap; // cap: pages of a head
    uint n_pages, page;          // pages and src begin at the first head's first page that is written
};

uint clean_bits(uint bits) {
    const uint size = bits & 0x7fffu;
    return size > 0x7c00u || size == 0 ? 0 : size == 0x7c00u ? (bits & 0x8000u) | 0x7bffu : bits;
}

// The size of a half in units of 2^-24.
uvec2 size_of(uint half_bits) {
    const uint e = half_bits >> 10 & 31u, m = (half_bits & 0x3ffu) | (e > 0 ? 0x400u : 0u);
    return shift_up(uvec3(m, 0, 0), e > 0 ? e - 1 : 0).xy;
}

uvec3 square(uvec2 a) { // a < 2^48
    uint h0, l0, h1, l1;
    umulExtended(a.x, a.x, h0, l0);
    umulExtended(a.x, a.y, h1, l1);
    const uvec3 cross = shift_up(uvec3(0, l1, h1), 1);
    return plus(plus(uvec3(l0, h0, 0), cross), uvec3(0, 0, a.y * a.y));
}

// sqrt(w) * 2^e
float root_of(uvec3 w, int e) {
    if (w == uvec3(0)) {
        return 0.0;
    }
    uint down = top_bit(w);
    down = down > 46 ? (down - 46 + 1) / 2 * 2 : 0;
    const uvec3 m = shift_down(w, down); // below 2^48
    const float high = float(m.y) * 4294967296.0;
    const float x = high + float(m.x), s = sqrt(x);
    const vec2 back = two_product(s, s);
    // What of m is missing in s^2: exact pieces, all small but the first difference.
    const float middle = float(m.x >> 16) * 65536.0, low = float(m.x & 0xffffu);
    precise const float rest = (((high - back.x) + middle) + low) - back.y;
    precise const float better = s + rest / (2.0 * s);
    const int n = e + int(down) / 2;
    return better * power_of_2(n / 2) * power_of_2(n - n / 2);
}

void main() {
    for (uint at = gl_GlobalInvocationID.x; at < heads * n_pages * d; at += gl_NumWorkGroups.x * GROUP) {
        const uint c = at % d, i = at / d % n_pages, h = at / d / n_pages;
        const uint from = src_first / 2 + (h * src_cap + i * page) * d + c;
        const uint to = pages_first / 2 + (h * cap + i) * 2 * d + c;
        uint least = 0x7bffu, most = 0xfbffu;
        uvec2 sum = uvec2(0);
        uvec3 squares = uvec3(0);
        for (uint t = 0; t < page; t++) {
            const uint bits = clean_bits(uint(src[from + t * d]));
            const float x = half_of(bits);
            least = x < half_of(least) ? bits : least;
            most = x > half_of(most) ? bits : most;
            if (MOMENTS != 0) {
                const uvec2 size = size_of(bits);
                sum = (bits & 0x8000u) != 0 ? minus(uvec3(sum, 1), uvec3(size, 0)).xy
                                            : plus(uvec3(sum, 0), uvec3(size, 0)).xy;
                squares = plus(squares, square(size));
            }
        }
        if (MOMENTS == 0) {
            pages[to] = uint16_t(least);
            pages[to + d] = uint16_t(most);
            continue;
        }
        const int shift = findMSB(page); // a page is a power of two
        const bool negative = (sum.y & 0x80000000u) != 0;
        const uvec2 size = negative ? minus(uvec3(0, 0, 1), uvec3(sum, 0)).xy : sum;
        const uvec3 spread = minus(shift_up(squares, uint(shift)), square(size));
        pages[to] = uint16_t(f16_bits(float_of(wide_of(sum, -24 - shift))));
        pages[to + d] = uint16_t(f16_bits(root_of(spread, -24 - shift)));
    }
}
