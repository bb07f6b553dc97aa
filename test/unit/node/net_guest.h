/* net_guest.h - a guest made of bytes: frames sent and received on a tap's descriptor,
 * as QEMU would, for tests of the network. Linux's own stack is not involved. */
#pragma once
#include "base/base.h"
#include <uv.h>

struct guest {
    int fd; /* Of a tap with virtio headers. */
    uint8_t mac[6];
    uint32_t ipv4; /* Host order. */
};

#define GUEST_FRAME_MAX 2048

struct frame {
    uint8_t data[GUEST_FRAME_MAX];
    size_t len;
};

/* Frames. 'src_mac' is both the link's and, in ARP, the sender's. */
void frame_arp(struct frame *f, const uint8_t src_mac[6], uint32_t src_ip,
               uint32_t dst_ip);
void frame_udp(struct frame *f, const uint8_t src_mac[6], const uint8_t dst_mac[6],
               uint32_t src_ip, uint32_t dst_ip, int src_port, int dst_port,
               const void *body, size_t len);
/* A DHCP message: 1 discover, 3 request (of 'want_ip'). Broadcast. */
void frame_dhcp(struct frame *f, const uint8_t mac[6], int type, uint32_t want_ip);

void guest_send(const struct guest *g, const struct frame *f);
/* The next frame for which 'match' is true, while 'loop' turns; false after 'ms'. */
typedef bool frame_match_fn(const struct frame *f);
bool guest_wait(const struct guest *g, uv_loop_t *loop, int ms, frame_match_fn *match,
                struct frame *out);
bool frame_is_arp_reply(const struct frame *f);
bool frame_is_dhcp_reply(const struct frame *f);
bool frame_is_dhcp_request(const struct frame *f);
bool frame_is_udp(const struct frame *f);
bool frame_is_dns_answer(const struct frame *f);
uint32_t frame_u32(const struct frame *f, size_t at); /* Big-endian. */
/* The value of a DHCP option; NULL: not there. */
const uint8_t *frame_dhcp_option(const struct frame *f, int code, size_t *out_len);
void loop_turn(uv_loop_t *loop, int ms);
