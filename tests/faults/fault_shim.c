#define _GNU_SOURCE
#include "fault_shim.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct fault_plan plan;
static atomic_int armed, fired;
static char order[1 << 16];
static size_t order_length;
static pthread_mutex_t order_mutex = PTHREAD_MUTEX_INITIALIZER;
static int without_exchange, without_locks; /* what this file system cannot do */
static atomic_long counts[FAULT_CALLS];

void fault_arm(const struct fault_plan * next) {
    atomic_store(&armed, 0);
    atomic_store(&fired, 0);
    for (int i = 0; i < FAULT_CALLS; i++) atomic_store(&counts[i], 0);
    if (next) order_length = 0, order[0] = 0;
    if (!next) return;
    plan = *next;
    atomic_store(&armed, 1);
}

long fault_count(enum fault_call call) { return atomic_load(&counts[call]); }

const char * fault_order(void) { return order; }

static void note_order(const char * what, const char * path) {
    pthread_mutex_lock(&order_mutex);
    const size_t room = sizeof order - order_length;
    const int length = snprintf(order + order_length, room, "%s %s\n", what, path);
    if (length > 0 && (size_t)length < room) order_length += (size_t)length;
    order[order_length] = 0;
    pthread_mutex_unlock(&order_mutex);
}

int fault_fired(void) { return atomic_load(&fired); }

/* Counts a call; the error that it has to end with, 0 for none. */
static int next_error(enum fault_call call) {
    long number = atomic_fetch_add(&counts[call], 1) + 1;
    if (call != FAULT_MEMORY && call != FAULT_THREAD) {
        const long of_any = atomic_fetch_add(&counts[FAULT_ANY], 1) + 1;
        if (plan.call == FAULT_ANY) number = of_any, call = FAULT_ANY;
    }
    if (call != plan.call || plan.number == 0) return 0;
    if (plan.repeat ? number < plan.number : number != plan.number) return 0;
    atomic_store(&fired, 1);
    if (plan.error > FAULT_SIGNAL) return plan.error;
    raise(FAULT_SIGNAL - plan.error);
    return 0;
}

/* The next definition of a function in the order of loading: the C library's, or a sanitizer's. */
#define NEXT(function) ((__typeof__(&function))next_function(#function))
static void * next_function(const char * name) {
    void * const found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

static int is_ours(const char * path) {
    for (const char * folder = plan.folders; folder && *folder;) {
        const char * const end = strchrnul(folder, ':');
        const size_t length = (size_t)(end - folder);
        const int exact = length > 0 && folder[length - 1] == '$';
        if (exact ? strlen(path) == length - 1 && strncmp(path, folder, length - 1) == 0
                  : strncmp(path, folder, length) == 0)
            return 1;
        folder = *end ? end + 1 : end;
    }
    return 0;
}

static int path_error(enum fault_call call, const char * path) {
    return atomic_load(&armed) && path && is_ours(path) ? next_error(call) : 0;
}

static const char * path_of(int fd, char path[4096]) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t length = NEXT(readlink)(link, path, 4095);
    path[length > 0 ? length : 0] = 0;
    return path;
}

static int file_is_ours(int fd) {
    char path[4096];
    return is_ours(path_of(fd, path));
}

static int file_error(enum fault_call call, int fd) {
    return atomic_load(&armed) && file_is_ours(fd) ? next_error(call) : 0;
}

/* Of a path that is relative to an open folder. */
static int path_error_at(enum fault_call call, int folder, const char * path) {
    return path[0] == '/' || folder == AT_FDCWD ? path_error(call, path) : file_error(call, folder);
}

#define FAIL_IF(error, value)                                                                                          \
    do {                                                                                                               \
        const int fault_error = (error);                                                                               \
        if (fault_error) return errno = fault_error, (value);                                                          \
    } while (0)

/* ---- Files ----------------------------------------------------------------------------------------------------------- */

static mode_t mode_argument(int flags, va_list arguments) { return flags & O_CREAT ? va_arg(arguments, mode_t) : 0; }

#define DEFINE_OPEN(name)                                                                                              \
    int name(const char * path, int flags, ...) {                                                                      \
        va_list arguments;                                                                                             \
        va_start(arguments, flags);                                                                                    \
        const mode_t mode = mode_argument(flags, arguments);                                                           \
        va_end(arguments);                                                                                             \
        FAIL_IF(path_error(FAULT_OPEN, path), -1);                                                                     \
        return NEXT(open)(path, flags, mode);                                                                          \
    }
