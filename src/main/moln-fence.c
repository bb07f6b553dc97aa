/* moln-fence.c - the supervisor of leased guests as a program: see node/fence/fence.h. */
#include "base/log.h"
#include "node/fence/fence.h"

#include <fcntl.h>
#include <signal.h>

static const char usage[] = "usage: moln-fence\n"
                            "\n"
                            "Started by moln-node, with a listening socket as "
                            "descriptor 3: ends the guests that\n"
                            "are to be started elsewhere when this host is lost, once "
                            "its lease is over. Killing\n"
                            "it ends them too. See moln-node(8).\n";

int
main(int argc, char **argv)
{
    struct err err = {0};
    const struct fence_config config = {
        .listen_fd = FENCE_LISTEN_FD, .clock = &clock_system, .harden = true};
    if (argc > 1 || fcntl(FENCE_LISTEN_FD, F_GETFD) < 0) {
        fputs(usage, argc == 2 && strcmp(argv[1], "--help") == 0 ? stdout : stderr);
        return argc == 2 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
    }
    log_init(FENCE_PROGRAM, LOG_INFO, 2);
    (void)signal(SIGPIPE, SIG_IGN);
    if (!fence_serve(&config, &err)) {
        log_error("%s", err.msg);
        return 1;
    }
    return 0;
}
