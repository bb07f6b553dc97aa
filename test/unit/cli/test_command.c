#include "cli/command.h"
#include "cli/complete.h"
#include "cli/help.h"
#include "test.h"

struct fixture {
    struct cli cli;
    struct args args;
    struct err err;
    bool help;
    const struct command *command;
};

/* Parses one line of words, as main does. */
static bool
parse(struct fixture *f, int argc, const char *const *argv)
{
    int used;
    *f = (struct fixture){.cli = {.arena = arena_create(), .state = "/nowhere"}};
    if (!args_globals(&f->cli, argc, argv, &used, &f->help, &f->err)) {
        return false;
    }
    argc -= used;
    argv += used;
    f->command = command_find(argc, argv, &used);
    assert_non_null(f->command);
    return args_parse(&f->cli, f->command, argc - used, argv + used, &f->args, &f->help,
                      &f->err);
}

#define PARSE(f, ...) \
    parse((f), (int)ARRAY_LEN(((const char *[]){__VA_ARGS__})), \
          (const char *[]){__VA_ARGS__})

TEST(command_find_takes_the_longest_name)
{
    int used;
    const char *words[] = {"account", "key", "ls", "123456789012"};
    CHECK_STR(command_find(4, words, &used)->name, "account key ls");
    CHECK(used == 3);
    CHECK(!command_find(1, (const char *[]){"nothing"}, &used));
}

TEST(args_parse_takes_options_anywhere_and_in_both_forms)
{
    struct fixture f;
    CHECK(PARSE(&f, "--state", "/x", "run", "--image=debian-12", "-n", "3", "--json"));
    CHECK_STR(f.cli.state, "/x");
    CHECK(f.cli.state_given && f.cli.json);
    CHECK_STR(args_get(&f.args, "image"), "debian-12");
    int64_t count = 0;
    CHECK(args_int(&f.args, "count", 1, 10, 1, &count, &f.err));
    CHECK(count == 3);
    cli_fini(&f.cli);
}

TEST(args_parse_leaves_what_follows_two_dashes_alone)
{
    struct fixture f;
    CHECK(PARSE(&f, "ssh", "web", "--", "ls", "--json", "-l"));
    CHECK(!f.cli.json);
    CHECK(f.args.rest_count == 3);
    CHECK_STR(f.args.rest[1], "--json");
    cli_fini(&f.cli);
}

TEST(args_parse_passes_all_words_on_to_aws)
{
    struct fixture f;
    CHECK(PARSE(&f, "aws", "ec2", "describe-instances", "--output", "text"));
    CHECK(f.args.rest_count == 4);
    cli_fini(&f.cli);
}

TEST(args_parse_tells_a_wrong_line_by_its_exit_status)
{
    struct fixture f;
    CHECK(!PARSE(&f, "show"));
    CHECK(cli_exit_code(&f.err) == CLI_USAGE);
    cli_fini(&f.cli);
    CHECK(!PARSE(&f, "ls", "--colour"));
    CHECK(cli_exit_code(&f.err) == CLI_USAGE);
    cli_fini(&f.cli);
    CHECK(!PARSE(&f, "ls", "one"));
    cli_fini(&f.cli);
}

TEST(args_int_refuses_what_is_out_of_range)
{
    struct fixture f;
    int64_t n = 7;
    CHECK(PARSE(&f, "run", "--count", "0"));
    CHECK(!args_int(&f.args, "count", 1, 10, 1, &n, &f.err));
    CHECK(n == 7);
    cli_fini(&f.cli);
}

/* What is described once must be usable: every name is found, every letter is its own.
 */
TEST(command_table_is_sound)
{
    for (const struct command_group *g = command_groups; g->title; g++) {
        for (const struct command *c = g->commands; c->name; c++) {
            CHECK(c->run && c->summary && c->usage);
            CHECK(c->min_words <= c->max_words);
            CHECK(c->summary[strlen(c->summary) - 1] != '.');
            for (const struct option *o = c->options; o && o->name; o++) {
                CHECK(o->help);
                for (const struct option *p = o + 1; p->name; p++) {
                    CHECK(!str_eq(o->name, p->name));
                    CHECK(!o->letter || o->letter != p->letter);
                }
            }
        }
    }
}

static char *
printed(void (*print)(FILE *))
{
    char *text = NULL;
    size_t len = 0;
    FILE *out = open_memstream(&text, &len);
    print(out);
    (void)fclose(out);
    return text;
}

TEST(complete_and_help_name_every_command)
{
    AUTO(free) char *bash = printed(complete_bash);
    AUTO(free) char *zsh = printed(complete_zsh);
    AUTO(free) char *help = printed(help_all);
    AUTO(free) char *man = printed(help_man);
    for (const struct command_group *g = command_groups; g->title; g++) {
        for (const struct command *c = g->commands; c->name; c++) {
            CHECK(strstr(bash, c->name) && strstr(zsh, c->name));
            CHECK(strstr(help, c->name) && strstr(man, c->name));
        }
    }
}
