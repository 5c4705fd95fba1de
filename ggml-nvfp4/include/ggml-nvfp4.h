/* ggml-nvfp4: BF16 checkpoints to NVFP4, verified and run. The public header, long because it is the only one.
 *
 * Rules of all functions
 *   - A call that can fail returns a gnv_status. GNV_OK is 0; gnv_last_error(engine) is the message of a failure. After a
 *     failure every output handle is NULL.
 *   - The library never prints, never exits and never throws at its caller. Only a bug of its own ends the process.
 *   - Handles are opaque. Destroy handles before the engine that they are made from, and a comparison before its
 *     checkpoints. Destroying NULL does nothing. There is no global state: two engines are independent of each other,
 *     and all handles of a call must be of one engine.
 *   - An engine runs one call at a time. While one runs, from a callback or another thread, these functions of the same
 *     engine give GNV_INVALID_ARGUMENT and change nothing: gnv_device_*, gnv_plan_create, gnv_plan_add_calibration,
 *     gnv_calibration_load, gnv_quantize, gnv_verify*, gnv_evaluate*, gnv_checkpoint_measure, gnv_checkpoint_compare,
 *     gnv_nvfp4_* with an engine, gnv_dataset_open, gnv_model_open, _reset, _forward, _generate, _picture_positions,
 *     gnv_picture_open, _decode and _create, gnv_session_* but _close, gnv_model_step, gnv_model_get_sessions,
 *     gnv_tokenizer_set_progress, and gnv_tokenizer_encode with a callback. All others
 *     (infos, texts, dumps) wait for each other. A handle destroyed meanwhile lives until the running call returns.
 *   - Structures of options start with struct_size: call gnv_<name>_init(), which is compiled into your program and knows
 *     the size that your program knows, then change what you need. NULL options are the defaults. Structures that receive
 *     results: set struct_size before the call. Other sizes than those of a version are refused. Fields are only added at
 *     the end, so a program keeps working with a newer library.
 *   - Numbers that an enumeration or a sum of flags does not have are GNV_INVALID_ARGUMENT, as are lists of more than 10
 *     million entries and arrays of more than 2^47 bytes. Of int32_t options that say yes or no, 0 is no, others are yes.
 *   - Pointers passed in need to live only for the call, callbacks and their `user` until the call that they were given to
 *     returns (log: as long as the engine; gnv_tokenizer_set_progress: until the next one is set).
 *   - Strings are UTF-8, sizes are in bytes unless their name says otherwise, shapes are in C order.
 *   - A library may be built without some parts (README.md). Their functions exist: those that make a handle return
 *     GNV_UNSUPPORTED and name the part, the others treat NULL as always.
 */
#ifndef GGML_NVFP4_H
#define GGML_NVFP4_H

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
    GNV_FORMAT = 20,          /* a file is damaged or does not follow its format */
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
    GNV_TEXT_MARKDOWN = 2 /* for a model card: gnv_evaluation_text only */
} gnv_text_format;

/* ---- Plan ------------------------------------------------------------------------------------------------------------ */
/* A plan lists every tensor of the result, every byte range read and written, memory and disk space. It reads headers
 * only: under a second for 72 GB. */
typedef struct gnv_plan_t gnv_plan_t;
typedef enum gnv_scheme GNV_INT {
    GNV_SCHEME_NVFP4 = 0,   /* W4A4: needs calibrated input scales */
    GNV_SCHEME_NVFP4A16 = 1 /* W4A16: weights only */
} gnv_scheme;

typedef enum gnv_preset GNV_INT {
    GNV_PRESET_RECIPE = 0,      /* attention, shared experts and routed experts, as the reference recipe */
    GNV_PRESET_EXPERTS_ONLY = 1 /* routed experts alone */
} gnv_preset;

/* How codes and scales are chosen (docs/quality.md). The last two measure second moments of the inputs with a data set. */
typedef enum gnv_method GNV_INT {
    GNV_METHOD_RTN = 0,     /* nearest codes, scales from largest magnitudes: the bytes of the reference recipe */
    GNV_METHOD_MSE = 1,     /* the block scale with the least squared error, of all that there are */
    GNV_METHOD_HESSIAN = 2, /* the same, weighted by second moments of 16 inputs */
    GNV_METHOD_GPTQ = 3     /* GPTQ that searches scales in its loop, with all second moments */
} gnv_method;

/* Whether a run goes on where a stopped one with the same source, plan, data and version ended. */
typedef enum gnv_resume GNV_INT {
    GNV_RESUME_OFF = 0,       /* saves nothing for that, and starts anew */
    GNV_RESUME_ON = 1,        /* the default of the _init functions; saving takes at most 3 % of the time */
    GNV_RESUME_EACH_LAYER = 2 /* the same, but saves after each layer, however long that takes */
} gnv_resume;

typedef struct gnv_plan_options {
    uint64_t struct_size;
    gnv_scheme scheme;
    gnv_preset preset;
    /* Regular expressions with the meaning of Python's re.match on module names
     * ("model.language_model.layers.3.mlp.gate"). keep: never quantized, wins over all other rules; include: quantized
     * although the default list names it; ignore: not quantized, in addition to the default list. */
    const char * const * ignore;
    size_t ignore_count;
    const char * const * include;
    size_t include_count;
    const char * const * keep;
    size_t keep_count;
    uint64_t shard_bytes;     /* tensor bytes per output file; 0: 5 GB */
    uint64_t ram_bytes;       /* budget for the buffers of all threads; 0: 256 MiB. See `calibrates` */
    const char * destination; /* may be NULL; whatever would keep a run from writing there becomes a warning */
    int32_t overwrite;
    /* The run will calibrate: ram_bytes is the budget of all of it; 0: 256 MiB of buffers, and most of what is free. */
    int32_t calibrates;
    gnv_method method;
    float headroom;    /* of input scales, in largest inputs, 1 to 1024; 0: the recipe's with RTN, 4 with others */
    gnv_resume resume; /* as in gnv_quantize_options, for the warnings about `destination` */
    /* A recipe of llm-compressor (recipe.yaml), which decides scheme, preset, method, headroom and patterns: those are left as
     * gnv_plan_options_init has them. NULL: none. docs/recipe.md lists what it may say; every line that cannot be met goes to
     * the log as "FILE:LINE: key: ...", and the call fails with GNV_UNSUPPORTED. */
    const char * recipe_file;
} gnv_plan_options;
static inline void gnv_plan_options_init(gnv_plan_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->resume = GNV_RESUME_ON;
}
/* `source`: a folder with config.json and safetensors files. The plan uses the engine's threads. */
GNV_API gnv_status gnv_plan_create(gnv_engine_t * engine, const char * source, const gnv_plan_options * options,
                                   gnv_plan_t ** out);
GNV_API void gnv_plan_destroy(gnv_plan_t * plan);
/* A summary for people, or every tensor for programs (schema ggml-nvfp4.plan.1). */
GNV_API gnv_status gnv_plan_text(const gnv_plan_t * plan, gnv_text_format format, gnv_text_t ** out);

typedef struct gnv_plan_info {
    uint64_t struct_size;
    uint64_t source_tensors, source_bytes, quantized_modules;
    uint64_t tensors, tensor_bytes, shards; /* of the result */
    uint64_t bytes_read;                    /* weights read twice count twice */
    uint64_t disk_bytes;                    /* all files of the result */
    uint64_t buffer_bytes;                  /* of all threads together */
    uint64_t warnings;
} gnv_plan_info;
GNV_API gnv_status gnv_plan_get_info(const gnv_plan_t * plan, gnv_plan_info * info);

