// What every shader shares: the two first specialisation constants, numbers as they are stored, and
// functions that are as exact as the specification needs. GLSL promises little: exp 3 + 2 |x| ulp,
// sin 2^-11, conversions to half in any rounding. So these are our own, from + - * and bits, which
// every driver rounds alike. The layouts of blocks are drawn in core/dtype.c and core/codec.h.
#extension GL_EXT_shader_16bit_storage : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_KHR_shader_subgroup_ballot : require
#extension GL_KHR_shader_subgroup_shuffle : require

layout(local_size_x_id = 0) in;
layout(constant_id = 0) const uint GROUP = 8;    // invocations of a workgroup
layout(constant_id = 1) const uint SUBGROUP = 8; // lanes of a subgroup, of which GROUP has whole ones

#define INFINITY uintBitsToFloat(0x7f800000u) // no constant of GLSL's

// dtypes by their number in core/dtype.h
const uint F32 = 0, F16 = 1, BF16 = 2, Q8_0 = 3, Q4_0 = 4, Q4_1 = 5, Q5_0 = 6, Q5_1 = 7, IQ4_NL = 8;
const uint IQ4_XS = 9, Q2_K = 10, Q3_K = 11, Q4_K = 12, Q5_K = 13, Q6_K = 14;

uint lane_of() { return gl_SubgroupInvocationID; }
// Which subgroup of the dispatch, in x.
uint team_of() { return gl_WorkGroupID.x * (GROUP / SUBGROUP) + gl_SubgroupID; }

float half_of(uint bits) { return unpackHalf2x16(bits).x; }
vec2 halves_of(uint word) { return unpackHalf2x16(word); }
vec2 bfloats_of(uint word) {
    return vec2(uintBitsToFloat(word << 16), uintBitsToFloat(word & 0xffff0000u));
}

bool is_nan(float x) { return (floatBitsToUint(x) & 0x7fffffffu) > 0x7f800000u; }

// Nearest half, ties to even, as tl_f32_to_f16.
uint f16_bits(float x) {
    const uint bits = floatBitsToUint(x), sign = bits >> 16 & 0x8000u, size = bits & 0x7fffffffu;
    if (size > 0x7f800000u) {
        return sign | 0x7e00u | (size >> 13 & 0x3ffu);
    }
    if (size >= 0x477ff000u) {
        return sign | 0x7c00u;
    }
    if (size < 0x38800000u) {
        // Units of 2^-24; below 2^-14 the mantissa is shifted out with its rounding.
        const uint shift = min(126u - (size >> 23), 31u);
        const uint mantissa = (size & 0x7fffffu) | (size >= 0x800000u ? 0x800000u : 0u);
        const uint kept = mantissa >> shift, lost = mantissa & ((1u << shift) - 1u);
        const uint middle = 1u << (shift - 1u);
        const bool up = lost > middle || (lost == middle && (kept & 1u) != 0);
        return sign | (shift > 25u ? 0u : kept + (up ? 1u : 0u));
    }
    const uint rounded = size + 0xfffu + (size >> 13 & 1u);
    return sign | (rounded - 0x38000000u) >> 13;
}

uint bf16_bits(float x) {
    const uint bits = floatBitsToUint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) {
        return bits >> 16 | 0x40u;
    }
    return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16 & 0xffffu;
}

// Exactly a * b = .x + .y, where nothing overflows (Dekker).
vec2 two_product(float a, float b) {
    precise const float ca = 4097.0 * a, cb = 4097.0 * b;
    precise const float ah = ca - (ca - a), bh = cb - (cb - b);
    precise const float al = a - ah, bl = b - bh;
    precise const float p = a * b;
    precise const float e = ((ah * bh - p) + ah * bl + al * bh) + al * bl;
    return vec2(p, e);
}

// a / b rounded to nearest: a driver's own division may be 2.5 ulp off.
float divide(float a, float b) {
    precise const float q = a / b;
    const uint e = floatBitsToUint(q) >> 23 & 255u, eb = floatBitsToUint(b) >> 23 & 255u;
    if (e < 30u || e > 200u || eb < 60u || eb > 200u) {
        return q; // zero, or where the correction below could leave the range
    }
    const vec2 back = two_product(q, b);
    precise const float rest = (a - back.x) - back.y;
    precise const float better = q + rest / b;
    return better;
}

// 2^n for -126 <= n <= 127.
float power_of_2(int n) { return uintBitsToFloat(uint(n + 127) << 23); }

// e^x to about an ulp; 0 below -87, infinity above 88.7.
float exp_of(float x) {
    const float bounded = clamp(x, -104.0, 89.0);
    precise const float n = roundEven(bounded * 1.44269504);
    precise const float r = (bounded - n * 0.693145751953125) - n * 1.42860682e-6;
    float p = 1.0 / 720.0;
    p = p * r + 1.0 / 120.0;
    p = p * r + 1.0 / 24.0;
    p = p * r + 1.0 / 6.0;
    p = p * r + 0.5;
    const float e = r * r * p + r + 1.0;
    const int half_n = int(n) / 2;
    const float scaled = e * power_of_2(half_n) * power_of_2(int(n) - half_n);
    return x < -87.3 ? 0.0 : x > 88.72 ? INFINITY : scaled;
}

// The natural logarithm of a positive normal number.
float log_of(float x) {
    const uint bits = floatBitsToUint(x);
    int n = int(bits >> 23) - 127;
    float m = uintBitsToFloat((bits & 0x7fffffu) | 0x3f800000u);
    if (m > 1.41421356) {
        m *= 0.5;
        n++;
    }
    // 2 atanh(s), |s| <= 0.172
    const float s = (m - 1.0) / (m + 1.0), s2 = s * s;
    const float series = s2 * (0.666666667 + s2 * (0.4 + s2 * (0.285714286 + s2 * 0.222222222)));
    return float(n) * 0.693147181 + (2.0 * s + s * series);
}

float tanh_of(float x) {
    if (abs(x) < 0.25) {
        const float s = x * x;
        return x * (1.0 + s * (-1.0 / 3.0 + s * (2.0 / 15.0 + s * (-17.0 / 315.0 + s * 62.0 / 2835.0))));
    }
    const float e = exp_of(min(2.0 * abs(x), 40.0));
    const float t = 1.0 - 2.0 / (e + 1.0);
    return x < 0.0 ? -t : t;
}

float cap_softly(float x, float cap) { return cap != 0.0 ? cap * tanh_of(x / cap) : x; }
