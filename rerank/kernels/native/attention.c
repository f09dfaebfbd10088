/* Attention within each of several texts that lie in one row of tokens, float32.
 *
 * A tile of queries lies across the lanes of a few vectors, so that the softmax over keys needs no sum across lanes.
 * Keys come in blocks; a running maximum rescales what was summed before (Milakov and Gimelshein, 2018,
 * https://arxiv.org/abs/1805.02867). How a text is cut depends on its own length alone, and so do its bits. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "threads.h"
#include "vectors.h"

#define VECTORS 3               /* of queries in a tile */
#define TILE (VECTORS * LANES)  /* queries in a tile */
#define BLOCK 64                /* keys in a block */
#define PART (10 * TILE)        /* queries in a work item */
#define PANEL 32                /* floats of a head that keys and values are cut into; a head is a multiple of it */
#define LINE 16                 /* floats of a cache line */
#define MOST_DIM 256
#define KEYS (LANES / 2)        /* keys at once in a product of queries and keys: KEYS * VECTORS sums in registers */
#define QUERIES (3 * LANES / 4) /* queries at once in a product with values: QUERIES * 2 sums in registers */
#define FEW (LANES / 4)         /* the same at the end of a tile */
#define INNER static inline __attribute__((always_inline))
#define OUTER static __attribute__((noinline)) /* constants of other loops take no registers from this one */
#define UNROLL _Pragma("GCC unroll 16")
#define LOG2_E 1.44269504088896340736f
#define NOTHING -1e30f          /* a maximum before anything was seen: finite, so that differences are */
#define HIDDEN -__builtin_inff()

typedef struct {
    const float *q, *k, *v;
    float *output;
    const int32_t *q_starts, *k_starts; /* [texts + 1] */
    const float *bias;                  /* [heads, 2 * longest - 1 + TILE] by query's place minus key's, in bits; or NULL */
    const int32_t *shared;              /* rows of k and v that texts see of each other; or NULL */
    const int32_t *seen;                /* [texts, 3]: the first of `shared` that a text sees, the end, and its own or -1 */
    int64_t q_token, q_head, k_token, k_head, v_token, v_head; /* strides in floats */
    int64_t texts, heads, group, dim, longest;
    int64_t others; /* the most that a text sees of `shared` */
    float scale;
    int64_t window; /* places that a query sees on either side, -1: all */
    int64_t causal;
} attention;

typedef struct {
    const attention *shape;
    int64_t parts; /* work items a text and head */
    items shared;
    int failed;
} attention_job;

/* What a work item sees of the keys and values of a text and head: [dim / PANEL, keys, PANEL], contiguous. */
typedef struct {
    float *k, *v;
    int64_t first, end; /* places in the text */
} packed;

/* What a tile of queries keeps while blocks of keys go by. */
typedef struct {
    float queries[MOST_DIM * TILE]; /* [dim, TILE], scaled */
    float scores[(BLOCK + KEYS) * TILE]; /* [keys, TILE], then weights */
    float output[TILE * MOST_DIM]; /* [TILE, dim], not yet divided by the total */
    float best[TILE], total[TILE], shrink[TILE];
} __attribute__((aligned(64))) tile;

/* Eight rows of eight become columns. */
INNER void transpose(const float *from, int64_t stride, float *to, float scale) {
    __m256 a[8], b[8];
    __m256 times = _mm256_set1_ps(scale);
    UNROLL for (int i = 0; i < 4; i++) {
        a[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(from + i * stride)),
                                    _mm_loadu_ps(from + (i + 4) * stride), 1);
        a[i + 4] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(from + i * stride + 4)),
                                        _mm_loadu_ps(from + (i + 4) * stride + 4), 1);
    }
    UNROLL for (int half = 0; half < 8; half += 4) {
        b[half] = _mm256_unpacklo_ps(a[half], a[half + 1]);
        b[half + 1] = _mm256_unpackhi_ps(a[half], a[half + 1]);
        b[half + 2] = _mm256_unpacklo_ps(a[half + 2], a[half + 3]);
        b[half + 3] = _mm256_unpackhi_ps(a[half + 2], a[half + 3]);
    }
    UNROLL for (int half = 0; half < 8; half += 4) {
        a[half] = _mm256_shuffle_ps(b[half], b[half + 2], 0x44);
        a[half + 1] = _mm256_shuffle_ps(b[half], b[half + 2], 0xee);
        a[half + 2] = _mm256_shuffle_ps(b[half + 1], b[half + 3], 0x44);
        a[half + 3] = _mm256_shuffle_ps(b[half + 1], b[half + 3], 0xee);
    }
    UNROLL for (int i = 0; i < 8; i++) _mm256_store_ps(to + i * TILE, _mm256_mul_ps(a[i], times));
}

