/* client_upgrade.c - a call that becomes a stream of raw bytes. */
#include "base/file.h"
#include "wire/client_parts.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#define HEAD_MAX 16384
#define HEAD_TIMEOUT_MS 30000

/* ---- sending and receiving through curl, which knows TLS ------------------------- */

static bool
wait_for(CURL *curl, short events, int timeout_ms)
{
    curl_socket_t fd = CURL_SOCKET_BAD;
    if (curl_easy_getinfo(curl, CURLINFO_ACTIVESOCKET, &fd) != CURLE_OK) {
        return false;
    }
    struct pollfd p = {fd, events, 0};
    return poll(&p, 1, timeout_ms) > 0;
}

static bool
send_all(CURL *curl, const char *data, size_t len)
{
    while (len) {
        size_t n = 0;
        CURLcode code = curl_easy_send(curl, data, len, &n);
        if (code == CURLE_AGAIN ? !wait_for(curl, POLLOUT, HEAD_TIMEOUT_MS)
                                : code != CURLE_OK) {
            return false;
        }
        data += n;
        len -= n;
    }
    return true;
}

/* Reads up to the empty line, a byte at a time: what follows is not ours. */
static bool
read_head(CURL *curl, struct buf *head)
{
    head->limit = HEAD_MAX;
    while (!head->full) {
        char c;
        size_t n = 0;
        CURLcode code = curl_easy_recv(curl, &c, 1, &n);
        if (code == CURLE_AGAIN) {
            if (!wait_for(curl, POLLIN, HEAD_TIMEOUT_MS)) {
                return false;
            }
            continue;
        }
        if (code != CURLE_OK || n == 0) {
            return false;
        }
        buf_putc(head, c);
        if (head->len >= 4 && memcmp(head->data + head->len - 4, "\r\n\r\n", 4) == 0) {
            return true;
        }
    }
    return false;
}

/* The body of a refusal, as much of it as was announced. */
static void
read_body(CURL *curl, const struct buf *head, struct buf *body)
{
    const char *length = strcasestr(buf_str(head), "\r\ncontent-length:");
    size_t want =
        length ? strtoul(length + strlen("\r\ncontent-length:"), NULL, 10) : 0;
    want = MIN(want, 65536);
    while (body->len < want) {
        char data[4096];
        size_t n = 0;
        CURLcode code =
            curl_easy_recv(curl, data, MIN(sizeof data, want - body->len), &n);
        if (code == CURLE_AGAIN ? !wait_for(curl, POLLIN, HEAD_TIMEOUT_MS)
                                : code != CURLE_OK || n == 0) {
            return;
        }
        buf_put(body, data, n);
    }
}

/* ---- after 101 ------------------------------------------------------------------- */

struct tls_relay {
    CURL *curl;
    int fd;
};

/* Moves what there is from curl to the socket pair; false: this way is at its end. */
static bool
relay_down(struct tls_relay *r, bool *more)
{
    char data[16384];
    size_t n = 0;
    CURLcode code = curl_easy_recv(r->curl, data, sizeof data, &n);
    *more = code == CURLE_OK; /* TLS may hold more than the socket shows. */
    if (code == CURLE_AGAIN) {
        return true;
    }
    return code == CURLE_OK && n > 0 && fd_write_all(r->fd, data, n) == 0;
}

static void *
relay_run(void *ctx)
{
    struct tls_relay *r = ctx;
    curl_socket_t sock = CURL_SOCKET_BAD;
    (void)curl_easy_getinfo(r->curl, CURLINFO_ACTIVESOCKET, &sock);
    bool more = false, up_open = true;
    for (;;) {
        struct pollfd fds[] = {{sock, POLLIN, 0}, {up_open ? r->fd : -1, POLLIN, 0}};
        if (poll(fds, 2, more ? 0 : -1) < 0 && errno != EINTR) {
            break;
        }
        if ((more || fds[0].revents) && !relay_down(r, &more)) {
            break;
        }
        if (fds[1].revents) {
            char data[16384];
            ssize_t n = read(r->fd, data, sizeof data);
            if (n <= 0) {
                break;
            }
            if (!send_all(r->curl, data, (size_t)n)) {
                break;
            }
        }
    }
    close(r->fd);
    curl_easy_cleanup(r->curl);
    free(r);
    return NULL;
}

