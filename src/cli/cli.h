/* cli.h - what every command of 'moln' is handed: where the cloud is, who asks, how to
 * answer.
 *
 * Place:    cli/, the top floor; talks to the cloud through wire/client.h only.
 * Owner:    main/ makes one struct cli; commands borrow it. What commands build lives
 *           in cli->arena, to the end of the program.
 * Threads:  one.
 * Failure:  a command returns false with 'err'; main prints it and exits with the code
 *           that cli_exit_code gives. */
#pragma once
#include "base/jsonio.h"
#include "base/world.h"
#include "wire/client.h"

/* Exit statuses, documented in moln(1). 'moln ssh' ends with ssh's own. */
enum cli_exit {
    CLI_OK = 0,
    CLI_FAILED = 1,   /* The cloud refused, or something went wrong. */
    CLI_USAGE = 2,    /* The command line is wrong. */
    CLI_NO_CLOUD = 3, /* No cloud answers at the endpoint, or none is known. */
    CLI_TIMEOUT = 4,  /* What was waited for did not happen in time. */
};

struct cli {
    struct arena *arena;
    const struct clock *clock;
    const char *program; /* Path of this program, for those it starts. */
    const char *state;   /* State folder; may not exist. */
    bool state_given;    /* By --state: beats AWS_* in the environment. */
    const char *endpoint_option, *region_option;
    bool json;     /* Print what the API answered. */
    int exit_code; /* Of a command that succeeds in saying "no": ssh, doctor. */

    /* Filled at first use; cli.c alone touches them. */
    struct client *tenant, *operator;
};

/* Endpoint and keys of one kind of caller. */
struct cli_keys {
    const char *endpoint, *key_id, *secret, *region;
};

void cli_fini(struct cli *cli);

/* --state, else MOLN_STATE, else /var/lib/moln. */
const char *cli_default_state(void);
/* The keys of the tenant (AWS_* when AWS_ENDPOINT_URL is set among them, else
 * STATE/credentials) or of the operator (STATE/operator, or MOLN_OPERATOR_FILE). */
MUST_CHECK bool cli_tenant_keys(struct cli *cli, struct cli_keys *out, struct err *err);
MUST_CHECK bool cli_operator_keys(struct cli *cli, struct cli_keys *out,
                                  struct err *err);

/* A client signing as the tenant or the operator; borrowed. */
MUST_CHECK struct client *cli_tenant(struct cli *cli, struct err *err);
MUST_CHECK struct client *cli_operator(struct cli *cli, struct err *err);

/* "STATE/name" in the arena. */
char *cli_path(struct cli *cli, const char *name);

/* ERR_INVALID of the command line itself: exit status 2. */
bool cli_usage(struct err *err, const char *fmt, ...) PRINTF_LIKE(2, 3);
int cli_exit_code(const struct err *err);

/* A line on standard error, for people who wait; nothing when it is no terminal and
 * MOLN_PROGRESS is not set. */
void cli_progress(const char *fmt, ...) PRINTF_LIKE(1, 2);
void cli_sleep_ms(int ms);
