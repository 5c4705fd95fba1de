/* Makes the operating system fail at will: the Nth call of one kind that a program makes, on files under chosen folders.
 *
 * Linked into a test program, its definitions of open(), pread(), ... come before the C library's, and the functions below
 * control it. Preloaded into a program (LD_PRELOAD), the environment does:
 *   FAULT_CALL=write FAULT_NUMBER=12 FAULT_ERROR=28   which call fails, counted from 1, and with which errno
 *   FAULT_REPEAT=1                                    that call and all later ones
 *   FAULT_FOLDERS=/a:/b:/c$                           calls on other paths are neither counted nor touched: /a and /b
 *                                                     with all that begins so, /c alone
 *   FAULT_NO_EXCHANGE=1, FAULT_NO_LOCKS=1             renameat2 knows no RENAME_EXCHANGE, files have no locks
 *   FAULT_REPORT=FILE                                 gets "NAME COUNT" per kind at exit, and "fired" where the fault came
 * Memory is counted from the start of main(), everywhere, and only where the shim is preloaded; elsewhere by the test's own
 * operator new (failing_new.cpp).
 */
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

enum fault_call {
    FAULT_OPEN,   /* open, openat, fopen, fdopendir */
    FAULT_READ,   /* read, pread */
    FAULT_WRITE,  /* write, pwrite */
    FAULT_SIZE,   /* ftruncate, fallocate */
    FAULT_SYNC,   /* fsync, fdatasync; none of these reaches the disk, which tests do not wait for */
    FAULT_RENAME, /* rename, renameat2, linkat */
    FAULT_CLOSE,  /* the file is closed all the same, as Linux does */
    FAULT_REMOVE, /* unlink, unlinkat, rmdir */
    FAULT_FOLDER, /* mkdir, opendir, readdir */
    FAULT_STAT,   /* stat, lstat, fstat, fstatat, statx, statvfs, faccessat, readlink, realpath */
    FAULT_LOCK,   /* locks by fcntl, flock */
    FAULT_MEMORY, /* malloc, calloc, realloc, aligned_alloc, posix_memalign */
    FAULT_THREAD, /* pthread_create */
    FAULT_ANY,    /* all of these but memory and threads, counted together; gets signals only */
    FAULT_CALLS
};
extern const char * const fault_call_names[FAULT_CALLS]; /* "open", ... */

/* In place of an errno: */
enum {
    FAULT_SHORT = -1,   /* reads and writes transfer half of what was asked for, at least one byte */
    FAULT_SIGNAL = -100 /* FAULT_SIGNAL - n: the program gets signal n, then the call is carried out */
};

struct fault_plan {
    enum fault_call call;
    long number; /* 0: none fails, all are counted */
    int error;
    int repeat;
    const char * folders; /* "/a:/b"; must live while the plan does */
};

/* Starts counting anew. NULL: nothing is counted and nothing fails. Not while other threads make calls. */
void fault_arm(const struct fault_plan * plan);
long fault_count(enum fault_call call); /* since fault_arm */
int fault_fired(void);
/* The syncs and renames on those folders since fault_arm, one a line: "sync PATH", "rename PATH". */
const char * fault_order(void);
/* For a test's own operator new: counts, and says whether this allocation has to fail. */
int fault_allocation_fails(void);

#ifdef __cplusplus
}
#endif
