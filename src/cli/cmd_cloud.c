/* moln status, audit, env, aws, doctor, backup, restore, completion, help, version. */
#include "cli/backup.h"
#include "cli/command.h"
#include "cli/complete.h"
#include "cli/doctor.h"
#include "cli/help.h"
#include "cli/listing.h"
#include <errno.h>

/* ---- status ---------------------------------------------------------------------- */

static void
print_status(struct cli *cli, json_t *s)
{
    char claimed[32], capacity[32], pool_free[32], pool[32];
    human_bytes(json_int(s, "ClaimedMemoryBytes"), claimed);
    human_bytes(json_int(s, "CapacityMemoryBytes"), capacity);
    human_bytes(json_int(s, "PoolFreeBytes"), pool_free);
    human_bytes(json_int(s, "PoolBytes"), pool);
    printf("cloud      %s, version %s\n", json_text(cli->arena, s, "CloudId"),
           json_text(cli->arena, s, "Version"));
    printf("endpoint   %s\n", json_text(cli->arena, s, "Endpoint"));
    printf("accounts   %" PRId64 "\n", json_int(s, "Accounts"));
    printf("nodes      %" PRId64 " of %" PRId64 " connected (%s)\n",
           json_int(s, "NodesConnected"), json_int(s, "Nodes"),
           json_text(cli->arena, s, "Accelerator"));
    printf("instances  %" PRId64 " running, %" PRId64 " stopped\n",
           json_int(s, "InstancesRunning"), json_int(s, "InstancesStopped"));
    printf("images     %" PRId64 "\n", json_int(s, "Images"));
    printf("vCPUs      %" PRId64 " of %" PRId64 " promised\n",
           json_int(s, "ClaimedVcpus"), json_int(s, "CapacityVcpus"));
    printf("memory     %s of %s promised\n", claimed, capacity);
    printf("disk       %s of %s free\n", pool_free, pool);
}

static bool
run_status(struct cli *cli, const struct args *args, struct err *err)
{
    (void)args;
    AUTO(json) json_t *answer = NULL;
    if (!api_operator(cli, "GetStatus", NULL, &answer, err)) {
        return false;
    }
    if (cli->json) {
        json_print(answer);
    } else {
        print_status(cli, answer);
    }
    return true;
}

/* ---- audit ----------------------------------------------------------------------- */

static void
put_record(struct cli *cli, struct grid *grid, json_t *r)
{
    int64_t count = json_int(r, "Count");
    const char *error = json_text(cli->arena, r, "ErrorCode");
    grid_put(grid, json_when(cli->arena, r, "At"));
    grid_put(grid, json_text(cli->arena, r, "AccountId"));
    grid_put(grid, json_text(cli->arena, r, "AccessKeyId"));
    grid_put(grid, json_text(cli->arena, r, "SourceIp"));
    grid_printf(grid, "%s:%s", json_text(cli->arena, r, "Service"),
                json_text(cli->arena, r, "Operation"));
    grid_printf(grid, "%" PRId64, count ? count : 1);
    grid_put(grid, *error ? error : "ok");
    grid_put(grid, json_text(cli->arena, r, "Detail"));
}

static const struct listing records = {
    (const char *const[]){"AT", "ACCOUNT", "KEY", "FROM", "OPERATION", "TIMES",
                          "RESULT", "DETAIL", NULL},
    put_record, NULL};

static bool
run_audit(struct cli *cli, const struct args *args, struct err *err)
{
    static const struct {
        const char *option, *member;
    } asked[] = {{"account", "AccountId"}, {"from", "FromDay"}, {"to", "ToDay"}};
    AUTO(json) json_t *in = json_object();
    for (size_t i = 0; i < ARRAY_LEN(asked); i++) {
        if (args_has(args, asked[i].option)) {
            json_object_set_new(in, asked[i].member,
                                json_string(args_get(args, asked[i].option)));
        }
    }
    return listing_all(cli, &records, "ListAuditRecords", in, "Records", err);
}

/* ---- env, aws -------------------------------------------------------------------- */

/* A word in single quotes, for a shell. */
static void
print_export(const char *name, const char *value)
{
    printf("export %s='", name);
    for (; *value; value++) {
        if (*value == '\'') {
            (void)fputs("'\\''", stdout);
        } else {
            (void)putchar(*value);
        }
    }
    (void)fputs("'\n", stdout);
}

static bool
run_env(struct cli *cli, const struct args *args, struct err *err)
{
    (void)args;
    struct cli_keys keys;
    if (!cli_tenant_keys(cli, &keys, err)) {
        return false;
    }
    print_export("AWS_ENDPOINT_URL", keys.endpoint);
    print_export("AWS_ACCESS_KEY_ID", keys.key_id);
    print_export("AWS_SECRET_ACCESS_KEY", keys.secret);
    print_export("AWS_DEFAULT_REGION", keys.region);
    print_export("MOLN_STATE", cli->state);
    printf("aws() { command aws --endpoint-url \"$AWS_ENDPOINT_URL\" \"$@\"; }\n");
    return true;
}

/* Becomes the aws command with our endpoint and keys. */
static bool
run_aws(struct cli *cli, const struct args *args, struct err *err)
{
    struct cli_keys keys;
    if (!cli_tenant_keys(cli, &keys, err)) {
        return false;
    }
    if (setenv("AWS_ACCESS_KEY_ID", keys.key_id, 1) != 0 ||
        setenv("AWS_SECRET_ACCESS_KEY", keys.secret, 1) != 0 ||
        setenv("AWS_DEFAULT_REGION", keys.region, 1) != 0 ||
        setenv("AWS_ENDPOINT_URL", keys.endpoint, 1) != 0) {
        return err_sys(err, errno, "set the environment");
    }
    (void)unsetenv("AWS_SESSION_TOKEN");
    (void)unsetenv("AWS_PROFILE");
    const char **argv = ARENA_ARRAY(cli->arena, args->rest_count + 4, const char *);
    size_t n = 0;
    argv[n++] = "aws";
    argv[n++] = "--endpoint-url";
    argv[n++] = keys.endpoint;
    for (size_t i = 0; i < args->rest_count; i++) {
        argv[n++] = args->rest[i];
    }
    (void)execvp("aws", (char *const *)argv);
    return err_sys(err, errno, "start aws (Debian's package awscli)");
}

