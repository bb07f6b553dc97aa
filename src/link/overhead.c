#include "link/overhead.h"

int64_t
overhead_translated_bytes(int64_t guest_bytes)
{
    int64_t bytes = 64 * (int64_t)MIB;
    while (bytes < guest_bytes / 4 && bytes < 256 * (int64_t)MIB) {
        bytes *= 2;
    }
    return bytes;
}

int64_t
overhead_bytes(bool kvm, int64_t guest_bytes, int64_t vcpus)
{
    int64_t base = 128 * (int64_t)MIB + vcpus * 4 * (int64_t)MIB + guest_bytes / 64;
    /* The cache of translated code, and half as much again of tables about it. */
    return kvm ? base : base + overhead_translated_bytes(guest_bytes) * 3 / 2;
}

void
overhead_by_kind(int64_t set, int64_t guest_bytes, int64_t vcpus, int64_t out[2])
{
    out[0] = set ? set : overhead_bytes(false, guest_bytes, vcpus);
    out[1] = set ? set : overhead_bytes(true, guest_bytes, vcpus);
}
