// What kernels of a driver that computes on the host share in reading exact rows: eight channels of a row
// at a time, by 16 bytes where rows begin there; queries that the lanes hold together, four channels
// each, and hand round. Needs kv.glsl, K128 and V128 (the bindings by 16 bytes), d and WIDE.

// In a driver of this kind a load is a loop over lanes, so one of 16 bytes costs as much as one of four.
void keys_8(uint row, uint c, out vec4 a, out vec4 b) {
    if ((WIDE & 1) == 0) {
        keys_at(row, c, d, a, b);
    } else if (K_DTYPE == F32) {
        a = uintBitsToFloat(K128[(row >> 4) + c / 4]);
        b = uintBitsToFloat(K128[(row >> 4) + c / 4 + 1]);
    } else {
        const uvec4 w = K128[(row >> 4) + c / 8];
        a = K_DTYPE == F16 ? vec4(halves_of(w.x), halves_of(w.y)) : vec4(bfloats_of(w.x), bfloats_of(w.y));
        b = K_DTYPE == F16 ? vec4(halves_of(w.z), halves_of(w.w)) : vec4(bfloats_of(w.z), bfloats_of(w.w));
    }
}

void values_8(uint row, uint c, out vec4 a, out vec4 b) {
    if ((WIDE & 2) == 0) {
        [[unroll]] for (uint e = 0; e < 4; e += 2) {
            const vec2 x = values_at(row, min(c + e, d - 2)), y = values_at(row, min(c + 4 + e, d - 2));
            a[e] = x.x;
            a[e + 1] = x.y;
            b[e] = y.x;
            b[e + 1] = y.y;
        }
    } else if (V_DTYPE == F32) {
        a = uintBitsToFloat(V128[(row >> 4) + c / 4]);
        b = uintBitsToFloat(V128[(row >> 4) + c / 4 + 1]);
    } else {
        const uvec4 w = V128[(row >> 4) + c / 8];
        a = V_DTYPE == F16 ? vec4(halves_of(w.x), halves_of(w.y)) : vec4(bfloats_of(w.x), bfloats_of(w.y));
        b = V_DTYPE == F16 ? vec4(halves_of(w.z), halves_of(w.w)) : vec4(bfloats_of(w.z), bfloats_of(w.w));
    }
}
