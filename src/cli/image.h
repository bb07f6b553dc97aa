/* image.h - finding images by the names people use.
 *
 * Threads:  one. Text that comes out lies in the arena. */
#pragma once
#include "cli/api.h"

/* The image called 'name': an id (ami-...), or the newest available one of that name,
 * the account's own before a public one. '*out_root' is its root device's name. */
MUST_CHECK bool image_find(struct cli *cli, const char *name, const char **out_id,
                           const char **out_root, struct err *err);
/* The user that 'moln ssh' logs in as, by the image's name: "root", "admin",
 * "ec2-user". */
const char *image_user(const char *name);
