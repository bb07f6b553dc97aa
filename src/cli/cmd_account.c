/* moln account ...: tenants, their keys and quotas; operators' own keys. */
#include "base/file.h"
#include "cli/command.h"
#include "cli/listing.h"

/* What is used of a limit; the limit alone where the answer does not count use. */
static void
put_use(struct grid *grid, json_t *a, const char *used, const char *quota,
        const char *unit)
{
    if (json_object_get(a, used)) {
        grid_printf(grid, "%" PRId64 " / %" PRId64 "%s", json_int(a, used),
                    json_int(a, quota), unit);
    } else {
        grid_printf(grid, "%" PRId64 "%s", json_int(a, quota), unit);
    }
}

static void
put_account(struct cli *cli, struct grid *grid, json_t *a)
{
    grid_put(grid, json_text(cli->arena, a, "AccountId"));
    grid_put(grid, json_text(cli->arena, a, "Name"));
    grid_put(grid, json_text(cli->arena, a, "State"));
    put_use(grid, a, "UsedInstances", "QuotaInstances", "");
    put_use(grid, a, "UsedVcpus", "QuotaVcpus", "");
    put_use(grid, a, "UsedDiskGiB", "QuotaDiskGiB", " GiB");
    grid_put(grid, json_bool(a, "Tunnels") ? "on" : "off");
}

static const struct listing accounts = {
    (const char *const[]){"ACCOUNT", "NAME", "STATE", "INSTANCES", "VCPUS", "DISK",
                          "TUNNELS", NULL},
    put_account, NULL};

/* An operation whose input is the account and whose answer shows it. */
static bool
account_call(struct cli *cli, const char *operation, json_t *in, struct err *err)
{
    return listing_one(cli, &accounts, operation, in, "Account", err);
}

/* Adds the quotas given as options to 'in'. */
static bool
put_quotas(const struct args *args, json_t *in, bool *out_any, struct err *err)
{
    static const struct {
        const char *option, *member;
    } quotas[] = {{"vcpus", "QuotaVcpus"},
                  {"instances", "QuotaInstances"},
                  {"disk", "QuotaDiskGiB"}};
    *out_any = false;
    for (size_t i = 0; i < ARRAY_LEN(quotas); i++) {
        int64_t n;
        if (!args_int(args, quotas[i].option, 0, 1000000000, -1, &n, err)) {
            return false;
        }
        if (n >= 0) {
            json_object_set_new(in, quotas[i].member, json_integer(n));
            *out_any = true;
        }
    }
    return true;
}

/* A key as a credentials file, which is how programs take it. */
static void
print_key(struct cli *cli, json_t *answer)
{
    if (cli->json) {
        json_print(answer);
        return;
    }
    json_t *key = json_object_get(answer, "AccessKey");
    printf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n",
           json_text(cli->arena, key, "AccessKeyId"),
           json_text(cli->arena, key, "SecretAccessKey"));
    if (isatty(1)) {
        (void)fprintf(stderr, "The secret is shown this once.\n");
    }
}

static bool
run_create(struct cli *cli, const struct args *args, struct err *err)
{
    AUTO(json) json_t *in = json_pack("{ss}", "Name", args->words[0]);
    AUTO(json) json_t *account = NULL, *key_in = NULL, *key = NULL;
    bool any;
    if (args_has(args, "id")) {
        json_object_set_new(in, "AccountId", json_string(args_get(args, "id")));
    }
    if (!put_quotas(args, in, &any, err) ||
        !api_operator(cli, "CreateAccount", in, &account, err)) {
        return false;
    }
    const char *id = json_text(cli->arena, account, "Account.AccountId");
    key_in = json_pack("{ss}", "AccountId", id);
    if (!api_operator(cli, "CreateAccessKey", key_in, &key, err)) {
        return err_wrap(err, "account %s is made, its key is not", id);
    }
    if (cli->json) {
        json_object_update(account, key);
        json_print(account);
        return true;
    }
    printf("# account %s (%s)\n", id, args->words[0]);
    print_key(cli, key);
    return true;
}

static bool
run_ls(struct cli *cli, const struct args *args UNUSED, struct err *err)
{
    return listing_all(cli, &accounts, "ListAccounts", NULL, "Accounts", err);
}

static bool
on_account(struct cli *cli, const struct args *args, const char *operation,
           struct err *err)
{
    AUTO(json) json_t *in = json_pack("{ss}", "AccountId", args->words[0]);
    return account_call(cli, operation, in, err);
}

