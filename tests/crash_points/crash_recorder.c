/* Stands between a process and libc: writes down what it asks of the disk below one directory, and fails the k-th call.

   cc -shared -fPIC -o crash_recorder.so crash_recorder.c -ldl;  LD_PRELOAD=crash_recorder.so python ...

   crash_begin(directory, log)   from now on; the log is appended to
   crash_mark(bytes, length)     a marker of the caller's own, in its place among the calls
   crash_fail(kind, k, how, for_ever)   the k-th call of a kind from now on fails: how > 0: with this errno; HALF: half
                                 of a write is carried out, then ENOSPC, as on a disk that fills; KILL: the process ends
   crash_count(kind)             how many calls of a kind there were since crash_begin

   A record is a struct record and its payload, written by one write() behind everything before. One thread at a time,
   as all workloads have. The index of a write-ahead log (-shm) can fail like any file, but is not written down: SQLite
   never syncs it and builds it anew at the first opening after a crash. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FDS 4096

enum { WRITE, SYNC, OPEN, TRUNCATE, UNLINK, RENAME, MKDIR, KINDS };
enum { KILL = -1, HALF = -2 };
enum { CREATED = 1, EMPTIED = 2 };
enum { NOT_OURS, OURS, INDEX };

struct __attribute__((packed)) record {
    char kind;
    uint8_t flags;
    int32_t pid;
    int32_t fd;
    int64_t at;
    uint32_t length;
};

static char root[PATH_MAX];
static size_t root_length;
static int log_fd = -1;
static char whose[FDS];
static long counts[KINDS];
static int fail_kind = -1, fail_how, fail_for_ever;
static long fail_k;

static void note(char kind, int flags, int fd, int64_t at, const void *payload, size_t length) {
    struct record record = {kind, (uint8_t)flags, getpid(), fd, at, (uint32_t)length};
    struct iovec parts[2] = {{&record, sizeof record}, {(void *)payload, length}};
    if (writev(log_fd, parts, 2) != (ssize_t)(sizeof record + length))
        abort(); /* a witness that forgets is none */
}

void crash_begin(const char *directory, const char *log) {
    if (log_fd >= 0)
        REAL(close)(log_fd);
    snprintf(root, sizeof root, "%s", directory);
    root_length = strlen(root);
    log_fd = REAL(open)(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0)
        abort();
    memset(whose, 0, sizeof whose);
    memset(counts, 0, sizeof counts);
    fail_kind = -1;
}

void crash_mark(const char *bytes, int length) { note('M', 0, -1, 0, bytes, length); }

void crash_fail(int kind, long k, int how, int for_ever) {
    fail_kind = kind, fail_k = counts[kind] + k, fail_how = how, fail_for_ever = for_ever;
}

long crash_count(int kind) { return counts[kind]; }

/* The path below the directory, or NULL. */
static const char *below(const char *path) {
    if (log_fd < 0 || strncmp(path, root, root_length) != 0)
        return NULL;
    if (path[root_length] == 0)
        return path + root_length;
    return path[root_length] == '/' ? path + root_length + 1 : NULL;
}

static int is_index(const char *path) {
    size_t length = strlen(path);
    return length > 4 && strcmp(path + length - 4, "-shm") == 0;
}

static int known(int fd) { return log_fd >= 0 && fd >= 0 && fd < FDS ? whose[fd] : NOT_OURS; }

/* Whether this call is to fail; errno is set. A call that is to end the process does not return. */
static int fails(int kind) {
    counts[kind]++;
    if (kind != fail_kind || counts[kind] < fail_k || (counts[kind] > fail_k && !fail_for_ever))
        return 0;
    note('F', fail_how > 0 ? fail_how : 0, -1, kind, NULL, 0);
    if (fail_how == KILL)
        _exit(137);
    errno = fail_how == HALF ? ENOSPC : fail_how;
    return 1;
}

