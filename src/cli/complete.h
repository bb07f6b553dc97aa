/* complete.h - completion scripts for shells, made from the table of commands.
 *
 * Commands and options are written into the script; names of instances, images, nodes
 * and accounts are asked of the cloud when they are completed.
 *
 * Threads:  one. */
#pragma once
#include "cli/command.h"

void complete_bash(FILE *out);
void complete_zsh(FILE *out);
