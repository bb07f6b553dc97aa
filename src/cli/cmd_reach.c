/* moln ssh, forward, tunnel, console, logs: ways to an instance that need no route. */
#include "cli/command.h"
#include "cli/forward.h"
#include "cli/instance.h"
#include "cli/ssh.h"
#include "cli/stream.h"
#include <termios.h>

static bool
parse_port(const char *text, int *out, struct err *err)
{
    char *end = NULL;
    long port = strtol(text, &end, 10);
    if (end == text || *end || port < 1 || port > 65535) {
        return cli_usage(err, "'%s' is no port: 1 to 65535", text);
    }
    *out = (int)port;
    return true;
}

static bool
run_tunnel(struct cli *cli, const struct args *args, struct err *err)
{
    int port;
    const char *id;
    AUTO(fd) int fd = -1;
    if (!parse_port(args->words[1], &port, err) ||
        !instance_id(cli, args->words[0], &id, err) ||
        !stream_tunnel(cli, id, port, &fd, err)) {
        return false;
    }
    stream_join(0, 1, fd);
    return true;
}

/* "80:8080" or "80": the instance's port, then ours. */
static bool
run_forward(struct cli *cli, const struct args *args, struct err *err)
{
    const char *id;
    if (!instance_id(cli, args->words[0], &id, err)) {
        return false;
    }
    char *text = arena_strdup(cli->arena, args->words[1]);
    char *colon = strchr(text, ':');
    int port, local;
    if (colon) {
        *colon = '\0';
    }
    if (!parse_port(text, &port, err)) {
        return false;
    }
    local = port;
    if (colon && str_eq(colon + 1, "0")) {
        local = 0;
    } else if (colon && !parse_port(colon + 1, &local, err)) {
        return false;
    }
    return forward_run(cli, id, port, local, err);
}

/* A terminal passes every key on, for the guest to make sense of. */
static bool
make_raw(struct termios *out_before)
{
    struct termios raw;
    if (tcgetattr(0, out_before) != 0) {
        return false;
    }
    raw = *out_before;
    cfmakeraw(&raw);
    return tcsetattr(0, TCSADRAIN, &raw) == 0;
}

static bool
run_console(struct cli *cli, const struct args *args, struct err *err)
{
    const char *id;
    AUTO(fd) int fd = -1;
    if (!instance_id(cli, args->words[0], &id, err) ||
        !stream_console(cli, id, &fd, err)) {
        return false;
    }
    struct termios before;
    if (!isatty(0) || !make_raw(&before)) {
        stream_join_script(0, 1, fd);
        return true;
    }
    (void)fprintf(stderr, "Console of %s; leave with ^] or ~.\r\n", id);
    stream_join_terminal(0, 1, fd);
    (void)tcsetattr(0, TCSADRAIN, &before);
    (void)fprintf(stderr, "\nLeft the console of %s.\n", id);
    return true;
}

/* What 'now' has beyond 'before': the console keeps its last 64 KiB only. */
static const char *
new_part(const char *before, const char *now)
{
    size_t had = strlen(before);
    if (strncmp(before, now, had) == 0) {
        return now + had;
    }
    /* The front was dropped: go on after the last of what was seen. */
    size_t tail = MIN(had, (size_t)256);
    const char *at = tail ? strstr(now, before + had - tail) : NULL;
    return at ? at + tail : now;
}

static bool
run_logs(struct cli *cli, const struct args *args, struct err *err)
{
    const char *id;
    if (!instance_id(cli, args->words[0], &id, err)) {
        return false;
    }
    char *seen = xstrdup("");
    bool ok;
    do {
        const char *text = "";
        ok = instance_console(cli, id, &text, err);
        const char *fresh = ok ? new_part(seen, text) : "";
        (void)fputs(fresh, stdout);
        (void)fflush(stdout);
        if (ok) {
            free(seen);
            seen = xstrdup(text);
        }
        if (ok && args_has(args, "follow")) {
            cli_sleep_ms(1000);
        }
    } while (ok && args_has(args, "follow"));
    free(seen);
    return ok;
}

static bool
run_ssh(struct cli *cli, const struct args *args, struct err *err)
{
    struct ssh_ask ask = {
        .target = args->words[0],
        .user = args_get(args, "user"),
        .key_file = args_get(args, "key"),
        .command = args->rest,
    };
    int64_t wait_s;
    if (!args_int(args, "wait", 0, 3600, 180, &wait_s, err)) {
        return false;
    }
    ask.wait_s = (int)wait_s;
    return ssh_exec(cli, &ask, err);
}

static const struct option ssh_options[] = {
    {"user", 'l', "NAME", "log in as (root, admin or ec2-user, by the image)"},
    {"key", 'i', "FILE", "private key (that of the instance's key pair)"},
    {"wait", 0, "SECONDS", "how long the guest may take to come up (180)"},
    {NULL, 0, NULL, NULL},
};
static const struct option logs_options[] = {
    {"follow", 'f', NULL, "go on as more comes; end with ^C"},
    {NULL, 0, NULL, NULL},
};

const struct command reach_commands[] = {
    {"ssh", "[USER@]INSTANCE [-- COMMAND...]", "log in, or run a command, by SSH",
     "Goes through a tunnel of the API, so that no route to the instance is needed. "
     "The\n"
     "host key is checked against the one on the instance's serial console. Ends with "
     "the\n"
     "command's own exit status. Waits for an instance that is still starting.\n"
     "\n"
     "  moln ssh i-0123456789abcdef0\n"
     "  moln ssh admin@web -- sudo systemctl status\n"
     "  moln ssh web -- tar -c /etc > etc.tar\n",
     ssh_options, 1, 1, WORD_INSTANCE, false, run_ssh},
    {"forward", "INSTANCE PORT[:LOCAL]",
     "make a port of an instance one of this computer",
     "Listens on 127.0.0.1 until ^C. LOCAL 0 takes any free port and prints it.\n"
     "\n"
     "  moln forward web 80:8080 &\n"
     "  curl http://127.0.0.1:8080/\n",
     NULL, 2, 2, WORD_INSTANCE, false, run_forward},
    {"tunnel", "INSTANCE PORT", "join standard input and output to a port",
     "What 'moln ssh' has ssh use as its ProxyCommand.\n"
     "\n"
     "  ssh -o ProxyCommand='moln tunnel i-0123456789abcdef0 22' root@web\n",
     NULL, 2, 2, WORD_INSTANCE, false, run_tunnel},
    {"console", "INSTANCE", "sit at the serial console",
     "Leave with ^] or, at the start of a line, ~. (tilde, full stop).\n"
     "\n"
     "  moln console web\n",
     NULL, 1, 1, WORD_INSTANCE, false, run_console},
    {"logs", "INSTANCE [--follow]", "print what the serial console said",
     "The last 64 KiB are kept, across restarts.\n"
     "\n"
     "  moln logs web --follow\n",
     logs_options, 1, 1, WORD_INSTANCE, false, run_logs},
    {NULL},
};