/* ---- Quantize -------------------------------------------------------------------------------------------------------- */
typedef struct gnv_progress {
    uint64_t struct_size;
    uint64_t bytes, bytes_total;     /* of the source; gnv_model_open: of the weights */
    uint64_t tensors, tensors_total; /* finished, of the result (quantize), of the checkpoint (verify); blocks (open) */
    double seconds;                  /* since the start */
    uint64_t positions, positions_total; /* of forward passes, once for each group of weights; 0 elsewhere */
    double share; /* of the operations of forward passes that is done: for the time left; 0 elsewhere */
} gnv_progress;

/* Called several times a second from one thread at a time, not always the same. A result other than 0 asks to stop: the
 * call ends with GNV_CANCELLED within a second, and does not call back again. */
typedef int (*gnv_progress_callback)(void * user, const gnv_progress * progress);

/* The tokens for the inputs of experts' down projections. */
typedef enum gnv_expert_tokens GNV_INT {
    GNV_EXPERTS_ALL = 0,   /* every expert sees every token, as in the reference recipe */
    GNV_EXPERTS_ROUTED = 1 /* an expert sees the tokens that the router sends it */
} gnv_expert_tokens;

typedef struct gnv_dataset_t gnv_dataset_t;
/* What calibration measured of a model: the largest inputs of its Linears, tokens per expert. */
typedef struct gnv_calibration_t gnv_calibration_t;

/* Reads files that a run of gnv_quantize saved, and merges them: largest of maxima, sums of counts. GNV_MODEL when they are
 * of different models. A file without checksums is a warning in the log. */
GNV_API gnv_status gnv_calibration_load(gnv_engine_t * engine, const char * const * paths, size_t count,
                                        gnv_calibration_t ** out);
GNV_API void gnv_calibration_destroy(gnv_calibration_t * calibration);
/* A table for people, or the content of one file that holds it all (schema ggml-nvfp4.statistics.2). */
GNV_API gnv_status gnv_calibration_text(const gnv_calibration_t * calibration, gnv_text_format format,
                                        gnv_text_t ** out);

/* For README.md of a result: metadata for the hub, how it was made, commands to serve it, SHA-256 of its files. */
typedef struct gnv_card_options {
    uint64_t struct_size;
    const char *
        source; /* a folder, usually the source: its card gives licence, languages and tags. NULL: none of them */
    const char * base_model;        /* "org/name" of the source; NULL: from the folder, if that is in the hub's cache */
    const char * command;           /* that made the result; may be NULL */
    const char * repository;        /* "org/name" of the result; may be NULL */
    gnv_progress_callback progress; /* gnv_card_write only, without numbers: to stop */
    void * user;
} gnv_card_options;
static inline void gnv_card_options_init(gnv_card_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
}

/* How to estimate the time of a run before it starts. */
typedef struct gnv_estimate_options {
    uint64_t struct_size;
    const char * assume; /* "h100", "h200": rates recorded there; NULL: measured on this machine, about two seconds */
    double price;        /* of the machine, dollars an hour; 0: none */
    const char * folder; /* gnv_plan_add_estimate: where the result is going to be, to measure its disk; NULL: none */
} gnv_estimate_options;
static inline void gnv_estimate_options_init(gnv_estimate_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
}

typedef struct gnv_quantize_options {
    uint64_t struct_size;
    int32_t overwrite; /* replace a checkpoint once the new one is complete; remove leftovers of a stopped run */
    gnv_progress_callback progress;
    void * user;
    /* GNV_SCHEME_NVFP4 needs one of these two: sequences to run through the model, or the statistics of such a run. */
    const gnv_dataset_t * dataset;
    const gnv_calibration_t * calibration;
    gnv_precision precision; /* this and what follows: how to calibrate with the data set */
    gnv_expert_tokens experts;
    const char * scratch_folder; /* for hidden states that do not fit; NULL: they must fit */
    const char *
        save_statistics;     /* a new file for the statistics; NULL: none. Without a destination nothing else is made */
    int32_t device;          /* of the forward pass */
    uint64_t device_bytes;   /* budget of that device's memory; 0: most of the free memory. The CPU ignores it */
    const char * trace_file; /* a new file for the timeline of the run (Chrome's trace format); NULL: none */
    int32_t measure_limits;  /* 1: on CUDA, time the experts' products alone for 10 seconds first, to compare with */
    gnv_text_t ** phases;    /* receives a table of what took how long, which the caller destroys; NULL: none */
    gnv_resume resume;
    uint32_t part, parts; /* 1 <= part <= parts: only that share of the sequences, to save its statistics; 0: all */
    /* Several CUDA devices of one model instead of `device`: they share sequences and packing, and the result has the
     * same bytes. device_bytes is the budget of each. NULL with 0: `device` alone. */
    const int32_t * devices;
    uint64_t device_count;
    /* Without `dataset`: only so many layers of the text; 0: all. They stay in DESTINATION.partial, which gets no name: a
     * call for all layers goes on with it, or takes its tensors, and makes what is missing. */
    int32_t first_layer, layer_count;
    const char * const * take; /* DESTINATION.partial of such calls on the same model with the same options, to copy */
    uint64_t take_count;
    const gnv_card_options * card; /* README.md of the result; NULL: none */
    /* A new file for what the run did and found: a page (.html), or the text of `report` (.json); NULL: none. It is made
     * after the result has its name. */
    const char * report_file;
    const gnv_estimate_options * estimate; /* the report says what it was, and by how much it was wrong; NULL: none */
} gnv_quantize_options;
static inline void gnv_quantize_options_init(gnv_quantize_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->resume = GNV_RESUME_ON;
}
/* Plans the forward pass of gnv_quantize over options->dataset and adds it to both texts of the plan. Reads no weights. */
GNV_API gnv_status gnv_plan_add_calibration(gnv_plan_t * plan, const gnv_quantize_options * options);

/* In seconds and bytes. Parts overlap where a device computes: `total` counts the longest and what follows it. */
typedef struct gnv_estimate {
    uint64_t struct_size;
    double forward_pass, read, upload, pack, write, disk, finish, total;
    double cost; /* dollars; 0 without a price */
    uint64_t disk_bytes, host_bytes, device_bytes;
    int32_t is_complete; /* 0: the search of the method, or the disk of an unknown folder, is not in it */
} gnv_estimate;
/* Estimates gnv_quantize with these options from the operations and bytes of the plan, and adds it to both texts of the plan.
 * `estimate` and `out` may be NULL. Reads samples of the source and writes a file without a name in `folder`. */
GNV_API gnv_status gnv_plan_add_estimate(gnv_plan_t * plan, const gnv_quantize_options * options,
                                         const gnv_estimate_options * estimate, gnv_estimate * out);

/* Writes DESTINATION.partial (destination NULL: only save_statistics) and renames it when everything is on disk. After a failure or a stop no new destination exists;
 * the partial folder stays, with a journal, and the next call goes on with it (gnv_resume) to the same bytes; if it cannot,
 * GNV_ALREADY_EXISTS names what differs, and GNV_RESUME_OFF with `overwrite` starts anew. The same source, plan and data give the same bytes for any threads, memory and
 * host; inputs measured on CPU and CUDA differ by the rounding of BF16. Budget and data are checked before the first
 * write. A run replaces only files of a checkpoint, and none that it reads. A second run to the same destination fails
 * with GNV_ALREADY_EXISTS. Notes and warnings of the plan go to the log. GNV_BAD_VALUE names layer, sample
 * and position of a NaN or Inf. `report` (may be NULL) receives times and memory (schema ggml-nvfp4.quantize.1). */
GNV_API gnv_status gnv_quantize(const gnv_plan_t * plan, const char * destination, const gnv_quantize_options * options,
                                gnv_text_t ** report);