/* [count, dim] -> tile->queries [dim, TILE], scaled; lanes beyond are zeros. */
OUTER void take_queries(tile *t, const float *q, int64_t stride, int64_t count, int64_t dim, float scale) {
    float last[8 * MOST_DIM];
    for (int64_t row = 0; row < TILE; row += 8) {
        const float *from = q + row * stride;
        int64_t apart = stride;
        if (row + 8 > count) {
            memset(last, 0, sizeof(float) * 8 * dim);
            for (int64_t i = row; i < count; i++) memcpy(last + (i - row) * dim, q + i * stride, sizeof(float) * dim);
            from = last;
            apart = dim;
        }
        for (int64_t d = 0; d < dim; d += 8) transpose(from + d, apart, t->queries + d * TILE + row, scale);
    }
}

/* The next head of the same tokens, meanwhile into the cache: rows lie too far apart for the hardware to guess them. */
INNER void fetch_row(const float *row, int64_t dim) {
    for (int64_t d = 0; d < dim; d += LINE) _mm_prefetch((const char *)(row + d), _MM_HINT_T1);
}

OUTER void fetch_rows(const float *rows, int64_t stride, int64_t count, int64_t dim) {
    for (int64_t i = 0; i < count; i++) fetch_row(rows + i * stride, dim);
}

/* The first `count` of `keys`; `ahead` floats further lies the next head. */
OUTER void pack(const float *from, int64_t stride, int64_t ahead, float *to, int64_t count, int64_t keys, int64_t dim) {
    for (int64_t panel = 0; panel < dim; panel += PANEL) {
        float *at = to + panel * keys;
        for (int64_t i = 0; i < count; i++, at += PANEL) {
            const float *row = from + i * stride + panel;
            fetch_row(row + ahead, PANEL);
            UNROLL for (int d = 0; d < PANEL; d += LANES) store(at + d, load(row + d));
        }
    }
}

/* The last of `keys`: what a text sees of others, which lies anywhere. */
OUTER void pack_others(const float *from, int64_t stride, const int32_t *shared, const int32_t *seen, float *to,
                       int64_t count, int64_t keys, int64_t dim) {
    for (int64_t panel = 0; panel < dim; panel += PANEL) {
        float *at = to + panel * keys + count * PANEL;
        for (int64_t i = seen[0]; i < seen[1]; i++) {
            if (i == seen[2]) continue;
            const float *row = from + shared[i] * stride + panel;
            UNROLL for (int d = 0; d < PANEL; d += LANES) store(at + d, load(row + d));
            at += PANEL;
        }
    }
}

/* scores[key, query] of KEYS keys from `at`. A panel adds to what the panels before it left there. */
INNER void score(tile *t, const int vectors, const float *k, int64_t at, int64_t panel) {
    vec sums[KEYS][VECTORS];
    float *scores = t->scores + at * TILE;
    UNROLL for (int i = 0; i < KEYS; i++) {
        UNROLL for (int j = 0; j < vectors; j++) sums[i][j] = panel ? load(scores + i * TILE + j * LANES) : zeros();
    }
    const float *queries = t->queries + panel * TILE;
    for (int d = 0; d < PANEL; d++) {
        vec lanes[VECTORS];
        UNROLL for (int j = 0; j < vectors; j++) lanes[j] = load(queries + d * TILE + j * LANES);
        UNROLL for (int i = 0; i < KEYS; i++) {
            vec key = spread(k[i * PANEL + d]);
            UNROLL for (int j = 0; j < vectors; j++) sums[i][j] = fused(key, lanes[j], sums[i][j]);
        }
    }
    UNROLL for (int i = 0; i < KEYS; i++) {
        UNROLL for (int j = 0; j < vectors; j++) store(scores + i * TILE + j * LANES, sums[i][j]);
    }
}

