/* test_err.c */
#include "test.h"
#include <errno.h>

TEST(err_wrap_keeps_code_and_cuts_what_is_too_long)
{
    struct err err;
    CHECK(!err_sys(&err, ENOENT, "opening %s", "x"));
    CHECK_EQ(err.code, ERR_NOT_FOUND);
    CHECK_EQ(err.sys, ENOENT);
    CHECK_STR(err.msg, "opening x: No such file or directory");
    for (int i = 0; i < 40; i++) {
        CHECK(!err_wrap(&err, "a longer and longer context %d", i));
    }
    CHECK_EQ(err.code, ERR_NOT_FOUND);
    CHECK(strlen(err.msg) < sizeof err.msg);
    CHECK(!err_set(&err, ERR_DENIED, "%s", err.msg)); /* Its own message as argument. */
    CHECK(str_starts(err.msg, "a longer and longer context 39"));
    err_clear(&err);
    CHECK_EQ(err.code, ERR_NONE);
}

TEST(err_info_knows_every_code)
{
    for (int i = 0; i < ERR_CODES; i++) {
        const struct err_info *info = err_info((enum err_code)i);
        CHECK(info->name[0] && info->http >= 200 && info->http < 600);
        CHECK(i == ERR_NONE || info->aws[0]);
    }
    CHECK_STR(err_info((enum err_code)9999)->name, "INTERNAL");
    CHECK_STR(err_info(ERR_INSTANCE_NOT_FOUND)->aws, "InvalidInstanceID.NotFound");
}
