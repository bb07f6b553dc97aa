/* check.c - whether a run kept what was promised: a pure function of its history.
 *
 * While it ran:  no instance ran on two hosts, or twice on one; none ran again once its
 *                tenant was told that it is terminated; no host carried more than it has;
 *                nothing was said to run that never did; what a guest wrote on its disk is
 *                what it found at its next start; no two running instances had one address; nothing that was launched was
 *                missing from an answer; one token never gave two answers; no agent ended an
 *                emulator that had what a running guest remembers, or half of it, unless its
 *                tenant had asked for that.
 * At rest:       what is wanted is so, and nothing else is there: every instance that
 *                should run does, on its host; no guest, disk, port or network without a
 *                want, no want without its thing or its row, no deletion unfinished; what
 *                placement counts is what there is; each address belongs to somebody;
 *                who runs on a host that drains is told so, and nobody else; a NAT gateway is
 *                at home on one host, and all hosts of its network send to that.
 * A host that was revoked is out of all that, and so is what was on it. */
#include "history.h"

#include <stdio.h>

#define HOSTS_MAX 4096

struct running {
    unsigned host;        /* 0: it does not run. */
    unsigned times, last; /* Starts; the host of the last one. */
    int64_t vcpus, memory_bytes;
    bool gone;
    bool asked; /* To end, once: when that is done is not for us to say. */
    VEC(const char *) places;
};

struct room {
    int64_t vcpus, memory_bytes; /* Of the host. */
    int64_t used_vcpus, used_bytes;
    int64_t claim_vcpus, claim_bytes, claim_disk;
    int64_t taken_vcpus, taken_bytes, taken_disk;
    bool revoked, drains;
};

struct judge {
    const struct history *history;
    struct verdict *out;
    struct map *running;      /* Instance to struct running. */
    struct map *tokens;       /* Token to the instances that came of it, as text. */
    struct map *rows;         /* Instance to its MOMENT_END_INSTANCE. */
    struct map *guests;       /* Instance to its MOMENT_END_GUEST. */
    struct map *wants, *here; /* "HOST KIND ID" */
    struct map *owned, *places, *holders;
    struct map *events; /* Instance to its MOMENT_END_EVENT. */
    struct map *disks;  /* Disk to what was left on it last. */
    struct map *nats;   /* Gateway to its MOMENT_END_NAT. */
    struct room rooms[HOSTS_MAX];
};

static void PRINTF_LIKE(3, 4)
    broken(struct judge *j, const struct moment *m, const char *fmt, ...)
{
    char text[256];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (j->out->broken++ == 0) {
        (void)snprintf(j->out->first, sizeof j->out->first, "at %.3f s: %s",
                       m ? (double)m->at_ns / 1e9 - 1000 : 0, text);
    }
}

static struct running *
running_of(struct judge *j, const char *id)
{
    struct running *r = map_get(j->running, id);
    if (!r) {
        r = xcalloc(1, sizeof *r);
        map_put(j->running, id, r);
    }
    return r;
}

static struct room *
room_of(struct judge *j, const struct moment *m)
{
    return &j->rooms[m->host % HOSTS_MAX];
}

/* ---- while it ran ---------------------------------------------------------------- */

static void
check_places(struct judge *j, const struct moment *m, struct running *mine)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(j->running, &it, &id, &value);) {
        const struct running *r = value;
        if (r == mine || !r->host || j->rooms[r->host].revoked) {
            continue;
        }
        for (size_t a = 0; a < mine->places.count; a++) {
            for (size_t b = 0; b < r->places.count; b++) {
                if (str_eq(mine->places.items[a], r->places.items[b])) {
                    broken(j, m, "%s and %s both have address %s", m->id, id,
                           r->places.items[b]);
                }
            }
        }
    }
}

