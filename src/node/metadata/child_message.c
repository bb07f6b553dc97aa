/* child_message.c - packets with descriptors: see child.h. */
#include "node/metadata/child.h"
#include <errno.h>
#include <sys/socket.h>

int
child_send(int sock, const struct child_message *message, int fd)
{
    struct iovec iov = {(void *)(uintptr_t)message, sizeof *message};
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
    if (fd >= 0) {
        msg.msg_control = control.bytes;
        msg.msg_controllen = sizeof control.bytes;
        struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    return sendmsg(sock, &msg, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 ? -errno : 0;
}

int
child_receive(int sock, struct child_message *out, int *out_fd)
{
    struct iovec iov = {out, sizeof *out};
    union {
        char bytes[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct msghdr msg = {.msg_iov = &iov,
                         .msg_iovlen = 1,
                         .msg_control = control.bytes,
                         .msg_controllen = sizeof control.bytes};
    ssize_t n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    if (n <= 0) {
        return n < 0 ? -errno : 0;
    }
    *out_fd = -1;
    struct cmsghdr *c = CMSG_FIRSTHDR(&msg);
    if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
        c->cmsg_len == CMSG_LEN(sizeof(int))) {
        memcpy(out_fd, CMSG_DATA(c), sizeof(int));
    }
    if ((size_t)n != sizeof *out || out->address_count > CHILD_ADDRESSES) {
        if (*out_fd >= 0) {
            close(*out_fd);
        }
        return -EPROTO;
    }
    out->network[CHILD_ID_LEN - 1] = '\0';
    out->port[CHILD_ID_LEN - 1] = '\0';
    return 1;
}
