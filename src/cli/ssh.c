#include "cli/ssh.h"
#include "base/file.h"
#include "base/map.h"
#include "cli/hostkey.h"
#include "cli/image.h"
#include "cli/instance.h"
#include "cli/keys.h"
#include "cli/stream.h"
#include <errno.h>
#include <poll.h>

#define POLL_MS 500

/* What is found out about the instance before ssh starts. */
struct target {
    const char *id, *user, *key_file;
    const char *hosts_file;
    bool known; /* 'hosts_file' holds its keys; else the first contact is believed. */
};

static const char *
user_of_image(struct cli *cli, const char *image_id)
{
    AUTO(form) struct form form = {0};
    AUTO(json) json_t *answer = NULL;
    struct err ignored = {0};
    form_put(&form, "ImageId.1", image_id);
    if (!api_ec2(cli, "DescribeImages", &form, &answer, &ignored)) {
        return "root"; /* Deregistered: every cloud image knows root, if only to refuse.
                        */
    }
    return image_user(json_text(cli->arena, answer, "Images.0.Name"));
}

/* Waits until 'id' runs. */
static bool
wait_running(struct cli *cli, json_t *instance, const char *id, int wait_s,
             struct err *err)
{
    const char *state = json_text(cli->arena, instance, "State.Name");
    if (str_eq(state, "running")) {
        return true;
    }
    if (!str_eq(state, "pending")) {
        return err_set(err, ERR_SYSTEM, "%s is %s; 'moln start %s'", id, state, id);
    }
    cli_progress("waiting until %s runs", id);
    return instance_wait(cli, &id, 1, "running", wait_s, err);
}

/* Whether something on port 22 greets as SSH does, within five seconds. */
static bool
answers(struct cli *cli, const char *id)
{
    struct err ignored = {0};
    AUTO(fd) int fd = -1;
    if (!stream_tunnel(cli, id, 22, &fd, &ignored)) {
        return false;
    }
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char greeting[4];
    return poll(&p, 1, 5000) == 1 && read(fd, greeting, sizeof greeting) == 4 &&
           memcmp(greeting, "SSH-", 4) == 0;
}

/* The console's keys as a known_hosts file, once the guest has printed them. Guests
 * that print none are known by first contact: '*out_known' is false then. */
static bool
learn_hosts(struct cli *cli, struct target *target, int wait_s, struct err *err)
{
    int64_t end = clock_mono(cli->clock) + wait_s * NS_PER_S;
    bool told = false;
    for (;;) {
        const char *console, *hosts;
        if (!instance_console(cli, target->id, &console, err)) {
            return false;
        }
        hosts = hostkey_known_hosts(cli->arena, console, target->id);
        if (hosts && answers(cli, target->id)) {
            target->known = true;
            return file_write(target->hosts_file, hosts, strlen(hosts), 0600, err);
        }
        /* The console keeps its last 64 KiB: what was learned from it before holds. */
        if (!hosts && file_exists(target->hosts_file) && answers(cli, target->id)) {
            target->known = true;
            return true;
        }
        if (clock_mono(cli->clock) > end) {
            if (!answers(cli, target->id)) {
                return err_set(
                    err, ERR_TIMEOUT,
                    "%s does not answer SSH after %d s; 'moln logs %s' shows "
                    "its console",
                    target->id, wait_s, target->id);
            }
            (void)fprintf(stderr,
                          "moln: no host key on the console of %s: the key of the "
                          "first contact is believed\n",
                          target->id);
            return true;
        }
        if (!told) {
            cli_progress("waiting for SSH on %s", target->id);
            told = true;
        }
        cli_sleep_ms(POLL_MS);
    }
}

static bool
hosts_file(struct cli *cli, const char *id, const char **out, struct err *err)
{
    const char *cache = getenv("XDG_CACHE_HOME");
    const char *home = getenv("HOME");
    const char *folder = !str_empty(cache)
                             ? arena_printf(cli->arena, "%s/moln/hosts", cache)
                             : arena_printf(cli->arena, "%s/.cache/moln/hosts",
                                            str_empty(home) ? "/tmp" : home);
    *out = arena_printf(cli->arena, "%s/%s", folder, id);
    return dir_make(folder, 0700, err);
}

/* "USER@INSTANCE": the user in the arena, or NULL; '*out_name' what follows. */
static const char *
split_user(struct cli *cli, const char *text, const char **out_name)
{
    const char *at = strchr(text, '@');
    *out_name = at ? at + 1 : text;
    return at ? arena_strndup(cli->arena, text, (size_t)(at - text)) : NULL;
}

