/* ggml-nvfp4: status, engine, devices, and what all runs share. Part of ggml-nvfp4.h, which states the rules of all
 * functions. */
#ifndef GGML_NVFP4_BASE_H
#define GGML_NVFP4_BASE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The version of this header, and of the build. gnv_version_number() returns that of the library at run time. */
#define GNV_VERSION_MAJOR 0
#define GNV_VERSION_MINOR 1
#define GNV_VERSION_PATCH 0
#define GNV_VERSION       (GNV_VERSION_MAJOR * 10000 + GNV_VERSION_MINOR * 100 + GNV_VERSION_PATCH)

#if defined(GNV_SHARED) && defined(__GNUC__)
#define GNV_API __attribute__((visibility("default")))
#else
#define GNV_API
#endif

/* Enumerations are ints for C++, too: no number that a caller passes is undefined behaviour. */
#ifdef __cplusplus
#define GNV_INT : int
extern "C" {
#else
#define GNV_INT
#endif

/* ---- Status ---------------------------------------------------------------------------------------------------------- */
typedef enum gnv_status GNV_INT {
    GNV_OK = 0,               /* from 1 on: the request; 20: the input files; 40: the machine; 60: the library */
    GNV_INVALID_ARGUMENT = 1, /* an option or parameter that makes no sense */
    GNV_NOT_FOUND = 2,        /* a file, tensor or module that was named does not exist */
    GNV_ALREADY_EXISTS = 3,   /* a destination that must not be there is there */
    GNV_CANCELLED = 4,        /* a callback asked to stop */
    GNV_UNSUPPORTED = 5,      /* valid input that this version does not handle */
    GNV_FORMAT = 20,          /* a file is damaged, does not follow its format, or names another that is missing */
    GNV_MODEL = 21,           /* a well-formed checkpoint that is not what its config says */
    GNV_CHANGED = 22,         /* the source changed while it was read */
    GNV_BAD_VALUE = 23,       /* NaN or Inf where numbers are needed */
    GNV_IO = 40,              /* read, write, sync or rename failed */
    GNV_NO_SPACE = 41,        /* the disk is full, or would be */
    GNV_OUT_OF_MEMORY = 42,   /* an allocation failed, or a budget is too small */
    GNV_DEVICE = 43,          /* an accelerator failed */
    GNV_INTERNAL = 60         /* a state that should not exist; please report */
} gnv_status;

GNV_API const char * gnv_version(void);                    /* "0.1.0" */
GNV_API uint32_t gnv_version_number(void);                 /* GNV_VERSION of the library: 100 */
GNV_API const char * gnv_status_string(gnv_status status); /* "no space": a few words, never NULL */

/* ---- Engine ---------------------------------------------------------------------------------------------------------- */
typedef struct gnv_engine_t gnv_engine_t;

typedef enum gnv_log_level GNV_INT { GNV_LOG_WARNING = 1, GNV_LOG_INFO = 2, GNV_LOG_DEBUG = 3 } gnv_log_level;

/* Vector instructions of the CPU. Results are the same with each. */
typedef enum gnv_instructions GNV_INT {
    GNV_INSTRUCTIONS_BEST = 0, /* the last one below that this processor has */
    GNV_INSTRUCTIONS_PORTABLE = 1,
    GNV_INSTRUCTIONS_AVX2 = 2,  /* with FMA */
    GNV_INSTRUCTIONS_AVX512 = 3 /* F, BW, DQ, VL */
} gnv_instructions;

typedef struct gnv_engine_options {
    uint64_t struct_size;
    int32_t threads; /* 0: one per processor that this process may use */
    /* Receives one line without newline; may be called from a worker thread, never from two at once. NULL: silence. */
    void (*log)(void * user, gnv_log_level level, const char * message);
    void * user;
    gnv_instructions instructions; /* for tests; GNV_UNSUPPORTED if this processor lacks them */
    int32_t text_columns; /* width of a terminal: tables of GNV_TEXT_PLAIN leave columns out to fit; 0: they have all */
} gnv_engine_options;
static inline void gnv_engine_options_init(gnv_engine_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
}
GNV_API gnv_status gnv_engine_create(const gnv_engine_options * options, gnv_engine_t ** out); /* fails without text */
GNV_API void gnv_engine_destroy(gnv_engine_t * engine);
/* The message of the last call that failed on this engine or a handle made from it, or "": the file, the tensor, the
 * place, and what to do. Valid until the thread's next call on the engine; any thread may ask. */
GNV_API const char * gnv_last_error(const gnv_engine_t * engine);
GNV_API gnv_status gnv_last_status(const gnv_engine_t * engine); /* of the same call; GNV_OK with the message "" */
/* "avx512" | "avx2" | "portable": the fastest code that this processor runs. */
GNV_API const char * gnv_cpu_kernels(void);

/* ---- Devices --------------------------------------------------------------------------------------------------------- */
typedef enum gnv_device_kind GNV_INT { GNV_DEVICE_CPU = 0, GNV_DEVICE_CUDA = 1 } gnv_device_kind;

typedef struct gnv_device_info {
    uint64_t struct_size;
    gnv_device_kind kind;
    int32_t compute_major, compute_minor; /* CUDA compute capability; 0 for the CPU */
    uint64_t memory_bytes;                /* all of the device's memory, free or not; 0: unknown */
    char name[128];                       /* "CPU (avx512)", "NVIDIA H100 80GB HBM3" */
} gnv_device_info;
/* Device 0 is the CPU; CUDA devices follow, and options that choose a `device` count alike. CUDA devices compute in BF16, FP32
 * is GNV_UNSUPPORTED there. Without a driver, or in a build without CUDA, there are none; an old driver is a warning. */
GNV_API gnv_status gnv_device_count(gnv_engine_t * engine, int32_t * count);
GNV_API gnv_status gnv_device_get_info(gnv_engine_t * engine, int32_t index, gnv_device_info * info);

/* Arithmetic of forward passes. */
typedef enum gnv_precision GNV_INT {
    GNV_PRECISION_FP32 = 0, /* everything in F32: the definition of correct */
    GNV_PRECISION_BF16 = 1  /* rounded to BF16 where a BF16 run of the reference implementation rounds */
} gnv_precision;

/* The device called `name`: "cpu", "cuda" (the first), "cuda:N" or "auto": the first CUDA device, or the CPU on
 * machines without one and if *wanted is GNV_PRECISION_FP32. *precision (may be NULL) receives *wanted, or for NULL
 * `wanted` the default of the device: FP32 on the CPU, BF16 on CUDA. GNV_NOT_FOUND: this machine has no such device. */
GNV_API gnv_status gnv_device_find(gnv_engine_t * engine, const char * name, const gnv_precision * wanted,
                                   int32_t * device, gnv_precision * precision);
/* The same for calls that take several CUDA devices: also "cuda:0,2" and "cuda:all". *count receives how many there are,
 * `devices` their numbers; `capacity` 0 (devices may be NULL): only the count. A smaller capacity, a device that is named
 * twice: GNV_INVALID_ARGUMENT. */
GNV_API gnv_status gnv_device_find_all(gnv_engine_t * engine, const char * name, const gnv_precision * wanted,
                                       int32_t * devices, uint64_t capacity, uint64_t * count,
                                       gnv_precision * precision);

/* ---- Texts ------------------------------------------------------------------------------------------------------------ */
typedef struct gnv_text_t gnv_text_t;                        /* made by the library: tables, JSON documents */
GNV_API const char * gnv_text_data(const gnv_text_t * text); /* ends with NUL */
GNV_API size_t gnv_text_size(const gnv_text_t * text);       /* without the NUL */
GNV_API void gnv_text_destroy(gnv_text_t * text);

typedef enum gnv_text_format GNV_INT {
    GNV_TEXT_PLAIN = 0,   /* for people */
    GNV_TEXT_JSON = 1,    /* for programs; docs/json.md describes each document */
    GNV_TEXT_MARKDOWN = 2 /* for a model card: gnv_evaluation_text, gnv_canary_text */
} gnv_text_format;

/* ---- Runs ---------------------------------------------------------------------------------------------------------- */
typedef struct gnv_progress {
    uint64_t struct_size;
    uint64_t bytes, bytes_total;     /* of the source; gnv_model_open: of the weights */
    uint64_t tensors, tensors_total; /* finished, of the result (quantize), of the checkpoint (verify); blocks (open) */
    double seconds;                  /* since the start */
    uint64_t positions, positions_total; /* of forward passes, once for each group of weights; 0 elsewhere */
    double share;           /* of the operations of forward passes that is done: for the time left; 0 elsewhere */
    uint64_t layer, layers; /* of a forward pass: the block that runs, from 1 on, and all; 0 elsewhere */
    uint64_t
        tokens; /* that each forward pass runs through all blocks; gnv_canary: of the longest answers; 0 elsewhere */
} gnv_progress;

/* Called several times a second from one thread at a time, not always the same. A result other than 0 asks to stop: the
 * call ends with GNV_CANCELLED within a second, and does not call back again. */
typedef int (*gnv_progress_callback)(void * user, const gnv_progress * progress);

/* Whether a run goes on where a stopped one with the same source, plan, data and version ended. */
typedef enum gnv_resume GNV_INT {
    GNV_RESUME_OFF = 0,       /* saves nothing for that, and starts anew */
    GNV_RESUME_ON = 1,        /* the default of the _init functions; saving takes at most 3 % of the time */
    GNV_RESUME_EACH_LAYER = 2 /* the same, but saves after each layer, however long that takes */
} gnv_resume;

#ifdef __cplusplus
}
#endif

#endif