static bool
run_show(struct cli *cli, const struct args *args, struct err *err)
{
    return on_account(cli, args, "DescribeAccount", err);
}

static bool
run_disable(struct cli *cli, const struct args *args, struct err *err)
{
    return on_account(cli, args, "DisableAccount", err);
}

static bool
run_enable(struct cli *cli, const struct args *args, struct err *err)
{
    return on_account(cli, args, "EnableAccount", err);
}

static bool
run_rm(struct cli *cli, const struct args *args, struct err *err)
{
    AUTO(json) json_t *in = json_pack("{ss}", "AccountId", args->words[0]);
    AUTO(json) json_t *answer = NULL;
    if (!api_operator(cli, "DeleteAccount", in, &answer, err)) {
        return false;
    }
    printf("%s  deleted\n", args->words[0]);
    return true;
}

static bool
run_quota(struct cli *cli, const struct args *args, struct err *err)
{
    AUTO(json) json_t *in = json_pack("{ss}", "AccountId", args->words[0]);
    bool any;
    if (!put_quotas(args, in, &any, err)) {
        return false;
    }
    return account_call(cli, any ? "SetAccountQuota" : "DescribeAccount", in, err);
}

static bool
run_tunnels(struct cli *cli, const struct args *args, struct err *err)
{
    bool on = str_eq(args->words[1], "on");
    if (!on && !str_eq(args->words[1], "off")) {
        return cli_usage(err, "tunnels are 'on' or 'off', not '%s'", args->words[1]);
    }
    AUTO(json)
    json_t *in = json_pack("{sssb}", "AccountId", args->words[0], "Enabled", (int)on);
    return account_call(cli, "SetTunnels", in, err);
}

/* ---- keys ------------------------------------------------------------------------ */

static void
time_cell(struct cli *cli, struct grid *grid, json_t *object, const char *member)
{
    char age[32];
    json_t *at = json_object_get(object, member);
    human_age((int64_t)(json_number_value(at) * (double)NS_PER_S),
              clock_real(cli->clock), age);
    grid_put(grid, age);
}

static void
put_access_key(struct cli *cli, struct grid *grid, json_t *key)
{
    grid_put(grid, json_text(cli->arena, key, "AccessKeyId"));
    grid_put(grid, json_text(cli->arena, key, "State"));
    grid_put(grid, json_text(cli->arena, key, "Name"));
    time_cell(cli, grid, key, "CreatedAt");
    time_cell(cli, grid, key, "LastUsedAt");
}

static const struct listing keys = {
    (const char *const[]){"KEY", "STATE", "NAME", "AGE", "USED", NULL}, put_access_key,
    NULL};

static bool
list_keys(struct cli *cli, const char *operation, json_t *in, struct err *err)
{
    return listing_one(cli, &keys, operation, in, "AccessKeys", err);
}

static bool
run_key_ls(struct cli *cli, const struct args *args, struct err *err)
{
    AUTO(json) json_t *in = json_pack("{ss}", "AccountId", args->words[0]);
    return list_keys(cli, "ListAccessKeys", in, err);
}

static bool
new_key(struct cli *cli, const char *operation, const char *member, const char *value,
        struct err *err)
{
    AUTO(json) json_t *in = json_pack("{ss}", member, value);
    AUTO(json) json_t *answer = NULL;
    if (!api_operator(cli, operation, in, &answer, err)) {
        return false;
    }
    print_key(cli, answer);
    return true;
}

static bool
run_key_create(struct cli *cli, const struct args *args, struct err *err)
{
    return new_key(cli, "CreateAccessKey", "AccountId", args->words[0], err);
}

static bool
run_key_rotate(struct cli *cli, const struct args *args, struct err *err)
{
    return new_key(cli, "RotateAccessKey", "AccessKeyId", args->words[0], err);
}

/* An operation on one key, which answers nothing worth a grid. */
static bool
on_key(struct cli *cli, const struct args *args, const char *operation,
       const char *done, struct err *err)
{
    AUTO(json) json_t *in = json_pack("{ss}", "AccessKeyId", args->words[0]);
    AUTO(json) json_t *answer = NULL;
    if (!api_operator(cli, operation, in, &answer, err)) {
        return false;
    }
    if (cli->json) {
        json_print(answer);
    } else {
        printf("%s  %s\n", args->words[0], done);
    }
    return true;
}

