/* sample.c - see sample.h. */
#include "node/meter/sample.h"
#include "base/file.h"

#include <dirent.h>

/* A small file of /proc; NULL: it went away. malloc'ed. */
static char *
read_proc(const char *path)
{
    struct err ignored = {0};
    char *text = NULL;
    return file_read(path, 8192, &text, NULL, &ignored) ? text : NULL;
}

static bool
is_vcpu(pid_t pid, int tid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/comm", (int)pid, tid);
    AUTO(free) char *name = read_proc(path);
    return name && str_starts(name, "CPU ") && strchr(name, '/');
}

static void
find_threads(struct vcpu_threads *t, pid_t pid)
{
    char path[40];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *dir = opendir(path);
    *t = (struct vcpu_threads){.pid = pid};
    for (struct dirent *e; dir && (e = readdir(dir)) && t->count < SAMPLE_VCPUS_MAX;) {
        int tid = atoi(e->d_name);
        if (tid > 0 && is_vcpu(pid, tid)) {
            t->tids[t->count++] = tid;
        }
    }
    if (dir) {
        closedir(dir);
    }
}

bool
sample_vcpus(struct vcpu_threads *t, pid_t pid, int64_t vcpus, struct vcpu_times *out)
{
    struct vcpu_times sum = {0};
    if (t->pid != pid || (int64_t)t->count < vcpus) {
        find_threads(t, pid);
    }
    for (size_t i = 0; i < t->count; i++) {
        char path[64];
        int64_t run, wait;
        snprintf(path, sizeof path, "/proc/%d/task/%d/schedstat", (int)pid,
                 (int)t->tids[i]);
        AUTO(free) char *text = read_proc(path);
        if (!text || sscanf(text, "%" SCNd64 " %" SCNd64, &run, &wait) != 2) {
            t->pid = 0; /* It is another process by now, or none. */
            return false;
        }
        sum.run_ns += run;
        sum.wait_ns += wait;
    }
    *out = sum;
    return t->count > 0;
}

static int64_t
meminfo(const char *text, const char *word)
{
    const char *line = text ? strstr(text, word) : NULL;
    return line ? strtoll(line + strlen(word), NULL, 10) * (int64_t)KIB : 0;
}

void
sample_host(struct relief_facts *out)
{
    AUTO(free) char *psi = read_proc("/proc/pressure/memory");
    AUTO(free) char *memory = read_proc("/proc/meminfo");
    *out = (struct relief_facts){
        .available_bytes = meminfo(memory, "MemAvailable:"),
        .total_bytes = meminfo(memory, "MemTotal:"),
    };
    /* A kernel without PSI: what is available has to do. */
    (void)(psi && psi_parse(psi, &out->memory));
}
