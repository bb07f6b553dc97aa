#include "cli/tar.h"
#include "base/file.h"
#include <errno.h>

struct header {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], sum[8], type;
    char link[100], magic[6], version[2], user[32], group[32], major[8], minor[8];
    char prefix[155], pad[12];
};
_Static_assert(sizeof(struct header) == TAR_BLOCK, "a header fills its block");

/* The sum of all bytes, with the field of the sum itself as spaces. */
static unsigned
checksum(const struct header *h)
{
    const unsigned char *bytes = (const unsigned char *)h;
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof *h; i++) {
        bool own = i >= offsetof(struct header, sum) &&
                   i < offsetof(struct header, sum) + sizeof h->sum;
        sum += own ? ' ' : bytes[i];
    }
    return sum;
}

static bool
write_all(int fd, const void *data, size_t len, struct err *err)
{
    int r = fd_write_all(fd, data, len);
    return r == 0 || err_sys(err, -r, "write the archive");
}

bool
tar_put_header(int fd, const char *name, uint64_t size, struct err *err)
{
    struct header h = {.type = '0'};
    if (strlen(name) >= sizeof h.name || size >> 33) {
        return err_set(err, ERR_TOO_LARGE, "'%s' does not fit a tar archive", name);
    }
    memcpy(h.name, name, strlen(name));
    memcpy(h.mode, "0000600", 8);
    memcpy(h.uid, "0000000", 8);
    memcpy(h.gid, "0000000", 8);
    (void)snprintf(h.size, sizeof h.size, "%011" PRIo64, size);
    memcpy(h.mtime, "00000000000", 12);
    memcpy(h.magic, "ustar", 6);
    memcpy(h.version, "00", 2);
    (void)snprintf(h.sum, sizeof h.sum, "%06o", checksum(&h) & 0777777u);
    return write_all(fd, &h, sizeof h, err);
}

static size_t
pad_of(uint64_t size)
{
    return (size_t)((TAR_BLOCK - size % TAR_BLOCK) % TAR_BLOCK);
}

bool
tar_pad(int fd, uint64_t size, struct err *err)
{
    static const char zeros[TAR_BLOCK];
    return write_all(fd, zeros, pad_of(size), err);
}

bool
tar_end(int fd, struct err *err)
{
    static const char zeros[2 * TAR_BLOCK];
    return write_all(fd, zeros, sizeof zeros, err);
}

static bool
read_all(int fd, void *out, size_t len, struct err *err)
{
    for (size_t got = 0; got < len;) {
        ssize_t n = read(fd, (char *)out + got, len - got);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n < 0 ? err_sys(err, errno, "read the archive")
                         : err_set(err, ERR_CORRUPT, "the archive is cut short");
        }
        got += (size_t)n;
    }
    return true;
}

static bool
octal(const char *field, size_t len, uint64_t *out)
{
    uint64_t n = 0;
    size_t i = 0;
    for (; i < len && field[i] >= '0' && field[i] <= '7'; i++) {
        n = n << 3 | (uint64_t)(field[i] - '0');
    }
    *out = n;
    return i > 0;
}

bool
tar_next(int fd, char out_name[101], uint64_t *out_size, struct err *err)
{
    static const struct header empty;
    struct header h;
    if (!read_all(fd, &h, sizeof h, err)) {
        return false;
    }
    out_name[0] = '\0';
    if (memcmp(&h, &empty, sizeof h) == 0) {
        return true;
    }
    uint64_t sum, size;
    if (memcmp(h.magic, "ustar", 5) != 0 || !octal(h.sum, sizeof h.sum, &sum) ||
        sum != checksum(&h) || !octal(h.size, sizeof h.size, &size)) {
        return err_set(err, ERR_CORRUPT, "this is no archive of 'moln backup'");
    }
    memcpy(out_name, h.name, sizeof h.name);
    out_name[sizeof h.name] = '\0';
    *out_size = size;
    return true;
}

bool
tar_skip_pad(int fd, uint64_t size, struct err *err)
{
    char pad[TAR_BLOCK];
    return read_all(fd, pad, pad_of(size), err);
}
