#version 460
// Stores new rows of K or of V: an invocation converts 32 channels of a head of a row. Heads outside
// this window of the cache, and rows outside, are left to another dispatch.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(constant_id = 2) const uint DTYPE = 0;

layout(binding = 0) writeonly buffer Dst32 { uint dst32[]; };
layout(binding = 0) writeonly buffer Dst16 { uint16_t dst16[]; };
layout(binding = 1) readonly buffer Src { float src[]; };
layout(binding = 2) readonly buffer Slot { int slots[]; };
layout(push_constant) uniform Push {
    uint dst_first, src_first, slot_first; // bytes
    uint n, d, row_bytes, kv_heads;
    uint head, heads, cap;  // heads [head, head + heads) are bound, `cap` rows apart,
    uint row, rows;         // and of each the rows [row, row + rows)
};

// The half that a block stores as its scale, and its value: store_scale of dtype.c.
float store_scale(uint at, float peak, float wanted, bool finite) {
    const float scale = finite ? clamp(divide(peak, wanted), -65504.0, 65504.0)
                               : uintBitsToFloat(0x7fc00000u);
    const uint bits = f16_bits(scale);
    dst16[at / 2] = uint16_t(bits);
    return half_of(bits);
}

int nearest_step(float x, float d, float low, float high) {
    return d == 0.0 || is_nan(d) ? 0 : int(roundEven(clamp(divide(x, d), low, high)));
}

void encode_block(uint at, uint from) {
    float peak = 0.0;
    bool finite = true;
    for (uint e = 0; e < 32; e++) {
        const float x = src[from + e];
        finite = finite && (floatBitsToUint(x) & 0x7fffffffu) < 0x7f800000u;
        peak = abs(x) > abs(peak) ? x : peak;
    }
    if (DTYPE == Q8_0) {
        const float d = store_scale(at, abs(peak), 127.0, finite);
        for (uint e = 0; e < 32; e += 2) {
            const int a = nearest_step(src[from + e], d, -127.0, 127.0);
            const int b = nearest_step(src[from + e + 1], d, -127.0, 127.0);
            dst16[at / 2 + 1 + e / 2] = uint16_t((a & 255) | (b & 255) << 8);
        }
        return;
    }
    const float d = store_scale(at, peak, -8.0, finite);
    for (uint e = 0; e < 16; e += 2) {
        uint word = 0;
        for (uint i = 0; i < 2; i++) {
            const int low = nearest_step(src[from + e + i], d, -8.0, 7.0) + 8;
            const int high = nearest_step(src[from + e + i + 16], d, -8.0, 7.0) + 8;
            word |= uint(low | high << 4) << 8 * i;
        }
        dst16[at / 2 + 1 + e / 2] = uint16_t(word);
    }
}

void encode_floats(uint at, uint from, uint count) {
    for (uint e = 0; e < count; e++) {
        const float x = src[from + e];
        if (DTYPE == F32) {
            dst32[at / 4 + e] = floatBitsToUint(x);
        } else {
            dst16[at / 2 + e] = uint16_t(DTYPE == F16 ? f16_bits(x) : bf16_bits(x));
        }
    }
}

void main() {
    const uint units = (d + 31) / 32;
    for (uint at = gl_GlobalInvocationID.x; at < n * heads * units;
         at += gl_NumWorkGroups.x * GROUP) {
        const uint unit = at % units, h = at / units % heads, i = at / units / heads;
        const uint to = uint(slots[slot_first / 4 + i]) - row;
        if (to >= rows) {
            continue;
        }
        const uint begin = dst_first + (h * cap + to) * row_bytes;
        const uint from = src_first / 4 + (i * kv_heads + head + h) * d + unit * 32;
        if (DTYPE == Q8_0 || DTYPE == Q4_0) {
            encode_block(begin + unit * (DTYPE == Q8_0 ? 34 : 18), from);
        } else {
            encode_floats(begin + unit * (DTYPE == F32 ? 128 : 64), from, min(32, d - unit * 32));
        }
    }
}
