/* Products of 16 x 16 x 16 on fragments. Lane l holds elements 8 l .. 8 l + 7 of a row-major 16 x
 * 16 matrix: any layout will do, since the API leaves it open. */
#pragma once
#include "cuda_fp16.h"

namespace nvcuda::wmma {
struct row_major {};
struct col_major {};
struct matrix_a {};
struct matrix_b {};
struct accumulator {};
enum layout_t { mem_row_major, mem_col_major };
template <class Kind, int M, int N, int K, class T, class Layout = void> struct fragment {
    static_assert(M == 16 && N == 16 && K == 16);
    T x[8];
    static constexpr int num_elements = 8;
};

template <class F> void fill_fragment(F &f, float v) {
    for (auto &x : f.x) {
        x = v;
    }
}

inline void check_address(const void *p, unsigned bytes_of_row) {
    if ((uintptr_t)p % 32 != 0 || bytes_of_row % 16 != 0) {
        emu::complain("a tensor core's address that is not a multiple of 32 bytes");
    }
}

template <class Kind, class T, class Layout>
void load_matrix_sync(fragment<Kind, 16, 16, 16, T, Layout> &f, const T *p, unsigned stride) {
    check_address(p, stride * sizeof(T));
    for (unsigned i = 0; i < 8; i++) {
        const unsigned e = emu::lane() * 8 + i, row = e / 16, col = e % 16;
        f.x[i] = std::is_same_v<Layout, row_major> ? p[row * stride + col] : p[col * stride + row];
    }
    __syncwarp();
}

template <class T>
void load_matrix_sync(fragment<accumulator, 16, 16, 16, T> &f, const T *p, unsigned stride,
                      layout_t) {
    check_address(p, stride * sizeof(T));
    for (unsigned i = 0; i < 8; i++) {
        const unsigned e = emu::lane() * 8 + i;
        f.x[i] = p[e / 16 * stride + e % 16];
    }
    __syncwarp();
}

template <class T>
void store_matrix_sync(T *p, const fragment<accumulator, 16, 16, 16, T> &f, unsigned stride,
                       layout_t) {
    check_address(p, stride * sizeof(T));
    for (unsigned i = 0; i < 8; i++) {
        const unsigned e = emu::lane() * 8 + i;
        p[e / 16 * stride + e % 16] = f.x[i];
    }
    __syncwarp();
}

/* What lanes bring to a product. */
struct product {
    const __half *a, *b;
    float *d;
};
void multiply(void **of_lane, uint32_t arrived);

template <class LA, class LB>
void mma_sync(fragment<accumulator, 16, 16, 16, float> &d,
              const fragment<matrix_a, 16, 16, 16, __half, LA> &a,
              const fragment<matrix_b, 16, 16, 16, __half, LB> &b,
              const fragment<accumulator, 16, 16, 16, float> &c) {
    if (&c != &d) {
        d = c;
    }
    product mine = {a.x, b.x, d.x};
    emu::meet(~0u, &mine, multiply);
}
} // namespace nvcuda::wmma
