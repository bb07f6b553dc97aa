/* overhead.h - what an emulator takes beyond its guest's memory: one figure for both ends.
 *
 * Purpose:  placement promises no more memory than the node's cgroups let guests use.
 * Place:    link/, between the control plane that counts it and the node that limits to
 *           it; pure.
 * Threads:  any. */
#pragma once
#include "base/base.h"

/* Bytes of translated code that an emulated guest may keep. Larger guests run more
 * code; past 256 MiB it no longer pays. */
int64_t overhead_translated_bytes(int64_t guest_bytes);
/* What a guest's process may need beyond the guest's own memory; 'kvm': the processor
 * runs it, not emulation. */
int64_t overhead_bytes(bool kvm, int64_t guest_bytes, int64_t vcpus);
/* Both kinds of it, emulated first; 'set' where the operator has set it (not 0). */
void overhead_by_kind(int64_t set, int64_t guest_bytes, int64_t vcpus, int64_t out[2]);