/* A block of keys. Its end is filled up with what follows it in memory; those scores are not read. */
INNER void score_block(tile *t, const int vectors, const packed *text, int64_t key, int64_t count, int64_t dim) {
    for (int64_t panel = 0; panel < dim; panel += PANEL) {
        const float *k = text->k + panel * (text->end - text->first) + (key - text->first) * PANEL;
        for (int64_t at = 0; at < count; at += KEYS) score(t, vectors, k + at * PANEL, at, panel);
    }
}

OUTER void score_1(tile *t, const packed *text, int64_t key, int64_t count, int64_t dim) {
    score_block(t, 1, text, key, count, dim);
}

OUTER void score_2(tile *t, const packed *text, int64_t key, int64_t count, int64_t dim) {
    score_block(t, 2, text, key, count, dim);
}

OUTER void score_3(tile *t, const packed *text, int64_t key, int64_t count, int64_t dim) {
    score_block(t, 3, text, key, count, dim);
}

/* Add the bias to a block of scores, and hide what queries may not see. */
OUTER void mask(tile *t, int vectors, const attention *a, const float *bias, int64_t query, int64_t key, int64_t count) {
    float places[TILE];
    float farthest = a->window < 0 ? 3e38f : (float)a->window;
    for (int i = 0; i < TILE; i++) places[i] = (float)(query + i);
    for (int64_t i = 0; i < count; i++) {
        for (int j = 0; j < vectors; j++) {
            float *at = t->scores + i * TILE + j * LANES;
            vec distance = subtract(spread((float)(key + i)), load(places + j * LANES));
            vec scores = load(at);
            if (bias) scores = add(scores, load(bias + (query + j * LANES - key - i) + a->longest - 1));
            store(at, within(distance, spread(-farthest), spread(a->causal ? 0.0f : farthest), scores, spread(HIDDEN)));
        }
    }
}

/* Scores of a block become weights; maximum and total go on, and shrink says what earlier sums are still worth. */
INNER void weigh(tile *t, const int vectors, int64_t count) {
    vec best[VECTORS], total[VECTORS];
    UNROLL for (int j = 0; j < vectors; j++) {
        best[j] = load(t->best + j * LANES);
        total[j] = zeros();
    }
    for (int64_t i = 0; i < count; i++) {
        UNROLL for (int j = 0; j < vectors; j++) best[j] = maximum(best[j], load(t->scores + i * TILE + j * LANES));
    }
    for (int64_t i = 0; i < count; i++) {
        UNROLL for (int j = 0; j < vectors; j++) {
            float *at = t->scores + i * TILE + j * LANES;
            vec weight = exp2_of(subtract(load(at), best[j]));
            total[j] = add(total[j], weight);
            store(at, weight);
        }
    }
    UNROLL for (int j = 0; j < vectors; j++) {
        vec shrink = exp2_of(subtract(load(t->best + j * LANES), best[j]));
        store(t->shrink + j * LANES, shrink);
        store(t->total + j * LANES, fused(load(t->total + j * LANES), shrink, total[j]));
        store(t->best + j * LANES, best[j]);
    }
}

OUTER void weigh_1(tile *t, int64_t count) { weigh(t, 1, count); }
OUTER void weigh_2(tile *t, int64_t count) { weigh(t, 2, count); }
OUTER void weigh_3(tile *t, int64_t count) { weigh(t, 3, count); }

