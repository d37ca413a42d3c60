// Preloaded into the program by tests/faults.rs: makes one call on a checkpoint's temporary file, or on its
// folder, fail or end the process.
//
// FAULT_FOLDER: the folder, without symbolic links. FAULT_CALL: `write` or `fsync` (the folder is flushed
// too). FAULT_NUMBER: which of these calls, from 1. FAULT_ACTION: `error N` (errno N instead of the call),
// `kill` before the call, `killed` after it; a killed write is done by half.

#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int calls;

// Whether this call on this file is the one to disturb.
static int chosen(const char *call, int fd) {
    const char *folder = getenv("FAULT_FOLDER"), *wanted = getenv("FAULT_CALL"), *number = getenv("FAULT_NUMBER");
    char link[64], path[4096];
    if (!folder || !wanted || !number || strcmp(call, wanted)) {
        return 0;
    }
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) {
        return 0;
    }
    path[length] = 0;
    if (strncmp(path, folder, strlen(folder)) || (strcmp(path, folder) && !strstr(path, "/.frazil-"))) {
        return 0;
    }
    return __sync_add_and_fetch(&calls, 1) == atoi(number);
}

// Errno of the action, 0 if it is another one.
static int error_of(const char *action) {
    return strncmp(action, "error ", 6) ? 0 : atoi(action + 6);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    if (chosen("write", fd)) {
        const char *action = getenv("FAULT_ACTION");
        if (error_of(action)) {
            errno = error_of(action);
            return -1;
        }
        syscall(SYS_write, fd, bytes, count / 2);
        raise(SIGKILL);
    }
    return syscall(SYS_write, fd, bytes, count);
}

int fsync(int fd) {
    if (!chosen("fsync", fd)) {
        return syscall(SYS_fsync, fd);
    }
    const char *action = getenv("FAULT_ACTION");
    if (error_of(action)) {
        errno = error_of(action);
        return -1;
    }
    if (!strcmp(action, "killed")) {
        syscall(SYS_fsync, fd);
    }
    raise(SIGKILL);
    return 0;
}