static bool
find_target(struct cli *cli, const struct ssh_ask *ask, struct target *out,
            struct err *err)
{
    const char *name;
    const char *user = split_user(cli, ask->target, &name);
    AUTO(json) json_t *instance = NULL;
    if (!instance_find(cli, name, &instance, err)) {
        return false;
    }
    out->id = arena_strdup(cli->arena, json_text(cli->arena, instance, "InstanceId"));
    out->user = user ? user
                : ask->user
                    ? ask->user
                    : user_of_image(cli, json_text(cli->arena, instance, "ImageId"));
    out->key_file = ask->key_file;
    const char *pair = json_text(cli->arena, instance, "KeyName");
    if (!out->key_file && *pair && !keys_file(cli, pair, &out->key_file, err)) {
        return false;
    }
    if (!out->key_file && *pair) {
        (void)fprintf(
            stderr,
            "moln: the private half of key pair '%s' is not on this computer; "
            "--key FILE names it, or ssh uses its own keys\n",
            pair);
    }
    return wait_running(cli, instance, out->id, ask->wait_s, err) &&
           hosts_file(cli, out->id, &out->hosts_file, err);
}

/* A word for the shell that runs ssh's ProxyCommand; % is ssh's own sign. */
static const char *
shell_quoted(struct cli *cli, const char *word)
{
    AUTO(buf) struct buf out = {0};
    buf_putc(&out, '\'');
    for (; *word; word++) {
        if (*word == '\'') {
            buf_puts(&out, "'\\''");
        } else if (*word == '%') {
            buf_puts(&out, "%%");
        } else {
            buf_putc(&out, *word);
        }
    }
    buf_putc(&out, '\'');
    return arena_strdup(cli->arena, buf_str(&out));
}

static const char *
proxy_command(struct cli *cli, const char *id)
{
    AUTO(buf) struct buf out = {0};
    buf_printf(&out, "ProxyCommand=%s", shell_quoted(cli, cli->program));
    if (cli->state_given) {
        buf_printf(&out, " --state %s", shell_quoted(cli, cli->state));
    }
    if (cli->endpoint_option) {
        buf_printf(&out, " --endpoint %s", shell_quoted(cli, cli->endpoint_option));
    }
    if (cli->region_option) {
        buf_printf(&out, " --region %s", shell_quoted(cli, cli->region_option));
    }
    buf_printf(&out, " tunnel %s 22", id);
    return arena_strdup(cli->arena, buf_str(&out));
}

typedef VEC(const char *) word_list;

static void
put_option(word_list *argv, const char *option)
{
    VEC_PUSH(argv, "-o");
    VEC_PUSH(argv, option);
}

bool
ssh_exec(struct cli *cli, const struct ssh_ask *ask, struct err *err)
{
    struct target target = {0};
    if (!find_target(cli, ask, &target, err) ||
        !learn_hosts(cli, &target, ask->wait_s, err)) {
        return false;
    }
    word_list argv = {0};
    VEC_PUSH(&argv, "ssh");
    put_option(&argv, proxy_command(cli, target.id));
    put_option(&argv, arena_printf(cli->arena, "HostKeyAlias=%s", target.id));
    put_option(&argv,
               arena_printf(cli->arena, "UserKnownHostsFile=%s", target.hosts_file));
    put_option(&argv, "GlobalKnownHostsFile=/dev/null");
    put_option(&argv, target.known ? "StrictHostKeyChecking=yes"
                                   : "StrictHostKeyChecking=accept-new");
    put_option(&argv, "UpdateHostKeys=no");
    put_option(&argv, "CheckHostIP=no");
    put_option(&argv, "ServerAliveInterval=30");
    put_option(&argv, "LogLevel=ERROR");
    if (target.key_file) {
        put_option(&argv, "IdentitiesOnly=yes");
        VEC_PUSH(&argv, "-i");
        VEC_PUSH(&argv, target.key_file);
    }
    VEC_PUSH(&argv, arena_printf(cli->arena, "%s@%s", target.user, target.id));
    if (ask->command && ask->command[0]) {
        VEC_PUSH(&argv, "--");
    }
    for (size_t i = 0; ask->command && ask->command[i]; i++) {
        VEC_PUSH(&argv, ask->command[i]);
    }
    VEC_PUSH(&argv, NULL);
    (void)execvp("ssh", (char *const *)argv.items);
    int sys = errno;
    VEC_FREE(&argv);
    return err_sys(err, sys, "start ssh (Debian's package openssh-client)");
}