/* ---- Verify ---------------------------------------------------------------------------------------------------------- */
/* The findings of the checks: whether loaders can load a checkpoint, and whether it matches its source. */
typedef struct gnv_report_t gnv_report_t;

typedef struct gnv_verify_options {
    uint64_t struct_size;
    int32_t structure_only; /* reads headers and configs, no values */
    gnv_progress_callback progress;
    void * user;
    /* 1: the JSON report omits SHA-256 of preserved tensors; they are compared byte for byte anyway. */
    int32_t no_checksums;
    int32_t device;           /* with a source: CUDA quantizes it again, and the report counts equal blocks; 0: not */
    const char * report_file; /* for gnv_report_write later: fails now if that cannot be made; NULL: none */
} gnv_verify_options;
static inline void gnv_verify_options_init(gnv_verify_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
}
/* Examines `checkpoint`, any producer's NVFP4 checkpoint in the compressed-tensors format; with `source` (may be NULL), the
 * BF16 checkpoint it was made from, compares weights and preserved tensors as well. Faults are findings of the report. */
GNV_API gnv_status gnv_verify(gnv_engine_t * engine, const char * checkpoint, const char * source,
                              const gnv_verify_options * options, gnv_report_t ** out);
GNV_API void gnv_report_destroy(gnv_report_t * report);

typedef struct gnv_report_info {
    uint64_t struct_size;
    uint64_t errors;                      /* a loader refuses the checkpoint, or computes with wrong numbers */
    uint64_t warnings;                    /* works in some loaders, or is probably not intended */
    uint64_t notes;                       /* information; not a fault */
    uint64_t checks_done, checks_skipped; /* skipped: their inputs are absent, or not requested */
    uint64_t failed_gates, suspicions;    /* of an added evaluation */
} gnv_report_info;
GNV_API gnv_status gnv_report_get_info(const gnv_report_t * report, gnv_report_info * info);
/* Tables and findings for people, or everything for programs (schema ggml-nvfp4.verify.1). */
GNV_API gnv_status gnv_report_text(const gnv_report_t * report, gnv_text_format format, gnv_text_t ** out);
/* Makes a new file of the whole report, with an added evaluation: a page for a browser that needs no other file (.html), or
 * the JSON text (.json). Both have the same facts. */
GNV_API gnv_status gnv_report_write(const gnv_report_t * report, const char * path);

/* A test of the checks: injects some forty faults, one by one, into a view of the checkpoint (fewer without `source`).
 * `escaped` (may be NULL) receives the number of faults without a finding (schema ggml-nvfp4.self_test.1). */
GNV_API gnv_status gnv_verify_self_test(gnv_engine_t * engine, const char * checkpoint, const char * source,
                                        const gnv_verify_options * options, gnv_text_format format,
                                        gnv_text_t ** report, uint64_t * escaped);

/* ---- Evaluation ------------------------------------------------------------------------------------------------------ */
/* The comparison of a checkpoint's predictions with its source's, at every position of the same text. */
typedef struct gnv_evaluation_t gnv_evaluation_t;

/* A variant to compare with the source. Bits. */
typedef enum gnv_line GNV_INT {
    GNV_LINE_W4A4 = 1,        /* weights and inputs in NVFP4, as Blackwell kernels compute */
    GNV_LINE_W4A16 = 2,       /* weights alone */
    GNV_LINE_ACTIVATIONS = 4, /* inputs alone: the source's weights with the checkpoint's input scales */
    GNV_LINE_BF16 = 8         /* the source in BF16 arithmetic: the effect of rounding alone */
} gnv_line;

typedef struct gnv_evaluate_options {
    uint64_t struct_size;
    const gnv_dataset_t * dataset; /* required; every document, or piece of a document, is a window */
    uint32_t lines;                /* a sum of gnv_line; lines that the checkpoint does not allow are left out */
    int32_t shared_expert_scale;   /* the smallest input scale for all experts of a layer, as some kernels do */
    gnv_precision precision;       /* of all lines and of the source */
    uint64_t ram_bytes;            /* for everything; 0: most of the free memory */
    const char * scratch_folder;   /* for hidden states that do not fit; NULL: they must fit */
    /* The source's predictions, so that many checkpoints share one run of the source: written to a new file, or read
     * from a file for the same data. Not both. With `logits` only GNV_LINE_ACTIVATIONS needs the source folder. */
    const char * save_logits;
    const char * logits;
    /* Gates on W4A4 (W4A16 without input scales); below 0: off; a NaN is refused. */
    double max_kl;               /* mean KL divergence in nats */
    double min_top1;             /* share of positions with the same most likely token */
    double max_perplexity_ratio; /* of the checkpoint to the source */
    double max_room;             /* of an input scale: its largest value / the largest input */
    const char * baseline;       /* a JSON report of another checkpoint on the same data; a worse result fails */
    gnv_progress_callback progress;
    void * user;
    int32_t device;        /* of the forward passes */
    uint64_t device_bytes; /* budget of that device's memory; 0: most of the free memory. The CPU ignores it */
    /* Also measures, for modules of each kind in so many ranges of layers, the KL with them in the source's precision; 0: not. */
    int32_t sensitivity_ranges;
    const int32_t * devices; /* several CUDA devices of one model instead of `device`, as in gnv_quantize_options */
    uint64_t device_count;
    /* So many positions with the largest KL are in the JSON of a line, with the text before them; 0: none. */
    int32_t contexts;
    /* A folder, which need not exist, for the state to go on with if the call is stopped: the same call goes on with it to
     * the same result, on any number of threads, budget and number of devices; GNV_ALREADY_EXISTS names what differs. NULL: none. */
    const char * state_folder;
    gnv_resume resume; /* how often it is saved; GNV_RESUME_OFF: not, as without `state_folder` */
} gnv_evaluate_options;
static inline void gnv_evaluate_options_init(gnv_evaluate_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->lines = GNV_LINE_W4A4 | GNV_LINE_W4A16 | GNV_LINE_ACTIVATIONS;
    options->max_kl = options->min_top1 = options->max_perplexity_ratio = options->max_room = -1;
    options->resume = GNV_RESUME_ON;
}
/* `source` may be NULL with `logits`. A gate that fails is a result, not a failure of the call. The result is the same for
 * any number of threads, budget of memory and instruction set; between a CPU and CUDA it differs by the rounding of BF16.
 * GNV_MODEL when the two are not of one architecture, GNV_OUT_OF_MEMORY with the least budget that is enough. */
GNV_API gnv_status gnv_evaluate(gnv_engine_t * engine, const char * checkpoint, const char * source,
                                const gnv_evaluate_options * options, gnv_evaluation_t ** out);
GNV_API void gnv_evaluation_destroy(gnv_evaluation_t * evaluation);
/* Removes `state_folder`, which stays otherwise: call it when the texts of the evaluation are where they belong. */
GNV_API gnv_status gnv_evaluation_remove_state(gnv_evaluation_t * evaluation);

/* Fails where gnv_evaluate would because of a file or folder that the options name. Opens no checkpoint, leaves nothing. */
GNV_API gnv_status gnv_evaluate_check(gnv_engine_t * engine, const gnv_evaluate_options * options);

typedef struct gnv_evaluation_info {
    uint64_t struct_size;
    uint32_t lines;                           /* computed ones */
    uint64_t windows, positions, predictions; /* predictions: positions with a next token */
    uint64_t gates, failed_gates;
    uint64_t suspicions; /* implausible: too good, or a scale without an explanation */
} gnv_evaluation_info;
GNV_API gnv_status gnv_evaluation_get_info(const gnv_evaluation_t * evaluation, gnv_evaluation_info * info);

