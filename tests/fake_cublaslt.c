/* A cuBLASLt of our own, without a device: it checks what it is asked for as closely as the real one's documentation allows, and multiplies
   plainly. Addresses of a device's memory are those of the stand-in driver, of which this process may touch the second mapping; over a libcuda that
   gives memory of the host they are what they are. For tests of numbatensor/cuda/cublas.py: cc -shared -fPIC -o libcublasLt.so.13 fake_cublaslt.c -lm */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#define API __attribute__((visibility("default")))
enum { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID = 7, MISMATCH = 8, NOT_SUPPORTED = 15 };
enum { R_32F = 0, R_64F = 1, R_16F = 2, R_16BF = 14, COMPUTE_32F = 68, COMPUTE_64F = 70, FAST_TF32 = 77 };
enum { PLAIN = 1, RELU = 2, BIAS = 4, GELU = 32 };
typedef void *P;
typedef struct { long mark; int compute, scale, turn_a, turn_b; unsigned epilogue; char *bias; } Product;
typedef struct { long mark; int type, batches; uint64_t rows, columns; int64_t step, batch; } Layout;
typedef struct { long mark; uint64_t workspace; uint32_t reduction, align[4]; } Preference;
typedef struct { uint64_t data[8]; } Algorithm;
typedef struct { Algorithm algorithm; size_t workspace; int state; float waves; int reserved[4]; } Heuristic;
typedef struct {
    Product product;
    Layout a, b, c, d;
    char *A, *B, *C, *D, *workspace;
    size_t bytes;
    double alpha, beta;
} Job;

/* by function: handles, products, layouts, preferences, heuristics, multiplications, attributes set, multiplications by TF32 */
enum { HANDLES, PRODUCTS, LAYOUTS, PREFERENCES, HEURISTICS, MULTIPLIED, ATTRIBUTES, TF32 };
API long fake_counts[8], fake_live; /* calls; descriptors that were not destroyed */
API long fake_fail_at, fake_fail_code; /* the function, by its place in fake_counts, that fails next, and with what */
API long fake_refused;              /* the epilogue for which there is no algorithm; -1: there is none at all */
API long fake_workspace;            /* bytes that an algorithm wants */
API long fake_last[20];             /* the last multiplication, see there */
API long fake_base, fake_size, fake_shift; /* addresses of the device's memory, and from them to where it can be touched */
API long fake_nothing;              /* whether nothing is multiplied, to measure what it costs to ask */
API void (*fake_enqueue)(P stream, P job);

static int counted(int k) {
    __atomic_fetch_add(&fake_counts[k], 1, __ATOMIC_RELAXED);
    if (fake_fail_code && fake_fail_at == k) { int code = fake_fail_code; fake_fail_code = 0; return code; }
    return SUCCESS;
}
static int fresh(P *out, size_t size, long mark, int code) {
    if (code) return code;
    *out = calloc(1, size);
    *(long *)*out = mark;
    __atomic_fetch_add(&fake_live, 1, __ATOMIC_RELAXED);
    return SUCCESS;
}
static int destroyed(P made, long mark) {
    if (made == 0 || *(long *)made != mark) return INVALID;
    *(long *)made = 0;
    __atomic_fetch_add(&fake_live, -1, __ATOMIC_RELAXED);
    free(made);
    return SUCCESS;
}
static int put(P place, size_t wanted, const void *value, size_t size) {
    int code = counted(ATTRIBUTES);
    if (code) return code;
    if (place == 0 || value == 0 || size != wanted) return INVALID;
    memcpy(place, value, size);
    return SUCCESS;
}

API int cublasLtCreate(P *handle) {
    int code = counted(HANDLES);
    if (code == 0) *handle = (P)0xB1A5;
    return code;
}
API const char *cublasLtGetStatusName(int code) {
    return code == NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED" : code == INVALID ? "CUBLAS_STATUS_INVALID_VALUE" : code == NOT_INITIALIZED ? "CUBLAS_STATUS_NOT_INITIALIZED" : "CUBLAS_STATUS_OTHER";
}
API size_t cublasLtGetVersion(void) { return 130000; }

