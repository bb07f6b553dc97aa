/* gateway_server.c - the gateway alone, listening, for tests with real clients: prints
 * its port and serves until its standard input ends. */
#include "base/log.h"
#include "gateway_fixture.h"

int
main(int argc, char **argv)
{
    struct err err = {0};
    struct gateway_fixture f;
    uint16_t port;
    signal(SIGPIPE, SIG_IGN);
    log_init("gateway", LOG_INFO, 2);
    const struct gateway_listen how = {.address = "127.0.0.1:0",
                                       .cert_file = argc > 2 ? argv[1] : NULL,
                                       .key_file = argc > 2 ? argv[2] : NULL};
    if (!fixture_open(&f, &clock_system, &rng_system, &err) ||
        !gateway_listen(f.gateway, &how, &port, &err)) {
        log_error("%s", err.msg);
        return 1;
    }
    printf("%u\n", port);
    (void)fflush(stdout);
    while (getchar() != EOF) {
    }
    fixture_close(&f);
    return 0;
}