/* Means over all positions, weighted alike, and their standard errors by window. */
typedef struct gnv_evaluation_line {
    uint64_t struct_size;
    double kl, kl_error, kl_median, kl_99, kl_maximum; /* KL(source || line), nats */
    double same_top, same_top_error;
    double source_perplexity, perplexity, perplexity_ratio, perplexity_ratio_error;
    double probability_change_rms; /* of the true token */
    int32_t worst_layer;           /* whose block adds most error to the hidden states; -1: not known */
} gnv_evaluation_line;
/* GNV_NOT_FOUND when the line was not computed. */
GNV_API gnv_status gnv_evaluation_get_line(const gnv_evaluation_t * evaluation, gnv_line line,
                                           gnv_evaluation_line * out);
/* Tables for people, everything for programs (schema ggml-nvfp4.evaluation.1), or a table for a model card. */
GNV_API gnv_status gnv_evaluation_text(const gnv_evaluation_t * evaluation, gnv_text_format format, gnv_text_t ** out);
/* Adds the evaluation to the report: to both its texts and its info. The evaluation may be destroyed afterwards. */
GNV_API gnv_status gnv_report_add_evaluation(gnv_report_t * report, const gnv_evaluation_t * evaluation);

/* ---- Checkpoint ------------------------------------------------------------------------------------------------------ */
/* Any folder of safetensors files: a model in its source precision, a quantized one, or an unknown one. Opening reads
 * headers and config.json and checks the files' structure (sizes, offsets, index), no tensor data. Strings and shapes
 * from the functions below are valid until the checkpoint is closed.
 *
 * A quantized module is an NVFP4 weight [rows, columns] whose codes, block scales and global scale are tensors of the
 * checkpoint, in the naming of llm-compressor or of ModelOpt. Its name is that of the Linear, without ".weight". A
 * `name` of a function may be a tensor's or a quantized module's; a tensor wins. */
typedef struct gnv_checkpoint_t gnv_checkpoint_t;

/* GNV_NOT_FOUND: no such folder, or no safetensors file in it. GNV_FORMAT names the file and the byte. */
GNV_API gnv_status gnv_checkpoint_open(gnv_engine_t * engine, const char * folder, gnv_checkpoint_t ** out);
GNV_API void gnv_checkpoint_close(gnv_checkpoint_t * checkpoint);
GNV_API uint64_t gnv_checkpoint_tensor_count(const gnv_checkpoint_t * checkpoint); /* 0 for NULL */
GNV_API uint64_t gnv_checkpoint_module_count(const gnv_checkpoint_t * checkpoint); /* quantized ones; 0 for NULL */

typedef struct gnv_tensor_info {
    uint64_t struct_size;
    const char * name;
    const char * dtype; /* as safetensors spells it: "BF16", "F8_E4M3", "U8" */
    const char * role;  /* "router", "draft head: attention q"; "extra": not in the model; "": no known config.json */
    uint64_t dimensions;
    const int64_t * shape; /* `dimensions` extents, C order */
    const char * shard;    /* the file's name inside the folder */
    uint64_t offset;       /* bytes from the start of that file */
    uint64_t bytes;
    const char * module; /* its quantized module, or "" */
    const char * part;   /* of that module: "codes", "block scales", "global scale", "input scale", or "" */
} gnv_tensor_info;
/* `tensor` counts from 0, by file, then by offset. */
GNV_API gnv_status gnv_checkpoint_tensor_info(gnv_checkpoint_t * checkpoint, uint64_t tensor, gnv_tensor_info * info);
GNV_API gnv_status gnv_checkpoint_find_tensor(gnv_checkpoint_t * checkpoint, const char * name, uint64_t * tensor);

typedef struct gnv_module_info {
    uint64_t struct_size;
    const char * name;
    const char * role;   /* as gnv_tensor_info.role */
    const char * scheme; /* "nvfp4": with an input scale; "nvfp4a16": without */
    const char * naming; /* "compressed-tensors" (llm-compressor) or "modelopt" */
    int64_t rows, columns;
    uint64_t codes, block_scales, global_scale; /* positions of its tensors */
    uint64_t input_scale;                       /* the same; UINT64_MAX: none */
} gnv_module_info;
/* `module` counts from 0, in the order of their codes in the files. Finding: GNV_NOT_FOUND when nothing has that name. */
GNV_API gnv_status gnv_checkpoint_module_info(gnv_checkpoint_t * checkpoint, uint64_t module, gnv_module_info * info);
GNV_API gnv_status gnv_checkpoint_find_module(gnv_checkpoint_t * checkpoint, const char * name, uint64_t * module);

/* Copies `size` bytes at `offset` of a tensor's data, as stored. GNV_INVALID_ARGUMENT: the tensor has fewer. */
GNV_API gnv_status gnv_checkpoint_read(gnv_checkpoint_t * checkpoint, uint64_t tensor, uint64_t offset, void * data,
                                       uint64_t size);
/* Elements [first, first + count) in C order as numbers, exact except for 64-bit integers beyond 2^53; for a quantized
 * module the dequantized weight. GNV_UNSUPPORTED for 6-bit floats. */
GNV_API gnv_status gnv_checkpoint_values(gnv_checkpoint_t * checkpoint, const char * name, uint64_t first,
                                         uint64_t count, double * values);

typedef struct gnv_statistics {
    uint64_t struct_size;
    uint64_t elements, zeros, nans, infinities;
    uint64_t first_not_finite;           /* position in C order, UINT64_MAX if all are finite */
    double minimum, maximum, largest;    /* of the finite elements; largest: of the magnitudes */
    double mean, deviation;              /* of the finite elements; deviation: root of the mean squared distance */
    int32_t has_codes, has_block_scales; /* of the fields below: a quantized module has both, its tensors one or none */
    uint64_t codes[16];                  /* how often each E2M1 code occurs */
    double block_scale_minimum, block_scale_maximum; /* of those that are no NaN */
    uint64_t block_scale_zeros, block_scale_subnormals, block_scale_largest, block_scale_nans;
    uint64_t block_scale_negatives;   /* -0 included; block_scale_largest above: of magnitude 448 */
    double global_scale, input_scale; /* of a module, as stored; 0: none */
} gnv_statistics;
/* Reads all of a tensor or quantized module (then the values are dequantized) in bounded memory. Sums do not depend on
 * the number of threads. `statistics` and `text` (a table, or JSON of schema ggml-nvfp4.inspect.1) may be NULL.
 * GNV_CHANGED: a file was changed since the checkpoint was opened. */
GNV_API gnv_status gnv_checkpoint_measure(gnv_checkpoint_t * checkpoint, const char * name, gnv_statistics * statistics,
                                          gnv_text_format format, gnv_text_t ** text);

typedef struct gnv_contents_options {
    uint64_t struct_size;
    const char * filter;  /* Python's re.match on names of tensors and modules; NULL: all */
    int32_t list_tensors; /* plain text: a line per tensor after the summary by role (JSON has them always) */
} gnv_contents_options;
static inline void gnv_contents_options_init(gnv_contents_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
}
/* What the checkpoint holds: a summary by role for people, every tensor for programs (schema ggml-nvfp4.inspect.1). */
GNV_API gnv_status gnv_checkpoint_text(gnv_checkpoint_t * checkpoint, const gnv_contents_options * options,
                                       gnv_text_format format, gnv_text_t ** out);

/* ---- Comparison ------------------------------------------------------------------------------------------------------ */
/* Differences of two checkpoints, `here` and `there`. Tensors are matched by name. A quantized module is matched with
 * the same weight in any form on the other side: quantized, a tensor, or a slice of fused experts. */
typedef struct gnv_comparison_t gnv_comparison_t;