/* ---- the rest -------------------------------------------------------------------- */

static bool
run_doctor(struct cli *cli, const struct args *args, struct err *err)
{
    (void)args;
    (void)err;
    cli->exit_code = doctor_run(cli) ? CLI_OK : CLI_FAILED;
    return true;
}

static bool
run_backup(struct cli *cli, const struct args *args, struct err *err)
{
    if (!backup_save(cli, args->words[0], err)) {
        return false;
    }
    printf("%s holds rows and master key. Keep it as secret as the cloud itself.\n",
           args->words[0]);
    return true;
}

static bool
run_restore(struct cli *cli, const struct args *args, struct err *err)
{
    if (!backup_restore(cli, args->words[0], args_has(args, "force"), err)) {
        return false;
    }
    printf("Restored into %s. 'make up' starts the cloud.\n", cli->state);
    return true;
}

static bool
run_completion(struct cli *cli, const struct args *args, struct err *err)
{
    (void)cli;
    if (str_eq(args->words[0], "bash")) {
        complete_bash(stdout);
        return true;
    }
    if (str_eq(args->words[0], "zsh")) {
        complete_zsh(stdout);
        return true;
    }
    return cli_usage(err, "completion is for bash or zsh, not '%s'", args->words[0]);
}

static bool
run_help(struct cli *cli, const struct args *args, struct err *err)
{
    (void)cli;
    if (args_has(args, "man")) {
        help_man(stdout);
        return true;
    }
    if (args->word_count == 0) {
        help_all(stdout);
        return true;
    }
    return help_words((int)args->word_count, args->words, stdout, err);
}

static bool
run_version(struct cli *cli, const struct args *args, struct err *err)
{
    (void)cli;
    (void)args;
    (void)err;
    printf("moln %s\n", MOLN_VERSION);
    return true;
}

static const struct option audit_options[] = {
    {"account", 0, "ID", "only this account's; 'operator' for operators' calls"},
    {"from", 0, "DAY", "from this day on, 2026-01-31 (today)"},
    {"to", 0, "DAY", "up to this day (today)"},
    {NULL, 0, NULL, NULL},
};
static const struct option restore_options[] = {
    {"force", 0, NULL, "replace the rows that are there"},
    {NULL, 0, NULL, NULL},
};
static const struct option help_options[] = {
    {"man", 0, NULL, "print the manual page moln(1)"},
    {NULL, 0, NULL, NULL},
};

const struct command cloud_commands[] = {
    {"status", "", "the cloud at a glance (operators)", NULL, NULL, 0, 0, WORD_NONE,
     false, run_status},
    {"audit", "[--account ID] [--from DAY] [--to DAY]",
     "list the calls that were made: who, what, from where (operators)",
     "Every call is recorded, refused ones too; reads alike share a line.\n"
     "\n"
     "  moln audit --from 2026-01-30 --account 123456789012\n"
     "  moln audit --json | jq '.Records[] | select(.ErrorCode)'\n",
     audit_options, 0, 0, WORD_NONE, false, run_audit},
    {"env", "", "print shell variables for AWS's tools",
     "Sets AWS_ENDPOINT_URL, the keys and the region, and a function 'aws' that passes "
     "the\n"
     "endpoint on: Debian's aws does not look at AWS_ENDPOINT_URL.\n"
     "\n"
     "  eval \"$(moln env)\"\n"
     "  aws ec2 describe-instances\n",
     NULL, 0, 0, WORD_NONE, false, run_env},
    {"aws", "WORDS...", "the aws command, with this cloud's endpoint and keys",
     "  moln aws ec2 describe-instance-types --instance-types t3.micro\n", NULL, 0, 0,
     WORD_NONE, true, run_aws},
    {"doctor", "", "say what this host lacks for being a cloud, and how to get it",
     "Looks at packages, virtualization, kernel features, memory, disk and clock. "
     "Ends\n"
     "with 0 when nothing needed is missing.\n"
     "\n"
     "  sudo moln doctor\n",
     NULL, 0, 0, WORD_NONE, false, run_doctor},
    {"backup", "FILE", "save rows and master key as one file (root)",
     "The cloud may be running. FILE is a tar archive, readable by its owner only. "
     "Disks\n"
     "and images are not in it.\n"
     "\n"
     "  sudo moln backup /root/moln-$(date +%F).tar\n",
     NULL, 1, 1, WORD_FILE, false, run_backup},
    {"restore", "FILE [--force]", "bring rows and master key back (root)",
     "The cloud must be stopped ('make down').\n"
     "\n"
     "  sudo moln restore /root/moln-2026-11-23.tar\n",
     restore_options, 1, 1, WORD_FILE, false, run_restore},
    {"completion", "bash|zsh", "print a script for the shell's completion",
     "  eval \"$(moln completion bash)\"\n", NULL, 1, 1, WORD_NONE, false,
     run_completion},
    {"help", "[COMMAND]", "explain moln, or one command", "  moln help image import\n",
     help_options, 0, 3, WORD_COMMAND, false, run_help},
    {"version", "", "print the version", NULL, NULL, 0, 0, WORD_NONE, false,
     run_version},
    {NULL},
};
