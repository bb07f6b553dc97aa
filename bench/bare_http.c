/* bare_http.c - the API's peer: libmicrohttpd by itself, answering one file.
 *
 * What:     the library and settings that molnd's server uses, on one thread, without
 *           signature, parameters, rows or rendering. What it does in a second is what
 *           the API could do at most.
 * Run:      build/bench/bare-http FILE     prints its port, serves until SIGTERM. */
#include <arpa/inet.h>
#include <microhttpd.h>
#include <signal.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"

struct content {
    char *data;
    size_t len;
};

static enum MHD_Result
answer(void *ctx, struct MHD_Connection *connection, const char *url,
       const char *method, const char *version, const char *data, size_t *size,
       void **state)
{
    const struct content *content = ctx;
    if (!*state) { /* The head; the body comes later. */
        *state = ctx;
        return MHD_YES;
    }
    if (*size) {
        *size = 0;
        return MHD_YES;
    }
    struct MHD_Response *response = MHD_create_response_from_buffer(
        content->len, content->data, MHD_RESPMEM_PERSISTENT);
    (void)MHD_add_response_header(response, "Content-Type", "text/xml;charset=UTF-8");
    enum MHD_Result rc = MHD_queue_response(connection, 200, response);
    MHD_destroy_response(response);
    return rc;
}

static void
read_all(const char *path, struct content *out)
{
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, 0, SEEK_END) != 0) {
        perror(path);
        exit(1);
    }
    out->len = (size_t)ftell(file);
    rewind(file);
    out->data = xmalloc(out->len + 1);
    if (fread(out->data, 1, out->len, file) != out->len) {
        perror(path);
        exit(1);
    }
    (void)fclose(file);
}

int
main(int argc, char **argv)
{
    struct content content;
    sigset_t stop;
    int signal_number;
    if (argc != 2) {
        fprintf(stderr, "usage: %s FILE\n", argv[0]);
        return 2;
    }
    read_all(argv[1], &content);
    (void)sigemptyset(&stop);
    (void)sigaddset(&stop, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &stop, NULL);
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct MHD_Daemon *daemon =
        MHD_start_daemon(MHD_USE_EPOLL_INTERNAL_THREAD, 0, NULL, NULL, answer, &content,
                         MHD_OPTION_SOCK_ADDR, &at, MHD_OPTION_END);
    if (!daemon) {
        fprintf(stderr, "cannot serve\n");
        return 1;
    }
    printf("%u\n", MHD_get_daemon_info(daemon, MHD_DAEMON_INFO_BIND_PORT)->port);
    (void)fflush(stdout);
    (void)sigwait(&stop, &signal_number);
    MHD_stop_daemon(daemon);
    free(content.data);
    return 0;
}