DEFINE_OPEN(open)
DEFINE_OPEN(open64)
/* What a compiler with _FORTIFY_SOURCE calls instead. */
int __open_2(const char * path, int flags) { return open(path, flags); }
int __open64_2(const char * path, int flags) { return open(path, flags); }

int openat(int folder, const char * path, int flags, ...) {
    va_list arguments;
    va_start(arguments, flags);
    const mode_t mode = mode_argument(flags, arguments);
    va_end(arguments);
    FAIL_IF(path_error_at(FAULT_OPEN, folder, path), -1);
    return NEXT(openat)(folder, path, flags, mode);
}

FILE * fopen(const char * path, const char * mode) {
    FAIL_IF(path_error(FAULT_OPEN, path), NULL);
    return NEXT(fopen)(path, mode);
}

/* Applies an error to a transfer; false when the call has to fail. */
static int admit(int error, size_t * size) {
    if (error == FAULT_SHORT && *size > 1) *size /= 2;
    if (error <= 0) return 1;
    errno = error;
    return 0;
}

ssize_t read(int fd, void * data, size_t size) {
    if (!admit(file_error(FAULT_READ, fd), &size)) return -1;
    return NEXT(read)(fd, data, size);
}
ssize_t __read_chk(int fd, void * data, size_t size, size_t room) { return (void)room, read(fd, data, size); }

ssize_t pread(int fd, void * data, size_t size, off_t offset) {
    if (!admit(file_error(FAULT_READ, fd), &size)) return -1;
    return NEXT(pread)(fd, data, size, offset);
}
ssize_t pread64(int fd, void * data, size_t size, off64_t offset) { return pread(fd, data, size, offset); }
ssize_t __pread_chk(int fd, void * data, size_t size, off_t offset, size_t room) {
    return (void)room, pread(fd, data, size, offset);
}

ssize_t write(int fd, const void * data, size_t size) {
    if (!admit(file_error(FAULT_WRITE, fd), &size)) return -1;
    return NEXT(write)(fd, data, size);
}

ssize_t pwrite(int fd, const void * data, size_t size, off_t offset) {
    if (!admit(file_error(FAULT_WRITE, fd), &size)) return -1;
    return NEXT(pwrite)(fd, data, size, offset);
}
ssize_t pwrite64(int fd, const void * data, size_t size, off64_t offset) { return pwrite(fd, data, size, offset); }

int ftruncate(int fd, off_t size) {
    FAIL_IF(file_error(FAULT_SIZE, fd), -1);
    return NEXT(ftruncate)(fd, size);
}
int ftruncate64(int fd, off64_t size) { return ftruncate(fd, size); }

int fallocate(int fd, int mode, off_t offset, off_t size) {
    FAIL_IF(file_error(FAULT_SIZE, fd), -1);
    return NEXT(fallocate)(fd, mode, offset, size);
}
int fallocate64(int fd, int mode, off64_t offset, off64_t size) { return fallocate(fd, mode, offset, size); }

static int sync_file(int fd) {
    char path[4096];
    if (atomic_load(&armed) && file_is_ours(fd)) note_order("sync", path_of(fd, path));
    FAIL_IF(file_error(FAULT_SYNC, fd), -1);
    return 0;
}
int fsync(int fd) { return sync_file(fd); }
int fdatasync(int fd) { return sync_file(fd); }

static int lock_error(int fd) { return without_locks ? ENOLCK : file_error(FAULT_LOCK, fd); }

#define DEFINE_FCNTL(name)                                                                                             \
    int name(int fd, int command, ...) {                                                                               \
        va_list arguments;                                                                                             \
        va_start(arguments, command);                                                                                  \
        void * const argument = va_arg(arguments, void *);                                                             \
        va_end(arguments);                                                                                             \
        if (command == F_OFD_SETLK || command == F_OFD_GETLK) FAIL_IF(lock_error(fd), -1);                             \
        return NEXT(fcntl)(fd, command, argument);                                                                     \
    }
DEFINE_FCNTL(fcntl)
DEFINE_FCNTL(fcntl64)

int flock(int fd, int operation) {
    FAIL_IF(lock_error(fd), -1);
    return NEXT(flock)(fd, operation);
}

int close(int fd) {
    const int error = file_error(FAULT_CLOSE, fd);
    const int result = NEXT(close)(fd);
    FAIL_IF(error, -1);
    return result;
}

/* ---- Names and folders ------------------------------------------------------------------------------------------------- */

int rename(const char * from, const char * to) {
    FAIL_IF(path_error(FAULT_RENAME, from), -1);
    return NEXT(rename)(from, to);
}

