/* Stands between a server and libc, to see what reaches the disk and to make the disk fail.

   cc -shared -fPIC -o disk_shim.so disk_shim.c -ldl;  LD_PRELOAD=disk_shim.so DISK_SHIM=directory ...

   directory/PID.syncs   one line per sync that succeeded: its begin and end (CLOCK_MONOTONIC, ns), and the file
   directory/PID.eio     while it exists, every sync of process PID fails with EIO
   directory/PID.hung    while it exists, no sync of process PID comes back
   directory/PID.slow    while it exists, every sync of process PID takes so many milliseconds longer as it says
   directory/PID.full    while it exists, no file of a replica of process PID can grow: ENOSPC. What is there can
                         be overwritten, as on a full disk; what is given back is taken by a neighbour at once.

   With DISK_SHIM_ALL=directory the files are directory/eio and so on, for whatever process they are given to and all
   that come after it; syncs are then not written down. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static void beside(char *path, const char *suffix) {
    const char *directory = getenv("DISK_SHIM"), *all = getenv("DISK_SHIM_ALL");
    if (all)
        snprintf(path, PATH_MAX, "%s/%s", all, suffix);
    else
        snprintf(path, PATH_MAX, "%s/%d.%s", directory ? directory : "/nonexistent", (int)getpid(), suffix);
}

static int told(const char *suffix) {
    char path[PATH_MAX];
    beside(path, suffix);
    return access(path, F_OK) == 0;
}

static const char *file_of(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static long long now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static long milliseconds(void) {
    char path[PATH_MAX], text[32];
    beside(path, "slow");
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    text[length < 0 ? 0 : length] = 0;
    return atol(text);
}

static int synced(int fd, int (*real)(int)) {
    long long begin = now();
    usleep(1000 * milliseconds());
    while (told("hung"))
        usleep(5000);
    if (told("eio")) {
        errno = EIO;
        return -1;
    }
    if (real(fd) != 0)
        return -1;
    if (getenv("DISK_SHIM_ALL"))
        return 0;
    char path[PATH_MAX], line[PATH_MAX + 64];
    const char *file = file_of(fd, path);
    int length = snprintf(line, sizeof line, "%lld %lld %s\n", begin, now(), file);
    beside(path, "syncs");
    int log = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log >= 0) {
        if (REAL(write)(log, line, length) != length)
            abort(); /* a witness that forgets is none */
        close(log);
    }
    return 0;
}

static int no_room(int fd, off64_t end) {
    if (!told("full"))
        return 0;
    char path[PATH_MAX];
    const char *file = file_of(fd, path);
    struct stat64 facts;
    if (!strstr(file, ".sqlite3") && strcmp(file, "ballast") != 0)
        return 0;
    if (fstat64(fd, &facts) != 0 || end <= facts.st_size)
        return 0;
    errno = ENOSPC;
    return 1;
}

int fsync(int fd) { return synced(fd, REAL(fsync)); }
int fdatasync(int fd) { return synced(fd, REAL(fdatasync)); }

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    return no_room(fd, at + (off64_t)count) ? -1 : REAL(pwrite64)(fd, bytes, count, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    return no_room(fd, at + (off_t)count) ? -1 : REAL(pwrite)(fd, bytes, count, at);
}

ssize_t write(int fd, const void *bytes, size_t count) {
    off64_t at = lseek64(fd, 0, SEEK_CUR);
    return at >= 0 && no_room(fd, at + (off64_t)count) ? -1 : REAL(write)(fd, bytes, count);
}

int ftruncate64(int fd, off64_t end) { return no_room(fd, end) ? -1 : REAL(ftruncate64)(fd, end); }
int ftruncate(int fd, off_t end) { return no_room(fd, end) ? -1 : REAL(ftruncate)(fd, end); }
