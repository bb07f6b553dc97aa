/* net_lab.h - a cloud of this process's own on this host, for tests that need root. */
#pragma once
#include "link/records.h"
#include "node/net/net.h"
#include "test.h"

#define IP4(a, b, c, d) ((uint32_t)(a) << 24 | (b) << 16 | (c) << 8 | (d))

struct lab {
    uv_loop_t loop;
    struct net *net;
    struct err err;
    char cloud[32];
};

bool lab_can_run(void); /* False, and says so, without root. */
void lab_init(struct lab *lab);
void lab_reopen(struct lab *lab); /* As if another agent took over. */
void lab_fini(struct lab *lab);   /* Checks that nothing is left. */
void lab_network(struct lab *lab, const char *id, const char *subnet_id,
                 const char *cidr);
void lab_port(struct lab *lab, const char *id, const char *subnet_id, const char *mac,
              const char *ip);
/* How many names in a folder begin so. */
int lab_count(const char *folder, const char *prefix);
