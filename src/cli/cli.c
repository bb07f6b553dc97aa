#include "cli/cli.h"
#include "base/file.h"
#include "cli/ini.h"
#include <errno.h>
#include <time.h>

void
cli_fini(struct cli *cli)
{
    client_destroy(cli->tenant);
    client_destroy(cli->operator);
    arena_destroy(cli->arena);
    cli->tenant = cli->operator= NULL;
    cli->arena = NULL;
}

const char *
cli_default_state(void)
{
    const char *state = getenv("MOLN_STATE");
    return str_empty(state) ? "/var/lib/moln" : state;
}

char *
cli_path(struct cli *cli, const char *name)
{
    return arena_printf(cli->arena, "%s/%s", cli->state, name);
}

static const char *
env(const char *name)
{
    const char *value = getenv(name);
    return str_empty(value) ? NULL : value;
}

/* The text of STATE/endpoint, or NULL. */
static const char *
endpoint_of_state(struct cli *cli)
{
    AUTO(free) char *text = NULL;
    struct err ignored = {0};
    if (!file_read(cli_path(cli, "endpoint"), 4096, &text, NULL, &ignored)) {
        return NULL;
    }
    text[strcspn(text, " \t\r\n")] = '\0';
    return *text ? arena_strdup(cli->arena, text) : NULL;
}

static bool
find_endpoint(struct cli *cli, struct cli_keys *keys, struct err *err)
{
    if (cli->endpoint_option) {
        keys->endpoint = cli->endpoint_option;
        return true;
    }
    const char *from_env = env("AWS_ENDPOINT_URL");
    if (from_env && !cli->state_given) {
        keys->endpoint = from_env;
        return true;
    }
    keys->endpoint = endpoint_of_state(cli);
    if (!keys->endpoint) {
        return err_set(err, ERR_GONE,
                       "no cloud is known: %s/endpoint is not there. Start one with "
                       "'make up', or name another with --state DIR or --endpoint URL",
                       cli->state);
    }
    return true;
}

/* Keys out of one file in the form of AWS's shared credentials. */
static bool
keys_of_file(struct cli *cli, const char *path, struct cli_keys *keys, struct err *err)
{
    AUTO(free) char *text = NULL;
    if (!file_read(path, 64 * KIB, &text, NULL, err)) {
        if (err->code == ERR_DENIED) {
            return err_set(
                err, ERR_DENIED,
                "%s belongs to somebody else: be the user who ran 'make up', "
                "or root",
                path);
        }
        return false;
    }
    keys->key_id = ini_get(cli->arena, text, "default", "aws_access_key_id");
    keys->secret = ini_get(cli->arena, text, "default", "aws_secret_access_key");
    keys->region = ini_get(cli->arena, text, "default", "region");
    if (!keys->key_id || !keys->secret) {
        return err_set(err, ERR_INVALID, "%s holds no access key", path);
    }
    return true;
}

static void
choose_region(struct cli *cli, struct cli_keys *keys)
{
    const char *from_env =
        env("AWS_REGION") ? env("AWS_REGION") : env("AWS_DEFAULT_REGION");
    if (cli->region_option) {
        keys->region = cli->region_option;
    } else if (!keys->region) {
        keys->region = from_env ? from_env : "us-east-1";
    }
}

bool
cli_tenant_keys(struct cli *cli, struct cli_keys *out, struct err *err)
{
    struct cli_keys keys = {0};
    if (!find_endpoint(cli, &keys, err)) {
        return false;
    }
    /* Keys alone in the environment may be real AWS's: they count with an endpoint. */
    bool env_speaks = env("AWS_ENDPOINT_URL") && !cli->state_given;
    if (env_speaks && env("AWS_ACCESS_KEY_ID") && env("AWS_SECRET_ACCESS_KEY")) {
        keys.key_id = env("AWS_ACCESS_KEY_ID");
        keys.secret = env("AWS_SECRET_ACCESS_KEY");
        keys.region = env("AWS_REGION") ? env("AWS_REGION") : env("AWS_DEFAULT_REGION");
    } else if (!keys_of_file(cli, cli_path(cli, "credentials"), &keys, err)) {
        return false;
    }
    choose_region(cli, &keys);
    *out = keys;
    return true;
}

bool
cli_operator_keys(struct cli *cli, struct cli_keys *out, struct err *err)
{
    struct cli_keys keys = {0};
    if (!find_endpoint(cli, &keys, err)) {
        return false;
    }
    const char *file = env("MOLN_OPERATOR_FILE");
    if (!keys_of_file(cli, file ? file : cli_path(cli, "operator"), &keys, err)) {
        return err_wrap(err, "the operator's key");
    }
    choose_region(cli, &keys);
    *out = keys;
    return true;
}

static struct client *
make_client(struct cli *cli, const struct cli_keys *keys, struct err *err)
{
    struct client_config config = {
        .endpoint = keys->endpoint,
        .key_id = keys->key_id,
        .secret = keys->secret,
        .region = keys->region,
        .ca_file = env("AWS_CA_BUNDLE"),
        .clock = cli->clock,
    };
    return client_create(&config, err);
}

struct client *
cli_tenant(struct cli *cli, struct err *err)
{
    struct cli_keys keys;
    if (!cli->tenant && cli_tenant_keys(cli, &keys, err)) {
        cli->tenant = make_client(cli, &keys, err);
    }
    return cli->tenant;
}

struct client *
cli_operator(struct cli *cli, struct err *err)
{
    struct cli_keys keys;
    if (!cli->operator&& cli_operator_keys(cli, &keys, err)) {
        cli->operator= make_client(cli, &keys, err);
    }
    return cli->operator;
}

bool
cli_usage(struct err *err, const char *fmt, ...)
{
    char text[400];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    err->sys = EINVAL;
    err_set(err, ERR_INVALID, "%s", text);
    err->sys = EINVAL; /* What tells a wrong command line from a wrong parameter. */
    return false;
}

int
cli_exit_code(const struct err *err)
{
    switch (err->code) {
    case ERR_GONE:
        return CLI_NO_CLOUD;
    case ERR_TIMEOUT:
        return CLI_TIMEOUT;
    case ERR_INVALID:
        return err->sys == EINVAL ? CLI_USAGE : CLI_FAILED;
    default:
        return CLI_FAILED;
    }
}

void
cli_progress(const char *fmt, ...)
{
    if (!isatty(2) && !env("MOLN_PROGRESS")) {
        return;
    }
    va_list args;
    va_start(args, fmt);
    (void)vfprintf(stderr, fmt, args);
    va_end(args);
    (void)fputc('\n', stderr);
}

void
cli_sleep_ms(int ms)
{
    struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000L};
    (void)nanosleep(&t, NULL);
}
