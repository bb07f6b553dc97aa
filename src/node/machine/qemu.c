#include "node/machine/qemu.h"
#include "base/buf.h"
#include "base/map.h"
#include "link/overhead.h"
#include "node/machine/cpu.h"

#include <ctype.h>

/* PCI slots on the root bus: fixed, so that a guest finds its devices where they were.
 */
enum {
    SLOT_NIC = 0x02,   /* The first; others have root ports. */
    SLOT_DISKS = 0x0a, /* 0x0a to 0x19 */
    SLOT_RNG = 0x1a,
    SLOT_BALLOON = 0x1b,
    SLOT_PORTS = 0x1c,
    SLOT_NIC_PORTS = 0x1d, /* Function n for the card in slot n + 1. */
};

struct words {
    struct arena *arena;
    VEC(const char *) v;
    unsigned fdsets;
};

static void
add(struct words *w, const char *word)
{
    VEC_PUSH(&w->v, word);
}

static void add_option(struct words *w, const char *option, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

static void
add_option(struct words *w, const char *option, const char *fmt, ...)
{
    char text[4096];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    add(w, option);
    add(w, arena_strdup(w->arena, text));
}

/* Gives QEMU a descriptor that it opens as /dev/fdset/N; returns N. */
static unsigned
add_fd(struct words *w, int fd)
{
    unsigned set = ++w->fdsets;
    add_option(w, "-add-fd", "fd=%d,set=%u", fd, set);
    return set;
}

/* Texts that become part of an option: no comma, quote or control character. */
static bool
plain(const char *what, const char *s, size_t max, struct err *err)
{
    size_t len = s ? strlen(s) : 0;
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)s[i]) && !strchr(" ._:/-", s[i])) {
            return err_set(err, ERR_INVALID, "%s has a character that may not be there",
                           what);
        }
    }
    return len <= max || err_set(err, ERR_INVALID, "%s is too long", what);
}

static bool
check_mac(const char *mac, struct err *err)
{
    size_t len = mac ? strlen(mac) : 0;
    bool good = len == 17;
    for (size_t i = 0; good && i < len; i++) {
        good = i % 3 == 2 ? mac[i] == ':' : isxdigit((unsigned char)mac[i]) != 0;
    }
    return good || err_set(err, ERR_INVALID, "a network card has no proper MAC");
}

/* "0000:3b:02.1", or none. */
static bool
check_pci(const char *address, struct err *err)
{
    static const char form[] = "xxxx:xx:xx.x";
    bool good = !address || strlen(address) == sizeof form - 1;
    for (size_t i = 0; address && good && i < sizeof form - 1; i++) {
        good = form[i] == 'x' ? isxdigit((unsigned char)address[i]) != 0
                              : address[i] == form[i];
    }
    return good || err_set(err, ERR_INVALID, "no address of a PCI device");
}

static bool
check_cmdline(const char *cmdline, struct err *err)
{
    size_t len = cmdline ? strlen(cmdline) : 0;
    for (size_t i = 0; i < len; i++) {
        if (!isprint((unsigned char)cmdline[i])) {
            return err_set(err, ERR_INVALID, "the kernel's command line is not text");
        }
    }
    return len < 2048 ||
           err_set(err, ERR_INVALID, "the kernel's command line is too long");
}

bool
qemu_nic_ok(const struct qemu_nic *nic, struct err *err)
{
    return plain("a port's id", nic->id, 40, err) && check_mac(nic->mac, err) &&
           check_pci(nic->pci, err) &&
           (nic->slot < QEMU_NICS_MAX ||
            err_set(err, ERR_RANGE, "network card in slot %u", nic->slot));
}