static int opened(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode) {
    const char *name = below(path);
    if (!name)
        return real(path, flags, mode);
    int is_there = access(path, F_OK) == 0;
    if (fails(OPEN))
        return -1;
    int fd = real(path, flags, mode);
    if (fd < 0)
        return fd;
    if (fd >= FDS)
        abort();
    whose[fd] = is_index(name) ? INDEX : OURS;
    if (whose[fd] == OURS) {
        int facts = (is_there ? 0 : CREATED) | (is_there && (flags & O_TRUNC) ? EMPTIED : 0);
        note('O', facts, fd, 0, name, strlen(name));
    }
    return fd;
}

#define OPENS(name)                                                                                                    \
    int name(const char *path, int flags, ...) {                                                                      \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;                                        \
        va_end(rest);                                                                                                  \
        return opened(REAL(name), path, flags, mode);                                                                  \
    }
OPENS(open)
OPENS(open64)

int close(int fd) {
    if (known(fd))
        whose[fd] = NOT_OURS;
    return REAL(close)(fd);
}

/* A write of which half is carried out: the rest finds no room. */
static size_t half(size_t count) { return fail_how == HALF ? count / 2 : 0; }

static ssize_t written(int fd, const void *bytes, size_t count, off64_t at) {
    if (known(fd) == OURS)
        note('W', 0, fd, at, bytes, count);
    return (ssize_t)count;
}

static ssize_t wrote_at(int fd, const void *bytes, size_t count, off64_t at) {
    if (known(fd) && fails(WRITE)) {
        int error = errno;
        size_t part = half(count);
        if (part && REAL(pwrite64)(fd, bytes, part, at) == (ssize_t)part)
            written(fd, bytes, part, at);
        errno = error;
        return -1;
    }
    ssize_t done = REAL(pwrite64)(fd, bytes, count, at);
    return done > 0 ? written(fd, bytes, (size_t)done, at) : done;
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) { return wrote_at(fd, bytes, count, at); }
ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) { return wrote_at(fd, bytes, count, at); }

ssize_t write(int fd, const void *bytes, size_t count) {
    if (!known(fd))
        return REAL(write)(fd, bytes, count);
    off64_t at = lseek64(fd, 0, SEEK_CUR);
    ssize_t done = wrote_at(fd, bytes, count, at);
    if (done > 0)
        lseek64(fd, at + done, SEEK_SET);
    return done;
}

static int cut(int fd, off64_t size) {
    if (known(fd) && fails(TRUNCATE))
        return -1;
    int done = REAL(ftruncate64)(fd, size);
    if (done == 0 && known(fd) == OURS)
        note('T', 0, fd, size, NULL, 0);
    return done;
}

int ftruncate64(int fd, off64_t size) { return cut(fd, size); }
int ftruncate(int fd, off_t size) { return cut(fd, size); }

static int synced(int fd, int (*real)(int)) {
    if (!known(fd))
        return real(fd);
    if (fails(SYNC)) {
        int error = errno;
        note('s', 0, fd, 0, NULL, 0);
        errno = error;
        return -1;
    }
    int done = real(fd);
    if (done == 0)
        note('S', 0, fd, 0, NULL, 0);
    return done;
}

int fsync(int fd) { return synced(fd, REAL(fsync)); }
int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }

int unlink(const char *path) {
    const char *name = below(path);
    if (name && fails(UNLINK))
        return -1;
    int done = REAL(unlink)(path);
    if (done == 0 && name && !is_index(name))
        note('U', 0, -1, 0, name, strlen(name));
    return done;
}

int rename(const char *from, const char *to) {
    const char *name = below(from), *other = below(to);
    if (name && fails(RENAME))
        return -1;
    int done = REAL(rename)(from, to);
    if (done == 0 && name && other) {
        char both[2 * PATH_MAX];
        int length = snprintf(both, sizeof both, "%s", name);
        length += 1 + snprintf(both + length + 1, sizeof both - length - 1, "%s", other);
        note('R', 0, -1, 0, both, length);
    }
    return done;
}

int mkdir(const char *path, mode_t mode) {
    const char *name = below(path);
    if (name && fails(MKDIR))
        return -1;
    int done = REAL(mkdir)(path, mode);
    if (done == 0 && name)
        note('D', 0, -1, 0, name, strlen(name));
    return done;
}
