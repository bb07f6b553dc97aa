#include "base/file.h"
#include "base/log.h"
#include "link/overhead.h"
#include "node/machine/machine_impl.h"
#include "node/machine/numa.h"
#include "node/machine/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#define OVMF_CODE "/usr/share/OVMF/OVMF_CODE_4M.fd"
#define OVMF_VARS "/usr/share/OVMF/OVMF_VARS_4M.fd"
#define FDS_MAX (QEMU_DISKS_MAX * 2 + QEMU_NICS_MAX + 8)

/* One start under way: filled on the loop's thread, worked on by a worker, finished on
 * the loop's thread. The worker touches nothing but this. */
struct start {
    uv_work_t work;
    struct machine *machine; /* NULL once nobody waits for it. */
    struct arena *arena;
    struct qemu_spec spec;
    int fds[FDS_MAX]; /* All that QEMU gets; 3, 4, ... in it. */
    size_t fd_count;
    struct accel accel;
    struct cgroup_host cgroups;
    struct cgroup_limits limits;
    uint32_t uid;
    cpu_set_t cpus; /* Of its NUMA node, where 'spec.numa' is one. */
    int lease_fd;   /* The namespace that ends with the node's lease; -1: not in one. */
    struct jail_bind devices[QEMU_NICS_MAX]; /* Of the host's that it is handed... */
    int groups[QEMU_NICS_MAX];               /* ...and their IOMMU groups. */
    size_t device_count;
    const char *dir, *jail_dir, *id;
    struct console *console; /* Its paths only. */
    bool ok;
    struct jail_process process;
    struct err err;
};

static void
start_destroy(struct start *s)
{
    for (size_t i = 0; i < s->fd_count; i++) {
        close(s->fds[i]);
    }
    if (s->lease_fd >= 0) {
        close(s->lease_fd);
    }
    arena_destroy(s->arena);
    free(s);
}

/* Takes 'fd'; returns the number under which QEMU will know it. */
static int
give(struct start *s, int fd)
{
    s->fds[s->fd_count++] = fd;
    return 3 + (int)s->fd_count - 1;
}

/* ---- on the loop's thread: what the rest of the node hands in -------------------- */

static bool
gather_disks(struct start *s, const struct link_machine *want,
             const struct machine_host *host, struct err *err)
{
    for (size_t i = 0; i < want->disks.count; i++) {
        const struct link_machine_disk *d = &want->disks.items[i];
        struct machine_disk_files files;
        if (s->spec.disk_count >= QEMU_DISKS_MAX) {
            return err_set(err, ERR_RANGE, "too many disks");
        }
        if (!host->disk_open(host->ctx, d->disk_id, s->arena, &files, err)) {
            return err_wrap(err, "disk %s", d->disk_id);
        }
        s->spec.disks[s->spec.disk_count++] = (struct qemu_disk){
            .id = arena_strdup(s->arena, d->disk_id),
            .fd = give(s, files.fd),
            .base_fd = files.base_fd >= 0 ? give(s, files.base_fd) : -1,
            .base_format = files.base_format,
            .read_only = files.read_only,
            .boot_index = d->boot_index,
        };
    }
    return true;
}

/* QEMU reads in sysfs which group the device is of, and no more. */
static void
hand_device(struct start *s, const struct machine_port_tap *tap)
{
    const char *path = arena_printf(s->arena, "/sys/bus/pci/devices/%s", tap->pci);
    s->groups[s->device_count] = tap->group;
    s->devices[s->device_count++] = (struct jail_bind){.from = path, .to = path};
}

