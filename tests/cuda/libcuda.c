/* A stand-in for NVIDIA's driver (libcuda.so.1) with a GPU for each node /dev/nvidia0, nvidia1, … that opens.

   It knows one kernel, "square", and computes it itself: for tests of what a command is given and calls,
   not of GPUs. Built by: cc -Os -s -fPIC -shared -nostartfiles -fno-asynchronous-unwind-tables \
   -Wl,-soname,libcuda.so.1 -Wl,-z,norelro -Wl,-z,max-page-size=4096 -Wl,-z,noseparate-code -Wl,--build-id=none \
   -o libcuda.so.1 libcuda.c

   FAKE_CUDA_DEV: another folder than /dev; FAKE_CUDA_FAIL: the code that cuInit gives; FAKE_CUDA_HANG: it
   never comes back; FAKE_CUDA_CRASH: it ends the process. */

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, INVALID = 1, NO_DEVICE = 100, BAD_DEVICE = 101, BAD_IMAGE = 200, NOT_FOUND = 500, MOST = 8 };

static int minors[MOST], count;

static int opens(const char *name) {
    const char *folder = getenv("FAKE_CUDA_DEV");
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder ? folder : "/dev", name);
    int file = open(path, O_RDWR);
    if (file >= 0) close(file);
    return file >= 0;
}

static int is_visible(int ordinal) {
    const char *list = getenv("CUDA_VISIBLE_DEVICES");
    if (!list) return 1;
    for (; *list; list++)
        if (*list == '0' + ordinal) return 1;
    return 0;
}

int cuInit(unsigned flags) {
    if (getenv("FAKE_CUDA_HANG")) for (;;) pause();
    if (getenv("FAKE_CUDA_CRASH")) abort();
    const char *fail = getenv("FAKE_CUDA_FAIL");
    if (fail) return atoi(fail);
    if (flags) return INVALID;
    if (!opens("nvidiactl") || !opens("nvidia-uvm")) return NO_DEVICE;
    int ordinal = count = 0;
    for (int minor = 0; minor < MOST; minor++) {
        char name[32];
        snprintf(name, sizeof name, "nvidia%d", minor);
        if (opens(name) && is_visible(ordinal++)) minors[count++] = minor;
    }
    return count ? OK : NO_DEVICE;
}

int cuGetErrorString(int code, const char **said) {
    *said = code == NO_DEVICE ? "no CUDA-capable device is detected" : "an error of the stand-in";
    return OK;
}

int cuDeviceGetCount(int *found) { *found = count; return OK; }

int cuDeviceGet(int *device, int ordinal) {
    if (ordinal < 0 || ordinal >= count) return BAD_DEVICE;
    *device = ordinal;
    return OK;
}

int cuDeviceGetAttribute(int *value, int which, int device) {
    int is_old = minors[device] == 2;
    *value = which == 75 ? (is_old ? 8 : 9) : which == 76 ? (is_old ? 6 : 0) : -1;
    return OK;
}

int cuDeviceGetName(char *name, int length, int device) {
    snprintf(name, length, "Stand-in %d", minors[device]);
    return OK;
}

int cuDeviceGetPCIBusId(char *bus, int length, int device) {
    snprintf(bus, length, "0000:%02X:00.0", 0xA0 + minors[device]);
    return OK;
}

int cuDeviceGetUuid(unsigned char *uuid, int device) {
    memset(uuid, 0xAB, 16);
    uuid[15] = minors[device];
    return OK;
}

int cuDevicePrimaryCtxRetain(void **context, int device) {
    if (device < 0 || device >= count) return BAD_DEVICE;
    *context = &minors[device];
    return OK;
}

int cuCtxSetCurrent(void *context) { return context ? OK : INVALID; }

int cuCtxSynchronize(void) { return OK; }

int cuModuleLoadData(void **module, const char *text) {
    if (!strstr(text, ".version ") || !strstr(text, ".target sm_")) return BAD_IMAGE;
    *module = (void *)text;
    return OK;
}

int cuModuleGetFunction(void **function, void *module, const char *name) {
    char entry[64];
    snprintf(entry, sizeof entry, ".entry %s(", name);
    if (strcmp(name, "square") || !strstr(module, entry)) return NOT_FOUND;
    *function = &count;
    return OK;
}

int cuMemAlloc_v2(uint64_t *there, size_t size) { *there = (uintptr_t)malloc(size); return OK; }
int cuMemFree_v2(uint64_t there) { free((void *)(uintptr_t)there); return OK; }

int cuMemcpyHtoD_v2(uint64_t there, const void *here, size_t size) {
    memcpy((void *)(uintptr_t)there, here, size);
    return OK;
}

int cuMemcpyDtoH_v2(void *here, uint64_t there, size_t size) {
    memcpy(here, (void *)(uintptr_t)there, size);
    return OK;
}

int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void *stream, void **parameters, void **extra) {
    if (function != &count || gy != 1 || gz != 1 || by != 1 || bz != 1 || shared || stream || extra) return INVALID;
    int64_t *values = (int64_t *)(uintptr_t)*(uint64_t *)parameters[0];
    uint32_t most = *(uint32_t *)parameters[1];
    for (uint64_t index = 0; index < (uint64_t)gx * bx && index < most; index++) values[index] *= values[index];
    return OK;
}
