/* Stands between a server and libc, to make its disk fail, fill up, slow down or hang while it runs.

   cc -shared -fPIC -o chaos_shim.so chaos_shim.c -ldl;  LD_PRELOAD=chaos_shim.so CHAOS_CONTROL=directory ...

   directory/eio     while it exists, every sync fails with EIO
   directory/full    while it exists, no file of a replica can grow: ENOSPC. What is there can be overwritten
   directory/slow    while it exists, every sync takes so many milliseconds longer as the file says
   directory/hang    while it exists, no sync returns */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static const char *beside(char *path, const char *name) {
    const char *directory = getenv("CHAOS_CONTROL");
    snprintf(path, PATH_MAX, "%s/%s", directory ? directory : "/nonexistent", name);
    return path;
}

static int told(const char *name) {
    char path[PATH_MAX];
    return access(beside(path, name), F_OK) == 0;
}

static long milliseconds(void) {
    char path[PATH_MAX], text[32];
    int file = open(beside(path, "slow"), O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return 0;
    ssize_t length = read(file, text, sizeof text - 1);
    close(file);
    text[length < 0 ? 0 : length] = 0;
    return atol(text);
}

static int synced(int fd, int (*real)(int)) {
    usleep(1000 * milliseconds());
    while (told("hang"))
        usleep(10000);
    if (told("eio")) {
        errno = EIO;
        return -1;
    }
    return real(fd);
}

static int no_room(int fd, off64_t end) {
    if (!told("full"))
        return 0;
    char link[64], path[PATH_MAX];
    struct stat64 facts;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    const char *file = strrchr(path, '/');
    if (!file || (!strstr(file, ".sqlite3") && strcmp(file, "/ballast") != 0))
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