static bool
gather_nics(struct start *s, struct machine *m, const struct link_machine *want,
            const struct machine_host *host, struct err *err)
{
    machine_cards_reset(m);
    for (size_t i = 0; i < want->port_ids.count; i++) {
        struct machine_port_tap tap;
        if (s->spec.nic_count >= QEMU_NICS_MAX) {
            return err_set(err, ERR_RANGE, "too many network cards");
        }
        if (!host->port_open(host->ctx, want->port_ids.items[i], s->arena, &tap, err)) {
            return err_wrap(err, "port %s", want->port_ids.items[i]);
        }
        int fd = tap.pci ? -1 : give(s, tap.fd);
        if (tap.pci) {
            hand_device(s, &tap);
        }
        int slot = machine_cards_place(m, want->port_ids.items[i], tap.device_index);
        s->spec.nics[s->spec.nic_count++] = (struct qemu_nic){
            .id = arena_strdup(s->arena, want->port_ids.items[i]),
            .mac = tap.mac,
            .mtu = tap.mtu,
            .fd = fd,
            .pci = tap.pci,
            .slot = (unsigned)slot,
        };
    }
    m->cards_known = true;
    return true;
}

static bool
gather_kernel(struct start *s, const struct link_machine *want,
              const struct machine_host *host, struct err *err)
{
    int fd;
    s->spec.initrd_fd = -1;
    if (str_eq(want->firmware, "uefi")) {
        s->spec.firmware = QEMU_UEFI;
        return true;
    }
    if (!str_eq(want->firmware, "direct")) {
        s->spec.firmware = QEMU_BIOS;
        return true;
    }
    s->spec.firmware = QEMU_DIRECT;
    if (!host->blob_open(host->ctx, want->kernel_blob, &fd, err)) {
        return err_wrap(err, "kernel %s", want->kernel_blob);
    }
    s->spec.kernel_fd = give(s, fd);
    if (!str_empty(want->initrd_blob)) {
        if (!host->blob_open(host->ctx, want->initrd_blob, &fd, err)) {
            return err_wrap(err, "initial RAM disk %s", want->initrd_blob);
        }
        s->spec.initrd_fd = give(s, fd);
    }
    return true;
}

static void
gather_texts(struct start *s, const struct link_machine *want)
{
    struct arena *a = s->arena;
    s->spec.id = s->id;
    s->spec.vcpus = want->vcpus;
    s->spec.memory_bytes = want->memory_bytes;
    s->spec.merge = want->merge;
    s->spec.uuid = arena_strdup(a, want->uuid);
    s->spec.manufacturer = arena_strdup(a, want->manufacturer);
    s->spec.product = arena_strdup(a, want->product);
    s->spec.asset_tag = arena_strdup(a, want->asset_tag);
    s->spec.cmdline = arena_strdup(a, want->cmdline);
    s->spec.machine_type = arena_strdup(a, want->machine_type);
    s->spec.cpu_model = arena_strdup(a, want->cpu_model);
}

static bool
gather(struct start *s, struct machine *m, struct err *err)
{
    const struct machine_host *host = &m->set->config.host;
    const struct link_machine *want = m->want;
    int64_t weight = want->cpu_weight > 0 ? want->cpu_weight : want->vcpus * 100;
    s->limits = (struct cgroup_limits){
        .memory_bytes = want->memory_bytes +
                        overhead_bytes(s->accel.kvm, want->memory_bytes, want->vcpus),
        .cpu_weight = MAX(1, MIN(weight, 10000)),
        .processes = 128 + want->vcpus,
    };
    gather_texts(s, want);
    if (want->leased && !host->lease_enter(host->ctx, &s->lease_fd, err)) {
        return false;
    }
    return gather_kernel(s, want, host, err) && gather_disks(s, want, host, err) &&
           gather_nics(s, m, want, host, err);
}

/* ---- on a worker: files, cgroup, process ----------------------------------------- */

static bool
copy_file(const char *from, const char *to, struct err *err)
{
    AUTO(free) char *data = NULL;
    size_t len;
    return file_read(from, 16 * MIB, &data, &len, err) &&
           file_write(to, data, len, 0600, err);
}

