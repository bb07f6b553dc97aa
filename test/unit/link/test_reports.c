/* test_reports.c - the queue of what a node has to tell. */
#include "test.h"

#include "link/reports.h"

static bool
put(struct reports *r, const char *id, const char *body)
{
    return reports_put(r, 1, id, 7, body, strlen(body));
}

static void
check_next(struct reports *r, const char *body)
{
    struct report_item item;
    CHECK(reports_next(r, &item));
    CHECK_EQ(item.body.len, strlen(body));
    CHECK_EQ(memcmp(item.body.data, body, item.body.len), 0);
}

TEST(reports_keep_the_last_word_of_each)
{
    AUTO(reports) struct reports *r = reports_create();
    struct report_item item;
    CHECK(put(r, "i-1", "a"));
    CHECK(put(r, "i-2", "b"));
    CHECK(put(r, "i-1", "c"));
    CHECK_EQ(reports_count(r), 2);
    check_next(r, "b");
    check_next(r, "c");
    CHECK(!reports_next(r, &item));
}

TEST(reports_ack_does_not_forget_what_changed_meanwhile)
{
    AUTO(reports) struct reports *r = reports_create();
    struct report_item first, second;
    CHECK(put(r, "i-1", "old"));
    CHECK(reports_next(r, &first));
    CHECK(put(r, "i-1", "new"));
    reports_ack(r, first.sequence);
    CHECK_EQ(reports_count(r), 1);
    CHECK(reports_next(r, &second));
    CHECK(second.sequence > first.sequence);
    reports_ack(r, second.sequence);
    CHECK_EQ(reports_count(r), 0);
}

TEST(reports_ack_of_what_was_not_sent_changes_nothing)
{
    AUTO(reports) struct reports *r = reports_create();
    CHECK(put(r, "i-1", "a"));
    reports_ack(r, INT64_MAX);
    CHECK_EQ(reports_count(r), 1);
}

TEST(reports_rewind_sends_the_unacked_again_in_order)
{
    AUTO(reports) struct reports *r = reports_create();
    struct report_item item;
    CHECK(put(r, "i-1", "a"));
    CHECK(put(r, "i-2", "b"));
    CHECK(put(r, "i-3", "c"));
    CHECK(reports_next(r, &item));
    reports_ack(r, item.sequence);
    check_next(r, "b");
    reports_rewind(r);
    check_next(r, "b");
    check_next(r, "c");
}

TEST(reports_window_opens_with_acks)
{
    AUTO(reports) struct reports *r = reports_create();
    struct report_item item;
    char id[32];
    for (int i = 0; i < 2 * REPORTS_WINDOW; i++) {
        snprintf(id, sizeof id, "i-%d", i);
        CHECK(put(r, id, "x"));
    }
    for (int i = 0; i < REPORTS_WINDOW; i++) {
        CHECK(reports_next(r, &item));
    }
    int64_t last = item.sequence;
    CHECK(!reports_next(r, &item));
    CHECK(put(r, "i-0", "y")); /* A sent one that changes makes room for itself. */
    CHECK(reports_next(r, &item));
    CHECK(!reports_next(r, &item));
    reports_ack(r, last);
    for (int i = 0; i < REPORTS_WINDOW - 1; i++) {
        CHECK(reports_next(r, &item));
    }
}

TEST(reports_are_bounded)
{
    AUTO(reports) struct reports *r = reports_create();
    char id[32], longest[200];
    struct report_item item;
    for (int i = 0; i < 2 * REPORTS_EVENTS_MAX; i++) {
        snprintf(id, sizeof id, "%d", i);
        CHECK(put(r, NULL, id));
    }
    CHECK_EQ(reports_count(r), REPORTS_EVENTS_MAX);
    snprintf(id, sizeof id, "%d", REPORTS_EVENTS_MAX); /* The oldest went. */
    check_next(r, id);

    for (int i = 0; i < REPORTS_MAX - REPORTS_EVENTS_MAX; i++) {
        snprintf(id, sizeof id, "i-%d", i);
        CHECK(put(r, id, "x"));
    }
    CHECK(!put(r, "one-more", "x"));
    CHECK(put(r, "i-7", "news")); /* What is there already can change. */
    CHECK(put(r, NULL, "event"));
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = 0;
    CHECK(!put(r, longest, "x"));
    (void)reports_next(r, &item);
}
