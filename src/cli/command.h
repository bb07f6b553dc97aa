/* command.h - the table of commands: what 'moln' understands, in one place.
 *
 * Purpose:  one description a command drives parsing, --help, shell completion and the
 *           manual page.
 * Owner:    constant data; one file a group of commands.
 * Threads:  one.
 * Failure:  a wrong command line is cli_usage()'s error, with what to do. */
#pragma once
#include "cli/cli.h"

/* What a command's arguments are, for the shell's completion. */
enum word_kind {
    WORD_NONE,
    WORD_FILE,
    WORD_INSTANCE,
    WORD_IMAGE,
    WORD_NODE,
    WORD_ACCOUNT,
    WORD_COMMAND, /* Another of moln's commands. */
};

struct option {
    const char *name;  /* "image": --image */
    char letter;       /* 'i': -i, or 0. */
    const char *value; /* "NAME": takes a value; NULL: a switch. */
    const char *help;
};

struct args {
    struct {
        const struct option *option;
        const char *value;
    } given[64];
    size_t given_count;
    const char **words; /* Positional arguments... */
    size_t word_count;
    const char **rest; /* ...and what follows "--"; NULL-terminated. */
    size_t rest_count;
};

struct command;
typedef bool command_fn(struct cli *cli, const struct args *args, struct err *err);

struct command {
    const char *name;             /* "image import"; NULL ends a table. */
    const char *usage;            /* "FILE [--name NAME]", after the name. */
    const char *summary;          /* One line, without a full stop. */
    const char *help;             /* Paragraphs, then examples; may be NULL. */
    const struct option *options; /* Ended by a NULL name; may be NULL. */
    unsigned min_words, max_words;
    enum word_kind words;
    bool takes_rest; /* Everything after the name is passed on: 'moln aws ...'. */
    command_fn *run;
};

struct command_group {
    const char *title;
    const struct command *commands;
};

/* Ended by a NULL title. */
extern const struct command_group command_groups[];
/* Those that every command takes: --state, --json, ... */
extern const struct option global_options[];

/* The command that the first words of 'argv' name; '*out_used' says how many. NULL:
 * none. */
const struct command *command_find(int argc, const char *const *argv, int *out_used);

/* Applies the global options that 'argv' begins with; '*out_used' counts their words.
 */
MUST_CHECK bool args_globals(struct cli *cli, int argc, const char *const *argv,
                             int *out_used, bool *out_help, struct err *err);
/* Splits what follows the command's name. Global options are applied to 'cli'.
 * '*out_help' is set when --help is among them. */
MUST_CHECK bool args_parse(struct cli *cli, const struct command *command, int argc,
                           const char *const *argv, struct args *out, bool *out_help,
                           struct err *err);
/* The last value of --name, or NULL; for a switch: "" when given. */
const char *args_get(const struct args *args, const char *name);
bool args_has(const struct args *args, const char *name);
/* --name as a whole number in [min, max]; 'otherwise' when not given. */
MUST_CHECK bool args_int(const struct args *args, const char *name, int64_t min,
                         int64_t max, int64_t otherwise, int64_t *out, struct err *err);

/* Groups, defined one a file. */
extern const struct command instance_commands[];
extern const struct command reach_commands[];
extern const struct command image_commands[];
extern const struct command account_commands[];
extern const struct command node_commands[], host_commands[];
command_fn run_node_use; /* cmd_use.c */
extern const struct command uplink_commands[];
extern const struct command control_commands[];
extern const struct command pool_commands[];
extern const struct command migrate_commands[];
extern const struct command logs_commands[];
extern const struct command cloud_commands[];
extern const struct command store_commands[];
