/* y = LayerNorm(x + r) · weight + bias, row by row, float32: one pass over memory.
 *
 * The mean comes first and the squared distances from it afterwards, as the definition has it; the row stays in the
 * cache in between. A row's sums are in an order of their own: it gets the same bits wherever it lies. */
#include <math.h>
#include <stddef.h>

#include "threads.h"
#include "vectors.h"

typedef struct {
    const float *x, *residual; /* residual may be NULL */
    const float *weight, *bias; /* bias may be NULL */
    float *output;             /* [rows, width], contiguous; may be x or residual itself */
    int64_t rows, width, x_row, residual_row; /* strides in floats */
    float epsilon;
} add_norm;

typedef struct {
    const add_norm *shape;
    items shared;
} add_norm_job;

static float added(const float *x, const float *residual, float *output, int64_t width) {
    vec sums[2] = {zeros(), zeros()};
    for (int64_t i = 0; i < width; i += 2 * LANES) {
        for (int j = 0; j < 2; j++) {
            vec value = load(x + i + j * LANES);
            if (residual) value = add(value, load(residual + i + j * LANES));
            store(output + i + j * LANES, value);
            sums[j] = add(sums[j], value);
        }
    }
    return total_of(add(sums[0], sums[1])) / (float)width;
}

static float squared_distance(const float *values, float mean, int64_t width) {
    vec sums[2] = {zeros(), zeros()};
    for (int64_t i = 0; i < width; i += 2 * LANES) {
        for (int j = 0; j < 2; j++) {
            vec distance = subtract(load(values + i + j * LANES), spread(mean));
            sums[j] = fused(distance, distance, sums[j]);
        }
    }
    return total_of(add(sums[0], sums[1])) / (float)width;
}

static void norm_row(const add_norm *a, int64_t row) {
    float *output = a->output + row * a->width;
    const float *residual = a->residual ? a->residual + row * a->residual_row : NULL;
    float mean = added(a->x + row * a->x_row, residual, output, a->width);
    vec inverse = spread(1.0f / sqrtf(squared_distance(output, mean, a->width) + a->epsilon));
    for (int64_t i = 0; i < a->width; i += LANES) {
        vec value = multiply(multiply(subtract(load(output + i), spread(mean)), inverse), load(a->weight + i));
        store(output + i, a->bias ? add(value, load(a->bias + i)) : value);
    }
}

static void norm_items(void *job) {
    add_norm_job *j = job;
    const add_norm *a = j->shape;
    for (range r = take(&j->shared); r.first < r.end; r = take(&j->shared)) {
        for (int64_t row = r.first; row < r.end; row++) norm_row(a, row);
    }
}

/* Always gives 0. */
int rerank_add_norm(const add_norm *a, parallel_t parallel, unsigned threads) {
    add_norm_job job = {.shape = a, .shared = shared_items(a->rows, threads)};
    share_out(parallel, threads, norm_items, &job);
    return 0;
}
