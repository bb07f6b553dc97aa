/* moln.c - the command line: finds the command, runs it, tells how it ended. */
#include "cli/command.h"
#include "cli/help.h"
#include <limits.h>
#include <signal.h>

/* This program's own path, for ssh's ProxyCommand and for the recipes beside it. */
static const char *
own_path(struct arena *arena, const char *name)
{
    char path[PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", path, sizeof path - 1);
    return len > 0 ? arena_strndup(arena, path, (size_t)len) : name;
}

static bool
run(struct cli *cli, int argc, const char *const *argv, struct err *err)
{
    int used;
    bool help = false;
    if (!args_globals(cli, argc, argv, &used, &help, err)) {
        return false;
    }
    argc -= used;
    argv += used;
    if (argc == 0) {
        help_all(stdout);
        return true;
    }
    const struct command *command = command_find(argc, argv, &used);
    if (!command) {
        return help_words(1, argv, stdout, err);
    }
    struct args args;
    if (!args_parse(cli, command, argc - used, argv + used, &args, &help, err)) {
        return false;
    }
    if (help) {
        help_command(command, stdout);
        return true;
    }
    return command->run(cli, &args, err);
}

int
main(int argc, char **argv)
{
    (void)signal(SIGPIPE, SIG_IGN); /* A lost tunnel is an error of write. */
    struct cli cli = {
        .arena = arena_create(),
        .clock = &clock_system,
        .state = cli_default_state(),
    };
    cli.program = own_path(cli.arena, argv[0]);
    struct err err = {0};
    const char *const *line = (const char *const *)argv;
    int code =
        run(&cli, argc - 1, line + 1, &err) ? cli.exit_code : cli_exit_code(&err);
    if (err.code != ERR_NONE) {
        (void)fflush(stdout);
        (void)fprintf(stderr, "moln: %s\n", err.msg);
    }
    cli_fini(&cli);
    return code;
}
