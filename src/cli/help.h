/* help.h - explanations, made from the table of commands.
 *
 * Threads:  one. */
#pragma once
#include "cli/command.h"

void help_all(FILE *out);
void help_command(const struct command *command, FILE *out);
/* Explains the command, or the family of commands, that 'words' name. */
MUST_CHECK bool help_words(int count, const char *const *words, FILE *out,
                           struct err *err);
/* The manual page moln(1), as mdoc. */
void help_man(FILE *out);
