/* accel.h - how this host runs guests: hardware virtualization or emulation.
 *
 * Place:    above base/. Reads /dev and /proc, starts nothing; measures the processor's
 *           counter, which takes 20 ms.
 * Threads:  any; call once and keep the answer. */
#pragma once
#include "base/base.h"

struct accel {
    bool kvm;
    char why[128]; /* For people: why not kvm; empty when it is. */
    char cpu_model[128];
    int64_t host_vcpus;
    int64_t tsc_khz; /* Of the counter that emulated guests see; 0: not known. */
};

/* KVM needs /dev/kvm and the processor's vmx or svm: a /dev/kvm without them cannot run
 * stock kernels. 'cpuinfo' is the text of /proc/cpuinfo. */
void accel_judge(const char *cpuinfo, bool have_dev_kvm, struct accel *out);
void accel_detect(struct accel *out);
