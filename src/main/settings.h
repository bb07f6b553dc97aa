/* settings.h - molnd's command line and settings file, made into what services see.
 *
 * Place:    main/. Read as the user that started molnd, before privileges are given up.
 * Memory:   everything lies in the caller's arena, which outlives the program's work.
 * Failure:  an error names the option or the path in the file. */
#pragma once
#include "base/arena.h"
#include "core/config.h"

struct settings {
    const char *state;              /* --state */
    const char *listen;             /* --listen */
    const char *link;               /* --link; NULL: no TCP. */
    const char *tls_cert, *tls_key; /* --tls-cert, --tls-key */
    const char *user;               /* --user */
    const char *store;              /* --store; NULL: SQLite in STATE/control. */
    const char *link_address;       /* --link-address; NULL: as --link. */
    const char *blobs;              /* --blobs; NULL: STATE/control/blobs. */
    const char *flow_logs;          /* --flow-logs; NULL: STATE/control/flow-logs. */
    const char *master_key;         /* --master-key */
    const char *zone;               /* Of the local node... */
    const char *region;             /* ...and its region. */
    bool debug;                     /* --debug */
    unsigned read_rate, write_rate; /* 0: the gateway's own. */
    struct cloud_config cloud;      /* cloud_id, endpoint_url, ca_sha256 come later. */
};

/* '*out_done' is set when --help or --version was answered. */
MUST_CHECK bool settings_read(struct arena *arena, int argc, char **argv,
                              struct settings *out, bool *out_done, struct err *err);
/* "HOST:PORT", "[V6]:PORT" or ":PORT" into its parts. */
MUST_CHECK bool settings_address(struct arena *arena, const char *text,
                                 const char **out_host, int *out_port, struct err *err);