typedef struct gnv_compare_options {
    uint64_t struct_size;
    const char * filter; /* as gnv_contents_options.filter */
    gnv_progress_callback progress;
    void * user;
} gnv_compare_options;
static inline void gnv_compare_options_init(gnv_compare_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
}
/* Reads every pair that meets, in bounded memory. */
GNV_API gnv_status gnv_checkpoint_compare(gnv_checkpoint_t * here, gnv_checkpoint_t * there,
                                          const gnv_compare_options * options, gnv_comparison_t ** out);
GNV_API void gnv_comparison_destroy(gnv_comparison_t * comparison);

typedef struct gnv_comparison_info {
    uint64_t struct_size;
    uint64_t equal;     /* same dtype, shape and bytes */
    uint64_t values;    /* same dtype and shape, other bytes */
    uint64_t form;      /* another dtype or shape */
    uint64_t quantized; /* same shape, quantized on one side */
    uint64_t only_here, only_there;
    double relative_squared_error;       /* of those: sum of squared errors / sum of squares of the other side; or 0 */
    double worst_relative_squared_error; /* of one weight */
} gnv_comparison_info;
GNV_API gnv_status gnv_comparison_get_info(const gnv_comparison_t * comparison, gnv_comparison_info * info);
/* Tables for people, or every difference for programs (schema ggml-nvfp4.inspect.1). */
GNV_API gnv_status gnv_comparison_text(const gnv_comparison_t * comparison, gnv_text_format format, gnv_text_t ** out);

/* ---- NVFP4 codec ------------------------------------------------------------------------------------------------------ */
/* The arithmetic of the format on arrays in memory; no files. A weight [rows, columns], row-major, becomes one E2M1 code
 * (4 bits) per element, one E4M3 byte per block of 16 consecutive elements of a row, and one divisor for all of it:
 *
 *     weight[n][k]  ~  value(code[n][k]) * e4m3(scales[n][k / 16]) / global_scale
 *
 * codes: [rows, columns / 2], byte j of a row = code[2j] | code[2j + 1] << 4. scales: [rows, columns / 16]. The bytes are
 * those of llm-compressor's weight_packed, weight_scale and weight_global_scale. Columns must be divisible by 16; pointers
 * need no alignment and may be NULL only for zero elements. After a failure the outputs are undefined. */

/* Of the source weight, which decides the arithmetic: a BF16 weight is quantized with BF16 roundings. */
typedef enum gnv_dtype GNV_INT { GNV_DTYPE_BF16 = 0, GNV_DTYPE_F16 = 1, GNV_DTYPE_F32 = 2 } gnv_dtype;
/* Bytes of codes and scales; 0 if the columns are not divisible by 16 or a number is not valid. */
GNV_API uint64_t gnv_nvfp4_code_bytes(int64_t rows, int64_t columns);
GNV_API uint64_t gnv_nvfp4_scale_bytes(int64_t rows, int64_t columns);

/* The largest magnitude of `count` elements, 0 for none. GNV_BAD_VALUE names the first NaN or Inf. */
GNV_API gnv_status gnv_nvfp4_absolute_maximum(gnv_engine_t * engine, gnv_dtype dtype, const void * weights,
                                              int64_t count, float * amax);
/* The divisor for a weight, or for weights that share one (query, key and value; gate and up), from the largest
 * magnitude of all: about 2688 / amax. 1 if that is not finite, as for a weight of zeros. */
GNV_API gnv_status gnv_nvfp4_global_scale(gnv_engine_t * engine, gnv_dtype dtype, float amax, float * global_scale);
/* GNV_BAD_VALUE names row and column of the first NaN or Inf. `global_scale` must be finite and above zero. */
GNV_API gnv_status gnv_nvfp4_quantize_rows(gnv_engine_t * engine, gnv_dtype dtype, const void * weights, int64_t rows,
                                           int64_t columns, float global_scale, uint8_t * codes, uint8_t * scales);
/* Writes rows x columns floats. GNV_BAD_VALUE names row and block of the first scale byte that means NaN. */
GNV_API gnv_status gnv_nvfp4_dequantize_rows(gnv_engine_t * engine, const uint8_t * codes, const uint8_t * scales,
                                             int64_t rows, int64_t columns, float global_scale, float * values);

/* ---- Tokenizer ------------------------------------------------------------------------------------------------------- */
/* The byte-level BPE of a checkpoint's tokenizer.json, with the ids of the `tokenizers` library. */
typedef struct gnv_tokenizer_t gnv_tokenizer_t;

typedef enum gnv_tokenizer_flags GNV_INT {
    GNV_TOKENIZER_NO_SPECIAL = 1,   /* encode: control strings such as "<|im_end|>" are ordinary text */
    GNV_TOKENIZER_SKIP_SPECIAL = 2, /* decode: leaves special tokens out */
    GNV_TOKENIZER_BYTES = 4         /* decode: unchanged bytes, not U+FFFD for invalid UTF-8 */
} gnv_tokenizer_flags;
/* `path`: a model folder or a tokenizer.json. GNV_UNSUPPORTED names the first step of the file that is not byte-level BPE. */
GNV_API gnv_status gnv_tokenizer_load(gnv_engine_t * engine, const char * path, gnv_tokenizer_t ** out);
GNV_API void gnv_tokenizer_destroy(gnv_tokenizer_t * tokenizer);
/* One more than the largest id; further rows of a model's embedding are no tokens. 0 for NULL. */
GNV_API int32_t gnv_tokenizer_vocab_size(const gnv_tokenizer_t * tokenizer);
/* Encodes `size` bytes of UTF-8, NUL too. *count receives the number of ids; the first min(*count, capacity) go to `ids`.
 * GNV_FORMAT names the byte where UTF-8 ends; GNV_INVALID_ARGUMENT: more than 1 MiB without a place to cut it; GNV_UNSUPPORTED:
 * the file's patterns would look at every byte dozens of times. `flags`: 0 or GNV_TOKENIZER_NO_SPECIAL. */
GNV_API gnv_status gnv_tokenizer_encode(gnv_tokenizer_t * tokenizer, const char * text, size_t size, uint32_t flags,
                                        int32_t * ids, size_t capacity, size_t * count);
/* From now on gnv_tokenizer_encode calls `progress` while it works, with `seconds` alone. NULL: none, as at first. */
GNV_API gnv_status gnv_tokenizer_set_progress(gnv_tokenizer_t * tokenizer, gnv_progress_callback progress, void * user);
/* The text of `count` ids. GNV_INVALID_ARGUMENT names the position of an id that is no token. `flags`: of the other two. */
GNV_API gnv_status gnv_tokenizer_decode(gnv_tokenizer_t * tokenizer, const int32_t * ids, size_t count, uint32_t flags,
                                        gnv_text_t ** out);

/* The text of `conversation`, JSON of `size` bytes: {"messages": [..]} and other variables of the chat template, which is the
 * checkpoint's or `template_file` (or NULL): docs/chat.md. `local_time`: seconds since 1970 on the clock that it shows. */
GNV_API gnv_status gnv_tokenizer_render_chat(gnv_tokenizer_t * tokenizer, const char * conversation, size_t size,
                                             const char * template_file, int64_t local_time, gnv_text_t ** out);