static void
on_start(struct judge *j, const struct moment *m)
{
    struct running *r = running_of(j, m->id);
    struct room *room = room_of(j, m);
    if (r->host && !j->rooms[r->host].revoked && !room->revoked) {
        broken(j, m, "%s starts on host-%u while it runs on host-%u", m->id, m->host,
               r->host);
    }
    if (r->gone && !room->revoked) {
        broken(j, m, "%s starts on host-%u though it is terminated", m->id, m->host);
    }
    j->out->moved += r->last && r->last != m->host;
    r->host = r->last = m->host;
    r->times++;
    r->vcpus = m->vcpus;
    r->memory_bytes = m->memory_bytes;
    room->used_vcpus += m->vcpus;
    room->used_bytes += m->memory_bytes;
    if (!room->revoked &&
        (room->used_vcpus > room->vcpus || room->used_bytes > room->memory_bytes)) {
        broken(j, m,
               "host-%u is oversold by %s: %" PRId64 " of %" PRId64 " vCPUs, %" PRId64
               " of %" PRId64 " MiB",
               m->host, m->id, room->used_vcpus, room->vcpus,
               room->used_bytes / (int64_t)MIB, room->memory_bytes / (int64_t)MIB);
    }
    check_places(j, m, r);
}

static void
on_end(struct judge *j, const struct moment *m)
{
    struct running *r = running_of(j, m->id);
    if (r->host == m->host) {
        r->host = 0;
        r->places.count = 0;
        room_of(j, m)->used_vcpus -= r->vcpus;
        room_of(j, m)->used_bytes -= r->memory_bytes;
    }
}

/* Where a host that had the other half is out of the cloud, that is lost already. */
static void
on_killed(struct judge *j, const struct moment *m)
{
    if (!running_of(j, m->id)->asked && !room_of(j, m)->revoked &&
        !j->rooms[m->far % HOSTS_MAX].revoked) {
        broken(j, m, "the agent of host-%u ended %s (%s), which nobody asked for",
               m->host, m->id, m->state);
    }
}

/* A tap is opened before its guest starts; what an earlier start opened is closed. */
static void
on_tap(struct judge *j, const struct moment *m)
{
    struct running *r = running_of(j, m->id);
    for (size_t i = 0; i < r->places.count; i++) {
        if (str_eq(r->places.items[i], m->place)) {
            return;
        }
    }
    VEC_PUSH(&r->places, m->place);
}

/* What a guest wrote is what it finds, wherever its disk has been moved to since. */
static void
on_disk(struct judge *j, const struct moment *m)
{
    const char *left = map_get(j->disks, m->id);
    if (room_of(j, m)->revoked) {
        return;
    }
    if (!str_eq(left ? left : "", m->other)) {
        broken(j, m, "on %s at host-%u '%s' is found, and '%s' was left", m->id,
               m->host, m->other, left ? left : "");
    }
    map_put(j->disks, m->id, (void *)(uintptr_t)m->state);
}

/* Two answers to one token name the same instances, in order. */
static void
on_launched(struct judge *j, const struct moment *m)
{
    const char *before = map_get(j->tokens, m->other);
    if (before && !strstr(before, m->id)) {
        /* One answer's instances come at one moment. */
        const char *at = strrchr(before, '@');
        if (!at || strtoll(at + 1, NULL, 10) != m->at_ns) {
            broken(j, m, "token %s gave %s and then %s", m->other, before, m->id);
        }
    }
    if (!before || !strstr(before, m->id)) {
        map_put(j->tokens, m->other,
                xasprintf("%s %s @%" PRId64, before ? before : "", m->id, m->at_ns));
    }
    running_of(j, m->id);
}

static void
on_gone(struct judge *j, const struct moment *m)
{
    struct running *r = running_of(j, m->id);
    r->gone = true;
    if (r->host && !j->rooms[r->host].revoked) {
        broken(j, m, "%s is said to be terminated and runs on host-%u", m->id, r->host);
    }
}

/* ---- at rest --------------------------------------------------------------------- */

static char *
where(const struct moment *m)
{
    return xasprintf("host-%u %s %s", m->host, m->kind_of, m->id);
}

static void
note(struct map *map, const struct moment *m)
{
    AUTO(free) char *key = where(m);
    map_put(map, key, (void *)(uintptr_t)m);
}

static void
note_place(struct judge *j, struct map *map, const struct moment *m)
{
    if (map == j->holders && map_get(map, m->place)) {
        const struct moment *other = map_get(map, m->place);
        broken(j, m, "%s and %s hold one address, %s", other->id, m->id, m->place);
    }
    map_put(map, m->place, (void *)(uintptr_t)m);
}

/* A gateway is at home on one host, which every host of its network knows. Moments of homes
 * come first. */
