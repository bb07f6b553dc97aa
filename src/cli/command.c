#include "cli/command.h"
#include <errno.h>

const struct command_group command_groups[] = {
    {"Instances", instance_commands},
    {"Reaching them", reach_commands},
    {"Images", image_commands},
    {"Accounts (operators)", account_commands},
    {"Nodes (operators)", node_commands},
    {"Uplinks (operators)", uplink_commands},
    {"Control processes (operators)", control_commands},
    {"Records (operators)", logs_commands},
    {"Hosts and placement (operators)", host_commands},
    {"Hosts alike (operators)", pool_commands},
    {"Moving instances (operators)", migrate_commands},
    {"The cloud", cloud_commands},
    {"Its rows", store_commands},
    {NULL, NULL},
};

const struct option global_options[] = {
    {"state", 0, "DIR", "the cloud's state folder (MOLN_STATE, /var/lib/moln)"},
    {"endpoint", 0, "URL", "another cloud's API (AWS_ENDPOINT_URL)"},
    {"region", 0, "NAME", "region (AWS_REGION, AWS_DEFAULT_REGION)"},
    {"json", 0, NULL, "print what the API answers, for programs"},
    {"help", 'h', NULL, "explain the command"},
    {NULL, 0, NULL, NULL},
};

/* Whether 'argv' begins with the words of 'name'; their number, or 0. */
static int
matches(const char *name, int argc, const char *const *argv)
{
    int used = 0;
    while (*name) {
        size_t len = strcspn(name, " ");
        if (used >= argc || strlen(argv[used]) != len ||
            memcmp(argv[used], name, len) != 0) {
            return 0;
        }
        used++;
        name += len;
        name += strspn(name, " ");
    }
    return used;
}

const struct command *
command_find(int argc, const char *const *argv, int *out_used)
{
    const struct command *best = NULL;
    int best_used = 0;
    for (const struct command_group *g = command_groups; g->title; g++) {
        for (const struct command *c = g->commands; c->name; c++) {
            int used = matches(c->name, argc, argv);
            if (used > best_used) {
                best = c;
                best_used = used;
            }
        }
    }
    *out_used = best_used;
    return best;
}

static const struct option *
find_option(const struct option *options, const char *name, size_t len)
{
    for (const struct option *o = options; o && o->name; o++) {
        bool is_long = strlen(o->name) == len && memcmp(o->name, name, len) == 0;
        if (is_long || (len == 1 && o->letter && o->letter == *name)) {
            return o;
        }
    }
    return NULL;
}

static void
apply_global(struct cli *cli, const struct option *o, const char *value, bool *out_help)
{
    if (str_eq(o->name, "state")) {
        cli->state = value;
        cli->state_given = true;
    } else if (str_eq(o->name, "endpoint")) {
        cli->endpoint_option = value;
    } else if (str_eq(o->name, "region")) {
        cli->region_option = value;
    } else if (str_eq(o->name, "json")) {
        cli->json = true;
    } else {
        *out_help = true;
    }
}

/* One option at argv[*at]; moves '*at' past its value. */
static bool
parse_option(struct cli *cli, const struct command *command, int argc,
             const char *const *argv, int *at, struct args *out, bool *out_help,
             struct err *err)
{
    const char *word = argv[*at];
    const char *name = word + (word[1] == '-' ? 2 : 1);
    const char *equals = strchr(name, '=');
    size_t len = equals ? (size_t)(equals - name) : strlen(name);
    const struct option *o = command ? find_option(command->options, name, len) : NULL;
    bool global = !o;
    if (global) {
        o = find_option(global_options, name, len);
    }
    if (!o) {
        return cli_usage(err, "'%s' has no option %s; 'moln help %s' lists them",
                         command ? command->name : "moln", word,
                         command ? command->name : "");
    }
    const char *value = "";
    if (o->value && equals) {
        value = equals + 1;
    } else if (o->value) {
        if (*at + 1 >= argc) {
            return cli_usage(err, "--%s needs a value: --%s %s", o->name, o->name,
                             o->value);
        }
        value = argv[++*at];
    } else if (equals) {
        return cli_usage(err, "--%s takes no value", o->name);
    }
    if (global) {
        apply_global(cli, o, value, out_help);
        return true;
    }
    if (out->given_count == ARRAY_LEN(out->given)) {
        return cli_usage(err, "too many options");
    }
    out->given[out->given_count].option = o;
    out->given[out->given_count++].value = value;
    return true;
}

bool
args_globals(struct cli *cli, int argc, const char *const *argv, int *out_used,
             bool *out_help, struct err *err)
{
    struct args none = {0};
    int at = 0;
    for (; at < argc && argv[at][0] == '-' && argv[at][1]; at++) {
        if (!parse_option(cli, NULL, argc, argv, &at, &none, out_help, err)) {
            return false;
        }
    }
    *out_used = at;
    return true;
}

static bool
check_words(const struct command *command, const struct args *args, struct err *err)
{
    if (args->word_count < command->min_words) {
        return cli_usage(err, "usage: moln %s %s", command->name, command->usage);
    }
    if (args->word_count > command->max_words) {
        return cli_usage(err, "'%s' is one word too many; usage: moln %s %s",
                         args->words[command->max_words], command->name,
                         command->usage);
    }
    return true;
}

bool
args_parse(struct cli *cli, const struct command *command, int argc,
           const char *const *argv, struct args *out, bool *out_help, struct err *err)
{
    *out = (struct args){0};
    out->words = ARENA_ARRAY(cli->arena, (size_t)argc + 1, const char *);
    out->rest = ARENA_ARRAY(cli->arena, (size_t)argc + 1, const char *);
    int at = 0;
    for (; at < argc; at++) {
        const char *word = argv[at];
        if (command->takes_rest && !str_eq(word, "--help")) {
            break;
        }
        if (str_eq(word, "--")) {
            at++;
            break;
        }
        if (word[0] != '-' || !word[1]) {
            out->words[out->word_count++] = word;
        } else if (!parse_option(cli, command, argc, argv, &at, out, out_help, err)) {
            return false;
        }
    }
    for (; at < argc; at++) {
        out->rest[out->rest_count++] = argv[at];
    }
    return *out_help || check_words(command, out, err);
}

const char *
args_get(const struct args *args, const char *name)
{
    const char *value = NULL;
    for (size_t i = 0; i < args->given_count; i++) {
        if (str_eq(args->given[i].option->name, name)) {
            value = args->given[i].value;
        }
    }
    return value;
}

bool
args_has(const struct args *args, const char *name)
{
    return args_get(args, name) != NULL;
}

bool
args_int(const struct args *args, const char *name, int64_t min, int64_t max,
         int64_t otherwise, int64_t *out, struct err *err)
{
    const char *text = args_get(args, name);
    if (!text) {
        *out = otherwise;
        return true;
    }
    char *end = NULL;
    errno = 0;
    long long n = strtoll(text, &end, 10);
    if (errno || end == text || *end || n < min || n > max) {
        return cli_usage(
            err, "--%s wants a number from %" PRId64 " to %" PRId64 ", not '%s'", name,
            min, max, text);
    }
    *out = n;
    return true;
}