/* ---- Calibration data ------------------------------------------------------------------------------------------------ */
typedef struct gnv_dataset_options { /* of a gnv_dataset_t, token sequences to run through a model */
    uint64_t struct_size;
    /* "[ALIAS@]PATH[:FIELD][=WEIGHT]" each; docs/sources.md lists the files, folders and fields that are read. FIELD is taken
     * as text; without it the fields decide. Samples are dealt out by weight (1). ALIAS is the name of a known data set of
     * which PATH is a copy: open-platypus, gsm8k, oasst1, the-stack, pg19. */
    const char * const * sources;
    size_t source_count;
    const char * tokens_file;   /* instead of sources: {"input_ids": [[...]], "attention_mask": [[...]]} */
    const char * text_template; /* "model", "alpaca", "chatml", "none"; NULL: the one that fits the fields */
    uint64_t samples;           /* sequences; 256; 0: every row */
    uint64_t sequence_length;   /* tokens; longer documents lose their end; 2048 */
    uint64_t seed;              /* 42; rows are chosen in one pass, without replacement, the same on every machine */
    int32_t no_shuffle;         /* the first rows in file order */
    int32_t pad;                /* fill up to sequence_length with the pad token, masked: what llm-compressor does */
    int32_t pack;               /* several documents a sequence, none seeing another */
    uint64_t ram_bytes;         /* budget for reading, and for the sequences; 0: most of what is free */
    gnv_progress_callback progress; /* while data is read and encoded, with `seconds` alone. NULL: none */
    void * user;
    int32_t chunk;    /* a document gives all its tokens, one sequence after another, in place of its first ones */
    int32_t skip_bad; /* leave out records whose pictures cannot be used, and count them; else they are an error */
} gnv_dataset_options;
static inline void gnv_dataset_options_init(gnv_dataset_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->samples = 256;
    options->sequence_length = 2048;
    options->seed = 42;
}
/* Reads every source once; rows and ids do not depend on the budget. Fewer usable rows than asked for are a warning (log and
 * summary), none is a failure. GNV_OUT_OF_MEMORY names what has no room; GNV_FORMAT: 100 MB of blanks, 5 M empty rows. */
GNV_API gnv_status gnv_dataset_open(gnv_engine_t * engine, const gnv_tokenizer_t * tokenizer,
                                    const gnv_dataset_options * options, gnv_dataset_t ** out);
GNV_API void gnv_dataset_destroy(gnv_dataset_t * dataset);
GNV_API uint64_t gnv_dataset_size(const gnv_dataset_t * dataset); /* sequences; 0 for NULL */

/* The part of a sequence from one row; it ends at the begin of the next. */
typedef struct gnv_document {
    uint32_t begin;
    uint32_t source; /* position in gnv_dataset_options.sources */
    uint64_t row;    /* from 0, counted over all files of the source */
} gnv_document;

typedef struct gnv_sequence {
    uint64_t struct_size;
    uint64_t length;
    const int32_t * ids;
    const uint8_t * mask; /* 1 for tokens, 0 for pads; NULL: no pads */
    const gnv_document * documents;
    uint64_t document_count;
} gnv_sequence;

/* The data set owns the arrays: ids and mask are valid as long as it lives, documents until the next call. */
GNV_API gnv_status gnv_dataset_sequence(gnv_dataset_t * dataset, uint64_t index, gnv_sequence * out);
/* A summary: tokens, truncation, padding, lengths, duplicates, omitted rows (schema ggml-nvfp4.dataset.1). */
GNV_API gnv_status gnv_dataset_text(const gnv_dataset_t * dataset, gnv_text_format format, gnv_text_t ** out);
/* A new file in the format of tokens_file, with the chosen rows and a hash in addition. */
GNV_API gnv_status gnv_dataset_save_tokens(const gnv_dataset_t * dataset, const char * path);

/* ---- Text model ------------------------------------------------------------------------------------------------------ */
/* A checkpoint that computes: BF16, or NVFP4 in the naming of llm-compressor. A model holds one text at a time in its
 * caches; every call continues it. Results do not depend on threads, on memory or on the division of a text into calls
 * at multiples of 64 positions, with more than one in each; other divisions change the last bits.
 *
 * A call that fails while it computes (a NaN, a callback that stops) leaves the model as gnv_model_reset does: at the
 * start of a text. A call that refuses its arguments changes nothing. */
typedef struct gnv_model_t gnv_model_t;

typedef struct gnv_model_options {
    uint64_t struct_size;
    gnv_precision precision;
    int32_t weights_only; /* W4A16 also where the checkpoint has input scales: activations are not quantized */
    uint64_t ram_bytes;   /* for weights and caches; 0: most of what is free. What does not fit is read for each call */
    uint64_t capacity;    /* positions that the caches hold; 0: 4096, or all that the model has if fewer */
    int32_t device;       /* that computes */
    uint64_t device_bytes; /* of its memory; 0: most of what is free. ram_bytes is for weights on their way then */
    gnv_progress_callback progress; /* while weights are loaded */
    void * user;
    uint64_t sessions; /* texts at once besides the model's own, of up to `capacity` positions: ggml-nvfp4-session.h */
    uint64_t session_positions; /* in the caches of all sessions together; 0: as many as each can hold */
    /* Several CUDA devices of one model instead of `device`: each keeps consecutive layers, device_bytes is the budget of each,
     * and results are those of one. The log tells what lies where. NULL with 0: `device` alone. */
    const int32_t * devices;
    uint64_t device_count;
    /* 1: the model's draft head (MTP) comes with it, for gnv_generate_options.draft. Its weights, caches and copies of states
     * belong to ram_bytes, and all weights must fit. GNV_UNSUPPORTED: the checkpoint has no draft head that can be run, or the
     * device is not the CPU. */
    int32_t drafts;
} gnv_model_options;
static inline void gnv_model_options_init(gnv_model_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
}
/* `folder`: config.json and safetensors files. GNV_NOT_FOUND: no such folder, or no config.json in it. GNV_MODEL names the
 * first tensor that is not what the config says. GNV_OUT_OF_MEMORY names the least budget that would do. */
GNV_API gnv_status gnv_model_open(gnv_engine_t * engine, const char * folder, const gnv_model_options * options,
                                  gnv_model_t ** out);
GNV_API void gnv_model_close(gnv_model_t * model);

typedef struct gnv_model_info {
    uint64_t struct_size;
    const char * description; /* one line for people; valid until the model is closed, like stop_ids */
    uint64_t hidden, vocabulary, layers;
    uint64_t experts, experts_per_token; /* 0 for dense models */
    uint64_t max_positions;              /* of the model */
    uint64_t capacity, positions;        /* of the caches: all positions, and those that hold the text so far */
    uint64_t quantized_modules;          /* Linears in NVFP4 */
    int32_t quantizes_inputs;            /* 1: W4A4 */
    int32_t weights_stay;                /* 1: in memory; 0: read for each call */
    /* generation_config.json, or the defaults of the Transformers library */
    int32_t samples; /* 0: the likeliest token */
    float temperature;
    int32_t top_k; /* 0: all */
    float top_p;
    const int32_t * stop_ids;
    uint64_t stop_count;
    float min_p, repetition_penalty;
    uint64_t draft_bytes; /* of memory for drafting; 0: the model was opened without */
} gnv_model_info;
GNV_API gnv_status gnv_model_get_info(gnv_model_t * model, gnv_model_info * info);
/* Discards the text; the next call starts another. */
GNV_API gnv_status gnv_model_reset(gnv_model_t * model);

/* ---- Pictures -------------------------------------------------------------------------------------------------------- */
/* An image or a video as the vision tower of the model in a folder takes it; GNV_UNSUPPORTED: it has none. In a text it stands
 * at placeholders, one for each of its tokens. Lists of pictures are in the order of the text. */
typedef struct gnv_picture_t gnv_picture_t;
typedef struct gnv_picture_info {
    uint64_t struct_size;
    int64_t grid[3];            /* groups of frames, rows and columns of patches */
    uint64_t tokens;            /* placeholders in a text */
    uint64_t patches, columns;  /* of pixel_values */
    const float * pixel_values; /* [patches, columns]; as long as the picture lives */
    int32_t is_video;
} gnv_picture_info;
GNV_API gnv_status gnv_picture_get_info(gnv_picture_t * picture, gnv_picture_info * info);