enum { PRODUCT = 0x11, LAYOUT = 0x22, PREFERENCE = 0x33 };
API int cublasLtMatmulDescCreate(Product **out, int compute, int scale) {
    int fits = scale == R_64F ? compute == COMPUTE_64F : scale == R_32F && (compute == COMPUTE_32F || compute == FAST_TF32);
    int code = fresh((P *)out, sizeof **out, PRODUCT, fits ? counted(PRODUCTS) : INVALID);
    if (code == 0) (*out)->compute = compute, (*out)->scale = scale, (*out)->epilogue = PLAIN;
    return code;
}
API int cublasLtMatmulDescDestroy(Product *p) { return destroyed(p, PRODUCT); }
API int cublasLtMatmulDescSetAttribute(Product *p, int which, const void *value, size_t size) {
    if (p == 0 || p->mark != PRODUCT) return INVALID;
    switch (which) {
    case 3: return *(int *)value & ~1 ? INVALID : put(&p->turn_a, 4, value, size);
    case 4: return *(int *)value & ~1 ? INVALID : put(&p->turn_b, 4, value, size);
    case 7: return put(&p->epilogue, 4, value, size);
    case 8: return put(&p->bias, 8, value, size);
    }
    return INVALID;
}
API int cublasLtMatrixLayoutCreate(Layout **out, int type, uint64_t rows, uint64_t columns, int64_t step) {
    int code = fresh((P *)out, sizeof **out, LAYOUT, type <= R_16F || type == R_16BF ? counted(LAYOUTS) : INVALID);
    if (code == 0) (*out)->type = type, (*out)->rows = rows, (*out)->columns = columns, (*out)->step = step, (*out)->batches = 1;
    return code;
}
API int cublasLtMatrixLayoutDestroy(Layout *l) { return destroyed(l, LAYOUT); }
API int cublasLtMatrixLayoutSetAttribute(Layout *l, int which, const void *value, size_t size) {
    if (l == 0 || l->mark != LAYOUT) return INVALID;
    return which == 5 ? put(&l->batches, 4, value, size) : which == 6 ? put(&l->batch, 8, value, size) : INVALID;
}
API int cublasLtMatmulPreferenceCreate(Preference **out) {
    int code = fresh((P *)out, sizeof **out, PREFERENCE, counted(PREFERENCES));
    for (int k = 0; code == 0 && k < 4; k++) (*out)->align[k] = 256;
    return code;
}
API int cublasLtMatmulPreferenceDestroy(Preference *p) { return destroyed(p, PREFERENCE); }
API int cublasLtMatmulPreferenceSetAttribute(Preference *p, int which, const void *value, size_t size) {
    if (p == 0 || p->mark != PREFERENCE) return INVALID;
    if (which == 1) return put(&p->workspace, 8, value, size);
    if (which == 3) return put(&p->reduction, 4, value, size);
    return which >= 5 && which <= 8 ? put(&p->align[which - 5], 4, value, size) : INVALID;
}

