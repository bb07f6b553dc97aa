/* client_parts.h - what the client's files share; private to wire/client*.c. */
#pragma once
#include "base/arena.h"
#include "wire/client.h"
#include "wire/sigv4.h"
#include <curl/curl.h>
#include <pthread.h>

struct client {
    char *endpoint;   /* Without a slash at its end. */
    const char *host; /* In 'endpoint', with its port. */
    char *key_id, *secret, *region, *ca_file;
    const struct clock *clock;
    int timeout_s;
    CURL *curl;
    char error[CURL_ERROR_SIZE];
};

void client_init_curl(void);
void client_split(const char *target, struct arena *arena, struct http_request *out);
/* Puts Host and the signature's headers to those of 'request'. */
void client_sign(struct client *client, const char *service,
                 struct http_request *request, bool unsigned_payload,
                 struct arena *arena);
/* Readies client->curl for endpoint + target; all other options are as new. */
void client_set_up(struct client *client, const char *target, struct arena *arena);
bool client_no_answer(struct client *client, CURLcode code, struct err *err);
/* An error's body, of whichever protocol, as code and "Code: message"; returns false.
 */
bool client_read_error(const struct buf *body, int status, char error_code[96],
                       struct err *err);
