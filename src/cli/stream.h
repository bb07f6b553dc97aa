/* stream.h - bytes both ways between local descriptors and a stream of the API.
 *
 * Threads:  one; blocks until both directions have ended.
 * Failure:  a lost stream ends it, as success: what it means is for the two ends. */
#pragma once
#include "cli/cli.h"

/* A tunnel to 'port' of an instance, as a socket; the caller's. */
MUST_CHECK bool stream_tunnel(struct cli *cli, const char *id, int port, int *out_fd,
                              struct err *err);
/* Its serial console. */
MUST_CHECK bool stream_console(struct cli *cli, const char *id, int *out_fd,
                               struct err *err);

/* Copies in_fd to socket and socket to out_fd. End of input shuts down the socket's
 * sending half; end of the socket ends the copy. */
void stream_join(int in_fd, int out_fd, int socket_fd);

/* The same for a guest's console without a person at it: it knows no end of input, so that
 * the copy ends when the guest has been silent for two seconds after it. */
void stream_join_script(int in_fd, int out_fd, int socket_fd);

/* The same for a terminal: returns when the socket ends or the person types the escape
 * (^] or, at the start of a line, ~.). */
void stream_join_terminal(int tty_in, int tty_out, int socket_fd);