static void
on_sends(struct judge *j, const struct moment *m)
{
    const struct moment *home = map_get(j->nats, m->id);
    if (room_of(j, m)->revoked) {
        return;
    }
    if (!home) {
        broken(j, NULL, "host-%u sends to %s, of which there is no row", m->host,
               m->id);
    } else if (!str_eq(home->place, m->place)) {
        broken(j, NULL, "host-%u sends to %s at '%s', and its home is '%s'", m->host,
               m->id, m->place, home->place);
    } else if (j->rooms[home->host].revoked) {
        broken(j, NULL, "%s is at home on host-%u, which was revoked", m->id,
               home->host);
    }
}

static void
take_in(struct judge *j, const struct moment *m)
{
    struct room *room = room_of(j, m);
    switch (m->kind) {
    case MOMENT_HOST:
        room->vcpus = m->vcpus;
        room->memory_bytes = m->memory_bytes;
        break;
    case MOMENT_GUEST_START:
        on_start(j, m);
        break;
    case MOMENT_GUEST_END:
        on_end(j, m);
        break;
    case MOMENT_ASKED:
        running_of(j, m->id)->asked = true;
        break;
    case MOMENT_KILLED:
        on_killed(j, m);
        break;
    case MOMENT_UNLIKE:
        broken(j, m, "%s, which has %s, is moved to host-%u as %s", m->id, m->state,
               m->host, m->other);
        break;
    case MOMENT_TAP:
        on_tap(j, m);
        break;
    case MOMENT_DISK:
        on_disk(j, m);
        break;
    case MOMENT_REVOKED:
        room->revoked = true;
        break;
    case MOMENT_LAUNCHED:
        on_launched(j, m);
        break;
    case MOMENT_UP:
        if (running_of(j, m->id)->times == 0) {
            broken(j, m, "%s is said to run and never did", m->id);
        }
        break;
    case MOMENT_GONE:
        on_gone(j, m);
        break;
    case MOMENT_MISSING:
        broken(j, m, "%s is missing from an answer", m->id);
        break;
    case MOMENT_END_INSTANCE:
        map_put(j->rows, m->id, (void *)(uintptr_t)m);
        break;
    case MOMENT_END_GUEST:
        map_put(j->guests, m->id, (void *)(uintptr_t)m);
        break;
    case MOMENT_END_HERE:
        note(j->here, m);
        break;
    case MOMENT_END_WANT:
        note(j->wants, m);
        break;
    case MOMENT_END_OWNED:
        map_put(j->owned, m->id, (void *)(uintptr_t)m);
        break;
    case MOMENT_END_CLAIM:
        room->claim_vcpus = m->vcpus;
        room->claim_bytes = m->memory_bytes;
        room->claim_disk = m->disk_bytes;
        break;
    case MOMENT_END_TAKEN:
        room->taken_vcpus += m->vcpus;
        room->taken_bytes += m->memory_bytes;
        room->taken_disk += m->disk_bytes;
        break;
    case MOMENT_END_ADDRESS:
        note_place(j, j->places, m);
        break;
    case MOMENT_END_HAS:
        note_place(j, j->holders, m);
        break;
    case MOMENT_END_DRAINS:
        room->drains = true;
        break;
    case MOMENT_END_EVENT:
        map_put(j->events, m->id, (void *)(uintptr_t)m);
        break;
    case MOMENT_END_NAT:
        map_put(j->nats, m->id, (void *)(uintptr_t)m);
        break;
    case MOMENT_END_SENDS:
        on_sends(j, m);
        break;
    }
}

