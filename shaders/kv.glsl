// Exact cache rows: K by eight channels, V by two. Needs K32, K16, V32, V16, the bindings as words and
// as 16-bit words, and the specialisation constants K_DTYPE and V_DTYPE. Rows of 16-bit numbers begin
// at whole words, for heads are of even width. Addresses are bytes.

uint kv_row_bytes(uint dtype, uint d) {
    return dtype == F32 ? 4 * d : dtype == Q8_0 ? d / 32 * 34 : dtype == Q4_0 ? d / 32 * 18 : 2 * d;
}

// One channel; not of blocks.
float key_at(uint row, uint c) {
    if (K_DTYPE == F32) {
        return uintBitsToFloat(K32[(row >> 2) + c]);
    }
    const uint bits = uint(K16[(row >> 1) + c]);
    return K_DTYPE == F16 ? half_of(bits) : uintBitsToFloat(bits << 16);
}

void key_blocks(uint row, uint c, out vec4 a, out vec4 b) {
    const uint block = row + c / 32 * (K_DTYPE == Q8_0 ? 34 : 18), at = c & 31;
    const float scale = half_of(uint(K16[block >> 1]));
    float v[8];
    [[unroll]] for (uint e = 0; e < 8; e += 2) {
        const uint first = K_DTYPE == Q8_0 ? at + e : (at & 15) + e;
        const uint two = uint(K16[(block + 2 + first) >> 1]);
        [[unroll]] for (uint i = 0; i < 2; i++) {
            const uint code = two >> 8 * i & 255u;
            v[e + i] = K_DTYPE == Q8_0 ? float(int(code << 24) >> 24)
                                       : float(int(code >> (at < 16 ? 0 : 4) & 15u) - 8);
        }
    }
    a = scale * vec4(v[0], v[1], v[2], v[3]);
    b = scale * vec4(v[4], v[5], v[6], v[7]);
}

// Channels c .. c + 7 of a row of d, zeros from d on; c % 8 == 0.
void keys_at(uint row, uint c, uint d, out vec4 a, out vec4 b) {
    if (K_DTYPE == Q8_0 || K_DTYPE == Q4_0) {
        key_blocks(row, c, a, b);
    } else if (c + 8 > d) {
        [[unroll]] for (uint e = 0; e < 4; e++) {
            a[e] = c + e < d ? key_at(row, min(c + e, d - 1)) : 0.0;
            b[e] = c + 4 + e < d ? key_at(row, min(c + 4 + e, d - 1)) : 0.0;
        }
    } else if (K_DTYPE == F32) {
        const uint at = (row >> 2) + c;
        a = uintBitsToFloat(uvec4(K32[at], K32[at + 1], K32[at + 2], K32[at + 3]));
        b = uintBitsToFloat(uvec4(K32[at + 4], K32[at + 5], K32[at + 6], K32[at + 7]));
    } else {
        const uint at = (row >> 2) + c / 2;
        const uvec4 w = uvec4(K32[at], K32[at + 1], K32[at + 2], K32[at + 3]);
        if (K_DTYPE == F16) {
            a = vec4(halves_of(w.x), halves_of(w.y));
            b = vec4(halves_of(w.z), halves_of(w.w));
        } else {
            a = vec4(bfloats_of(w.x), bfloats_of(w.y));
            b = vec4(bfloats_of(w.z), bfloats_of(w.w));
        }
    }
}

// Channels c and c + 1; c even.
vec2 values_at(uint row, uint c) {
    if (V_DTYPE == F32) {
        return uintBitsToFloat(uvec2(V32[(row >> 2) + c], V32[(row >> 2) + c + 1]));
    }
    if (V_DTYPE == F16 || V_DTYPE == BF16) {
        const uint word = V32[(row >> 2) + c / 2];
        return V_DTYPE == F16 ? halves_of(word) : bfloats_of(word);
    }
    const uint block = row + c / 32 * (V_DTYPE == Q8_0 ? 34 : 18), at = c & 31;
    const float scale = half_of(uint(V16[block >> 1]));
    const uint two = uint(V16[(block + 2 + (V_DTYPE == Q8_0 ? at : at & 15)) >> 1]);
    if (V_DTYPE == Q8_0) {
        return scale * vec2(int(two << 24) >> 24, int(two << 16) >> 24);
    }
    const uint shift = at < 16 ? 0 : 4;
    return scale * vec2(int(two >> shift & 15u) - 8, int(two >> (8 + shift) & 15u) - 8);
}