/* `path`: a PNG, JPEG or WebP file, or a folder of frames, `frame_rate` a second (0: 24). Or the bytes of such a file. */
GNV_API gnv_status gnv_picture_open(gnv_engine_t * engine, const char * model_folder, const char * path,
                                    double frame_rate, gnv_picture_t ** out);
GNV_API gnv_status gnv_picture_decode(gnv_engine_t * engine, const char * model_folder, const void * bytes, size_t size,
                                      gnv_picture_t ** out);
/* Of `count` pixel values, as the model's processor orders them, and their grid. */
GNV_API gnv_status gnv_picture_create(gnv_engine_t * engine, const char * model_folder, const float * pixel_values,
                                      size_t count, const int64_t * grid, int32_t is_video, gnv_picture_t ** out);
GNV_API void gnv_picture_destroy(gnv_picture_t * picture);

/* A prompt for gnv_tokenizer_encode: each placeholder of `text`, one for each picture, becomes what the model's processor
 * writes for it. Without placeholders pictures come before the text. */
GNV_API gnv_status gnv_picture_text(gnv_tokenizer_t * tokenizer, const char * text, size_t size,
                                    const gnv_picture_t * const * pictures, size_t count, gnv_text_t ** out);
/* [3, count]: time, height and width of each of `ids`, with which the text goes on. */
GNV_API gnv_status gnv_model_picture_positions(gnv_model_t * model, const int32_t * ids, size_t count,
                                               const gnv_picture_t * const * pictures, size_t picture_count,
                                               int32_t * positions);

/* What a module gave: "layer.3.self_attn.q_norm", "layer.3" (the block's output), "embed", "norm", "logits", and, of pictures,
 * "block.3", "merger". Names are the reference's; "mlp.gate.1" and "mlp.gate.2" are the router's weights and choices. */
typedef struct gnv_activation {
    uint64_t struct_size;
    const char * name;
    const char * dtype; /* "F32" or "I32" */
    uint64_t dimensions;
    const int64_t * shape; /* C order; the first extent is a multiple of the positions */
    uint64_t bytes;
    const void * data;
} gnv_activation;

/* A result other than 0 stops the call with GNV_CANCELLED. Pointers in `activation` are valid until the callback returns. */
typedef int (*gnv_tap_callback)(void * user, const gnv_activation * activation);
GNV_API uint64_t gnv_model_tap_count(const gnv_model_t * model); /* activations that can be seen; 0 for NULL */
/* Name, dtype and shape of activation `tap`, in the order of the model, the vision tower's last, for a forward pass over 1 to
 * capacity `positions` (there: any number of patches) with the logits of all; data is NULL. Lives until the next call. */
GNV_API gnv_status gnv_model_tap_info(gnv_model_t * model, uint64_t tap, uint64_t positions, gnv_activation * info);
/* GNV_INVALID_ARGUMENT: no model has such an output; GNV_NOT_FOUND: this model has none. The message lists outputs. */
GNV_API gnv_status gnv_model_find_tap(gnv_model_t * model, const char * name, uint64_t * tap);

typedef struct gnv_forward_options {
    uint64_t struct_size;
    int32_t all_logits;             /* of every position; 0: of the last one */
    gnv_tap_callback tap;           /* receives activations as they are computed; may be NULL */
    void * user;                    /* for tap */
    const char * const * tap_names; /* the activations for tap */
    size_t tap_count;               /* 0: all */
    gnv_progress_callback progress; /* positions, counted as gnv_progress says */
    void * progress_user;
    const gnv_picture_t * const * pictures; /* whose placeholders are among the ids; NULL: none */
    size_t picture_count;
} gnv_forward_options;
static inline void gnv_forward_options_init(gnv_forward_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
}
/* Lets the text go on by `count` ids, at least one, in one pass: memory for activations grows with count, so give a long
 * text in several calls. `logits` receives F32 [count or 1, vocabulary], *written how many numbers (it may be NULL);
 * logits may be NULL with a capacity of 0. GNV_INVALID_ARGUMENT: an id outside the vocabulary, a text longer than the
 * caches, too small a capacity (in numbers), an unknown tap. GNV_BAD_VALUE: the model computes NaN or Inf. */
GNV_API gnv_status gnv_model_forward(gnv_model_t * model, const int32_t * ids, size_t count,
                                     const gnv_forward_options * options, float * logits, size_t capacity,
                                     size_t * written);

typedef struct gnv_token {
    uint64_t struct_size;
    int32_t id;
    int32_t stop; /* 1: a stop id, and the last token */
    const char *
        text; /* UTF-8 that this token completes, special tokens as written; "" inside a character. Text that may
                          begin a stop text waits for the next tokens; a stop text itself never comes */
    uint64_t text_size;
    uint64_t answer_size; /* of text, without a stop id's own text, which is at its end */
} gnv_token;

/* A result other than 0 ends the text. The pointers in `token` are valid until the callback returns. */
typedef int (*gnv_token_callback)(void * user, const gnv_token * token);

typedef struct gnv_logits {
    uint64_t struct_size;
    float * values; /* [vocabulary], by id; may be changed: -INFINITY keeps an id from being chosen */
    uint64_t vocabulary;
    const int32_t * ids; /* chosen by this call so far */
    uint64_t id_count;
} gnv_logits;

/* Called before each choice, before all other options of sampling. A result other than 0 ends the text. */
typedef int (*gnv_logits_callback)(void * user, const gnv_logits * logits);

typedef struct gnv_logit_bias {
    int32_t id;
    float bias; /* -100 to 100, added to the logit */
} gnv_logit_bias;

#define GNV_MOST_DRAFTS 15
#define GNV_DRAFT_AUTO  (-1)

typedef struct gnv_generate_options {
    uint64_t struct_size;
    uint64_t max_tokens;      /* 0: up to a stop id or the end of the caches */
    float temperature;        /* 0: the likeliest token; below 0: the model's own, see gnv_model_info */
    int32_t top_k;            /* 0: all; below 0: the model's own */
    float top_p;              /* above 0 to 1; below 0: the model's own */
    uint64_t seed;            /* 42 */
    const int32_t * stop_ids; /* NULL: the model's own; a pointer with a count of 0: none */
    size_t stop_count;
    const gnv_tokenizer_t * tokenizer; /* NULL: that of the model's folder, or GNV_NOT_FOUND */
    gnv_token_callback callback;       /* receives each token when it is chosen; may be NULL */
    void * user;
    gnv_progress_callback progress; /* positions of the prompt; also called, complete, while tokens are chosen */
    void * progress_user;
    const gnv_picture_t * const * pictures; /* whose placeholders are among the ids; NULL: none */
    size_t picture_count;
    float min_p;                               /* 0 to 1; 0: all; below 0: the model's own */
    float repetition_penalty;                  /* above 0; 1: none; below 0: the model's own */
    float presence_penalty, frequency_penalty; /* -2 to 2; 0: none */
    const gnv_logit_bias * logit_bias;         /* an id once; NULL: none */
    size_t logit_bias_count;
    const char * const * stop_texts; /* 64 at most, of 1 to 4096 bytes; each ends the text before it */
    size_t stop_text_count;
    gnv_logits_callback on_logits; /* may be NULL */
    void * logits_user;
    /* Tokens that the draft head guesses at a time, up to GNV_MOST_DRAFTS, which one pass checks; 0: none; GNV_DRAFT_AUTO: two,
     * until tokens without are found to be faster. The text is the same. Needs gnv_model_options.drafts. */
    int32_t draft;
} gnv_generate_options;
static inline void gnv_generate_options_init(gnv_generate_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
    options->temperature = -1;
    options->top_k = -1;
    options->top_p = -1;
    options->seed = 42;
    options->min_p = -1;
    options->repetition_penalty = -1;
}