static int rename_error(const char * from, unsigned flags) {
    const int error = path_error(FAULT_RENAME, from);
    if (!error && atomic_load(&armed) && is_ours(from)) note_order("rename", from);
    return error ? error : without_exchange && (flags & RENAME_EXCHANGE) ? EINVAL : 0;
}

int renameat2(int from_folder, const char * from, int to_folder, const char * to, unsigned flags) {
    FAIL_IF(rename_error(from, flags), -1);
    return NEXT(renameat2)(from_folder, from, to_folder, to, flags);
}

long syscall(long number, ...) {
    long a[6];
    va_list arguments;
    va_start(arguments, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(arguments, long);
    va_end(arguments);
    if (number == SYS_renameat2) FAIL_IF(rename_error((const char *)a[1], (unsigned)a[4]), -1);
    return NEXT(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int unlink(const char * path) {
    FAIL_IF(path_error(FAULT_REMOVE, path), -1);
    return NEXT(unlink)(path);
}

int unlinkat(int folder, const char * path, int flags) {
    FAIL_IF(path_error_at(FAULT_REMOVE, folder, path), -1);
    return NEXT(unlinkat)(folder, path, flags);
}

int linkat(int from_folder, const char * from, int to_folder, const char * to, int flags) {
    FAIL_IF(path_error_at(FAULT_RENAME, to_folder, to), -1);
    return NEXT(linkat)(from_folder, from, to_folder, to, flags);
}

int rmdir(const char * path) {
    FAIL_IF(path_error(FAULT_REMOVE, path), -1);
    return NEXT(rmdir)(path);
}

int mkdir(const char * path, mode_t mode) {
    FAIL_IF(path_error(FAULT_FOLDER, path), -1);
    return NEXT(mkdir)(path, mode);
}

DIR * opendir(const char * path) {
    FAIL_IF(path_error(FAULT_FOLDER, path), NULL);
    return NEXT(opendir)(path);
}

DIR * fdopendir(int fd) {
    FAIL_IF(file_error(FAULT_OPEN, fd), NULL);
    return NEXT(fdopendir)(fd);
}

struct dirent * readdir(DIR * folder) {
    FAIL_IF(file_error(FAULT_FOLDER, dirfd(folder)), NULL);
    return NEXT(readdir)(folder);
}
struct dirent64 * readdir64(DIR * folder) {
    FAIL_IF(file_error(FAULT_FOLDER, dirfd(folder)), NULL);
    return NEXT(readdir64)(folder);
}

int stat(const char * path, struct stat * info) {
    FAIL_IF(path_error(FAULT_STAT, path), -1);
    return NEXT(stat)(path, info);
}

int lstat(const char * path, struct stat * info) {
    FAIL_IF(path_error(FAULT_STAT, path), -1);
    return NEXT(lstat)(path, info);
}

int fstat(int fd, struct stat * info) {
    FAIL_IF(file_error(FAULT_STAT, fd), -1);
    return NEXT(fstat)(fd, info);
}

int fstatat(int folder, const char * path, struct stat * info, int flags) {
    FAIL_IF(path_error_at(FAULT_STAT, folder, path), -1);
    return NEXT(fstatat)(folder, path, info, flags);
}

int statx(int folder, const char * path, int flags, unsigned mask, struct statx * info) {
    FAIL_IF(path_error_at(FAULT_STAT, folder, path), -1);
    return NEXT(statx)(folder, path, flags, mask, info);
}

int faccessat(int folder, const char * path, int mode, int flags) {
    FAIL_IF(path_error_at(FAULT_STAT, folder, path), -1);
    return NEXT(faccessat)(folder, path, mode, flags);
}

ssize_t readlink(const char * path, char * target, size_t size) {
    FAIL_IF(path_error(FAULT_STAT, path), -1);
    return NEXT(readlink)(path, target, size);
}
ssize_t __readlink_chk(const char * path, char * target, size_t size, size_t room) {
    return (void)room, readlink(path, target, size);
}

int statvfs(const char * path, struct statvfs * info) {
    FAIL_IF(path_error(FAULT_STAT, path), -1);
    return NEXT(statvfs)(path, info);
}

char * realpath(const char * path, char * resolved) {
    FAIL_IF(path_error(FAULT_STAT, path), NULL);
    return NEXT(realpath)(path, resolved);
}
char * __realpath_chk(const char * path, char * resolved, size_t room) { return (void)room, realpath(path, resolved); }

/* ---- Threads and memory ------------------------------------------------------------------------------------------------ */

int pthread_create(pthread_t * thread, const pthread_attr_t * attributes, void * (*body)(void *), void * argument) {
    if (atomic_load(&armed)) {
        const int error = next_error(FAULT_THREAD);
        if (error) return error;
    }
    return NEXT(pthread_create)(thread, attributes, body, argument);
}

int fault_allocation_fails(void) { return atomic_load(&armed) && next_error(FAULT_MEMORY) != 0; }

#ifdef FAULT_PRELOADED

static atomic_int memory_counts; /* while main() runs */

#ifdef FAULT_SANITIZED /* AddressSanitizer's, so that it sees what leaks */
#define ALLOCATOR(name) __interceptor_##name
#else
#define ALLOCATOR(name) __libc_##name
#endif
extern void * ALLOCATOR(malloc)(size_t size);
extern void * ALLOCATOR(calloc)(size_t count, size_t size);
extern void * ALLOCATOR(realloc)(void * old, size_t size);
extern void * ALLOCATOR(memalign)(size_t alignment, size_t size);

static __thread int is_exempt __attribute__((tls_model("initial-exec"))); /* the default model may allocate */

#ifdef FAULT_SANITIZED
/* AddressSanitizer calls it when a thread starts, and ends the program where it fails: it allocates. */
int pthread_getattr_np(pthread_t thread, pthread_attr_t * attributes) {
    is_exempt = 1;
    const int result = NEXT(pthread_getattr_np)(thread, attributes);
    is_exempt = 0;
    return result;
}
#endif

#define FAIL_IF_NO_MEMORY(value)                                                                                       \
    FAIL_IF(!is_exempt && atomic_load(&memory_counts) && fault_allocation_fails() ? ENOMEM : 0, value)

void * malloc(size_t size) {
    FAIL_IF_NO_MEMORY(NULL);
    return ALLOCATOR(malloc)(size);
}

void * calloc(size_t count, size_t size) {
    FAIL_IF_NO_MEMORY(NULL);
    return ALLOCATOR(calloc)(count, size);
}

void * realloc(void * old, size_t size) {
    FAIL_IF_NO_MEMORY(NULL);
    return ALLOCATOR(realloc)(old, size);
}

void * aligned_alloc(size_t alignment, size_t size) {
    FAIL_IF_NO_MEMORY(NULL);
    return ALLOCATOR(memalign)(alignment, size);
}

int posix_memalign(void ** out, size_t alignment, size_t size) {
    FAIL_IF_NO_MEMORY(ENOMEM);
    *out = ALLOCATOR(memalign)(alignment, size);
    return *out ? 0 : ENOMEM;
}

/* ---- Preloading ---------------------------------------------------------------------------------------------------------- */

static const char * setting(const char * name) {
    const char * const value = getenv(name);
    return value ? value : "";
}

__attribute__((constructor)) static void start(void) {
    struct fault_plan from_environment = {FAULT_CALLS, 0, 0, 0, setting("FAULT_FOLDERS")};
    for (int i = 0; i < FAULT_CALLS; i++)
        if (strcmp(setting("FAULT_CALL"), fault_call_names[i]) == 0) from_environment.call = (enum fault_call)i;
    from_environment.number = atol(setting("FAULT_NUMBER"));
    from_environment.error = atoi(setting("FAULT_ERROR"));
    from_environment.repeat = atoi(setting("FAULT_REPEAT"));
    without_exchange = atoi(setting("FAULT_NO_EXCHANGE"));
    without_locks = atoi(setting("FAULT_NO_LOCKS"));
    fault_arm(&from_environment);
}

__attribute__((destructor)) static void finish(void) {
    const int was_fired = fault_fired();
    atomic_store(&memory_counts, 0);
    atomic_store(&armed, 0);
    FILE * const report = fopen(setting("FAULT_REPORT"), "we");
    if (!report) return;
    for (int i = 0; i < FAULT_CALLS; i++)
        fprintf(report, "%s %ld\n", fault_call_names[i], fault_count((enum fault_call)i));
    if (was_fired) fprintf(report, "fired\n");
    fclose(report);
}

typedef int main_function(int, char **, char **);
static main_function * program_main;

static int counted_main(int count, char ** arguments, char ** environment) {
    atomic_store(&memory_counts, 1);
    const int result = program_main(count, arguments, environment);
    atomic_store(&memory_counts, 0);
    return result;
}

int __libc_start_main(main_function * body, int count, char ** arguments, void (*init)(void), void (*fini)(void),
                      void (*loader_fini)(void), void * stack_end) {
    typedef int start_function(main_function *, int, char **, void (*)(void), void (*)(void), void (*)(void), void *);
    program_main = body;
    start_function * const next = (start_function *)next_function("__libc_start_main");
    return next(counted_main, count, arguments, init, fini, loader_fini, stack_end);
}

#endif
