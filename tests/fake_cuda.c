/* A libcuda of our own, without a device: it gives memory of the host, remembers what it was asked for, and runs no kernel.
   What it can tell of the arguments it refuses as the driver does: with CUDA_ERROR_INVALID_VALUE.
   For tests of numbatensor/cuda/driver.py, and to measure what a launch costs the host: gcc -shared -fPIC -o libcuda.so.1 fake_cuda.c */
#define _GNU_SOURCE
#include <elf.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#define API __attribute__((visibility("default")))
typedef int R;
typedef void *P;
typedef struct { char name[40]; P code; } Entry;

API long fake_counts[16];  /* launches, allocations, frees, copies, fills, waits, loads, trims, records, stream waits, graphs, replays */
API long fake_fail_at, fake_fail_code;  /* the function, by its place in fake_counts, that fails next, and with what */
API int fake_fail_always, fake_version = 13000, fake_devices = 2, fake_major = 9, fake_minor = 0, fake_arch_step = 0;
API long fake_last_launch[8];
API long fake_context;  /* of the thread that called last */
static __thread P current;
static P capturing;
static int spoilt;
static uintptr_t handles = 0x1000;

static R counted(int k) {
    fake_counts[k]++;
    if (fake_fail_code && fake_fail_at == k) { R code = fake_fail_code; if (!fake_fail_always) fake_fail_code = 0; return code; }
    return 0;
}
/* the default stream is the current context's; what waits for a captured stream, or for all of them, ends the capture */
static R ready(P stream) { return stream == (P)1 && current == 0 ? 201 : 0; }
static R idle(P stream) {
    if (capturing && (stream == 0 || stream == capturing)) { spoilt = 1; return 900; }
    return stream ? ready(stream) : 0;
}
static R handle(P *out) { *out = (P)(handles += 64); return 0; }
static R fine(void) { return 0; }
static R init(unsigned flags) { return fake_version ? 0 : 100; }
static R version(int *v) { *v = fake_version; return 0; }
static R device_count(int *n) { *n = fake_devices; return 0; }
static R device(int *d, int k) { *d = k; return 0; }
static R attribute(int *v, int which, int d) {
    *v = which == 75 ? fake_major + d * fake_arch_step : which == 76 ? fake_minor : which == 16 ? 132 : which == 97 ? 232448 : 1;
    return 0;
}
static R name(char *out, int n, int d) { strncpy(out, "a stand-in", n); return 0; }
static R total(size_t *n, int d) { *n = (size_t)140 << 30; return 0; }
static R can_access(int *can, int a, int b) { *can = 1; return 0; }
static R retain(P *context, int d) { *context = (P)(intptr_t)(0x100 + d); return 0; }
static R set_current(P context) { current = context; fake_context = (long)context; return 0; }
static R get_current(P *context) { *context = current; return 0; }
/* of the device's own memory, which no other process shares */
static R pool_create(P *pool, const int *wanted) {
    for (int k = 4; k < 22; k++) if (wanted[k]) return 1;
    return wanted[0] == 1 && wanted[1] == 0 && wanted[2] == 1 && wanted[3] >= 0 && wanted[3] < fake_devices ? handle(pool) : 1;
}
static R pool_set(P pool, int which, const uint64_t *value) { return pool && which == 4 && *value == UINT64_MAX ? 0 : 1; }
static R pool_access(P pool, const int *access, size_t n) { return pool && n == 1 && access[0] == 1 && access[1] < fake_devices && access[2] == 3 ? 0 : 1; }
static R pool_get(P pool, int which, uint64_t *value) { *value = 1 << 21; return 0; }
static R trim(P pool, size_t n) { return counted(7); }
static R allocate(P *out, size_t n, P pool, P stream) {
    R code = ready(stream);
    if (code == 0) code = counted(1);
    if (code == 0) *out = aligned_alloc(256, (n + 255) / 256 * 256);
    return code;
}
static R release(P data, P stream) { R code = ready(stream); if (code) return code; code = counted(2); free(data); return code; }
static R copy(P to, P from, size_t n, P stream) { R code = ready(stream); if (code == 0) code = counted(3); if (code == 0) memcpy(to, from, n); return code; }
static R fill(P to, unsigned char value, size_t n, P stream) { R code = ready(stream); if (code == 0) code = counted(4); if (code == 0) memset(to, value, n); return code; }
static R synchronize(P stream) { R code = idle(stream); return code ? code : counted(5); }
static R synchronize_all(void) { return idle(0); }
/* a library is a copy of its code; a kernel has to be in it by its name */
typedef struct { size_t size; char code[]; } Library;
static R load(P *library, const char *code, P a, P b, unsigned c, P d, P e, unsigned f) {
    const Elf64_Ehdr *head = (const Elf64_Ehdr *)code;
    int elf = !memcmp(code, ELFMAG, SELFMAG);
    if (c || f || (elf ? head->e_machine != 190 : !strstr(code, ".version"))) return 200;
    size_t size = elf ? head->e_shoff + (size_t)head->e_shnum * head->e_shentsize : strlen(code);
    Library *made = malloc(sizeof *made + size);
    made->size = size;
    memcpy(made->code, code, size);
    *library = made;
    return counted(6);
}
static R get_kernel(P *kernel, Library *library, const char *entry) {
    return memmem(library->code, library->size, entry, strlen(entry)) ? handle(kernel) : 500;
}
static R kernel_attribute(int *v, int which, P kernel, int d) { *v = 1024; return which == 1 ? 0 : 1; }
static R set_kernel_attribute(int which, int v, P kernel, int d) { return which == 8 && v == 232448 - 1024 && d < fake_devices ? 0 : 1; }
static R launch(P kernel, unsigned x, unsigned y, unsigned z, unsigned tx, unsigned ty, unsigned tz, unsigned shared, P stream, P *args, P *extra) {
    long seen[8] = {(long)kernel, x, y, tx, shared, (long)stream, *(long *)args[0], (long)current};
    memcpy(fake_last_launch, seen, sizeof seen);
    if (!x || !y || y > 65535 || z != 1 || !tx || tx > 1024 || ty != 1 || tz != 1 || shared > 232448 - 1024 || extra) return 1;
    return ready(stream) ? 201 : counted(0);
}
static R event_create(P *event, unsigned flags) { return flags & ~2u ? 1 : handle(event); }
static R record(P event, P stream) { R code = idle(stream); return code ? code : counted(8); }
static R stream_wait(P stream, P event, unsigned flags) { return counted(9); }
static R elapsed(float *ms, P a, P b) { *ms = 1.5f; return 0; }
static R stream_create(P *stream, unsigned flags, int priority) { return flags == 1 && priority <= 0 && priority >= -5 ? handle(stream) : 1; }
static R begin_capture(P stream, int mode) { if (mode != 2 || stream == (P)1) return 900; capturing = stream; spoilt = 0; return 0; }
static R end_capture(P stream, P *graph) { capturing = 0; counted(10); return spoilt ? 901 : handle(graph); }
static R instantiate(P *exec, P graph, unsigned long long flags) { return handle(exec); }
static R graph_launch(P exec, P stream) { return counted(11); }
static R error_name(int code, const char **out) { *out = code == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : code == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_OTHER"; return 0; }
static R error_text(int code, const char **out) { *out = code == 700 ? "an illegal memory access was encountered" : "something went wrong"; return 0; }

static R context_device(int *d) { *d = current ? (int)(intptr_t)current - 0x100 : 0; return current ? 0 : 201; }
static R push(P context) { current = context; return 0; }
static R pop(P *context) { *context = current; return 0; }
static R same(P *function, P kernel) { *function = kernel; return 0; }
static R blocks(int *n, P function, int threads, size_t shared) { *n = 2; return 0; }

API R cuGetProcAddress_v2(const char *wanted, P *out, int cuda, uint64_t flags, int *status);
static const Entry table[] = {
    {"cuInit", init}, {"cuDriverGetVersion", version}, {"cuDeviceGetCount", device_count}, {"cuDeviceGet", device},
    {"cuDeviceGetAttribute", attribute}, {"cuDeviceGetName", name}, {"cuDeviceTotalMem", total}, {"cuDeviceCanAccessPeer", can_access},
    {"cuDevicePrimaryCtxRetain", retain}, {"cuCtxSetCurrent", set_current}, {"cuCtxGetCurrent", get_current}, {"cuCtxSynchronize", synchronize_all},
    {"cuMemPoolCreate", pool_create}, {"cuMemPoolSetAttribute", pool_set}, {"cuMemPoolGetAttribute", pool_get}, {"cuMemPoolSetAccess", pool_access},
    {"cuMemPoolTrimTo", trim}, {"cuMemAllocFromPoolAsync", allocate}, {"cuMemFreeAsync", release}, {"cuMemcpyAsync", copy},
    {"cuMemsetD8Async", fill}, {"cuStreamSynchronize", synchronize}, {"cuStreamQuery", fine}, {"cuStreamCreateWithPriority", stream_create},
    {"cuLibraryLoadData", load}, {"cuLibraryGetKernel", get_kernel}, {"cuKernelGetAttribute", kernel_attribute}, {"cuKernelSetAttribute", set_kernel_attribute},
    {"cuLaunchKernel", launch}, {"cuEventCreate", event_create}, {"cuEventRecord", record}, {"cuEventQuery", fine}, {"cuEventSynchronize", fine},
    {"cuEventElapsedTime", elapsed}, {"cuEventDestroy", fine}, {"cuStreamWaitEvent", stream_wait}, {"cuStreamBeginCapture", begin_capture},
    {"cuStreamEndCapture", end_capture}, {"cuGraphInstantiate", instantiate}, {"cuGraphInstantiateWithFlags", instantiate},
    {"cuGraphDestroy", fine}, {"cuGraphLaunch", graph_launch}, {"cuGraphExecDestroy", fine}, {"cuGetErrorName", error_name},
    {"cuGetErrorString", error_text}, {"cuCtxGetDevice", context_device}, {"cuLibraryUnload", fine}, {"cuKernelGetFunction", same},
    {"cuGetProcAddress", cuGetProcAddress_v2}, {"cuGetProcAddress_v2", cuGetProcAddress_v2},
};
API R cuGetProcAddress_v2(const char *wanted, P *out, int cuda, uint64_t flags, int *status) {
    if (status) *status = 0;
    *out = 0;
    for (unsigned k = 0; k < sizeof table / sizeof *table; k++)
        if (!strcmp(table[k].name, wanted)) *out = table[k].code;
    return 0;
}
API R cuGetProcAddress(const char *wanted, P *out, int cuda, uint64_t flags) { return cuGetProcAddress_v2(wanted, out, cuda, flags, 0); }
API R cuInit(unsigned flags) { return init(flags); }
API R cuDriverGetVersion(int *v) { return version(v); }

/* What CUB asks for (the package cuda-cccl) is linked by name. */
typedef struct { unsigned x, y, z, tx, ty, tz, shared; P stream; } Config;
API R cuCtxGetCurrent(P *context) { return get_current(context); }
API R cuCtxGetDevice(int *d) { return context_device(d); }
API R cuCtxPushCurrent_v2(P context) { return push(context); }
API R cuCtxPopCurrent_v2(P *context) { return pop(context); }
API R cuDeviceGet(int *d, int k) { return device(d, k); }
API R cuDeviceGetAttribute(int *v, int which, int d) { return attribute(v, which, d); }
API R cuDevicePrimaryCtxRetain(P *context, int d) { return retain(context, d); }
API R cuFuncGetAttribute(int *v, int which, P function) { *v = 1024; return 0; }
API R cuFuncSetAttribute(P function, int which, int v) { return 0; }
API R cuGetErrorString(int code, const char **out) { return error_text(code, out); }
API R cuKernelGetFunction(P *function, P kernel) { return same(function, kernel); }
API R cuLaunchKernel(P kernel, unsigned x, unsigned y, unsigned z, unsigned tx, unsigned ty, unsigned tz, unsigned shared, P stream, P *args, P *extra) {
    return launch(kernel, x, y, z, tx, ty, tz, shared, stream, args, extra);
}
API R cuLaunchKernelEx(const Config *c, P kernel, P *args, P *extra) {
    return launch(kernel, c->x, c->y, c->z, c->tx, c->ty, c->tz, c->shared, c->stream, args, extra);
}
API R cuLibraryGetKernel(P *kernel, P library, const char *name) { return get_kernel(kernel, library, name); }
API R cuLibraryLoadData(P *library, const void *code, P a, P b, unsigned c, P d, P e, unsigned f) { return load(library, code, a, b, c, d, e, f); }
API R cuLibraryUnload(P library) { return 0; }
API R cuMemcpyAsync(P to, P from, size_t n, P stream) { return copy(to, from, n, stream); }
API R cuMemsetD8Async(P to, unsigned char value, size_t n, P stream) { return fill(to, value, n, stream); }
API R cuOccupancyMaxActiveBlocksPerMultiprocessor(int *n, P function, int threads, size_t shared) { return blocks(n, function, threads, shared); }
