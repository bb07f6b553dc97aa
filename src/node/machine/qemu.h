/* qemu.h - the complete command line of one guest's QEMU.
 *
 * Purpose:  a pure function from what a guest is to the words QEMU is started with; the
 *           golden tests hold it. QEMU opens nothing by itself: disks, taps, sockets
 *           and logs come as descriptors under the numbers given here.
 * Place:    above base/ and accel.h. Starts nothing.
 * Input:    texts come from a stranger: what is not plain is ERR_INVALID.
 * Threads:  any. */
#pragma once
#include "base/arena.h"
#include "link/link.h"
#include "node/machine/accel.h"

#define QEMU_PATH "/usr/bin/qemu-system-x86_64"
#define QEMU_DISKS_MAX 16
#define QEMU_NICS_MAX 8
#define QEMU_VCPUS_MAX 128
#define QEMU_SPARE_SLOTS 4 /* Root ports for what is plugged in later. */
#define QEMU_CARD_NAME 64

enum qemu_firmware { QEMU_BIOS, QEMU_UEFI, QEMU_DIRECT };

struct qemu_disk {
    const char *id; /* vol-...; the guest sees it, without its dash, as the serial. */
    int fd;         /* qcow2, read and write (read only where 'read_only'). */
    int base_fd;    /* The layer below; -1: none. */
    const char *base_format; /* "qcow2" or "raw": recorded, never probed. */
    bool read_only;
    int64_t boot_index; /* 1 boots first; 0 never. */
};

struct qemu_nic {
    const char *id; /* eni-... */
    const char *mac;
    int fd;          /* Of its tap. */
    const char *pci; /* A device of the host's in place of it: "0000:3b:02.1"; NULL. */
    int64_t mtu;     /* 0: the device says none. */
    /* Where it sits: 0 on the root bus, 1 to QEMU_NICS_MAX - 1 on a root port of its own,
     * which alone can be plugged and pulled. */
    unsigned slot;
};

struct qemu_spec {
    const char *id; /* i-... */
    int64_t vcpus, memory_bytes;
    const char *uuid, *manufacturer, *product, *asset_tag;
    enum qemu_firmware firmware;
    /* Named and versioned, so that it may move (cpu.h); NULL or empty: the host's own. */
    const char *machine_type, *cpu_model;
    const char *cmdline;      /* QEMU_DIRECT. */
    int kernel_fd, initrd_fd; /* QEMU_DIRECT; initrd -1: none. */
    int code_fd, vars_fd;     /* QEMU_UEFI. */
    int qmp_fd, serial_fd;    /* Listening sockets. */
    int console_fd;           /* The serial line's log, for appending. */
    struct qemu_disk disks[QEMU_DISKS_MAX];
    size_t disk_count;
    struct qemu_nic nics[QEMU_NICS_MAX];
    size_t nic_count;
    const struct link_hw_numa
        *numa;     /* Where its memory is to be, if it can; NULL: any. */
    bool merge;    /* Its pages may be merged with other guests'. */
    bool incoming; /* Waits for a guest that is moved here, and does not run it. */
};

/* What QEMU calls a network card and its other end: names that tell slot and port, so that
 * an agent started anew knows what a guest has. */
void qemu_card_name(unsigned slot, const char *port_id, char device[QEMU_CARD_NAME],
                    char netdev[QEMU_CARD_NAME]);
/* Reads a device's name back; false: it is no network card's. */
bool qemu_card_parse(const char *device, unsigned *out_slot, char out_port_id[48]);
MUST_CHECK bool qemu_nic_ok(const struct qemu_nic *nic, struct err *err);
/* NULL-terminated words in 'arena'. */
MUST_CHECK bool qemu_args(const struct qemu_spec *spec, const struct accel *accel,
                          struct arena *arena, const char *const **out,
                          struct err *err);
