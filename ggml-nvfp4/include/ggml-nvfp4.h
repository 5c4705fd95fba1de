/* ggml-nvfp4: BF16 mixture-of-experts checkpoints to NVFP4, with proof. The one public header.
 *
 * Manners
 *   - Every call that can fail returns a gnv_status. GNV_OK is 0; the text of a failure is gnv_last_error(engine).
 *   - The library never prints, never exits and never throws at its caller.
 *   - Handles are opaque. An engine and everything made from it belong to one thread at a time; two engines are
 *     independent of each other. There is no global state.
 *   - Handles made from an engine must be destroyed before it. Destroying NULL does nothing.
 *   - Structures of options start with struct_size: call gnv_<name>_init(), then change what you need. Fields are only
 *     ever added at the end, so a program keeps working with a newer library.
 *   - Pointers passed in need to live only for the call, except callbacks and their `user`, which are used until the
 *     call they were given to returns (log callbacks: until the engine is destroyed).
 *   - Strings are UTF-8, sizes are in bytes unless their name says otherwise, shapes are in C order.
 */
#ifndef GGML_NVFP4_H
#define GGML_NVFP4_H

#include <stddef.h>
#include <stdint.h>

#if defined(GNV_SHARED) && defined(__GNUC__)
#define GNV_API __attribute__((visibility("default")))
#else
#define GNV_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Status ---------------------------------------------------------------------------------------------------------- */

typedef enum gnv_status {
    GNV_OK = 0,
    /* the request */
    GNV_INVALID_ARGUMENT = 1, /* an option or parameter that makes no sense */
    GNV_NOT_FOUND = 2,        /* a file, tensor or module that was named does not exist */
    GNV_ALREADY_EXISTS = 3,   /* a destination that must not be there is there */
    GNV_CANCELLED = 4,        /* a callback asked to stop */
    GNV_UNSUPPORTED = 5,      /* valid input that this version does not handle */
    /* the input files */
    GNV_FORMAT = 20,    /* a file is damaged or does not follow its format */
    GNV_MODEL = 21,     /* a well-formed checkpoint that is not what its config says */
    GNV_CHANGED = 22,   /* the source changed while it was read */
    GNV_BAD_VALUE = 23, /* NaN or Inf where numbers are needed */
    /* the machine */
    GNV_IO = 40,            /* read, write, sync or rename failed */
    GNV_NO_SPACE = 41,      /* the disk is full, or would be */
    GNV_OUT_OF_MEMORY = 42, /* an allocation failed, or a budget is too small */
    GNV_DEVICE = 43,        /* an accelerator failed */
    /* the library */
    GNV_INTERNAL = 60 /* a state that should not exist; please report */
} gnv_status;

GNV_API const char * gnv_version(void);                     /* "0.1.0" */
GNV_API const char * gnv_status_string(gnv_status status);  /* "no space": a few words, never NULL */

/* ---- Engine ---------------------------------------------------------------------------------------------------------- */

typedef struct gnv_engine_t gnv_engine_t;

typedef enum gnv_log_level { GNV_LOG_WARNING = 1, GNV_LOG_INFO = 2, GNV_LOG_DEBUG = 3 } gnv_log_level;

typedef struct gnv_engine_options {
    uint64_t struct_size;
    int32_t threads; /* 0: one per processor this process may use */
    /* Receives one line without newline; may be called from a worker thread, never from two at once. NULL: silence. */
    void (*log)(void * user, gnv_log_level level, const char * message);
    void * user;
} gnv_engine_options;

GNV_API void gnv_engine_options_init(gnv_engine_options * options);
/* `options` may be NULL for the defaults. On failure *out is NULL and the status says why. */
GNV_API gnv_status gnv_engine_create(const gnv_engine_options * options, gnv_engine_t ** out);
GNV_API void gnv_engine_destroy(gnv_engine_t * engine);
/* The message of the last call that failed on this engine or on a handle made from it; "" when none did. Valid until the
 * next call on the engine. Names the file, the tensor and the place, and what to do about it. */
GNV_API const char * gnv_last_error(const gnv_engine_t * engine);
/* "avx512" | "avx2" | "portable": the fastest codec that this processor runs. */
GNV_API const char * gnv_cpu_kernels(void);

/* ---- Texts ------------------------------------------------------------------------------------------------------------ */

/* Text made by the library (tables, JSON documents). */
typedef struct gnv_text_t gnv_text_t;
GNV_API const char * gnv_text_data(const gnv_text_t * text); /* ends with NUL */
GNV_API size_t gnv_text_size(const gnv_text_t * text);       /* without the NUL */
GNV_API void gnv_text_destroy(gnv_text_t * text);

typedef enum gnv_text_format {
    GNV_TEXT_PLAIN = 0, /* for people */
    GNV_TEXT_JSON = 1   /* for programs; docs/json.md describes each document */
} gnv_text_format;

/* ---- Plan ------------------------------------------------------------------------------------------------------------ */

/* What every tensor of a checkpoint becomes, every byte range read and written, memory and disk space: decided from the
 * headers alone. Making a plan reads no weights; 72 GB are planned in under a second. */
typedef struct gnv_plan_t gnv_plan_t;

typedef enum gnv_scheme {
    GNV_SCHEME_NVFP4 = 0,   /* W4A4: needs calibrated input scales */
    GNV_SCHEME_NVFP4A16 = 1 /* W4A16: weights only */
} gnv_scheme;

typedef enum gnv_preset {
    GNV_PRESET_RECIPE = 0,      /* attention, shared experts and routed experts: what the reference recipe quantizes */
    GNV_PRESET_EXPERTS_ONLY = 1 /* routed experts alone */
} gnv_preset;

