#include "cli/doctor.h"
#include "base/file.h"
#include "base/hostnet.h"
#include "base/jsonio.h"
#include "base/vfio.h"
#include "cli/grid.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/timex.h>
#include <sys/un.h>
#include <sys/wait.h>

#define MEMORY_WANTED (2 * GIB)
#define DISK_WANTED (4 * GIB)

enum finding { GOOD, WARN, BAD };

struct doctor {
    struct cli *cli;
    bool ok;
};

static void say(struct doctor *d, enum finding f, const char *what, const char *fmt,
                ...) PRINTF_LIKE(4, 5);

static void
say(struct doctor *d, enum finding f, const char *what, const char *fmt, ...)
{
    static const char *const marks[] = {"ok", "note", "LACKS"};
    char text[400];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    printf("%-6s %-16s %s\n", marks[f], what, text);
    d->ok = d->ok && f != BAD;
}

/* ---- programs -------------------------------------------------------------------- */

static bool
in_path(struct cli *cli, const char *program)
{
    const char *path = getenv("PATH");
    AUTO(free)
    char *dirs =
        xasprintf("%s:/usr/sbin:/sbin:/usr/lib/qemu", path ? path : "/usr/bin");
    char *save = NULL;
    for (char *dir = strtok_r(dirs, ":", &save); dir;
         dir = strtok_r(NULL, ":", &save)) {
        if (access(arena_printf(cli->arena, "%s/%s", dir, program), X_OK) == 0) {
            return true;
        }
    }
    return false;
}

static void
check_programs(struct doctor *d)
{
    static const struct {
        const char *program, *package, *what_for;
        bool needed;
    } programs[] = {
        {"qemu-system-x86_64", "qemu-system-x86", "runs guests", true},
        {"qemu-img", "qemu-utils", "makes disks", true},
        {"dnsmasq", "dnsmasq-base", "gives guests addresses", true},
        {"ssh", "openssh-client", "'moln ssh'", true},
        {"mke2fs", "e2fsprogs", "builds images", true},
        {"cpio", "cpio", "builds the image micro", true},
        {"busybox", "busybox-static", "builds the image micro", true},
        {"dropbearkey", "dropbear-bin", "builds the image micro", true},
        {"aws", "awscli", "'moln aws'", false},
        {"debootstrap", "debootstrap", "builds the image debian-12", false},
        {"mcopy", "mtools", "builds the image debian-12", false},
        {"mkfs.vfat", "dosfstools", "builds the image debian-12", false},
        {"sfdisk", "fdisk", "builds the image debian-12", false},
    };
    bool all = true;
    for (size_t i = 0; i < ARRAY_LEN(programs); i++) {
        if (!in_path(d->cli, programs[i].program)) {
            all = false;
            say(d, programs[i].needed ? BAD : WARN, programs[i].program,
                "%s: apt-get install %s", programs[i].what_for, programs[i].package);
        }
    }
    if (all) {
        say(d, GOOD, "programs", "all there");
    }
}

/* ---- processor ------------------------------------------------------------------- */

static void
check_processor(struct doctor *d)
{
    AUTO(free) char *info = NULL;
    struct err ignored = {0};
    bool flags = file_read("/proc/cpuinfo", 16 * MIB, &info, NULL, &ignored) &&
                 (strstr(info, " vmx") || strstr(info, " svm"));
    bool device = access("/dev/kvm", F_OK) == 0;
    if (flags && device) {
        say(d, GOOD, "virtualization", "KVM");
    } else if (device) {
        say(d, WARN, "virtualization",
            "software emulation: /dev/kvm is there, but the processor shows neither "
            "vmx "
            "nor svm (inside a virtual machine: turn on nested virtualization)");
    } else if (flags) {
        say(d, WARN, "virtualization",
            "software emulation: the processor could, but there is no /dev/kvm "
            "(modprobe kvm_intel or kvm_amd)");
    } else {
        say(d, WARN, "virtualization",
            "software emulation: guests run, about ten times slower than with KVM");
    }
}

/* ---- kernel ---------------------------------------------------------------------- */

/* Runs 'try' in a child with namespaces of its own, so that nothing of it stays. Its
 * errno, or 0. */
