/* net_guest.c - frames by hand: see net_guest.h. */
#include "net_guest.h"
#include <poll.h>
#include <time.h>

#define VNET_HDR 10
#define ETH 14
#define IP 20
#define UDP 8

static void
put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void
put32(uint8_t *p, uint32_t v)
{
    put16(p, v >> 16);
    put16(p + 2, v & 0xffff);
}

static unsigned
sum16(const uint8_t *p, size_t len)
{
    uint32_t sum = 0;
    for (size_t i = 0; i < len; i += 2) {
        sum += (unsigned)p[i] << 8 | (i + 1 < len ? p[i + 1] : 0);
    }
    while (sum >> 16) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return ~sum & 0xffff;
}

static void
put_eth(struct frame *f, const uint8_t src[6], const uint8_t *dst, unsigned type)
{
    memset(f, 0, sizeof *f);
    memset(f->data, 0xff, 6);
    if (dst) {
        memcpy(f->data, dst, 6);
    }
    memcpy(f->data + 6, src, 6);
    put16(f->data + 12, type);
}

void
frame_arp(struct frame *f, const uint8_t src_mac[6], uint32_t src_ip, uint32_t dst_ip)
{
    put_eth(f, src_mac, NULL, 0x0806);
    uint8_t *p = f->data + ETH;
    put16(p, 1);
    put16(p + 2, 0x0800);
    p[4] = 6;
    p[5] = 4;
    put16(p + 6, 1);
    memcpy(p + 8, src_mac, 6);
    put32(p + 14, src_ip);
    put32(p + 24, dst_ip);
    f->len = ETH + 28;
}

void
frame_udp(struct frame *f, const uint8_t src_mac[6], const uint8_t dst_mac[6],
          uint32_t src_ip, uint32_t dst_ip, int src_port, int dst_port,
          const void *body, size_t len)
{
    put_eth(f, src_mac, dst_mac, 0x0800);
    uint8_t *p = f->data + ETH;
    p[0] = 0x45;
    put16(p + 2, (unsigned)(IP + UDP + len));
    p[8] = 64;
    p[9] = 17;
    put32(p + 12, src_ip);
    put32(p + 16, dst_ip);
    put16(p + 10, sum16(p, IP));
    put16(p + IP, (unsigned)src_port);
    put16(p + IP + 2, (unsigned)dst_port);
    put16(p + IP + 4, (unsigned)(UDP + len)); /* Checksum 0: none. */
    memcpy(p + IP + UDP, body, len);
    f->len = ETH + IP + UDP + len;
}

void
frame_dhcp(struct frame *f, const uint8_t mac[6], int type, uint32_t want_ip)
{
    uint8_t m[300] = {1, 1, 6, 0, 0x12, 0x34, 0x56, 0x78};
    put16(m + 10, 0x8000); /* Answer by broadcast. */
    memcpy(m + 28, mac, 6);
    put32(m + 236, 0x63825363);
    uint8_t *o = m + 240;
    *o++ = 53;
    *o++ = 1;
    *o++ = (uint8_t)type;
    if (want_ip) {
        *o++ = 50;
        *o++ = 4;
        put32(o, want_ip);
        o += 4;
    }
    static const uint8_t ask[] = {55, 7, 1, 3, 6, 12, 15, 26, 42, 255};
    memcpy(o, ask, sizeof ask);
    frame_udp(f, mac, NULL, 0, 0xffffffff, 68, 67, m, sizeof m);
}

void
guest_send(const struct guest *g, const struct frame *f)
{
    uint8_t out[VNET_HDR + GUEST_FRAME_MAX] = {0};
    memcpy(out + VNET_HDR, f->data, f->len);
    if (write(g->fd, out, VNET_HDR + f->len) < 0) {
        perror("guest_send");
    }
}

static int64_t
now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

bool
guest_wait(const struct guest *g, uv_loop_t *loop, int ms, frame_match_fn *match,
           struct frame *out)
{
    for (int64_t end = now_ms() + ms; now_ms() < end;) {
        (void)uv_run(loop, UV_RUN_NOWAIT);
        struct pollfd p = {.fd = g->fd, .events = POLLIN};
        if (poll(&p, 1, 5) <= 0) {
            continue;
        }
        uint8_t in[VNET_HDR + GUEST_FRAME_MAX];
        ssize_t n = read(g->fd, in, sizeof in);
        if (n > VNET_HDR) {
            memset(out, 0, sizeof *out);
            out->len = (size_t)n - VNET_HDR;
            memcpy(out->data, in + VNET_HDR, out->len);
            if (match(out)) {
                return true;
            }
        }
    }
    return false;
}

void
loop_turn(uv_loop_t *loop, int ms)
{
    for (int64_t end = now_ms() + ms; now_ms() < end;) {
        (void)uv_run(loop, UV_RUN_NOWAIT);
        (void)usleep(1000);
    }
}

uint32_t
frame_u32(const struct frame *f, size_t at)
{
    const uint8_t *p = f->data + at;
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

bool
frame_is_arp_reply(const struct frame *f)
{
    return f->data[12] == 8 && f->data[13] == 6 && f->data[21] == 2;
}

bool
frame_is_udp(const struct frame *f)
{
    return f->data[12] == 8 && f->data[13] == 0 && f->data[ETH + 9] == 17;
}

bool
frame_is_dns_answer(const struct frame *f)
{
    return frame_is_udp(f) && f->data[ETH + IP] == 0 && f->data[ETH + IP + 1] == 53;
}

bool
frame_is_dhcp_reply(const struct frame *f)
{
    return frame_is_udp(f) && f->data[ETH + IP + 1] == 67 &&
           f->data[ETH + IP + UDP] == 2;
}

bool
frame_is_dhcp_request(const struct frame *f)
{
    return frame_is_udp(f) && f->data[ETH + IP + 3] == 67;
}

const uint8_t *
frame_dhcp_option(const struct frame *f, int code, size_t *out_len)
{
    for (size_t at = ETH + IP + UDP + 240; at + 2 < f->len && f->data[at] != 255;) {
        if (f->data[at] == code) {
            *out_len = f->data[at + 1];
            return f->data + at + 2;
        }
        at += f->data[at] == 0 ? 1 : 2u + f->data[at + 1];
    }
    return NULL;
}
