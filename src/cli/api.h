/* api.h - the calls that commands make, and paths into what comes back.
 *
 * Place:    cli/, over wire/client.h.
 * Owner:    a json_t that comes out is the caller's (AUTO(json)); text out of it is
 *           borrowed from it.
 * Threads:  one.
 * Failure:  the API's error is ERR_INVALID with the text "Code: message". */
#pragma once
#include "cli/cli.h"

/* A form of EC2: pairs go in, encoded. */
struct form {
    struct buf buf;
};
void form_put(struct form *form, const char *name, const char *value);
void form_int(struct form *form, const char *name, int64_t value);
static inline void
auto_form(struct form *form)
{
    buf_fini(&form->buf);
}

/* One call of EC2 as the tenant; 'form' may be NULL. */
MUST_CHECK bool api_ec2(struct cli *cli, const char *action, const struct form *form,
                        json_t **out, struct err *err);
/* All pages of a Describe call, their 'list' joined. */
MUST_CHECK bool api_ec2_all(struct cli *cli, const char *action,
                            const struct form *form, const char *list, json_t **out,
                            struct err *err);
/* One call of the operators' service; 'in' may be NULL. */
MUST_CHECK bool api_operator(struct cli *cli, const char *operation, const json_t *in,
                             json_t **out, struct err *err);
MUST_CHECK bool api_operator_all(struct cli *cli, const char *operation,
                                 const json_t *in, const char *list, json_t **out,
                                 struct err *err);

/* Whether 'err' is the API's error 'code'. */
bool api_is(const struct err *err, const char *code);

/* A member by path, "State.Name", "Reservations.0.Instances"; NULL: there is none. */
json_t *json_at(json_t *json, const char *path);
/* Its text; "" where there is none. Numbers and booleans are written into 'arena'. */
const char *json_text(struct arena *arena, json_t *json, const char *path);
int64_t json_int(json_t *json, const char *path);
bool json_bool(json_t *json, const char *path);
/* The time at 'path', seconds in JSON, as "2026-01-31T12:00:00.000Z", in 'arena'. */
const char *json_when(struct arena *arena, json_t *json, const char *path);
/* The value of tag 'key' in "Tags"; "" where there is none. */
const char *json_tag(json_t *json, const char *key);
/* Prints as aws does: four spaces, order kept. */
void json_print(const json_t *json);
