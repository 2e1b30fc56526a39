/* A disk that fails. Loaded before all else (LD_PRELOAD), it counts a process's writes, fsyncs, truncations and renames
   of files below a folder, and answers EIO to one of them: whichever library made the call, in whichever language. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char below[PATH_MAX];
static atomic_int calls, fatal;

/* Fail at the call of this number; 0: at none, but count. */
void fail_at(const char *folder, int call) {
    strncpy(below, folder, sizeof below - 1);
    fatal = call;
    calls = 0;
}

int calls_made(void) { return calls; }

/* Whether this call is the one. */
static int now(int file, const char *path) {
    char link[64], whole[PATH_MAX + 64];
    if (!below[0]) return 0;
    if (!path) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", file);
        ssize_t length = readlink(link, whole, PATH_MAX);
        if (length < 0) return 0;
        whole[length] = 0;
    } else if (path[0] == '/' || !getcwd(whole, PATH_MAX)) {
        snprintf(whole, sizeof whole, "%.*s", PATH_MAX, path);
    } else {
        snprintf(whole + strlen(whole), 64, "/%s", path); /* no command of ours is given a longer one */
    }
    if (strncmp(whole, below, strlen(below)) || atomic_fetch_add(&calls, 1) + 1 != fatal) return 0;
    errno = EIO;
    return 1;
}

#define FAILING(kind, name, parameters, arguments, file, path)                                     \
    kind name parameters {                                                                         \
        static kind(*true_one) parameters;                                                         \
        if (!true_one) true_one = (kind(*) parameters)dlsym(RTLD_NEXT, #name);                     \
        return now(file, path) ? -1 : true_one arguments;                                          \
    }

FAILING(ssize_t, write, (int f, const void *b, size_t n), (f, b, n), f, NULL)
FAILING(ssize_t, pwrite, (int f, const void *b, size_t n, off_t o), (f, b, n, o), f, NULL)
FAILING(ssize_t, pwrite64, (int f, const void *b, size_t n, off64_t o), (f, b, n, o), f, NULL)
FAILING(ssize_t, writev, (int f, const struct iovec *v, int n), (f, v, n), f, NULL)
FAILING(int, fsync, (int f), (f), f, NULL)
FAILING(int, fdatasync, (int f), (f), f, NULL)
FAILING(int, ftruncate, (int f, off_t n), (f, n), f, NULL)
FAILING(int, ftruncate64, (int f, off64_t n), (f, n), f, NULL)
FAILING(int, rename, (const char *a, const char *b), (a, b), -1, b)