static int
try_apart(int (*attempt)(void))
{
    pid_t child = fork();
    if (child == 0) {
        _exit(unshare(CLONE_NEWNET) != 0 ? errno : attempt());
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child) {
        return errno;
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
}

static int
try_nothing(void)
{
    return 0;
}

static int
try_tun(void)
{
    struct ifreq req = {.ifr_flags = IFF_TAP | IFF_NO_PI};
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    return fd < 0 || ioctl(fd, TUNSETIFF, &req) != 0 ? errno : 0;
}

static int
try_bridge(void)
{
    char name[IFNAMSIZ] = "doctor0";
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd < 0 || ioctl(fd, SIOCBRADDBR, name) != 0 ? errno : 0;
}

static int
try_nftables(void)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_NETFILTER);
    return fd < 0 ? errno : 0;
}

static void
check_kernel(struct doctor *d)
{
    static const struct {
        const char *what;
        int (*attempt)(void);
        const char *how;
    } features[] = {
        {"namespaces", try_nothing, "a kernel with CONFIG_NET_NS"},
        {"tap devices", try_tun, "modprobe tun"},
        {"bridges", try_bridge, "modprobe bridge"},
        {"nftables", try_nftables, "modprobe nf_tables"},
    };
    if (geteuid() != 0) {
        say(d, WARN, "kernel", "not looked at: be root for that ('sudo moln doctor')");
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(features); i++) {
        int sys = try_apart(features[i].attempt);
        if (sys == 0) {
            say(d, GOOD, features[i].what, "work");
        } else {
            say(d, BAD, features[i].what, "%s: %s", strerror(sys), features[i].how);
        }
    }
}

/* Post-copy is asked for by who needs it: its lack is no fault. */
static void
check_post_copy(struct doctor *d)
{
    static const char path[] = "/proc/sys/vm/unprivileged_userfaultfd";
    AUTO(free) char *text = NULL;
    struct err err = {0};
    if (!file_read(path, 64, &text, NULL, &err)) {
        say(d, WARN, "post-copy", "not possible: the kernel has no userfaultfd");
    } else if (text[0] == '1') {
        say(d, GOOD, "post-copy", "emulators may let memory follow a guest");
    } else {
        say(d, WARN, "post-copy",
            "not possible: emulators are not allowed userfaultfd; 'sysctl -w "
            "vm.unprivileged_userfaultfd=1' allows every user of this host");
    }
}

static void
check_cgroups(struct doctor *d)
{
    if (access("/sys/fs/cgroup/cgroup.controllers", F_OK) == 0) {
        say(d, GOOD, "cgroups", "version 2");
    } else if (access("/sys/fs/cgroup/memory", F_OK) == 0) {
        say(d, GOOD, "cgroups",
            "version 1: what is cold in guests is taken back only once the host runs "
            "short of memory, by soft limits; version 2 takes it back at once");
    } else {
        say(d, BAD, "cgroups",
            "none under /sys/fs/cgroup: guests could not be limited");
    }
}

/* ---- room and time --------------------------------------------------------------- */

static void
check_memory(struct doctor *d)
{
    AUTO(free) char *info = NULL;
    struct err ignored = {0};
    char text[32];
    const char *at = file_read("/proc/meminfo", 64 * KIB, &info, NULL, &ignored)
                         ? strstr(info, "MemAvailable:")
                         : NULL;
    uint64_t bytes = at ? strtoull(at + strlen("MemAvailable:"), NULL, 10) * KIB : 0;
    human_bytes((int64_t)bytes, text);
    say(d, bytes < MEMORY_WANTED ? WARN : GOOD, "memory", "%s available%s", text,
        bytes < MEMORY_WANTED ? ": little room for guests" : "");
}

/* A host that is kept for one account has its guests' pages merged; by us, or not at all. */
static void
check_merging(struct doctor *d)
{
    AUTO(free) char *note = xasprintf("%s/node/ksm", d->cli->state);
    AUTO(free) char *run = NULL;
    struct err none = {0};
    bool there = file_read("/sys/kernel/mm/ksm/run", 64, &run, NULL, &none);
    if (there && run[0] == '1' && geteuid() == 0) {
        bool ours = file_exists(note);
        say(d, ours ? GOOD : WARN, "page merging",
            ours ? "on, for the account that this host is kept for"
                 : "on, and not by this cloud: guests of a host that 'moln node mark' "
                   "keeps for one account share pages with whatever else here may, all "
                   "others with nobody");
    }
}

