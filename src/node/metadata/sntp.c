/* sntp.c - 48 bytes: see sntp.h. */
#include "node/metadata/sntp.h"

#define EPOCH_1900 UINT64_C(2208988800) /* Seconds from 1900 to 1970. */
#define MODE_CLIENT 3
#define MODE_SERVER 4

static void
put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(v >> (24 - 8 * i));
    }
}

static void
put_time(uint8_t *p, int64_t ns)
{
    uint64_t fraction = ((uint64_t)(ns % NS_PER_S) << 32) / (uint64_t)NS_PER_S;
    put32(p, (uint32_t)((uint64_t)(ns / NS_PER_S) + EPOCH_1900));
    put32(p + 4, (uint32_t)fraction);
}

bool
sntp_answer(const uint8_t *question, size_t len, const struct sntp_host *host,
            int64_t received_ns, int64_t now_ns, uint8_t out[SNTP_LEN])
{
    unsigned version = len >= SNTP_LEN ? question[0] >> 3 & 7u : 0;
    if (version < 1 || version > 4 || (question[0] & 7) != MODE_CLIENT) {
        return false;
    }
    memset(out, 0, SNTP_LEN);
    out[0] = (uint8_t)((unsigned)host->leap << 6 | version << 3 | MODE_SERVER);
    out[1] = host->synchronized ? 3 : 10; /* Stratum: far from any reference if not. */
    out[2] = question[2];
    out[3] = (uint8_t)-20; /* Precision: about a microsecond. */
    put32(out + 4, 0x40);  /* Root delay: about a millisecond, 16.16 seconds. */
    int64_t error_us = MIN(MAX(host->error_us, 0), 16 * INT64_C(1000000));
    put32(out + 8, (uint32_t)((error_us << 16) / 1000000));
    put32(out + 12, 0x7f7f0101); /* 127.127.1.1: the host's own clock. */
    put_time(out + 16, now_ns);
    memcpy(out + 24, question + 40, 8);
    put_time(out + 32, received_ns);
    put_time(out + 40, now_ns);
    return true;
}