static void
check_instances(struct judge *j)
{
    const char *id;
    void *value;
    for (size_t it = 0; map_next(j->running, &it, &id, &value);) {
        const struct running *r = value;
        if (!r->gone && !map_get(j->rows, id)) {
            broken(j, NULL, "%s is lost: no row knows it", id);
        }
    }
    for (size_t it = 0; map_next(j->rows, &it, &id, &value);) {
        const struct moment *row = value, *guest = map_get(j->guests, id);
        bool wanted = str_eq(row->state, "running");
        if (j->rooms[row->host].revoked) {
            continue;
        }
        if (wanted && !guest) {
            broken(j, NULL, "%s is wanted running on host-%u and runs nowhere", id,
                   row->host);
        } else if (guest && !wanted) {
            broken(j, NULL, "%s is wanted %s and runs on host-%u", id, row->state,
                   guest->host);
        } else if (guest && guest->host != row->host) {
            broken(j, NULL, "%s runs on host-%u, wanted on host-%u", id, guest->host,
                   row->host);
        }
        if (str_eq(row->state, "shutting-down")) {
            broken(j, NULL, "%s never ends terminating", id);
        }
        bool drained = wanted && j->rooms[row->host].drains;
        if (drained != (map_get(j->events, id) != NULL)) {
            broken(j, NULL, "%s on host-%u is %s that it will be moved", id, row->host,
                   drained ? "not told" : "told");
        }
        const char *told = map_get(j->tokens, row->other);
        if (told && !strstr(told, id)) {
            broken(j, NULL, "token %s was answered with%s, and made %s too", row->other,
                   told, id);
        }
    }
    for (size_t it = 0; map_next(j->guests, &it, &id, &value);) {
        const struct moment *guest = value;
        if (!map_get(j->rows, id) && !j->rooms[guest->host].revoked) {
            broken(j, NULL, "%s runs on host-%u and no row knows it", id, guest->host);
        }
    }
}

static bool
owned_kind(const char *kind)
{
    return str_eq(kind, "disk") || str_eq(kind, "port") || str_eq(kind, "machine");
}

static void
check_things(struct judge *j)
{
    const char *key;
    void *value;
    for (size_t it = 0; map_next(j->here, &it, &key, &value);) {
        const struct moment *m = value;
        if (!j->rooms[m->host].revoked && !map_get(j->wants, key)) {
            broken(j, NULL, "%s is left over: nobody wants it", key);
        }
    }
    for (size_t it = 0; map_next(j->wants, &it, &key, &value);) {
        const struct moment *m = value;
        if (j->rooms[m->host].revoked) {
            continue;
        }
        if (str_eq(m->state, "deleted")) {
            broken(j, NULL, "%s is never told to be gone", key);
        } else if (m->state[0] == '\0' && !map_get(j->here, key)) {
            broken(j, NULL, "%s is wanted and not there", key);
        }
        if (owned_kind(m->kind_of) && !map_get(j->owned, m->id)) {
            broken(j, NULL, "%s is wanted and has no row", key);
        }
    }
}

static void
check_counts(struct judge *j)
{
    for (unsigned i = 1; i < HOSTS_MAX; i++) {
        const struct room *r = &j->rooms[i];
        if (!r->revoked &&
            (r->claim_vcpus != r->taken_vcpus || r->claim_bytes != r->taken_bytes ||
             r->claim_disk != r->taken_disk)) {
            broken(j, NULL,
                   "host-%u: placement counts %" PRId64 " vCPUs, %" PRId64
                   " bytes, %" PRId64 " of disk; taken are %" PRId64 ", %" PRId64
                   ", %" PRId64,
                   i, r->claim_vcpus, r->claim_bytes, r->claim_disk, r->taken_vcpus,
                   r->taken_bytes, r->taken_disk);
        }
    }
    const char *place;
    void *value;
    for (size_t it = 0; map_next(j->places, &it, &place, &value);) {
        if (!map_get(j->holders, place)) {
            broken(j, NULL, "address %s is taken and nobody has it", place);
        }
    }
    for (size_t it = 0; map_next(j->holders, &it, &place, &value);) {
        if (!map_get(j->places, place)) {
            broken(j, NULL, "%s has address %s, which is not taken",
                   ((const struct moment *)value)->id, place);
        }
    }
}

void
history_check(const struct history *history, struct verdict *out)
{
    struct judge *j = xcalloc(1, sizeof *j);
    *out = (struct verdict){0};
    j->history = history;
    j->out = out;
    struct map **const maps[] = {&j->running, &j->tokens, &j->rows,  &j->guests,
                                 &j->wants,   &j->here,   &j->owned, &j->places,
                                 &j->holders, &j->events, &j->disks, &j->nats};
    for (size_t i = 0; i < ARRAY_LEN(maps); i++) {
        *maps[i] =
            map_create(maps[i] == &j->tokens || maps[i] == &j->running ? free : NULL);
    }
    for (size_t i = 0; i < history->moments.count; i++) {
        take_in(j, &history->moments.items[i]);
    }
    check_instances(j);
    check_things(j);
    check_counts(j);
    for (size_t i = 0; i < ARRAY_LEN(maps); i++) {
        map_destroy(*maps[i]);
    }
    free(j);
}