/* output[query] = output[query] * shrink + weights · values, for some queries and two vectors of the values' width. */
INNER void mix(const tile *t, const int queries, int64_t first, const float *v, int64_t count, float *output,
               int64_t dim) {
    vec sums[QUERIES][2];
    UNROLL for (int i = 0; i < queries; i++) {
        vec shrink = spread(t->shrink[first + i]);
        sums[i][0] = multiply(load(output + i * dim), shrink);
        sums[i][1] = multiply(load(output + i * dim + LANES), shrink);
    }
    const float *weights = t->scores + first;
    for (int64_t key = 0; key < count; key++, v += PANEL, weights += TILE) {
        vec low = load(v), high = load(v + LANES);
        UNROLL for (int i = 0; i < queries; i++) {
            vec weight = spread(weights[i]);
            sums[i][0] = fused(weight, low, sums[i][0]);
            sums[i][1] = fused(weight, high, sums[i][1]);
        }
    }
    UNROLL for (int i = 0; i < queries; i++) {
        store(output + i * dim, sums[i][0]);
        store(output + i * dim + LANES, sums[i][1]);
    }
}

OUTER void mix_block(tile *t, const packed *text, int64_t queries, int64_t key, int64_t count, int64_t dim) {
    for (int64_t d = 0; d < dim; d += 2 * LANES) {
        int64_t panel = d / PANEL * PANEL;
        const float *v = text->v + panel * (text->end - text->first) + (key - text->first) * PANEL + d - panel;
        for (int64_t i = 0; i < queries;) {
            float *output = t->output + i * dim + d;
            if (queries - i > FEW) {
                mix(t, QUERIES, i, v, count, output, dim);
                i += QUERIES;
            } else {
                mix(t, FEW, i, v, count, output, dim);
                i += FEW;
            }
        }
    }
}

static inline int64_t least(int64_t x, int64_t y) { return x < y ? x : y; }
static inline int64_t most(int64_t x, int64_t y) { return x > y ? x : y; }

/* The places that some of these queries see, of a text of this length. */
static inline int64_t first_seen(const attention *a, int64_t query) {
    return a->window < 0 ? 0 : most(0, query - a->window);
}

static inline int64_t end_seen(const attention *a, int64_t query, int64_t queries, int64_t length) {
    int64_t end = a->window < 0 ? length : least(length, query + queries + a->window);
    return a->causal ? least(end, query + queries) : end;
}

/* One block of keys for one tile of queries. */
static void absorb(tile *t, const attention *a, const packed *text, const float *bias, int64_t query, int64_t queries,
                   int64_t key, int64_t keys) {
    static void (*const scores[])(tile *, const packed *, int64_t, int64_t, int64_t) = {score_1, score_2, score_3};
    static void (*const weighs[])(tile *, int64_t) = {weigh_1, weigh_2, weigh_3};
    int64_t vectors = (queries + LANES - 1) / LANES, last_query = query + queries - 1, last_key = key + keys - 1;
    int far = a->window >= 0 && (last_key - query > a->window || last_query - key > a->window);
    scores[vectors - 1](t, text, key, keys, a->dim);
    if (bias || far || (a->causal && last_key > query)) mask(t, vectors, a, bias, query, key, keys);
    weighs[vectors - 1](t, keys);
    mix_block(t, text, queries, key, keys, a->dim);
}

/* Attention of a tile of queries, which start at `query` of their text. */
static void attend(tile *t, const attention *a, const packed *text, const float *bias, const float *q, float *output,
                   int64_t query, int64_t queries) {
    take_queries(t, q, a->q_token, queries, a->dim, a->scale * LOG2_E);
    memset(t->output, 0, sizeof(float) * TILE * a->dim);
    memset(t->total, 0, sizeof t->total);
    for (int i = 0; i < TILE; i++) t->best[i] = NOTHING;
    int64_t end = end_seen(a, query, queries, text->end);
    for (int64_t key = first_seen(a, query); key < end; key += BLOCK) {
        absorb(t, a, text, bias, query, queries, key, least(BLOCK, end - key));
    }
    for (int64_t i = 0; i < queries; i++) {
        vec share = spread(1.0f / t->total[i]);
        float *to = output + i * a->heads * a->dim;
        for (int64_t d = 0; d < a->dim; d += LANES) store(to + d, multiply(load(t->output + i * a->dim + d), share));
    }
}