static bool
run_key_off(struct cli *cli, const struct args *args, struct err *err)
{
    return on_key(cli, args, "DeactivateAccessKey", "inactive", err);
}

static bool
run_key_on(struct cli *cli, const struct args *args, struct err *err)
{
    return on_key(cli, args, "ActivateAccessKey", "active", err);
}

static bool
run_key_rm(struct cli *cli, const struct args *args, struct err *err)
{
    return on_key(cli, args, "DeleteAccessKey", "deleted", err);
}

static bool
run_operator_ls(struct cli *cli, const struct args *args, struct err *err)
{
    (void)args;
    return list_keys(cli, "ListOperatorKeys", NULL, err);
}

static bool
run_operator_create(struct cli *cli, const struct args *args, struct err *err)
{
    return new_key(cli, "CreateOperatorKey", "Name", args->words[0], err);
}

static bool
run_operator_off(struct cli *cli, const struct args *args, struct err *err)
{
    return on_key(cli, args, "DeactivateOperatorKey", "inactive", err);
}

#define QUOTAS \
    {"vcpus", 0, "N", "virtual processors running at once; 0: the cloud's default"}, \
        {"instances", 0, "N", "instances not terminated"}, \
    { \
        "disk", 0, "GIB", "all volumes together" \
    }
#define END \
    { \
        NULL, 0, NULL, NULL \
    }

static const struct option create_options[] = {
    {"id", 0, "DIGITS", "its 12 digits (drawn at random)"}, QUOTAS, END};
static const struct option quota_options[] = {QUOTAS, END};

const struct command account_commands[] = {
    {"account create", "NAME", "make an account and its first access key",
     "Prints the key as a credentials file. The secret cannot be shown again.\n"
     "\n"
     "  moln account create team-a --instances 20 > team-a.credentials\n",
     create_options, 1, 1, WORD_NONE, false, run_create},
    {"account ls", "", "list accounts: what they use, of what they may", NULL, NULL, 0,
     0, WORD_NONE, false, run_ls},
    {"account show", "ACCOUNT", "one account", NULL, NULL, 1, 1, WORD_ACCOUNT, false,
     run_show},
    {"account disable", "ACCOUNT", "refuse its calls; what it runs goes on", NULL, NULL,
     1, 1, WORD_ACCOUNT, false, run_disable},
    {"account enable", "ACCOUNT", "serve its calls again", NULL, NULL, 1, 1,
     WORD_ACCOUNT, false, run_enable},
    {"account rm", "ACCOUNT", "delete an account that owns nothing", NULL, NULL, 1, 1,
     WORD_ACCOUNT, false, run_rm},
    {"account quota", "ACCOUNT [--vcpus N] [--instances N] [--disk GIB]",
     "show or set limits", "  moln account quota 123456789012 --vcpus 64 --disk 500\n",
     quota_options, 1, 1, WORD_ACCOUNT, false, run_quota},
    {"account tunnels", "ACCOUNT on|off", "allow or refuse ssh, forward and console",
     NULL, NULL, 2, 2, WORD_ACCOUNT, false, run_tunnels},
    {"account key ls", "ACCOUNT", "list an account's access keys", NULL, NULL, 1, 1,
     WORD_ACCOUNT, false, run_key_ls},
    {"account key create", "ACCOUNT", "make another key; two live at a time", NULL,
     NULL, 1, 1, WORD_ACCOUNT, false, run_key_create},
    {"account key rotate", "KEY", "make a new key and deactivate this one", NULL, NULL,
     1, 1, WORD_NONE, false, run_key_rotate},
    {"account key deactivate", "KEY", "the key signs nothing from now on", NULL, NULL,
     1, 1, WORD_NONE, false, run_key_off},
    {"account key activate", "KEY", "the key signs again", NULL, NULL, 1, 1, WORD_NONE,
     false, run_key_on},
    {"account key rm", "KEY", "delete a key for ever", NULL, NULL, 1, 1, WORD_NONE,
     false, run_key_rm},
    {"operator key ls", "", "list the operators' keys", NULL, NULL, 0, 0, WORD_NONE,
     false, run_operator_ls},
    {"operator key create", "NAME", "make a key for another operator", NULL, NULL, 1, 1,
     WORD_NONE, false, run_operator_create},
    {"operator key deactivate", "KEY", "the operator's key signs nothing from now on",
     NULL, NULL, 1, 1, WORD_NONE, false, run_operator_off},
    {NULL},
};