/* TLS lies between: a thread carries the bytes. Takes 'curl' over. */
static bool
relay_start(CURL *curl, int *out_fd, struct err *err)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
        int sys = errno;
        curl_easy_cleanup(curl);
        return err_sys(err, sys, "make a socket pair");
    }
    struct tls_relay *r = xcalloc(1, sizeof *r);
    *r = (struct tls_relay){curl, pair[0]};
    pthread_t thread;
    int sys = pthread_create(&thread, NULL, relay_run, r);
    if (sys != 0) {
        free(r);
        close(pair[0]);
        close(pair[1]);
        curl_easy_cleanup(curl);
        return err_sys(err, sys, "start a thread");
    }
    pthread_detach(thread);
    *out_fd = pair[1];
    return true;
}

/* Gives the connection away; the client gets a fresh handle for its next call. */
static bool
give_away(struct client *client, int *out_fd, struct err *err)
{
    CURL *curl = client->curl;
    client->curl = curl_easy_init();
    if (str_starts(client->endpoint, "https://")) {
        return relay_start(curl, out_fd, err);
    }
    curl_socket_t sock = CURL_SOCKET_BAD;
    (void)curl_easy_getinfo(curl, CURLINFO_ACTIVESOCKET, &sock);
    int fd = sock == CURL_SOCKET_BAD ? -1 : fcntl(sock, F_DUPFD_CLOEXEC, 3);
    int sys = errno;
    curl_easy_cleanup(curl);
    if (fd < 0) {
        return err_sys(err, sys, "keep the connection");
    }
    int flags = fcntl(fd, F_GETFL);
    (void)fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
    *out_fd = fd;
    return true;
}

/* ---- the call -------------------------------------------------------------------- */

bool
client_upgrade(struct client *client, const char *service, const char *target,
               const char *protocol, int *out_fd, char error_code[96], struct err *err)
{
    AUTO(arena) struct arena *arena = arena_create();
    AUTO(buf) struct buf text = {0};
    AUTO(buf) struct buf head = {0};
    AUTO(buf) struct buf body = {0};
    struct http_request request = {.method = "POST", .body = ""};
    error_code[0] = '\0';
    client_split(target, arena, &request);
    client_sign(client, service, &request, false, arena);
    client_set_up(client, "/", arena);
    curl_easy_setopt(client->curl, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(client->curl, CURLOPT_FRESH_CONNECT, 1L);
    CURLcode code = curl_easy_perform(client->curl);
    if (code != CURLE_OK) {
        return client_no_answer(client, code, err);
    }
    buf_printf(&text, "POST %s HTTP/1.1\r\n", target);
    for (size_t i = 0; i < request.header_count; i++) {
        buf_printf(&text, "%s: %s\r\n", request.headers[i].name,
                   request.headers[i].value);
    }
    buf_printf(&text, "Connection: Upgrade\r\nUpgrade: %s\r\nContent-Length: 0\r\n\r\n",
               protocol);
    if (!send_all(client->curl, text.data, text.len) ||
        !read_head(client->curl, &head)) {
        return err_set(err, ERR_GONE, "%s: the connection was lost", client->endpoint);
    }
    int status = str_starts(buf_str(&head), "HTTP/1.1 ") ? atoi(head.data + 9) : 0;
    if (status != 101) {
        read_body(client->curl, &head, &body);
        curl_easy_cleanup(client->curl); /* Its connection is spoiled. */
        client->curl = curl_easy_init();
        return client_read_error(&body, status, error_code, err);
    }
    return give_away(client, out_fd, err);
}