typedef struct gnv_plan_options {
    uint64_t struct_size;
    gnv_scheme scheme;
    gnv_preset preset;
    /* Regular expressions with the meaning of Python's re.match on module names ("model.language_model.layers.3.mlp.gate").
     * keep: never quantized, wins over everything; include: quantized although the default list names it;
     * ignore: not quantized, in addition to the default list. */
    const char * const * ignore;
    size_t ignore_count;
    const char * const * include;
    size_t include_count;
    const char * const * keep;
    size_t keep_count;
    uint64_t shard_bytes; /* tensor bytes per output file; 0: 5 GB */
    uint64_t ram_bytes;   /* budget for the buffers of all threads; 0: 256 MiB */
    /* Optional: when given, whatever would keep a run from writing there becomes a warning of the plan. */
    const char * destination;
    int32_t overwrite;
} gnv_plan_options;

GNV_API void gnv_plan_options_init(gnv_plan_options * options);
/* `source`: a folder with config.json and safetensors files. The plan uses the engine's threads. */
GNV_API gnv_status gnv_plan_create(gnv_engine_t * engine, const char * source, const gnv_plan_options * options,
                                   gnv_plan_t ** out);
GNV_API void gnv_plan_destroy(gnv_plan_t * plan);
/* A summary for people, or every tensor for programs (schema ggml-nvfp4.plan.1). */
GNV_API gnv_status gnv_plan_text(const gnv_plan_t * plan, gnv_text_format format, gnv_text_t ** out);

typedef struct gnv_plan_info {
    uint64_t struct_size;
    uint64_t source_tensors, source_bytes;
    uint64_t quantized_modules;
    uint64_t tensors, tensor_bytes; /* of the result */
    uint64_t shards;
    uint64_t bytes_read;            /* weights read twice count twice */
    uint64_t disk_bytes;            /* all files of the result */
    uint64_t buffer_bytes;          /* of all threads together */
    uint64_t warnings;
} gnv_plan_info;

/* The caller sets struct_size. */
GNV_API gnv_status gnv_plan_get_info(const gnv_plan_t * plan, gnv_plan_info * info);

/* ---- Quantize -------------------------------------------------------------------------------------------------------- */

typedef struct gnv_progress {
    uint64_t struct_size;
    uint64_t bytes, bytes_total;     /* of the source */
    uint64_t tensors, tensors_total; /* finished, of the result (quantize) or of the checkpoint (verify) */
    double seconds;                  /* since the start */
} gnv_progress;

/* Called several times a second from one thread at a time, not always the same. Not 0 asks to stop. */
typedef int (*gnv_progress_callback)(void * user, const gnv_progress * progress);

typedef struct gnv_quantize_options {
    uint64_t struct_size;
    int32_t overwrite; /* replace an existing checkpoint, once the new one is complete */
    gnv_progress_callback progress;
    void * user;
} gnv_quantize_options;

GNV_API void gnv_quantize_options_init(gnv_quantize_options * options);
/* Writes DESTINATION.partial and renames it when everything is on disk. After a failure or a stop nothing carries the
 * destination's name and the partial folder stays, with a journal of what is finished. The same source and plan give the
 * same bytes whatever threads, memory budget and host. `report` (may be NULL) receives times and peak memory as JSON
 * (schema ggml-nvfp4.quantize.1). */
GNV_API gnv_status gnv_quantize(const gnv_plan_t * plan, const char * destination, const gnv_quantize_options * options,
                                gnv_text_t ** report);

/* ---- Verify ---------------------------------------------------------------------------------------------------------- */

/* What was found in a checkpoint: is it what loaders need, and is it its source, quantized? */
typedef struct gnv_report_t gnv_report_t;

typedef struct gnv_verify_options {
    uint64_t struct_size;
    int32_t structure_only; /* headers and configs alone: no values are read */
    gnv_progress_callback progress;
    void * user;
} gnv_verify_options;

GNV_API void gnv_verify_options_init(gnv_verify_options * options);
/* Examines `checkpoint`, any producer's NVFP4 checkpoint in the compressed-tensors format. With `source` (may be NULL),
 * the BF16 checkpoint it was made from, weights and preserved tensors are compared as well. Faults of the checkpoint are
 * findings of the report, not failures of the call; the call fails when a folder is missing, holds no checkpoint, the
 * source cannot serve as one, or reading fails. The report is the same for any number of threads. */
GNV_API gnv_status gnv_verify(gnv_engine_t * engine, const char * checkpoint, const char * source,
                              const gnv_verify_options * options, gnv_report_t ** out);
GNV_API void gnv_report_destroy(gnv_report_t * report);

typedef struct gnv_report_info {
    uint64_t struct_size;
    uint64_t errors;         /* a loader refuses the checkpoint, or computes with wrong numbers */
    uint64_t warnings;       /* works in some loaders, or is unlikely to be meant */
    uint64_t notes;          /* worth knowing; nothing is wrong */
    uint64_t checks_done, checks_skipped; /* skipped: what they need was not there, or not asked for */
} gnv_report_info;

/* The caller sets struct_size. */
GNV_API gnv_status gnv_report_get_info(const gnv_report_t * report, gnv_report_info * info);
/* Tables and findings for people, or everything for programs (schema ggml-nvfp4.verify.1). */
GNV_API gnv_status gnv_report_text(const gnv_report_t * report, gnv_text_format format, gnv_text_t ** out);

#ifdef __cplusplus
}
#endif

#endif