static int item(const Layout *l) { return l->type == R_64F ? 8 : l->type == R_32F ? 4 : 2; }
static int sound(const Layout *l) {
    return l->mark == LAYOUT && l->rows > 0 && l->columns > 0 && l->step >= (int64_t)l->rows && l->batches > 0 && l->batch >= 0;
}
static int agree(const Product *p, const Layout *a, const Layout *b, const Layout *c, const Layout *d) {
    if (p->mark != PRODUCT || !sound(a) || !sound(b) || !sound(c) || !sound(d)) return 0;
    uint64_t m = p->turn_a ? a->columns : a->rows, k = p->turn_a ? a->rows : a->columns;
    uint64_t n = p->turn_b ? b->rows : b->columns, other = p->turn_b ? b->columns : b->rows;
    int same = a->type == b->type && a->type == c->type && a->type == d->type && (a->type == R_64F) == (p->scale == R_64F);
    if (p->compute == FAST_TF32 && a->type != R_32F) return 0;
    int batches = a->batches == b->batches && a->batches == c->batches && a->batches == d->batches;
    int apart = d->batches == 1 || d->batch >= d->step * (int64_t)d->columns;
    return same && batches && apart && k == other && d->rows == m && d->columns == n && c->rows == m && c->columns == n;
}
/* what an algorithm is good for: a number made of all that it was chosen by */
static uint64_t mixed(const Product *p, const Layout *a, const Layout *b, const Layout *c, const Layout *d) {
    const Layout *all[4] = {a, b, c, d};
    uint64_t made = (uint64_t)p->compute * 31 + p->turn_a * 7 + p->turn_b * 3 + p->epilogue;
    for (int k = 0; k < 4; k++) {
        uint64_t words[5] = {all[k]->rows, all[k]->columns, all[k]->step, all[k]->batches, all[k]->batch};
        for (int i = 0; i < 5; i++) made = (made ^ words[i]) * 1099511628211u;
    }
    return made;
}
API int cublasLtMatmulAlgoGetHeuristic(P handle, Product *p, Layout *a, Layout *b, Layout *c, Layout *d, Preference *w, int wanted, Heuristic *out, int *count) {
    int code = counted(HEURISTICS);
    *count = 0;
    if (code) return code;
    if (handle != (P)0xB1A5 || wanted < 1 || w->mark != PREFERENCE || w->reduction != (item(d) == 2 ? 2 : 7) || !agree(p, a, b, c, d)) return INVALID;
    if ((p->epilogue & BIAS) && ((uintptr_t)p->bias % 16 || p->bias == 0)) return INVALID;
    if (fake_refused == -1 || fake_refused == (long)p->epilogue) return NOT_SUPPORTED;
    if ((uint64_t)fake_workspace > w->workspace) return SUCCESS;
    memset(out, 0, sizeof *out);
    out->algorithm.data[0] = mixed(p, a, b, c, d);
    for (int k = 0; k < 4; k++) {
        uint32_t align = w->align[k];
        if (align == 0 || align > 256 || align & (align - 1)) return INVALID;
        out->algorithm.data[1 + k] = align;
    }
    out->algorithm.data[5] = fake_workspace;
    out->workspace = fake_workspace;
    *count = 1;
    return SUCCESS;
}

static char *seen(const char *p) { return (char *)p + (fake_size ? fake_shift : 0); }
static int there(const char *p) { return fake_size == 0 || ((long)p >= fake_base && (long)p < fake_base + fake_size); }
static double element(int type, const char *p, int64_t k) {
    if (type == R_64F) return ((double *)p)[k];
    if (type == R_32F) return ((float *)p)[k];
    if (type == R_16F) return ((_Float16 *)p)[k];
    uint32_t bits = (uint32_t)((uint16_t *)p)[k] << 16;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}
