// Double-precision arithmetic of whole numbers, on devices that have none: what tl_codec_encode needs to
// make the same bytes as the CPU. A `wide` is sign * m * 2^e with 53 bits of m, rounded to nearest, ties to
// even, after each operation. Exponents stay far from a double's ends.

struct wide {
    bool negative;
    int e;
    uvec2 m; // low, high; zero, or bit 52 is the highest
};

uint top_bit(uvec3 w) { // of a number that is not 0
    return uint(w.z != 0 ? 64 + findMSB(w.z) : w.y != 0 ? 32 + findMSB(w.y) : findMSB(w.x));
}

uvec3 shift_up(uvec3 w, uint n) {
    while (n >= 32) {
        w = uvec3(0, w.x, w.y);
        n -= 32;
    }
    return n == 0 ? w : uvec3(w.x << n, w.y << n | w.x >> (32 - n), w.z << n | w.y >> (32 - n));
}

uvec3 shift_down(uvec3 w, uint n) {
    while (n >= 32) {
        w = uvec3(w.y, w.z, 0);
        n -= 32;
    }
    return n == 0 ? w : uvec3(w.x >> n | w.y << (32 - n), w.y >> n | w.z << (32 - n), w.z >> n);
}

uvec3 plus(uvec3 a, uvec3 b) {
    uint c0, c1, c2;
    const uint x = uaddCarry(a.x, b.x, c0);
    const uint y0 = uaddCarry(a.y, b.y, c1), y = uaddCarry(y0, c0, c2);
    return uvec3(x, y, a.z + b.z + c1 + c2);
}

uvec3 minus(uvec3 a, uvec3 b) { // a >= b
    uint c0, c1, c2;
    const uint x = usubBorrow(a.x, b.x, c0);
    const uint y0 = usubBorrow(a.y, b.y, c1), y = usubBorrow(y0, c0, c2);
    return uvec3(x, y, a.z - b.z - c1 - c2);
}

bool is_less(uvec3 a, uvec3 b) {
    return a.z != b.z ? a.z < b.z : a.y != b.y ? a.y < b.y : a.x < b.x;
}

// w shifted down by n > 0 bits and rounded; more: something not 0 was cut off below w.
uvec3 round_down(uvec3 w, uint n, bool more) {
    const uvec3 kept = shift_down(w, n), lost = minus(w, shift_up(kept, n));
    const uvec3 middle = shift_up(uvec3(1, 0, 0), n - 1);
    const bool over = is_less(middle, lost), tie = lost == middle;
    return over || (tie && (more || (kept.x & 1u) != 0)) ? plus(kept, uvec3(1, 0, 0)) : kept;
}

wide round_wide(bool negative, int e, uvec3 w, bool more) {
    if (w == uvec3(0)) {
        return wide(false, 0, uvec2(0));
    }
    const uint top = top_bit(w);
    if (top <= 52) {
        return wide(negative, e - int(52 - top), shift_up(w, 52 - top).xy);
    }
    uvec3 kept = round_down(w, top - 52, more);
    e += int(top - 52);
    if ((kept.y & 0x200000u) != 0) { // bit 53
        kept = shift_down(kept, 1);
        e++;
    }
    return wide(negative, e, kept.xy);
}

wide times(wide a, uint factor) { // factor < 2^32
    uint low_high, low, high_high, high;
    umulExtended(a.m.x, factor, low_high, low);
    umulExtended(a.m.y, factor, high_high, high);
    return round_wide(a.negative, a.e, plus(uvec3(low, low_high, 0), uvec3(0, high, high_high)), false);
}

wide over(wide a, uint divisor) { // 0 < divisor < 2^30
    uvec3 q = uvec3(0);
    uint rest = 0;
    for (int bit = 52; bit >= -36; bit--) {
        const uint next = bit >= 32 ? a.m.y >> (bit - 32) & 1u : bit >= 0 ? a.m.x >> bit & 1u : 0u;
        rest = rest << 1 | next;
        q = shift_up(q, 1);
        if (rest >= divisor) {
            rest -= divisor;
            q.x |= 1u;
        }
    }
    return round_wide(a.negative, a.e - 36, q, rest != 0);
}

wide less(wide a, wide b) { // a - b
    if (b.m == uvec2(0)) {
        return a;
    }
    if (a.m == uvec2(0)) {
        return wide(!b.negative, b.e, b.m);
    }
    b.negative = !b.negative;
    if (a.e < b.e || (a.e == b.e && is_less(uvec3(a.m, 0), uvec3(b.m, 0)))) {
        const wide other = a;
        a = b;
        b = other;
    }
    const uint gap = uint(a.e - b.e), room = min(gap, 40u), cut = min(gap - room, 60u);
    const uvec3 x = shift_up(uvec3(a.m, 0), room), all = uvec3(b.m, 0);
    uvec3 y = shift_down(all, cut);
    const bool more = shift_up(y, cut) != all;
    if (a.negative == b.negative) {
        return round_wide(a.negative, a.e - int(room), plus(x, y), more);
    }
    if (more) { // what is left of x then lies above y, by a part of a unit
        y = plus(y, uvec3(1, 0, 0));
    }
    return round_wide(a.negative, a.e - int(room), minus(x, y), more);
}

// m * 2^e, m in two's complement.
wide wide_of(uvec2 m, int e) {
    const bool negative = (m.y & 0x80000000u) != 0;
    const uvec3 size = negative ? minus(uvec3(0, 0, 1), uvec3(m, 0)) : uvec3(m, 0);
    return round_wide(negative, e, uvec3(size.xy, 0), false);
}

float float_of(wide a) {
    if (a.m == uvec2(0)) {
        return 0.0;
    }
    uint kept = round_down(uvec3(a.m, 0), 29, false).x;
    int e = a.e + 29 + 23 + 127;
    if (kept == 0x1000000u) {
        kept >>= 1;
        e++;
    }
    if (e <= 0) {
        return 0.0; // far below what a half can hold
    }
    return uintBitsToFloat((a.negative ? 0x80000000u : 0u) | uint(e) << 23 | (kept & 0x7fffffu));
}