static bool
open_uefi(struct start *s, struct err *err)
{
    char path[512];
    snprintf(path, sizeof path, "%s/vars.fd", s->dir);
    if (!file_exists(path) && !copy_file(OVMF_VARS, path, err)) {
        return false;
    }
    int code = open(OVMF_CODE, O_RDONLY | O_CLOEXEC);
    if (code < 0) {
        return err_sys(err, errno, "open %s (package ovmf)", OVMF_CODE);
    }
    s->spec.code_fd = give(s, code);
    int vars = open(path, O_RDWR | O_CLOEXEC);
    if (vars < 0) {
        return err_sys(err, errno, "open %s", path);
    }
    s->spec.vars_fd = give(s, vars);
    return true;
}

static bool
listen_at(struct start *s, const char *name, int *out_number, struct err *err)
{
    char path[512];
    int fd;
    snprintf(path, sizeof path, "%s/%s", s->dir, name);
    if (!sock_listen(path, &fd, err)) {
        return false;
    }
    *out_number = give(s, fd);
    return true;
}

static bool
open_files(struct start *s, struct err *err)
{
    int log;
    if (!dir_make(s->dir, 0700, err) || !dir_make(s->jail_dir, 0755, err) ||
        !console_compact(s->console, err) || !console_open_log(s->console, &log, err)) {
        return false;
    }
    s->spec.console_fd = give(s, log);
    return listen_at(s, "qmp.sock", &s->spec.qmp_fd, err) &&
           listen_at(s, "console.sock", &s->spec.serial_fd, err) &&
           (s->spec.firmware != QEMU_UEFI || open_uefi(s, err));
}

static bool
run(struct start *s, struct err *err)
{
    const char *const *argv;
    char path[512];
    int joins[CGROUP_ROOTS_MAX];
    size_t join_count = 0;
    if (!open_files(s, err) || !qemu_args(&s->spec, &s->accel, s->arena, &argv, err) ||
        !cgroup_make(&s->cgroups, s->id, &s->limits, err)) {
        return false;
    }
    snprintf(path, sizeof path, "%s/qemu.log", s->dir);
    AUTO(fd)
    int log = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
    if (log < 0) {
        return err_sys(err, errno, "open %s", path);
    }
    if (!cgroup_join_fds(&s->cgroups, s->id, joins, &join_count, err)) {
        return false;
    }
    struct jail_spec jail = {
        .argv = argv,
        .uid = s->uid,
        .gid = s->uid,
        .fds = s->fds,
        .fd_count = s->fd_count,
        .log_fd = log,
        .out_fd = -1,
        .cgroup_fds = joins,
        .cgroup_fd_count = join_count,
        .root = s->jail_dir,
        .pid_ns_fd = s->lease_fd,
        .cpus = s->spec.numa ? &s->cpus : NULL,
        .kvm = s->accel.kvm,
        .binds = s->devices,
        .bind_count = s->device_count,
        .vfio_groups = s->groups,
        .vfio_count = s->device_count,
        /* The device writes to all of the guest's memory, which stays where it is. */
        .max_locked_bytes =
            s->device_count > 0 ? s->limits.memory_bytes + (int64_t)GIB : 0,
        .max_files = 1024,
        .max_processes = s->limits.processes,
    };
    bool ok = jail_start(&jail, &s->process, err);
    for (size_t i = 0; i < join_count; i++) {
        close(joins[i]);
    }
    return ok;
}

static void
work(uv_work_t *w)
{
    struct start *s = CONTAINER_OF(w, struct start, work);
    s->ok = run(s, &s->err);
}

/* ---- on the loop's thread again -------------------------------------------------- */

static void
after_work(uv_work_t *w, int status UNUSED)
{
    struct start *s = CONTAINER_OF(w, struct start, work);
    struct machine *m = s->machine;
    if (m) {
        m->start = NULL;
        m->process = PROCESS_NONE;
        if (s->ok) {
            machine_up(m, s->process.pid, s->process.pidfd);
        } else {
            machine_start_failed(m, &s->err);
        }
        machine_changed(m);
    } else if (s->ok) {
        close(s->process.pidfd); /* The next agent adopts it. */
    }
    start_destroy(s); /* Our copies of the disks go: their locks are QEMU's alone. */
}

