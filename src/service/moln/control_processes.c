/* control_processes.c - ListControlProcesses: who serves this cloud. */
#include "core/share.h"
#include "service/moln/operators.h"

/* The loops that are this process's: it outweighs all others for their keys. */
static struct desc_list
loops_of(struct call *call, const struct row_list *processes, const char *id)
{
    size_t room = 0, count = 0;
    while (share_loops[room].name) {
        room++;
    }
    const char **names = ARENA_ARRAY(call->arena, room, const char *);
    for (size_t l = 0; l < room; l++) {
        const char *best = NULL;
        for (size_t i = 0; i < processes->count; i++) {
            const struct row_control *row = processes->rows[i];
            best = share_outweighs(row->id, best, share_loops[l].key) ? row->id : best;
        }
        if (str_eq(best, id)) {
            names[count++] = share_loops[l].name;
        }
    }
    return (struct desc_list){names, count};
}

static int64_t
nodes_of(const struct row_list *streams, const char *run)
{
    int64_t count = 0;
    for (size_t i = 0; i < streams->count; i++) {
        count += str_eq(((const struct row_node_stream *)streams->rows[i])->run, run);
    }
    return count;
}

bool
moln_list_control_processes(struct call *call,
                            const struct moln_list_control_processes_request *in,
                            struct moln_list_control_processes_response *out,
                            struct err *err)
{
    struct listing listing;
    struct row_list list, streams;
    if (!listing_init(call, in->has_max_results, in->max_results, in->next_token, NULL,
                      &listing, err) ||
        !row_all(call, &row_control_type, &list, err) ||
        !row_all(call, &row_node_stream_type, &streams, err)) {
        return false;
    }
    struct moln_control_process *items =
        ARENA_ARRAY(call->arena, list.count, struct moln_control_process);
    size_t count = 0;
    for (size_t i = 0; i < list.count; i++) {
        const struct row_control *row = list.rows[i];
        struct desc_list loops = loops_of(call, &list, row->id);
        if (listing_take(&listing, row->id)) {
            items[count++] = (struct moln_control_process){
                .control_id = row->id,
                .address = str_empty(row->link) ? NULL : row->link,
                .version = row->version,
                .loops = {loops.items, loops.count},
                HAS_TIME(started_at, row->started_at),
                HAS_TIME(lease_until, row->lease_until),
                HAS(nodes, nodes_of(&streams, row->run)),
            };
        }
    }
    out->control_processes.items = items;
    out->control_processes.count = count;
    out->next_token = listing_next(call, &listing);
    return true;
}
