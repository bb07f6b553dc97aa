/* served.h - what the child knows: ports with their documents, by address.
 *
 * Owner:    the child; single-threaded. */
#pragma once
#include "node/metadata/child.h"
#include "node/metadata/imds.h"

struct served;

struct served *served_create(void);
void served_destroy(struct served *served);
/* Takes in a CHILD_PORT; reads the documents from 'fd', which stays the caller's. */
MUST_CHECK bool served_put(struct served *served, const struct child_message *message,
                           int fd, struct err *err);
void served_drop(struct served *served, const char *port);
/* NULL: nobody has that address there. */
const struct imds_port *served_find(const struct served *served, const char *network,
                                    uint32_t ipv4);