/* What guests that run here, or are about to, were promised of each node. */
static void
add_loads(const struct machines *set, const struct machine *but, struct numa_load *out,
          size_t count)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(set->map, &it, &id, &value);) {
        const struct machine *m = value;
        if (m != but && m->want && m->process != PROCESS_NONE && m->record.numa >= 0 &&
            m->record.numa < (int64_t)count) {
            out[m->record.numa].vcpus += m->want->vcpus;
            out[m->record.numa].memory_bytes += m->want->memory_bytes;
        }
    }
}

/* Keeps it on one NUMA node, where the host has several and it fits on one. */
static void
choose_numa(struct start *s, struct machine *m)
{
    const struct link_hardware *hw = m->set->config.hardware;
    m->record.numa = -1;
    if (!hw || hw->numa.count < 2) {
        return;
    }
    struct numa_load *loads = ARENA_ARRAY(s->arena, hw->numa.count, struct numa_load);
    const struct numa_load want = {m->want->vcpus, m->want->memory_bytes};
    add_loads(m->set, m, loads, hw->numa.count);
    int chosen = numa_choose(hw->numa.items, loads, hw->numa.count, &want);
    if (chosen >= 0 && numa_cpus(hw->numa.items[chosen].cpus, &s->cpus)) {
        m->record.numa = chosen;
        s->spec.numa = &hw->numa.items[chosen];
        log_info("machine %s: on NUMA node %" PRId64, m->id, s->spec.numa->number);
    }
}

static void
note_word(char *out, size_t size, const char *word)
{
    (void)snprintf(out, size, "%s", word ? word : "");
}

void
machine_start(struct machine *m)
{
    struct machines *set = m->set;
    struct start *s = xcalloc(1, sizeof *s);
    struct err err = {0};
    s->arena = arena_create();
    s->machine = m;
    s->lease_fd = -1;
    s->accel = set->config.accel;
    s->cgroups = set->cgroups;
    s->uid = set->uid_base + (uint32_t)m->record.uid_index;
    s->id = arena_strdup(s->arena, m->id);
    s->dir = arena_strdup(s->arena, m->dir);
    s->jail_dir = arena_strdup(s->arena, set->jail_dir);
    s->console = m->console;
    if (!gather(s, m, &err)) {
        machine_start_failed(m, &err);
        start_destroy(s);
        return;
    }
    log_info("machine %s: start, generation %" PRId64, m->id, m->want->generation);
    choose_numa(s, m);
    m->record.reboots_done = m->want->reboot_count;
    m->record.halted_generation = -1;
    m->record.leased = m->want->leased;
    note_word(m->record.machine_type, sizeof m->record.machine_type,
              m->want->machine_type);
    note_word(m->record.cpu_model, sizeof m->record.cpu_model, m->want->cpu_model);
    s->spec.incoming = machine_is_arriving(m);
    if (s->spec.incoming) {
        snprintf(m->record.tried, sizeof m->record.tried, "%s", m->want->incoming);
    }
    m->record.started_at_ns = clock_real(set->config.clock);
    m->record.reason[0] = m->record.message[0] = '\0';
    m->record.left_line = m->record.left_other = 0;
    machine_save(m);
    m->stop_began_ns = m->asked_ns = m->quit_ns = 0;
    m->process = PROCESS_STARTING;
    m->start = s;
    int rc = uv_queue_work(set->config.loop, &s->work, work, after_work);
    if (rc < 0) {
        m->start = NULL;
        m->process = PROCESS_NONE;
        err_sys(&err, -rc, "queue work");
        machine_start_failed(m, &err);
        start_destroy(s);
    }
}

void
machine_start_wait(struct machine *m)
{
    while (m->start) {
        (void)uv_run(m->set->config.loop, UV_RUN_ONCE);
    }
}
