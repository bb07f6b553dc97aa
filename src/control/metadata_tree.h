/* metadata_tree.h - what the metadata service tells an instance about itself.
 *
 * Purpose:  turns rows into the documents that a node serves at 169.254.169.254, in
 *           AWS's layout, so that the node need know nothing of AWS.
 * Place:    control/; pure: rows in, records out.
 * Memory:   everything in 'arena', or borrowed from the rows.
 * Source:   "Instance metadata categories" and "Instance identity documents" in the EC2
 *           user guide. */
#pragma once
#include "link/link.h"
#include "store/rows.h"

/* One network card of the instance. */
struct metadata_card {
    const struct row_eni *eni;
    const struct row_subnet *subnet;
    const char *local_hostname;
    const char *group_names; /* In lines. */
    const struct link_port_public *publics;
    size_t public_count;
};

struct metadata_source {
    const struct row_instance *instance;
    const struct metadata_card *cards; /* At least one: the primary first. */
    size_t card_count;
    const struct row_vpc *vpc;
    const struct row_image *image; /* NULL when it is gone. */
    const char *zone_id;
    const struct row_tag *const *tags;
    size_t tag_count;
};

/* What the service says to the primary card; to the others it says the same, under their
 * ids. */
void metadata_tree(struct arena *arena, const struct metadata_source *source,
                   struct link_metadata *out);