static bool
check(const struct qemu_spec *s, struct err *err)
{
    if (s->vcpus < 1 || s->vcpus > QEMU_VCPUS_MAX) {
        return err_set(err, ERR_RANGE, "%" PRId64 " virtual processors", s->vcpus);
    }
    if (s->memory_bytes < (int64_t)(16 * MIB) ||
        s->memory_bytes > (int64_t)(4096 * GIB)) {
        return err_set(err, ERR_RANGE, "%" PRId64 " bytes of memory", s->memory_bytes);
    }
    if (s->disk_count > QEMU_DISKS_MAX || s->nic_count > QEMU_NICS_MAX) {
        return err_set(err, ERR_RANGE, "too many disks or network cards");
    }
    for (size_t i = 0; i < s->disk_count; i++) {
        if (!plain("a disk's id", s->disks[i].id, 40, err)) {
            return false;
        }
    }
    for (size_t i = 0; i < s->nic_count; i++) {
        if (!qemu_nic_ok(&s->nics[i], err)) {
            return false;
        }
    }
    return plain("the id", s->id, 40, err) && plain("the uuid", s->uuid, 36, err) &&
           plain("the manufacturer", s->manufacturer, 64, err) &&
           plain("the product", s->product, 64, err) &&
           plain("the asset tag", s->asset_tag, 64, err) &&
           plain("the machine type", s->machine_type, 32, err) &&
           plain("the processor", s->cpu_model, 40, err) &&
           check_cmdline(s->cmdline, err);
}

