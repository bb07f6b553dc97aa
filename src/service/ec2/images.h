/* images.h - what the calls about images share.
 *
 * Place:    service/ec2, and service/moln for the operator's images.
 * Memory:   the call's arena.
 * Threads:  the request's. */
#pragma once
#include "service/ec2/describe.h"

/* Owner of the operator's own images; no account has this id, since none begins with 0.
 */
#define PLATFORM_ACCOUNT "000000000000"
#define PLATFORM_ALIAS "amazon"

/* AWS's rule for names: InvalidAMIName.Malformed. */
MUST_CHECK bool image_name_check(const char *name, struct err *err);
/* All images of 'account' in the region, in whatever state. */
MUST_CHECK bool images_of(struct call *call, const char *account, struct row_list *out,
                          struct err *err);
/* No other image of 'account' in the region has it: InvalidAMIName.Duplicate. */
MUST_CHECK bool image_name_free(struct call *call, const char *account,
                                const char *name, struct err *err);
/* The account may have one image more, whose disk has up to 'more_gib': it has fewer than
 * IMAGES_MAX, and those that it has or that are made for it leave room in its disk quota
 * (ResourceLimitExceeded, SnapshotLimitExceeded). */
MUST_CHECK bool image_room(struct call *call, int64_t more_gib, struct err *err);
/* An image that the account owns, for changing it. One that it merely sees is
 * AuthFailure, one that it does not see InvalidAMIID.NotFound. */
MUST_CHECK bool image_owned(struct call *call, const char *image_id,
                            const struct row_image **out, struct err *err);
/* Whether somebody else's image was shared with 'account' by name. */
bool image_shared_with(const struct row_image *image, const char *account);
/* As the answer shows it. */
struct ec2_image image_out(struct call *call, const struct row_image *row,
                           struct tag_set tags);
/* The image's disks, as the answer shows them. */
struct ec2_block_device_mapping *image_mappings_out(struct call *call,
                                                    const struct row_image *row);
/* An upload of 'account', whole and not in use: InvalidParameterValue otherwise. */
MUST_CHECK bool upload_find(struct call *call, const char *account, const char *blob_id,
                            const struct row_blob **out, struct err *err);