static void put_element(int type, char *p, int64_t k, double value) {
    if (type == R_64F) ((double *)p)[k] = value;
    else if (type == R_32F) ((float *)p)[k] = value;
    else if (type == R_16F) ((_Float16 *)p)[k] = value;
    else {
        float f = value;
        uint32_t bits;
        memcpy(&bits, &f, 4);
        ((uint16_t *)p)[k] = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16;
    }
}
static double get(const Layout *l, const char *p, int64_t row, int64_t column, int64_t batch) {
    return element(l->type, p, row + column * l->step + batch * l->batch);
}
static double narrow(double value) { /* TF32 keeps 10 bits of a fraction */
    float f = value;
    uint32_t bits;
    memcpy(&bits, &f, 4);
    bits = (bits + 0xFFF + (bits >> 13 & 1)) & 0xFFFFE000u;
    memcpy(&f, &bits, 4);
    return f;
}
API void fake_run(Job *j) {
    char *A = seen(j->A), *B = seen(j->B), *C = seen(j->C), *D = seen(j->D), *bias = seen(j->product.bias);
    uint64_t depth = j->product.turn_a ? j->a.rows : j->a.columns;
    if (j->bytes) memset(seen(j->workspace), 0xAB, j->bytes);
    for (int64_t t = 0; t < j->d.batches; t++)
        for (int64_t col = 0; col < (int64_t)j->d.columns; col++)
            for (int64_t row = 0; row < (int64_t)j->d.rows; row++) {
                double sum = 0;
                for (int64_t k = 0; k < (int64_t)depth; k++) {
                    double x = j->product.turn_a ? get(&j->a, A, k, row, t) : get(&j->a, A, row, k, t);
                    double y = j->product.turn_b ? get(&j->b, B, col, k, t) : get(&j->b, B, k, col, t);
                    sum += j->product.compute == FAST_TF32 ? narrow(x) * narrow(y) : x * y;
                }
                sum *= j->alpha;
                if (j->beta) sum += j->beta * get(&j->c, C, row, col, t);
                if (j->product.epilogue & BIAS) sum += element(j->d.type, bias, row);
                if (j->product.epilogue & RELU) sum = sum > 0 ? sum : 0;
                if (j->product.epilogue & GELU) sum = 0.5 * sum * (1 + tanh(0.7978845608028654 * (sum + 0.044715 * sum * sum * sum)));
                put_element(j->d.type, D, row + col * j->d.step + t * j->d.batch, sum);
            }
}
API int cublasLtMatmul(P handle, Product *p, const void *alpha, char *A, Layout *a, char *B, Layout *b, const void *beta, char *C, Layout *c, char *D, Layout *d,
                       const Algorithm *algorithm, char *workspace, size_t bytes, P stream) {
    int code = counted(MULTIPLIED);
    if (code) return code;
    if (handle != (P)0xB1A5 || !agree(p, a, b, c, d) || algorithm->data[0] != mixed(p, a, b, c, d)) return INVALID;
    if (algorithm->data[5] > bytes || (bytes && (workspace == 0 || (uintptr_t)workspace % 16 || !there(workspace)))) return INVALID;
    char *all[4] = {A, B, C, D};
    const Layout *layouts[4] = {a, b, c, d};
    for (int k = 0; k < 4; k++)
        if ((uintptr_t)all[k] % algorithm->data[1 + k] || (uintptr_t)all[k] % item(layouts[k]) || !there(all[k])) return INVALID;
    if ((p->epilogue & BIAS) && (!there(p->bias) || (uintptr_t)p->bias % 16)) return INVALID;
    if (C == D && memcmp(c, d, sizeof *c)) return INVALID; /* in place means in the same places */
    if (p->compute == FAST_TF32) counted(TF32);
    long last[20] = {d->columns, d->rows, p->turn_a ? a->rows : a->columns, p->turn_b, p->turn_a, b->step, a->step, c->step, d->step, d->batches,
                     b->batch, a->batch, p->epilogue, p->compute, C == D, (long)stream, bytes, algorithm->data[1], algorithm->data[2], (long)workspace};
    memcpy(fake_last, last, sizeof last);
    if (fake_nothing) return SUCCESS;
    Job *j = malloc(sizeof *j);
    *j = (Job){*p, *a, *b, *c, *d, A, B, C, D, workspace, bytes, 0, 0};
    j->alpha = p->scale == R_64F ? *(double *)alpha : *(float *)alpha;
    j->beta = p->scale == R_64F ? *(double *)beta : *(float *)beta;
    if (fake_enqueue) { /* the job is the caller's now */
        fake_enqueue(stream, j);
        return SUCCESS;
    }
    fake_run(j);
    free(j);
    return SUCCESS;
}
