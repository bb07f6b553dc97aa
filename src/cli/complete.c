#include "cli/complete.h"

/* What to run for the names of a kind; the first column of each line after the titles.
 */
static const char *
lister(enum word_kind kind)
{
    switch (kind) {
    case WORD_INSTANCE:
        return "moln ls";
    case WORD_IMAGE:
        return "moln image ls";
    case WORD_NODE:
        return "moln node ls";
    case WORD_ACCOUNT:
        return "moln account ls";
    default:
        return NULL;
    }
}

static void
put_options(const struct option *options, FILE *out)
{
    for (const struct option *o = options; o && o->name; o++) {
        (void)fprintf(out, " --%s", o->name);
    }
}

/* One case of the script: what may follow the command. */
static void
put_case(const struct command *c, FILE *out)
{
    (void)fprintf(out, "    '%s'*)\n        words='", c->name);
    put_options(c->options, out);
    put_options(global_options, out);
    (void)fputs("'\n", out);
    const char *names = lister(c->words);
    if (names) {
        (void)fprintf(
            out,
            "        words=\"$words $(%s 2>/dev/null | awk 'NR > 1 { print $1 }')\"\n",
            names);
    }
    if (c->words == WORD_FILE) {
        (void)fputs("        files=1\n", out);
    }
    (void)fputs("        ;;\n", out);
}

/* Longer names come first: "account key ls" before "account". */
static void
put_cases(FILE *out)
{
    for (int spaces = 3; spaces >= 0; spaces--) {
        for (const struct command_group *g = command_groups; g->title; g++) {
            for (const struct command *c = g->commands; c->name; c++) {
                int n = 0;
                for (const char *s = c->name; *s; s++) {
                    n += *s == ' ';
                }
                if (n == spaces) {
                    put_case(c, out);
                }
            }
        }
    }
}

static void
put_names(FILE *out)
{
    for (const struct command_group *g = command_groups; g->title; g++) {
        for (const struct command *c = g->commands; c->name; c++) {
            (void)fprintf(out, "%s\n", c->name);
        }
    }
}

/* A function of both shells: sets 'words' and 'files' for the typed line. */
static void
put_common(FILE *out)
{
    (void)fputs("_moln_words() {\n"
                "    typed=$1 words= files=\n"
                "    case \"$typed \" in\n",
                out);
    put_cases(out);
    (void)fputs("    *)\n"
                "        words=$(_moln_commands | awk -v typed=\"$typed\" '\n"
                "            typed == \"\" { print $1; next }\n"
                "            index($0, typed \" \") == 1 {\n"
                "                split(substr($0, length(typed) + 2), rest, \" \")\n"
                "                print rest[1]\n"
                "            }' | sort -u)\n"
                "        ;;\n"
                "    esac\n"
                "}\n"
                "_moln_commands() {\n"
                "    cat <<'COMMANDS'\n",
                out);
    put_names(out);
    (void)fputs("COMMANDS\n}\n", out);
}

void
complete_bash(FILE *out)
{
    put_common(out);
    (void)fputs("_moln() {\n"
                "    local typed words files word=${COMP_WORDS[COMP_CWORD]}\n"
                "    local before=(\"${COMP_WORDS[@]:1:COMP_CWORD-1}\")\n"
                "    _moln_words \"${before[*]}\"\n"
                "    COMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
                "    if [ -n \"$files\" ]; then\n"
                "        COMPREPLY+=($(compgen -f -- \"$word\"))\n"
                "    fi\n"
                "}\n"
                "complete -o filenames -F _moln moln\n",
                out);
}

void
complete_zsh(FILE *out)
{
    (void)fputs("#compdef moln\n", out);
    put_common(out);
    (void)fputs("_moln() {\n"
                "    local typed files before=\"${words[2,CURRENT-1]}\"\n"
                "    local words\n"
                "    _moln_words \"$before\"\n"
                "    compadd -- ${=words}\n"
                "    [ -n \"$files\" ] && _files\n"
                "}\n"
                "compdef _moln moln\n",
                out);
}