/* The folder, or the nearest one above it that is there. */
static const char *
existing_part(struct cli *cli, const char *path)
{
    char *at = arena_strdup(cli->arena, path);
    while (!file_exists(at)) {
        char *slash = strrchr(at, '/');
        if (!slash || slash == at) {
            return "/";
        }
        *slash = '\0';
    }
    return at;
}

static void
check_disk(struct doctor *d)
{
    struct statvfs fs;
    char text[32];
    const char *where = existing_part(d->cli, d->cli->state);
    if (statvfs(where, &fs) != 0) {
        say(d, BAD, "disk", "%s: %s", where, strerror(errno));
        return;
    }
    uint64_t bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    human_bytes((int64_t)bytes, text);
    say(d, bytes < DISK_WANTED ? WARN : GOOD, "disk", "%s free at %s", text, where);
}

static void
check_clock(struct doctor *d)
{
    struct timex t = {0};
    int state = adjtimex(&t);
    if (state == TIME_ERROR || (t.status & STA_UNSYNC)) {
        say(d, WARN, "clock",
            "nothing keeps it right; signatures are refused when it is five minutes "
            "off, "
            "nodes when it is 30 s off (apt-get install systemd-timesyncd)");
    } else {
        say(d, GOOD, "clock", "kept right");
    }
}

static void
check_sockets(struct doctor *d)
{
    struct sockaddr_un addr;
    size_t room =
        sizeof addr.sun_path - strlen("/node/machines/i-0123456789abcdef0/qmp.sock");
    if (strlen(d->cli->state) >= room) {
        say(d, WARN, "state folder",
            "its path is long (%zu bytes): sockets in it may not be reachable by other "
            "programs",
            strlen(d->cli->state));
    }
}

/* Where this host meets others of its cloud, as its agent was told. */
static void
check_underlay(struct doctor *d)
{
    AUTO(free) char *path = xasprintf("%s/node/node.json", d->cli->state);
    AUTO(free) char *text = NULL;
    struct err err = {0};
    struct hostnet found;
    if (!file_read(path, 64 * KIB, &text, NULL, &err)) {
        return; /* No node yet, or one that is not ours to look at. */
    }
    AUTO(json) json_t *node = json_loads(text, 0, NULL);
    const char *address = json_string_value(json_object_get(node, "underlay"));
    if (str_empty(address)) {
        return;
    }
    if (!hostnet_find(address, &found, &err)) {
        say(d, WARN, "underlay", "%s", err.msg);
        return;
    }
    const char *doubt = hostnet_doubt(&found);
    say(d, doubt ? WARN : GOOD, "underlay", "%s on %s%s%s", address, found.link,
        doubt ? ": " : "", doubt ? doubt : "");
}

/* Only for uplinks that lend virtual functions. */
static void
check_vfio(struct doctor *d)
{
    const char *lacks = vfio_lacks("/sys");
    if (lacks) {
        say(d, WARN, "vfio", "interfaces cannot be lent as virtual functions: %s",
            lacks);
    } else {
        say(d, GOOD, "vfio", "an IOMMU, and vfio-pci");
    }
}

static void
check_cloud(struct doctor *d)
{
    struct cli_keys keys;
    struct err err = {0};
    if (!cli_tenant_keys(d->cli, &keys, &err)) {
        say(d, WARN, "cloud", "%s", err.msg);
        return;
    }
    say(d, GOOD, "cloud", "its endpoint is %s", keys.endpoint);
}

bool
doctor_run(struct cli *cli)
{
    struct doctor d = {.cli = cli, .ok = true};
    check_programs(&d);
    check_processor(&d);
    check_kernel(&d);
    check_post_copy(&d);
    check_cgroups(&d);
    check_memory(&d);
    check_merging(&d);
    check_disk(&d);
    check_clock(&d);
    check_sockets(&d);
    check_underlay(&d);
    check_vfio(&d);
    check_cloud(&d);
    printf("%s\n",
           d.ok ? "Nothing needed is missing." : "Something needed is missing.");
    return d.ok;
}
