/* A vector of floats and what these kernels do with it, for AVX-512 (16 lanes) and for AVX2 with FMA (8 lanes).
 *
 * Products are fused multiply-adds by intrinsics, never left to the compiler: the same row gets the same bits in every
 * variant of a loop. `maximum` returns its second argument when either is nan, as the hardware does. */
#ifndef RERANK_VECTORS_H
#define RERANK_VECTORS_H

#include <immintrin.h>
#include <stdint.h>

#if defined(__AVX512F__)
#define LANES 16
typedef __m512 vec;
#define load _mm512_loadu_ps
#define store _mm512_storeu_ps
#define spread _mm512_set1_ps
#define zeros _mm512_setzero_ps
#define add _mm512_add_ps
#define subtract _mm512_sub_ps
#define multiply _mm512_mul_ps
#define fused _mm512_fmadd_ps /* a * b + c */
#define maximum _mm512_max_ps
#define total_of _mm512_reduce_add_ps
#define nearest(x) _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define by_power_of_two _mm512_scalef_ps /* x * 2^whole */
/* `kept` where lowest <= x <= highest, `other` elsewhere */
static inline vec within(vec x, vec lowest, vec highest, vec kept, vec other) {
    __mmask16 inside = _mm512_cmp_ps_mask(x, lowest, _CMP_GE_OQ) & _mm512_cmp_ps_mask(x, highest, _CMP_LE_OQ);
    return _mm512_mask_blend_ps(inside, other, kept);
}
#else
#define LANES 8
typedef __m256 vec;
#define load _mm256_loadu_ps
#define store _mm256_storeu_ps
#define spread _mm256_set1_ps
#define zeros _mm256_setzero_ps
#define add _mm256_add_ps
#define subtract _mm256_sub_ps
#define multiply _mm256_mul_ps
#define fused _mm256_fmadd_ps
#define maximum _mm256_max_ps
#define nearest(x) _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
static inline float total_of(vec x) {
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
static inline vec by_power_of_two(vec x, vec whole) {
    __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(whole), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), exponent));
}
static inline vec within(vec x, vec lowest, vec highest, vec kept, vec other) {
    vec inside = _mm256_and_ps(_mm256_cmp_ps(x, lowest, _CMP_GE_OQ), _mm256_cmp_ps(x, highest, _CMP_LE_OQ));
    return _mm256_blendv_ps(other, kept, inside);
}
#endif

/* 2^x for x <= 0, to about 1e-7 of its value; what is below 2^-125 becomes 2^-125, and nan stays nan.
 * The polynomial has the least relative error for f in [-1/2, 1/2], 2e-9 before rounding (Remez's algorithm). */
static inline vec exp2_of(vec x) {
    x = maximum(spread(-125.0f), x);
    vec whole = nearest(x);
    vec rest = subtract(x, whole);
    vec value = fused(spread(1.5345812e-4f), rest, spread(1.3399931e-3f));
    value = fused(value, rest, spread(9.6184890e-3f));
    value = fused(value, rest, spread(5.5503288e-2f));
    value = fused(value, rest, spread(2.4022647e-1f));
    value = fused(value, rest, spread(6.9314721e-1f));
    value = fused(value, rest, spread(1.0f));
    return by_power_of_two(value, whole);
}

#endif
