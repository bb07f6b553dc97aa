/* syscalls.h - a process gives up all system calls but those that it names.
 *
 * Threads:  for the calling thread and those that it starts.
 * Failure:  a call that is not named fails with EPERM; one of another architecture's
 *           numbers kills the process. Needs no_new_privs, or CAP_SYS_ADMIN. */
#pragma once
#include "base/base.h"

/* A sanitizer needs more calls than any list would name: programs built with one go
 * without a filter. */
#if defined(__SANITIZE_ADDRESS__)
#define SYSCALLS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SYSCALLS_SANITIZED 1
#endif
#endif
#ifndef SYSCALLS_SANITIZED
#define SYSCALLS_SANITIZED 0
#endif

#define SYSCALLS_MAX 128

/* 'calls': at most SYSCALLS_MAX of this architecture's numbers. */
MUST_CHECK bool syscalls_allow(const int *calls, size_t count, struct err *err);
