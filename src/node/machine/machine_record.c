#include "base/file.h"
#include "base/jsonio.h"
#include "base/log.h"
#include "node/machine/machine_impl.h"

#define STATE_MAX 4096

static void
state_path(const struct machine *m, char *out, size_t size)
{
    snprintf(out, size, "%s/state.json", m->dir);
}

static int64_t
number(const json_t *json, const char *key, int64_t missing)
{
    const json_t *v = json_object_get(json, key);
    return json_is_integer(v) ? (int64_t)json_integer_value(v) : missing;
}

static void
text(const json_t *json, const char *key, char *out, size_t size)
{
    const char *v = json_string_value(json_object_get(json, key));
    snprintf(out, size, "%s", v ? v : "");
}

void
machine_load(struct machine *m)
{
    char path[512];
    struct err err = {0};
    AUTO(free) char *data = NULL;
    size_t len;
    m->record =
        (struct machine_record){.uid_index = -1, .halted_generation = -1, .numa = -1};
    state_path(m, path, sizeof path);
    if (!file_read(path, STATE_MAX, &data, &len, &err)) {
        return;
    }
    AUTO(json) json_t *json = json_loadb(data, len, 0, NULL);
    struct machine_record *r = &m->record;
    r->uid_index = number(json, "uid_index", -1);
    r->halted_generation = number(json, "halted_generation", -1);
    r->reboots_done = number(json, "reboots_done", 0);
    r->crashes = number(json, "crashes", 0);
    r->guest_reboots = number(json, "guest_reboots", 0);
    r->started_at_ns = number(json, "started_at_ns", 0);
    r->numa = number(json, "numa", -1);
    r->leased = json_is_true(json_object_get(json, "leased"));
    text(json, "machine_type", r->machine_type, sizeof r->machine_type);
    text(json, "cpu_model", r->cpu_model, sizeof r->cpu_model);
    text(json, "reason", r->reason, sizeof r->reason);
    text(json, "message", r->message, sizeof r->message);
    text(json, "tried", r->tried, sizeof r->tried);
    text(json, "moved", r->moved, sizeof r->moved);
    r->left_line = number(json, "left_line", 0);
    r->left_other = number(json, "left_other", 0);
}

void
machine_save(struct machine *m)
{
    const struct machine_record *r = &m->record;
    AUTO(json)
    json_t *json = json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:b, s:s, s:s, s:s, s:s, s:s, "
        "s:s}",
        "uid_index", (json_int_t)r->uid_index, "halted_generation",
        (json_int_t)r->halted_generation, "reboots_done", (json_int_t)r->reboots_done,
        "crashes", (json_int_t)r->crashes, "guest_reboots",
        (json_int_t)r->guest_reboots, "started_at_ns", (json_int_t)r->started_at_ns,
        "numa", (json_int_t)r->numa, "left_line", (json_int_t)r->left_line,
        "left_other", (json_int_t)r->left_other, "leased", (int)r->leased, "reason",
        r->reason, "message", r->message, "tried", r->tried, "moved", r->moved,
        "machine_type", r->machine_type, "cpu_model", r->cpu_model);
    AUTO(free) char *data = json ? json_dumps(json, JSON_COMPACT) : NULL;
    char path[512];
    struct err err = {0};
    state_path(m, path, sizeof path);
    if (!data || !dir_make(m->dir, 0700, &err) ||
        !file_write(path, data, strlen(data), 0600, &err)) {
        log_error("machine %s: cannot save its state: %s", m->id, err.msg);
    }
    m->traces = true;
}

bool
machine_remove(struct machine *m, struct err *err)
{
    if (!cgroup_remove(&m->set->cgroups, m->id, err) || !dir_remove(m->dir, err)) {
        return err_wrap(err, "machine %s", m->id);
    }
    m->traces = false;
    return true;
}
