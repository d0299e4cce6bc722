/* Makes one operation on the files below a folder fail, in whatever library it happens. For LD_PRELOAD.
 *
 * FAULTS names a file that holds a struct faults: it is shared by a process and all that it starts, and says which
 * operation fails, and how. Operations are counted from 1: opening a file to write it, writing, flushing, renaming and
 * making a folder.
 */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { ONCE, SHORT, FROM_THEN_ON };

struct faults {
    long count;    /* operations so far */
    long at;       /* the one that fails; 0 for none */
    int error;     /* its errno */
    int mode;
    char root[4000];
};

static struct faults *faults;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("FAULTS");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0) return;
    void *shared = mmap(NULL, sizeof *faults, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (shared != MAP_FAILED) faults = shared;
    close(file);
}

static int is_below(const char *path) {
    size_t length = strlen(faults->root);
    return length && !strncmp(path, faults->root, length) && (path[length] == '/' || !path[length]);
}

static int is_below_at(int folder, const char *path) {
    char whole[8192], place[64];
    if (!faults || !faults->at) return 0;
    if (path[0] == '/') return is_below(path);
    if (folder == AT_FDCWD) return getcwd(whole, sizeof whole) && is_below(whole);
    snprintf(place, sizeof place, "/proc/self/fd/%d", folder);
    ssize_t length = readlink(place, whole, sizeof whole - 1);
    if (length < 0) return 0;
    whole[length] = 0;
    return is_below(whole);
}

static int is_file_below(int file) {
    char place[64], path[8192];
    if (!faults || !faults->at) return 0;
    snprintf(place, sizeof place, "/proc/self/fd/%d", file);
    ssize_t length = readlink(place, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_below(path);
}

/* Counts an operation; whether it fails. SHORT fails a write by half, and the next operation wholly. A full disk fails
 * all further operations that take space. */
static int fails(int *half, int takes_space) {
    long number = __atomic_add_fetch(&faults->count, 1, __ATOMIC_SEQ_CST);
    long past = number - faults->at;
    long last = faults->mode == SHORT ? 1 : faults->mode == FROM_THEN_ON && takes_space ? past : 0;
    *half = 0;
    if (past < 0 || past > last) return 0;
    *half = faults->mode == SHORT && past == 0;
    errno = faults->error;
    return 1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL_WHOLLY(below, takes_space)                              \
    do {                                                             \
        int half;                                                    \
        if ((below) && fails(&half, takes_space) && !half) return -1; \
    } while (0)

ssize_t write(int file, const void *data, size_t size) {
    int half;
    if (is_file_below(file) && fails(&half, 1)) {
        if (!half) return -1;
        size /= 2;
    }
    return REAL(write)(file, data, size);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    int half;
    if (is_file_below(file) && fails(&half, 1)) {
        if (!half || count < 1) return -1;
        return REAL(write)(file, parts[0].iov_base, parts[0].iov_len / 2);
    }
    return REAL(writev)(file, parts, count);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t place) {
    int half;
    if (is_file_below(file) && fails(&half, 1)) {
        if (!half) return -1;
        size /= 2;
    }
    return REAL(pwrite64)(file, data, size, place);
}

size_t fwrite(const void *data, size_t size, size_t count, FILE *stream) {
    int half;
    if (is_file_below(fileno(stream)) && fails(&half, 1)) {
        if (!half) return 0;
        count /= 2;
    }
    return REAL(fwrite)(data, size, count, stream);
}

int fsync(int file) {
    FAIL_WHOLLY(is_file_below(file), 1);
    return REAL(fsync)(file);
}

int rename(const char *from, const char *to) {
    FAIL_WHOLLY(is_below_at(AT_FDCWD, to), 0);
    return REAL(rename)(from, to);
}

int renameat(int from_folder, const char *from, int to_folder, const char *to) {
    FAIL_WHOLLY(is_below_at(to_folder, to), 0);
    return REAL(renameat)(from_folder, from, to_folder, to);
}

int mkdir(const char *path, mode_t mode) {
    FAIL_WHOLLY(is_below_at(AT_FDCWD, path), 1);
    return REAL(mkdir)(path, mode);
}

int mkdirat(int folder, const char *path, mode_t mode) {
    FAIL_WHOLLY(is_below_at(folder, path), 1);
    return REAL(mkdirat)(folder, path, mode);
}

#define OPEN(name, folder, ...)                                                    \
    {                                                                              \
        mode_t mode = 0;                                                           \
        if (flags & (O_CREAT | O_TMPFILE)) {                                       \
            va_list rest;                                                          \
            va_start(rest, flags);                                                 \
            mode = va_arg(rest, mode_t);                                           \
            va_end(rest);                                                          \
        }                                                                          \
        FAIL_WHOLLY((flags & O_ACCMODE) != O_RDONLY && is_below_at(folder, path), 1); \
        return REAL(name)(__VA_ARGS__, flags, mode);                               \
    }

int open(const char *path, int flags, ...) OPEN(open, AT_FDCWD, path)
int open64(const char *path, int flags, ...) OPEN(open64, AT_FDCWD, path)
int openat(int folder, const char *path, int flags, ...) OPEN(openat, folder, folder, path)
int openat64(int folder, const char *path, int flags, ...) OPEN(openat64, folder, folder, path)

static int is_for_writing(const char *how) { return strpbrk(how, "wa+") != NULL; }

FILE *fopen(const char *path, const char *how) {
    int half;
    if (is_for_writing(how) && is_below_at(AT_FDCWD, path) && fails(&half, 1) && !half) return NULL;
    return REAL(fopen)(path, how);
}

FILE *fopen64(const char *path, const char *how) {
    int half;
    if (is_for_writing(how) && is_below_at(AT_FDCWD, path) && fails(&half, 1) && !half) return NULL;
    return REAL(fopen64)(path, how);
}