static void
add_host(struct words *w, const struct qemu_spec *s, const struct accel *accel)
{
    add(w, QEMU_PATH);
    /* Threads have names: the meter knows the vCPUs by them, and so do people. */
    add_option(w, "-name", "%s,debug-threads=on", s->id);
    add(w, "-nodefaults");
    add(w, "-no-user-config");
    add_option(w, "-display", "none");
    add_option(
        w, "-sandbox",
        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
    /* A guest that shuts down or panics waits in QEMU until the agent has seen it, also
     * an agent that is started only later. */
    add_option(w, "-action", "reboot=reset,shutdown=pause,panic=pause");
    add_option(w, "-chardev", "socket,id=qmp,fd=%d,server=on,wait=off", s->qmp_fd);
    add_option(w, "-mon", "chardev=qmp,mode=control");
    if (accel->kvm) {
        add_option(w, "-accel", "kvm");
    } else {
        add_option(w, "-accel", "tcg,thread=multi,tb-size=%" PRId64,
                   overhead_translated_bytes(s->memory_bytes) / (int64_t)MIB);
    }
    add_option(w, "-cpu", "%s",
               !str_empty(s->cpu_model) ? cpu_option(w->arena, s->cpu_model)
               : accel->kvm             ? "host"
                                        : "max,la57=off");
}

/* What the guest gets, in KiB. Emulated guests get 8 KiB less than whole mebibytes: QEMU
 * before 9.0 forgets, where memory is a multiple of 256 KiB, to watch again for writes to
 * the pages that a migration has sent, and guests arrive with stale ones ("physmem: Fix
 * migration dirty bitmap coherency with TCG memory access"). Otherwise it goes page by
 * page, and forgets none. docs/decisions/0013. */
static int64_t
guest_memory_kib(const struct qemu_spec *s, const struct accel *accel)
{
    int64_t mib = (s->memory_bytes + (int64_t)MIB - 1) / (int64_t)MIB;
    return mib * 1024 - (accel->kvm ? 0 : 8);
}

static void
add_board(struct words *w, const struct qemu_spec *s, const struct accel *accel)
{
    int64_t kib = guest_memory_kib(s, accel);
    add_option(w, "-machine",
               "%s,memory-backend=ram,usb=off,vmport=off,smm=off,hpet=off,"
               "graphics=off,dump-guest-core=off%s",
               str_empty(s->machine_type) ? "q35" : s->machine_type,
               s->firmware == QEMU_UEFI ? ",pflash0=code,pflash1=vars" : "");
    add_option(w, "-smp", "cpus=%" PRId64 ",sockets=1,cores=%" PRId64 ",threads=1",
               s->vcpus, s->vcpus);
    add_option(w, "-m", "size=%" PRId64 "K", kib);
    /* The kernel merges private pages only; a memfd's are never anybody else's. */
    const char *place =
        s->numa ? arena_printf(w->arena, ",host-nodes=%" PRId64 ",policy=preferred",
                               s->numa->number)
                : "";
    add_option(w, "-object",
               s->merge ? "memory-backend-ram,id=ram,size=%" PRId64 "K,merge=on%s"
                        : "memory-backend-memfd,id=ram,size=%" PRId64 "K,share=on%s",
               kib, place);
    add_option(w, "-rtc", "base=utc");
    if (!str_empty(s->uuid)) {
        const char *maker = s->manufacturer ? s->manufacturer : "";
        const char *product = s->product ? s->product : "";
        add_option(w, "-uuid", "%s", s->uuid);
        add_option(w, "-smbios", "type=1,manufacturer=%s,product=%s,serial=%s,uuid=%s",
                   maker, product, s->uuid, s->uuid);
        add_option(w, "-smbios", "type=2,manufacturer=%s,asset=%s", maker,
                   s->asset_tag ? s->asset_tag : "");
        add_option(w, "-smbios", "type=3,manufacturer=%s,asset=%s", maker, maker);
    }
}

/* A kernel that measures the processor's counter itself, while a busy host stops it now
 * and then, may find a tenth of the truth: its clock runs ahead, its timers hang. */
static const char *
kernel_words(const struct words *w, const struct qemu_spec *s,
             const struct accel *accel)
{
    const char *given = s->cmdline ? s->cmdline : "";
    return accel->tsc_khz > 0 ? arena_printf(w->arena, "%s tsc_early_khz=%" PRId64,
                                             given, accel->tsc_khz)
                              : given;
}

static void
add_firmware(struct words *w, const struct qemu_spec *s, const struct accel *accel)
{
    if (s->firmware == QEMU_DIRECT) {
        add_option(w, "-kernel", "/proc/self/fd/%d", s->kernel_fd);
        if (s->initrd_fd >= 0) {
            add_option(w, "-initrd", "/proc/self/fd/%d", s->initrd_fd);
        }
        add(w, "-append");
        add(w, kernel_words(w, s, accel));
    } else if (s->firmware == QEMU_UEFI) {
        unsigned code = add_fd(w, s->code_fd), vars = add_fd(w, s->vars_fd);
        add_option(w, "-blockdev",
                   "{\"driver\":\"file\",\"node-name\":\"code\",\"filename\":"
                   "\"/dev/fdset/%u\",\"read-only\":true,\"locking\":\"off\"}",
                   code);
        add_option(w, "-blockdev",
                   "{\"driver\":\"file\",\"node-name\":\"vars\",\"filename\":"
                   "\"/dev/fdset/%u\"}",
                   vars);
    }
}

static void
add_devices(struct words *w, const struct qemu_spec *s)
{
    unsigned log = add_fd(w, s->console_fd);
    add_option(w, "-chardev",
               "socket,id=console,fd=%d,server=on,wait=off,logfile=/dev/fdset/%u,"
               "logappend=on",
               s->serial_fd, log);
    add_option(w, "-device", "isa-serial,chardev=console,index=0");
    add_option(w, "-device", "pvpanic");
    add_option(w, "-object", "rng-builtin,id=rng");
    add_option(w, "-device", "virtio-rng-pci,rng=rng,addr=0x%x", SLOT_RNG);
    add_option(w, "-device",
               "virtio-balloon-pci,id=balloon,free-page-reporting=on,deflate-on-oom=on,"
               "addr=0x%x",
               SLOT_BALLOON);
    for (int i = 0; i < QEMU_SPARE_SLOTS; i++) {
        add_option(w, "-device",
                   "pcie-root-port,id=slot%d,chassis=%d,port=%d,addr=0x%x.%d%s", i,
                   i + 1, i, SLOT_PORTS, i, i == 0 ? ",multifunction=on" : "");
    }
    for (int i = 1; i < QEMU_NICS_MAX; i++) {
        add_option(w, "-device",
                   "pcie-root-port,id=nicport%d,chassis=%d,port=%d,addr=0x%x.%d%s", i,
                   QEMU_SPARE_SLOTS + i, QEMU_SPARE_SLOTS + i, SLOT_NIC_PORTS, i - 1,
                   i == 1 ? ",multifunction=on" : "");
    }
}

/* A disk's graph, named from its position: disk0 over disk0-base, each over a file. */
static void
add_disk(struct words *w, const struct qemu_disk *d, size_t index)
{
    char backing[48] = "null";
    unsigned set = add_fd(w, d->fd);
    if (d->base_fd >= 0) {
        unsigned base = add_fd(w, d->base_fd);
        add_option(
            w, "-blockdev",
            "{\"driver\":\"%s\",\"node-name\":\"disk%zu-base\",\"read-only\":true,"
            "\"discard\":\"unmap\"%s,\"file\":{\"driver\":\"file\",\"filename\":"
            "\"/dev/fdset/%u\",\"locking\":\"off\"}}",
            str_eq(d->base_format, "raw") ? "raw" : "qcow2", index,
            str_eq(d->base_format, "raw") ? "" : ",\"backing\":null", base);
        snprintf(backing, sizeof backing, "\"disk%zu-base\"", index);
    }
    add_option(w, "-blockdev",
               "{\"driver\":\"qcow2\",\"node-name\":\"disk%zu\",\"read-only\":%s,"
               "\"discard\":\"unmap\",\"backing\":%s,\"file\":{\"driver\":\"file\","
               "\"filename\":\"/dev/fdset/%u\",\"discard\":\"unmap\"}}",
               index, d->read_only ? "true" : "false", backing, set);
    char serial[24], boot[32] = "";
    size_t len = 0;
    for (const char *p = d->id; *p && len < 20; p++) {
        if (*p != '-') {
            serial[len++] = *p;
        }
    }
    serial[len] = '\0';
    if (d->boot_index > 0) {
        snprintf(boot, sizeof boot, ",bootindex=%" PRId64, d->boot_index);
    }
    add_option(
        w, "-device",
        "virtio-blk-pci,id=vd%zu,drive=disk%zu,serial=%s,addr=0x%zx,werror=enospc,"
        "rerror=report%s",
        index, index, serial, SLOT_DISKS + index, boot);
}

void
qemu_card_name(unsigned slot, const char *port_id, char device[QEMU_CARD_NAME],
               char netdev[QEMU_CARD_NAME])
{
    (void)snprintf(device, QEMU_CARD_NAME, "nic%u-%.40s", slot, port_id);
    (void)snprintf(netdev, QEMU_CARD_NAME, "net%u-%.40s", slot, port_id);
}

bool
qemu_card_parse(const char *device, unsigned *out_slot, char out_port_id[48])
{
    if (!str_starts(device, "nic") || device[3] < '0' ||
        device[3] >= '0' + QEMU_NICS_MAX || device[4] != '-' || strlen(device) > 45) {
        return false;
    }
    *out_slot = (unsigned)(device[3] - '0');
    (void)snprintf(out_port_id, 48, "%s", device + 5);
    return true;
}

static void
add_nic(struct words *w, const struct qemu_nic *n)
{
    char mtu[32] = "", place[32];
    char device[QEMU_CARD_NAME], netdev[QEMU_CARD_NAME];
    if (n->mtu > 0) {
        snprintf(mtu, sizeof mtu, ",host_mtu=%" PRId64, n->mtu);
    }
    if (n->slot == 0) {
        snprintf(place, sizeof place, "addr=0x%x", SLOT_NIC);
    } else {
        snprintf(place, sizeof place, "bus=nicport%u", n->slot);
    }
    qemu_card_name(n->slot, n->id, device, netdev);
    if (n->pci) {
        add_option(w, "-device", "vfio-pci,id=%s,host=%s,romfile=,%s", device, n->pci,
                   place);
        return;
    }
    add_option(w, "-netdev", "tap,id=%s,fd=%d,vhost=off", netdev, n->fd);
    add_option(w, "-device", "virtio-net-pci,id=%s,netdev=%s,mac=%s,romfile=,%s%s",
               device, netdev, n->mac, place, mtu);
}

bool
qemu_args(const struct qemu_spec *spec, const struct accel *accel, struct arena *arena,
          const char *const **out, struct err *err)
{
    if (!check(spec, err)) {
        return err_wrap(err, "machine %s", str_empty(spec->id) ? "?" : "description");
    }
    struct words w = {.arena = arena};
    add_host(&w, spec, accel);
    add_board(&w, spec, accel);
    add_firmware(&w, spec, accel);
    add_devices(&w, spec);
    for (size_t i = 0; i < spec->disk_count; i++) {
        add_disk(&w, &spec->disks[i], i);
    }
    for (size_t i = 0; i < spec->nic_count; i++) {
        add_nic(&w, &spec->nics[i]);
    }
    if (spec->incoming) {
        add(&w, "-S");
        add_option(&w, "-incoming", "defer");
    }
    add(&w, NULL);
    *out = arena_memdup(arena, w.v.items, w.v.count * sizeof *w.v.items);
    VEC_FREE(&w.v);
    return true;
}
