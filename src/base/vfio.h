/* vfio.h - can a device of this host be handed to a guest, and which virtual function is free?
 *
 * Purpose:  a network interface that can be split (SR-IOV) has virtual functions; with an IOMMU
 *           the driver vfio-pci gives one to a process of no privileges. Each of that can be
 *           missing: the error says what, and what to do.
 * Place:    base/. Reads and writes sysfs at 'sys': "/sys" of the namespace that the interface is
 *           in, or a test's tree.
 * Threads:  any; blocks for as long as a driver takes to let go of a device. */
#pragma once
#include "base/base.h"
#include "base/err.h"

struct vfio_function {
    char address[16]; /* On the PCI bus: "0000:3b:02.1". */
    uint32_t number;  /* Among its interface's functions. */
    int group;        /* Its IOMMU group: /dev/vfio/GROUP. */
};

/* What this host lacks to hand out any device, a sentence for people; NULL: nothing. */
const char *vfio_lacks(const char *sys);
/* The interface's function of that number. ERR_NOT_FOUND: there is none. */
MUST_CHECK bool vfio_function_at(const char *sys, const char *link, uint32_t number,
                                 struct vfio_function *out, struct err *err);
/* The interface's first function that nobody uses: vfio-pci has not got it, and no interface
 * of it is up. ERR_UNSUPPORTED where the host or the interface cannot, ERR_BUSY where none is
 * free. */
MUST_CHECK bool vfio_function_free(const char *sys, const char *link,
                                   struct vfio_function *out, struct err *err);
/* Takes it from its driver, and gives it to vfio-pci. Idempotent. */
MUST_CHECK bool vfio_bind(const char *sys, const struct vfio_function *f,
                          struct err *err);
/* Takes it from vfio-pci, if that has it: it is free then. */
MUST_CHECK bool vfio_unbind(const char *sys, const struct vfio_function *f,
                            struct err *err);
