#include "node/machine/accel.h"
#include "base/file.h"

#include <fcntl.h>
#include <time.h>

#define MEASURE_NS (20 * NS_PER_MS)
#define MEASURE_TRIES 5

/* Copies the value of the first line "key : value" of /proc/cpuinfo. */
static void
cpuinfo_value(const char *text, const char *key, char *out, size_t size)
{
    const char *line = strstr(text, key);
    const char *colon = line ? strchr(line, ':') : NULL;
    out[0] = '\0';
    if (!colon) {
        return;
    }
    colon += strspn(colon, ": \t");
    size_t len = strcspn(colon, "\n");
    snprintf(out, size, "%.*s", (int)MIN(len, size - 1), colon);
}

static bool
has_word(const char *text, const char *word)
{
    size_t len = strlen(word);
    for (const char *p = strstr(text, word); p; p = strstr(p + len, word)) {
        if (p > text && strchr(" \t", p[-1]) && strchr(" \n", p[len])) {
            return true;
        }
    }
    return false;
}

void
accel_judge(const char *cpuinfo, bool have_dev_kvm, struct accel *out)
{
    *out = (struct accel){0};
    cpuinfo_value(cpuinfo, "model name", out->cpu_model, sizeof out->cpu_model);
    bool flags = has_word(cpuinfo, "vmx") || has_word(cpuinfo, "svm");
    out->kvm = have_dev_kvm && flags;
    if (!have_dev_kvm) {
        snprintf(out->why, sizeof out->why, "there is no usable /dev/kvm");
    } else if (!flags) {
        snprintf(out->why, sizeof out->why,
                 "the processor shows neither vmx nor svm, without which /dev/kvm "
                 "cannot run stock kernels");
    }
}

#if defined(__x86_64__)

/* Clock and counter at one moment: the tightest pair of a few. */
static void
read_pair(int64_t *out_ns, uint64_t *out_ticks)
{
    int64_t tightest = INT64_MAX;
    for (int i = 0; i < MEASURE_TRIES; i++) {
        struct timespec a, b;
        (void)clock_gettime(CLOCK_MONOTONIC_RAW, &a);
        uint64_t ticks = __builtin_ia32_rdtsc();
        (void)clock_gettime(CLOCK_MONOTONIC_RAW, &b);
        int64_t took = (b.tv_sec - a.tv_sec) * NS_PER_S + b.tv_nsec - a.tv_nsec;
        if (took < tightest) {
            tightest = took;
            *out_ns = a.tv_sec * NS_PER_S + a.tv_nsec + took / 2;
            *out_ticks = ticks;
        }
    }
}

static int64_t
measure_tsc_khz(void)
{
    int64_t begin_ns, end_ns;
    uint64_t begin, end;
    read_pair(&begin_ns, &begin);
    (void)usleep((useconds_t)(MEASURE_NS / 1000));
    read_pair(&end_ns, &end);
    return (int64_t)((double)(end - begin) * 1e6 / (double)(end_ns - begin_ns));
}

#else

static int64_t
measure_tsc_khz(void)
{
    return 0;
}

#endif

void
accel_detect(struct accel *out)
{
    struct err err = {0};
    AUTO(free) char *text = NULL;
    bool read = file_read("/proc/cpuinfo", 8 * MIB, &text, NULL, &err);
    AUTO(fd) int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    accel_judge(read ? text : "", fd >= 0, out);
    out->host_vcpus = sysconf(_SC_NPROCESSORS_ONLN);
    out->tsc_khz = out->kvm ? 0 : measure_tsc_khz();
}