static void attend_item(tile *t, const attention *a, packed *text, int64_t parts, int64_t item) {
    int64_t part = item % parts, head = item / parts % a->heads, index = item / parts / a->heads;
    int64_t q_first = a->q_starts[index], k_first = a->k_starts[index];
    int64_t start = part * PART, queries = least(a->q_starts[index + 1] - q_first - start, PART);
    if (queries <= 0) return; /* parts are as many as the longest text has */
    text->first = first_seen(a, start);
    text->end = end_seen(a, start, queries, a->k_starts[index + 1] - k_first);
    const float *k = a->k + head / a->group * a->k_head, *v = a->v + head / a->group * a->v_head;
    const int32_t *seen = a->seen ? a->seen + 3 * index : NULL;
    int64_t own = text->end - text->first, keys = own + (seen ? seen[1] - seen[0] - (seen[2] >= 0) : 0);
    pack(k + (k_first + text->first) * a->k_token, a->k_token, a->k_head, text->k, own, keys, a->dim);
    pack(v + (k_first + text->first) * a->v_token, a->v_token, a->v_head, text->v, own, keys, a->dim);
    if (keys > own) {
        pack_others(k, a->k_token, a->shared, seen, text->k, own, keys, a->dim);
        pack_others(v, a->v_token, a->shared, seen, text->v, own, keys, a->dim);
        text->end += keys - own;
    }
    const float *bias = a->bias ? a->bias + head * (2 * a->longest - 1 + TILE) : NULL;
    for (int64_t query = start; query < start + queries; query += TILE) {
        const float *q = a->q + (q_first + query) * a->q_token + head * a->q_head;
        fetch_rows(q + a->q_head, a->q_token, least(TILE, start + queries - query), a->dim);
        float *output = a->output + ((q_first + query) * a->heads + head) * a->dim;
        attend(t, a, text, bias, q, output, query, least(TILE, start + queries - query));
    }
}

static void attend_items(void *job) {
    attention_job *j = job;
    int64_t keys = j->shape->longest + j->shape->others + KEYS; /* the last block is read beyond its end */
    size_t bytes = ((size_t)(keys * j->shape->dim) * sizeof(float) + 63) / 64 * 64;
    packed text = {.k = aligned_alloc(64, bytes), .v = aligned_alloc(64, bytes)};
    tile t;
    if (text.k && text.v) {
        for (range r = take(&j->shared); r.first < r.end; r = take(&j->shared)) {
            for (int64_t item = r.first; item < r.end; item++) attend_item(&t, j->shape, &text, j->parts, item);
        }
    } else {
        j->failed = 1;
    }
    free(text.k);
    free(text.v);
}

/* Every text has queries and keys of its own: rows q_starts[i] to q_starts[i + 1] of q, k_starts[i] … of k and v.
 * With `seen` it sees some rows of others too, behind its own; there is no window, no bias and no order then.
 * output is [queries, heads, dim], contiguous. Gives 0, 1 when there was no memory, 2 when a text is too long. */
int rerank_attention(const attention *a, parallel_t parallel, unsigned threads) {
    int64_t parts = (a->longest + PART - 1) / PART;
    for (int64_t i = 0; i < a->texts; i++) {
        int64_t queries = a->q_starts[i + 1] - a->q_starts[i], keys = a->k_starts[i + 1] - a->k_starts[i];
        if (most(queries, keys) > a->longest) return 2;
    }
    attention_job job = {.shape = a, .parts = parts, .shared = shared_items(a->texts * a->heads * parts, threads)};
    share_out(parallel, threads, attend_items, &job);
    return job.failed;
}

/* For the caller, which pads its tables of biases to this. */
int64_t rerank_tile(void) { return TILE; }
