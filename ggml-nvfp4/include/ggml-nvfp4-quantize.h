/* ggml-nvfp4: plan, calibrate and quantize. Part of ggml-nvfp4.h, which states the rules of all functions. */
#ifndef GGML_NVFP4_QUANTIZE_H
#define GGML_NVFP4_QUANTIZE_H

#include "ggml-nvfp4-data.h"
#include "ggml-nvfp4-hub.h"

#ifdef __cplusplus
extern "C" {
#endif

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

/* The draft head (MTP). Whatever the scheme, its attention and experts can be W4A16: no pass measures its inputs, and it computes
 * few rows, so that reading weights is what it costs. The other tensors of the head are kept, as engines want it
 * (docs/engines.md). A method that needs statistics becomes GNV_METHOD_MSE there. */
typedef enum gnv_draft_head GNV_INT {
    GNV_DRAFT_HEAD_KEEP = 0,    /* the source's bytes */
    GNV_DRAFT_HEAD_NVFP4A16 = 1 /* W4A16; GNV_INVALID_ARGUMENT if there is none, or the rules keep all of it */
} gnv_draft_head;

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
    /* A recipe of llm-compressor (recipe.yaml), which decides scheme, preset, method, headroom, patterns and draft_head: those
     * are left as gnv_plan_options_init has them. NULL: none. docs/recipe.md lists what it may say; every line that cannot be
     * met goes to the log as "FILE:LINE: key: ...", and the call fails with GNV_UNSUPPORTED. */
    const char * recipe_file;
    const gnv_hub_stream_t *
        stream; /* read the source from there: `source` is its folder. NULL: all files are in `source` */

    /* Patterns hold for its modules, too. With recipe_file the file decides. */
    gnv_draft_head draft_head;
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

/* The tokens for the inputs of experts' down projections. */
typedef enum gnv_expert_tokens GNV_INT {
    GNV_EXPERTS_ALL = 0,   /* every expert sees every token, as in the reference recipe */
    GNV_EXPERTS_ROUTED = 1 /* an expert sees the tokens that the router sends it */
} gnv_expert_tokens;

/* With GNV_EXPERTS_ALL on CUDA devices of compute capability 9.0: whether products in 8 bits first sort out the pairs of a token
 * and an expert that cannot change a statistic. The result has the same bytes in every case. */
typedef enum gnv_screening GNV_INT {
    GNV_SCREENING_ON = 0,
    GNV_SCREENING_OFF = 1,  /* compute every pair in full */
    GNV_SCREENING_CHECK = 2 /* both, and fail with GNV_INTERNAL where they differ */
} gnv_screening;

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
    const char * scratch_folder;  /* for hidden states that do not fit; NULL: they must fit */
    const char * save_statistics; /* a new file; NULL: none. Without a destination nothing else is made */
    int32_t device;               /* of the forward pass */
    uint64_t device_bytes;        /* budget of that device's memory; 0: most of the free memory. The CPU ignores it */
    const char * trace_file;      /* a new file for the timeline of the run (Chrome's trace format); NULL: none */
    int32_t measure_limits; /* 1: first time disks for two seconds, on CUDA the experts' products for 10, to compare */
    gnv_text_t ** phases;   /* receives a table of what took how long, which the caller destroys; NULL: none */
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
    /* With `dataset` or `calibration`: the router must send every expert so many tokens of the data, or the run fails with
     * GNV_BAD_VALUE, which counts the others by layer, before the result gets its name; with `calibration` before anything
     * is written. 0: any. From 1 % of experts without a token on, the log has a warning in any case. */
    uint64_t min_expert_tokens;
    gnv_text_t ** summary; /* receives a few lines for people: what was made of what, experts, time; NULL: none */
    gnv_screening screening;
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

/* Writes DESTINATION.partial (destination NULL: only save_statistics) and renames it when everything is on disk. After a
 * failure or a stop no new destination exists; the partial folder stays, with a journal, and the next call goes on with it
 * (gnv_resume) to the same bytes; if it cannot, GNV_ALREADY_EXISTS names what differs, and GNV_RESUME_OFF with `overwrite`
 * starts anew. The same source, plan and data give the same bytes for any threads, memory and host; inputs measured on CPU
 * and CUDA differ by the rounding of BF16. Budget and data are checked before the first write. A run replaces only files of
 * a checkpoint, and none that it reads. A second run to the same destination fails with GNV_ALREADY_EXISTS. Notes and
 * warnings of the plan go to the log. GNV_BAD_VALUE names layer, sample and position of a NaN or Inf. `report` (may be NULL)
 * receives times and memory (schema ggml-nvfp4.quantize.1). */
GNV_API gnv_status gnv_quantize(const gnv_plan_t * plan, const char * destination, const gnv_quantize_options * options,
                                gnv_text_t ** report);

#ifdef __cplusplus
}
#endif

#endif