typedef enum gnv_stop GNV_INT {
    GNV_STOP_ID = 0,       /* a stop id was chosen */
    GNV_STOP_LENGTH = 1,   /* max_tokens */
    GNV_STOP_CAPACITY = 2, /* the caches are full */
    GNV_STOP_CALLBACK = 3, /* a callback asked to stop: not a failure */
    GNV_STOP_TEXT = 4      /* a stop text was written */
} gnv_stop;

typedef struct gnv_generate_result {
    uint64_t struct_size;
    uint64_t prompt_tokens;
    uint64_t tokens; /* chosen ones, a stop id included */
    gnv_stop stop;
    double prompt_seconds; /* until the first token was chosen */
    double token_seconds;  /* for the others */
    uint64_t stop_text;    /* GNV_STOP_TEXT: which of stop_texts, from 0 */
    uint64_t drafted, accepted,
        draft_passes;   /* tokens that were guessed, and those of them that came; passes that checked */
    double draft_gain;  /* time of a token without drafting (the first few are) over that of one with; 0: not known */
    uint64_t draft_end; /* GNV_DRAFT_AUTO: tokens after which drafting stopped; 0: it did not */
} gnv_generate_result;

/* Continues the text with the `count` ids of a prompt, at least one, and then with chosen tokens, one after another. Each
 * choice, in this order: on_logits; logit_bias; repetition_penalty (of ids in the text so far: logit / penalty where it is
 * positive, else logit * penalty); frequency_penalty, times how often this call chose the id, and presence_penalty, once if
 * it did, are subtracted; temperature; min_p (ids with at least min_p times the largest probability); the top_k largest; the
 * fewest of those whose probabilities reach top_p; a draw. Equal logits: the lower id first. The same seed gives the same
 * tokens (docs/sampling.md). Rows of the embedding that are no tokens are never chosen. The last token is not in the caches
 * yet: give it first to continue. `result` may be NULL. Fails like gnv_model_forward; GNV_BAD_VALUE also if on_logits leaves a
 * NaN, or no id. */
GNV_API gnv_status gnv_model_generate(gnv_model_t * model, const int32_t * ids, size_t count,
                                      const gnv_generate_options * options, gnv_generate_result * result);

/* ---- Hub --------------------------------------------------------------------------------------------------------------- */
/* Repositories of the Hugging Face hub, over HTTPS. The cache is that of huggingface_hub; both may use it at once. The
 * library reads no environment: programs pass HF_TOKEN, HF_ENDPOINT and the like. GNV_UNSUPPORTED: a build without libcurl. */
typedef struct gnv_hub_options {
    uint64_t struct_size;
    const char * endpoint;          /* NULL: "https://huggingface.co" */
    const char * token;             /* NULL or "": none. Goes to the endpoint's host alone, and into no message */
    const char * cache;             /* the folder that holds models--ORG--NAME */
    const char * ca_file;           /* certificates to trust, PEM; NULL: the system's */
    const char * proxy;             /* as in HTTPS_PROXY; NULL: none */
    const char * no_proxy;          /* as in NO_PROXY */
    int32_t offline;                /* use the cache alone */
    int32_t list_only;              /* log what would be downloaded, and give "" */
    int32_t connections;            /* files at a time, up to 64; 0: 8 */
    uint32_t first_wait_ms;         /* before the second try, doubled from try to try; 0: 500 */
    gnv_progress_callback progress; /* bytes of files; `tensors` are files. May be NULL */
    void * user;
} gnv_hub_options;
static inline void gnv_hub_options_init(gnv_hub_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
}
/* The folder of a model, "ORG/NAME" or "ORG/NAME@REVISION": the complete one in the cache, else downloaded. Only what a run
 * needs is downloaded: safetensors, configs, tokenizer, card. Stopped or failed downloads go on where they ended. Every file
 * has the size and the hash that the hub lists. */
GNV_API gnv_status gnv_hub_fetch_model(gnv_engine_t * engine, const char * name, const gnv_hub_options * options,
                                       gnv_text_t ** folder);

/* A folder with the data files of a data set, "ORG/NAME[@REVISION][:CONFIG[:SPLIT]]", for gnv_dataset_options.sources. They are
 * chosen by the configurations in its README.md, else by names of folders and files; the log says which. Without SPLIT it is
 * "train". */
GNV_API gnv_status gnv_hub_fetch_dataset(gnv_engine_t * engine, const char * name, const gnv_hub_options * options,
                                         gnv_text_t ** folder);

typedef struct gnv_hub_upload_options {
    uint64_t struct_size;
    const char * message; /* of the commit; NULL: "Upload with ggml-nvfp4" */
    int32_t create;       /* make the repository if the hub lacks it */
    int32_t is_private;   /* with `create` */
} gnv_hub_upload_options;
static inline void gnv_hub_upload_options_init(gnv_hub_upload_options * options) {
    memset(options, 0, sizeof *options);
    options->struct_size = sizeof *options;
}
/* Sends a complete folder to the branch main of the model repository "ORG/NAME": large files first, then one commit with
 * everything; *url is its page. Files that the hub has already are not sent again, so a stopped upload goes on where it ended.
 * Hidden files stay behind, except .gitattributes. `options` needs a token that may write. */
GNV_API gnv_status gnv_hub_upload(gnv_engine_t * engine, const char * folder, const char * name,
                                  const gnv_hub_options * options, const gnv_hub_upload_options * upload,
                                  gnv_text_t ** url);

/* ---- Model card ------------------------------------------------------------------------------------------------------------ */
/* Writes README.md of a finished checkpoint, in place of one that is there, as gnv_quantize_options.card does. */
GNV_API gnv_status gnv_card_write(gnv_engine_t * engine, const char * folder, const gnv_card_options * options);
/* Puts the figures of a JSON document of gnv_report_text, with predictions, into such a README.md. */
GNV_API gnv_status gnv_card_measure(gnv_engine_t * engine, const char * folder, const char * verify_report);

/* ---- Tensor files ---------------------------------------------------------------------------------------------------- */
/* A new safetensors file of tensors that are made piece by piece, such as logits and activations: the shapes come
 * first, then the data, which are not held in memory. It is called PATH.partial until it is complete and on disk. */
typedef struct gnv_dump_t gnv_dump_t;

typedef struct gnv_dump_tensor {
    const char * name;
    const char * dtype;    /* as safetensors spells it: "F32", "I32" */
    uint64_t dimensions;   /* 64 at most */
    const int64_t * shape; /* C order */
} gnv_dump_tensor;

/* GNV_ALREADY_EXISTS: `path` exists and is not replaced. GNV_NO_SPACE: the disk cannot hold the file. */
GNV_API gnv_status gnv_dump_create(gnv_engine_t * engine, const char * path, const gnv_dump_tensor * tensors,
                                   size_t count, gnv_dump_t ** out);
/* The next bytes of tensor `tensor` (counted from 0), in C order; the tensors may take turns. */
GNV_API gnv_status gnv_dump_append(gnv_dump_t * dump, uint64_t tensor, const void * data, uint64_t bytes);
/* Gives the file its name. GNV_INVALID_ARGUMENT names the first tensor that lacks bytes. */
GNV_API gnv_status gnv_dump_finish(gnv_dump_t * dump);
/* Removes an unfinished file. */
GNV_API void gnv_dump_destroy(gnv_dump_t * dump);

#ifdef __cplusplus
}
#endif

#include "ggml-nvfp4-session.h" /* many texts with one set of weights */

#endif
