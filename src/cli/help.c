#include "cli/help.h"

static void
print_summaries(const struct command *commands, const char *prefix, FILE *out)
{
    for (const struct command *c = commands; c->name; c++) {
        if (str_starts(c->name, prefix)) {
            (void)fprintf(out, "  %-24s %s\n", c->name, c->summary);
        }
    }
}

void
help_all(FILE *out)
{
    (void)fputs(
        "moln - a cloud of one's own: real virtual machines behind the EC2 API\n"
        "\n"
        "usage: moln [--state DIR] COMMAND [WORDS...]\n",
        out);
    for (const struct command_group *g = command_groups; g->title; g++) {
        (void)fprintf(out, "\n%s\n", g->title);
        print_summaries(g->commands, "", out);
    }
    (void)fputs(
        "\n'moln help COMMAND' explains one, with examples. Every command takes\n"
        "--json to print what the API answered.\n",
        out);
}

static void
print_options(const struct option *options, FILE *out)
{
    for (const struct option *o = options; o && o->name; o++) {
        char form[64];
        (void)snprintf(form, sizeof form, "%s%c%s--%s%s%s", o->letter ? "-" : "",
                       o->letter ? o->letter : ' ', o->letter ? ", " : "   ", o->name,
                       o->value ? " " : "", o->value ? o->value : "");
        (void)fprintf(out, "  %-24s %s\n", form, o->help);
    }
}

void
help_command(const struct command *command, FILE *out)
{
    (void)fprintf(out, "moln %s - %s\n\nusage: moln %s %s\n", command->name,
                  command->summary, command->name, command->usage);
    if (command->help) {
        (void)fprintf(out, "\n%s", command->help);
    }
    if (command->options) {
        (void)fputs("\nOptions:\n", out);
        print_options(command->options, out);
    }
    (void)fputs("\nOptions of every command:\n", out);
    print_options(global_options, out);
}

/* The commands whose names begin with 'prefix', if any: "image " for moln help image.
 */
static bool
print_family(const char *prefix, FILE *out)
{
    bool any = false;
    for (const struct command_group *g = command_groups; g->title; g++) {
        for (const struct command *c = g->commands; c->name; c++) {
            if (str_starts(c->name, prefix)) {
                (void)fprintf(out, "  moln %-28s %s\n", c->name, c->summary);
                any = true;
            }
        }
    }
    return any;
}

bool
help_words(int count, const char *const *words, FILE *out, struct err *err)
{
    int used;
    const struct command *command = command_find(count, words, &used);
    if (command && used == count) {
        help_command(command, out);
        return true;
    }
    char prefix[128] = "";
    for (int i = 0; i < count; i++) {
        size_t len = strlen(prefix);
        (void)snprintf(prefix + len, sizeof prefix - len, "%s ", words[i]);
    }
    if (print_family(prefix, out)) {
        return true;
    }
    return cli_usage(err, "there is no command '%s'; 'moln help' lists them", words[0]);
}

/* ---- manual page ----------------------------------------------------------------- */

/* A line of text for mdoc: a dot or quote at its start would be a macro. */
static void
man_text(const char *text, FILE *out)
{
    bool start = true;
    for (; *text; text++) {
        if (start && (*text == '.' || *text == '\'')) {
            (void)fputs("\\&", out);
        }
        if (*text == '\\') {
            (void)fputs("\\e", out);
        } else if (*text == '-') {
            (void)fputs("\\-", out);
        } else {
            (void)fputc(*text, out);
        }
        start = *text == '\n';
    }
}

static void
man_options(const struct option *options, FILE *out)
{
    if (!options) {
        return;
    }
    (void)fputs(".Bl -tag -width 8n -compact\n", out);
    for (const struct option *o = options; o->name; o++) {
        (void)fprintf(out, ".It Fl Fl %s%s%s\n", o->name, o->value ? " Ar " : "",
                      o->value ? o->value : "");
        man_text(o->help, out);
        (void)fputc('\n', out);
    }
    (void)fputs(".El\n", out);
}

static void
man_command(const struct command *c, FILE *out)
{
    (void)fprintf(out, ".It Cm %s", c->name);
    if (*c->usage) {
        (void)fputs(" No ", out);
        man_text(c->usage, out);
    }
    (void)fputc('\n', out);
    man_text(c->summary, out);
    (void)fputs(".\n", out);
    if (c->help) {
        (void)fputs(".Bd -literal -compact\n", out);
        man_text(c->help, out);
        (void)fputs(".Ed\n", out);
    }
    man_options(c->options, out);
}

void
help_man(FILE *out)
{
    (void)fputs(
        ".Dd November 23, 2026\n.Dt MOLN 1\n.Os\n.Sh NAME\n.Nm moln\n"
        ".Nd a cloud of one's own: real virtual machines behind the EC2 API\n"
        ".Sh SYNOPSIS\n.Nm\n.Op Fl Fl state Ar DIR\n.Ar COMMAND\n.Op Ar WORDS ...\n"
        ".Sh DESCRIPTION\n.Nm\n"
        "speaks to a cloud that\n.Xr molnd 8\n"
        "serves: as a tenant through the EC2 API, as an operator through moln's "
        "own.\nOptions of every command:\n",
        out);
    man_options(global_options, out);
    for (const struct command_group *g = command_groups; g->title; g++) {
        (void)fprintf(out, ".Ss %s\n.Bl -tag -width 4n\n", g->title);
        for (const struct command *c = g->commands; c->name; c++) {
            man_command(c, out);
        }
        (void)fputs(".El\n", out);
    }
    (void)fputs(
        ".Sh ENVIRONMENT\n.Bl -tag -width 4n\n"
        ".It Ev MOLN_STATE\nThe state folder, else\n.Pa /var/lib/moln .\n"
        ".It Ev MOLN_CACHE\nWhere recipes of images keep packages, else\n.Pa "
        "STATE/cache .\n"
        ".It Ev MOLN_OPERATOR_FILE\nThe operator's key, else\n.Pa STATE/operator .\n"
        ".It Ev AWS_ENDPOINT_URL , AWS_ACCESS_KEY_ID , AWS_SECRET_ACCESS_KEY , "
        "AWS_DEFAULT_REGION\n"
        "Another cloud, or another account. Keys count only where the endpoint is set "
        "too,\n"
        "so that keys of AWS itself are never sent here.\n"
        ".It Ev AWS_CA_BUNDLE\nCertificates to believe, for an https endpoint.\n.El\n"
        ".Sh FILES\n.Bl -tag -width 4n\n"
        ".It Pa STATE/endpoint\nThe API's address.\n"
        ".It Pa STATE/credentials\nThe first account's key, as a credentials file.\n"
        ".It Pa STATE/operator\nThe operator's key, likewise.\n"
        ".It Pa STATE/keys\nPrivate halves of key pairs made here.\n"
        ".It Pa ~/.cache/moln/hosts\nInstances' SSH host keys.\n.El\n"
        ".Sh EXIT STATUS\n.Bl -tag -width 4n -compact\n"
        ".It 0\nDone.\n.It 1\nRefused, or failed.\n.It 2\nThe command line is wrong.\n"
        ".It 3\nNo cloud answers.\n.It 4\nNot in time.\n.El\n.Pp\n"
        ".Cm ssh\nends with the status of what it ran, and with 255 where SSH failed.\n"
        ".Sh SEE ALSO\n.Xr molnd 8 ,\n.Xr moln-node 8\n",
        out);
}
